"""What a former process left of a function's calls is found and called again, with the arguments it had."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from recovery import JOURNAL, Database, Journal, Operation, Supervisor, current_operation, recoverable
from recovery import resume_unfinished as resume
from recovery.testing import MemoryJournal
from recovery.unfinished import unfinished

ROOT = Path(__file__).resolve().parent.parent


async def leave(journal: Journal, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Begin a call under another owner, and let that owner die."""
    spec = function.__recovery__.spec(args, kwargs)  # type: ignore[attr-defined]
    row, generation = await journal.begin_and_claim(spec, owner="dead", ttl_s=0.0, now=1.0)
    assert generation == 1
    await journal.save_step(row.operation_id, generation, "a", {"data": "done before", "n": 1, "undo": False})


def keys(rows: list[Operation]) -> list[str]:
    """Return the keys of operations."""
    return [row.key for row in rows]


async def test_each_unfinished_call_is_made_again_with_its_arguments(state_path: Path) -> None:
    """Positions, names, defaults and extra names; one that fails touches no other; one that runs is left alone."""
    calls: list[tuple[Any, ...]] = []
    async with await Database.open(state_path, [JOURNAL]) as database:
        journal = Journal(database)

        @recoverable(journal=journal, key="{name}", kind="import")
        async def work(name: str, *tags: str, size: int = 7, **more: int) -> str:
            calls.append((name, tags, size, more))
            if name == "bad":
                raise ValueError(name)
            return await current_operation().step("a", lambda: "not done before")

        @recoverable(journal=journal, key="{name}", kind="other")
        async def other(name: str) -> None: ...

        await leave(journal, work, "flux", "a", "b", size=1)
        await leave(journal, work, "bad")
        await leave(journal, work, "sdxl", depth=3)
        await leave(journal, other, "x")
        spec = work.__recovery__.spec(("held",), {})  # type: ignore[attr-defined]
        await journal.begin_and_claim(spec, owner="alive", ttl_s=1e10, now=1.0)
        await work("finished")
        calls.clear()
        assert set(keys(await unfinished(work))) == {"flux", "bad", "sdxl"}
        outcomes = {each.operation.key: each for each in await resume(work)}
        assert sorted(calls) == [
            ("bad", (), 7, {}),
            ("flux", ("a", "b"), 1, {}),
            ("sdxl", (), 7, {"depth": 3}),
        ]
        assert (outcomes["flux"].value, outcomes["sdxl"].value) == ("done before", "done before")
        assert str(outcomes["bad"].error) == "bad"
        assert await unfinished(work) == []


async def test_what_was_not_stored_whole_is_handed_over(state_path: Path) -> None:
    """A secret, or an object: nobody can make that call again but who has it."""
    async with await Database.open(state_path, [JOURNAL]) as database:
        journal = Journal(database)
        calls: list[str] = []

        @recoverable(journal=journal, key="{name}")
        async def work(name: str, token: str = "") -> None:
            calls.append(name)

        await leave(journal, work, "flux", token="t0psecret")
        [left] = await resume(work)
        assert (left.called, left.operation.args["name"], left.error, calls) == (False, "flux", None, [])


async def test_paused_ones_only_when_asked_for(state_path: Path) -> None:
    """A person may have paused them."""
    async with await Database.open(state_path, [JOURNAL]) as database:
        supervisor = Supervisor(Journal(database))
        started = asyncio.Event()

        @recoverable(journal=supervisor, key="x")
        async def work() -> str:
            if not started.is_set():
                started.set()
                await asyncio.sleep(3_600)
            return "done"

        task = asyncio.create_task(work())
        await started.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert await resume(work) == []
        [one] = await resume(work, paused=True)
        assert one.value == "done"


async def test_bound_methods_and_blocking_functions(state_path: Path) -> None:
    """``self`` is the caller's to supply; threads for what blocks, so many at once."""

    opened: list[Journal] = []

    class Importer:
        def __init__(self) -> None:
            self.done: list[str] = []

        @recoverable(journal=lambda: opened[0], key="method:{name}")
        async def fetch(self, name: str) -> None:
            self.done.append(name)

    @recoverable(journal=state_path, key="blocking:{name}")
    def blocking(name: str) -> str:
        return name

    async with await Database.open(state_path, [JOURNAL]) as database:
        journal = Journal(database)
        opened.append(journal)
        importer = Importer()
        await leave(journal, importer.fetch, importer, "flux")
        await leave(journal, blocking, "sdxl")
        await resume(importer.fetch, at_once=1)
        assert importer.done == ["flux"]
        [one] = await resume(blocking)
        assert one.value == "sdxl"


@pytest.mark.parametrize("source", [None, MemoryJournal(), lambda: None], ids=["none", "memory", "callable"])
async def test_a_function_without_a_state_file_leaves_nothing(source: Any) -> None:
    """And a plain function is no operation."""
    options = {} if source is None else {"journal": source, "key": "x"}
    decorate: Any = recoverable(**options)

    async def work() -> None: ...

    with pytest.raises(TypeError, match="has no journal in a state file"):
        await unfinished(decorate(work))
    with pytest.raises(TypeError, match="not a recoverable function"):
        await unfinished(work)
    with pytest.raises(ValueError, match="at_once"):
        await resume(decorate(work), at_once=0)


def test_after_a_kill_the_next_start_finishes_the_work(tmp_path: Path) -> None:
    """A real process, a real SIGKILL: the second start knows what to do without being told."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import asyncio, os, signal, sys
            from recovery import current_operation, recoverable, resume_unfinished

            @recoverable(journal=sys.argv[1], key="{name}")
            async def work(name, *, times):
                op = current_operation()
                await op.step("a", lambda: None)
                if not op.restored:
                    os.kill(os.getpid(), signal.SIGKILL)
                return name * times

            async def main():
                print([each.value for each in await resume_unfinished(work)], flush=True)
                if len(sys.argv) > 2:
                    await work(sys.argv[2], times=2)

            asyncio.run(main())
            """
        ),
        encoding="utf-8",
    )

    def run(*words: str) -> tuple[int, str, str]:
        command = [sys.executable, str(program), str(tmp_path / "state.db"), *words]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ)
        return done.returncode, done.stdout, done.stderr

    assert run("ab") == (-signal.SIGKILL, "[]\n", "")
    assert run() == (0, "['abab']\n", "")
    assert run() == (0, "[]\n", "")
