"""An answer whose head has arrived, and its body as it comes in, over aiohttp's stream.

It counts bytes itself and believes the count, not the exception: aiohttp may call a body incomplete when every byte has
come (aio-libs/aiohttp#13348), and what had arrived before a connection broke is handed over before the break is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

import aiohttp

from resumable.errors import Fault, Interrupted, ProtocolFault, Stalled
from resumable.intake import Intake
from resumable.ports import Fetch, Hop
from resumable.redact import redact_url
from resumable.stall import StallMeter

_ERROR_BODY: Final = 64 * 1024
"""Bytes read of an answer that is not 2xx: enough for any message, too little to be fed."""
_DISCARD_S: Final = 1.0
"""How long the body of a redirect may take; a new connection costs about as much as waiting longer."""
_NO_BODY: Final = frozenset({204, 304})
"""RFC 9112 6.3: no body whatever the headers say; the Content-Length of a 304 is that of the 200."""
_WORTH_TAKING_OVER: Final = 64 * 1024
"""Bytes still to come from which on receiving them past aiohttp's parser pays for the change of protocols."""
_GRACE_S: Final = 0.05
"""What was late because this process was is with its reader by then."""
_BROKEN: Final = (aiohttp.ClientError, aiohttp.http.HttpProcessingError, OSError, RuntimeError)


class Answer:
    """The ``Response`` over one aiohttp response."""

    __slots__ = (
        "_closed", "_content", "_intake", "_loop", "_meter", "_promised", "_raw", "_received", "_request", "_stalled",
        "_timer", "headers", "hops", "status", "url",
    )  # fmt: skip

    def __init__(self, raw: aiohttp.ClientResponse, url: str, hops: Sequence[Hop], request: Fetch) -> None:
        """Wrap ``raw``, the answer of ``url``, reached over ``hops``."""
        self._raw = raw
        self._closed = _watched(raw.connection, self._connection_lost)
        self._content = raw.content
        self._intake: Intake | None = None
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._meter = StallMeter(request.stall_timeout_s, request.min_rate)
        self._timer: asyncio.TimerHandle | None = None
        self._stalled = False
        self._received = 0
        self.status = raw.status
        self.headers = joined(raw)
        self.url = url
        self.hops = tuple(hops)
        self._promised = _promised(raw.status, self.headers)

    @property
    def received(self) -> int:
        """Bytes of the body that have come."""
        return self._received

    @property
    def promised(self) -> int | None:
        """Bytes that the framing promises; None for a body without a length."""
        return self._promised

    def check_framing(self) -> None:
        """Raise ProtocolFault where the body would come in a transfer coding that nobody asked for (RFC 9112 7.4)."""
        if self.headers.get("transfer-encoding", "chunked").strip().lower() != "chunked":
            raise ProtocolFault(Fault.UNREADABLE, url=redact_url(self.url), detail="an unknown transfer coding")

    async def read(self) -> bytes:
        """Return the next block; see ``ports.Response.read``. An answer that is not 2xx ends after 64 KiB."""
        if self._intake is not None:
            buffer = bytearray(_ERROR_BODY)
            return bytes(buffer[: await self._fill(self._intake, memoryview(buffer), _nobody)])
        try:
            block = self._content.read_nowait()
            if not block and not self._content.at_eof():
                block = await self._next_block()
        except _BROKEN as error:
            block = self._rest(error)
        self._received += len(block)
        if not block:
            return self._end(None)
        if self._received > _ERROR_BODY and not 200 <= self.status < 300:
            self.close()
            return b""
        return block

    async def read_into(self, buffer: memoryview, arrived: Callable[[int], None]) -> int:
        """Put the next bytes into ``buffer``; see ``ports.Response.read_into``."""
        if self._intake is None:
            try:
                block = self._content.read_nowait(len(buffer))
                if not block and not self._take_over() and not self._content.at_eof():
                    block = await self._next_block(len(buffer))
            except _BROKEN as error:
                block = self._rest(error, len(buffer))
            if self._intake is None:
                return self._copied(block, buffer, arrived)
        return await self._fill(self._intake, buffer, arrived)

    def _copied(self, block: bytes, buffer: memoryview, arrived: Callable[[int], None]) -> int:
        if not block:
            return len(self._end(None))
        self._received += len(block)
        if self._received > _ERROR_BODY and not 200 <= self.status < 300:
            self.close()
            return 0
        buffer[: len(block)] = block
        arrived(len(block))
        return len(block)

    def _take_over(self) -> bool:
        """Receive the rest past aiohttp where its length is known and it is long; nothing is buffered there now."""
        connection, left = self._raw.connection, (self._promised or 0) - self._received
        if left < _WORTH_TAKING_OVER or not 200 <= self.status < 300 or self._content.is_eof():
            return False
        if connection is None or connection.protocol is None or connection.transport is None:
            return False
        if connection.transport.is_closing():
            return False
        self._intake = Intake(connection.transport, connection.protocol, left, self._count)
        return True

    def _count(self, count: int) -> None:
        self._received += count
        self._meter.heard(self._loop.time())

    async def _fill(self, intake: Intake, buffer: memoryview, arrived: Callable[[int], None]) -> int:
        with self._waiting():
            count = await intake.fill(buffer, arrived)
        if not intake.left and not intake.lost:
            # The parser never sees these bytes: the stream is told of its end by us, and the connection is free.
            intake.release()
            self._content.feed_eof()
        return count or len(self._end(self._content.exception() if intake.lost else None))

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        self._meter.wait(self._loop.time())
        if self._timer is None:
            self._check()
        try:
            yield
        finally:
            self._meter.go_on(self._loop.time())

    async def _next_block(self, most: int = -1) -> bytes:
        with self._waiting():
            return await (self._content.readany() if most < 0 else self._content.read(most))

    def _check(self, *, last: bool = False) -> None:
        """One timer per body, however many blocks it has."""
        again = self._meter.check(self._loop.time(), self._received)
        if again is not None:
            self._timer = self._loop.call_later(again, self._check)
            return
        if not last:
            # If it was this process that was late (stopped, asleep, busy), what has come is with its reader by then: a
            # loop may ring its timers before it looks at its sockets.
            self._timer = self._loop.call_later(_GRACE_S, partial(self._check, last=True))
            return
        self._stalled = True
        self.close()  # wakes the reader with an exception

    def _connection_lost(self, _: asyncio.Future[None]) -> None:
        # A chunk header that is none makes aiohttp close the connection and forget the reader, who would wait for ever.
        if not self._content.is_eof() and self._content.exception() is None:
            self._content.set_exception(aiohttp.ClientPayloadError("the connection was lost"))

    def _rest(self, error: BaseException, most: int = -1) -> bytes:
        """Return what had come before the connection broke, and only then say that it did."""
        return _unread(self._content, most) or self._end(error)

    def _end(self, error: BaseException | None) -> bytes:
        if self._received == self._promised:
            return b""
        if self._stalled:
            raise Stalled(self._request.stall_timeout_s, url=redact_url(self.url))
        if error is None and self._closed is not None and self._closed.done():
            # A body that ends with its connection: aiohttp takes a reset for its end too.
            error = self._closed.exception()
        if error is not None or self._promised is not None:
            raise Interrupted(self._received, self._promised, url=redact_url(self.url)) from error
        return b""

    async def discard(self) -> None:
        """Read a short body to its end, so that the connection can be used again; give up on a long or slow one."""
        try:
            async with asyncio.timeout(_DISCARD_S):
                while await self.read():
                    pass
        except (TimeoutError, Interrupted, Stalled):
            self.close()

    def close(self) -> None:
        """Close the connection at once if the body has not come to its end; else it is back in the pool already."""
        if self._timer is not None:
            self._timer.cancel()
        if self._closed is not None:
            self._closed.remove_done_callback(self._connection_lost)
        connection = self._raw.connection
        if connection is not None and connection.transport is not None:
            # Not close(): over TLS that waits for the peer to say goodbye, and takes in what it still sends.
            connection.transport.abort()
        self._raw.close()


