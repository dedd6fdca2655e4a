"""Reads beside the writer: on snapshots of their own, and through the writer whenever that cannot be."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from recovery.database import Database, Health, StoreLimits
from recovery.faults import SQLITE_RAISES
from recovery.reader import Reader, ReaderUnusable
from recovery.sqlitethread import SqliteThread, run_without_loop
from tests.notes import NOTES, note, notes

IMPATIENT = StoreLimits(wait_s=0.05)


def thread_of(conn: sqlite3.Connection) -> int:
    """A read that says where it ran."""
    return threading.get_ident()


async def test_a_slow_read_delays_nobody(state_path: Path) -> None:
    """It has a thread and a connection of its own; writes are made and seen meanwhile."""
    async with await Database.open(state_path, [NOTES]) as database:
        await database.write(note("x"))
        began, go_on = threading.Event(), threading.Event()

        def slow(conn: sqlite3.Connection) -> list[str]:
            began.set()
            assert go_on.wait(30)
            return notes(conn)

        reading = asyncio.create_task(database.read(slow))
        await asyncio.to_thread(began.wait, 30)
        assert await database.write(thread_of) != await asyncio.to_thread(threading.get_ident)
        assert await database.write(note("y")) == 2
        go_on.set()
        assert await reading == ["x", "y"], "its snapshot begins with its first statement"


async def test_who_asks_meanwhile_shares_a_snapshot(state_path: Path) -> None:
    """One transaction for all that wait behind a slow read; each gets its own answer, or its own exception."""
    statements: list[str] = []
    async with await Database.open(state_path, [NOTES]) as database:
        await database.write(note("x"))
        go_on = threading.Event()

        def slow(conn: sqlite3.Connection) -> bool:
            conn.set_trace_callback(statements.append)
            return go_on.wait(30)

        def fails(_: sqlite3.Connection) -> None:
            raise LookupError("mine")

        def ill_formed(conn: sqlite3.Connection) -> None:
            conn.execute("SELECT no_such_column FROM notes")

        asked = [asyncio.create_task(database.read(fn)) for fn in (slow, notes, fails, ill_formed, notes)]
        await asyncio.sleep(0)
        go_on.set()
        first, mine, failed, bad, others = await asyncio.gather(*asked, return_exceptions=True)
    assert (first, mine, others) == (True, ["x"], ["x"])
    assert (str(failed), type(failed)) == ("mine", LookupError)
    assert isinstance(bad, sqlite3.OperationalError)
    assert sum(text == "BEGIN" for text in statements) <= 1, statements


async def test_a_read_that_is_cancelled_keeps_nobody_waiting(state_path: Path) -> None:
    """Who asked behind it is answered all the same."""
    async with await Database.open(state_path, [NOTES]) as database:
        await database.write(note("x"))
        go_on = threading.Event()
        slow, given_up, patient = (
            asyncio.create_task(database.read(fn)) for fn in (lambda _: go_on.wait(30), notes, notes)
        )
        await asyncio.sleep(0)
        given_up.cancel()
        go_on.set()
        assert await slow
        assert await patient == ["x"]


async def test_who_shares_a_turn_that_fails_oddly_is_answered_by_the_writer(
    state_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with nothing, which would look as if nothing were stored; whose turn it was hears of it."""
    async with await Database.open(state_path, [NOTES]) as database:
        await database.write(note("x"))
        go_on = threading.Event()
        slow = asyncio.create_task(database.read(lambda _: go_on.wait(30)))
        while not database._reader._opened:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)

        def fails(_: Reader) -> None:
            raise MemoryError

        monkeypatch.setattr(Reader, "_current", fails)
        asked = [asyncio.create_task(database.read(notes)) for _ in range(3)]
        await asyncio.sleep(0)
        go_on.set()
        assert await slow
        first, *others = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(first, MemoryError)
    assert others == [["x"], ["x"]]


