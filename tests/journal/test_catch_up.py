"""After a time in which the state file could not be used: what owners were told stands, and nobody is fenced, doubled
or forgotten because of it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from recovery.database import Database, Health, StoreLimits
from recovery.history import History
from recovery.journal import JOURNAL, Journal
from recovery.lifecycle import Fenced
from recovery.records import AttemptRecord, Change, Operation
from recovery.states import State
from recovery.testing import FakeClock
from tests.supervising import spec

TTL = 15.0
LIMITS = StoreLimits(wait_s=0.05)


@contextlib.asynccontextmanager
async def opened(path: Path, clock: FakeClock, limits: StoreLimits = LIMITS) -> AsyncIterator[tuple[Database, Journal]]:
    """Open a journal that does not wait long."""
    async with await Database.open(path, [JOURNAL], clock=clock, limits=limits) as database:
        yield database, Journal(database, clock=clock)


@contextlib.contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Let another program keep the file to itself, so that it cannot even be read."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("PRAGMA locking_mode = EXCLUSIVE")
        conn.execute("BEGIN EXCLUSIVE")
        conn.execute("INSERT INTO meta VALUES ('reader', 'x', 0)")  # with an empty -wal it could be read all the same
        conn.execute("COMMIT")
        yield


async def away(database: Database) -> None:
    """Let the file become read-only."""
    await database.write(lambda conn: conn.execute("PRAGMA query_only = ON"))


async def claim(journal: Journal, clock: FakeClock, owner: str, **more: Any) -> tuple[Operation, int]:
    """Begin and claim an operation that must be free."""
    row, generation = await journal.begin_and_claim(spec(**more), owner=owner, ttl_s=TTL, now=clock.time())
    assert generation is not None
    return row, generation


async def fail(journal: Journal, row: Operation, generation: int, clock: FakeClock, number: int) -> Operation:
    """Record an attempt that failed."""
    attempt = AttemptRecord(number=number, started_at=clock.time(), error=f"by {row.owner}")
    history = History(attempts=number, started_at=clock.time())
    return await journal.record(
        row.operation_id,
        generation,
        Change(
            state=State.WAITING,
            history=history,
            attempt=attempt,
            next_at=clock.time(),
            now=clock.time(),
        ),
    )


async def of_a_former_life(path: Path, clock: FakeClock, **more: Any) -> Operation:
    """Leave an operation behind that a process died in after three attempts and a step."""
    async with opened(path, clock) as (_, journal):
        row, generation = await claim(journal, clock, "dead", **more)
        for number in (1, 2, 3):
            row = await fail(journal, row, generation, clock, number)
        await journal.save_step(row.operation_id, generation, "download", "kept")
        await journal.save_step(row.operation_id, generation, "convert", "old")
        await journal.post_command(row.operation_id, "pause", request_id="r")
    await clock.advance(TTL)
    return row


async def defer(journal: Journal, row: Operation, generation: int, clock: FakeClock) -> None:
    """Record a wait that somebody else may end, as a supervisor does that must not sleep."""
    await fail(journal, row, generation, clock, 1)
    await journal.renew(row.operation_id, generation, ttl_s=0.0, now=clock.time())


async def set_by_hand(journal: Journal, row: Operation, generation: int, clock: FakeClock) -> None:
    """Pause an operation whose lease has run out."""
    await clock.advance(TTL)
    await journal.set_idle_state(row.operation_id, State.QUEUED, now=clock.time())


@pytest.mark.parametrize("let_go", [defer, set_by_hand])
async def test_what_was_let_go_never_comes_back(
    let_go: Callable[[Journal, Operation, int, FakeClock], Awaitable[None]], state_path: Path, clock: FakeClock
) -> None:
    """Another process has completed it, and it was forgotten: who once held it must not put it back with its own rows,
    or it would be done again.
    """
    async with opened(state_path, clock) as (_, first), opened(state_path, clock) as (database, second):
        row, generation = await claim(first, clock, "first", key="done elsewhere")
        await let_go(first, row, generation, clock)
        row, generation = await claim(second, clock, "second", key="done elsewhere")
        await second.record(row.operation_id, generation, Change(state=State.COMPLETE, now=clock.time()))
        assert await second.forget([row.operation_id]) == 1
        mine, generation = await claim(first, clock, "first", key="damaged")
        await database.write(
            lambda conn: conn.execute("UPDATE operations SET title = 'x' WHERE operation_id = ?", (mine.operation_id,))
        )
        assert await first.renew(mine.operation_id, generation, ttl_s=TTL, now=clock.time()), "put back"
        assert [each.operation_id for each in await second.list()] == [mine.operation_id]


@pytest.mark.parametrize("name", [None, "mine"], ids=["a new id", "the same id"])
async def test_begun_without_knowing_the_file(name: str | None, state_path: Path, clock: FakeClock) -> None:
    """A row begun in memory takes the place of the one in the file, with what belongs to that; its owner goes on."""
    old = await of_a_former_life(state_path, clock, operation_id=name)
    with unreadable(state_path):
        database = await Database.open(state_path, [JOURNAL], clock=clock, limits=LIMITS)
        journal = Journal(database, clock=clock)
        assert database.health is Health.DEGRADED
        row, generation = await claim(journal, clock, "me", operation_id=name)
        assert (row.history.attempts, row.operation_id == old.operation_id) == (0, name is not None)
        assert generation > 1000, "not one that the file may have given out"
        await fail(journal, row, generation, clock, 1)
        await journal.save_step(row.operation_id, generation, "convert", "new")
        assert await journal.take_commands([row.operation_id]) == []
    assert await database.probe() is Health.OK
    assert database.statistics()["lost"] == 0
    found = await journal.list()
    assert [(each.operation_id, each.state, each.owner) for each in found] == [(row.operation_id, State.WAITING, "me")]
    assert (found[0].generation, found[0].created_at) == (generation, old.created_at)
    attempts = [(each.number, each.error) for each in await journal.attempts(row.operation_id)]
    assert attempts == [(-2, "by dead"), (-1, "by dead"), (0, "by dead"), (1, "by me")]
    assert await journal.steps(row.operation_id) == {"download": "kept", "convert": "new"}
    assert [each.name for each in await journal.take_commands([row.operation_id])] == ["pause"]
    assert (await fail(journal, row, generation, clock, 2)).history.attempts == 2
    await database.close()


async def test_begun_and_ended_without_knowing_the_file(state_path: Path, clock: FakeClock) -> None:
    """Nobody holds it any more when the file comes back: the file learns that it is complete, and of no second one."""
    await of_a_former_life(state_path, clock)
    with unreadable(state_path):
        database = await Database.open(state_path, [JOURNAL], clock=clock, limits=LIMITS)
        journal = Journal(database, clock=clock)
        row, generation = await claim(journal, clock, "me")
        await journal.record(row.operation_id, generation, Change(state=State.COMPLETE, now=clock.time()))
    assert await database.probe() is Health.OK
    assert [(each.operation_id, each.state) for each in await journal.list()] == [(row.operation_id, State.COMPLETE)]
    await database.close()


@pytest.mark.parametrize("name", [None, "mine"], ids=["a new id", "the same id"])
async def test_another_owners_live_lease_stands(name: str | None, state_path: Path, clock: FakeClock) -> None:
    """Who was at work on the file all the time goes on; the one that could not know it is fenced, and its row is
    nowhere.
    """
    await of_a_former_life(state_path, clock, operation_id=name)
    async with opened(state_path, clock) as (_, theirs):
        theirs_row, theirs_generation = await claim(theirs, clock, "they", operation_id=name)
    with unreadable(state_path):
        database = await Database.open(state_path, [JOURNAL], clock=clock, limits=LIMITS)
        ours = Journal(database, clock=clock)
        row, generation = await claim(ours, clock, "we", operation_id=name)
        await fail(ours, row, generation, clock, 1)
    assert await database.probe() is Health.OK
    assert "1 updates" in database.health_reason, "what could not be caught up is counted"
    [found] = await ours.list()
    assert (found.operation_id, found.owner, found.generation) == (
        theirs_row.operation_id, "they", theirs_generation
    )  # fmt: skip
    with pytest.raises(Fenced):
        await ours.record(row.operation_id, generation, Change(state=State.COMPLETE, now=clock.time()))
    await database.close()


async def test_what_others_did_meanwhile_is_not_taken_back(state_path: Path, clock: FakeClock) -> None:
    """An operation that another process finished on the file stays finished when ours only looked on."""
    async with opened(state_path, clock) as (database, ours):
        row, _ = await claim(ours, clock, "they")
        await clock.advance(TTL)
        await away(database)
        await ours.begin(spec("something else"))
        async with opened(state_path, clock) as (_, theirs):
            _, generation = await claim(theirs, clock, "they")
            await theirs.record(row.operation_id, generation, Change(state=State.COMPLETE, now=clock.time()))
        assert await database.probe() is Health.OK
        found = await ours.get(row.operation_id)
        assert found is not None
        assert found.state is State.COMPLETE


async def test_what_was_claimed_by_id_stands(state_path: Path, clock: FakeClock) -> None:
    """``claim`` tells a generation, too; attempts another process made meanwhile go before ours."""
    async with opened(state_path, clock) as (database, ours):
        row, generation = await claim(ours, clock, "they", operation_id="a")
        await fail(ours, row, generation, clock, 1)
        await clock.advance(TTL)
        await away(database)
        mine = await ours.claim("a", owner="we", ttl_s=TTL, now=clock.time())
        assert mine == generation + 1
        async with opened(state_path, clock) as (_, theirs):
            taken, other = await claim(theirs, clock, "they", operation_id="a")
            await fail(theirs, taken, other, clock, 2)
            await theirs.release("a", other, State.WAITING, now=clock.time())
        assert await database.probe() is Health.OK
        held = await ours.get("a")
        assert held is not None
        assert (held.owner, held.generation, held.history.attempts) == ("we", mine, 1)
        assert [(each.number, each.error) for each in await ours.attempts("a")] == [(0, "by they"), (1, "by they")]
        await fail(ours, held, mine, clock, 2)
        assert await ours.claim("a", owner="others", ttl_s=TTL, now=clock.time()) is None


async def test_more_was_done_than_can_be_kept(state_path: Path, clock: FakeClock) -> None:
    """Functions that were given up leave gaps, but what an owner holds is written as it is now."""
    async with opened(state_path, clock, StoreLimits(wait_s=0.05, redo=4)) as (database, journal):
        await away(database)
        row, generation = await claim(journal, clock, "me", operation_id="a")
        for number in range(1, 9):
            await fail(journal, row, generation, clock, number)
        before = await journal.get("a")
        assert before is not None
        assert database.health is Health.MEMORY_ONLY
        assert await database.probe() is Health.OK
        assert "updates made meanwhile were lost" in database.health_reason
        after = await journal.get("a")
        assert after is not None
        assert (after.state, after.history, after.generation) == (State.WAITING, before.history, generation)
        assert before.history.attempts == 8
        await journal.record("a", generation, Change(state=State.RUNNING, now=clock.time()))


async def test_commands_posted_meanwhile_are_not_swallowed(state_path: Path, clock: FakeClock) -> None:
    """Taking what was in memory must not, on the file, take what nobody was told of."""
    async with opened(state_path, clock) as (database, journal):
        await away(database)
        await journal.post_command("a", "pause", request_id="r1")
        assert [each.name for each in await journal.take_commands(["a"])] == ["pause"]
        async with opened(state_path, clock) as (_, theirs):
            await theirs.post_command("a", "cancel", request_id="r2")
        assert await database.probe() is Health.OK
        assert [each.name for each in await journal.take_commands(["a"])] == ["cancel"]


async def test_gates_are_not_turned_back(state_path: Path, clock: FakeClock) -> None:
    """What others learned of a host meanwhile is newer than what we noted in memory."""
    async with opened(state_path, clock) as (database, journal):
        await away(database)
        assert await journal.change_gate("h", lambda _: ({"from": "memory"}, "told")) == "told"
        assert await journal.gates() == {"h": {"from": "memory"}}
        async with opened(state_path, clock) as (_, theirs):
            await theirs.change_gate("h", lambda _: ({"from": "file"}, None))
        assert await database.probe() is Health.OK
        assert await journal.gates() == {"h": {"from": "file"}}


def lie_once(conn: sqlite3.Connection) -> None:
    """Let the next COMMIT on this connection happen and report an I/O error all the same."""
    execute = conn.execute

    def lies(sql: str, *parameters: Any) -> sqlite3.Cursor:
        cursor = execute(sql, *parameters)
        if sql == "COMMIT":
            conn.execute = execute  # type: ignore[method-assign]
            exc = sqlite3.OperationalError("disk I/O error")
            exc.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise exc
        return cursor

    conn.execute = lies  # type: ignore[method-assign]


async def test_a_commit_that_failed_and_happened(state_path: Path, clock: FakeClock) -> None:
    """The disk reports an error although the claim is in the file: its second run must not fence the first."""
    async with opened(state_path, clock) as (database, journal):
        file = database._store.file
        assert file is not None
        lie_once(file.conn)
        row, generation = await claim(journal, clock, "me")
        assert database.health is Health.DEGRADED
        await fail(journal, row, generation, clock, 1)
        assert await database.probe() is Health.OK
        assert database.statistics()["lost"] == 0
        await fail(journal, row, generation, clock, 2)
        assert len(await journal.list()) == 1


async def damage(database: Database, path: Path) -> None:
    """Overwrite the whole file, and let SQLite forget what it remembers of it."""

    def overwrite() -> None:
        file = database._store.file
        assert file is not None
        file.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        path.write_bytes(b"rubbish" * 3000)
        file.conn.execute("PRAGMA shrink_memory")

    await database._thread.run(overwrite)


async def test_held_rows_outlive_the_file(state_path: Path, clock: FakeClock) -> None:
    """A file that is set aside as damaged: who is at work now is in the new one, under the same generation."""
    async with opened(state_path, clock) as (database, journal):
        held, generation = await claim(journal, clock, "me", operation_id="held")
        await fail(journal, held, generation, clock, 1)
        _, others = await claim(journal, clock, "me", key="done", operation_id="done")
        await journal.record("done", others, Change(state=State.COMPLETE, now=clock.time()))
        identity = await journal.identity()
        await damage(database, state_path)
        await database.write(lambda conn: None)
        assert "damaged" in database.health_reason
        assert await journal.identity() != identity
        [found] = await journal.list()
        assert (found.operation_id, found.state, found.generation) == ("held", State.WAITING, generation)
        await journal.record("held", generation, Change(state=State.RUNNING, now=clock.time()))


async def test_who_was_fenced_puts_nothing_back(state_path: Path, clock: FakeClock) -> None:
    """Two processes, one file that is lost: the row in the new one is the owner's, not that of who had it before."""
    async with opened(state_path, clock) as (one, before), opened(state_path, clock) as (_, owners):
        row, stale = await claim(before, clock, "before", operation_id="a")
        kept, other = await claim(before, clock, "before", key="b", operation_id="b")
        await clock.advance(TTL)
        _, generation = await claim(owners, clock, "owner", operation_id="a")
        assert not await before.renew("a", stale, ttl_s=TTL, now=clock.time())
        await claim(owners, clock, "owner", key="b", operation_id="b")
        with pytest.raises(Fenced):
            await fail(before, kept, other, clock, 1)
        await damage(one, state_path)
        await one.write(lambda conn: None)
        assert await before.list() == []
        assert await owners.renew("a", generation, ttl_s=TTL, now=clock.time())
        found = {each.operation_id: each.owner for each in await before.list()}
        assert found == {"a": "owner", "b": "owner"}
        assert row.owner == "before"
