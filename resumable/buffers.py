"""The memory that bodies are received into: one bounded pool for the whole process.

Buffers are reused, because a fresh one of a megabyte costs a page fault for every 4 KiB of it. A connection asks for as
much as its extent could use and gets what the budget has left, so that one download runs on large blocks and a thousand
run on small ones (design section 3).
"""

from __future__ import annotations

import mmap
from typing import Final

__all__ = ["BUDGET", "LARGEST", "SMALLEST", "Buffers"]

LARGEST: Final = 1 << 20
"""One thread hop writes and hashes at most this much: below 256 KiB the hop costs more than the write (measured)."""
SMALLEST: Final = 16 << 10
"""What everybody gets however little is left of the budget: without a buffer nothing moves."""
BUDGET: Final = 64 << 20
_MOST_SPARE: Final = 8 << 20


class Buffers:
    """Hands out buffers of 16 KiB to 1 MiB, in powers of two. For one thread; sizes are bytes."""

    def __init__(self, budget: int = BUDGET) -> None:
        """Hand out at most ``budget`` bytes, but for the smallest buffers, which are never refused."""
        self._budget = budget
        self._spare: dict[int, list[mmap.mmap]] = {}
        self._spare_bytes = 0
        self.leased = 0
        """Bytes handed out now."""

    def lease(self, wanted: int) -> mmap.mmap:
        """Return a buffer for ``wanted`` bytes, or a smaller one; what is in it is left over from others."""
        left = self._budget - self.leased
        size = SMALLEST
        while size < wanted and size < LARGEST and 2 * size <= left:
            size *= 2
        spare = self._spare.get(size)
        if spare:
            self._spare_bytes -= size
            buffer = spare.pop()
        else:
            # Page-aligned: malloc puts large blocks 16 bytes behind a page's start, where the processor (Zen 3, rep
            # movsb) copies from the socket at a third of its speed.
            buffer = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.leased += size
        return buffer

    def give_back(self, buffer: mmap.mmap) -> None:
        """Take back a leased buffer, which nobody may use from now on."""
        size = len(buffer)
        self.leased -= size
        if self._spare_bytes + size <= _MOST_SPARE:
            self._spare_bytes += size
            self._spare.setdefault(size, []).append(buffer)
