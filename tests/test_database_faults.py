"""Everything that can go wrong with the state file, one by one: writes go on, health says why, and what can be
caught up is.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from recovery.connections import connect_memory, copy_archive, copy_database, file_id
from recovery.database import Database, Health, Schema, StoreLimits
from recovery.filelock import FileLock
from recovery.quickcheck import quick_check
from recovery.statefile import StateFile, quarantine
from recovery.testing import FakeClock
from recovery.work import is_behind, is_blind, put_back
from tests.mounts import mounted, remount
from tests.notes import NOTES, HealthLog, integrity, note, notes, notes_in_file

IMPATIENT = StoreLimits(wait_s=0.05)


@contextlib.asynccontextmanager
async def opened(
    path: Path | None,
    *,
    health: HealthLog | None = None,
    clock: FakeClock | None = None,
    limits: StoreLimits = IMPATIENT,
) -> AsyncIterator[Database]:
    """Open a database that does not wait long, with a clock that only moves when told."""
    database = await Database.open(path, [NOTES], on_health=health, clock=clock or FakeClock(), limits=limits)
    try:
        yield database
    finally:
        await database.close()


def read_only(conn: sqlite3.Connection) -> None:
    """Make this connection refuse to write, as on a file system that has become read-only."""
    conn.execute("PRAGMA query_only = ON")


def full(conn: sqlite3.Connection) -> None:
    """Let the database grow no more, as on a full disk."""
    pages = conn.execute("PRAGMA page_count").fetchone()[0]
    conn.execute(f"PRAGMA max_page_count = {pages}")


def held(conn: sqlite3.Connection) -> None:
    """A restore: put back the one note that this process holds."""
    note("held")(conn)


BIG = "x" * 20_000


@pytest.mark.parametrize(
    ("fault", "words"), [(read_only, "is read-only"), (full, "is full")], ids=["read-only", "full"]
)
async def test_writes_go_on_in_memory_and_are_caught_up(
    fault: Callable[[sqlite3.Connection], None], words: str, state_path: Path
) -> None:
    """Read-only or full: the write succeeds, reads see everything, and the file gets it all when it works again."""
    health, clock = HealthLog(), FakeClock()
    async with opened(state_path, health=health, clock=clock) as database:
        await database.write(note("before"))
        await database.write(fault)
        assert await database.write(note(BIG)) == 2
        assert await database.write(note("after")) == 3
        assert await database.read(notes) == ["before", BIG, "after"]
        assert database.health is Health.DEGRADED
        assert words in database.health_reason
        assert str(state_path) in database.health_reason
        await asyncio.to_thread(lambda: None)
        assert health.healths == ["degraded"]
        assert health[0].reason == database.health_reason

        await clock.advance(0.5)
        assert await database.write(note("too early")) == 4
        assert database.health is Health.DEGRADED
        await clock.advance(0.6)
        assert await database.write(note("caught up")) == 5
        assert (database.health, database.health_reason) == (Health.OK, "")
        expected = ["before", BIG, "after", "too early", "caught up"]
        assert await asyncio.to_thread(notes_in_file, state_path) == expected
        assert database.statistics()["caught_up"] == 3
        assert database.statistics()["lost"] == 0
    assert health.healths == ["degraded", "ok"]
    assert integrity(state_path) == "ok"


async def test_the_probe_comes_by_itself_and_on_request(state_path: Path) -> None:
    """Nobody has to write for the file to be tried again; "I made space" need not wait for its time."""
    async with opened(state_path) as database:
        await database.write(read_only)
        await database.write(note("kept"))
        assert database.health is Health.DEGRADED
        assert await database.probe() is Health.OK
        assert await asyncio.to_thread(notes_in_file, state_path) == ["kept"]
    limits = StoreLimits(wait_s=0.05, probe_base_s=0.05)
    async with await Database.open(state_path, [NOTES], limits=limits) as database:
        await database.write(read_only)
        await database.write(note("more"))
        for _ in range(200):
            if database.health is Health.OK:
                break
            await asyncio.sleep(0.02)
        assert await asyncio.to_thread(notes_in_file, state_path) == ["kept", "more"]


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a directory on a disk of 2 MiB of its own: room for what the tests write, and its WAL."""
    with mounted("tmpfs", tmp_path / "disk", "size=2m") as folder:
        yield folder


