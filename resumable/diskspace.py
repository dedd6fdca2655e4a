"""Room on a file system: how much there is, and the words for there being too little."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

from recovery.watchers import has_room
from resumable.errors import DiskFull

__all__ = ["disk_full", "free_bytes", "free_space", "has_room_for", "readable_size"]

UNKNOWN: Final = 2**63 - 1
"""Free bytes of a file system that does not tell: tmpfs without a limit and some FUSE ones have 0 blocks in total."""

_UNITS: Final = ("kB", "MB", "GB", "TB", "PB", "EB")


def free_space(path: Path) -> int:
    """Return the bytes a user may still write on the file system of ``path``, which need not exist yet. Blocking.

    The blocks reserved for root do not count, nor do quotas; ``UNKNOWN`` where the file system does not tell.

    Raises OSError: EACCES, or an unreachable device.
    """
    while True:
        try:
            return free_bytes(os.statvfs(path))
        except (FileNotFoundError, NotADirectoryError):
            if path.parent == path:
                raise
            path = path.parent


def free_bytes(status: os.statvfs_result) -> int:
    """Return the free bytes that a statvfs answer tells, ``UNKNOWN`` where it tells nothing."""
    if status.f_blocks == 0:
        return UNKNOWN
    return status.f_bavail * (status.f_frsize or status.f_bsize)


async def has_room_for(error: BaseException) -> bool:
    """Return whether there is room now for what ``DiskFull`` said was needed: recovery's watcher of full disks.

    What else parks for want of space is judged as recovery judges it. Quotas and inodes are not seen: an attempt finds
    out. Raises OSError like ``free_space``.
    """
    if not isinstance(error, DiskFull):
        return await has_room(error)
    return await asyncio.to_thread(free_space, Path(error.path)) >= error.needed


def disk_full(path: Path, *, needed: int, free: int, quota: bool = False) -> DiskFull:
    """Return the exception that says how many bytes ``path`` still needs and how many its file system has."""
    amounts = f"needs {readable_size(needed)}" + (f", {readable_size(free)} free" if free < UNKNOWN else "")
    if quota:
        message = f"the disk quota is used up for {path}: needs {readable_size(needed)}"
    elif free >= needed:
        # Out of inodes, a reserve we may not touch, or space that came back a moment ago.
        message = f"the file system of {path} takes no more data: {amounts}"
    else:
        message = f"not enough free space for {path}: {amounts}"
    return DiskFull(message, needed=needed, free=free, path=str(path))


def readable_size(count: int) -> str:
    """Return ``count`` bytes in decimal units with at most one decimal: ``999 B``, ``12.4 GB``."""
    if count < 1000:
        return f"{count} B"
    value, unit = float(count), "B"
    for unit in _UNITS:  # noqa: B007  # used after the loop
        value /= 1000
        if value < 999.95:
            break
    return f"{value:.1f} {unit}".replace(".0 ", " ")
