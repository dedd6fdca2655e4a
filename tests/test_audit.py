"""The audit of what a former run left, over a part file on disk and one in memory."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from resumable.audit import Audited, audit
from resumable.errors import DeviceError
from resumable.model import Checkpoint
from resumable.partfile import DiskPartFile
from resumable.ports import PartFile, Sink
from resumable.testing import MemoryFolder, MemoryPartFile

CHUNK = 100
LENGTH = 950
CONTENT = bytes(n % 251 for n in range(LENGTH))


def claim(index: int, length: int | None = None, content: bytes = CONTENT) -> Checkpoint:
    """Return a true claim on ``content``; on the whole chunk without ``length``."""
    chunk = content[index * CHUNK : (index + 1) * CHUNK][:length]
    return Checkpoint(index, len(chunk), hashlib.sha256(chunk).digest())


def claims_of(*checkpoints: Checkpoint) -> dict[int, Checkpoint]:
    """Return the claims by chunk."""
    return {checkpoint.index: checkpoint for checkpoint in checkpoints}


ALL = claims_of(*(claim(index) for index in range(10)))


@pytest.fixture(params=["disk", "memory"])
async def part(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DiskPartFile | MemoryPartFile]:
    """Yield a part file that holds CONTENT."""
    path = tmp_path / "x.part"
    opened = await DiskPartFile.open(path) if request.param == "disk" else await MemoryFolder().open(path)
    await opened.write(0, [CONTENT], hashlib.sha256())
    yield opened
    await opened.close()


async def judged(
    part: PartFile,
    claims: dict[int, Checkpoint],
    *,
    length: int = LENGTH,
    threads: int = 2,
    run_lengths: tuple[int, ...] = (CHUNK, 3 * CHUNK, 20 * CHUNK),
) -> list[Audited]:
    """Return all verdicts, which are the same however many chunks are read in one hop."""
    found, last = [], list[Audited]()
    for run_length in run_lengths:
        verdicts = audit(part, claims, chunk_size=CHUNK, complete_length=length, threads=threads, run_length=run_length)
        last = [one async for one in verdicts]
        found.append([replace(one, digester=None) for one in last])
    assert all(verdicts == found[0] for verdicts in found)
    return last


@pytest.mark.parametrize("threads", [1, 2, 5])
async def test_true_claims_are_confirmed_in_file_order(part: PartFile, threads: int) -> None:
    """Whatever order they come in, and however many are read at once; a whole chunk needs no digest to go on with."""
    shuffled = dict(sorted(ALL.items(), key=lambda item: item[0] * 7 % 10))
    expected = [Audited(ALL[index], ok=True) for index in range(10)]
    assert expected == await judged(part, shuffled, threads=threads)


async def test_no_claims_no_verdicts(part: PartFile) -> None:
    """A new download has nothing to audit."""
    assert await judged(part, {}) == []


@pytest.mark.parametrize("offset", [0, 99, 100, 555, 949])
async def test_one_flipped_bit_costs_one_chunk(part: PartFile, offset: int) -> None:
    """Rot anywhere is found, and nothing else is blamed for it (E8)."""
    await part.write(offset, [bytes([CONTENT[offset] ^ 4])], hashlib.sha256())
    assert [offset // CHUNK] == [found.checkpoint.index for found in await judged(part, ALL) if not found.ok]


async def test_a_tail_of_zeros_is_not_data(part: PartFile) -> None:
    """After a power cut a file can have its size and not its bytes (D4)."""
    await part.truncate(430)
    await part.truncate(LENGTH)
    assert [found.checkpoint.index for found in await judged(part, ALL) if not found.ok] == [4, 5, 6, 7, 8, 9]


async def test_a_file_that_was_cut_lacks_its_end(part: PartFile) -> None:
    """Claims beyond the end, or across it, are false (E9)."""
    await part.truncate(430)
    assert [found.checkpoint.index for found in await judged(part, ALL) if not found.ok] == [4, 5, 6, 7, 8, 9]


async def test_a_true_claim_on_part_of_a_chunk_brings_its_digest(part: PartFile) -> None:
    """The chunk goes on at the exact byte: feeding the rest gives the digest of the whole chunk."""
    [found] = await judged(part, claims_of(claim(3, 37)))
    assert found.ok
    assert found.digester is not None
    found.digester.update(CONTENT[337:400])
    assert claim(3).digest == found.digester.digest()


async def test_the_last_chunk_is_whole_although_it_is_short(part: PartFile) -> None:
    """Fifty bytes are all of chunk 9, so there is nothing to go on with."""
    [found] = await judged(part, claims_of(claim(9)))
    assert (found.ok, found.digester) == (True, None)


FALSE = [
    ("beyond the grid", Checkpoint(10, 10, bytes(32))),
    ("before the file", Checkpoint(-1, 10, bytes(32))),
    ("longer than a chunk", Checkpoint(0, 101, hashlib.sha256(CONTENT[:101]).digest())),
    ("longer than the last chunk", Checkpoint(9, 51, hashlib.sha256(CONTENT[900:]).digest())),
    ("of nothing", Checkpoint(0, 0, hashlib.sha256(b"").digest())),
    ("of less than nothing", Checkpoint(0, -1, hashlib.sha256(b"").digest())),
    ("with another digest", Checkpoint(0, 50, hashlib.sha256(b"").digest())),
    ("with half a digest", Checkpoint(0, 50, hashlib.sha256(CONTENT[:50]).digest()[:16])),
]


@pytest.mark.parametrize("checkpoint", [row[1] for row in FALSE], ids=[row[0] for row in FALSE])
async def test_claims_that_fit_nothing_are_false(part: PartFile, checkpoint: Checkpoint) -> None:
    """A damaged or foreign row is no reason to fail, and no digest is handed out for it."""
    assert [Audited(checkpoint, ok=False)] == await judged(part, claims_of(checkpoint))


@given(data=st.data())
async def test_exactly_the_undamaged_claims_are_confirmed(data: st.DataObject) -> None:
    """Any claims, any damage: a claim is confirmed if and only if the bytes it speaks of are as they were."""
    lengths = data.draw(st.dictionaries(st.integers(0, 9), st.integers(1, CHUNK)))
    flips = data.draw(st.lists(st.integers(0, LENGTH - 1), unique=True, max_size=5))
    cut = data.draw(st.integers(0, LENGTH))
    part = await MemoryFolder().open(Path("/x.part"))
    damaged = bytearray(CONTENT)
    for offset in flips:
        damaged[offset] ^= 1
    await part.write(0, [bytes(damaged[:cut])], hashlib.sha256())
    claims = claims_of(*(claim(index, length) for index, length in lengths.items()))
    found = {verdict.checkpoint.index: verdict.ok for verdict in await judged(part, claims)}
    expected = {}
    for index, checkpoint in claims.items():
        start, stop = index * CHUNK, index * CHUNK + checkpoint.length
        expected[index] = stop <= cut and not any(start <= offset < stop for offset in flips)
    assert expected == found


class Slow(MemoryPartFile):
    """A part file whose reads begin and end when told, by chunk."""

    def __init__(self) -> None:
        folder = MemoryFolder()
        folder.files[Path("/x.part")] = bytearray(CONTENT)
        super().__init__(folder, Path("/x.part"))
        self.reading: set[int] = set()
        self.most = 0
        self.gates = [asyncio.Event() for _ in range(10)]

    async def hash_span(self, offset: int, length: int, digest: Sink) -> int:
        """Wait for the gate of the chunk."""
        self.reading.add(offset // CHUNK)
        self.most = max(self.most, len(self.reading))
        try:
            await self.gates[offset // CHUNK].wait()
            return await super().hash_span(offset, length, digest)
        finally:
            self.reading.discard(offset // CHUNK)


async def settle() -> None:
    """Let every other task run until it waits."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_each_verdict_comes_as_soon_as_it_is_known() -> None:
    """The engine plans again chunk by chunk; chunks that are known early neither overtake nor are waited for."""
    part = Slow()
    verdicts = audit(part, ALL, chunk_size=CHUNK, complete_length=LENGTH, run_length=CHUNK)
    first = asyncio.ensure_future(anext(verdicts))
    await settle()
    part.gates[1].set()
    await settle()
    assert not first.done()
    part.gates[0].set()
    assert (await first).checkpoint.index == 0
    assert (await anext(verdicts)).checkpoint.index == 1
    await verdicts.aclose()


