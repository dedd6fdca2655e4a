"""Trouble with the store never becomes trouble of the operation."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from recovery import run as run_module
from recovery.control import Attempt
from recovery.events import HealthEvent
from recovery.lifecycle import Fenced
from recovery.records import Change, Operation
from recovery.states import State
from recovery.supervisor import (
    Supervisor,
)
from recovery.testing import FakeClock, MemoryJournal
from tests.supervising import (
    RESET,
    AnyJournal,
    Held,
    Recorder,
    Script,
    advance,
    journal_of,
    row_of,
    spec,
    turns,
)


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


async def test_what_the_schema_refuses_holds_up_nothing(
    state_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect of ours is no trouble of the store: the lease is renewed, the end recorded, and the next one too."""
    async with journal_of("file", state_path, clock) as journal:
        health, held = Health(), Held()
        supervisor = Supervisor(journal, clock=clock, lease_ttl_s=15.0, on_health=health)

        async def attempt(attempt: Attempt) -> str:
            attempt.done = 0.5  # type: ignore[assignment]  # what a column of whole numbers does not take
            return await held(attempt)

        task = asyncio.create_task(supervisor.run(spec(), attempt))
        await held.started.wait()
        await advance(clock, 20.0)
        assert (await row_of(journal)).leased(clock.time())
        held.go.set()
        assert await task == "done"
        row = await row_of(journal)
        assert (row.state, row.owner, row.progress_done) == (State.COMPLETE, None, 0)
        assert (health, supervisor.edge.trouble) == ([], None)
        assert {"progress-refused", "entry-refused"} <= {record.message for record in caplog.records}


class Picky(MemoryJournal):
    """Takes no waits, whatever is left out of them."""

    async def record(self, operation_id: str, generation: int, change: Change) -> Operation:
        """See ``Journal.record``."""
        if change.state is State.WAITING:
            raise ValueError("no waits here")
        return await super().record(operation_id, generation, change)


async def test_what_is_refused_in_every_form_is_left_out(clock: FakeClock) -> None:
    """It is told to those who watch, and what follows it is recorded."""
    journal, events = Picky(clock=clock), Recorder()
    supervisor = Supervisor(journal, clock=clock, draw=lambda: 0.0, on_event=events)
    assert await supervisor.run(spec(), Script(RESET, 5)) == 5
    assert events.steps == ["running", "waiting", "running", "complete"]
    assert journal.writes == ["claim", "running", "complete"]
    assert (supervisor.edge.trouble, (await row_of(journal)).state) == (None, State.COMPLETE)


async def test_a_heartbeat_that_dies_is_reported(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect in the heartbeat is logged, and the heart beats on: nobody loses a lease by it."""
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
    await clock.advance(20.0)
    assert (await row_of(journal)).leased(clock.time())
    held.go.set()
    assert await task == "done"
    await turns()
    assert {task for task in asyncio.all_tasks() if task is not asyncio.current_task()} == set()
