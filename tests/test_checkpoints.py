"""Checkpoints in the database: fenced by the generation, absent when damaged, forgotten with their representation."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from recovery.database import Database
from recovery.journal import JOURNAL, Journal, OperationSpec
from resumable.checkpoints import SqliteCheckpoints
from resumable.errors import LeaseLost
from resumable.model import Checkpoint, Finished
from resumable.rows import COMPANIONS, DOWNLOADS, DownloadRow
from resumable.validators import ETag, Representation

ROW = DownloadRow(
    download_id="d1",
    directory="/d",
    filename="f.bin",
    named_by="caller",
    request={"url": "http://h/f"},
    representation=None,
    chunk_size=None,
)
IDENTITY = Representation(etag=ETag('"1"', weak=False), complete_length=300)
ONE, TWO = Checkpoint(0, 100, b"a" * 32), Checkpoint(1, 50, b"b" * 32)


class Store:
    """Checkpoints of one download whose lease is held."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.journal = Journal(database, companions=COMPANIONS)
        self.checkpoints = SqliteCheckpoints(database)
        self.generation = 0

    async def begin(self) -> None:
        spec = OperationSpec(kind="download", key="/d/f.bin", operation_id="d1")
        _, generation = await self.journal.begin_and_claim(spec, owner="me", ttl_s=60.0, now=1.0)
        assert generation is not None
        self.generation = generation
        await self.checkpoints.put(ROW)

    async def change(self, statement: str) -> None:
        """Change rows behind their CRC's back."""

        def work(conn: sqlite3.Connection) -> None:
            conn.execute(statement)

        await self.database.write(work)


@pytest.fixture
async def store(state_path: Path) -> AsyncIterator[Store]:
    async with await Database.open(state_path, (JOURNAL, DOWNLOADS)) as database:
        opened = Store(database)
        await opened.begin()
        yield opened


async def test_claims_come_back_as_they_were_made(store: Store) -> None:
    """The newest claim for a chunk counts, also one that is shorter."""
    checkpoints = store.checkpoints
    assert await checkpoints.load("d1") is None
    await checkpoints.begin("d1", store.generation, IDENTITY, 100)
    await checkpoints.commit("d1", store.generation, [ONE, TWO])
    shorter = Checkpoint(0, 10, b"c" * 32)
    await checkpoints.commit("d1", store.generation, [shorter])
    saved = await checkpoints.load("d1")
    assert saved is not None
    assert (saved.representation, saved.chunk_size, saved.checkpoints) == (IDENTITY, 100, {0: shorter, 1: TWO})
    await checkpoints.forget("d1", store.generation, [0, 7])
    saved = await checkpoints.load("d1")
    assert saved is not None
    assert saved.checkpoints == {1: TWO}


async def test_another_representation_forgets_the_claims(store: Store) -> None:
    """They are about bytes that are no longer wanted."""
    await store.checkpoints.begin("d1", store.generation, IDENTITY, 100)
    await store.checkpoints.commit("d1", store.generation, [ONE])
    other = Representation(etag=ETag('"2"', weak=False), complete_length=300)
    await store.checkpoints.begin("d1", store.generation, other, 50)
    saved = await store.checkpoints.load("d1")
    assert saved is not None
    assert (saved.representation, saved.chunk_size, saved.checkpoints) == (other, 50, {})


async def test_asking_again_keeps_the_claims(store: Store) -> None:
    """A request that is written anew takes over what the chunks belong to."""
    await store.checkpoints.begin("d1", store.generation, IDENTITY, 100)
    await store.checkpoints.commit("d1", store.generation, [ONE])
    await store.checkpoints.put(ROW)
    saved = await store.checkpoints.load("d1")
    assert saved is not None
    assert (saved.representation, saved.checkpoints) == (IDENTITY, {0: ONE})


async def test_a_claim_that_rots_is_absent(store: Store) -> None:
    """And only that one; a row of the download that rots takes all of them."""
    await store.checkpoints.begin("d1", store.generation, IDENTITY, 100)
    await store.checkpoints.commit("d1", store.generation, [ONE, TWO])

    await store.change("UPDATE download_chunks SET length = 99 WHERE idx = 0")
    saved = await store.checkpoints.load("d1")
    assert saved is not None
    assert saved.checkpoints == {1: TWO}
    await store.change("UPDATE downloads SET chunk_size = 1")
    assert await store.checkpoints.load("d1") is None
    assert await store.checkpoints.get("d1") is None
    await store.checkpoints.named("d1", store.generation, Path("/d/other.bin"))  # nothing to name; nothing raises
    await store.checkpoints.begin("d1", store.generation, IDENTITY, 100)
    assert await store.checkpoints.load("d1") is None


def finished(path: Path) -> Finished:
    """Return what a published file leaves."""
    return Finished(
        path=path,
        size=300,
        sha256=None,
        representation=IDENTITY,
        chunk_size=100,
        digests=b"x" * 96,
        verified_by="etag",
        bytes_received=300,
    )


async def test_a_receipt_replaces_the_claims(store: Store, tmp_path: Path) -> None:
    """With the time of the file, where there still is one."""
    await store.checkpoints.begin("d1", store.generation, IDENTITY, 100)
    await store.checkpoints.commit("d1", store.generation, [ONE])
    path = tmp_path / "f.bin"
    path.write_bytes(b"x")
    await store.checkpoints.finish("d1", store.generation, finished(path))
    receipt = await store.checkpoints.receipt_for(path)
    assert receipt is not None
    assert (receipt.size, receipt.mtime_ns, receipt.digests) == (300, path.stat().st_mtime_ns, b"x" * 96)
    saved = await store.checkpoints.load("d1")
    assert saved is not None
    assert saved.checkpoints == {}
    await store.checkpoints.finish("d1", store.generation, finished(tmp_path / "gone"))
    gone = await store.checkpoints.receipt_for(tmp_path / "gone")
    assert gone is not None
    assert gone.mtime_ns is None


CALLS: list[tuple[str, tuple[Any, ...]]] = [
    ("begin", (IDENTITY, 100)),
    ("commit", ([ONE],)),
    ("forget", ([0],)),
    ("named", (Path("/d/x"),)),
    ("finish", (finished(Path("/d/x")),)),
]


@pytest.mark.parametrize(("call", "arguments"), CALLS, ids=[call for call, _ in CALLS])
async def test_a_stale_owner_changes_nothing(call: str, arguments: tuple[Any, ...], store: Store) -> None:
    """Whatever it wants to say; it is told that it has lost the lease."""
    await store.checkpoints.begin("d1", store.generation, IDENTITY, 100)
    await store.checkpoints.commit("d1", store.generation, [TWO])
    before = await store.checkpoints.load("d1"), await store.checkpoints.get("d1")
    with pytest.raises(LeaseLost):
        await getattr(store.checkpoints, call)("d1", store.generation - 1, *arguments)
    assert before == (await store.checkpoints.load("d1"), await store.checkpoints.get("d1"))
    assert await store.checkpoints.receipt_for(Path("/d/x")) is None
