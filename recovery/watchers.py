"""Watchers: each tells whether what parked operations wait for has come. Room on a disk, a network, file descriptors.

They look and touch nothing: no packet is sent and no file is written. A watcher that cannot tell says that the
condition holds, so that an attempt finds out: nobody must be stranded by a look that does not see.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from recovery.verdict import Condition

__all__ = ["Watcher", "has_descriptors", "has_network", "has_room", "standard_watchers"]

Watcher = Callable[[BaseException], Awaitable[bool]]
"""Gets the exception that parked the operation, which may say how much of what is missing, and where."""

_ROOM = 16 << 20
"""Bytes that must be free where nobody said how many are needed: an append that failed needs more than a block."""
_SPARE_PAIRS = 4
_OUTSIDE = ((socket.AF_INET, "198.51.100.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses for documentation (RFC 5737, RFC 3849): on no network, so only a default route leads to them."""
_NO_WAY = frozenset({errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def standard_watchers() -> dict[Condition, Watcher]:
    """Return the watchers that need to know nothing of the operation; for a login there is none."""
    return {
        Condition.DISK_SPACE: has_room,
        Condition.NETWORK: has_network,
        Condition.DESCRIPTORS: has_descriptors,
    }


async def has_room(error: BaseException) -> bool:
    """Return whether there is room again on the file system of the OSError's file.

    Quotas and inodes are not seen.
    """
    filename = getattr(error, "filename", None)
    if not isinstance(filename, str | bytes | os.PathLike):
        return True
    return await asyncio.to_thread(_free_bytes, Path(os.fsdecode(filename))) >= _ROOM


async def has_network(_: BaseException | None = None) -> bool:
    """Return whether this computer has a way out, by asking its own routing table with a UDP socket that sends nothing.

    A route is no proof that anybody answers; that is for an attempt to find out.
    """
    return any(_leads_out(family, address) for family, address in _OUTSIDE)


async def has_descriptors(_: BaseException | None = None) -> bool:
    """Return whether a few more files can be opened at once."""
    pairs: list[tuple[int, int]] = []
    try:
        for _pair in range(_SPARE_PAIRS):
            pairs.append(os.pipe())  # noqa: PERF401 - those already open must be closed when the next one fails
    except OSError:
        return False
    finally:
        for ends in pairs:
            for descriptor in ends:
                os.close(descriptor)
    return True


def _free_bytes(path: Path) -> int:
    while True:
        try:
            return shutil.disk_usage(path).free
        except OSError:  # it does not exist yet, or its device is gone
            if path.parent == path:
                return _ROOM
            path = path.parent


def _leads_out(family: int, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.settimeout(0.0)
            probe.connect((address, 9))
    except OSError as exc:
        return exc.errno not in _NO_WAY
    return True
