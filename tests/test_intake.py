"""Bodies received straight into the reader's buffer: nothing is lost, doubled or taken from the next answer."""

from __future__ import annotations

import asyncio
import ctypes
import mmap
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from resumable.buffers import LARGEST, SMALLEST, Buffers
from resumable.errors import Interrupted, Stalled
from resumable.ports import Response
from resumable.transport import AiohttpTransport
from tests.fetching import ask
from tests.origin import Behaviour, Content, End, Origin
from tests.servers import authority

BIG = Content(8 << 20, seed=11)


@pytest.fixture
def origin() -> Iterator[Origin]:
    """An origin with one large file."""
    with Origin() as running:
        running.put("/file", BIG)
        yield running


@pytest.fixture
async def transport() -> AsyncIterator[AiohttpTransport]:
    """A transport that the environment does not reach."""
    made = AiohttpTransport(environ={})
    yield made
    await made.close()


class Sink:
    """Reads a body into buffers of one size and keeps what it was told of."""

    def __init__(self, size: int = 1 << 20) -> None:
        """Read ``size`` bytes at a time."""
        self.buffer = memoryview(bytearray(size))
        self.got = bytearray()
        self._told = 0

    def arrived(self, count: int) -> None:
        """Hear of bytes as they come."""
        self._told += count

    async def once(self, response: Response) -> int:
        """Read once, and keep what came even if that is cancelled or fails."""
        try:
            return await response.read_into(self.buffer, self.arrived)
        finally:
            self.got += self.buffer[: self._told]
            self._told = 0

    async def all(self, response: Response) -> bytes:
        """Read to the end."""
        while await self.once(response):
            pass
        return bytes(self.got)


async def test_a_connection_is_used_again_after_a_body_that_passed_by_the_parser(
    origin: Origin, transport: AiohttpTransport
) -> None:
    """aiohttp never saw the bytes, yet it knows that they have all come."""
    for _ in range(3):
        async with transport.fetch(ask(origin.url("/file"))) as response:
            assert await Sink().all(response) == BIG.read(0, BIG.size)
    assert (origin.connections, len(origin.requests)) == (1, 3)


async def over(loop: Callable[[Coroutine[Any, Any, None]], None], url: str, ca_file: Path | None) -> None:
    """Fetch the file in a loop of its own kind."""

    async def main() -> None:
        transport = AiohttpTransport(environ={}, ca_file=ca_file)
        for size in (700_001, 1 << 20):
            async with transport.fetch(ask(url)) as response:
                assert await Sink(size).all(response) == BIG.read(0, BIG.size)
        await transport.close()

    await asyncio.to_thread(loop, main())


