"""Reads a span of an open file into a digest, a bounded piece a hop: what part and finished files have in common."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from resumable.ports import Sink

__all__ = ["hash_span"]

_READ_SIZE: Final = 512 * 1024
_SPAN_PER_HOP: Final = 16 << 20
"""Bytes read and hashed in one hop: about 12 ms, which is how long a cancellation waits."""


async def hash_span(
    hop: Callable[[Callable[[], int]], Awaitable[int]], fd: int, offset: int, length: int, digest: Sink
) -> int:
    """Feed up to ``length`` bytes from ``offset`` to ``digest``; return how many there were before the file's end.

    ``hop`` runs a function in a thread, returns what it returns, and raises what it makes of an OSError.
    """
    done = 0
    while done < length:
        wanted = min(length - done, _SPAN_PER_HOP)
        count = await hop(partial(_hash, fd, offset + done, wanted, digest))
        done += count
        if count < wanted:
            break
    return done


def _hash(fd: int, offset: int, length: int, digest: Sink) -> int:
    done = 0
    while done < length and (block := os.pread(fd, min(_READ_SIZE, length - done), offset + done)):
        digest.update(block)
        done += len(block)
    return done
