"""The supervisor: claim, attempt, judge, wait or park, again; over the journal in memory and the one in a file
alike.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recovery import run as run_module
from recovery.classify import Classifier
from recovery.control import Attempt, Control
from recovery.events import HealthEvent, OperationEvent
from recovery.gate import GateSettings, Wait
from recovery.history import History
from recovery.hostgates import MemoryGates
from recovery.lifecycle import Fenced
from recovery.policy import RetryPolicy
from recovery.states import State
from recovery.supervisor import (
    AttemptTimedOut,
    CrashLooping,
    DeadlineExceeded,
    LeaseHeld,
    OperationCancelled,
    OperationDeferred,
    OperationPaused,
    Supervisor,
)
from recovery.testing import FakeClock, MemoryJournal
from recovery.verdict import Action, Category, Condition, Verdict
from tests.supervising import AT_ONCE, AnyJournal, Held, Recorder, Script, eventually, journal_of, spec, turns

RESET = ConnectionResetError("reset by peer")
FULL = OSError(28, "No space left on device")
"""Parks: the disk is full."""


class ServerSaysLaterError(Exception):
    """Asks for a wait, as a 429 with Retry-After does."""

    def __init__(self, seconds: float) -> None:
        """Ask for ``seconds``."""
        super().__init__("later")
        self.recovery_hint = Verdict(
            category=Category.THROTTLED, action=Action.AFTER, code="throttled", message="later", retry_after_s=seconds
        )


@pytest.fixture
def clock() -> FakeClock:
    """Return virtual time."""
    return FakeClock()


@pytest.fixture(params=["memory", "file"])
async def journal(request: pytest.FixtureRequest, state_path: Path, clock: FakeClock) -> AsyncIterator[AnyJournal]:
    """Run the test over both journals."""
    async with journal_of(request.param, state_path, clock) as journal:
        yield journal


@pytest.fixture
def events() -> Recorder:
    """Return a recorder of events."""
    return Recorder()


@pytest.fixture
def supervisor(journal: AnyJournal, clock: FakeClock, events: Recorder) -> Supervisor:
    """Return a supervisor over the journal, without jitter."""
    return Supervisor(journal, clock=clock, draw=lambda: 0.5, on_event=events)


async def row_of(journal: AnyJournal, key: str = "the import") -> Any:
    """Return the operation's row."""
    row = await journal.find("test", key)
    assert row is not None
    return row


# --- success and failure ---


async def test_success_writes_one_intent_and_one_end(
    journal: AnyJournal, supervisor: Supervisor, events: Recorder
) -> None:
    """An operation that goes well costs two writes, makes two events, and its result is what it returned."""
    before = 0 if isinstance(journal, MemoryJournal) else journal._database.statistics()["writes"]
    assert await supervisor.run(spec(), Script("the result")) == "the result"
    if isinstance(journal, MemoryJournal):
        assert journal.writes == ["claim", "complete"]
    else:
        assert journal._database.statistics()["writes"] - before == 2
    assert events.steps == ["running", "complete"]
    assert [event.previous for event in events] == [None, State.RUNNING]
    assert [event.attempt for event in events] == [1, 1]
    row = await row_of(journal)
    assert (row.state, row.owner, row.lease_until) == (State.COMPLETE, None, None)
    assert row.history.attempts == 1


async def test_none_is_a_result(supervisor: Supervisor) -> None:
    """An attempt that returns None has succeeded."""
    assert await supervisor.run(spec(), Script(None)) is None


async def test_retries_until_it_works(journal: AnyJournal, supervisor: Supervisor, events: Recorder) -> None:
    """Each failure is recorded with its reason and its wait; the attempt sees its number and the verdict before it."""
    script = Script(RESET, TimeoutError(), 7)
    assert await supervisor.run(spec(), script) == 7
    assert events.steps == ["running", "waiting", "running", "waiting", "running", "complete"]
    assert [event.attempt for event in events] == [1, 1, 2, 2, 3, 3]
    assert [event.no_progress for event in events] == [0, 1, 1, 2, 2, 2]
    assert [event.verdict and event.verdict.code for event in events] == [
        None,
        "connection-lost",
        None,
        "timeout",
        None,
        None,
    ]
    assert events[1].error == "ConnectionResetError: reset by peer"
    assert events[1].next_retry_at == events[1].ts + (events[1].delay_s or 0.0)
    assert [attempt.number for attempt in script.seen] == [1, 2, 3]
    assert [attempt.verdict and attempt.verdict.code for attempt in script.seen] == [None, "connection-lost", "timeout"]
    row = await row_of(journal)
    assert {row.operation_id} == {attempt.operation_id for attempt in script.seen}
    assert {row.generation} == {attempt.generation for attempt in script.seen}
    records = await journal.attempts(row.operation_id)
    assert [(record.number, record.outcome, record.category) for record in records] == [
        (1, "waiting", Category.CONNECTION),
        (2, "waiting", Category.TIMEOUT),
        (3, "complete", None),
    ]
    assert sorted(event.rev for event in events) == [event.rev for event in events]


