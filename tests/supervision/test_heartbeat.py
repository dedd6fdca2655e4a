"""The heartbeat: one task for all leases, which it renews in time, and the way commands of others come in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

import pytest

from recovery.control import Attempt, Control
from recovery.events import HealthEvent
from recovery.heartbeat import Heartbeat
from recovery.logbook import Logbook, StoreEdge
from recovery.policy import RetryPolicy
from recovery.records import Command, OperationSpec
from recovery.supervisor import Supervisor
from recovery.testing import FakeClock, MemoryJournal
from tests.supervising import spec, turns

TTL_S = 15.0


class Beaten:
    """A run, as the heartbeat sees it."""

    def __init__(self, journal: MemoryJournal, clock: FakeClock, key: str) -> None:
        self.book = Logbook(journal, StoreEdge(clock), spec(key), owner="me", ttl_s=TTL_S, now=clock.time())
        self.control = Control()
        self.renewed: list[float] = []
        self.lost = False
        self.keeps = True
        self._clock = clock

    async def renew(self) -> bool:
        """Note when."""
        self.renewed.append(self._clock.monotonic())
        await asyncio.sleep(0)
        return self.keeps

    def lose(self) -> None:
        """Note that."""
        self.lost = True


class Beats:
    """A heartbeat with its clock and journal."""

    def __init__(self, ttl_s: float = TTL_S) -> None:
        self.clock = FakeClock()
        self.journal = MemoryJournal(clock=self.clock)
        self.told: list[HealthEvent] = []
        self.heartbeat = Heartbeat(self.journal, StoreEdge(self.clock, self.told.append), self.clock, ttl_s=ttl_s)

    def run(self, key: str) -> Beaten:
        """Add a run."""
        run = Beaten(self.journal, self.clock, key)
        self.heartbeat.add(run)
        return run


def beating() -> list[str]:
    """Return the heartbeats that are alive."""
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "recovery heartbeat"]


@pytest.mark.parametrize("seconds", [3_600.0, -3_600.0])
async def test_a_jump_of_the_clock_renews_every_lease_at_once(seconds: float) -> None:
    """A laptop that slept: for 5 s whoever called the same operation took it from an owner that was at work on it."""
    beats = Beats()
    run = beats.run("first")
    await beats.clock.advance(1.1)
    beats.clock.jump(seconds)
    await beats.clock.advance(1.0)
    assert run.renewed == [1.5]
    await beats.clock.advance(5.0)
    assert run.renewed == [1.5, 6.5]


async def test_a_third_of_its_life_each() -> None:
    """Each lease is renewed when a third of its life is over, counted from when it was taken, by one task for all."""
    beats = Beats()
    first = beats.run("first")
    await beats.clock.advance(2.0)
    second = beats.run("second")
    assert beating() == ["recovery heartbeat"]
    await beats.clock.advance(18.2)
    assert first.renewed == [5.0, 10.0, 15.0, 20.0]
    assert second.renewed == [7.0, 12.0, 17.0]
    for run in (first, second):
        beats.heartbeat.discard(run)
    await turns(3)
    assert beating() == []


async def test_it_lives_only_while_something_runs() -> None:
    """It ends with the last run, begins again with the next, and discarding twice is once."""
    beats = Beats()
    first, second = beats.run("first"), beats.run("second")
    beats.heartbeat.discard(first)
    beats.heartbeat.discard(first)
    await turns(3)
    assert beating() == ["recovery heartbeat"]
    beats.heartbeat.discard(second)
    await turns(3)
    assert beating() == []
    third = beats.run("third")
    await beats.clock.advance(5.0)
    assert third.renewed == [5.0]
    beats.heartbeat.discard(third)
    await turns(3)


@pytest.mark.parametrize("ttl_s", [0.3, 0.9, 60.0])
async def test_short_leases_are_kept_too(ttl_s: float) -> None:
    """A lease shorter than the look for commands is still renewed before it ends."""
    beats = Beats(ttl_s)
    run = beats.run("run")
    await beats.clock.advance(ttl_s * 5)
    gaps = [after - before for before, after in zip([0.0, *run.renewed], run.renewed, strict=False)]
    assert max(gaps) < ttl_s
    beats.heartbeat.discard(run)
    await turns(3)


async def test_a_lost_lease_is_told_and_only_that_one() -> None:
    """Who loses its lease hears of it; the others do not."""
    beats = Beats()
    kept, lost = beats.run("kept"), beats.run("lost")
    lost.keeps = False
    await beats.clock.advance(5.0)
    assert (kept.lost, lost.lost) == (False, True)
    for run in (kept, lost):
        beats.heartbeat.discard(run)
    await turns(3)


async def test_a_run_that_ends_while_it_is_renewed_stays_away() -> None:
    """A renewal that is under way when its run ends does not bring it back."""
    beats = Beats()
    staying, ending = beats.run("staying"), beats.run("ending")

    async def renew_and_end() -> bool:
        ending.renewed.append(beats.clock.monotonic())
        beats.heartbeat.discard(ending)
        return True

    ending.renew = renew_and_end  # type: ignore[method-assign]
    await beats.clock.advance(30.0)
    assert ending.renewed == [5.0]
    assert len(staying.renewed) == 6
    beats.heartbeat.discard(staying)
    await turns(3)


class Late(MemoryJournal):
    """A journal in which somebody else's commands come along."""

    async def take_commands(self, operation_ids: Collection[str]) -> list[Command]:
        """Hand out one that was meant for somebody else, too."""
        mine = await super().take_commands(operation_ids)
        return [Command(request_id="1", operation_id="somebody else's", name="cancel"), *mine]