@pytest.mark.parametrize("loop", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_every_kind_of_transport(loop: Any, secure: bool, tmp_path: Path) -> None:
    """Two event loops, with and without TLS: four implementations of buffered protocols."""
    ca = authority(tmp_path)
    with Origin(tls=ca.context("127.0.0.1") if secure else None) as origin:
        origin.put("/file", BIG)
        await over(loop, origin.url("/file"), ca.ca_file if secure else None)


@pytest.mark.parametrize("end", [End.FIN, End.RST])
async def test_a_cut_hands_over_all_that_came_and_then_says_so(
    origin: Origin, transport: AiohttpTransport, end: End
) -> None:
    """The break is told after the last byte, with the exact count; a slow reader loses nothing to a FIN."""
    origin.behave("/file", Behaviour(cut_at=3_000_000, cut=end))
    sink = Sink()
    async with transport.fetch(ask(origin.url("/file"))) as response:
        with pytest.raises(Interrupted) as raised:
            await sink.all(response)
    assert (raised.value.received, raised.value.promised) == (len(sink.got), BIG.size)
    assert bytes(sink.got) == BIG.read(0, len(sink.got))
    if end is End.FIN:
        assert len(sink.got) == 3_000_000


async def test_a_cancelled_reader_has_what_it_was_told_of_and_can_go_on(
    origin: Origin, transport: AiohttpTransport
) -> None:
    """Bytes that came before the cancellation are in the buffer; the next read goes on behind them."""
    origin.behave("/file", Behaviour(stall_at=2_500_000))
    sink = Sink(400_000)
    async with transport.fetch(ask(origin.url("/file"), stall_timeout_s=60)) as response:
        while len(sink.got) < 2_100_000:
            await sink.once(response)
        waiting = asyncio.ensure_future(sink.once(response))
        while len(sink.got) + sink._told < 2_500_000:
            await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert bytes(sink.got) == BIG.read(0, 2_500_000)
        origin.release()
        await sink.all(response)
    assert bytes(sink.got) == BIG.read(0, len(sink.got))


async def test_silence_is_a_stall(origin: Origin, transport: AiohttpTransport) -> None:
    """The meter sees bytes that no parser counted, and the silence after them."""
    origin.behave("/file", Behaviour(stall_at=2_000_000))
    sink = Sink()
    async with transport.fetch(ask(origin.url("/file"), stall_timeout_s=0.3)) as response:
        with pytest.raises(Stalled):
            await sink.all(response)
    assert bytes(sink.got) == BIG.read(0, 2_000_000)


async def test_nothing_is_received_while_nobody_reads(origin: Origin, transport: AiohttpTransport) -> None:
    """A reader that is busy closes the TCP window: the origin cannot send much more than socket buffers hold."""
    huge = Content(64 << 20, seed=12)
    origin.put("/huge", huge)
    sink = Sink()
    async with transport.fetch(ask(origin.url("/huge"))) as response:
        await sink.once(response)
        await sink.once(response)
        sent = -1
        while sent != origin.body_bytes_sent("/huge"):
            sent = origin.body_bytes_sent("/huge")
            await asyncio.sleep(0.2)
        assert sent < huge.size
        await sink.all(response)
    assert bytes(sink.got) == huge.read(0, huge.size)


async def test_bytes_behind_the_promised_end_stay_out(origin: Origin, transport: AiohttpTransport) -> None:
    """They are neither part of this body nor of the next answer: the connection is not used again."""
    origin.behave("/file", Behaviour(after_body=b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled"))
    origin.put("/next", b"honest")
    for _ in range(3):
        async with transport.fetch(ask(origin.url("/file"))) as response:
            assert await Sink(300_000).all(response) == BIG.read(0, BIG.size)
        await origin.until(lambda: all(one.done for one in origin.requests))
        async with transport.fetch(ask(origin.url("/next"))) as response:
            assert await Sink().all(response) == b"honest"


async def test_reads_of_both_kinds_in_turn(origin: Origin, transport: AiohttpTransport) -> None:
    """A reader may change its mind; the bytes go on where they were."""
    sink = Sink(123_457)
    async with transport.fetch(ask(origin.url("/file"))) as response:
        while len(sink.got) < BIG.size:
            await sink.once(response)
            sink.got += await response.read()
        assert (await response.read(), await sink.once(response)) == (b"", 0)
    assert bytes(sink.got) == BIG.read(0, BIG.size)


@pytest.mark.parametrize(
    ("wanted", "size"),
    [(1, SMALLEST), (SMALLEST, SMALLEST), (SMALLEST + 1, 2 * SMALLEST), (LARGEST, LARGEST), (100 * LARGEST, LARGEST)],
)
def test_a_buffer_is_as_large_as_asked_for(wanted: int, size: int) -> None:
    """Powers of two, between the smallest and the largest."""
    assert len(Buffers().lease(wanted)) == size


@pytest.mark.parametrize("size", [SMALLEST, 128 << 10, LARGEST])
def test_a_buffer_begins_at_a_page(size: int) -> None:
    """Copied to elsewhere from a socket's pages, a block may take three times as long (decision 23)."""
    buffer = Buffers().lease(size)
    start = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    assert start % mmap.PAGESIZE == 0


def test_a_spent_budget_leaves_the_smallest_buffers() -> None:
    """What many connections hold together stays near the budget, and none goes without."""
    pool = Buffers(4 * LARGEST)
    sizes = [len(pool.lease(LARGEST)) for _ in range(100)]
    assert sizes[:3] == [LARGEST] * 3
    assert sizes[-1] == SMALLEST
    assert pool.leased <= 4 * LARGEST + 100 * SMALLEST


def test_a_returned_buffer_is_used_again() -> None:
    """And counts as free."""
    pool = Buffers()
    first = pool.lease(LARGEST)
    pool.give_back(first)
    assert pool.leased == 0
    assert pool.lease(LARGEST) is first
