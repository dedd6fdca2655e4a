"""Turns what the operating system says about a file into this package's errors: which file, whose fault, in words.

By errno only, never by text. Not a verdict on trying again: that is recovery's.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from resumable.diskspace import UNKNOWN, disk_full, free_space
from resumable.errors import DestinationError, DeviceError, LocalError

__all__ = ["blamed", "local_error", "missing_folder"]

T = TypeVar("T")

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

_DESTINATION: Final = {
    errno.EACCES: "no permission for {path}",
    errno.EPERM: "the system does not allow that for {path}",
    errno.EROFS: "{path} is on a file system that is read-only",
    errno.ENOENT: "{path} is gone",
    errno.ENOTDIR: "a folder on the way to {path} is not a folder",
    errno.EISDIR: "{path} is a folder",
    errno.ENOTEMPTY: "{path} is a folder",
    errno.ENAMETOOLONG: "the file name is too long for the file system: {path}",
    errno.ELOOP: "{path} is a symbolic link, which is not followed",
    errno.EINVAL: "the file system refuses {path}, perhaps for its name",
    errno.EILSEQ: "the file system refuses {path}, perhaps for its name",
    errno.EFBIG: "{path} would be larger than the file system (FAT32: 4.3 GB) or the process limit (ulimit -f) allows",
}

_DEVICE: Final = frozenset(
    {
        *(errno.EIO, errno.ENXIO, errno.ENODEV, errno.EBADMSG),
        *(errno.ESTALE, errno.EREMOTEIO, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ESHUTDOWN),
        errno.EUCLEAN,
    }
)


def local_error(error: OSError, path: Path, *, needed: int = 1) -> LocalError:
    """Return the LocalError for ``error``, which met ``path``; raise it ``from error``: the errno is the finest fact.

    ``needed`` is the number of bytes there should have been room for. Blocking: a full disk is asked how full it is.
    """
    code = error.errno
    if code in _FULL:
        return disk_full(path, needed=max(1, needed), free=_free(path), quota=code == errno.EDQUOT)
    if code in _DESTINATION:
        return DestinationError(_DESTINATION[code].format(path=path))
    said = os.strerror(code) if code else str(error)
    if code in _DEVICE:
        return DeviceError(f"the disk failed at {path}: {said}")
    return LocalError(f"cannot use {path}: {said}")


def missing_folder(error: OSError, folder: Path) -> LocalError:
    """Return the error for a folder that cannot be opened, naming the one to blame on the way to it. Blocking."""
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        for place in (*reversed(folder.parents), folder):
            if not os.path.lexists(place):
                return DestinationError(f"the folder {place} does not exist")
            if not os.path.isdir(place):
                return DestinationError(f"{place} is not a folder")
    return local_error(error, folder)


def _free(path: Path) -> int:
    try:
        return free_space(path.parent)
    except OSError:
        return UNKNOWN


def blamed(path: Path, work: Callable[[], T]) -> T:
    """Return what ``work`` returns; an OSError of it becomes the LocalError of ``path``."""
    try:
        return work()
    except OSError as error:
        raise local_error(error, path) from error
