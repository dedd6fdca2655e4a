"""The import direction, the purity of what decides, and the size and names of files: kept by reading the source."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "recovery": ROOT / "recovery",
    "resumable": ROOT / "resumable",
    "resumable_ui": ROOT / "ui" / "resumable_ui",
}

MAY_IMPORT = {
    "recovery": {"recovery"},
    "resumable": {"resumable", "recovery"},
    "resumable_ui": {"resumable_ui", "resumable", "recovery"},
}
OURS = {"recovery", "resumable", "resumable_ui", "tests", "benchmarks", "examples", "scripts", "ui"}

# The one exception: `python -m resumable` is the command line.
EXCEPTIONS = {("resumable.__main__", "resumable_ui.cli")}

PURE = {
    "recovery": {
        "classify",
        "events",
        "gate",
        "history",
        "lifecycle",
        "policy",
        "records",
        "redaction",
        "rowcrc",
        "states",
        "verdict",
    },
    "resumable": {
        "digests",
        "errors",
        "events",
        "filename",
        "identity",
        "ledger",
        "mediatype",
        "model",
        "plan",
        "ports",
        "ranges",
        "redact",
        "response",
        "validators",
        "verdicts",
        "views",
    },
    "resumable_ui": {
        "access",
        "api",
        "arguments",
        "board",
        "clients",
        "exitcodes",
        "feed",
        "grammar",
        "helptext",
        "httpmessage",
        "inputs",
        "jsonlines",
        "listfile",
        "loglines",
        "openapi",
        "orderform",
        "orders",
        "outcome",
        "projection",
        "quantities",
        "refusals",
        "totals",
        "wire",
    },
}
IMPURE = {
    "aiofiles",
    "aiohttp",
    "aiosqlite",
    "anyio",
    "asyncio",
    "celery",
    "os",
    "random",
    "requests",
    "rich",
    "socket",
    "socketio",
    "sqlite3",
    "subprocess",
    "threading",
    "time",
}
NOT_IN_RECOVERY = {"aiofiles", "aiohttp", "celery", "requests", "rich", "socketio"}
# An adapter for people who have Celery, like one for a metrics library: nothing else in the package imports it
# (docs/decisions, "recovery.celery").
ADAPTER, ITS_LIBRARY = "recovery.celery", {"celery"}
VAGUE = {"base", "common", "core", "helper", "helpers", "misc", "tools", "util", "utils"}
MOST_LINES = 400


def modules(package: str) -> Iterator[tuple[str, Path]]:
    """Yield the dotted name and the file of every module of a package."""
    folder = PACKAGES[package]
    for path in sorted(folder.rglob("*.py")):
        parts = [package, *path.relative_to(folder).with_suffix("").parts]
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path) -> set[str]:
    """Return the dotted names a file imports anywhere; those for type checkers alone are nothing at run time."""
    found: set[str] = set()
    for node in walk_run_time(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def walk_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, leaving out the bodies of ``if TYPE_CHECKING``."""
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            todo += node.orelse
        else:
            todo += ast.iter_child_nodes(node)


def tops(names: set[str]) -> set[str]:
    """Return the first words of dotted names."""
    return {name.partition(".")[0] for name in names}


EVERY = [pytest.param(package, name, path, id=name) for package in PACKAGES for name, path in modules(package)]


@pytest.mark.parametrize(("package", "name", "path"), EVERY)
def test_imports_point_one_way(package: str, name: str, path: Path) -> None:
    """Ui imports resumable imports recovery, and nothing shipped imports tests or benchmarks."""
    wrong = {
        imported
        for imported in imports(path)
        if imported.partition(".")[0] in OURS - MAY_IMPORT[package]
        and not any(name == here and imported.startswith(there) for here, there in EXCEPTIONS)
    }
    assert set() == wrong


PURE_FILES = [
    pytest.param(name, path, id=name)
    for package, stems in PURE.items()
    for name, path in modules(package)
    if name.split(".")[1:2] and name.split(".")[1] in stems
]


@pytest.mark.parametrize(("name", "path"), PURE_FILES)
def test_what_decides_does_nothing(name: str, path: Path) -> None:
    """A pure module imports no clock, no randomness, no file, no socket, no event loop."""
    assert set() == tops(imports(path)) & IMPURE, name


@pytest.mark.parametrize("package", PURE)
def test_the_list_of_pure_modules_is_of_this_tree(package: str) -> None:
    """A module that was renamed must not slip out of the list."""
    present = {name.split(".")[1] for name, _ in modules(package) if "." in name}
    assert set() == PURE[package] - present


def test_the_engine_sees_only_ports() -> None:
    """It imports nothing that touches a socket, a file or a database, neither directly nor through what it imports."""
    reached: set[str] = set()
    todo = ["resumable.engine"]
    files = {name: path for package in ("recovery", "resumable") for name, path in modules(package)}
    while todo:
        name = todo.pop()
        if name in reached or name not in files or name in {"recovery", "resumable"}:
            continue
        reached.add(name)
        todo += imports(files[name])
    ours = {name for name in reached if name.startswith("resumable.")}
    foreign = set().union(*(tops(imports(files[name])) for name in ours)) - {"recovery", "resumable"}
    assert {"msgspec"} == foreign - set(sys.stdlib_module_names)  # the shape of records, nothing else
    assert set() == foreign & {"os", "sqlite3", "socket", "random", "subprocess", "threading"}
    assert not {name for name in reached if name.rpartition(".")[2] in {"database", "journal", "supervisor"}}


