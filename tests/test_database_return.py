"""The state file comes back: what is caught up, what is lost and said to be, what is never kept."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from recovery.connections import connect_memory, copy_archive, copy_database
from recovery.database import Health, StoreLimits
from recovery.testing import FakeClock
from recovery.work import is_behind, is_blind, put_back
from tests.faulty_files import BIG, Exclusive, held, opened, read_only
from tests.notes import HealthLog, note, notes, notes_in_file


async def test_what_others_wrote_meanwhile_is_kept(state_path: Path) -> None:
    """Catching up runs the functions on the file as it is now; it does not overwrite it."""
    async with opened(state_path) as database:
        await database.write(note("before"))
        await database.write(read_only)
        assert await database.write(note("ours")) == 2
        async with opened(state_path) as other:
            assert await other.write(note("theirs")) == 2
        assert await database.probe() is Health.OK
        assert await database.read(notes) == ["before", "theirs", "ours"]


async def test_a_function_the_file_refuses_is_counted_as_lost(state_path: Path) -> None:
    """What can no longer be done (somebody else was faster) is said, and does not stop the rest."""

    def only_first(conn: sqlite3.Connection) -> None:
        if notes(conn):
            raise ValueError("not the first")
        note("first")(conn)

    health = HealthLog()
    async with opened(state_path, health=health) as database:
        await database.write(read_only)
        await database.write(only_first)
        await database.write(note("second"))
        async with opened(state_path) as other:
            await other.write(note("faster"))
        assert await database.probe() is Health.OK
        assert "1 updates" in database.health_reason
        assert await database.read(notes) == ["faster", "second"]
        assert database.statistics()["lost"] == 1
    assert health[-1].reason == database.health_reason


async def test_damaged_while_it_could_not_be_used(state_path: Path) -> None:
    """Found damaged on return: set aside, and written again from memory, which knows everything."""
    async with opened(state_path) as database:
        await database.write(note("before"))
        await database.write(read_only)
        await database.write(note("meanwhile"))
        for path in state_path.parent.glob("state.db*"):
            path.unlink()
        state_path.write_bytes(b"rubbish" * 1000)
        assert await database.probe() is Health.OK
        assert await database.read(notes) == ["before", "meanwhile"]


async def test_deleted_while_it_could_not_be_used(state_path: Path) -> None:
    """The new file gets everything, also what was only in the old one."""
    async with opened(state_path) as database:
        await database.write(note("before"))
        await database.write(read_only)
        await database.write(note("meanwhile"))
        shutil.rmtree(state_path.parent)
        assert await database.probe() is Health.OK
        assert await database.write(note("after")) == 3
    assert notes_in_file(state_path) == ["before", "meanwhile", "after"]


async def test_too_much_to_keep(state_path: Path) -> None:
    """The list of what to catch up is bounded: progress goes before decisions do, and the loss is said at once."""
    health = HealthLog()
    limits = StoreLimits(wait_s=0.05, redo=8)
    async with opened(state_path, health=health, limits=limits) as database:
        await database.write(read_only)
        for n in range(6):
            await database.write(note(f"decision {n}"))
            await database.write(note(f"progress {n}"), urgent=False)
        assert database.health is Health.MEMORY_ONLY
        assert "more to save than can be kept" in database.health_reason
        assert await database.probe() is Health.OK
        found = await database.read(notes)
        lost = database.statistics()["lost"]
        assert [name for name in found if name.startswith("decision")] == [f"decision {n}" for n in range(6)]
        assert len(found) + lost == 12
        assert f"{lost} updates" in database.health_reason
    assert health.healths == ["degraded", "memory_only", "ok"]


async def test_too_many_decisions_to_keep(state_path: Path) -> None:
    """Even decisions are bounded; the oldest go first."""
    limits = StoreLimits(wait_s=0.05, redo=4)
    async with opened(state_path, limits=limits) as database:
        await database.write(read_only)
        for n in range(10):
            await database.write(note(str(n)))
        assert await database.probe() is Health.OK
        assert await database.read(notes) == ["6", "7", "8", "9"]
        assert database.statistics()["lost"] == 6


async def test_closing_tries_once_more(state_path: Path) -> None:
    """The last chance to save what is in memory is taken."""
    async with opened(state_path) as database:
        await database.write(read_only)
        await database.write(note("saved at the end"))
    assert database.health is Health.OK
    assert notes_in_file(state_path) == ["saved at the end"]


async def test_closing_says_what_is_lost(tmp_path: Path) -> None:
    """What could not be saved until the end is counted, in the reason and in a last event."""
    health = HealthLog()
    (tmp_path / "file").write_text("x")
    async with opened(tmp_path / "file" / "state.db", health=health) as database:
        await database.write(note("lost"))
        await database.write(note("lost, too"))
    assert "2 updates were never saved" in database.health_reason
    assert health.healths == ["degraded", "memory_only"]


async def test_the_backoff_of_the_probe(state_path: Path) -> None:
    """1, 2, 4 ... 30 seconds: a file that stays away is not looked for all the time."""
    clock = FakeClock()
    async with opened(state_path, clock=clock) as database:
        await database.write(note("x"))
        with Exclusive(state_path, lock_file=True):
            await database.write(note("y"))
            store = database._store
            waits = []
            for _ in range(7):
                assert store.probe_at is not None
                wait = store.probe_at - clock.monotonic()
                waits.append(round(wait, 3))
                await clock.advance(wait)
                await database.write(note("z"))
        assert waits == [1, 2, 4, 8, 16, 30, 30]


async def test_large_files_are_not_copied(state_path: Path) -> None:
    """Beyond a limit memory begins empty, with what this process holds."""
    limits = StoreLimits(wait_s=0.05, copy=50_000)
    async with opened(state_path, limits=limits) as database:
        database.add_restore(held)
        await database.write(note(BIG * 5))
        await database.write(read_only)
        await database.write(note("new"))
        assert await database.read(notes) == ["held", "new"]
        assert await database.probe() is Health.OK
        assert await database.read(notes) == [BIG * 5, "new", "held"], "restores run after catching up, too"


async def test_a_restore_that_fails_is_not_in_the_way(state_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Other packages' mistakes cost their own rows only."""

    def fails(conn: sqlite3.Connection) -> None:
        note("half")(conn)
        raise KeyError("mistake")

    limits = StoreLimits(wait_s=0.05, copy=0)
    async with opened(state_path, limits=limits) as database:
        database.add_restore(fails)
        database.add_restore(held)
        await database.write(read_only)
        assert await database.write(note("new")) == 2
        assert await database.read(notes) == ["held", "new"]
    assert "could not put back" in caplog.text


