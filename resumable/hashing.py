"""Whole-file SHA-256 off the event loop, behind a running transfer.

Not the chunk digests: those are fed where the bytes are written (``partfile.py``). Finished files are read in
``verify.py``.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

from resumable.errors import DeviceError, LocalError
from resumable.ports import Digester, PartFile
from resumable.settling import until_done

__all__ = ["FollowBehind"]

_STEP: Final = 4 << 20
"""Bytes per hop: 3 ms of hashing, so that writes never queue long behind it."""
_FIRST_SPACING: Final = 64 << 20
_MOST_MARKS: Final = 64


class FollowBehind:
    """SHA-256 of a part file, read while still warm: it follows the prefix that is final on disk, one hop at a time.

    SHA-256 cannot go back, but its state can be copied: at most 64 copies are kept, so that taking bytes back costs
    reading again from the copy before them and not from byte 0. Reading starts in ``advance`` and ends by itself when
    it has caught up. It must be closed before its part file.
    """

    def __init__(self, part: PartFile) -> None:
        """Begin at byte 0 of ``part``, which stays the caller's."""
        self._part = part
        self._digest: Digester = hashlib.sha256()
        self._position = 0
        self._flying = 0
        self._upto = 0
        self._marks: list[tuple[int, Digester]] = [(0, hashlib.sha256())]
        self._spacing = _FIRST_SPACING
        self._finishing = False
        self._failure: LocalError | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def position(self) -> int:
        """Bytes hashed so far."""
        return self._position

    def advance(self, upto: int) -> None:
        """Tell that bytes ``[0, upto)`` are final on disk; never waits and never raises."""
        self._upto = max(self._upto, upto)
        if self._failure is None and not self._closed and self._due():
            self._start()

    def rewind(self, to: int) -> None:
        """Tell that bytes from ``to`` on have been taken back; ``advance`` brings them back."""
        self._upto = min(self._upto, to)
        if to < self._position + self._flying:
            self._go_back(to)

    async def finish(self, length: int) -> str:
        """Read what is left and return the hex digest of the first ``length`` bytes, all of which are final on disk.

        Cancelling it stops nothing; it may be called again, after a failure too.

        Raises DeviceError when the file cannot be read or is shorter than ``length``; RuntimeError when bytes are taken
        back meanwhile.
        """
        if self._closed:
            raise ValueError("the digest is closed")
        if length < self._position + self._flying:
            self._go_back(length)
        self._upto = length
        self._finishing = True
        try:
            while self._position < length:
                task = self._start()
                await asyncio.wait((task,))
                task.result()
                self._raise_failure()
                if self._upto < length:
                    raise RuntimeError("bytes were taken back while their digest was asked for")
        finally:
            self._finishing = False
        return self._digest.digest().hex()

    async def close(self) -> None:
        """Stop reading; the thread has let go of the part file when this returns."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            held_back = await until_done(self._task)
            if held_back is not None:
                raise held_back

    def _start(self) -> asyncio.Task[None]:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._follow(), name="follow-behind")
        return self._task

    def _due(self) -> int:
        """Return how many bytes the next hop reads: whole steps, and at the end whatever is left."""
        left = self._upto - self._position
        return min(left, _STEP) if left >= _STEP or self._finishing else 0

    async def _follow(self) -> None:
        try:
            while count := self._due():
                await self._read(count)
        except LocalError as error:
            self._failure = error

    async def _read(self, count: int) -> None:
        digest = self._digest
        self._flying = count
        found = 0
        try:
            found = await self._part.hash_span(self._position, count, digest)
        finally:
            self._flying = 0
            current = digest is self._digest  # else these bytes were taken back meanwhile
            if current and found < count:
                self._go_back(self._position)  # it has been fed some of the bytes, nobody knows how many
        if not current:
            return
        if found < count:
            raise DeviceError(f"{self._part.path} is shorter than what was written to it: another program has cut it")
        self._position += count
        self._mark()

    def _mark(self) -> None:
        if self._position - self._marks[-1][0] < self._spacing:
            return
        self._marks.append((self._position, self._digest.copy()))
        if len(self._marks) > _MOST_MARKS:
            del self._marks[1::2]
            self._spacing *= 2

    def _go_back(self, to: int) -> None:
        while self._marks[-1][0] > to:
            del self._marks[-1]
        self._position, digest = self._marks[-1]
        self._digest = digest.copy()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
