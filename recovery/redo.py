"""The functions that ran in memory while the file could not be used, in order, to be run again on the file. Bounded.

When there are too many, progress (not urgent) is given up before decisions are, oldest first, and counted as lost.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from recovery.work import Work

__all__ = ["RedoList"]


class RedoList:
    """What has to be caught up, oldest first."""

    def __init__(self, limit: int) -> None:
        """Keep at most ``limit`` functions."""
        self._limit = limit
        self._works: deque[Work] = deque()
        self.lost = 0
        """Functions given up or refused so far; their changes exist in memory only."""

    def __len__(self) -> int:
        return len(self._works)

    def add(self, work: Work) -> None:
        """Remember a function that succeeded in memory."""
        self._works.append(Work(work.fn, urgent=work.urgent))
        if len(self._works) > self._limit:
            self._make_room()

    def first(self, count: int) -> list[Work]:
        """Return the oldest ``count`` functions; they stay until ``done`` is called."""
        return list(islice(self._works, count))

    def done(self, count: int, *, refused: int) -> None:
        """Forget the oldest ``count`` functions: they are in the file now, but for ``refused`` of them."""
        for _ in range(count):
            self._works.popleft()
        self.lost += refused

    def clear(self) -> None:
        """Forget all of them: the file has everything in another way."""
        self._works.clear()
        self.lost = 0

    def _make_room(self) -> None:
        # A quarter at once, so that the walk over the list is paid for by many additions.
        surplus = max(1, self._limit // 4)
        kept: deque[Work] = deque()
        for work in self._works:
            if surplus and not work.urgent:
                surplus -= 1
                self.lost += 1
            else:
                kept.append(work)
        while len(kept) > self._limit:
            kept.popleft()
            self.lost += 1
        self._works = kept
