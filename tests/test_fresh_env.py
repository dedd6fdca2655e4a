"""What makes the environment of the README commands: it finds a pip for any Python, or says what is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"

pytestmark = pytest.mark.blocking


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Return the Python of an environment without pip, as ``fresh_env`` makes them."""
    folder = tmp_path / ".venv"
    venv.create(folder, symlinks=os.name == "posix")
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run(python: Path, code: str, *words: Path, shadow: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run code that may import ``fresh_env``; modules in ``shadow`` come before all others."""
    path = os.pathsep.join(str(folder) for folder in (shadow, SCRIPTS) if folder is not None)
    command = [str(python), "-c", code, *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_an_environment_without_pip_uses_another_ones(bare: Path) -> None:
    """A person has activated ``.venv``, and ``python3`` is the Python in it."""
    code = "import fresh_env, json, pathlib, sys; print(json.dumps(fresh_env.pip_for(pathlib.Path(sys.argv[1]))))"
    assert run(bare, "import pip").returncode == 1
    found = run(bare, code, bare)
    assert found.returncode == 0, found
    listed = subprocess.run(
        [*json.loads(found.stdout), "list"], capture_output=True, text=True, timeout=60, check=False
    )
    assert listed.returncode == 0, listed
    assert "pytest" not in listed.stdout  # it is that environment's list, and not this one's


def test_without_any_pip_it_says_so_in_a_line(bare: Path, tmp_path: Path) -> None:
    """And what to do about it; no traceback."""
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    for name in ("pip", "ensurepip"):
        (shadow / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name}')")
    code = "import fresh_env, pathlib, sys; fresh_env.environment(extras='cli', folder=pathlib.Path(sys.argv[1]))"
    ended = run(bare, code, bare.parent.parent, shadow=shadow)
    assert ended.returncode == 1
    first, last = ended.stderr.splitlines()
    assert first.startswith("Installing into")
    assert last.startswith("No pip is found")
    assert "python3-pip" in last


def test_a_pip_that_fails_is_no_traceback(bare: Path, tmp_path: Path) -> None:
    """Its own words are enough; nothing is called installed."""
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "pip.py").write_text("import sys\nif __name__ == '__main__': sys.exit('no network')")
    code = "import fresh_env, pathlib, sys; fresh_env.environment(extras='cli', folder=pathlib.Path(sys.argv[1]))"
    ended = run(bare, code, bare.parent.parent, shadow=shadow)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[1:] == ["no network", "pip could not install what is needed; its words are above"]
    assert not (bare.parent.parent / ".installed").exists()
    assert sys.prefix not in ended.stderr
