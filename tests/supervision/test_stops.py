"""Stopping what the supervisor runs: on request, by command from elsewhere, by control flow."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from recovery import run as run_module
from recovery.control import Attempt, Control
from recovery.lifecycle import Fenced
from recovery.records import Operation
from recovery.states import State
from recovery.supervisor import (
    LeaseHeld,
    OperationCancelled,
    OperationPaused,
    Supervisor,
)
from recovery.testing import FakeClock, MemoryJournal
from recovery.verdict import Action, Category, Verdict
from tests.supervising import (
    FULL,
    AnyJournal,
    Held,
    Recorder,
    Script,
    ServerSaysLaterError,
    advance,
    eventually,
    journal_of,
    row_of,
    spec,
    turns,
)

# --- control ---

STOPS = [
    ("pause", State.PAUSED, OperationPaused),
    ("cancel", State.CANCELLED, OperationCancelled),
]


@pytest.mark.parametrize(("wish", "state", "ending"), STOPS)
async def test_stopping_a_running_attempt(
    journal: AnyJournal, supervisor: Supervisor, events: Recorder, wish: str, state: State, ending: type[Exception]
) -> None:
    """The attempt is cancelled, its clean-up awaited, the row written and the lease freed before the run ends."""
    control, held = Control(), Held()
    task = asyncio.create_task(supervisor.run(spec(title="an import"), held, control=control))
    await held.started.wait()
    getattr(control, wish)()
    getattr(control, wish)()  # twice is once
    with pytest.raises(ending, match=f"test an import was {state.value}"):
        await task
    assert held.cleaned_up
    row = await row_of(journal)
    assert (row.state, row.owner) == (state, None)
    assert control.state is state
    assert events.steps == ["running", state.value]
    (record,) = await journal.attempts(row.operation_id)
    assert (record.outcome, record.error) == (state.value, None)


@pytest.mark.parametrize(("wish", "state", "ending"), STOPS)
@pytest.mark.parametrize("failure", [ServerSaysLaterError(60), FULL])
async def test_stopping_a_wait(
    journal: AnyJournal,
    supervisor: Supervisor,
    clock: FakeClock,
    wish: str,
    state: State,
    ending: type[Exception],
    failure: Exception,
) -> None:
    """A waiting or parked operation stops at once, without waiting for its time."""
    control = Control()
    task = asyncio.create_task(supervisor.run(spec(), Script(failure), control=control))
    await clock.until_sleeping(2)
    getattr(control, wish)()
    with pytest.raises(ending):
        await task
    assert (await row_of(journal)).state is state


@pytest.mark.parametrize(("wish", "state", "ending"), STOPS)
async def test_stopped_before_it_began(
    journal: AnyJournal, supervisor: Supervisor, wish: str, state: State, ending: type[Exception]
) -> None:
    """A wish that came before the run is heeded before any attempt."""
    control, script = Control(), Script("never")
    getattr(control, wish)()
    with pytest.raises(ending):
        await supervisor.run(spec(), script, control=control)
    assert (await row_of(journal)).state is state
    assert script.seen == []


async def test_cancel_outweighs_pause(supervisor: Supervisor) -> None:
    """Pause may become cancel, never the other way round."""
    control, held = Control(), Held()
    task = asyncio.create_task(supervisor.run(spec(), held, control=control))
    await held.started.wait()
    control.pause()
    control.cancel()
    control.pause()
    with pytest.raises(OperationCancelled):
        await task


async def test_work_that_is_done_all_the_same_is_done(journal: AnyJournal, supervisor: Supervisor) -> None:
    """An attempt that returns although it was told to stop has a result, and nobody throws that away."""
    started = asyncio.Event()

    async def stubborn(_: Attempt) -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "published already"
        raise AssertionError

    control = Control()
    task = asyncio.create_task(supervisor.run(spec(), stubborn, control=control))
    await started.wait()
    control.pause()
    assert await task == "published already"
    assert (await row_of(journal)).state is State.COMPLETE


async def test_an_error_of_the_clean_up_is_recorded(journal: AnyJournal, supervisor: Supervisor) -> None:
    """When the attempt fails while it is being paused, the operation is paused and the error is in the record."""
    started = asyncio.Event()

    async def clumsy(_: Attempt) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("the flush failed")

    control = Control()
    task = asyncio.create_task(supervisor.run(spec(), clumsy, control=control))
    await started.wait()
    control.pause()
    with pytest.raises(OperationPaused) as caught:
        await task
    assert isinstance(caught.value.__cause__, OSError)
    (record,) = await journal.attempts((await row_of(journal)).operation_id)
    assert record.error == "OSError: the flush failed"


async def test_an_attempt_that_will_not_stop_is_left_behind(
    journal: AnyJournal, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An attempt that ignores its cancellation is waited for in bounds only; the fact is logged."""
    monkeypatch.setattr(run_module, "_CLEAN_UP_S", 0.01)
    started, go = asyncio.Event(), asyncio.Event()

    async def deaf(_: Attempt) -> None:
        started.set()
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue

    control = Control()
    task = asyncio.create_task(supervisor.run(spec(), deaf, control=control))
    await started.wait()
    control.pause()
    with pytest.raises(OperationPaused):
        await task
    assert "attempt-ignores-cancellation" in caplog.text
    with pytest.raises(LeaseHeld):
        await supervisor.run(spec(), Script(1))  # a second one must not begin beside it
    go.set()
    await turns()
    assert await supervisor.run(spec(), Script(1)) == 1