async def test_a_disk_that_fills_up(full_disk: Path) -> None:
    """ENOSPC in the middle of a transaction; after somebody made space, everything is in the file."""
    path, clock = full_disk / "state.db", FakeClock()
    async with opened(path, clock=clock) as database:
        await database.write(note("before"))
        ballast = full_disk / "ballast"
        fill(ballast)
        for n in range(20):
            assert await database.write(note(f"{n}" + BIG)) == n + 2
        assert database.health is Health.DEGRADED
        assert await database.probe() is Health.DEGRADED
        ballast.unlink()
        assert await database.probe() is Health.OK
        assert len(await asyncio.to_thread(notes_in_file, path)) == 21
    assert integrity(path) == "ok"


async def test_a_disk_that_is_full_from_the_beginning(full_disk: Path) -> None:
    """Not even the file can be made; later it is, from what is in memory."""
    ballast, path = full_disk / "ballast", full_disk / "new" / "state.db"
    fill(ballast)
    async with opened(path) as database:
        assert database.health is Health.DEGRADED
        assert await database.write(note("a")) == 1
        assert await database.probe() is Health.DEGRADED
        ballast.unlink()
        assert await database.probe() is Health.OK
        assert await asyncio.to_thread(notes_in_file, path) == ["a"]


def fill(ballast: Path) -> None:
    """Write until there is no space left."""
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as out:
        while True:
            out.write(b"x" * 1024)


@pytest.fixture
def disk_errors() -> Iterator[Callable[[int], None]]:
    """Return a function that makes every write of this process beyond so many bytes into a file fail (RLIMIT_FSIZE)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_an_io_error(state_path: Path, disk_errors: Callable[[int], None]) -> None:
    """SQLite reports a write that failed as an I/O error; what was committed before is readable and is carried on."""
    async with opened(state_path) as database:
        await database.write(note("before"))
        disk_errors(60_000)
        assert await database.write(note(BIG * 4)) == 2
        assert await database.write(note("after")) == 3
        assert database.health is Health.DEGRADED
        assert "reports errors" in database.health_reason
        assert await database.probe() is Health.DEGRADED
        disk_errors(resource.RLIM_INFINITY)
        assert await database.probe() is Health.OK
        assert await asyncio.to_thread(notes_in_file, state_path) == ["before", BIG * 4, "after"]
    assert integrity(state_path) == "ok"


class Exclusive:
    """Another program that holds the database, or only our lock file."""

    def __init__(self, path: Path, *, lock_file: bool) -> None:
        self.path, self.lock_file = path, lock_file

    def __enter__(self) -> None:
        if self.lock_file:
            self.descriptor = os.open(f"{self.path}.lock", os.O_RDWR)
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        else:
            self.conn = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            self.conn.execute("BEGIN EXCLUSIVE")

    def __exit__(self, *_: object) -> None:
        if self.lock_file:
            os.close(self.descriptor)
        else:
            self.conn.execute("ROLLBACK")
            self.conn.close()


@pytest.mark.parametrize("lock_file", [False, True], ids=["by sqlite", "by our lock"])
async def test_locked_for_longer_than_we_wait(*, lock_file: bool, state_path: Path) -> None:
    """A bounded wait, then memory; the other one's changes and ours are both there in the end."""
    async with opened(state_path) as database:
        await database.write(note("before"))
        with Exclusive(state_path, lock_file=lock_file):
            assert await database.write(note("meanwhile")) == 2, "what the file held is known in memory, too"
            assert "locked" in database.health_reason
            assert await database.probe() is Health.DEGRADED
        assert await database.probe() is Health.OK
        assert await asyncio.to_thread(notes_in_file, state_path) == ["before", "meanwhile"]


