"""What a task has used up is counted over all its runs, and over nothing else; in this process, on a real journal."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from recovery.celery.decorator import body_of
from recovery.celery.endings import Ending, GiveWay, How, StopReason, TaskCall, TaskFailed
from recovery.celery.messages import MessageStore
from recovery.celery.runtime import JournalRuntime, messages_of
from recovery.celery.taskrun import TaskRun, current_run
from recovery.database import Database
from recovery.endings import CrashLooping
from recovery.journal import JOURNAL, Journal
from recovery.policy import RetryPolicy
from recovery.records import Operation
from recovery.rows import read_operation
from recovery.states import State
from recovery.transactions import put_changed
from recovery.verdict import Action, Category, Verdict

pytestmark = pytest.mark.blocking


class ThrottledError(Exception):
    """Declares that the server asked to wait, for no time at all."""

    recovery_hint = Verdict(
        category=Category.THROTTLED, action=Action.AFTER, code="throttled", message="m", retry_after_s=0.0
    )


class Runs:
    """Runs the messages of one task, one after the other."""

    def __init__(self, state: Path) -> None:
        """Open nothing yet."""
        self.state = state
        self._runtime = JournalRuntime(state, longest_wait_s=5.0, is_control=lambda _: False)

    def run(self, body: Callable[[TaskRun], Awaitable[Any]], **call: Any) -> Ending:
        """Run one message."""
        given = {"policy": RetryPolicy(max_attempts=3, base=0, cap=0), "message": {"task": "t"}, **call}
        return self._runtime.start(TaskRun(TaskCall(name="t", task_id="1", **given)), body).result()

    def row(self, **changes: Any) -> Operation:
        """Return the row of the task, after changing it."""

        async def main() -> Operation:
            database = await Database.open(self.state, (JOURNAL,))
            try:
                [row] = await Journal(database).list()
                if changes:
                    await database.write(lambda conn: put_changed(conn, replace(row, **changes)))
                found = await database.read(lambda conn: read_operation(conn, row.operation_id))
                assert found is not None
                return found
            finally:
                await database.close()

        return asyncio.run(main())

    def close(self) -> None:
        """Close the journal."""
        self._runtime.close()


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    """Open a journal for one task."""
    made = Runs(tmp_path / "state.db")
    yield made
    made.close()


def test_the_total_of_attempts_is_kept(runs: Runs) -> None:
    """A policy of three attempts makes three, also where the server asks to come again each time."""
    calls = []

    async def body(run: TaskRun) -> None:
        calls.append(run)
        raise ThrottledError

    ending = runs.run(body)
    assert (ending.how, type(ending.error), len(calls)) == (How.FAILED, ThrottledError, 3)


def test_giving_way_is_no_attempt(runs: Runs) -> None:
    """A body that has nothing to do before a certain time may say so as often as it is true."""
    calls = []

    async def body(run: TaskRun) -> str:
        calls.append(run)
        if len(calls) <= 6:
            raise GiveWay(time.time(), 0.0)
        return "done"

    ending = runs.run(body)
    assert (ending.how, ending.value, len(calls)) == (How.DONE, "done", 7)


def test_a_shutdown_refills_nothing(runs: Runs) -> None:
    """Handed back to the queue: failures and deaths so far still count in the next worker."""
    calls = []

    async def body(run: TaskRun) -> None:
        calls.append(run)
        if len(calls) == 3:
            run.stop(StopReason.SHUTDOWN)
            await asyncio.Event().wait()
        raise ConnectionResetError("the service hung up")

    async def waits(_: TaskRun) -> None:
        raise GiveWay(time.time() + 60, 60.0)

    policy = RetryPolicy(max_no_progress=2, base=0, cap=0)
    assert runs.run(waits, policy=policy).how is How.DEFERRED
    runs.row(deaths=2, next_at=None)
    assert runs.run(body, policy=policy).how is How.QUEUED
    row = runs.row()
    assert (row.state, row.owner, row.deaths, row.history.no_progress) == (State.QUEUED, None, 2, 2)
    ending = runs.run(body, policy=policy)
    assert (ending.how, len(calls)) == (How.FAILED, 4)


def test_a_message_on_its_way_to_the_disk_is_not_left_there(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task ends while a thread is about to keep its message: that has to be waited for, and dropped."""
    began, put = threading.Event(), MessageStore.put

    def slow(store: MessageStore, task_id: str, message: Mapping[str, Any]) -> bool:
        began.set()
        time.sleep(0.3)
        return put(store, task_id, message)

    async def body(_: TaskRun) -> None:
        await asyncio.to_thread(began.wait, 10)

    monkeypatch.setattr(MessageStore, "put", slow)
    assert runs.run(body).how is How.DONE
    time.sleep(0.5)
    assert messages_of(runs.state).get("1") is None