async def test_a_program_that_ends_while_a_thread_works_leaves_the_row_running(
    journal: AnyJournal, supervisor: Supervisor, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the truth until the process is gone: nobody may begin the work a second time beside that thread."""
    monkeypatch.setattr(run_module, "_LAST_WORDS_S", 0.01)
    started, go = asyncio.Event(), asyncio.Event()

    async def thread(attempt: Attempt) -> None:
        attempt.in_thread = True
        started.set()
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue

    task = asyncio.create_task(supervisor.run(spec(), thread))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    row = await row_of(journal)
    assert (row.state, row.leased(clock.time())) == (State.RUNNING, True)
    go.set()
    await turns()


async def test_a_control_steers_one_run_at_a_time(supervisor: Supervisor) -> None:
    """Giving one control to two runs at once is refused, and the first run goes on."""
    control, held = Control(), Held()
    task = asyncio.create_task(supervisor.run(spec(), held, control=control))
    await held.started.wait()
    with pytest.raises(RuntimeError, match="one run at a time"):
        await supervisor.run(spec("another"), Script(1), control=control)
    held.go.set()
    assert await task == "done"


async def test_close_pauses_what_runs(journal: AnyJournal, supervisor: Supervisor) -> None:
    """Closing the supervisor pauses everything and waits until that is recorded."""
    held = Held()
    task = asyncio.create_task(supervisor.run(spec(), held))
    await held.started.wait()
    await supervisor.close()
    assert task.done()
    assert isinstance(task.exception(), OperationPaused)
    assert (await row_of(journal)).state is State.PAUSED
    await supervisor.close()


# --- commands of others ---

COMMANDS = [("pause", OperationPaused), ("cancel", OperationCancelled)]


@pytest.mark.parametrize(("command", "ending"), COMMANDS)
async def test_a_posted_command_stops_it(
    journal: AnyJournal, supervisor: Supervisor, clock: FakeClock, command: str, ending: type[Exception]
) -> None:
    """What another process posts to the journal reaches a running attempt within half a second."""
    held = Held()
    task = asyncio.create_task(supervisor.run(spec(), held))
    await held.started.wait()
    await journal.post_command((await row_of(journal)).operation_id, command)
    await advance(clock, 0.75)
    with pytest.raises(ending):
        await asyncio.wait_for(task, 5)


async def test_a_posted_retry_ends_a_wait(journal: AnyJournal, supervisor: Supervisor, clock: FakeClock) -> None:
    """So does "retry now"; a command nobody knows is logged and ignored."""
    task = asyncio.create_task(supervisor.run(spec(), Script(ServerSaysLaterError(60), "now")))
    await clock.until_sleeping(2)
    operation_id = (await row_of(journal)).operation_id
    await journal.post_command(operation_id, "dance")
    await journal.post_command(operation_id, "retry_now")
    await advance(clock, 0.75)
    assert await asyncio.wait_for(task, 5) == "now"


# --- control flow ---


class TaskRevokedError(Exception):
    """Control flow of a worker, by declaration."""

    recovery_hint = Verdict(category=Category.CONTROL, action=Action.PROPAGATE, code="control", message="")


class TaskLostError(Exception):
    """Nobody knows this one."""


@pytest.mark.parametrize("error", [asyncio.CancelledError("from inside"), TaskRevokedError("time is up")])
async def test_control_flow_of_the_attempt_goes_through(
    journal: AnyJournal, supervisor: Supervisor, error: BaseException
) -> None:
    """What is no failure is not retried: the row says paused, the lease is free, and the very exception leaves."""
    with pytest.raises(type(error)):
        await supervisor.run(spec(), Script(error))
    row = await row_of(journal)
    assert (row.state, row.owner, row.history.counted) == (State.PAUSED, None, 0)


async def test_a_failure_that_was_raised_from_a_cancellation_is_a_failure(
    journal: AnyJournal, supervisor: Supervisor
) -> None:
    """Not tried again, since somebody wanted something stopped; but nobody paused this operation."""

    async def attempt(_: Attempt) -> None:
        inner = asyncio.ensure_future(asyncio.Event().wait())
        inner.cancel()
        try:
            await inner
        except asyncio.CancelledError as exc:
            raise TaskLostError("the inner task is gone") from exc

    control = Control()
    with pytest.raises(TaskLostError):
        await supervisor.run(spec(), attempt, control=control)
    row = await row_of(journal)
    assert (row.state, row.owner, row.code) == (State.FAILED, None, "stopped-inside")
    assert row.error == "TaskLostError: the inner task is gone"
    assert control.verdict is not None
    (record,) = await journal.attempts(row.operation_id)
    assert (record.outcome, record.error) == ("failed", row.error)


async def test_a_lost_race_for_something_else_is_a_failure(journal: AnyJournal, supervisor: Supervisor) -> None:
    """The operation that could not be had is another one; the row of this one does not say that a person paused it."""
    with pytest.raises(Fenced):
        await supervisor.run(spec(), Script(Fenced("another", 1, 2)))
    row = await row_of(journal)
    assert (row.state, row.owner, row.code) == (State.FAILED, None, "running-elsewhere")


async def test_a_key_that_is_taken_in_the_users_own_database_fails(journal: AnyJournal, supervisor: Supervisor) -> None:
    """As any other constraint of it does: it is not our store, in which somebody else was faster."""

    def insert_twice() -> None:
        with contextlib.closing(sqlite3.connect(":memory:")) as theirs:
            theirs.execute("CREATE TABLE t (a PRIMARY KEY)")
            theirs.execute("INSERT INTO t VALUES (1)")
            theirs.execute("INSERT INTO t VALUES (1)")

    async def attempt(_: Attempt) -> None:
        await asyncio.to_thread(insert_twice)

    with pytest.raises(sqlite3.IntegrityError):
        await supervisor.run(spec(), attempt)
    row = await row_of(journal)
    assert (row.state, row.code) == (State.FAILED, "bug-or-bad-input")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("kind", ["memory", "file"])
def test_the_end_of_the_program_goes_through(state_path: Path, kind: str, error: type[BaseException]) -> None:
    """Ctrl-C inside an attempt is recorded as paused, and then stops the event loop as it should."""
    clock, rows = FakeClock(), []

    async def program() -> None:
        async with journal_of(kind, state_path, clock) as journal:
            try:
                await Supervisor(journal, clock=clock).run(spec(), Script(error()))
            finally:
                rows.append(await row_of(journal))

    with pytest.raises(error):
        asyncio.run(program())
    assert [row.state for row in rows] == [State.PAUSED]


class SlowJournal(MemoryJournal):
    """Takes its time to write, as a disk under load does."""

    async def record(self, *args: Any, **kwargs: Any) -> Operation:
        """Write, a while later."""
        await asyncio.sleep(0.05)
        return await super().record(*args, **kwargs)


async def test_a_last_write_that_comes_too_late_comes_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller is not held up, and its lease does not stay: given up half-way, it had to run out first."""
    monkeypatch.setattr(run_module, "_STOP_S", 0.01)
    journal, held = SlowJournal(), Held()
    task = asyncio.create_task(Supervisor(journal).run(spec(), held))
    await held.started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await row_of(journal)).state is State.RUNNING

    async def is_paused() -> bool:
        return (await row_of(journal)).state is State.PAUSED

    await eventually(is_paused)
    assert (await row_of(journal)).owner is None