async def test_no_more_is_read_at_once_than_allowed() -> None:
    """A running fetch keeps its share of disk and processors, also when the consumer is slow."""
    part = Slow()
    for gate in part.gates:
        gate.set()
    async with aclosing(
        audit(part, ALL, chunk_size=CHUNK, complete_length=LENGTH, run_length=CHUNK, threads=3)
    ) as verdicts:
        async for _ in verdicts:
            await settle()
            assert len(part.reading) == 0
    assert part.most == 3


async def test_closing_early_stops_the_reading() -> None:
    """When the generator is closed no hop of it is left, not even one that takes its time."""
    part = Slow()
    part.gates[0].set()
    verdicts = audit(part, ALL, chunk_size=CHUNK, complete_length=LENGTH, run_length=CHUNK)
    await anext(verdicts)
    await settle()
    assert {1, 2} == part.reading
    await verdicts.aclose()
    assert set() == part.reading


async def test_cancelling_the_consumer_stops_the_reading() -> None:
    """The cancellation arrives once nothing is read any more, however often it is repeated."""
    part = Slow()

    async def consume() -> None:
        async with aclosing(audit(part, ALL, chunk_size=CHUNK, complete_length=LENGTH, run_length=CHUNK)) as verdicts:
            async for _ in verdicts:
                pass

    consumer = asyncio.create_task(consume())
    await settle()
    assert {0, 1} == part.reading
    consumer.cancel()
    await asyncio.sleep(0)
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert set() == part.reading


