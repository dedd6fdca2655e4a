"""What can be asked of the journal: lists, what is due, what has lost its owner, what is new, and the numbers."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from recovery.database import Database
from recovery.history import History
from recovery.journal import AttemptRecord, Fenced, Journal, check_generation
from recovery.records import Change, Operation
from recovery.siderows import put_step
from recovery.states import IllegalTransition, State
from recovery.taxonomy import network
from recovery.testing import FakeClock
from tests.supervising import spec

TTL = 15.0


async def begin(
    journal: Journal, clock: FakeClock, key: str, state: State | None = None, *, project: str = "", **more: Any
) -> Operation:
    """Begin an operation; with a state it was claimed and brought there."""
    wanted = spec(key, operation_id=key, project=project)
    if state is None:
        return await journal.begin(wanted, now=clock.time())
    row, generation = await journal.begin_and_claim(wanted, owner="one", ttl_s=TTL, now=clock.time())
    assert generation is not None
    if state is State.RUNNING:
        return row
    return await journal.record(key, generation, Change(state=state, now=clock.time(), **more))


async def test_lists_are_filtered_and_newest_first(journal: Journal, clock: FakeClock) -> None:
    """By state, project, kind, and how many."""
    for number, state in enumerate([None, State.RUNNING, State.COMPLETE, State.FAILED]):
        await begin(journal, clock, str(number), state, project="even" if number % 2 == 0 else "odd")
        await clock.advance(1.0)
    keys = {
        "all": [row.key for row in await journal.list()],
        "ended": [row.key for row in await journal.list([State.COMPLETE, State.FAILED])],
        "no state": [row.key for row in await journal.list([])],
        "odd": [row.key for row in await journal.list(project="odd")],
        "ended and odd": [row.key for row in await journal.list({State.COMPLETE, State.FAILED}, "odd")],
        "of a kind": [row.key for row in await journal.list(kind="test")],
        "of no kind": [row.key for row in await journal.list(kind="other")],
        "two": [row.key for row in await journal.list(limit=2)],
    }
    assert keys == {
        "all": ["3", "2", "1", "0"],
        "ended": ["3", "2"],
        "no state": [],
        "odd": ["3", "1"],
        "ended and odd": ["3"],
        "of a kind": ["3", "2", "1", "0"],
        "of no kind": [],
        "two": ["3", "2"],
    }


async def test_what_is_due(journal: Journal, clock: FakeClock) -> None:
    """Waiting or parked, its time has come, and its owner has given it up or let the lease run out."""
    now = clock.time()
    await begin(journal, clock, "soon", State.WAITING, next_at=now + 20.0)
    await begin(journal, clock, "later", State.WAITING, next_at=now + 100.0)
    await begin(journal, clock, "parked", State.PARKED, next_at=now + 20.0)
    await begin(journal, clock, "parked for good", State.PARKED)
    await begin(journal, clock, "running", State.RUNNING)
    assert await journal.due(now) == []
    await clock.advance(20.0)
    assert {row.key for row in await journal.due(clock.time())} == {"soon", "parked"}
    soon = spec("soon", operation_id="soon")
    _, generation = await journal.begin_and_claim(soon, owner="two", ttl_s=TTL, now=clock.time())
    assert generation is not None
    await journal.record("soon", generation, Change(state=State.WAITING, next_at=clock.time(), now=clock.time()))
    assert {row.key for row in await journal.due(clock.time())} == {"parked"}, "its owner waits for it by itself"
    await journal.release("soon", generation, State.WAITING, next_at=clock.time(), now=clock.time())
    assert {row.key for row in await journal.due(clock.time())} == {"soon", "parked"}


async def test_what_has_lost_its_owner(journal: Journal, clock: FakeClock) -> None:
    """Said to run, or to be verified, although the lease has run out."""
    await begin(journal, clock, "running", State.RUNNING)
    await begin(journal, clock, "verifying", State.VERIFYING)
    await begin(journal, clock, "queued")
    await begin(journal, clock, "waiting", State.WAITING)
    assert await journal.expired(clock.time()) == []
    await clock.advance(TTL)
    assert {row.key for row in await journal.expired(clock.time())} == {"running", "verifying"}


async def test_changes_are_followed_in_order(journal: Journal, clock: FakeClock) -> None:
    """Whoever asks for what is newer than the last rev it saw misses nothing."""
    seen: list[tuple[str, State]] = []
    rev = 0
    for number in range(5):
        await begin(journal, clock, str(number), State.COMPLETE if number % 2 else None)
        rows = await journal.changed_since(rev, limit=1)
        while rows:
            seen += [(row.key, row.state) for row in rows]
            rev = rows[-1].rev
            rows = await journal.changed_since(rev, limit=1)
    assert seen == [(str(n), State.COMPLETE if n % 2 else State.QUEUED) for n in range(5)]


async def test_changes_that_share_a_commit_are_numbered_one_after_the_other(
    journal: Journal, database: Database, clock: FakeClock
) -> None:
    """The file is asked once for the group; another group looks again, for another process may have written."""
    groups = database.statistics()["groups"]
    rows = await asyncio.gather(*(journal.begin(spec(name), now=clock.time()) for name in "abc"))
    assert database.statistics()["groups"] - groups < len(rows)
    assert sorted(row.rev for row in rows) == [1, 2, 3]
    await database.write(lambda conn: conn.execute("UPDATE operations SET rev = 10 WHERE rev = 3").close())
    assert (await journal.begin(spec("d"), now=clock.time())).rev == 11


async def test_a_rev_is_never_given_out_twice(journal: Journal, clock: FakeClock) -> None:
    """Also when the newest row is forgotten: the next change would go unnoticed."""
    last = await begin(journal, clock, "a", State.COMPLETE)
    assert await journal.forget(["a"]) == 1
    fresh = await begin(journal, clock, "b")
    assert fresh.rev > last.rev
    assert await journal.changed_since(last.rev) == [fresh]


async def test_identity_is_the_files(journal: Journal) -> None:
    """One random name for as long as the file lives."""
    assert await journal.identity() == await journal.identity() != ""


async def test_statistics(journal: Journal, clock: FakeClock) -> None:
    """What a page shows about the whole and about a project."""
    now = clock.time()
    failed = AttemptRecord(number=1, started_at=now, outcome="waiting", category=network.CONNECTION.category)
    await begin(journal, clock, "at once", State.COMPLETE, project="p", history=History(attempts=1))
    await begin(journal, clock, "recovered", State.COMPLETE, project="p", history=History(attempts=3), attempt=failed)
    await begin(journal, clock, "lost", State.FAILED, history=History(attempts=4))
    await begin(journal, clock, "stopped", State.CANCELLED, history=History(attempts=1))
    await begin(journal, clock, "waits", State.WAITING, next_at=now + 9.0, history=History(attempts=2))
    await begin(journal, clock, "parked", State.PARKED, next_at=now + 5.0)
    found = await journal.statistics()
    assert (found.operations, found.attempts, found.retried, found.recovered) == (6, 11, 3, 1)
    assert found.by_state == {
        State.COMPLETE: 2, State.FAILED: 1, State.CANCELLED: 1, State.WAITING: 1, State.PARKED: 1
    }  # fmt: skip
    assert found.by_category == {network.CONNECTION.category: 1}
    assert found.success_rate == pytest.approx(2 / 3)
    assert (found.next_due_at, found.deaths, found.damaged) == (now + 5.0, 0, 0)
    of_p = await journal.statistics("p")
    assert (of_p.operations, of_p.success_rate, of_p.next_due_at) == (2, 1.0, None)
    none = await journal.statistics("nobody's")
    assert (none.operations, none.success_rate) == (0, None)


@pytest.mark.parametrize(
    ("before", "wanted", "deaths"),
    [
        (None, State.PAUSED, 0),
        (None, State.CANCELLED, 0),
        (State.WAITING, State.QUEUED, 0),
        (State.FAILED, State.QUEUED, 0),
        (State.RUNNING, State.PAUSED, 0),
    ],
)
async def test_what_nobody_runs_is_changed_by_hand(
    before: State | None, wanted: State, deaths: int, journal: Journal, clock: FakeClock
) -> None:
    """Pause, cancel, retry: at once, with a fresh budget where it is to run again, and whoever wakes up late is
    fenced.
    """
    row = await begin(journal, clock, "a", before)
    await clock.advance(TTL)
    await journal.post_command("a", "pause")
    found = await journal.set_idle_state("a", wanted, now=clock.time())
    assert (found.state, found.owner, found.next_at, found.deaths) == (wanted, None, None, deaths)
    assert found.generation == row.generation + 1
    assert found.history == (row.history.fresh_budget(clock.time()) if wanted is State.QUEUED else row.history)
    assert await journal.take_commands(["a"]) == [], "what was wished before is done with"


@pytest.mark.parametrize(
    ("wanted", "command"), [(State.PAUSED, "pause"), (State.CANCELLED, "cancel"), (State.QUEUED, "retry_now")]
)
async def test_what_somebody_runs_gets_a_command(
    wanted: State, command: str, journal: Journal, clock: FakeClock
) -> None:
    """Its owner is the one to change the row."""
    row = await begin(journal, clock, "a", State.RUNNING)
    assert await journal.set_idle_state("a", wanted, now=clock.time()) == row
    assert [each.name for each in await journal.take_commands(["a"])] == [command]


async def test_what_cannot_be_changed_by_hand(journal: Journal, clock: FakeClock) -> None:
    """Nothing is there, or no step leads there."""
    with pytest.raises(LookupError, match="nobody"):
        await journal.set_idle_state("nobody", State.PAUSED, now=clock.time())
    done = await begin(journal, clock, "a", State.COMPLETE)
    with pytest.raises(IllegalTransition):
        await journal.set_idle_state("a", State.PAUSED, now=clock.time())
    assert await journal.get("a") == done


async def test_claim_by_id(journal: Journal, clock: FakeClock) -> None:
    """For whoever knows the operation already; what is ended, paused, held or gone is not to be had."""
    await begin(journal, clock, "a")
    assert await journal.claim("a", owner="one", ttl_s=TTL, now=clock.time()) == 1
    assert await journal.claim("a", owner="two", ttl_s=TTL, now=clock.time()) is None
    assert await journal.claim("nobody", owner="two", ttl_s=TTL, now=clock.time()) is None
    await begin(journal, clock, "b", State.COMPLETE)
    assert await journal.claim("b", owner="one", ttl_s=TTL, now=clock.time()) is None


async def test_only_the_newest_attempts_are_kept(journal: Journal, clock: FakeClock) -> None:
    """200 of them: an operation that hurts for weeks does not fill the disk."""
    _, generation = await journal.begin_and_claim(spec(operation_id="a"), owner="one", ttl_s=TTL, now=clock.time())
    assert generation is not None
    one = AttemptRecord(number=1, started_at=0.0)
    for number in range(1, 206):
        await journal.record("a", generation, Change(state=State.RUNNING, attempt=replace(one, number=number), now=0.0))
    assert [each.number for each in await journal.attempts("a")] == list(range(6, 206))


async def test_another_packages_write_is_fenced_with_ours(journal: Journal, clock: FakeClock) -> None:
    """``check_generation`` first, in the same write function: a stale owner's rows are rolled back with its error."""
    await begin(journal, clock, "a", State.RUNNING)

    def write(generation: int) -> Callable[[sqlite3.Connection], None]:
        def work(conn: sqlite3.Connection) -> None:
            put_step(conn, "a", f"by {generation}", 1, 0.0)
            check_generation(conn, "a", generation)

        return work

    await journal.transact(write(1))
    for name, generation in [("a", 2), ("nobody", 1)]:
        with pytest.raises(Fenced):
            await journal.transact(partial(check_generation, operation_id=name, generation=generation))
    with pytest.raises(Fenced):
        await journal.transact(write(2))
    assert list(await journal.steps("a")) == ["by 1"]
