"""Leases: another owner, renewal, loss, deaths."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from recovery.control import Attempt, Control
from recovery.lifecycle import Fenced
from recovery.states import State
from recovery.supervisor import (
    CrashLooping,
    LeaseHeld,
    Supervisor,
)
from recovery.testing import FakeClock, MemoryJournal
from recovery.verdict import Action, Category, Verdict
from tests.supervising import (
    AnyJournal,
    Held,
    Recorder,
    Script,
    ServerSaysLaterError,
    advance,
    journal_of,
    row_of,
    spec,
)

# --- leases ---


async def test_another_owner_is_not_disturbed(journal: AnyJournal, supervisor: Supervisor, clock: FakeClock) -> None:
    """While somebody else holds the lease nothing is run, and the caller gets the row."""
    await journal.begin_and_claim(spec(), owner="another", ttl_s=15, now=clock.time())
    script = Script("never")
    with pytest.raises(LeaseHeld) as caught:
        await supervisor.run(spec(), script)
    assert (caught.value.operation.owner, script.seen) == ("another", [])


async def test_what_is_read_as_the_lease_is_taken(state_path: Path, clock: FakeClock) -> None:
    """In the transaction of the claim: its row is there, and nobody can change anything in between."""
    seen: list[tuple[str, str, int]] = []

    def look(conn: sqlite3.Connection, generation: int) -> None:
        assert generation == conn.execute("SELECT generation FROM operations").fetchone()[0]
        seen.append(conn.execute("SELECT state, owner, generation FROM operations").fetchone())

    async with journal_of("file", state_path, clock) as journal:
        supervisor = Supervisor(journal, clock=clock, owner="me")
        assert await supervisor.run(spec(), Script("done"), on_claim=look) == "done"
        assert seen == [("running", "me", 1)]
        await journal.begin_and_claim(spec("other"), owner="another", ttl_s=15, now=clock.time())
        with pytest.raises(LeaseHeld):
            await supervisor.run(spec("other"), Script("never"), on_claim=look)
        assert len(seen) == 1, "no lease, no look"


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


async def test_after_a_person_has_retried_a_crash_loop_may_die_again(journal: AnyJournal, clock: FakeClock) -> None:
    """Three times, as at the beginning: the button opens a fresh budget, of deaths too."""
    await die(journal, clock, 3)
    asked = spec(operation_id=(await row_of(journal)).operation_id)
    with pytest.raises(CrashLooping):
        await Supervisor(journal, clock=clock).run(asked, Script("never"))
    control, held = Control(), Held()
    control.retry_now()
    task = asyncio.create_task(Supervisor(journal, clock=clock).run(asked, held, control=control))
    await held.started.wait()
    assert (await row_of(journal)).deaths == 0
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await die(journal, clock, 2)
    assert await Supervisor(journal, clock=clock).run(asked, Script("again")) == "again"