@pytest.mark.timeout(20)
def test_a_body_that_loses_its_cancellation_is_led_out(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``asyncio.wait_for`` loses one before Python 3.12: it would wait for ever, and hold its slot."""
    monkeypatch.setattr("recovery.celery.taskrun._CLEAN_UP_S", 0.1)
    lost = []

    async def fn() -> None:
        run = current_run.get()
        assert run is not None
        asyncio.get_running_loop().call_soon(run.give_way, GiveWay(time.time() + 60, 60.0))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lost.append(run)
        await asyncio.Event().wait()

    assert (runs.run(body_of(fn, (), {})).how, len(lost)) == (How.DEFERRED, 1)


@pytest.mark.timeout(20)
def test_what_does_not_close_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that does not answer keeps no worker from ending."""
    monkeypatch.setattr("recovery.celery.runtime._CLOSE_S", 0.3)

    answers = asyncio.Event()

    class Hangs(JournalRuntime):
        async def open(self, stack: AsyncExitStack) -> Journal:
            stack.push_async_callback(answers.wait)
            return await super().open(stack)

    async def body(_: TaskRun) -> str:
        return "done"

    runtime = Hangs(tmp_path / "state.db", longest_wait_s=5.0, is_control=lambda _: False)
    run = TaskRun(TaskCall(name="t", task_id="1", policy=RetryPolicy()))
    assert runtime.start(run, body).result().how is How.DONE
    runtime.close()
    assert [record.message for record in caplog.records] == ["runtime-not-closed"]
    runtime.loop_thread.loop.call_soon_threadsafe(answers.set)


def test_a_copy_of_what_has_ended_is_not_run(runs: Runs) -> None:
    """A table: whoever waits for its result is told what the journal remembers, unless Celery has told him."""

    async def fails(_: TaskRun) -> None:
        raise ValueError("the order is unknown")

    async def never(_: TaskRun) -> None:
        raise AssertionError("was run again")

    ended = runs.run(fails)
    assert type(ended.error) is ValueError
    cases: list[tuple[dict[str, Any], bool, How, type[BaseException] | None]] = [
        ({}, True, How.DUPLICATE, None),
        ({}, False, How.FAILED, TaskFailed),
        ({"code": "crash-loop"}, False, How.FAILED, CrashLooping),
        ({"state": State.CANCELLED}, True, How.DUPLICATE, None),
        ({"state": State.CANCELLED}, False, How.CANCELLED, None),
    ]
    for changes, known, how, error in cases:
        runs.row(**changes)
        copy = runs.run(never, first=False, is_known=lambda known=known: known)
        assert (changes, copy.how) == (changes, how)
        assert error is None or type(copy.error) is error
    runs.row(state=State.FAILED, code="value-error")
    told = runs.run(never, first=False, is_known=lambda: False).error
    assert isinstance(told, TaskFailed)
    assert ("the order is unknown" in str(told), told.info["code"]) == (True, "value-error")
