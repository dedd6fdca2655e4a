"""The supervisor waits: for a time, for a condition, across processes."""

from __future__ import annotations

import asyncio

import pytest

from recovery.control import Attempt, Control
from recovery.policy import RetryPolicy
from recovery.states import State
from recovery.supervisor import (
    OperationDeferred,
    Supervisor,
)
from recovery.testing import FakeClock
from recovery.verdict import Condition
from tests.supervising import (
    FULL,
    RESET,
    AnyJournal,
    Held,
    Recorder,
    Script,
    ServerSaysLaterError,
    advance,
    row_of,
    spec,
)

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


@pytest.mark.parametrize("by", ["control", "command"])
async def test_retry_now_during_an_attempt_does_not_end_the_next_wait(
    journal: AnyJournal, supervisor: Supervisor, clock: FakeClock, by: str
) -> None:
    """Pressed while it runs, the button has nothing to do: a server that says "in a minute" is not asked at once."""
    control, held = Control(), Held()

    async def attempt(attempt: Attempt) -> str:
        if attempt.number == 1:
            await held(attempt)
            raise ServerSaysLaterError(60)
        return "done"

    task = asyncio.create_task(supervisor.run(spec(), attempt, control=control))
    await held.started.wait()
    if by == "control":
        control.retry_now()
    else:
        await journal.post_command((await row_of(journal)).operation_id, "retry_now")
        await advance(clock, 0.75)
    held.go.set()
    await clock.until_sleeping(2)
    await advance(clock, 50)
    assert (held.tries, task.done(), (await row_of(journal)).state) == (1, False, State.WAITING)
    await advance(clock, 12)
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

    async def disk_is_free(error: BaseException) -> bool:
        assert error is FULL
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

    async def broken(_: BaseException) -> bool:
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
