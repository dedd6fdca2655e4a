"""The sweeper: what nobody does becomes eligible again, once, and what kills its owners is stopped."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from recovery.database import Database
from recovery.journal import JOURNAL, Journal
from recovery.owner import new_owner
from recovery.policy import RetryPolicy
from recovery.records import Change, Operation, OperationSpec
from recovery.states import State
from recovery.sweeper import Sweep, Sweeper
from recovery.testing import FakeClock
from recovery.verdict import Action, Category, Condition, Verdict

LEASE_S = 15.0
LATER = Verdict(category=Category.THROTTLED, action=Action.AFTER, code="throttled", message="later")
FULL = Verdict(
    category=Category.DISK_FULL, action=Action.PARK, code="full", message="full", condition=Condition.DISK_SPACE
)


@pytest.fixture
def clock() -> FakeClock:
    """Return virtual time."""
    return FakeClock()


@pytest.fixture
async def journal(state_path: Path, clock: FakeClock) -> AsyncIterator[Journal]:
    """Return a journal in a file."""
    async with await Database.open(state_path, [JOURNAL]) as database:
        yield Journal(database, clock=clock)


@pytest.fixture
def sweeper(journal: Journal, clock: FakeClock) -> Sweeper:
    """Return a sweeper that owns no leases."""
    return Sweeper(journal, clock=clock)


def spec(key: str) -> OperationSpec:
    """Return an operation whose id is its key."""
    return OperationSpec(kind="test", key=key, operation_id=key, policy=RetryPolicy())


async def begun(journal: Journal, clock: FakeClock, key: str, *, owner: str = "owner") -> int:
    """Begin an operation and take its lease; return the generation."""
    _, generation = await journal.begin_and_claim(spec(key), owner=owner, ttl_s=LEASE_S, now=clock.time())
    assert generation is not None
    return generation


async def state_of(journal: Journal, key: str) -> State:
    """Return an operation's state."""
    row = await journal.get(key)
    assert row is not None
    return row.state


# --- what is swept ---

# state, verdict, seconds until it is due, whether its owner keeps the lease, the state after a sweep 20 s later
WHAT = [
    (State.RUNNING, None, None, True, State.RUNNING),
    (State.RUNNING, None, None, False, State.QUEUED),
    (State.VERIFYING, None, None, True, State.VERIFYING),
    (State.VERIFYING, None, None, False, State.QUEUED),
    (State.WAITING, LATER, 10.0, True, State.WAITING),
    (State.WAITING, LATER, 10.0, False, State.QUEUED),
    (State.WAITING, LATER, 60.0, False, State.WAITING),
    (State.PARKED, FULL, 10.0, False, State.QUEUED),
    (State.PARKED, FULL, 60.0, False, State.PARKED),
    (State.PAUSED, None, None, False, State.PAUSED),
    (State.COMPLETE, None, None, False, State.COMPLETE),
    (State.FAILED, LATER, None, False, State.FAILED),
    (State.CANCELLED, None, None, False, State.CANCELLED),
]


@pytest.mark.parametrize(("state", "verdict", "due_s", "kept", "expected"), WHAT)
async def test_what_nobody_does_becomes_eligible(
    journal: Journal,
    clock: FakeClock,
    sweeper: Sweeper,
    state: State,
    verdict: Verdict | None,
    due_s: float | None,
    kept: bool,
    expected: State,
) -> None:
    """What runs without a live lease, and what waits beyond its time without one, is queued; all else stays."""
    generation = await begun(journal, clock, "it")
    next_at = None if due_s is None else clock.time() + due_s
    await journal.record("it", generation, Change(state=state, verdict=verdict, next_at=next_at, now=clock.time()))
    await sweeper.sweep()
    await clock.advance(20.0)
    if kept:
        assert await journal.renew("it", generation, ttl_s=LEASE_S, now=clock.time())
    swept = await sweeper.sweep()
    assert await state_of(journal, "it") is expected
    assert bool(swept) is (expected is not state)
    assert not await sweeper.sweep()


async def test_the_sweep_says_what_it_did(journal: Journal, clock: FakeClock) -> None:
    """Orphans and what is due are told apart, as rows that are queued; a sweep that changed nothing is not told."""
    told: list[Sweep] = []
    sweeper = Sweeper(journal, clock=clock, on_sweep=told.append)
    await begun(journal, clock, "orphan")
    waiting = await begun(journal, clock, "due")
    await journal.release("due", waiting, State.WAITING, next_at=clock.time() + 1.0, now=clock.time())
    await sweeper.sweep()
    assert told == []
    await clock.advance(20.0)
    await sweeper.sweep()
    (sweep,) = told
    assert ([row.operation_id for row in sweep.orphaned], [row.operation_id for row in sweep.due]) == (
        ["orphan"],
        ["due"],
    )
    assert {(row.state, row.owner) for row in (*sweep.orphaned, *sweep.due)} == {(State.QUEUED, None)}
    assert [row.deaths for row in (*sweep.orphaned, *sweep.due)] == [1, 0]