async def test_a_short_lock_is_only_waited_for(state_path: Path) -> None:
    """Busy for a moment is no fault."""
    async with opened(state_path, limits=StoreLimits(wait_s=30)) as database:
        with Exclusive(state_path, lock_file=False):
            writing = asyncio.ensure_future(database.write(note("patient")))
            await asyncio.to_thread(threading.Event().wait, 0.1)
            assert not writing.done()
        assert await writing == 1
        assert database.health is Health.OK


async def test_locked_at_the_start(state_path: Path) -> None:
    """The program starts in time, and the file is taken into use when it is free."""
    async with opened(state_path) as database:
        await database.write(note("from before"))
    with Exclusive(state_path, lock_file=True):
        database = await Database.open(state_path, [NOTES], limits=IMPATIENT, clock=FakeClock())
        assert database.health is Health.DEGRADED
        assert await database.write(note("new")) == 2, "a file that can be read is read"
    assert await database.probe() is Health.OK
    await database.close()
    assert notes_in_file(state_path) == ["from before", "new"]


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


async def test_deleted_while_open(state_path: Path) -> None:
    """rm state.db: it is written again from the handle that is still open on it, and nothing is lost."""
    health = HealthLog()
    async with opened(state_path, health=health) as database:
        await database.write(note("before"))
        for path in state_path.parent.iterdir():
            path.unlink()
        assert await database.write(note("after")) == 2
        assert await database.read(notes) == ["before", "after"]
        assert database.health is Health.OK
        assert "deleted" in database.health_reason
    assert health.healths == ["degraded", "ok"]
    assert notes_in_file(state_path) == ["before", "after"]


async def test_only_the_database_file_deleted(state_path: Path) -> None:
    """A -wal left over from the deleted file must not be taken for the new one's."""
    async with opened(state_path) as database, opened(state_path) as other:
        await database.write(note("before"))
        assert await other.read(notes) == ["before"]
        state_path.unlink()
        assert await database.read(notes) == ["before"], "a read finds it out, too"
        assert await database.write(note("after")) == 2
        assert await other.write(note("other")) == 3
    assert notes_in_file(state_path) == ["before", "after", "other"]
    assert integrity(state_path) == "ok"


async def test_deleted_with_its_directory(state_path: Path) -> None:
    """The directory comes back, too."""
    async with opened(state_path) as database:
        await database.write(note("before"))
        shutil.rmtree(state_path.parent)
        assert await database.write(note("after")) == 2
        assert database.health is Health.OK
        assert "it was written again" in database.health_reason
        assert await asyncio.to_thread(notes_in_file, state_path) == ["before", "after"]
    assert notes_in_file(state_path) == ["before", "after"]


async def test_replaced_by_another_file(state_path: Path) -> None:
    """A backup moved into place while we run: the new file is what counts, and that something may be lost is said."""
    async with opened(state_path) as database:
        await database.write(note("restored"))
    backup = state_path.with_name("backup.db")
    shutil.copy(state_path, backup)
    async with opened(state_path) as database:
        await database.write(note("forgotten"))
        os.replace(backup, state_path)
        assert await database.write(note("new")) == 2
        assert await database.read(notes) == ["restored", "new"]
        assert "replaced" in database.health_reason
        assert "lost" in database.health_reason


async def test_the_wal_is_taken_away_before_the_first_write(state_path: Path) -> None:
    """Nobody would ever find what is committed into a -wal that has no name."""
    async with opened(state_path) as database:
        await database.write(note("before"))
        await database.close()
    async with opened(state_path) as database:
        state_path.with_name("state.db-wal").unlink()
        assert await database.write(note("after")) == 2
        assert "-wal file is missing" in database.health_reason
        assert await asyncio.to_thread(notes_in_file, state_path) == ["before", "after"]


