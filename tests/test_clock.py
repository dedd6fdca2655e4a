"""The clocks: the real one passes time on, the fake one moves only when told to and wakes sleepers in order."""

from __future__ import annotations

import asyncio
import time

import pytest

from recovery.clock import Clock, SystemClock
from recovery.testing import FakeClock


async def test_the_system_clock_tells_real_time() -> None:
    """Its readings lie between two readings of the operating system's clocks."""
    clock: Clock = SystemClock()
    before = (time.time(), time.monotonic())
    readings = (clock.time(), clock.monotonic())
    after = (time.time(), time.monotonic())
    assert before[0] <= readings[0] <= after[0]
    assert before[1] <= readings[1] <= after[1]


@pytest.mark.parametrize("seconds", [0.0, -5.0, 0.002])
async def test_the_system_clock_sleeps_at_least_as_long_as_asked(seconds: float) -> None:
    """Zero and less return without error, like a sleep of nothing."""
    clock = SystemClock()
    before = time.monotonic()
    await clock.sleep(seconds)
    assert time.monotonic() - before >= max(0.0, seconds) - 1e-4


async def sleeper(clock: FakeClock, seconds: float, log: list[tuple[str, float]], name: str) -> None:
    """Sleep once and note when."""
    await clock.sleep(seconds)
    log.append((name, clock.monotonic()))


async def test_advance_wakes_sleepers_each_at_its_own_time_and_in_order() -> None:
    """The order is that of the deadlines, not of the calls; of equal deadlines, that of the calls."""
    clock = FakeClock()
    log: list[tuple[str, float]] = []
    async with asyncio.TaskGroup() as group:
        for name, seconds in (("c", 3.0), ("a", 1.0), ("b1", 2.0), ("b2", 2.0)):
            group.create_task(sleeper(clock, seconds, log, name))
        await clock.advance(3.0)
    assert log == [("a", 1.0), ("b1", 2.0), ("b2", 2.0), ("c", 3.0)]


async def test_advance_wakes_nobody_early_and_ends_where_it_was_told() -> None:
    """A sleeper of 10 s sleeps on after 9.5 s, and the clock shows 9.5 s."""
    clock = FakeClock(start=1000.0)
    log: list[tuple[str, float]] = []
    task = asyncio.create_task(sleeper(clock, 10.0, log, "x"))
    await clock.advance(9.5)
    assert (log, clock.monotonic(), clock.time(), clock.next_wake_s) == ([], 9.5, 1009.5, 0.5)
    assert repr(clock) == "<FakeClock +9.5 s, 1 sleeping>"
    await clock.advance(0.5)
    await task
    assert log == [("x", 10.0)]
    assert clock.next_wake_s is None


async def test_who_sleeps_again_while_time_advances_is_woken_again() -> None:
    """A loop that sleeps a second at a time runs five times in five seconds."""
    clock = FakeClock()
    ticks: list[float] = []

    async def ticking() -> None:
        while True:
            await clock.sleep(1.0)
            ticks.append(clock.monotonic())

    task = asyncio.create_task(ticking())
    await clock.advance(5.0)
    task.cancel()
    assert ticks == [1.0, 2.0, 3.0, 4.0, 5.0]


async def test_a_sleeper_that_is_cancelled_is_forgotten() -> None:
    """Cancelling a sleep leaves nobody sleeping and does not disturb the next."""
    clock = FakeClock()
    log: list[tuple[str, float]] = []
    cancelled = asyncio.create_task(sleeper(clock, 1.0, log, "cancelled"))
    kept = asyncio.create_task(sleeper(clock, 2.0, log, "kept"))
    await clock.until_sleeping(2)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert clock.sleepers == 1
    await clock.advance(2.0)
    await kept
    assert log == [("kept", 2.0)]


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_a_sleep_of_nothing_yields_once(seconds: float) -> None:
    """Others get their turn, and no time has to pass."""
    clock = FakeClock()
    turns: list[str] = []

    async def other() -> None:
        turns.append("other")

    task = asyncio.create_task(other())
    await clock.sleep(seconds)
    assert (turns, clock.sleepers, clock.monotonic()) == (["other"], 0, 0.0)
    await task


async def test_until_sleeping_waits_for_work_in_threads() -> None:
    """A coroutine that first goes through a thread is waited for; a watcher that is cancelled leaves nothing behind."""
    clock = FakeClock()
    log: list[tuple[str, float]] = []

    async def through_a_thread(name: str) -> None:
        await asyncio.to_thread(time.monotonic)
        await sleeper(clock, 1.0, log, name)

    watcher = asyncio.create_task(clock.until_sleeping(3))
    await asyncio.sleep(0)
    async with asyncio.TaskGroup() as group:
        group.create_task(through_a_thread("a"))
        group.create_task(through_a_thread("b"))
        await clock.until_sleeping(2)
        watcher.cancel()
        await clock.advance(1.0)
    assert {("a", 1.0), ("b", 1.0)} == set(log)
    with pytest.raises(asyncio.CancelledError):
        await watcher


async def test_two_watchers_are_both_told() -> None:
    """Each is woken by its own number of sleepers."""
    clock = FakeClock()
    log: list[tuple[str, float]] = []
    watchers = [asyncio.create_task(clock.until_sleeping(number)) for number in (1, 1, 2)]
    await asyncio.sleep(0)
    sleepers = [asyncio.create_task(sleeper(clock, 1.0, log, name)) for name in ("a", "b")]
    await asyncio.gather(*watchers)
    await clock.advance(1.0)
    await asyncio.gather(*sleepers)
    assert log == [("a", 1.0), ("b", 1.0)]


async def test_in_auto_mode_days_pass_by_themselves_and_in_order() -> None:
    """Two loops of different rhythm run to their end without anybody moving the clock."""
    clock = FakeClock(auto=True)
    log: list[tuple[str, float]] = []

    async def rhythm(name: str, seconds: float, times: int) -> None:
        for _ in range(times):
            await sleeper(clock, seconds, log, name)

    await asyncio.gather(rhythm("day", 86_400.0, 2), rhythm("noon", 43_200.0 + 1, 2))
    assert log == [("noon", 43_201.0), ("day", 86_400.0), ("noon", 86_402.0), ("day", 172_800.0)]


async def test_auto_mode_rests_when_nobody_sleeps_and_starts_again() -> None:
    """The clock stands still between two sleeps that have nothing to do with each other."""
    clock = FakeClock(auto=True)
    await clock.sleep(1.0)
    for _ in range(100):
        await asyncio.sleep(0)
    assert clock.monotonic() == 1.0
    await clock.sleep(1.0)
    assert clock.monotonic() == 2.0


async def test_setting_the_wall_clock_does_not_move_the_monotonic_one() -> None:
    """A jump back by an hour changes what time it is, not how long anybody sleeps."""
    clock = FakeClock(start=10_000.0)
    await clock.advance(5.0)
    clock.jump(-3600.0)
    assert (clock.time(), clock.monotonic()) == (6405.0, 5.0)
