"""Re-hashes what a former run left: its checkpoints are claims, and the disk decides which of them are true.

It changes nothing: the caller withdraws the claims that turn out false and has those chunks fetched again.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from resumable.errors import DeviceError
from resumable.model import Checkpoint
from resumable.plan import ChunkGrid
from resumable.ports import Digester, Readable
from resumable.settling import until_done

__all__ = ["Audited", "audit"]

_THREADS: Final = 2
_RUN: Final = 16 << 20
"""12 ms of hashing, which is how long a cancellation waits. Hop by hop, chunks of 1 MiB came at 40 % of the speed."""
_MOST_UNREADABLE: Final = 3
"""So many bad sectors are damage that fetching again repairs; beyond that it is the device, and claims are kept."""


class Audited(Struct, frozen=True):
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
    run_length: int = _RUN,
) -> AsyncGenerator[Audited, None]:
    """Judge each claim once, in file order, each as soon as it and those before it are known.

    A claim without a digest (``b""``) is true where its bytes can be read, and comes back with theirs.

    At most ``threads`` chunks, or runs of neighbouring whole chunks up to ``run_length`` bytes, are read at a time,
    beside whatever else the part file is doing. Claims that fit no chunk are false. Closing the generator
    (``contextlib.aclosing``) or cancelling its consumer stops the reading.

    Raises DeviceError when the device fails for more than a few chunks; LocalError as the part file does.
    """
    grid = ChunkGrid(complete_length, chunk_size)
    judge = _Judge(part, grid, threads)
    waiting = _runs([claims[index] for index in sorted(claims)], grid, run_length)
    # Twice as many as threads: one slow run at the head must not leave a thread idle, and results stay few.
    window: deque[asyncio.Task[list[Audited]]] = deque()
    try:
        while True:
            while len(window) < 2 * threads and (run := next(waiting, None)) is not None:
                window.append(asyncio.create_task(judge.judge_run(run), name=f"audit-{run[0].index}"))
            if not window:
                return
            # Taken out only when done: whatever happens in between, the clean-up sees it.
            await asyncio.wait((window[0],))
            for one in window.popleft().result():
                yield one
    finally:
        for task in window:
            task.cancel()
        held_back = await until_done(*window)
        for task in window:
            if not task.cancelled():
                task.exception()  # seen: why it ends is known already
        if held_back is not None:
            raise held_back


def _runs(claims: Sequence[Checkpoint], grid: ChunkGrid, most: int) -> Iterator[list[Checkpoint]]:
    """Yield claims in their order, whole chunks that are neighbours together, up to ``most`` bytes."""
    run: list[Checkpoint] = []
    for claim in claims:
        whole = 0 <= claim.index < grid.count and claim.length == grid.span(claim.index).length
        fits = run and whole and claim.index == run[-1].index + 1 and (len(run) + 1) * grid.chunk_size <= most
        if run and not fits:
            yield run
            run = []
        run.append(claim)
        if not whole:
            yield run
            run = []
    if run:
        yield run


class _Neighbours:
    """Digests of neighbouring chunks, fed as one: each gets the bytes of its own chunk."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.digests = [hashlib.sha256() for _ in lengths]
        self._left = list(lengths)
        self._at = 0

    def update(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            taken = min(len(view), self._left[self._at])
            self.digests[self._at].update(view[:taken])
            self._left[self._at] -= taken
            if not self._left[self._at]:
                self._at += 1
            view = view[taken:]


class _Judge:
    def __init__(self, part: Readable, grid: ChunkGrid, threads: int) -> None:
        self._part = part
        self._grid = grid
        self._slots = asyncio.Semaphore(threads)
        self._unreadable = 0

    async def judge_run(self, run: Sequence[Checkpoint]) -> list[Audited]:
        """Judge neighbouring whole chunks, or one claim of any kind."""
        if len(run) == 1:
            return [await self.judge(run[0])]
        chunks = _Neighbours([claim.length for claim in run])
        start, length = self._grid.span(run[0].index).start, sum(claim.length for claim in run)
        try:
            async with self._slots:
                count = await self._part.hash_span(start, length, chunks)
        except DeviceError:
            return [await self.judge(claim) for claim in run]  # one of them, and which?
        judged = []
        for claim, digester in zip(run, chunks.digests, strict=True):
            digest, there, count = digester.digest(), count >= claim.length, count - claim.length
            named = claim if claim.digest else replace(claim, digest=digest)
            judged.append(Audited(named, ok=there and digest == named.digest))
        return judged

    async def judge(self, checkpoint: Checkpoint) -> Audited:
        """Judge one claim."""
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