async def test_nobody_sweeps_away_what_is_its_own(journal: Journal, clock: FakeClock) -> None:
    """A process whose own leases have run out (it was suspended) is about to renew them; others may judge them."""
    await begun(journal, clock, "mine", owner="me")
    mine, other = Sweeper(journal, clock=clock, owner="me"), Sweeper(journal, clock=clock, owner="another")
    await clock.advance(20.0)
    assert not await mine.sweep()
    assert [row.operation_id for row in (await other.sweep()).orphaned] == ["mine"]


async def test_a_late_owner_takes_its_own_back(journal: Journal, clock: FakeClock, sweeper: Sweeper) -> None:
    """Swept up but not taken by anybody: its owner renews, goes on, and has not died."""
    generation = await begun(journal, clock, "it")
    await clock.advance(20.0)
    await sweeper.sweep()
    assert await journal.renew("it", generation, ttl_s=LEASE_S, now=clock.time())
    row = await journal.get("it")
    assert row is not None
    assert (row.state, row.owner, row.deaths) == (State.RUNNING, "owner", 0)


# --- crash loops ---


async def die(journal: Journal, clock: FakeClock, sweeper: Sweeper, *, progress: int | None = None) -> Sweep:
    """Let an owner take the operation and die of it."""
    generation = await begun(journal, clock, "it")
    if progress is not None:
        await journal.renew("it", generation, ttl_s=LEASE_S, now=clock.time(), progress=(progress, None))
    await clock.advance(20.0)
    return await sweeper.sweep()


async def test_three_deaths_are_a_crash_loop(journal: Journal, clock: FakeClock, sweeper: Sweeper) -> None:
    """The third owner that dies without progress is the last: the operation fails, says why, and is left alone."""
    assert [bool((await die(journal, clock, sweeper)).quarantined) for _ in range(3)] == [False, False, True]
    row = await journal.get("it")
    assert row is not None
    assert (row.state, row.code, row.deaths, row.owner) == (State.FAILED, "crash-loop", 3, None)
    assert row.user_actions
    await clock.advance(3600.0)
    assert not await sweeper.sweep()