@pytest.mark.parametrize("how", ["deleted", "replaced"])
async def test_the_wal_is_taken_away(how: str, state_path: Path) -> None:
    """Without its -wal the file is not the whole: it is set aside and written again from the open handle."""
    async with opened(state_path) as database:
        await database.write(note("before"))
        wal = state_path.with_name("state.db-wal")
        await database.write(note("in the wal"))
        wal.unlink()
        if how == "replaced":
            wal.write_bytes(b"something else")
        assert await database.write(note("after")) == 3
        assert database.health is Health.OK
    assert notes_in_file(state_path) == ["before", "in the wal", "after"]
    assert integrity(state_path) == "ok"


async def test_gone_and_cannot_be_made_again(state_path: Path) -> None:
    """Where the directory was there is a file now: memory takes over, with all that was known, until it is put
    right.
    """
    async with opened(state_path) as database:
        await database.write(note("before"))
        folder = state_path.parent
        shutil.rmtree(folder)
        folder.write_text("in the way")
        assert await database.write(note("after")) == 2
        assert database.health is Health.DEGRADED
        assert "cannot be opened" in database.health_reason
        assert await database.probe() is Health.DEGRADED
        folder.unlink()
        assert await database.probe() is Health.OK
        assert await database.write(note("last")) == 3
    assert notes_in_file(state_path) == ["before", "after", "last"]


async def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """A wrong path in the settings costs durability, not the program."""
    (tmp_path / "file").write_text("x")
    async with opened(tmp_path / "file" / "state.db") as database:
        assert database.health is Health.DEGRADED
        assert await database.write(note("in memory")) == 1


async def test_a_path_that_is_a_directory(tmp_path: Path) -> None:
    """Nothing is ever written into or over something that is no file."""
    async with opened(tmp_path) as database:
        assert await database.write(note("in memory")) == 1
        assert "cannot be opened" in database.health_reason
    assert not any(path.name.startswith(tmp_path.name) for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [b"this is no database, but a text " * 300, b"SQLite format 3\0" + b"\xff" * 8000, os.urandom(100)],
    ids=["text", "garbled header", "short noise"],
)
async def test_not_a_database(content: bytes, state_path: Path) -> None:
    """It is set aside, never deleted, and a new file is begun."""
    state_path.parent.mkdir()
    state_path.write_bytes(content)
    health = HealthLog()
    async with opened(state_path, health=health) as database:
        assert await database.write(note("new")) == 1
        assert database.health is Health.OK
        assert "set aside as state.db.corrupt-" in database.health_reason
    assert health.healths == ["degraded", "ok"]
    [aside] = state_path.parent.glob("state.db.corrupt-*")
    assert aside.read_bytes() == content
    assert notes_in_file(state_path) == ["new"]


async def test_a_second_damaged_file_does_not_replace_the_first(state_path: Path) -> None:
    """Two in one second get two names."""
    state_path.parent.mkdir()
    for _ in range(2):
        state_path.write_bytes(b"no database" * 100)
        async with opened(state_path):
            pass
        state_path.unlink()
    assert len(list(state_path.parent.glob("state.db.corrupt-*"))) == 2


def damage(path: Path, *, first_page: int = 1, pages: int | None = None) -> None:
    """Overwrite pages of the file with noise."""
    data = bytearray(path.read_bytes())
    end = len(data) if pages is None else (first_page + pages) * 4096
    for offset in range(first_page * 4096, end):
        data[offset] = 0xA5
    path.write_bytes(data)


