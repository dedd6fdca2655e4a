"""Makes sure that a file will fit before its first byte is fetched: asks for free space, then allocates.

Blocking.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from pathlib import Path
from typing import Final

from resumable import syscalls
from resumable.disk_errors import local_error
from resumable.diskspace import disk_full, free_bytes
from resumable.ranges import Span

__all__ = ["allocate", "allocated", "written_spans"]

_CANNOT: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV, errno.EINVAL})


def allocated(fd: int) -> int:
    """Return the bytes the file takes on the device: st_blocks counts 512 bytes each, whatever the block size."""
    return os.fstat(fd).st_blocks * 512


def written_spans(fd: int, length: int) -> list[Span]:
    """Return the spans of the first ``length`` bytes that have been written, as far as the file system can tell.

    What was only allocated is a hole to most file systems; one that knows no holes calls the whole file written.
    Moves the descriptor's offset. Raises OSError.
    """
    spans: list[Span] = []
    end = min(length, os.fstat(fd).st_size)
    start = 0
    while start < end:
        try:
            start = os.lseek(fd, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole follows
                break
            if error.errno not in _CANNOT:
                raise
            return [Span(0, end)]
        stop = min(end, os.lseek(fd, start, os.SEEK_HOLE))
        if start < stop:
            spans.append(Span(start, stop))
        start = stop
    return spans


def allocate(fd: int, path: Path, length: int, *, alone: bool) -> None:
    """Allocate what ``length`` bytes of the file still lack.

    The size of the file stays what it is, or becomes ``length`` (one hole) where the file system cannot allocate.
    ``alone`` says that nobody writes meanwhile, so that a failed allocation may be given back.

    Raises DiskFull with the amounts, DestinationError where the file system or a limit of the process forbids the size.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit != resource.RLIM_INFINITY and length > limit:
        raise local_error(OSError(errno.EFBIG, os.strerror(errno.EFBIG)), path)
    # Asked before allocating: a failing fallocate keeps what it got, and lying lengths come cheap (reliability S27).
    needed, free = length - allocated(fd), free_bytes(os.fstatvfs(fd))
    if needed > free:
        raise disk_full(path, needed=needed, free=free)
    if length == 0:
        return
    try:
        _fill(fd, length)
    except OSError as error:
        if alone:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, os.fstat(fd).st_size)  # gives back what was allocated beyond the end
        raise local_error(error, path, needed=needed) from error


def _fill(fd: int, length: int) -> None:
    try:
        syscalls.fallocate(fd, length)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        if length > os.fstat(fd).st_size:
            os.ftruncate(fd, length)  # finds out whether the file system holds a file of that size
