"""One body into the part file: buffers turned over, writes booked, failures and cancellations that lose nothing."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from resumable import stream
from resumable.buffers import Buffers
from resumable.errors import DeviceError, DiskFull, Interrupted
from resumable.ledger import Ledger
from resumable.plan import ChunkGrid, Extent
from resumable.ports import Digester
from resumable.stream import ContentDiffersError, ExtentStream, SequentialStream
from resumable.testing import MemoryFolder, MemoryPartFile, Reply, ScriptedTransport
from tests.fetching import ask
from tests.rig import CONTENT

KIB = 1 << 10
CHUNK = 100 * KIB
"""No multiple of any buffer, so that ends of buffers and ends of chunks fall apart."""
FULL = DiskFull("full", needed=1, free=0, path="/d")


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> Buffers:
    """Give each test a pool of its own."""
    made = Buffers(budget=64 * KIB)
    monkeypatch.setattr(stream, "_POOL", made)
    return made


class Bench:
    """A stream over an open part file in memory, and what it is fed."""

    def __init__(self, size: int = len(CONTENT), *, script: Sequence[Reply] = (), block: int = 30_000) -> None:
        self.content = CONTENT[:size]
        self.transport = ScriptedTransport(self.content, script=script, block_size=block)
        self.ledger = Ledger(ChunkGrid(size, CHUNK), {})
        self.received = 0
        self.throttled: list[int] = []

    async def open(self) -> None:
        """Open the part file."""
        self.part: MemoryPartFile = await MemoryFolder().open(Path("/d/x.part"))

    def take(self) -> Extent:
        """Take everything."""
        extent = self.ledger.plan.take(connections=1)
        assert extent is not None
        return extent

    def stream(
        self, extent: Extent, kind: type[ExtentStream] = ExtentStream, *, throttled: bool = False
    ) -> ExtentStream:
        """Make a stream."""

        def count(size: int) -> None:
            self.received += size

        async def throttle(size: int) -> None:
            self.throttled.append(size)
            await asyncio.sleep(0)

        return kind(self.ledger, self.part, extent, received=count, throttle=throttle if throttled else None)

    async def consume(self, streamed: ExtentStream) -> None:
        """Feed it what the origin answers from where it stands."""
        extent = streamed.extent
        async with self.transport.fetch(ask("http://o.test/", range=(extent.cursor, extent.stop))) as response:
            await streamed.consume(response)


@pytest.fixture
async def bench() -> Bench:
    """Return a bench for all of the content."""
    made = Bench()
    await made.open()
    return made


@pytest.mark.parametrize("kind", [ExtentStream, SequentialStream])
@pytest.mark.parametrize("block", [1 + 16 * KIB, 30_000, 1 << 20])
@pytest.mark.parametrize("throttled", [False, True])
async def test_every_byte_lands_where_it_belongs(
    kind: type[ExtentStream], block: int, throttled: bool, pool: Buffers
) -> None:
    """Blocks, buffers and chunks end at different bytes; digests are of chunks, and every buffer is given back."""
    bench = Bench(7 * CHUNK + 13, block=block)
    await bench.open()
    streamed = bench.stream(bench.take(), kind, throttled=throttled)
    await bench.consume(streamed)
    assert bench.part.content == bench.content
    assert bench.ledger.complete
    digests = [hashlib.sha256(bench.content[i * CHUNK : (i + 1) * CHUNK]).digest() for i in range(8)]
    assert digests == [bench.ledger.digests[i] for i in range(8)]
    assert len(bench.content) == bench.received == streamed.gained
    assert pool.leased == 0
    assert sum(bench.throttled) == (len(bench.content) if throttled else 0)


async def test_a_stolen_end_is_not_read(bench: Bench) -> None:
    """Another connection has taken the later half: the stream ends where its extent now ends."""
    extent = bench.take()
    streamed = bench.stream(extent, throttled=True)
    reading = asyncio.create_task(bench.consume(streamed))
    while extent.cursor < CHUNK:
        await asyncio.sleep(0)
    extent.stop = 3 * CHUNK
    await reading
    assert 3 * CHUNK == extent.cursor == bench.received


@pytest.mark.parametrize("cut", [1, CHUNK - 1, CHUNK, 2 * CHUNK + 5000])
async def test_a_cut_writes_what_had_come(cut: int, pool: Buffers) -> None:
    """And books it, so that the next request begins at the exact byte."""
    bench = Bench(script=[Reply(cut_after=cut)])
    await bench.open()
    with pytest.raises(Interrupted):
        await bench.consume(bench.stream(bench.take()))
    assert bench.part.content == CONTENT[:cut]
    assert sum(claim.length for claim in bench.ledger.take_dirty()) == cut
    assert pool.leased == 0


async def test_a_cancelled_reader_writes_what_had_come(pool: Buffers) -> None:
    """A graceful stop fetches nothing twice."""
    hold = asyncio.Event()
    bench = Bench(script=[Reply(hold_after=CHUNK + 77, until=hold)])
    await bench.open()
    streamed = bench.stream(bench.take())
    reading = asyncio.create_task(bench.consume(streamed))
    while bench.received < CHUNK + 77:
        await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert bench.part.content == CONTENT[: CHUNK + 77]
    assert pool.leased == 0


async def test_a_reader_cancelled_twice_still_finishes_its_write(bench: Bench, pool: Buffers) -> None:
    """The second cancellation finds it waiting for the disk, and waits too."""
    gate = asyncio.Event()
    write = bench.part.write

    async def slow(offset: int, blocks: Sequence[bytes | memoryview], digest: Digester) -> bytes:
        await gate.wait()
        return await write(offset, blocks, digest)

    bench.part.write = slow  # type: ignore[method-assign]
    bench.transport.script.append(Reply(hold_after=500, until=asyncio.Event()))
    reading = asyncio.create_task(bench.consume(bench.stream(bench.take())))
    while bench.received < 500:
        await asyncio.sleep(0)
    for _ in range(3):
        reading.cancel()
        await asyncio.sleep(0.001)
    assert not reading.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert bench.part.content == CONTENT[:500]
    assert pool.leased == 0


async def test_a_write_that_the_tick_begins_at_the_end_is_waited_for_too(pool: Buffers) -> None:
    """The buffer belongs to the next connection once the reader has ended: no thread may still be writing from it."""
    bench = Bench(script=[Reply(hold_after=900, until=asyncio.Event())], block=500)
    await bench.open()
    gates = [asyncio.Event(), asyncio.Event()]
    waiting = iter(gates)
    write = bench.part.write

    async def slow(offset: int, blocks: Sequence[bytes | memoryview], digest: Digester) -> bytes:
        await next(waiting).wait()
        return await write(offset, blocks, digest)

    bench.part.write = slow  # type: ignore[method-assign]
    streamed = bench.stream(bench.take())
    reading = asyncio.create_task(bench.consume(streamed))
    while bench.received < 500:
        await asyncio.sleep(0)
    first = streamed.nudge()
    assert first is not None
    first.add_done_callback(lambda _: streamed.nudge())
    while bench.received < 900:
        await asyncio.sleep(0)
    reading.cancel()
    await asyncio.sleep(0)
    gates[0].set()
    await asyncio.sleep(0.01)
    assert not reading.done()
    gates[1].set()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert bench.part.content == CONTENT[:900]
    assert pool.leased == 0


async def test_a_tick_writes_what_a_slow_peer_has_sent(bench: Bench) -> None:
    """However little it is; a tick with nothing new writes nothing."""
    bench.transport.script.append(Reply(hold_after=777, until=asyncio.Event()))
    streamed = bench.stream(bench.take())
    reading = asyncio.create_task(bench.consume(streamed))
    while bench.received < 777:
        await asyncio.sleep(0)
    write = streamed.nudge()
    assert write is not None
    assert streamed.nudge() is write
    await write
    assert bench.part.content == CONTENT[:777]
    assert streamed.nudge() is write
    reading.cancel()
    await asyncio.wait({reading})


@pytest.mark.parametrize("error", [FULL, DeviceError("EIO")])
async def test_a_write_that_fails_ends_the_stream_and_claims_nothing(
    error: DiskFull | DeviceError, bench: Bench, pool: Buffers
) -> None:
    """What the disk did not take is neither booked nor in the digest; once there is room it goes on at that byte."""
    bench.part.faults["write"] = [error]
    extent = bench.take()
    with pytest.raises(type(error)):
        await bench.consume(bench.stream(extent))
    assert bench.ledger.take_dirty() == []
    assert bench.ledger.prefixes() == {0: 0}
    assert pool.leased == 0
    bench.ledger.plan.release(extent, bench.ledger.prefixes())
    again = bench.take()
    assert again.cursor == 0
    await bench.consume(bench.stream(again))
    assert bench.part.content == CONTENT


async def test_a_failed_write_is_not_followed_by_another(bench: Bench) -> None:
    """A tick does not write behind the gap."""
    bench.part.faults["write"] = [FULL]
    bench.transport.script.append(Reply(hold_after=900, until=asyncio.Event()))
    streamed = bench.stream(bench.take())
    reading = asyncio.create_task(bench.consume(streamed))
    while bench.received < 900:
        await asyncio.sleep(0)
    write = streamed.nudge()
    assert write is not None
    await asyncio.wait({write})
    assert streamed.nudge() is write
    reading.cancel()
    with pytest.raises(DiskFull):
        await reading
    assert bench.ledger.take_dirty() == []


def known(bench: Bench, *indexes: int, damage: Callable[[bytes], bytes] = bytes) -> None:
    """Book chunks as done, as a former pass would have."""
    for index in indexes:
        span = bench.ledger.grid.span(index)
        bench.ledger.wrote(index, span.length, hashlib.sha256(damage(CONTENT[span.start : span.stop])).digest())
    bench.ledger.take_dirty()


async def test_a_second_pass_compares_what_is_there_and_writes_the_rest(bench: Bench) -> None:
    """Chunks 0 and 2 are known: they are read, compared, and not written; only the others were gained."""
    known(bench, 0, 2)
    streamed = bench.stream(bench.ledger.plan.take_all(), SequentialStream)
    await bench.consume(streamed)
    assert bench.ledger.complete
    assert bench.part.content[:CHUNK] == bytes(CHUNK)
    assert bench.part.content[CHUNK : 2 * CHUNK] == CONTENT[CHUNK : 2 * CHUNK]
    assert bench.part.content[3 * CHUNK :] == CONTENT[3 * CHUNK :]
    assert len(CONTENT) == bench.received == streamed.gained + 2 * CHUNK


async def test_a_second_pass_with_other_bytes_is_noticed_at_the_chunk(bench: Bench) -> None:
    """Before anything behind it is written."""
    known(bench, 1, damage=lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ContentDiffersError) as caught:
        await bench.consume(bench.stream(bench.ledger.plan.take_all(), SequentialStream))
    assert caught.value.index == 1
    assert len(bench.part.content) <= CHUNK


def test_a_buffer_that_could_not_be_had_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of memory once is no smaller budget for ever."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    buffers = Buffers()
    with monkeypatch.context() as without_memory:
        without_memory.setattr("resumable.buffers.mmap.mmap", refused)
        with pytest.raises(OSError, match="Cannot allocate"):
            buffers.lease(1 << 20)
    assert buffers.leased == 0
    assert len(buffers.lease(1 << 20)) == buffers.leased == 1 << 20
