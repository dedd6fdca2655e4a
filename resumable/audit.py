"""Re-hashes what a former run left: its checkpoints are claims, and the disk decides which of them are true.

It changes nothing: the caller withdraws the claims that turn out false and has those chunks fetched again.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from resumable.errors import DeviceError
from resumable.model import Checkpoint
from resumable.plan import ChunkGrid
from resumable.ports import Digester, Readable
from resumable.settling import until_done

__all__ = ["Audited", "audit"]

_THREADS: Final = 2
_MOST_UNREADABLE: Final = 3
"""So many bad sectors are damage that fetching again repairs; beyond that it is the device, and claims are kept."""


@dataclass(frozen=True, slots=True)
class Audited:
    """The disk's word on one claim."""

    checkpoint: Checkpoint
    ok: bool
    digester: Digester | None = None
    """For a true claim on part of a chunk: fed with exactly the claimed bytes, so that the chunk goes on from there."""


async def audit(
    part: Readable,
    claims: Mapping[int, Checkpoint],
    *,
    chunk_size: int,
    complete_length: int,
    threads: int = _THREADS,
) -> AsyncGenerator[Audited, None]:
    """Judge each claim once, in file order, each as soon as it and those before it are known.

    A claim without a digest (``b""``) is true where its bytes can be read, and comes back with theirs.

    At most ``threads`` chunks are read at a time, beside whatever else the part file is doing. Claims that fit no
    chunk are false. Closing the generator (``contextlib.aclosing``) or cancelling its consumer stops the reading.

    Raises DeviceError when the device fails for more than a few chunks; LocalError as the part file does.
    """
    judge = _Judge(part, ChunkGrid(complete_length, chunk_size), threads)
    waiting = iter([claims[index] for index in sorted(claims)])
    # Twice as many as threads: one slow chunk at the head must not leave a thread idle, and results stay few.
    window: deque[asyncio.Task[Audited]] = deque()
    try:
        while True:
            while len(window) < 2 * threads and (checkpoint := next(waiting, None)) is not None:
                window.append(asyncio.create_task(judge.judge(checkpoint), name=f"audit-{checkpoint.index}"))
            if not window:
                return
            # Taken out only when done: whatever happens in between, the clean-up sees it.
            await asyncio.wait((window[0],))
            yield window.popleft().result()
    finally:
        for task in window:
            task.cancel()
        held_back = await until_done(*window)
        for task in window:
            if not task.cancelled():
                task.exception()  # seen: why it ends is known already
        if held_back is not None:
            raise held_back


class _Judge:
    def __init__(self, part: Readable, grid: ChunkGrid, threads: int) -> None:
        self._part = part
        self._grid = grid
        self._slots = asyncio.Semaphore(threads)
        self._unreadable = 0

    async def judge(self, checkpoint: Checkpoint) -> Audited:
        if not 0 <= checkpoint.index < self._grid.count:
            return Audited(checkpoint, ok=False)
        span = self._grid.span(checkpoint.index)
        if not 0 < checkpoint.length <= span.length:
            return Audited(checkpoint, ok=False)
        digester = hashlib.sha256()
        try:
            async with self._slots:
                count = await self._part.hash_span(span.start, checkpoint.length, digester)
        except DeviceError as error:
            self._bear(error)
            return Audited(checkpoint, ok=False)
        if not checkpoint.digest:
            checkpoint = replace(checkpoint, digest=digester.digest())
        ok = count == checkpoint.length and digester.digest() == checkpoint.digest
        return Audited(checkpoint, ok=ok, digester=digester if ok and checkpoint.length < span.length else None)

    def _bear(self, error: DeviceError) -> None:
        """Take a bad sector for damage; raise ``error`` when the device as a whole does not answer."""
        self._unreadable += 1
        cause = error.__cause__
        sector = isinstance(cause, OSError) and cause.errno in {errno.EIO, errno.EBADMSG}
        if not sector or self._unreadable > _MOST_UNREADABLE:
            raise error
