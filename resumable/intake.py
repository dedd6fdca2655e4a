"""Receives the rest of a body straight into the caller's buffer, in place of aiohttp's parser.

Once the head is parsed and the length is known there is nothing left to parse, yet each block would be allocated by the
transport, copied by the parser and queued by the stream: three times the price of the bytes themselves (measured; see
docs/decisions). ``BufferedProtocol`` and ``set_protocol`` are asyncio's public way around that, for TLS too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Intake"]


class Intake(asyncio.BufferedProtocol):
    """Takes over a connection's reading until exactly ``length`` more bytes have come, or it is given back.

    While no buffer is waiting to be filled the transport is paused, so that a slow disk closes the TCP window.
    """

    def __init__(
        self, transport: asyncio.Transport, owner: asyncio.BaseProtocol, length: int, arrived: Callable[[int], None]
    ) -> None:
        """Take over from ``owner``, which must have nothing unread; ``arrived`` is told of bytes as they come."""
        self._transport = transport
        self._owner = owner
        self._left = length
        self._arrived = arrived
        self._buffer: memoryview | None = None
        self._filled = 0
        self._told: Callable[[int], None] = arrived
        self._waiter: asyncio.Future[None] | None = None
        self.lost = False
        """Whether the connection has ended before the body had."""
        transport.pause_reading()
        transport.set_protocol(self)

    @property
    def left(self) -> int:
        """Bytes of the body that have not come."""
        return self._left

    async def fill(self, buffer: memoryview, told: Callable[[int], None]) -> int:
        """Fill ``buffer`` and return how many bytes came: fewer than fit only at the end of body or connection.

        ``told`` hears of them as they come. A cancellation stops reading at once; what it was told of has come.
        """
        if self.lost or not self._left:
            return 0
        self._buffer, self._filled, self._told = buffer[: self._left], 0, told
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.resume_reading()
        try:
            await self._waiter
        finally:
            self._stop()
        return self._filled

    def release(self) -> None:
        """Give the connection back to its owner, reading."""
        if self.lost:
            return
        self._stop()
        self._transport.set_protocol(self._owner)
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _stop(self) -> None:
        self._buffer = None
        if not self.lost and not self._transport.is_closing() and self._transport.is_reading():
            self._transport.pause_reading()

    # -- what the event loop calls -------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's signature
        """Return where the next bytes go; raises RuntimeError, which ends the connection, while nobody waits."""
        if self._buffer is None:
            raise RuntimeError("bytes came while reading was paused")
        return self._buffer[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Count what came, and wake the reader when there is no more room."""
        self._filled += nbytes
        self._left -= nbytes
        self._arrived(nbytes)
        self._told(nbytes)
        if self._buffer is not None and self._filled == len(self._buffer):
            self._stop()
            self._wake()

    def eof_received(self) -> None:
        """Let the transport close itself, as every HTTP client does."""

    def pause_writing(self) -> None:
        """The owner bounds what it writes."""
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        """The owner may write again."""
        self._owner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner, which knows what it means, and wake the reader."""
        self.lost = True
        self._owner.connection_lost(exc)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
