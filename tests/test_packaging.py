"""What is in the wheel that people install, and what is not."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import resumable

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("resumable", "recovery", "ui", "pyproject.toml", "README.md", ".gitignore")
LEFTOVERS = ("resumable/big.bin.part", "recovery/state.db", "ui/resumable_ui/state.db-wal", "resumable/dist/x.py")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Return the wheel built from a copy of the tree in which somebody has worked."""
    tree = tmp_path_factory.mktemp("tree")
    for name in SHIPPED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tree / name)
    for name in LEFTOVERS:
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text("left over")
    shutil.copytree(ROOT / "tests", tree / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "benchmarks").mkdir()
    (tree / "benchmarks" / "speed.py").write_text("")
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(tree / "out"), str(tree)]
    subprocess.run(build, check=True, capture_output=True, timeout=100)
    (path,) = (tree / "out").glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_installs_exactly_three_packages(wheel: zipfile.ZipFile) -> None:
    """A package called tests or ui would collide with other people's."""
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    metadata = {f"resumable_downloads-{resumable.__version__}.dist-info"}
    assert {"resumable", "recovery", "resumable_ui"} | metadata == tops


def test_the_wheel_has_every_source_file_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Types, SQL and other data are in; what git ignores is not."""
    folders = {
        "resumable": ROOT / "resumable",
        "recovery": ROOT / "recovery",
        "resumable_ui": ROOT / "ui" / "resumable_ui",
    }
    expected = {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in folders.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert expected == packed
    assert {f"{package}/py.typed" for package in folders} <= packed
    assert any(name.endswith(".sql") for name in packed)


def test_the_command_is_installed(wheel: zipfile.ZipFile) -> None:
    """`resumable` on the path, and the version is said once."""
    (entry_points,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "resumable = resumable.__main__:command" in wheel.read(entry_points).decode()
    (metadata,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
    assert f"Version: {resumable.__version__}" in wheel.read(metadata).decode()


def test_prescribed_dependencies_are_few() -> None:
    """Whoever embeds this in a worker gets no terminal, web or message broker with it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {requirement.split(">")[0].split("=")[0] for requirement in project["dependencies"]}
    assert {"aiohttp", "aiofiles", "aiosqlite", "anyio", "msgspec"} == names
    assert resumable.__version__ == project["version"]