async def test_events_come_after_the_store_took_them() -> None:
    """When an event is told, the journal already says the same."""
    clock = FakeClock(auto=True)
    journal = MemoryJournal(clock=clock)
    told = []

    def compare(event: OperationEvent) -> None:
        row = journal._rows[event.operation_id]
        told.append((event.state, event.rev) == (row.state, row.rev))

    supervisor = Supervisor(journal, clock=clock, on_event=compare)
    await supervisor.run(spec(), Script(RESET, FULL, 1))
    assert told == [True] * 6  # running, waiting, running, parked, running, complete


async def test_gives_up_after_three_retries_without_progress(
    journal: AnyJournal, supervisor: Supervisor, events: Recorder
) -> None:
    """Three retries in a row without progress are the most; the last exception leaves, its verdict stays readable."""
    control, last = Control(), ConnectionResetError("the last one")
    with pytest.raises(ConnectionResetError) as caught:
        await supervisor.run(spec(), Script(RESET, RESET, RESET, last), control=control)
    assert caught.value is last
    assert control.state is State.FAILED
    assert control.verdict is not None
    assert control.verdict.code == "connection-lost"
    assert events[-1].verdict == control.verdict
    row = await row_of(journal)
    assert (row.state, row.owner, row.history.attempts, row.code) == (State.FAILED, None, 4, "connection-lost")
    assert len(await journal.attempts(row.operation_id)) == 4


