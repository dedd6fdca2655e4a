"""The checkpoint tick and the audit's consequences: data before row before news, and no row that is not true."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from resumable.checkpointer import Checkpointer
from resumable.errors import DeviceError, DiskFull, LeaseLost
from resumable.events import EventName
from resumable.ledger import Ledger
from resumable.model import Checkpoint, Durability
from resumable.plan import ChunkGrid, Extent
from resumable.ports import Digester, Sink
from resumable.stream import ExtentStream
from resumable.testing import Reply, ScriptedTransport
from resumable.validators import ETag, Representation
from tests.fetching import ask
from tests.rig import CHUNK, CONTENT, Rig

LENGTH = 4 * CHUNK
DATA = CONTENT[:LENGTH]


def sha(index: int, length: int = CHUNK) -> bytes:
    """Return the digest of the head of a chunk."""
    return hashlib.sha256(DATA[index * CHUNK : index * CHUNK + length]).digest()


class Desk:
    """A checkpointer over a rig's session that is bound to four chunks, and the order in which things happened."""

    def __init__(self, claims: Iterable[Checkpoint] = (), **options: Any) -> None:
        self.rig = Rig(ScriptedTransport(DATA), **options)
        session = self.rig.session
        session.representation = Representation(etag=ETag('"v1"'), complete_length=LENGTH)
        session.claims = {claim.index: claim for claim in claims}
        session.ledger = Ledger(ChunkGrid(LENGTH, CHUNK), session.claims)
        session.generation = 1
        self.session = session
        self.ledger = session.ledger
        self.progress: list[int] = []
        self.books = Checkpointer(session, self.rig.engine._adapters, self.progress.append)

    async def open(self, content: bytes = DATA) -> None:
        """Open a part file with this content."""
        part = await self.rig.folder.open(self.session.request.directory / "model.bin.part")
        part.content.extend(content)
        self.session.part = part


async def test_nothing_is_written_down_before_there_is_something() -> None:
    """No ledger, or nothing new: no row and no news."""
    desk = Desk()
    await desk.books.commit()
    desk.session.ledger = None
    await desk.books.commit()
    assert (desk.rig.store.commits, desk.progress, desk.session.begun) == (0, [], False)


async def test_a_commit_binds_the_download_once_and_tells_what_is_durable() -> None:
    """The store learns the representation before the first claim on it."""
    desk = Desk()
    for index in range(2):
        desk.ledger.wrote(index, CHUNK, sha(index))
        await desk.books.commit()
    assert desk.rig.store.representation == desk.session.representation
    assert desk.progress == [CHUNK, 2 * CHUNK]
    assert set(desk.rig.store.claims) == {0, 1}


async def test_for_power_the_data_comes_first() -> None:
    """One sync before each row; without it, none."""
    desk = Desk(durability=Durability.POWER)
    await desk.open()
    order: list[str] = []
    sync, commit = desk.rig.open_part.sync, desk.rig.store.commit

    async def synced() -> None:
        order.append("sync")
        await sync()

    async def committed(download_id: str, generation: int, checkpoints: Sequence[Checkpoint]) -> None:
        order.append("row")
        await commit(download_id, generation, checkpoints)

    desk.rig.open_part.sync = synced  # type: ignore[method-assign]
    desk.rig.store.commit = committed  # type: ignore[method-assign]
    desk.ledger.wrote(0, 5, sha(0, 5))
    await desk.books.commit()
    assert order == ["sync", "row"]


@pytest.mark.parametrize("failure", [DeviceError("fsync"), LeaseLost("taken over"), asyncio.CancelledError()])
async def test_a_commit_that_fails_is_made_up_for(failure: BaseException) -> None:
    """What it was to say is said by the next one, and nothing counts as durable meanwhile."""
    desk = Desk()
    commit = desk.rig.store.commit

    async def failing(download_id: str, generation: int, checkpoints: Sequence[Checkpoint]) -> None:
        desk.rig.store.commit = commit  # type: ignore[method-assign]
        raise failure

    desk.rig.store.commit = failing  # type: ignore[method-assign]
    desk.ledger.wrote(0, 7, sha(0, 7))
    with pytest.raises(type(failure)):
        await desk.books.commit()
    assert desk.ledger.durable == 0
    await desk.books.commit()
    assert desk.rig.store.claims == {0: Checkpoint(0, 7, sha(0, 7))}


# -- the tick ----------------------------------------------------------------------------------------------------------


async def ticking(desk: Desk, body: int) -> tuple[asyncio.Task[None], asyncio.Task[None]]:
    """Start a tick and a stream that gets so many bytes and then waits."""
    hold = Reply(hold_after=body, until=asyncio.Event())
    transport = ScriptedTransport(DATA, script=[hold])
    extent = desk.ledger.plan.take(connections=1)
    assert isinstance(extent, Extent)
    stream = ExtentStream(desk.ledger, desk.session.open_part, extent, received=desk.session.add_received)

    async def read() -> None:
        async with transport.fetch(ask("https://o.test/")) as response:
            await stream.consume(response)

    return asyncio.create_task(desk.books.tick(lambda: [stream])), asyncio.create_task(read())


