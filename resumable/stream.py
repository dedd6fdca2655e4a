"""Carries one response body into the part file: receives into its own buffers, writes and hashes in one thread hop.

Two buffers per connection and no more: while one is being written the next is filled; there is no third, so a slow disk
closes the TCP window (design section 3). What has been received is written even when the reader is cancelled.
"""

from __future__ import annotations

import asyncio
import hashlib
import mmap
from collections.abc import Awaitable, Callable
from typing import Final

from resumable.buffers import LARGEST, SMALLEST, Buffers
from resumable.errors import Interrupted
from resumable.ledger import Ledger, OpenChunk
from resumable.plan import ChunkState, Extent
from resumable.ports import PartFile, Response
from resumable.redact import redact_url
from resumable.settling import until_done

_POOL: Final = Buffers()
"""Of the process: the budget is for all downloads together."""


class ExtentStream:
    """Streams one response into one extent."""

    def __init__(
        self,
        ledger: Ledger,
        part: PartFile,
        extent: Extent,
        *,
        received: Callable[[int], None],
        throttle: Callable[[int], Awaitable[None]] | None = None,
        limit: int | None = None,
    ) -> None:
        """Prepare; ``received`` is told of every wire byte, ``throttle`` is awaited with the size of every block.

        ``limit`` is the offset where the answer says that its bytes end, if that may be before the extent does.
        """
        self._ledger = ledger
        self._part = part
        self.extent = extent
        self._received = received
        self._throttle = throttle
        self._limit = limit
        self._buffers: list[mmap.mmap] = []
        self._current = 0
        self._filled = 0
        """Bytes received into the current buffer."""
        self._written = 0
        """Bytes of the current buffer that a hop has been given."""
        self.gained = 0
        """Bytes that were missing and have come; what was only compared is not among them."""
        self._hop: asyncio.Task[None] | None = None

    @property
    def stop(self) -> int:
        """Where this body's bytes end: at the end of the extent, or of what the answer says it holds."""
        return self.extent.stop if self._limit is None else min(self.extent.stop, self._limit)

    async def consume(self, response: Response) -> None:
        """Read up to ``stop``; whatever happens, what came is written before it returns.

        Raises Interrupted, also where a body ends before it by its framing, and Stalled; LocalError from the disk.
        """
        extent = self.extent
        began = extent.cursor
        try:
            while extent.cursor < self.stop:
                room = self._room()
                count = await response.read_into(room, self._arrived)
                if not count:
                    break
                if self._throttle is not None:
                    await self._throttle(count)
                if count == len(room):
                    await self._next_buffer()
        finally:
            try:
                await self._drain()
            finally:
                for buffer in self._buffers:
                    _POOL.give_back(buffer)
        if extent.cursor < self.stop:
            raise Interrupted(extent.cursor - began, self.stop - began, url=redact_url(response.url))

    def nudge(self) -> asyncio.Task[None] | None:
        """Begin writing what has come, however little, and return the write under way, if there is one.

        The tick calls this so that slow links lose no more. A write that failed is raised by ``consume``.
        """
        if self._filled > self._written and (self._hop is None or _succeeded(self._hop)):
            self._start()
        return self._hop

    def _room(self) -> memoryview:
        """Return the free part of the current buffer, at most to the end of the chunk and of the body's bytes."""
        extent, grid = self.extent, self._ledger.grid
        if not self._buffers:
            self._buffers.append(_POOL.lease(extent.remaining))
        stop = min(grid.span(grid.index(extent.cursor)).stop, self.stop)
        most = stop - extent.cursor
        if self._throttle is not None:
            most = min(most, SMALLEST)  # in small steps, or a slow limit would come in bursts
        buffer = self._buffers[self._current]
        return memoryview(buffer)[self._filled : self._filled + most]

    def _arrived(self, count: int) -> None:
        self._received(count)
        if self._is_new(self.extent.cursor):
            self.gained += count
        self._filled += count
        self.extent.cursor += count

    def _is_new(self, offset: int) -> bool:  # noqa: ARG002 - what is asked for by range is missing
        """Whether the chunk of the byte at ``offset`` is not in the part file yet."""
        return True

    async def _next_buffer(self) -> None:
        """Go on in the same buffer while it has room and the chunk is not at its end; else write it and turn over."""
        extent, grid = self.extent, self._ledger.grid
        at_end = extent.cursor >= extent.stop or extent.cursor == grid.span(grid.index(extent.cursor)).start
        if self._filled < len(self._buffers[self._current]) and not at_end:
            return
        await self._flush()
        self._turn_over()

    def _turn_over(self) -> None:
        self._current ^= 1
        self._filled = self._written = 0
        if self._current == len(self._buffers) and self.extent.remaining:
            # The first buffer has shown that the peer can fill one.
            self._buffers.append(_POOL.lease(min(self.extent.remaining, LARGEST)))
        elif self._current == len(self._buffers):
            self._current = 0

    async def _flush(self) -> None:
        while self._hop is not None and not self._hop.done():
            # Shielded: cancelling the reader must not abandon a write whose thread runs on.
            await asyncio.shield(self._hop)
        self._reap()
        if self._filled > self._written:
            self._start()

    def _reap(self) -> None:
        hop, self._hop = self._hop, None
        if hop is not None:
            hop.result()

    def _start(self) -> None:
        start, self._written = self._written, self._filled
        block = memoryview(self._buffers[self._current])[start : self._filled]
        offset = self.extent.cursor - len(block)
        self._hop = asyncio.create_task(self._write(offset, block))

    async def _write(self, offset: int, block: memoryview) -> None:
        ledger = self._ledger
        index = ledger.grid.index(offset)
        chunk = ledger.open.get(index)
        head = offset - ledger.grid.span(index).start
        if chunk is None:
            chunk = ledger.open[index] = OpenChunk(0, hashlib.sha256())
        if chunk.length != head:
            msg = f"chunk {index} has {chunk.length} good bytes, but writing was to go on at {head}"
            raise AssertionError(msg)
        # A failed hop may have fed part of the block: the copy is what the checkpoint vouches for.
        good = chunk.digester.copy()
        try:
            digest = await self._part.write(offset, (block,), chunk.digester)
        except BaseException:
            chunk.digester = good
            raise
        chunk.length += len(block)
        ledger.wrote(index, chunk.length, digest)

    async def _drain(self) -> None:
        """Write what has come; bounded by one hop that runs and one more."""
        # Whatever cancels us waits for the write all the same: zero bytes are fetched twice after a graceful stop, and
        # the thread must have let go of the buffer before another connection gets it.
        held_back: asyncio.CancelledError | None = None
        try:
            for _ in range(2):
                while self._hop is not None and not self._hop.done():  # the tick may begin another meanwhile
                    held_back = await until_done(self._hop) or held_back
                self._reap()
                if self._filled > self._written:
                    self._start()
        finally:
            if held_back is not None:
                raise held_back  # the cancellation is what the caller must hear of