async def test_commands_go_to_whom_they_are_for(caplog: pytest.LogCaptureFixture) -> None:
    """Each wish reaches its run within half a second, once; one for nobody, or that nobody knows, is logged."""
    beats = Beats()
    beats.journal = Late(clock=beats.clock)
    beats.heartbeat = Heartbeat(beats.journal, StoreEdge(beats.clock), beats.clock, ttl_s=TTL_S)
    one, other = beats.run("one"), beats.run("other")
    for run in (one, other):
        await run.book.claim(beats.clock.time())
    await beats.journal.post_command(one.book.operation.operation_id, "pause")
    await beats.journal.post_command(other.book.operation.operation_id, "sing")
    await beats.clock.advance(0.5)
    assert (one.control.requested, other.control.requested) == ("pause", None)
    assert [record.__dict__["command"] for record in caplog.records] == ["cancel", "sing"]
    for run in (one, other):
        beats.heartbeat.discard(run)
    await turns(3)


async def test_a_store_that_fails_for_a_while() -> None:
    """While the store fails the heart beats on, says so once, and says when it works again."""
    beats = Beats()
    run = beats.run("run")
    beats.journal.fail_with = OSError(5, "I/O")
    await beats.clock.advance(10.0)
    beats.journal.fail_with = None
    await beats.clock.advance(10.0)
    assert [event.health for event in beats.told] == ["degraded", "ok"]
    assert len(run.renewed) == 4
    beats.heartbeat.discard(run)
    await turns(3)


def test_a_lease_is_kept_in_a_second_event_loop_as_well() -> None:
    """A program may call ``asyncio.run`` more than once with one supervisor; what ran first left nothing behind."""
    journal = MemoryJournal()
    supervisor = Supervisor(journal, owner="me", lease_ttl_s=1.5)

    async def at_once(_: Attempt) -> float:
        return 0.0

    async def long(_: Attempt) -> float:
        before = await lease("long")
        async with asyncio.timeout(10):
            while (now := await lease("long")) == before:
                await asyncio.sleep(0.01)
        return now - before

    async def lease(name: str) -> float:
        row = await journal.get(name)
        assert row is not None
        assert row.lease_until is not None
        return row.lease_until

    def run(name: str, attempt: Callable[[Attempt], Awaitable[float]]) -> float:
        spec = OperationSpec(kind="test", key=name, operation_id=name, policy=RetryPolicy())
        return asyncio.run(supervisor.run(spec, attempt))

    run("quick", at_once)
    assert run("long", long) > 0


async def test_a_renewal_that_took_long_is_not_followed_later_for_it() -> None:
    """A lease counts from when its renewal was asked for; so does the next one, or it would run out on a disk that is
    well again.
    """
    beats = Beats()
    run = beats.run("run")
    renew = run.renew

    async def slowly() -> bool:
        kept = await renew()
        await beats.clock.sleep(3.0)
        return kept

    run.renew = slowly  # type: ignore[method-assign]
    await beats.clock.advance(10.6)
    assert run.renewed == [5.0, 10.0]
    beats.heartbeat.discard(run)
    await turns(3)
