"""Gaps in what is kept, where no validator vouches for anything: they are closed, by whatever answers, and come to an
end.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import replace

import pytest

from resumable.errors import DownloadError
from resumable.events import EventName
from resumable.fetcher import OVERLAP
from resumable.identity import link_of
from resumable.model import Checkpoint
from resumable.ports import Fetch
from resumable.testing import Reply, ScriptedTransport
from tests.rig import CHUNK, CONTENT, KIB, OTHER, Rig, half_done

MIRROR = "https://mirror.test/m.bin"
LONG_ENOUGH_S = 60.0
"""None of these takes a second; what never ended would."""


class Stingy(ScriptedTransport):
    """Answers a range with less than was asked for, and says so: at most ``most`` bytes, or half of it where 0."""

    most: int | None = None

    def honest(self, request: Fetch) -> tuple[int, dict[str, str], bytes]:
        status, headers, body = super().honest(request)
        if status != 206 or self.most is None:
            return status, headers, body
        body = body[: self.most or (len(body) + 1) // 2]
        found = re.match(r"bytes ([0-9]+)-[0-9]+/([0-9]+)", headers["content-range"])
        assert found is not None
        start, total = int(found[1]), found[2]
        stated = {"content-range": f"bytes {start}-{start + len(body) - 1}/{total}", "content-length": str(len(body))}
        return status, headers | stated, body


async def with_a_gap(transport: ScriptedTransport, chunk: int | None = 5, *, whole: bool = False) -> Rig:
    """Return a rig whose former process left ten chunks, or all, and whose disk has damaged one of them."""
    rig = await half_done(transport, chunks=40 if whole else 10)
    if whole:
        rig.part[40 * CHUNK :] = last = CONTENT[40 * CHUNK :]
        rig.store.claims[40] = Checkpoint(40, len(last), hashlib.sha256(last).digest())
    if chunk is not None:
        rig.part[chunk * CHUNK] ^= 1
    return rig


async def to_the_end(rig: Rig) -> int:
    """Return how many requests it took until the file was there."""
    async with asyncio.timeout(LONG_ENOUGH_S):
        await rig.run(DownloadError)
    assert isinstance(rig.transport, ScriptedTransport)
    return len(rig.transport.requests)


async def test_a_gap_that_is_not_proved_yet_does_not_hold_up_the_end_of_the_file() -> None:
    """The connection breaks within the bytes that would prove the gap, while the file's end is missing too: nothing
    will ever prove that end but what it goes on from. It was asked for again and again, for ever.
    """
    rig = await with_a_gap(ScriptedTransport(CONTENT, etag=None))
    rig.transport.script.append(Reply(cut_after=OVERLAP + CHUNK + 100))
    assert await to_the_end(rig) <= 4
    assert rig.published == CONTENT


@pytest.mark.parametrize("etag", [None, '"v1"'], ids=["no validator", "tag"])
@pytest.mark.parametrize("gap", [None, 5], ids=["end", "gap"])
@pytest.mark.parametrize("most", [2 * KIB, 32 * KIB, 64 * KIB, 128 * KIB, 0], ids=lambda n: f"{n}")
async def test_a_server_that_gives_less_than_was_asked_for(most: int, gap: int | None, etag: str | None) -> None:
    """Also where it is so little that only kept bytes come: that is no progress, and the file is read whole instead."""
    transport = Stingy(CONTENT, etag=etag)
    rig = await with_a_gap(transport, gap)
    transport.most = most
    requests = await to_the_end(rig)
    assert rig.published == CONTENT
    assert requests < len(CONTENT) // (16 * KIB)


async def test_few_bytes_behind_a_gap_do_not_prove_it() -> None:
    """The server stops one byte behind the gap, which is the same in both versions; the rest is not."""
    transport = Stingy(CONTENT, etag=None)
    rig = await with_a_gap(transport, whole=True)
    gap, end = slice(5 * CHUNK, 6 * CHUNK), 6 * CHUNK + 1
    other = bytearray(OTHER)
    other[: gap.start] = CONTENT[: gap.start]
    other[gap.stop : end] = CONTENT[gap.stop : end]
    transport.content = bytes(other)
    transport.most = OVERLAP + CHUNK + 1
    await to_the_end(rig)
    assert rig.published == bytes(other)


@pytest.mark.parametrize("chunks", [8, 10, 20])
async def test_a_fresh_link_to_a_server_without_ranges_costs_no_kept_byte(chunks: int) -> None:
    """A sample from the file's head is answered with all of the file: that is compared as it comes, not held in memory
    and taken for another file.
    """
    rig = await half_done(ScriptedTransport(CONTENT), chunks=chunks)
    rig.request = replace(rig.request, url=MIRROR)
    rig.store.equals = (link_of(MIRROR),)
    rig.transport.etag, rig.transport.ranges = '"mirror"', False
    rig.new_session()
    await to_the_end(rig)
    assert rig.published == CONTENT
    assert "changed" not in " ".join(rig.messages(EventName.RESTARTED))


async def test_the_whole_file_in_place_of_its_first_chunk_is_compared_to_the_end() -> None:
    """Only the first chunk is missing, and a server without ranges answers with another version: found out although
    the bytes behind the gap are the same.
    """
    rig = await with_a_gap(ScriptedTransport(CONTENT, etag=None), 0, whole=True)
    same = slice(CHUNK, 4 * CHUNK)
    other = OTHER[: same.start] + CONTENT[same] + OTHER[same.stop :]
    rig.transport.content, rig.transport.ranges = other, False
    await to_the_end(rig)
    assert rig.published == other
