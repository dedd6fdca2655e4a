"""Writes blocks to an open file until all is written: in pieces of the size that costs the system least.

Blocking.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from typing import Final

__all__ = ["write_all"]

_PIECE: Final = 256 * 1024
"""ext4 makes one folio of a write of a megabyte, and fresh memory for that is dear: 2.2 s of kernel time for 1 GiB,
with this 1.1 (measured; docs/decisions/0023)."""
_MOST_VECTORS: Final = 1024
"""IOV_MAX of Linux and the BSDs."""
_AGAIN_TRIES: Final = 100
_AGAIN_S: Final = 0.01


def write_all(
    fd: int, offset: int, blocks: Sequence[bytes | memoryview], failed: Callable[[int, OSError], Exception]
) -> None:
    """Write the blocks one after the other at ``offset``; raise what ``failed`` makes of an error and where it was.

    Raises OSError(EIO) where the system takes nothing, and BlockingIOError where it says again and again that it would
    block.
    """
    left, tries = [block for block in blocks if block], 0
    while left:
        try:
            count = os.pwritev(fd, _next(left), offset)
        except BlockingIOError:
            # No regular file should say this; FUSE and fault injection do.
            tries += 1
            if tries == _AGAIN_TRIES:
                raise
            time.sleep(_AGAIN_S)
            continue
        except OSError as error:
            raise failed(offset, error) from error
        if count == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))  # would go on for ever
        offset += count
        _skip(left, count)


def _next(left: Sequence[bytes | memoryview]) -> Sequence[bytes | memoryview]:
    """Return the first blocks of ``left`` that are one piece together, or a piece of the first."""
    count = room = 0
    for block in left[:_MOST_VECTORS]:
        room += len(block)
        if room > _PIECE:
            break
        count += 1
    return left[:count] or [memoryview(left[0])[:_PIECE]]


def _skip(left: list[bytes | memoryview], count: int) -> None:
    """Drop the first ``count`` bytes of ``left``."""
    whole = 0
    while whole < len(left) and count >= len(left[whole]):
        count -= len(left[whole])
        whole += 1
    del left[:whole]
    if count:
        left[0] = memoryview(left[0])[count:]