async def test_damaged_pages_found_in_use(state_path: Path) -> None:
    """SQLITE_CORRUPT in the middle of work: set aside with its -wal and -shm, a fresh file, what this process holds
    kept.
    """
    limits = StoreLimits(wait_s=0.05, check_s=0.0)
    async with opened(state_path) as database:
        for n in range(60):
            await database.write(note(f"{n}" + BIG))
    damage(state_path, first_page=6)
    async with opened(state_path, limits=limits) as database:
        database.add_restore(held)
        assert await database.read(notes) == ["held"]
        assert await database.write(note("new")) == 2
        assert "damaged" in database.health_reason
        assert database.health is Health.OK
        assert database.statistics()["quarantined"] == 1
    assert notes_in_file(state_path) == ["held", "new"]


async def test_damage_found_by_a_writer(state_path: Path) -> None:
    """The function that met the damage runs again on the fresh file."""
    async with opened(state_path) as database:
        for n in range(60):
            await database.write(note(f"{n}" + BIG))
    damage(state_path, first_page=6)
    async with opened(state_path) as database:
        assert await database.write(lambda conn: len(notes(conn))) == 0
        assert await database.write(note("new")) == 1
        assert database.health is Health.OK


async def test_damage_after_an_unclean_end_is_found_in_the_background(state_path: Path, tmp_path: Path) -> None:
    """Whoever died may have left more than half-written rows: the whole file is checked, beside the work."""
    # What is damaged below must be read from the file, and not from the WAL.
    database = await Database.open(state_path, [NOTES], limits=StoreLimits(checkpoint_bytes=1 << 20))
    for n in range(60):
        await database.write(note(f"{n}" + BIG))
    await database.write(note("last"))
    copy = tmp_path / "copy.db"
    await asyncio.to_thread(lambda: [shutil.copy(f"{state_path}{s}", f"{copy}{s}") for s in ("", "-wal")])
    await database.close()
    conn = sqlite3.connect(copy)
    conn.execute("PRAGMA wal_checkpoint(PASSIVE)")
    shutil.copy(f"{copy}-wal", tmp_path / "wal")
    conn.close()
    damage(copy, first_page=30, pages=3)
    shutil.copy(tmp_path / "wal", f"{copy}-wal")
    with contextlib.closing(sqlite3.connect(copy)) as keeper:
        keeper.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        keeper.execute("PRAGMA wal_autocheckpoint = 0")
        keeper.execute("INSERT INTO notes VALUES ('in the wal')")
        keeper.commit()
        async with opened(copy) as database:
            for _ in range(500):
                if database.statistics()["quarantined"]:
                    break
                await asyncio.sleep(0.01)
            assert await database.write(note("new")) == 1
            assert database.health is Health.OK
            assert "damaged" in database.health_reason


async def test_a_sound_file_after_an_unclean_end_is_left_alone(state_path: Path) -> None:
    """Another process at work looks like an unclean end: the check finds nothing, and nothing happens."""
    async with opened(state_path) as one:
        await one.write(note("x"))
        async with opened(state_path) as two:
            assert await two.write(note("y")) == 2
            assert two.health is Health.OK
        assert await one.write(note("z")) == 3


def test_the_check_is_bounded(tmp_path: Path) -> None:
    """A check that is stopped, or out of time, or that cannot read the file says nothing against it."""
    path = tmp_path / "some.db"
    with contextlib.closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE t (x)")
        conn.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(100_000)])
        conn.commit()
    stop = threading.Event()
    assert quick_check(path, stop, 60.0) is None
    assert quick_check(path, stop, 0.0) is None
    stop.set()
    assert quick_check(path, stop, 60.0) is None
    assert quick_check(tmp_path / "nowhere.db", stop, 1.0) is None
    damage(path, first_page=3, pages=2)
    assert quick_check(path, threading.Event(), 60.0) is not None
    path.write_bytes(b"no database" * 1000)
    assert quick_check(path, threading.Event(), 60.0) == "file is not a database"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("PRAGMA user_version = 999", "newer version"),
        ("PRAGMA application_id = 12345", "another program"),
    ],
)
async def test_what_is_not_for_us_is_not_touched(change: str, words: str, state_path: Path) -> None:
    """A newer version's file or another program's: not one byte is written; this process works in memory."""
    async with opened(state_path) as database:
        await database.write(note("theirs"))
    with contextlib.closing(sqlite3.connect(state_path, isolation_level=None)) as conn:
        conn.execute(change)
    await _check_untouched(state_path, words)


