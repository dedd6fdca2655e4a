"""What an open file looked like after our own last change of it, so that another program's changes are noticed.

Blocking. It costs two ``fstat`` a write, and sees what a look at the clock and the size can show: a change within the
same tick of the clock (4 ms at most; none on Linux 6.13 and newer) is not told from our own.
"""

from __future__ import annotations

import os
from typing import Final

from resumable.ranges import Span

__all__ = ["Imprint"]

_NOT_YET: Final = -1


class Imprint:
    """Size and time of the last change of one file. ``reach`` is where the bytes end that were found or written."""

    __slots__ = ("_mtime_ns", "changed", "cut", "reach", "spans")

    def __init__(self, spans: list[Span] | None = None) -> None:
        """Know of no file yet, or only which ``spans`` of it have been written."""
        self.reach = 0
        self.spans = spans
        self.cut = False
        """Whether another program has made the file shorter: what was written may be a hole now."""
        self.changed = False
        """Whether another program seems to have written to it, or made holes in it."""
        self._mtime_ns = _NOT_YET

    def take(self, fd: int, *, reach: int | None = None) -> None:
        """Remember the file as it is, right after a change of ours."""
        self._mtime_ns = os.fstat(fd).st_mtime_ns
        self.reach = self.reach if reach is None else reach

    def look(self, fd: int) -> None:
        """Compare, right before a change of ours, which would hide what has happened."""
        found = os.fstat(fd)
        self.cut = self.cut or found.st_size < self.reach
        self.changed = self.changed or self._mtime_ns not in {_NOT_YET, found.st_mtime_ns}
