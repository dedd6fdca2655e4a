"""The lock file that serialises writers: exclusive, bounded in its waits, and safe against being deleted."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from recovery.filelock import FileLock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the lock file goes."""
    return tmp_path / "state.db.lock"


def test_one_at_a_time(path: Path) -> None:
    """Over two descriptors, as two processes have them; given back by release and by close."""
    one, two = FileLock(path), FileLock(path)
    assert one.acquire(0.0)
    assert not two.acquire(0.0)
    one.release()
    assert two.acquire(0.0)
    assert not one.acquire(0.01)
    two.close()
    assert one.acquire(0.0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_is_waited_for(path: Path) -> None:
    """Whoever is patient gets it as soon as it is free."""
    one, two = FileLock(path), FileLock(path)
    assert one.acquire(0.0)
    got: list[bool] = []
    waiting = threading.Thread(target=lambda: got.append(two.acquire(60.0)))
    waiting.start()
    time.sleep(0.05)
    assert got == []
    one.release()
    waiting.join(30.0)
    assert got == [True]


def test_a_deleted_lock_file_is_noticed(path: Path) -> None:
    """A lock on a file that has no name any more keeps nobody out: the new one is taken instead."""
    one, two = FileLock(path), FileLock(path)
    assert one.acquire(0.0)
    one.release()
    path.unlink()
    assert two.acquire(0.0)
    assert not one.acquire(0.0)
    two.release()
    path.unlink()
    path.touch()
    assert one.acquire(0.0)
    assert not two.acquire(0.0)


def test_giving_back_what_is_not_held(path: Path) -> None:
    """Does nothing; closing twice neither."""
    lock = FileLock(path)
    lock.release()
    lock.close()
    lock.close()
    assert not path.exists()


def test_a_link_in_its_place_is_refused(path: Path, tmp_path: Path) -> None:
    """In a directory others can write to it could lead anywhere."""
    (tmp_path / "target").touch()
    path.symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links") as caught:
        FileLock(path).acquire(0.0)
    assert caught.value.errno == errno.ELOOP


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_flock_sqlite_is_on_its_own(code: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems have none: SQLite's own locks must do."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    lock = FileLock(path)
    assert lock.acquire(0.0)
    lock.release()
    lock.close()


def test_other_errors_are_raised(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails is no lock that is taken."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="I/O error"):
        FileLock(path).acquire(0.0)