async def ended(*tasks: asyncio.Task[None]) -> None:
    """Cancel and wait."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_one_tick_writes_and_commits_what_has_come() -> None:
    """Not written by one and committed by the next: that would lose twice as much (see the kill campaign)."""
    desk = Desk(checkpoint_interval_s=0.03)
    await desk.open(b"")
    tick, read = await ticking(desk, 1234)
    await desk.rig.until(lambda: desk.rig.names().count(EventName.PROGRESS) == 1)
    assert desk.rig.store.claims == {0: Checkpoint(0, 1234, sha(0, 1234))}
    await ended(tick, read)


async def test_what_the_receipt_will_say_is_not_said_before() -> None:
    """Of a file that is whole within its first tick, no chunk is written down; once chunks are, all of them are."""
    desk = Desk(checkpoint_interval_s=0.01)
    for index in range(4):
        desk.ledger.wrote(index, CHUNK, sha(index))
    assert desk.ledger.complete
    tick = asyncio.create_task(desk.books.tick(list))
    await desk.rig.until(lambda: desk.rig.names().count(EventName.PROGRESS) == 2)
    assert (desk.rig.store.claims, desk.session.begun) == ({}, False)
    desk.session.begun = True
    await desk.rig.until(lambda: len(desk.rig.store.claims) == 4)
    await ended(tick)


async def test_a_slow_disk_does_not_hold_up_the_other_chunks_rows() -> None:
    """A write that hangs is committed once it is done; what is written is committed now."""
    desk = Desk()
    await desk.open(b"")
    desk.ledger.wrote(3, CHUNK, sha(3))
    go = asyncio.Event()
    write = desk.rig.open_part.write

    async def slow(offset: int, blocks: Sequence[bytes | memoryview], digest: Digester) -> bytes:
        await go.wait()
        return await write(offset, blocks, digest)

    desk.rig.open_part.write = slow  # type: ignore[method-assign]
    tick, read = await ticking(desk, 1234)
    await desk.rig.until(lambda: 3 in desk.rig.store.claims)
    assert 0 not in desk.rig.store.claims
    go.set()
    await desk.rig.until(lambda: 0 in desk.rig.store.claims)
    await ended(tick, read)


async def test_a_full_disk_is_told_by_the_tick() -> None:
    """The peer may not send another byte for minutes."""
    desk = Desk()
    await desk.open(b"")
    desk.rig.open_part.faults["write"] = [DiskFull("full", needed=1, free=0, path="/d")]
    tick, read = await ticking(desk, 1234)
    with pytest.raises(DiskFull):
        await tick
    await ended(read)


# -- the audit ---------------------------------------------------------------------------------------------------------


async def test_true_claims_count_and_false_ones_are_withdrawn() -> None:
    """Chunk 1 is not what its row says: it is missing again, its row goes, and that is told with its size."""
    claims = [Checkpoint(0, CHUNK, sha(0)), Checkpoint(1, CHUNK, sha(2)), Checkpoint(2, 10, sha(2, 10))]
    desk = Desk(claims)
    await desk.open()
    desk.rig.store.claims = dict(desk.session.claims)
    assert not desk.books.judged.is_set()
    await desk.books.audit(lambda: None)
    assert desk.books.judged.is_set()
    assert (desk.ledger.durable, desk.ledger.resumed) == (CHUNK + 10, CHUNK + 10)
    assert set(desk.rig.store.claims) == {0, 2}
    assert desk.rig.messages(EventName.REPAIRED) == [
        f"1 damaged chunk(s), {CHUNK} bytes, of the part file are fetched again"
    ]


async def test_a_chunk_fetched_again_while_the_audit_went_on_keeps_its_new_row() -> None:
    """Its old row was false, the new one is true."""
    claims = [Checkpoint(0, CHUNK, sha(1)), Checkpoint(1, CHUNK, sha(1))]
    desk = Desk(claims)
    await desk.open()
    go = asyncio.Event()
    hash_span = desk.rig.open_part.hash_span

    async def held(offset: int, length: int, digest: Sink) -> int:
        if offset:
            await go.wait()
        return await hash_span(offset, length, digest)

    desk.rig.open_part.hash_span = held  # type: ignore[method-assign]
    judged = asyncio.Event()
    audit = asyncio.create_task(desk.books.audit(judged.set))
    await judged.wait()
    desk.ledger.wrote(0, CHUNK, sha(0))
    await desk.books.commit()
    go.set()
    await audit
    assert desk.rig.store.claims[0] == Checkpoint(0, CHUNK, sha(0))
    assert desk.ledger.durable == 2 * CHUNK


async def test_an_audit_that_was_interrupted_goes_on_where_it_was() -> None:
    """Claims that were judged are not judged again; the others are still claims."""
    desk = Desk([Checkpoint(index, CHUNK, sha(index)) for index in range(4)])
    await desk.open()
    hash_span = desk.rig.open_part.hash_span
    read: list[int] = []

    async def held(offset: int, length: int, digest: Sink) -> int:
        read.append(offset // CHUNK)
        if offset == 2 * CHUNK and len(read) < 5:
            await asyncio.Event().wait()
        return await hash_span(offset, length, digest)

    desk.rig.open_part.hash_span = held  # type: ignore[method-assign]
    audit = asyncio.create_task(desk.books.audit(lambda: None))
    await desk.rig.until(lambda: set(desk.session.claims) == {2, 3} and len(read) == 4)
    await ended(audit)
    assert desk.ledger.durable == 2 * CHUNK
    read += [0]
    await desk.books.audit(lambda: None)
    assert desk.ledger.durable == LENGTH
    assert set(read[5:]) == {2, 3}