def _nobody(_: int) -> None:
    """Nobody wants to hear of bytes before they are returned."""


def _watched(
    connection: aiohttp.connector.Connection | None, lost: Callable[[asyncio.Future[None]], None]
) -> asyncio.Future[None] | None:
    """Return the future of the connection's end, ``lost`` told of it; None where the body has come already."""
    closed = connection.protocol.closed if connection is not None and connection.protocol is not None else None
    if closed is not None:
        # Its exception must be looked at once, however many bodies the connection carries.
        closed.remove_done_callback(_look)
        closed.add_done_callback(_look)
        closed.add_done_callback(lost)
    return closed


def _look(closed: asyncio.Future[None]) -> None:
    if not closed.cancelled():
        closed.exception()


def joined(raw: aiohttp.ClientResponse) -> Mapping[str, str]:
    """Return the headers with lower-case names, repeated fields joined (RFC 9110 5.3)."""
    headers: dict[str, str] = {}
    for field, value in raw.headers.items():
        name = field.lower()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _promised(status: int, headers: Mapping[str, str]) -> int | None:
    """Return how many body bytes the framing promises (RFC 9112 6.3); None for chunked and for close-delimited."""
    if status in _NO_BODY:
        return 0
    length = headers.get("content-length", "")
    if "transfer-encoding" in headers or not (length.isascii() and length.isdecimal()):
        return None
    return int(length)


def _unread(content: aiohttp.StreamReader, most: int) -> bytes:
    # The public readers raise as soon as the stream has an exception, and what is buffered would have to be fetched
    # again. There is no public way to it; tests/test_transport.py holds this to what aiohttp does.
    return content._read_nowait(most) if content.total_bytes else b""  # noqa: SLF001