async def test_many_crash_loops_among_many_orphans_are_told_apart_by_themselves(
    journal: Journal, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fleet dies: no row is compared with the others while the state file is locked for the sweep."""
    compared: list[str] = []

    def compare(one: Operation, other: object) -> bool:
        compared.append(one.operation_id)
        return one is other

    monkeypatch.setattr(Operation, "__eq__", compare)
    sweeper = Sweeper(journal, clock=clock, most_deaths=2)
    old, new = ([f"{kind}{number}" for number in range(20)] for kind in ("old", "new"))
    for names in (old, [*old, *new]):
        for name in names:
            await begun(journal, clock, name)
        await clock.advance(20.0)
        compared.clear()
        swept = await sweeper.sweep()
    assert {row.operation_id for row in swept.quarantined} == set(old)
    assert {row.operation_id for row in swept.orphaned} == set(new)
    assert compared == []


async def test_deaths_with_progress_are_none(journal: Journal, clock: FakeClock, sweeper: Sweeper) -> None:
    """Who comes further each time may die as often as it likes."""
    for done in range(1, 8):
        assert not (await die(journal, clock, sweeper, progress=done)).quarantined
    assert await state_of(journal, "it") is State.QUEUED


async def test_the_last_owner_of_a_crash_loop_is_fenced(journal: Journal, clock: FakeClock, sweeper: Sweeper) -> None:
    """An owner that was only slow does not bring back what was given up."""
    await die(journal, clock, sweeper)
    await die(journal, clock, sweeper)
    generation = await begun(journal, clock, "it")
    await clock.advance(20.0)
    await sweeper.sweep()
    assert not await journal.renew("it", generation, ttl_s=LEASE_S, now=clock.time())


# --- clocks ---


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
async def test_a_clock_that_was_set_costs_nobody_a_lease(
    journal: Journal, clock: FakeClock, sweeper: Sweeper, jump_s: float
) -> None:
    """After the clock was set (or the machine slept) all leases seem to have run out: their owners get time."""
    generation = await begun(journal, clock, "it")
    await sweeper.sweep()
    clock.jump(jump_s)
    for _ in range(4):
        await clock.advance(5.0)
        await sweeper.sweep()
        assert await journal.renew("it", generation, ttl_s=LEASE_S, now=clock.time())
        assert await state_of(journal, "it") is State.RUNNING
    await clock.advance(60.0)
    await sweeper.sweep()
    assert await state_of(journal, "it") is State.QUEUED


# --- going on ---


async def test_it_goes_on_whatever_happens(
    journal: Journal, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A sweep that fails is logged and the next one comes; the ``with`` block ends it."""
    sweeps = []

    async def broken(self: Sweeper) -> Sweep:
        sweeps.append(clock.monotonic())
        raise RuntimeError("a defect")

    monkeypatch.setattr(Sweeper, "sweep", broken)
    async with Sweeper(journal, clock=clock, every_s=5.0):
        await clock.advance(12.0)
    await clock.advance(60.0)
    assert sweeps == [0.0, 5.0, 10.0]
    assert caplog.text.count("the sweep failed") == 3


async def test_it_ends_with_the_database(state_path: Path, clock: FakeClock) -> None:
    """When the database is closed there is nothing left to sweep."""
    async with await Database.open(state_path, [JOURNAL]) as database:
        task = asyncio.create_task(Sweeper(Journal(database, clock=clock), clock=clock).run())
        await clock.until_sleeping()
    await clock.advance(6.0)
    async with asyncio.timeout(10):
        await task


async def test_it_forgets_once_an_hour(journal: Journal, clock: FakeClock) -> None:
    """What ended long ago is forgotten, without looking for it every few seconds."""
    sweeper = Sweeper(journal, clock=clock, keep_s=1000.0)
    generation = await begun(journal, clock, "old")
    await journal.record("old", generation, Change(state=State.COMPLETE, now=clock.time()))
    pruned = []
    for seconds in (0.0, 2000.0, 1601.0, 10.0):
        await clock.advance(seconds)
        pruned.append((await sweeper.sweep()).pruned)
    assert pruned == [0, 0, 1, 0]
    assert await journal.get("old") is None


# --- processes ---


def in_process(work: Callable[..., Any], *args: Any) -> BaseProcess:
    """Run a coroutine function in a process of its own, which is not a fork of this one."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=args)
    process.start()
    return process


def claim_and_hang(path: Path, ready: Any) -> None:
    """Take a lease for an hour, and never come back."""

    async def run() -> None:
        async with await Database.open(path, [JOURNAL]) as database:
            now = FakeClock().time()
            await Journal(database).begin_and_claim(spec("it"), owner=new_owner(), ttl_s=3600.0, now=now)
            ready.set()
            await asyncio.sleep(3600)

    asyncio.run(run())


@pytest.mark.blocking
async def test_a_killed_owner_is_known_at_once(journal: Journal, sweeper: Sweeper, state_path: Path) -> None:
    """Nobody waits for the lease of a process that is known to be dead."""
    ready = multiprocessing.get_context("spawn").Event()
    process = in_process(claim_and_hang, state_path, ready)
    assert await asyncio.to_thread(ready.wait, 60)
    assert not await sweeper.sweep()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    await asyncio.to_thread(process.join, 60)
    assert [row.operation_id for row in (await sweeper.sweep()).orphaned] == ["it"]


def sweep_together(path: Path, start: Any, found: Any, number: int) -> None:
    """Sweep when everybody does, and tell what was changed here."""

    async def run() -> tuple[Operation, ...]:
        async with await Database.open(path, [JOURNAL]) as database:
            clock = FakeClock()
            clock.jump(60.0)
            sweeper = Sweeper(Journal(database, clock=clock), clock=clock)
            start.wait()
            sweep = await sweeper.sweep()
            return (*sweep.orphaned, *sweep.due)

    found.put((number, [row.operation_id for row in asyncio.run(run())]))


@pytest.mark.blocking
async def test_many_sweepers_need_no_lease(journal: Journal, clock: FakeClock, state_path: Path) -> None:
    """Four processes sweep the same file in the same moment: each operation is queued once, told by one of them."""
    for number in range(40):
        generation = await begun(journal, clock, f"op {number:02}")
        if number % 2:
            await journal.release(f"op {number:02}", generation, State.WAITING, next_at=clock.time(), now=clock.time())
    context = multiprocessing.get_context("spawn")
    start, found = context.Barrier(4), context.Queue()
    processes = [in_process(sweep_together, state_path, start, found, number) for number in range(4)]
    told = [await asyncio.to_thread(found.get, True, 60) for _ in processes]
    for process in processes:
        await asyncio.to_thread(process.join, 60)
    assert sorted(name for _, names in told for name in names) == [f"op {number:02}" for number in range(40)]
    rows = await journal.list()
    assert {row.state for row in rows} == {State.QUEUED}
    assert sorted(row.deaths for row in rows) == [0] * 20 + [1] * 20
