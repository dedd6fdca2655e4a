"""A finished file, open for reading: what a publication is recognised by when nobody lived to record it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

from resumable.disk_errors import blamed
from resumable.hops import Hops
from resumable.ports import Sink
from resumable.reading import hash_span

__all__ = ["FinishedFile"]


class FinishedFile:
    """An open regular file. Reads are thread hops; ``close`` waits for them."""

    def __init__(self, path: Path, fd: int, hops: Hops) -> None:
        """Own ``fd``."""
        self.path = path
        self._fd = fd
        self._hops = hops

    @classmethod
    async def open(cls, path: Path, length: int) -> FinishedFile | None:
        """Open the file at ``path``; None where there is no regular file of exactly ``length`` bytes to be read."""
        hops = Hops()

        def work() -> FinishedFile | None:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:
                return None
            found = os.fstat(fd)
            if stat.S_ISREG(found.st_mode) and found.st_size == length:
                return cls(path, fd, hops)
            os.close(fd)
            return None

        return await hops.run(work, undo=_give_back)

    async def hash_span(self, offset: int, length: int, digest: Sink) -> int:
        """Feed up to ``length`` bytes from ``offset`` to ``digest``; return how many there were. Raises DeviceError."""
        return await hash_span(self._hop, self._fd, offset, length, digest)

    async def _hop(self, work: Callable[[], int]) -> int:
        return await self._hops.run(partial(blamed, self.path, work))

    async def close(self) -> None:
        """Give the descriptor back."""
        await self._hops.finish(partial(os.close, self._fd))


def _give_back(opened: FinishedFile | None) -> None:
    if opened is not None:
        os.close(opened._fd)  # noqa: SLF001  # opened for a caller who was cancelled meanwhile
