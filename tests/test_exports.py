"""The public surface: what ``__all__`` says is what there is, in order."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from types import FunctionType

import pytest

import recovery
import resumable

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"recovery": ROOT / "recovery", "resumable": ROOT / "resumable", "resumable_ui": ROOT / "ui" / "resumable_ui"}


def stated(path: Path) -> list[str] | None:
    """Return a file's ``__all__``, None where it has none."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            assert isinstance(node, (ast.Assign, ast.AnnAssign))
            assert node.value is not None
            return list(ast.literal_eval(node.value))
    return None


def rank(name: str) -> tuple[int, str]:
    """Order as ruff does: constants, then classes, then the rest."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def defined(path: Path) -> set[str]:
    """Return the public classes and functions that a file defines."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name for node in body if isinstance(node, kinds) and not node.name.startswith("_")}


WITH_ALL = [
    pytest.param(package, path, id=f"{package}/{path.relative_to(folder)}")
    for package, folder in FOLDERS.items()
    for path in sorted(folder.rglob("*.py"))
    if stated(path) is not None
]


@pytest.mark.parametrize(("package", "path"), WITH_ALL)
def test_all_is_sorted_and_names_everything_public(package: str, path: Path) -> None:
    """Sorted, each name once, each one importable, and no public class or function left out."""
    names = stated(path)
    assert names is not None
    assert sorted(set(names), key=rank) == names
    relative = path.relative_to(FOLDERS[package]).with_suffix("")
    dotted = ".".join([package, *(part for part in relative.parts if part != "__init__")])
    module = importlib.import_module(dotted)
    assert [name for name in names if not hasattr(module, name)] == []
    assert set() == defined(path) - set(names)


@pytest.mark.parametrize("package", [resumable, recovery])
def test_dir_shows_the_public_surface(package: object) -> None:
    """Also for names that are loaded when they are first used."""
    assert set() == set(package.__all__) - set(dir(package))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(set(resumable.__all__) - {"__version__"}))
def test_each_public_name_is_the_thing_of_that_name(name: str) -> None:
    """A lazy table that points to the wrong module would hand out something else."""
    value = getattr(resumable, name)
    assert (name, True) == (value.__name__, value.__module__.partition(".")[0] in {"resumable", "recovery"})


@pytest.mark.parametrize("name", recovery.__all__)
def test_each_public_name_of_recovery_is_the_thing_of_that_name(name: str) -> None:
    """The same for the other lazy table; constants and aliases of types have no name of their own."""
    value = getattr(recovery, name)
    assert not isinstance(value, (type, FunctionType)) or name == value.__name__


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    """As for any module."""
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        resumable.nothing  # noqa: B018 - the access is the test
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        recovery.nothing  # noqa: B018