async def test_a_newer_component_is_not_touched(state_path: Path) -> None:
    """One component newer than we know is enough."""
    newer = Schema("notes", (*NOTES.migrations, "ALTER TABLE notes ADD COLUMN stars INTEGER"))
    async with await Database.open(state_path, [newer]):
        pass
    await _check_untouched(state_path, "newer version")


async def test_migrated_by_a_newer_version_in_use(state_path: Path) -> None:
    """Rows in the old form would be damage in the new one's eyes: whoever is older goes on in memory from then on."""
    newer = Schema("notes", (*NOTES.migrations, "ALTER TABLE notes ADD COLUMN stars INTEGER"))
    async with opened(state_path) as database:
        await database.write(note("old"))
        async with await Database.open(state_path, [newer]) as other:
            assert await database.write(note("too late")) == 1
            assert database.health is Health.DEGRADED
            assert "newer version" in database.health_reason
            assert await other.read(notes) == ["old"]
            assert await database.probe() is Health.DEGRADED
        assert "what it records will be lost" in database.health_reason
    assert notes_in_file(state_path) == ["old"]


async def test_tables_of_another_package_added_in_use(state_path: Path) -> None:
    """More tables than ours are no fault."""
    marks = Schema("marks", ("CREATE TABLE marks (name TEXT) STRICT",))
    async with opened(state_path) as database:
        await database.write(note("before"))
        async with await Database.open(state_path, [NOTES, marks]) as other:
            await other.write(note("other"))
        assert await database.write(note("after")) == 3
        assert (database.health, database.health_reason) == (Health.OK, "")


async def test_another_programs_database_is_not_touched(state_path: Path) -> None:
    """A sound SQLite file with tables of its own is somebody's data, whatever its name."""
    state_path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(state_path)) as conn:
        conn.execute("CREATE TABLE photos (x)")
    await _check_untouched(state_path, "another program")


async def _check_untouched(path: Path, words: str) -> None:
    before = path.read_bytes()
    health = HealthLog()
    async with opened(path, health=health) as database:
        assert await database.write(note("ours")) == 1
        assert await database.read(notes) == ["ours"]
        assert database.health is Health.DEGRADED
        assert words in database.health_reason
        assert "what it records will be lost" in database.health_reason
        assert await database.probe() is Health.DEGRADED
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*corrupt*"))
    assert health.healths == ["degraded"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE components SET version = 7",
        "UPDATE meta SET value = 'forged'",
        "DELETE FROM meta",
        "DROP TABLE notes",
        "DROP TABLE components",
        "ALTER TABLE notes ADD COLUMN odd TEXT",
    ],
)
async def test_tables_that_are_not_as_recorded(change: str, state_path: Path) -> None:
    """A flipped bit in a name or a version makes the file damaged, not newer, empty or full of errors."""
    async with opened(state_path) as database:
        await database.write(note("old"))
    with contextlib.closing(sqlite3.connect(state_path, isolation_level=None)) as conn:
        conn.execute(change)
    async with opened(state_path) as database:
        assert await database.write(note("new")) == 1
        assert "damaged" in database.health_reason


async def test_a_table_that_vanishes_in_use(state_path: Path) -> None:
    """ "No such table" is the caller's mistake, unless the table should be there."""
    async with opened(state_path) as database:
        await database.write(note("old"))
        with contextlib.closing(sqlite3.connect(state_path, isolation_level=None)) as conn:
            conn.execute("DROP TABLE notes")
        assert await database.write(note("new")) == 1
        assert "damaged" in database.health_reason
        with pytest.raises(sqlite3.OperationalError, match="no such table: nowhere"):
            await database.write(lambda conn: conn.execute("DELETE FROM nowhere"))


