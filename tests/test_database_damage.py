"""State files that are damaged, or not ours: set aside or left alone, never written over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from recovery.connections import file_id
from recovery.database import Database, Health, Schema, StoreLimits
from recovery.filelock import FileLock
from recovery.quickcheck import quick_check
from recovery.statefile import StateFile, quarantine
from tests.faulty_files import BIG, held, opened
from tests.notes import NOTES, HealthLog, note, notes, notes_in_file


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
