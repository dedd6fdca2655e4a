"""What a state file does not let us do, fault by fault: writes go on, health says why, and what can be caught up is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recovery.database import Database, Health, StoreLimits
from recovery.testing import FakeClock
from tests.faulty_files import BIG, IMPATIENT, Exclusive, full, opened, read_only
from tests.mounts import mounted, remount
from tests.notes import NOTES, HealthLog, integrity, note, notes, notes_in_file


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