def broken(code: int) -> DeviceError:
    """Return what a part file raises for this errno."""
    error = DeviceError(os.strerror(code))
    error.__cause__ = OSError(code, os.strerror(code))
    return error


async def test_a_bad_sector_is_damage() -> None:
    """Fetching again and writing gives the sector a chance; the other chunks count (E5)."""
    part = await MemoryFolder().open(Path("/x.part"))
    await part.write(0, [CONTENT], hashlib.sha256())
    part.faults["hash_span"] = [broken(errno.EIO)]
    verdicts = await judged(part, ALL, run_lengths=(CHUNK,))
    assert [found.checkpoint.index for found in verdicts if not found.ok] == [0]


async def test_a_bad_sector_costs_one_chunk_of_those_read_together() -> None:
    """A run that cannot be read is read again chunk by chunk: which of them is it?"""
    part = await MemoryFolder().open(Path("/x.part"))
    await part.write(0, [CONTENT], hashlib.sha256())
    part.faults["hash_span"] = [broken(errno.EIO), broken(errno.EIO)]
    verdicts = await judged(part, ALL, run_lengths=(20 * CHUNK,))
    assert [found.checkpoint.index for found in verdicts if not found.ok] == [0]


async def test_a_dead_device_costs_no_claims() -> None:
    """When nothing can be read it is not the chunks' fault: after three the audit itself fails."""
    part = await MemoryFolder().open(Path("/x.part"))
    part.faults["hash_span"] = [broken(errno.EIO) for _ in range(10)]
    verdicts = audit(part, ALL, chunk_size=CHUNK, complete_length=LENGTH, run_length=CHUNK)
    assert [(await anext(verdicts)).ok for _ in range(3)] == [False, False, False]
    with pytest.raises(DeviceError):
        await anext(verdicts)


@pytest.mark.parametrize("fault", [broken(errno.ENODEV), DeviceError("an earlier sync failed")])
async def test_a_device_that_is_gone_fails_at_once(fault: DeviceError) -> None:
    """Only a bad sector is taken for damage."""
    part = await MemoryFolder().open(Path("/x.part"))
    part.faults["hash_span"] = [fault]
    with pytest.raises(DeviceError):
        await judged(part, ALL)
