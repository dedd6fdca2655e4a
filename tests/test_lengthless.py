"""Bodies whose length nobody states: written whole, their length learned at the end."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumable import lengthless
from resumable.errors import DiskFull, Interrupted
from resumable.lengthless import Spooled, framed, spool
from resumable.lookahead import Lookahead
from resumable.testing import MemoryFolder, MemoryPartFile, Reply, ScriptedTransport
from tests.fetching import ask
from tests.rig import CONTENT

CHUNK = 50_000
WITHOUT: dict[str, str | None] = {"content-length": None}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks and writes small enough for many of them."""
    monkeypatch.setattr(lengthless, "CHUNK_SIZE", CHUNK)
    monkeypatch.setattr(lengthless, "_FLUSH", 30_000)


async def part() -> MemoryPartFile:
    """Return an open part file."""
    return await MemoryFolder().open(Path("/d/x.part"))


async def spooled(
    content: bytes, into: MemoryPartFile, *, block: int = 7_001, most: int | None = None
) -> tuple[Spooled | None, list[int]]:
    """Spool one body; return what came of it and the sizes that a rate limit was told."""
    throttled: list[int] = []
    received: list[int] = []

    async def throttle(size: int) -> None:
        throttled.append(size)

    transport = ScriptedTransport(content, block_size=block, script=[Reply(headers=WITHOUT)])
    async with transport.fetch(ask("https://o.test/")) as response:
        result = await spool(response, into, received=received.append, throttle=throttle, most_bytes=most)
    assert throttled == received
    return result, throttled


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 7 * CHUNK + 12_345])
@pytest.mark.parametrize("block", [7_001, 60_000, 200_000])
async def test_every_byte_is_written_and_every_chunk_has_its_digest(size: int, block: int) -> None:
    """Blocks that end inside chunks, at their ends, and beyond several of them."""
    into = await part()
    content = CONTENT[:size]
    result, throttled = await spooled(content, into, block=block)
    chunks = [content[start : start + CHUNK] for start in range(0, size, CHUNK)]
    assert Spooled(size, tuple(hashlib.sha256(chunk).digest() for chunk in chunks)) == result
    assert into.content == content
    assert sum(throttled) == size


async def test_more_than_allowed_is_given_up_as_soon_as_it_is_seen() -> None:
    """An endless body must not fill the disk (reliability A23)."""
    into = await part()
    result, throttled = await spooled(CONTENT, into, most=100_000)
    assert result is None
    assert 100_000 < sum(throttled) <= 100_000 + 7_001


async def test_exactly_as_much_as_allowed_is_taken() -> None:
    """The limit is what may be, not what may not."""
    result, _ = await spooled(CONTENT[:100_000], await part(), most=100_000)
    assert result is not None


async def test_a_full_disk_gets_through() -> None:
    """With the amounts, for whoever waits for space."""
    into = await part()
    into.faults["write"] = [DiskFull("full", needed=1, free=0, path="/d")]
    with pytest.raises(DiskFull):
        await spooled(CONTENT, into)


@pytest.mark.parametrize(
    ("coding", "marks"), [("chunked", True), ("Chunked", True), ("gzip, chunked", True), ("", False), (None, False)]
)
async def test_which_bodies_mark_their_end(coding: str | None, marks: bool) -> None:
    """RFC 9112 7.1: a chunked one does; one that ends with its connection does not."""
    headers = WITHOUT if coding is None else {**WITHOUT, "transfer-encoding": coding}
    async with ScriptedTransport(b"x", script=[Reply(headers=headers)]).fetch(ask("https://o.test/")) as response:
        assert marks == framed(response)


@given(st.lists(st.integers(0, 40), max_size=6), st.integers(1, 9))
async def test_what_is_taken_ahead_and_what_follows_are_the_body(takes: list[int], block: int) -> None:
    """Any exact amounts first, whatever the blocks: nothing is lost, doubled or out of order."""
    content = CONTENT[:100]
    async with ScriptedTransport(content, block_size=block).fetch(ask("https://o.test/")) as response:
        ahead = Lookahead(response)
        got = b""
        for count in takes:
            if len(got) + count > len(content):
                with pytest.raises(Interrupted):
                    await ahead.take(count)
                return
            taken = await ahead.take(count)
            assert len(taken) == count
            got += taken
        while more := await ahead.read():
            got += more
        assert got == content


async def test_what_stands_in_front_of_a_body_is_seen_through() -> None:
    """Status, headers, address and redirects are those of the answer."""
    async with ScriptedTransport(b"x").fetch(ask("https://o.test/")) as response:
        ahead = Lookahead(response)
        assert (ahead.status, ahead.url, ahead.hops) == (response.status, response.url, response.hops)
        assert ahead.headers == response.headers