async def test_durable_progress_refills_the_budget(supervisor: Supervisor, journal: AnyJournal) -> None:
    """Attempts that come further each time go on; what an attempt adds is counted from where it began."""
    script = Script(*[RESET] * 8, "done", progress=[1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert await supervisor.run(spec(), script) == "done"
    assert [record.progress_from for record in await journal.attempts((await row_of(journal)).operation_id)] == [
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
    ]
    stuck = Script(*[RESET] * 8, progress=[5, 5, 5, 5, 5])
    with pytest.raises(ConnectionResetError):
        await supervisor.run(spec("stuck"), stuck)
    assert len(stuck.seen) == 5


PROGRESS = [
    ("nothing said", [], False),
    ("the same as before", [10], False),
    ("more than before", [11], True),
    ("an audit found less, and no more was added", [4], False),
    ("an audit found less, and some was added", [4, 5], True),
    ("some was added, then an audit took more away", [12, 3], False),
]


@pytest.mark.parametrize(("_name", "reports", "expected"), PROGRESS)
def test_what_counts_as_progress(_name: str, reports: list[int], expected: bool) -> None:
    """Growth over the lowest point of the attempt is progress, nothing else."""
    attempt = Attempt(operation_id="a", generation=1, history=History(), done=10, total=20)
    for done in reports:
        attempt.progress(done)
    assert attempt.progressed is expected
    attempt.progress(1, 2)
    assert repr(attempt) == "<Attempt 1 of a: 1/2>"


async def test_what_cannot_be_helped_fails_at_once(supervisor: Supervisor, events: Recorder) -> None:
    """A bug of the caller is not retried."""
    with pytest.raises(ValueError, match="nonsense"):
        await supervisor.run(spec(), Script(ValueError("nonsense")))
    assert events.steps == ["running", "failed"]


async def test_one_failure_leaves_its_siblings_alone(supervisor: Supervisor) -> None:
    """One for one: of three runs together, the one that fails fails alone."""
    held = Held()
    ends = asyncio.gather(
        supervisor.run(spec("a"), Script(ValueError("bad"))),
        supervisor.run(spec("b"), held),
        supervisor.run(spec("c"), Script(RESET, "c")),
        return_exceptions=True,
    )
    await held.started.wait()
    await eventually(lambda: supervisor.statistics() == {"running": 1})
    held.go.set()
    bad, b, c = await ends
    assert isinstance(bad, ValueError)
    assert (b, c) == ("done", "c")
    assert repr(supervisor) == f"<Supervisor {supervisor.owner}: 0 running>"


async def test_the_user_s_classifier_decides(clock: FakeClock) -> None:
    """A rule of the user's turns a failure that would be fatal into one that is retried."""
    hopeful = Verdict(category=Category.VALIDATION, action=Action.RETRY, code="flaky", message="again")
    classifier = Classifier([lambda exc: hopeful if isinstance(exc, ValueError) else None])
    supervisor = Supervisor(None, classifier=classifier, clock=clock)
    assert await supervisor.run(spec(), Script(ValueError(), 1)) == 1


async def test_without_a_journal_it_works_the_same(clock: FakeClock, events: Recorder) -> None:
    """Nothing is written, and events, states and budgets are those of a durable operation."""
    supervisor = Supervisor(clock=clock, draw=lambda: 0.0, on_event=events)
    assert await supervisor.run(spec(), Script(RESET, 1)) == 1
    assert events.steps == ["running", "waiting", "running", "complete"]
    assert [event.rev for event in events] == [1, 2, 3, 4]
    with pytest.raises(ConnectionResetError):
        await supervisor.run(spec(), Script(*[RESET] * 4))
    assert {len(event.operation_id) for event in events} == {10}


# --- limits in time ---


async def test_our_timeout_and_somebody_else_s(supervisor: Supervisor, events: Recorder) -> None:
    """The policy's limit on one attempt is told apart from a TimeoutError that the attempt raises by itself."""
    stuck = [True, False]

    async def attempt(_: Attempt) -> str:
        if stuck.pop(0):
            await asyncio.Event().wait()
        return "second"

    policy = RetryPolicy(base=0.0, attempt_timeout_s=0.01)
    assert await supervisor.run(spec(policy=policy), attempt) == "second"
    assert events[1].verdict is not None
    assert (events[1].verdict.code, events[1].error) == (
        "attempt-timeout",
        "AttemptTimedOut: the attempt took longer than 0.01 s",
    )
    events.clear()
    patient = RetryPolicy(base=0.0, attempt_timeout_s=60.0)
    assert await supervisor.run(spec(policy=patient), Script(TimeoutError("theirs"), 2)) == 2
    assert events[1].verdict is not None
    assert events[1].verdict.code == "timeout"


async def test_the_timeout_is_the_last_exception_when_all_is_used_up(supervisor: Supervisor) -> None:
    """What is raised in the end is our AttemptTimedOut, with what it interrupted as its cause."""

    async def attempt(_: Attempt) -> None:
        await asyncio.Event().wait()

    policy = RetryPolicy(max_no_progress=0, attempt_timeout_s=0.01)
    with pytest.raises(AttemptTimedOut) as caught:
        await supervisor.run(spec(policy=policy), attempt)
    assert isinstance(caught.value.__cause__, TimeoutError)
    assert caught.value.seconds == 0.01


async def test_an_attempt_that_answers_a_timeout_with_its_own_error(supervisor: Supervisor) -> None:
    """If the attempt turns our cancellation into an error of its own, that error is judged."""

    async def attempt(_: Attempt) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise KeyError("half-done") from None

    with pytest.raises(KeyError, match="half-done"):
        await supervisor.run(spec(policy=RetryPolicy(attempt_timeout_s=0.01)), attempt)


async def test_the_deadline_ends_an_attempt(supervisor: Supervisor, journal: AnyJournal) -> None:
    """The deadline of the whole operation also ends an attempt that is being made, and is not retried."""

    async def attempt(_: Attempt) -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlineExceeded):
        await supervisor.run(spec(policy=RetryPolicy(deadline_s=0.01, attempt_timeout_s=5.0)), attempt)
    row = await row_of(journal)
    assert (row.state, row.category) == (State.FAILED, Category.DEADLINE)


async def test_no_limit_at_all(supervisor: Supervisor) -> None:
    """Without deadline and timeout an attempt may take for ever."""
    assert await supervisor.run(spec(policy=RetryPolicy(deadline_s=None)), Script(1)) == 1


async def test_a_deadline_that_passed_while_nobody_worked(
    journal: AnyJournal, clock: FakeClock, supervisor: Supervisor
) -> None:
    """A machine that was off for a week does not cost the operation its deadline; its other meters go on."""
    policy = RetryPolicy(base=0.0, deadline_s=3600.0, max_no_progress=1)
    doomed = Supervisor(journal, clock=clock, owner="the one who dies")
    task = asyncio.create_task(doomed.run(spec(policy=policy), Script(RESET, asyncio.Event())))
    await eventually(lambda: task.done() or doomed.statistics() == {"running": 1})
    await task
    await journal.begin_and_claim(spec(policy=policy), owner="dead", ttl_s=15, now=clock.time())
    clock.jump(7 * 86_400)
    assert await supervisor.run(spec(policy=policy), Script("after a week")) == "after a week"


# --- waits ---


async def test_a_wait_is_recorded_with_its_time(journal: AnyJournal, supervisor: Supervisor, clock: FakeClock) -> None:
    """While it waits, the row says until when and why; the lease is held; then the attempt is made."""
    task = asyncio.create_task(supervisor.run(spec(), Script(ServerSaysLaterError(7), "later")))
    await clock.until_sleeping(2)  # the wait and the heartbeat
    row = await row_of(journal)
    assert (row.state, row.next_at, row.code) == (State.WAITING, clock.time() + 7.0, "throttled")
    assert row.owner == supervisor.owner
    await advance(clock, 6.9)
    assert not task.done()
    await advance(clock, 0.2)
    assert await task == "later"


async def advance(clock: FakeClock, seconds: float) -> None:
    """Let virtual time pass in steps that give threads their real time."""
    steps = math.ceil(seconds * 4)
    for _ in range(steps):
        await clock.advance(seconds / steps)
        await asyncio.sleep(0.002)


async def test_retry_now_ends_a_wait_and_opens_a_fresh_budget(
    journal: AnyJournal, supervisor: Supervisor, clock: FakeClock
) -> None:
    """The person who presses "retry now" gets an attempt at once, and the meters start again."""
    control = Control()
    script = Script(*[RESET] * 3, ServerSaysLaterError(3600), *[RESET] * 3, "done")
    task = asyncio.create_task(supervisor.run(spec(), script, control=control))
    await clock.until_sleeping(2)
    control.retry_now()
    assert await task == "done"
    row = await row_of(journal)
    assert (row.history.attempts, row.history.spared) == (8, 4)


async def test_retry_now_while_running_means_nothing(supervisor: Supervisor, clock: FakeClock) -> None:
    """There is no wait to end; the next one is not cut short by an old wish."""
    control, held = Control(), Held()

    async def attempt(attempt: Attempt) -> str:
        if attempt.number == 1:
            await held(attempt)
            raise ServerSaysLaterError(60)
        return "done"

    task = asyncio.create_task(supervisor.run(spec(), attempt, control=control))
    await held.started.wait()
    held.go.set()
    await clock.until_sleeping(2)
    assert repr(control) == "<Control state=waiting requested=None retry_now=False>"
    control.retry_now()
    assert await task == "done"


async def test_the_next_process_waits_what_is_left(journal: AnyJournal, clock: FakeClock, events: Recorder) -> None:
    """A wait that the server asked for survives the process: the next one sits out the rest, and says why."""
    first = Supervisor(journal, clock=clock, owner="first", longest_wait_s=60)
    with pytest.raises(OperationDeferred) as deferred:
        await first.run(spec(), Script(ServerSaysLaterError(3600)))
    assert deferred.value.next_at == clock.time() + 3600
    clock.jump(3590)
    second = Supervisor(journal, clock=clock, owner="second", on_event=events)
    task = asyncio.create_task(second.run(spec(), Script("then")))
    await clock.until_sleeping(2)
    assert events.steps == ["running", "waiting"]
    assert (events[1].delay_s, events[1].verdict and events[1].verdict.code) == (10.0, "throttled")
    await advance(clock, 11)
    assert await task == "then"


async def test_the_next_process_retries_now_when_a_person_says_so(journal: AnyJournal, clock: FakeClock) -> None:
    """``retry_now`` before the run skips what is left of an old wait."""
    first = Supervisor(journal, clock=clock, owner="first", longest_wait_s=60)
    with pytest.raises(OperationDeferred):
        await first.run(spec(), Script(ServerSaysLaterError(3600)))
    control = Control()
    control.retry_now()
    assert await Supervisor(journal, clock=clock).run(spec(), Script("now"), control=control) == "now"


@pytest.mark.parametrize("failure", [ServerSaysLaterError(90), FULL])
async def test_too_long_a_wait_is_handed_back(journal: AnyJournal, clock: FakeClock, failure: Exception) -> None:
    """A worker that must not sleep gets OperationDeferred; the lease is free at once and the reason stays in the
    row.
    """
    worker = Supervisor(journal, clock=clock, owner="worker", longest_wait_s=0)
    with pytest.raises(OperationDeferred) as caught:
        await worker.run(spec(), Script(failure))
    row = await row_of(journal)
    assert row.next_at == caught.value.next_at
    assert (row.state, row.code is not None) == (caught.value.operation.state, True)
    assert not row.leased(clock.time())
    _, generation = await journal.begin_and_claim(spec(), owner="another", ttl_s=15, now=clock.time())
    assert generation == row.generation + 1


# --- parking ---


async def test_parked_until_the_watcher_says_so(journal: AnyJournal, clock: FakeClock, events: Recorder) -> None:
    """A full disk parks: no attempt and no deadline is used up, the watcher is asked again and again, then it goes
    on.
    """
    free, asked = [False], []

    async def disk_is_free() -> bool:
        asked.append(clock.time())
        return free[0]

    supervisor = Supervisor(
        journal, clock=clock, draw=lambda: 0.0, on_event=events, watchers={Condition.DISK_SPACE: disk_is_free}
    )
    policy = RetryPolicy(base=0.0, deadline_s=20.0, max_no_progress=1)
    task = asyncio.create_task(supervisor.run(spec(policy=policy), Script(FULL, RESET, "room")))
    await clock.until_sleeping(2)
    assert (await row_of(journal)).condition is Condition.DISK_SPACE
    await advance(clock, 26)
    assert not task.done()
    assert len(asked) == 5  # every five seconds
    free[0] = True
    await advance(clock, 6)
    assert await task == "room"
    assert events.steps == ["running", "parked", "running", "waiting", "running", "complete"]
    assert [event.no_progress for event in events] == [0, 0, 0, 1, 1, 1]


async def test_parked_without_a_watcher_an_attempt_finds_out(clock: FakeClock) -> None:
    """Where nobody can tell, the next attempt after the pause is the test."""
    supervisor = Supervisor(clock=FakeClock(auto=True))
    script = Script(*[FULL] * 10, "room")
    assert await supervisor.run(spec(), script) == "room"
    assert len(script.seen) == 11


async def test_a_broken_watcher_strands_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """A watcher that raises is logged, and an attempt finds out instead."""

    async def broken() -> bool:
        raise RuntimeError("no such mount")

    supervisor = Supervisor(clock=FakeClock(auto=True), watchers={Condition.DISK_SPACE: broken})
    assert await supervisor.run(spec(), Script(FULL, "room")) == "room"
    assert "watcher-failed" in caplog.text


async def test_retry_now_ends_parking(journal: AnyJournal, supervisor: Supervisor, clock: FakeClock) -> None:
    """A person who made room need not wait for the next look."""
    control = Control()
    task = asyncio.create_task(supervisor.run(spec(), Script(FULL, "room"), control=control))
    await clock.until_sleeping(2)
    control.retry_now()
    assert await task == "room"


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


# --- leases ---


async def test_another_owner_is_not_disturbed(journal: AnyJournal, supervisor: Supervisor, clock: FakeClock) -> None:
    """While somebody else holds the lease nothing is run, and the caller gets the row."""
    await journal.begin_and_claim(spec(), owner="another", ttl_s=15, now=clock.time())
    script = Script("never")
    with pytest.raises(LeaseHeld) as caught:
        await supervisor.run(spec(), script)
    assert (caught.value.operation.owner, script.seen) == ("another", [])


async def test_the_same_supervisor_does_not_run_it_twice(supervisor: Supervisor) -> None:
    """For the journal both are one owner; the supervisor itself keeps the second run out."""
    held = Held()
    task = asyncio.create_task(supervisor.run(spec(), held))
    await held.started.wait()
    with pytest.raises(LeaseHeld):
        await supervisor.run(spec(), held)
    held.go.set()
    assert await task == "done"
    assert held.tries == 1


async def test_the_lease_is_renewed_and_nothing_else_written(clock: FakeClock) -> None:
    """Over a minute of work the lease is renewed every third of its life; no other write is made."""
    journal = MemoryJournal(clock=clock)
    supervisor, held = Supervisor(journal, clock=clock, lease_ttl_s=15.0), Held()
    task = asyncio.create_task(supervisor.run(spec(), held))
    await held.started.wait()
    await clock.advance(60.0)
    assert journal.writes == ["claim"] + ["renew"] * 12
    row = await row_of(journal)
    assert row.lease_until == clock.time() + 15.0
    held.go.set()
    await task
    assert {task for task in asyncio.all_tasks() if task is not asyncio.current_task()} == set()


async def test_renewal_tells_how_far_the_work_has_come(clock: FakeClock) -> None:
    """Others see progress in the row while the attempt still runs, and a later death counts as one with progress."""
    journal, held = MemoryJournal(clock=clock), Held()

    async def attempt(attempt: Attempt) -> str:
        attempt.progress(3, 10)
        return await held(attempt)

    task = asyncio.create_task(Supervisor(journal, clock=clock).run(spec(), attempt))
    await held.started.wait()
    await clock.advance(6.0)
    row = await row_of(journal)
    assert (row.progress_done, row.progress_total) == (3, 10)
    held.go.set()
    await task


async def test_losing_the_lease_ends_the_run(journal: AnyJournal, supervisor: Supervisor, clock: FakeClock) -> None:
    """Another owner took over (we were stopped for too long): the attempt is cancelled, nothing more is written."""
    held = Held()
    task = asyncio.create_task(supervisor.run(spec(), held))
    await held.started.wait()
    clock.jump(20)
    row, generation = await journal.begin_and_claim(spec(), owner="the other", ttl_s=15, now=clock.time())
    assert generation is not None
    await advance(clock, 5.75)
    with pytest.raises(Fenced):
        await asyncio.wait_for(task, 5)
    assert held.cleaned_up
    after = await row_of(journal)
    assert (after.owner, after.generation, after.state) == ("the other", generation, State.RUNNING)
    assert await journal.attempts(row.operation_id) == []


async def test_losing_the_lease_while_waiting(journal: AnyJournal, supervisor: Supervisor, clock: FakeClock) -> None:
    """A waiting run whose lease is taken over stops as well."""
    task = asyncio.create_task(supervisor.run(spec(), Script(ServerSaysLaterError(600))))
    await clock.until_sleeping(2)
    clock.jump(20)
    await journal.begin_and_claim(spec(), owner="the other", ttl_s=15, now=clock.time())
    await advance(clock, 5.75)
    with pytest.raises(Fenced):
        await asyncio.wait_for(task, 5)


async def test_fenced_at_the_end(journal: AnyJournal, supervisor: Supervisor, clock: FakeClock) -> None:
    """A result that comes after somebody else took over is not recorded as ours."""
    held = Held()
    task = asyncio.create_task(supervisor.run(spec(), held))
    await held.started.wait()
    clock.jump(20)
    await journal.begin_and_claim(spec(), owner="the other", ttl_s=15, now=clock.time())
    held.go.set()
    with pytest.raises(Fenced):
        await task
    assert (await row_of(journal)).owner == "the other"


class LeaseLostError(Exception):
    """What a store of the attempt's own raises when its write was fenced."""

    recovery_hint = Verdict(category=Category.LOST_RACE, action=Action.FAIL, code="lost-race", message="taken over")


async def test_an_attempt_that_was_fenced(journal: AnyJournal, supervisor: Supervisor, clock: FakeClock) -> None:
    """The attempt's own word for it leaves the run, and the new owner's row is not touched."""
    held = Held()

    async def attempt(attempt: Attempt) -> None:
        await held(attempt)
        raise LeaseLostError

    task = asyncio.create_task(supervisor.run(spec(), attempt))
    await held.started.wait()
    clock.jump(20)
    await journal.begin_and_claim(spec(), owner="the other", ttl_s=15, now=clock.time())
    held.go.set()
    with pytest.raises(LeaseLostError):
        await task
    assert (await row_of(journal)).owner == "the other"


async def test_a_failure_after_being_fenced(journal: AnyJournal, supervisor: Supervisor, clock: FakeClock) -> None:
    """Any other failure of a run that was fenced is reported as that, with the failure as the cause."""
    held = Held()

    async def attempt(attempt: Attempt) -> None:
        await held(attempt)
        raise ValueError("irrelevant now")

    task = asyncio.create_task(supervisor.run(spec(), attempt))
    await held.started.wait()
    clock.jump(20)
    await journal.begin_and_claim(spec(), owner="the other", ttl_s=15, now=clock.time())
    held.go.set()
    with pytest.raises(Fenced) as caught:
        await task
    assert isinstance(caught.value.__cause__, ValueError)


async def test_a_lost_race_that_was_none(journal: AnyJournal, supervisor: Supervisor) -> None:
    """If the lease is still ours, "lost race" is a failure like any other and the row says so."""
    with pytest.raises(LeaseLostError):
        await supervisor.run(spec(), Script(LeaseLostError()))
    row = await row_of(journal)
    assert (row.state, row.owner) == (State.FAILED, None)


# --- deaths ---


async def die(journal: AnyJournal, clock: FakeClock, times: int) -> None:
    """Let so many owners die while they run the operation."""
    for number in range(times):
        await journal.begin_and_claim(spec(), owner=f"owner {number}", ttl_s=15, now=clock.time())
        clock.jump(16)


async def test_two_deaths_are_bad_luck(journal: AnyJournal, supervisor: Supervisor, clock: FakeClock) -> None:
    """What died twice is run again."""
    await die(journal, clock, 2)
    assert await supervisor.run(spec(), Script("third time lucky")) == "third time lucky"


async def test_three_deaths_are_a_crash_loop(
    journal: AnyJournal, supervisor: Supervisor, clock: FakeClock, events: Recorder
) -> None:
    """What died three times is not run: it fails with a verdict that says so, until a person retries."""
    await die(journal, clock, 3)
    script = Script("by hand")
    asked = spec(operation_id=(await row_of(journal)).operation_id)
    for _ in range(2):
        with pytest.raises(CrashLooping) as caught:
            await supervisor.run(asked, script)
        assert caught.value.recovery_hint.code == "crash-loop"
    assert events.steps == ["running", "failed"] * 2
    assert events[1].verdict == caught.value.recovery_hint
    assert (await row_of(journal)).state is State.FAILED
    control = Control()
    control.retry_now()
    assert await supervisor.run(asked, script, control=control) == "by hand"


# --- control flow ---


class TaskRevokedError(Exception):
    """Control flow of a worker, by declaration."""

    recovery_hint = Verdict(category=Category.CONTROL, action=Action.PROPAGATE, code="control", message="")


@pytest.mark.parametrize("error", [asyncio.CancelledError("from inside"), TaskRevokedError("time is up")])
async def test_control_flow_of_the_attempt_goes_through(
    journal: AnyJournal, supervisor: Supervisor, error: BaseException
) -> None:
    """What is no failure is not retried: the row says paused, the lease is free, and the very exception leaves."""
    with pytest.raises(type(error)):
        await supervisor.run(spec(), Script(error))
    row = await row_of(journal)
    assert (row.state, row.owner, row.history.counted) == (State.PAUSED, None, 0)


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


# --- trouble with the store ---


class Health(list[HealthEvent]):
    """Collects health events."""

    def __call__(self, event: HealthEvent) -> None:
        """Take one."""
        self.append(event)


TROUBLE = [sqlite3.OperationalError("disk I/O error"), OSError(28, "full"), RuntimeError("closed")]


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_a_store_that_is_gone_does_not_fail_the_operation(clock: FakeClock, trouble: Exception) -> None:
    """With every call to the journal failing the operation retries, succeeds, and says once that nothing is
    recorded.
    """
    journal, events, health = MemoryJournal(clock=clock), Recorder(), Health()
    journal.fail_with = trouble
    supervisor = Supervisor(journal, clock=clock, draw=lambda: 0.0, on_event=events, on_health=health)
    assert await supervisor.run(spec(), Script(RESET, 5)) == 5
    assert events.steps == ["running", "waiting", "running", "complete"]
    assert [event.health for event in health] == ["degraded"]
    assert str(trouble) in health[0].reason


async def test_what_the_store_missed_is_caught_up(clock: FakeClock) -> None:
    """When the store works again, what it missed is written in order, and health says ok."""
    journal, health = MemoryJournal(clock=clock), Health()

    async def attempt(attempt: Attempt) -> str:
        if attempt.number == 1:
            journal.fail_with = OSError(5, "I/O")
            raise RESET
        if attempt.number == 3:
            journal.fail_with = None
            return "done"
        raise RESET

    supervisor = Supervisor(journal, clock=clock, draw=lambda: 0.0, on_health=health)
    assert await supervisor.run(spec(), attempt) == "done"
    assert journal.writes == ["claim", "waiting", "running", "waiting", "running", "complete"]
    assert [event.health for event in health] == ["degraded", "ok"]
    assert [record.number for record in await journal.attempts((await row_of(journal)).operation_id)] == [1, 2, 3]


async def test_a_store_that_comes_only_later(clock: FakeClock) -> None:
    """An operation that began without a store is entered as soon as there is one, history included."""
    journal = MemoryJournal(clock=clock)
    journal.fail_with = OSError(5, "I/O")

    async def attempt(attempt: Attempt) -> str:
        if attempt.number < 3:
            raise RESET
        journal.fail_with = None
        return "done"

    assert await Supervisor(journal, clock=clock, draw=lambda: 0.0).run(spec(), attempt) == "done"
    row = await row_of(journal)
    assert (row.state, row.history.attempts) == (State.COMPLETE, 3)


async def test_a_store_that_comes_later_with_another_owner(clock: FakeClock) -> None:
    """If somebody else runs it by the time the store is back, we are the one who stops."""
    journal = MemoryJournal(clock=clock)
    journal.fail_with = OSError(5, "I/O")

    async def attempt(_: Attempt) -> str:
        journal.fail_with = None
        await journal.begin_and_claim(spec(), owner="the other", ttl_s=15, now=clock.time())
        return "ours"

    with pytest.raises(Fenced):
        await Supervisor(journal, clock=clock).run(spec(), attempt)
    assert (await row_of(journal)).owner == "the other"


async def test_renewal_and_commands_survive_trouble(clock: FakeClock) -> None:
    """A heartbeat whose store fails keeps beating, and the run goes on."""
    journal, held = MemoryJournal(clock=clock), Held()
    task = asyncio.create_task(Supervisor(journal, clock=clock).run(spec(), held))
    await held.started.wait()
    journal.fail_with = OSError(5, "I/O")
    await clock.advance(30.0)
    journal.fail_with = None
    await clock.advance(30.0)
    assert journal.writes.count("renew") >= 5
    held.go.set()
    assert await task == "done"


async def test_a_row_somebody_changed_by_hand_is_trouble_of_the_store(clock: FakeClock) -> None:
    """A row in a state that ours cannot follow costs the record, not the result."""
    journal, held = MemoryJournal(clock=clock), Held()
    task = asyncio.create_task(Supervisor(journal, clock=clock).run(spec(), held))
    await held.started.wait()
    row = await row_of(journal)
    journal._put(replace(row, state=State.CANCELLED))
    held.go.set()
    assert await task == "done"
    assert (await row_of(journal)).state is State.CANCELLED


async def test_a_spec_that_cannot_be_stored_is_the_caller_s_mistake(
    journal: AnyJournal, supervisor: Supervisor
) -> None:
    """Arguments that are not JSON are refused before anything runs."""
    script = Script("never")
    with pytest.raises(ValueError, match="JSON"):
        await supervisor.run(spec(args={"when": object()}), script)
    assert script.seen == []


async def test_observers_may_fail(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """Callbacks that raise are logged and change nothing."""

    def broken(_: object) -> None:
        raise RuntimeError("observer")

    journal = MemoryJournal(clock=clock)
    journal.fail_with = OSError(5, "I/O")
    supervisor = Supervisor(journal, clock=clock, on_event=broken, on_health=broken)
    assert await supervisor.run(spec(), Script(1)) == 1
    assert {"observer-failed", "health-observer-failed"} <= {record.message for record in caplog.records}


async def test_a_heartbeat_that_dies_is_reported(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect in the heartbeat is logged, and the next operation gets a new one."""
    journal, held = MemoryJournal(clock=clock), Held()
    supervisor = Supervisor(journal, clock=clock)
    real = run_module.Run.renew

    async def broken(self: Any) -> bool:
        monkeypatch.setattr(run_module.Run, "renew", real)
        raise AssertionError("defect")

    monkeypatch.setattr(run_module.Run, "renew", broken)
    task = asyncio.create_task(supervisor.run(spec(), held))
    await held.started.wait()
    await clock.advance(6.0)
    assert "heartbeat-died" in caplog.text
    other = asyncio.create_task(supervisor.run(spec("other"), held))
    await turns()
    await clock.advance(12.0)
    assert "renew" in journal.writes
    held.go.set()
    assert [await task, await other] == ["done", "done"]


# --- gates and slots ---


async def test_the_gate_of_the_host_is_asked_and_told(clock: FakeClock, events: Recorder) -> None:
    """Behind a gate that opened, an operation waits without using up attempts; its success is told to the gate."""
    gates = MemoryGates(clock=clock, draw=lambda: 0.0, settings=GateSettings(threshold=2))
    supervisor = Supervisor(clock=clock, draw=lambda: 0.0, gates=gates, on_event=events)
    policy = RetryPolicy(base=0.0, max_no_progress=2)
    task = asyncio.create_task(supervisor.run(spec(policy=policy), Script(RESET, RESET, "up"), host="example.org"))
    await clock.until_sleeping()
    assert events.steps == ["running", "waiting", "running", "waiting", "waiting"]
    assert events[-1].verdict is not None
    assert (events[-1].verdict.category, events[-1].attempt) == (Category.GATE, 2)
    assert isinstance(await gates.admit("example.org", "another"), Wait)
    await clock.advance(60)
    assert await task == "up"
    assert (await gates.state("example.org")).failures == 0


async def test_a_stopped_attempt_gives_its_admission_back(clock: FakeClock) -> None:
    """A probe that is paused does not keep the host closed for the rest of its lease."""
    gates = MemoryGates(clock=clock, draw=lambda: 0.0, settings=GateSettings(threshold=1))
    supervisor = Supervisor(clock=clock, draw=lambda: 0.0, gates=gates)
    with pytest.raises(ConnectionResetError):
        await supervisor.run(spec(policy=RetryPolicy(max_no_progress=0)), Script(RESET), host="example.org")
    clock.jump(60)
    control, held = Control(), Held()
    task = asyncio.create_task(supervisor.run(spec(), held, control=control, host="example.org"))
    await held.started.wait()
    assert (await gates.state("example.org")).probe_owner is not None
    control.pause()
    with pytest.raises(OperationPaused):
        await task
    assert (await gates.state("example.org")).probe_owner is None


async def test_only_so_many_attempts_at_once(journal: AnyJournal, clock: FakeClock, events: Recorder) -> None:
    """The bulkhead holds back further operations as queued; who waits for a retry does not take up a place."""
    supervisor = Supervisor(journal, clock=clock, on_event=events, max_concurrent=1)
    first, second = Held(), Held()
    tasks = [
        asyncio.create_task(supervisor.run(spec("waits"), Script(ServerSaysLaterError(600)))),
        asyncio.create_task(supervisor.run(spec("first"), first)),
        asyncio.create_task(supervisor.run(spec("second"), second)),
    ]
    await first.started.wait()
    await eventually(lambda: supervisor.statistics() == {"waiting": 1, "running": 1, "queued": 1})
    assert (await row_of(journal, "second")).state is State.QUEUED
    assert not second.started.is_set()
    first.go.set()
    await second.started.wait()
    second.go.set()
    assert [await task for task in tasks[1:]] == ["done", "done"]
    await supervisor.close()
    assert isinstance(tasks[0].exception(), OperationPaused)


async def test_stopped_while_it_queues(journal: AnyJournal, clock: FakeClock) -> None:
    """A queued operation can be cancelled, and the place it never had goes to the next one."""
    supervisor = Supervisor(journal, clock=clock, max_concurrent=1)
    held, control = Held(), Control()
    task = asyncio.create_task(supervisor.run(spec("first"), held))
    await held.started.wait()
    queued = asyncio.create_task(supervisor.run(spec("queued"), Script("never"), control=control))
    next_one = asyncio.create_task(supervisor.run(spec("next"), Script("next")))
    await eventually(lambda: supervisor.statistics() == {"running": 1, "queued": 2})
    control.cancel()
    with pytest.raises(OperationCancelled):
        await queued
    assert (await row_of(journal, "queued")).state is State.CANCELLED
    held.go.set()
    assert [await task, await next_one] == ["done", "next"]


# --- giving up ---


async def test_on_give_up_comes_before_failed(journal: AnyJournal, clock: FakeClock) -> None:
    """The hook is awaited with the last exception while the lease is still held; then the operation has failed."""
    seen = []

    async def undo(error: BaseException) -> bool:
        row = await row_of(journal)
        seen.append((error, row.state, row.owner))
        return False

    supervisor, error = Supervisor(journal, clock=clock), ValueError("hopeless")
    with pytest.raises(ValueError, match="hopeless"):
        await supervisor.run(spec(), Script(error), on_give_up=undo)
    assert seen == [(error, State.RUNNING, supervisor.owner)]


async def test_another_way_gets_a_fresh_budget(supervisor: Supervisor, events: Recorder) -> None:
    """A hook that knows another way says True, and the operation goes on at once with a fresh budget."""
    ways = [True, False]

    async def other_way(_: BaseException) -> bool:
        return ways.pop(0)

    script = Script(*[RESET] * 4, *[RESET] * 4)
    with pytest.raises(ConnectionResetError):
        await supervisor.run(spec(), script, on_give_up=other_way)
    assert (script.acts, ways) == ([], [])
    assert events.steps.count("failed") == 1


SENSELESS: list[dict[str, float]] = [{"lease_ttl_s": 0}, {"longest_wait_s": -1}, {"max_concurrent": 0}]


@pytest.mark.parametrize("options", SENSELESS)
def test_senseless_numbers_are_refused(options: dict[str, Any]) -> None:
    """Numbers that make no sense are refused when the supervisor is made."""
    with pytest.raises(ValueError, match=r"must be|at least"):
        Supervisor(**options)


async def test_ten_thousand_small_operations_leave_nothing(clock: FakeClock) -> None:
    """Ten thousand small operations, sixteen at a time, need two writes each and leave no task."""
    journal = MemoryJournal(clock=clock)
    supervisor = Supervisor(journal, clock=clock)
    peak = 0

    async def worker(first: int) -> None:
        nonlocal peak
        for number in range(first, 10_000, 16):
            await supervisor.run(spec(str(number), policy=AT_ONCE), Script(number))
            peak = max(peak, len(asyncio.all_tasks()))

    await asyncio.gather(*(worker(first) for first in range(16)))
    await turns(2)
    assert len(journal.writes) == 20_000
    assert (
        peak <= 1 + 16 + 16 + 2
    )  # this test, its workers, one attempt each, the heartbeat and one that is just ending
    assert {task for task in asyncio.all_tasks() if task is not asyncio.current_task()} == set()