async def test_a_disk_that_damages_every_file(state_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mending has an end: after some new files memory takes over."""

    def corrupt(*_: object, **__: object) -> None:
        exc = sqlite3.DatabaseError("database disk image is malformed")
        exc.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise exc

    async with opened(state_path) as database:
        monkeypatch.setattr(StateFile, "_require_same_file", corrupt)
        assert await database.write(note("in memory")) == 1
        assert database.health is Health.DEGRADED
        monkeypatch.undo()
        assert await database.probe() is Health.OK
        assert await database.read(notes) == ["in memory"]


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


async def test_network_filesystems_get_no_wal(state_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WAL corrupts on NFS and its kind: a rollback journal is used, reads go through the writer, and a note is made."""
    monkeypatch.setattr("recovery.statefile.filesystem_type", lambda _: "nfs4")
    limits = StoreLimits(wait_s=0.05, checkpoint_commits=1)
    async with opened(state_path, limits=limits) as database:
        assert await database.write(note("slow but safe")) == 1
        assert not state_path.with_name("state.db-wal").exists()
        assert await database.read(notes) == ["slow but safe"]
        assert database.statistics()["wal"] is False
        assert database.health is Health.OK
        assert "nfs4" in database.health_reason
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await database.read(note("sneaked in"))
        with Exclusive(state_path, lock_file=True):
            assert await database.write(note("more")) == 2
        assert await database.probe() is Health.OK
    monkeypatch.undo()
    async with opened(state_path) as database:
        assert await database.read(notes) == ["slow but safe", "more"]
        assert database.statistics()["wal"] is True


async def test_a_read_only_mount(tmp_path: Path) -> None:
    """Nothing can be written, but what is there can be read and is built upon."""
    folder, view = tmp_path / "real", tmp_path / "view"
    async with opened(folder / "state.db") as database:
        await database.write(note("there"))
    with mounted("none", view, "bind", source=str(folder)):
        remount(view, "ro,bind")
        async with opened(view / "state.db") as database:
            assert database.health is Health.DEGRADED
            assert "read-only" in database.health_reason
            assert await database.write(note("more")) == 2
            assert await database.probe() is Health.DEGRADED
            remount(view, "rw,bind")
            assert await database.probe() is Health.OK
    assert notes_in_file(folder / "state.db") == ["there", "more"]


@pytest.mark.parametrize("damaged", [b"\xa0otes", b"n\xffte\xfe"], ids=["first", "more"])
async def test_a_name_that_is_no_text_any_more(damaged: bytes, state_path: Path) -> None:
    """Python cannot even decode SQLite's complaint: it is damage all the same, and no error of the caller."""
    async with opened(state_path) as database:
        await database.write(note("old"))
    data = state_path.read_bytes()
    assert b"CREATE TABLE notes" in data
    state_path.write_bytes(data.replace(b"notes", damaged))
    async with opened(state_path) as database:
        assert await database.write(note("new")) == 1
        assert "damaged" in database.health_reason
        assert database.health is Health.OK


async def test_damaged_and_replaced_at_once(state_path: Path) -> None:
    """Another process was faster in setting a damaged file aside: the one it has begun is not touched."""

    class Slow(FileLock):
        def acquire(self, wait_s: float) -> bool:
            state_path.unlink()
            state_path.write_bytes(b"new")
            return super().acquire(wait_s)

    def compare() -> None:
        state_path.parent.mkdir()
        state_path.write_bytes(b"damaged")
        keeper = state_path.open("rb")  # so that the number of the old file is not used again
        with keeper:
            assert quarantine(state_path, Slow(Path(f"{state_path}.lock")), file_id(state_path), wait_s=1.0) is None
        assert state_path.read_bytes() == b"new"
        assert quarantine(state_path, FileLock(Path(f"{state_path}.lock")), None, wait_s=1.0) is None

    await asyncio.to_thread(compare)


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
