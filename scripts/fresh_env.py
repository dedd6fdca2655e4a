"""Makes the virtual environment of the two README commands; Python >= 3.11 and its pip are enough."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def environment(*, extras: str, folder: Path = ROOT / ".venv") -> Path:
    """Return the Python of a virtual environment in which this clone is installed (editable) with ``extras``.

    It is made when it is missing, and brought up to date when ``pyproject.toml`` has changed since. Exits with one line
    when this Python is too old, or nothing can be installed.
    """
    if sys.version_info < (3, 11):  # noqa: UP036 - this runs before any installer has checked
        sys.exit(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]} ({sys.executable})")
    windows = os.name == "nt"
    python = folder / ("Scripts/python.exe" if windows else "bin/python")
    stamp = folder / ".installed"
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    have = stamp.read_text().splitlines() if stamp.exists() else []
    if f"{digest} {extras}" in have and python.exists():
        return python
    print(f"Installing into {folder} ...", file=sys.stderr, flush=True)
    if not python.exists():
        # Debian splits ensurepip off: a bare environment and the pip that is here do as well.
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    install = [*pip_for(python), "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*install, "--editable", f"{ROOT}[{extras}]"], check=False).returncode:
        sys.exit("pip could not install what is needed; its words are above")
    current = [line for line in have if line.startswith(digest)]
    stamp.write_text("\n".join([*current, f"{digest} {extras}", ""]))
    return python


def pip_for(python: Path) -> list[str]:
    """Return the command of a pip that installs into the environment of ``python``; exits with one line where there is
    none.
    """
    # This may be the Python of an activated environment that was made here, without pip: the one behind it has made it.
    for mine in dict.fromkeys((sys.executable, getattr(sys, "_base_executable", sys.executable))):
        if _runs(mine, "-c", "import pip"):
            return [mine, "-m", "pip", "--python", str(python)]
    if _runs(str(python), "-c", "import pip") or _runs(str(python), "-m", "ensurepip"):
        return [str(python), "-m", "pip"]
    hint = "install it (Debian, Ubuntu: apt install python3-pip) or run this with another Python"
    sys.exit(f"No pip is found for {sys.executable}: {hint}")


def _runs(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
