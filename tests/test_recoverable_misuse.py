"""``@recoverable`` given what it does not expect: wrong options, functions without a name, exceptions that let nothing
be noted, attempts that lose their cancellation, programs that go on after their supervisor was closed.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from recovery import (
    AttemptTimedOut,
    OperationPaused,
    RetryPolicy,
    Supervisor,
    attempt_task,
    close_state_files,
    current_sync_operation,
    recoverable,
)
from tests.supervising import eventually

AT_ONCE = RetryPolicy(base=0.0)
ONCE = RetryPolicy(max_no_progress=0)
SECRET = "hf_3b1c9f"


async def _async_function() -> str:
    return "async"


class _AsyncCallable:
    async def __call__(self) -> str:
        return "called"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"retries": 5}, "takes no 'retries'; what it takes is fallbacks, policy, on,"),
        ({"polcy": ONCE}, "takes no 'polcy'"),
        ({"policy": 3}, "policy= takes a RetryPolicy, not 3"),
        ({"fallbacks": len}, "fallbacks= takes a list of functions"),
        ({"fallbacks": ["mirror"]}, "fallbacks= takes a list of functions"),
        ({"fallbacks": [_async_function]}, "cannot fall back on one that is"),
        ({"fallbacks": [_AsyncCallable()]}, "cannot fall back on one that is"),
    ],
)
def test_a_wrong_option_is_said_when_the_function_is_decorated(options: dict[str, Any], words: str) -> None:
    """Not at the first call, not when the first way has failed, and never passed over in silence."""
    decorate: Callable[..., Any] = recoverable(**options)
    with pytest.raises(TypeError, match=words):
        decorate(lambda: None)


@pytest.mark.parametrize("function", [lambda: None, partial(print, "a"), partial(_async_function)])
def test_a_journal_wants_a_kind_for_what_has_no_name_of_its_own(function: Any, tmp_path: Path) -> None:
    """All partials are ``functools.partial``: two of them with one key would have been one operation."""
    decorate: Any = partial(recoverable, journal=tmp_path / "state.db", key="k")
    with pytest.raises(ValueError, match="journal= needs kind= here"):
        decorate()(function)
    assert callable(decorate(kind="import")(function))


async def test_an_object_with_an_async_call_is_an_async_function() -> None:
    """It is awaited, not refused at its first call."""
    called: Callable[..., Any] = recoverable(_AsyncCallable())
    assert await called() == "called"


@dataclass(frozen=True)
class FrozenError(Exception):
    """Lets nothing be set on it, a note neither."""

    code: int


def test_an_exception_that_takes_no_note_hinders_nothing() -> None:
    """The other way is tried, and what is raised in the end is the exception itself."""

    @recoverable(policy=ONCE, on=FrozenError, fallbacks=[lambda: "mirror"])
    def with_another_way() -> str:
        raise FrozenError(3)

    assert with_another_way() == "mirror"

    @recoverable(policy=ONCE, on=FrozenError)
    def with_an_undo_that_fails() -> None:
        current_sync_operation().step("a", lambda: 1, undo=lambda _: 1 / 0)
        raise FrozenError(4)

    with pytest.raises(FrozenError) as caught:
        with_an_undo_that_fails()
    assert caught.value.code == 4


def test_what_an_undo_raises_is_logged_without_its_secrets(caplog: pytest.LogCaptureFixture) -> None:
    """A traceback would end in the text of the exception, as it is."""

    def undo(_: object) -> None:
        msg = f"DELETE https://me:{SECRET}@host/x?sig={SECRET} failed, token={SECRET}"
        raise RuntimeError(msg)

    @recoverable(policy=ONCE)
    def work() -> None:
        current_sync_operation().step("a", lambda: 1, undo=undo)
        raise ConnectionResetError

    with caplog.at_level(logging.DEBUG), pytest.raises(ConnectionResetError) as caught:
        work()
    (record,) = [each for each in caplog.records if each.message == "undo-failed"]
    assert vars(record)["error"].startswith("RuntimeError: DELETE https://host/x?sig=***")
    assert SECRET not in caplog.text + str(vars(record)) + str(caught.value.__notes__)


@pytest.mark.parametrize("durable", [False, True])
async def test_an_attempt_that_loses_its_cancellation_is_cancelled_again(
    durable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``asyncio.wait_for`` of Python 3.11 loses it; without, a limited attempt would have run for ever."""
    monkeypatch.setattr(attempt_task, "_AGAIN_S", 0.05)
    lost = 0

    async def body() -> None:
        nonlocal lost
        for _ in range(3):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
        await asyncio.Event().wait()

    options: dict[str, Any] = {"journal": tmp_path / "state.db", "key": "k", "kind": "body"} if durable else {}
    decorate: Any = recoverable
    work = decorate(policy=RetryPolicy(max_no_progress=0, attempt_timeout_s=0.05), **options)(body)
    async with asyncio.timeout(10):
        with pytest.raises(AttemptTimedOut):
            await work()
    assert lost == 3
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await close_state_files()


async def test_closing_a_supervisor_waits_for_its_runs_and_not_for_who_called_them() -> None:
    """A worker that goes on serving after its operation was paused did not let ``close`` return, ever."""
    supervisor = Supervisor()
    heard: list[str] = []

    @recoverable(journal=supervisor, key="k")
    async def work() -> None:
        await asyncio.Event().wait()

    async def worker() -> None:
        try:
            await work()
        except OperationPaused:
            heard.append("paused")
        await asyncio.Event().wait()

    serving = asyncio.create_task(worker())
    await eventually(lambda: supervisor.statistics() == {"running": 1})
    async with asyncio.timeout(5):
        await supervisor.close()
    assert supervisor.statistics() == {}
    await eventually(lambda: heard == ["paused"])
    assert not serving.done()
    serving.cancel()


_AFTER_MAIN = """
import sys, threading
from recovery import current_sync_operation, recoverable

@recoverable(journal=sys.argv[1], key="k")
def work():
    return current_sync_operation().step("a", lambda: "done")

def later():
    threading.main_thread().join()
    print(work())

threading.Thread(target=later).start()
"""


@pytest.mark.skipif((3, 12) <= sys.version_info < (3, 12, 3), reason="this Python starts no thread after main's end")
def test_a_thread_that_outlives_the_main_one_opens_its_state_file(tmp_path: Path) -> None:
    """A script that starts a thread and falls off its end: Python starts no executor any more, and none is needed."""
    command = [sys.executable, "-W", "error", "-c", _AFTER_MAIN, str(tmp_path / "state.db")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.stderr) == ("done\n", "")


def test_a_path_that_a_function_returns_is_settled_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``~`` is the home directory, not a directory of that name."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    @recoverable(journal=lambda: "~/state.db", key="k")
    def work() -> int:
        return 1

    assert work() == 1
    assert (tmp_path / "home" / "state.db").exists()
    assert not (tmp_path / "~").exists()
