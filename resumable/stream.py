"""Carries one response body into the part file: gathers blocks, writes and hashes them in one thread hop, books what
was written.

Two buffers per connection and no more: while one is being written the next is gathered; the reader waits for the
write before it
hands over another, so a slow disk closes the TCP window (design section 3).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Final

from resumable.ledger import Ledger, OpenChunk
from resumable.plan import ChunkState, Extent
from resumable.ports import PartFile, Response

FLUSH_SIZE: Final = 1 << 20
"""Blocks are gathered up to this many bytes before a thread hop; below 256 KiB the hop costs more than the write
(research).
"""


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
    ) -> None:
        """Prepare; ``received`` is told of every wire byte, ``throttle`` is awaited with the size of every block."""
        self._ledger = ledger
        self._part = part
        self.extent = extent
        self._received = received
        self._throttle = throttle
        self._blocks: list[bytes] = []
        self._pending = 0
        self._position = extent.cursor
        self.gained = 0
        """Bytes that were missing and have come; what was only compared is not among them."""
        self._hop: asyncio.Task[None] | None = None

    async def consume(self, response: Response) -> None:
        """Read until the extent is full or the body ends; whatever happens, everything received is written before it
        returns.

        Raises Interrupted and Stalled from the response, LocalError from the disk.
        """
        try:
            while self.extent.cursor < self.extent.stop:
                block = await response.read()
                if not block:
                    break
                self._received(len(block))
                if self._throttle is not None:
                    await self._throttle(len(block))
                await self._add(block)
        finally:
            await self._drain()

    def nudge(self) -> None:
        """Begin writing what is gathered, however little: the checkpoint tick calls this so that slow links lose no
        more.
        """
        if self._pending and (self._hop is None or self._hop.done()):
            self._reap()
            self._start()

    async def _add(self, block: bytes) -> None:
        extent, grid = self.extent, self._ledger.grid
        while block and extent.cursor < extent.stop:
            chunk_stop = grid.span(grid.index(extent.cursor)).stop
            room = min(chunk_stop, extent.stop) - extent.cursor
            piece, block = (block, b"") if len(block) <= room else (block[:room], block[room:])
            self._blocks.append(piece)
            self._pending += len(piece)
            self.gained += len(piece)
            extent.cursor += len(piece)
            if self._pending >= FLUSH_SIZE or extent.cursor == chunk_stop:
                await self._flush()

    async def _flush(self) -> None:
        while self._hop is not None and not self._hop.done():
            # Shielded: cancelling the reader must not abandon a write whose thread runs on.
            await asyncio.shield(self._hop)
        self._reap()
        if self._pending:
            self._start()

    def _reap(self) -> None:
        hop, self._hop = self._hop, None
        if hop is not None:
            hop.result()

    def _start(self) -> None:
        blocks, self._blocks = self._blocks, []
        offset, length = self._position, self._pending
        self._position, self._pending = offset + length, 0
        self._hop = asyncio.create_task(self._write(offset, length, blocks))

    async def _write(self, offset: int, length: int, blocks: list[bytes]) -> None:
        ledger = self._ledger
        index = ledger.grid.index(offset)
        chunk = ledger.open.get(index)
        head = offset - ledger.grid.span(index).start
        if chunk is None:
            chunk = ledger.open[index] = OpenChunk(0, hashlib.sha256())
        if chunk.length != head:
            msg = f"chunk {index} has {chunk.length} good bytes, but writing was to go on at {head}"
            raise AssertionError(msg)
        # A failed hop may have fed part of the blocks: the copy is what the checkpoint vouches for.
        good = chunk.digester.copy()
        try:
            digest = await self._part.write(offset, blocks, chunk.digester)
        except BaseException:
            chunk.digester = good
            raise
        chunk.length += length
        ledger.wrote(index, chunk.length, digest)

    async def _drain(self) -> None:
        """Write what is gathered; bounded by one hop that runs and one more."""
        drain = asyncio.ensure_future(self._flush_all())
        try:
            await asyncio.shield(drain)
        except asyncio.CancelledError:
            # A cancellation here waits for the write all the same: zero bytes fetched twice after a graceful stop.
            if not drain.done():
                await asyncio.wait({drain})
            if not drain.cancelled():
                drain.exception()  # seen: the cancellation is what the caller must hear of
            raise

    async def _flush_all(self) -> None:
        await self._flush()
        await self._flush()


class SequentialStream(ExtentStream):
    """Streams a whole representation from byte 0 for an origin without ranges: chunks already done are compared, not
    written.
    """

    async def _add(self, block: bytes) -> None:
        grid, plan = self._ledger.grid, self._ledger.plan
        while block and self.extent.cursor < self.extent.stop:
            index = grid.index(self.extent.cursor)
            stop = grid.span(index).stop
            room = stop - self.extent.cursor
            piece, block = (block, b"") if len(block) <= room else (block[:room], block[room:])
            if plan.state(index) == ChunkState.DONE:
                await self._compare(index, piece)
            else:
                self._position = self.extent.cursor if not self._pending else self._position
                await super()._add(piece)

    async def _compare(self, index: int, piece: bytes) -> None:
        """Hash bytes of a done chunk; raises ContentDiffers when the whole chunk is not what was recorded."""
        if self._pending:
            await self._flush()
        chunk = self._ledger.grid.span(index)
        if self.extent.cursor == chunk.start:
            self._digester = hashlib.sha256()
        await asyncio.get_running_loop().run_in_executor(None, self._digester.update, piece)
        self.extent.cursor += len(piece)
        if self.extent.cursor == chunk.stop and self._digester.digest() != self._ledger.digests[index]:
            raise ContentDiffersError(index)


class ContentDiffersError(Exception):
    """A chunk fetched again is not what the same origin sent before; the engine turns this into
    RepresentationChanged.
    """

    def __init__(self, index: int) -> None:
        """Keep the chunk's index."""
        super().__init__(f"chunk {index} differs")
        self.index = index