def _succeeded(hop: asyncio.Task[None]) -> bool:
    return hop.done() and not hop.cancelled() and hop.exception() is None


class SequentialStream(ExtentStream):
    """Streams a representation from byte 0 for an origin without ranges; chunks already done are only compared."""

    last_kept: int = -1
    """The last chunk that is done already; once it has been compared, what was written before it is proved."""

    def prove_all(self) -> None:
        """Let what is written count only once every chunk that is done already has been compared with this body."""
        self.last_kept = self._ledger.plan.last_done()
        if self.last_kept >= 0:
            self._ledger.hold()
        else:
            self._ledger.proved_all()

    def _is_new(self, offset: int) -> bool:
        return self._ledger.plan.state(self._ledger.grid.index(offset)) != ChunkState.DONE

    async def _write(self, offset: int, block: memoryview) -> None:
        if self._is_new(offset):
            await super()._write(offset, block)
        else:
            await self._compare(offset, block)

    async def _compare(self, offset: int, block: memoryview) -> None:
        """Hash bytes of a done chunk; raises ContentDiffersError when the whole chunk is not what was recorded."""
        index = self._ledger.grid.index(offset)
        chunk = self._ledger.grid.span(index)
        if offset == chunk.start:
            self._digester = hashlib.sha256()
        await asyncio.to_thread(self._digester.update, block)
        if offset + len(block) < chunk.stop:
            return
        if self._digester.digest() != self._ledger.digests[index]:
            raise ContentDiffersError(index)
        if index == self.last_kept:
            self._ledger.proved_all()


class ContentDiffersError(Exception):
    """A chunk fetched again is not what the same origin sent before; the engine makes it RepresentationChanged."""

    def __init__(self, index: int) -> None:
        """Keep the chunk's index."""
        super().__init__(f"chunk {index} differs")
        self.index = index