@pytest.mark.parametrize(("name", "path"), [pytest.param(name, path, id=name) for name, path in modules("recovery")])
def test_recovery_knows_no_transport(name: str, path: Path) -> None:
    """Somebody without HTTP, files or Celery can use it."""
    adapter = name == ADAPTER or name.startswith(f"{ADAPTER}.")
    assert set() == tops(imports(path)) & (NOT_IN_RECOVERY - ITS_LIBRARY if adapter else NOT_IN_RECOVERY), name
    assert adapter or not [imported for imported in imports(path) if imported.startswith(ADAPTER)], name


@pytest.mark.parametrize(("package", "name", "path"), EVERY)
def test_files_are_named_for_one_noun_and_short(package: str, name: str, path: Path) -> None:
    """A file called utils is a file nobody finds anything in; one of a thousand lines is several."""
    assert path.stem not in VAGUE
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= MOST_LINES, f"{name} has {lines} lines"


@pytest.mark.parametrize(("package", "name", "path"), EVERY)
def test_every_module_says_what_it_is(package: str, name: str, path: Path) -> None:
    """And postpones its annotations, like all others, where it has more than that to say."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), name
    assert len(tree.body) == 1 or "__future__" in tops(imports(path)), name


@pytest.mark.parametrize(("package", "name", "path"), EVERY)
def test_frozen_records_are_structs(package: str, name: str, path: Path) -> None:
    """But for those that keep a field out of what is shown or compared (docs/decisions, "frozen records")."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and any("frozen=True" in ast.unparse(one) for one in node.decorator_list):
            body = ast.unparse(node)
            assert any(word in body for word in ("repr=False", "compare=False", "def __repr__")), f"{name}.{node.name}"


def loaded_by(*words: str) -> set[str]:
    """Return the modules that are loaded after running a command line in a fresh interpreter."""
    code = (
        "import sys; sys.argv[:] = ['resumable', *sys.argv[1:]]\n"
        "from resumable.__main__ import main\n"
        "main()\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)\n"
    )
    paths = f"{ROOT}:{ROOT / 'ui'}"
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PYTHONPATH": paths, "PATH": "/usr/bin:/bin"},
    )
    assert "resumable" in done.stdout
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["get", "--help"]], ids=" ".join)
def test_help_is_there_at_once(words: list[str]) -> None:
    """Nothing heavy is imported for it: each of these modules alone costs more than the rest together."""
    heavy = {"aiofiles", "aiohttp", "aiosqlite", "anyio", "asyncio", "rich", "socketio", "sqlite3", "uvloop"}
    assert set() == loaded_by(*words) & (heavy | {"resumable.manager", "resumable.events", "recovery"})


def test_importing_the_library_is_cheap() -> None:
    """`import resumable` and `import recovery` load no HTTP stack and no database."""
    code = "import resumable, recovery, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    assert set() == set(done.stdout.split()) & {"aiofiles", "aiohttp", "aiosqlite", "sqlite3", "socketio", "rich"}


def broad_handlers(tree: ast.AST) -> list[ast.ExceptHandler]:
    """Return the handlers that catch everything and do not pass it on as it is."""
    handlers = [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    broad = [one for one in handlers if one.type is None or ast.unparse(one.type) in {"Exception", "BaseException"}]
    return [one for one in broad if not (isinstance(one.body[-1], ast.Raise) and one.body[-1].exc is None)]


@pytest.mark.parametrize("package", PACKAGES)
def test_who_catches_everything_says_why(package: str) -> None:
    """Only at an edge, with its reason beside it; cleaning up and passing on needs none."""
    silent = []
    for path in sorted(PACKAGES[package].rglob("*.py")):
        lines = path.read_text("utf-8").splitlines()
        for handler in broad_handlers(ast.parse("\n".join(lines))):
            beside = "\n".join(lines[handler.lineno - 1 : handler.body[0].lineno])
            if not re.search(r"# (?!noqa)\w|# noqa: \w+ - \w", beside):
                silent.append(f"{path.relative_to(ROOT)}:{handler.lineno}")
    assert silent == []


LISTED = ["recovery", "resumable", "ui/resumable_ui", "benchmarks"]


def test_architecture_names_every_module_and_no_other() -> None:
    """Each once, under its package."""
    section = (ROOT / "ARCHITECTURE.md").read_text("utf-8").partition("\n## Every module\n")[2]
    parts = dict(part.split("\n", 1) for part in section.split("\n### ")[1:])
    named = {package: sorted(re.findall(r"`([a-z_0-9/]+)`", text)) for package, text in parts.items()}
    assert named == {package: modules_of(ROOT / package) for package in LISTED}


def modules_of(package: Path) -> list[str]:
    """Return the modules of a package as paths from it, without those that are the package itself."""
    paths = [path.relative_to(package).with_suffix("").as_posix() for path in package.rglob("*.py")]
    return sorted(path for path in paths if not path.endswith("__"))
