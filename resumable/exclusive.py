"""Opens a part file for one owner: makes or finds it, locks it, and refuses what somebody else may have put there.

A second line of defence: across machines, and where flock does nothing, the lease in the database decides. Blocking.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Final

from resumable.disk_errors import local_error
from resumable.errors import DestinationError, PartFileBusy
from resumable.filename import numbered
from resumable.folder import Folder, same_file

__all__ = ["open_exclusively", "unlock"]

_MODE: Final = 0o600
_MOST_RACES: Final = 100
_MOST_NAMES: Final = 100
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})


def open_exclusively(folder: Folder, name: str) -> tuple[int, bool]:
    """Open and lock ``name``, making it where there is none; return the descriptor and whether the file is new.

    Raises:
        PartFileBusy: another process, or another download of this one, holds the lock.
        DestinationError: there is something that is not our own regular file, or it may not be opened.
        LocalError: as ``local_error`` maps what the system says.
    """
    path = folder.path / name
    for _ in range(_MOST_RACES):
        _refuse_strange(folder.stat(name), path)
        try:
            fd, new = folder.open_file(name)
        except FileNotFoundError as error:
            if folder.still_there():
                continue  # published or deleted between our two looks
            raise local_error(error, folder.path) from error
        except OSError as error:
            raise local_error(error, path) from error
        try:
            _lock(fd, path)
            # Whoever held the lock may have published the file: then the name is free, or is another file's by now.
            there = folder.stat(name)
            if there is not None and same_file(there, os.fstat(fd)) and not _was_published(folder, name, there):
                _refuse_foreign(folder, path, os.fstat(fd), new=new)
                _narrow(fd)
                return fd, new
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    raise PartFileBusy(f"{path} is replaced again and again by another program")


def unlock(fd: int) -> None:
    """Give up the lock now: closing keeps it while a forked child still has the descriptor."""
    with contextlib.suppress(OSError):  # where locks are not supported at all
        fcntl.flock(fd, fcntl.LOCK_UN)


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise PartFileBusy(f"{path} is in use by another download or process") from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise local_error(error, path) from error


def _refuse_strange(status: os.stat_result | None, path: Path) -> None:
    if status is None or stat.S_ISREG(status.st_mode):
        return
    if stat.S_ISLNK(status.st_mode):
        raise DestinationError(f"{path} is a symbolic link, which is not followed")
    if stat.S_ISDIR(status.st_mode):
        raise DestinationError(f"{path} is a folder")
    raise DestinationError(f"{path} is not a regular file")


def _refuse_foreign(folder: Folder, path: Path, status: os.stat_result, *, new: bool) -> None:
    _refuse_strange(status, path)
    if status.st_nlink != 1:
        raise DestinationError(f"{path} has a second name (a hard link), so writing it would change another file")
    # Where all files have one owner, set at the mount (FAT, root-squashed NFS), that owner is us.
    if not new and status.st_uid != os.geteuid() and status.st_uid != _our_uid(folder, path):
        raise DestinationError(f"{path} belongs to another user (uid {status.st_uid})")


def _our_uid(folder: Folder, path: Path) -> int:
    try:
        return folder.owner_of_new_files()
    except OSError as error:
        raise local_error(error, path) from error


def _was_published(folder: Folder, name: str, status: os.stat_result) -> bool:
    """Finish a publication by link and unlink that died in between: the file is complete under its final name."""
    base = name.removesuffix(".part")
    if status.st_nlink != 2 or base == name:
        return False
    for n in range(_MOST_NAMES):
        other = folder.stat(base if n == 0 else numbered(base, n))
        if other is not None and same_file(other, status):
            folder.remove(name)
            return True
    return False


def _narrow(fd: int) -> None:
    # A run that died between setting the final mode and renaming left it open to others. FAT refuses: it has no modes.
    if stat.S_IMODE(os.fstat(fd).st_mode) != _MODE:
        with contextlib.suppress(PermissionError, NotImplementedError):
            os.fchmod(fd, _MODE)