async def test_the_reader_follows_to_a_new_file(state_path: Path) -> None:
    """After the file was replaced under us, what is read is the file that is in use now."""
    async with await Database.open(state_path, [NOTES], limits=IMPATIENT) as database:
        await database.write(note("before"))
        assert await database.read(notes) == ["before"]
        for path in state_path.parent.glob("state.db*"):
            path.unlink()
        assert await database.write(note("after")) == 2
        assert await database.read(notes) == ["before", "after"]
        reader = database._reader
        assert await reader.read(notes) == ["before", "after"], "it serves again by itself"


async def test_the_reader_steps_aside(state_path: Path) -> None:
    """While memory stands in for the file, and for a file that has vanished: the writer knows better."""
    async with await Database.open(state_path, [NOTES], limits=IMPATIENT) as database:
        reader = database._reader
        await database.write(note("before"))
        assert await reader.read(notes) == ["before"]
        for path in state_path.parent.glob("state.db*"):
            path.unlink()
        with pytest.raises(ReaderUnusable):
            await reader.read(notes)
        await database.write(lambda conn: conn.execute("PRAGMA query_only = ON"))
        await database.write(note("in memory"))
        assert database.health is Health.DEGRADED
        with pytest.raises(ReaderUnusable):
            await reader.read(notes)
        assert await database.read(notes) == ["before", "in memory"]


async def test_a_connection_that_cannot_be_made(state_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that wait for it are served by the writer, and the next read tries again."""
    async with await Database.open(state_path, [NOTES]) as database:
        await database.write(note("x"))

        def fails(*_: object) -> None:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr("recovery.reader.connect_reader", fails)
        assert await asyncio.gather(*(database.read(notes) for _ in range(5))) == [["x"]] * 5
        assert database.health is Health.OK
        monkeypatch.undo()
        assert await database._reader.read(notes) == ["x"]


@pytest.mark.parametrize("raised", [sqlite3.OperationalError("x"), OSError("x")])
async def test_what_might_be_the_files_fault_is_tried_again(raised: Exception, state_path: Path) -> None:
    """On the writer's connection, which meets the same fault and acts; other exceptions are the caller's."""
    tries: list[int] = []

    def read(conn: sqlite3.Connection) -> list[str]:
        tries.append(threading.get_ident())
        if len(tries) == 1:
            raise raised
        return notes(conn)

    async with await Database.open(state_path, [NOTES]) as database:
        await database.write(note("x"))
        assert await database.read(read) == ["x"]
        assert len(set(tries)) == 2
    assert isinstance(raised, (*SQLITE_RAISES, OSError))


async def test_closing_while_it_is_opened(state_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a read that was under way nor its failure keeps the file open."""
    database = await Database.open(state_path, [NOTES])
    await database.write(note("x"))
    go_on = threading.Event()
    connect = Reader._connect

    def slow(self: Reader) -> object:
        assert go_on.wait(30)
        return connect(self)

    monkeypatch.setattr(Reader, "_connect", slow)
    reading = asyncio.create_task(database.read(notes))
    await asyncio.sleep(0.02)
    closing = asyncio.create_task(database.close())
    await asyncio.sleep(0.02)
    assert not closing.done()
    go_on.set()
    await closing
    await asyncio.wait((reading,))
    assert not state_path.with_name("state.db-wal").exists()


@pytest.mark.parametrize(
    "write",
    [note("x"), lambda conn: conn.execute("DELETE FROM notes"), lambda conn: conn.execute("DROP TABLE notes")],
    ids=["insert", "delete", "drop"],
)
async def test_reads_write_nothing(write: Callable[[sqlite3.Connection], object], state_path: Path) -> None:
    """Wherever they run."""
    async with await Database.open(state_path, [NOTES]) as database:
        await database.write(note("kept"))
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await database.read(write)
        assert await database.read(notes) == ["kept"]
        assert database.health is Health.OK


async def test_a_thread_that_was_never_started() -> None:
    """Nobody waits for it, and at the end of the program it is not asked for anything."""
    thread = SqliteThread(lambda: sqlite3.connect(":memory:"))
    assert not thread.alive
    await thread.ended()
    ran: list[int] = []
    await asyncio.to_thread(run_without_loop, thread, lambda: ran.append(1), within_s=1.0)
    assert ran == []
