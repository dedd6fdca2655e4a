"""The supervisor makes attempts: results, failures, budgets, giving up, limits in time."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from recovery.classify import Classifier
from recovery.control import Attempt, Control
from recovery.events import OperationEvent
from recovery.history import History
from recovery.policy import RetryPolicy
from recovery.states import State
from recovery.supervisor import (
    AttemptTimedOut,
    DeadlineExceeded,
    Supervisor,
)
from recovery.testing import FakeClock, MemoryJournal
from recovery.verdict import Action, Category, Verdict
from tests.supervising import (
    AT_ONCE,
    FULL,
    RESET,
    AnyJournal,
    Held,
    Recorder,
    Script,
    eventually,
    row_of,
    spec,
    turns,
)

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


async def test_a_timeout_that_the_attempt_wraps_is_still_ours(supervisor: Supervisor) -> None:
    """An error that nobody knows, raised from our own cancellation, is the timeout in other words: tried again."""

    async def attempt(attempt: Attempt) -> str:
        if attempt.number == 2:
            return "second"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as exc:
            raise OddError("the socket was closed") from exc
        raise AssertionError

    assert await supervisor.run(spec(policy=RetryPolicy(base=0.0, attempt_timeout_s=0.01)), attempt) == "second"


class OddError(Exception):
    """Nobody knows this one."""


async def test_the_deadline_ends_an_attempt(supervisor: Supervisor, journal: AnyJournal) -> None:
    """The deadline of the whole operation also ends an attempt that is being made, and is not retried."""

    async def attempt(_: Attempt) -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlineExceeded):
        await supervisor.run(spec(policy=RetryPolicy(deadline_s=0.01, attempt_timeout_s=5.0)), attempt)
    row = await row_of(journal)
    assert (row.state, row.category) == (State.FAILED, Category.DEADLINE)


async def test_a_port_that_is_taken_is_not_waited_for_without_end(journal: AnyJournal, supervisor: Supervisor) -> None:
    """The program that has it may run for ever: the budget of failures ends it, as with any other trouble."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        tries: list[int] = []

        async def attempt(attempt: Attempt) -> None:
            tries.append(attempt.number)
            with socket.socket() as mine:
                mine.bind(taken.getsockname())

        with pytest.raises(OSError, match="in use"):
            await supervisor.run(spec(), attempt)
    assert tries == [1, 2, 3, 4]
    row = await row_of(journal)
    assert (row.state, row.code) == (State.FAILED, "address-in-use")


NO_UNITS: list[tuple[Any, Any, type[Exception]]] = [
    (0.5, None, TypeError),
    ("1", None, TypeError),
    (None, None, TypeError),
    (1, 2.0, TypeError),
    (-1, None, ValueError),
    (1 << 63, None, ValueError),
    (1, -1, ValueError),
    (1, 1 << 63, ValueError),
]


@pytest.mark.parametrize(("done", "total", "error"), NO_UNITS)
async def test_progress_is_counted_in_whole_units(
    journal: AnyJournal, supervisor: Supervisor, done: Any, total: Any, error: type[Exception]
) -> None:
    """Whoever reports anything else is told where it is reported; the row keeps what was reported before."""

    async def attempt(attempt: Attempt) -> str:
        attempt.progress(3, 7)
        with pytest.raises(error, match="units"):
            attempt.progress(done, total)
        return "done"

    assert await supervisor.run(spec(), attempt) == "done"
    row = await row_of(journal)
    assert (row.state, row.progress_done, row.progress_total) == (State.COMPLETE, 3, 7)


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


async def test_a_hook_that_breaks_leaves_a_true_row(journal: AnyJournal, supervisor: Supervisor) -> None:
    """When undoing raises, that is what the caller gets; the row says failed, and nobody holds the lease."""

    async def broken(_: BaseException) -> bool:
        raise RuntimeError("cannot undo")

    with pytest.raises(RuntimeError, match="cannot undo"):
        await supervisor.run(spec(), Script(ValueError("hopeless")), on_give_up=broken)
    row = await row_of(journal)
    assert (row.state, row.owner, row.error) == (State.FAILED, None, "RuntimeError: cannot undo")
    assert len(await journal.attempts(row.operation_id)) == 1


def test_it_tells_what_it_uses(journal: AnyJournal, supervisor: Supervisor) -> None:
    """Others that work with its operations use its journal, through its edge."""
    assert supervisor.journal is journal
    assert supervisor.edge.trouble is None
    assert Supervisor().journal is None