async def test_closing_while_somebody_holds_the_lock(state_path: Path) -> None:
    """It is waited for, but not for ever; what was committed is there."""
    async with opened(state_path) as database:
        await database.write(note("kept"))
        with Exclusive(state_path, lock_file=True):
            await database.close()
    assert notes_in_file(state_path) == ["kept"]


async def test_restores_meet_faults_too(state_path: Path) -> None:
    """A restore that finds the file at fault is not at fault itself: memory goes on with what it has."""
    tries: list[int] = []

    def meets_a_full_disk(conn: sqlite3.Connection) -> None:
        tries.append(1)
        exc = sqlite3.OperationalError("database or disk is full")
        exc.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise exc

    async with opened(state_path) as database:
        await database.write(read_only)
        await database.write(note("kept"))
        database.add_restore(meets_a_full_disk)
        assert await database.probe() is Health.DEGRADED
        assert "is full" in database.health_reason
        assert tries == [1]
        database._store.restores.clear()
        assert await database.probe() is Health.OK
        assert await database.read(notes) == ["kept"]


def test_only_our_connections_put_anything_back() -> None:
    """A stranger's connection has nobody to ask."""
    with contextlib.closing(sqlite3.connect(":memory:")) as conn:
        put_back(conn)
        assert not is_blind(conn)
        assert not is_behind(conn)


def test_a_database_that_cannot_be_copied(tmp_path: Path) -> None:
    """Locked, too large, not there, or no database: said, not raised."""
    path = tmp_path / "a.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as source:
        source.execute("CREATE TABLE t (x)")
        with contextlib.closing(connect_memory()) as target:
            assert not copy_database(source, target, 100)
            assert copy_database(source, target, 1 << 20)
            source.execute("BEGIN EXCLUSIVE")
            with contextlib.closing(sqlite3.connect(path, timeout=0.0, isolation_level=None)) as other:
                assert not copy_database(other, target, 1 << 20)
            source.execute("ROLLBACK")
    with contextlib.closing(connect_memory()) as target:
        assert not copy_archive(tmp_path / "nowhere.db", target, 1 << 20)
        assert not copy_archive(path, target, 100)
        path.write_bytes(b"no database " * 1000)
        assert not copy_archive(path, target, 1 << 20)
