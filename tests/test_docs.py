"""What the documentation shows is run, what it names exists, and the example plays its story."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recovery import close_state_files
from recovery.states import State
from tests.origin import Content, Origin

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def blocks(file: Path) -> list[str]:
    """Return the Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```$", file.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def run_block(source: str, name: str) -> dict[str, Any]:
    """Execute a block in a module of its own."""
    namespace: dict[str, Any] = {"__name__": "a_page"}
    exec(compile(source, name, "exec"), namespace)
    return namespace


def shown_tests() -> list[Any]:
    """Return every test function that docs/testing.md shows."""
    found = []
    for number, source in enumerate(blocks(DOCS / "testing.md"), 1):
        names = re.findall(r"^(?:async )?def (test_\w+)", source, flags=re.MULTILINE)
        assert names, f"block {number} shows no test"
        found += [pytest.param(source, name, id=name) for name in names]
    return found


@pytest.mark.parametrize(("source", "name"), shown_tests())
def test_the_tests_that_the_page_shows_pass(source: str, name: str, tmp_path: Path) -> None:
    """As they stand."""
    test: Callable[..., Any] = run_block(source, "docs/testing.md")[name]
    arguments = {"tmp_path": tmp_path} if "tmp_path" in inspect.signature(test).parameters else {}
    result = test(**arguments)
    if inspect.iscoroutine(result):
        asyncio.run(result)


@pytest.mark.parametrize("number", range(len(blocks(DOCS / "recovery.md"))))
def test_the_blocks_of_the_page_about_recovery_run(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Imports, options and calls are those of this version; what they define is called."""
    monkeypatch.chdir(tmp_path)
    shown = run_block(blocks(DOCS / "recovery.md")[number], "docs/recovery.md")

    async def use() -> None:
        if "validate" in shown:
            assert await shown["validate"]("x") == "x is valid"
        if "import_workflow" in shown:
            assert await shown["import_workflow"]("flux") == "flux"
            assert (tmp_path / "imports.db").exists()
            await close_state_files()
        if "main" in shown:
            await shown["main"]()
            assert "Copy of the orders" in capsys.readouterr().out
        if "change_both" in shown:
            files = [tmp_path / "config", tmp_path / "model"]
            for file in files:
                file.write_text("old")
            await shown["change_both"](*files)
            assert [file.read_text() for file in files] == ["new", "new"]

    asyncio.run(use())


def test_the_library_part_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As written, but for the digest that it leaves out; names it does not define are the reader's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESUMABLE_STATE", str(tmp_path / "state.db"))
    (tmp_path / "models").mkdir()
    source = Content(2 << 20, seed=5)
    (block,) = blocks(ROOT / "README.md")
    with Origin() as origin:
        for path in ("/a", "/b"):
            origin.put(path, source)
        reader: dict[str, Any] = {"url": origin.url("/a"), "other": origin.url("/b"), "token": "Bearer x"}
        code = compile(block.replace("…", source.sha256()), "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

        async def use() -> None:
            await eval(code, reader)

        asyncio.run(use())
    whole = source.read(0, source.size)
    assert whole == (tmp_path / "model.safetensors").read_bytes() == reader["result"].path.read_bytes()
    assert [view.state for view in reader["news"].changed] == [State.COMPLETE] * 2


@pytest.mark.parametrize("page", ["recovery.md", "testing.md"])
def test_links_between_pages_lead_somewhere(page: str) -> None:
    """A file that was renamed breaks them."""
    targets = re.findall(r"\]\(([^)#:]+)\)", (DOCS / page).read_text("utf-8"))
    assert targets
    assert [target for target in targets if not (DOCS / target).exists()] == []


def test_the_example_plays_its_story() -> None:
    """Flaky, killed, resumed, refused twice, given up and undone; and it says what to try."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "workflow_import.py")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, second, third, fourth, fifth = re.split(r"\n\d\. ", done.stdout)[1:]
    assert first.count("Next try in") == 2
    assert first.rstrip().endswith("(kill -9)")
    assert second.count(": done before") == 5
    assert second.rstrip().splitlines()[-1].startswith("  Imported into")
    assert "a node 'SuperUpscaleX' that no registry knows" in third
    assert "Not imported. What you can try: retry now, cancel." in third
    assert "no JSON. Export it again, then retry." in fourth
    assert [third.count("Next try"), fourth.count("Next try"), fifth.count("Next try")] == [0, 0, 4]
    assert "taking back: mural" in fifth
    assert "Projects there are now: portrait." in fifth


def test_what_the_readme_installs_runs_what_it_shows() -> None:
    """The page, the bars and the fast loop: each installation names the extras, and they are those of the package."""
    readme = (ROOT / "README.md").read_text("utf-8")
    script = (ROOT / "scripts" / "first_run.py").read_text("utf-8")
    named = {*re.findall(r"pip install '\.\[([a-z,]+)\]'", readme), *re.findall(r'extras="([a-z,]+)"', script)}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert named, "the README installs nothing"
    for each in named:
        assert {"cli", "web"} <= set(each.split(",")) <= extras.keys()
