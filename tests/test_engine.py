"""The engine over fakes: one attempt at a time, against origins that answer by a script."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
from msgspec.structs import replace

from resumable.errors import (
    DigestMismatch,
    Interrupted,
    LeaseLost,
    LengthUnverified,
    ProtocolFault,
    RepresentationChanged,
    StatusError,
    WebPage,
)
from resumable.events import EventName
from resumable.ports import Hop, PartFile
from resumable.session import Mode
from resumable.testing import MemoryPartFile, Reply, ScriptedTransport
from tests.rig import CHUNK, CONTENT, KIB, OTHER, Damage, Rig

SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("connections", [1, 2, 5])
async def test_an_honest_origin_is_downloaded_whole(connections: int) -> None:
    """Every byte arrives, each once, by as many connections as are allowed."""
    rig = Rig(ScriptedTransport(CONTENT), connections=connections)
    published = await rig.attempt()
    assert rig.published == CONTENT
    assert (len(CONTENT), "etag") == (published.size, published.verified_by)
    assert len(CONTENT) == rig.session.received
    assert rig.store.finished is not None
    assert rig.store.finished.digests[:32] == hashlib.sha256(CONTENT[:CHUNK]).digest()


@pytest.mark.parametrize("content", [b"", b"x", CONTENT[:CHUNK], CONTENT[: CHUNK + 1]])
async def test_small_files_need_no_special_case(content: bytes) -> None:
    """Empty, one byte, exactly one chunk, one byte more."""
    rig = Rig(ScriptedTransport(content))
    published = await rig.attempt()
    assert content == rig.published
    assert len(content) == published.size


@pytest.mark.parametrize("sha256", [SHA, None])
async def test_the_whole_digest_is_checked_when_somebody_states_it(sha256: str | None) -> None:
    """With a digest the result carries it; without one a file of many chunks has none."""
    published = await Rig(ScriptedTransport(CONTENT), sha256=sha256).attempt()
    assert sha256 == published.sha256


async def test_a_wrong_digest_publishes_nothing_and_keeps_the_file_aside() -> None:
    """The file is kept as .suspect and the error names both digests and who stated the expected one."""
    rig = Rig(ScriptedTransport(OTHER), sha256=SHA)
    with pytest.raises(DigestMismatch) as caught:
        await rig.attempt()
    assert (SHA, hashlib.sha256(OTHER).hexdigest(), "the caller") == (
        caught.value.expected,
        caught.value.actual,
        caught.value.source,
    )
    assert caught.value.kept == "model.bin.suspect"
    assert rig.store.finished is None
    assert rig.store.claims == {}


async def test_cuts_lose_nothing_and_need_no_new_attempt_while_there_is_progress() -> None:
    """Every response breaks after three chunks: one attempt still finishes, and no byte is received twice."""
    rig = Rig(ScriptedTransport(CONTENT, script=[Reply(cut_after=3 * CHUNK)] * 12))
    await rig.run()
    assert rig.published == CONTENT
    assert len(CONTENT) == rig.session.received
    assert EventName.INTERRUPTED in rig.names()


async def test_tiny_cuts_end_the_attempt_but_keep_every_byte() -> None:
    """A connection that brings less than a chunk counts as a failure; the next attempt goes on at the exact byte."""
    rig = Rig(ScriptedTransport(CONTENT, script=[Reply(cut_after=1000)] * 9), connections=1)
    with pytest.raises(Interrupted):
        await rig.attempt()
    assert rig.session.received == 1000
    await rig.run()
    assert len(CONTENT) == rig.session.received
    assert rig.published == CONTENT


async def test_a_new_process_continues_at_the_exact_byte() -> None:
    """Cancel in mid-flight: gathered bytes are written and checkpointed; the next process receives only the rest."""
    hold = asyncio.Event()
    rig = Rig(ScriptedTransport(CONTENT, script=[Reply(hold_after=5 * CHUNK + 321, until=hold)]), connections=1)
    running = asyncio.create_task(rig.attempt())
    while rig.session.received < 5 * CHUNK + 321:
        await asyncio.sleep(0.001)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await rig.engine.close()
    assert sum(claim.length for claim in rig.store.claims.values()) == 5 * CHUNK + 321
    rig.new_session()
    await rig.attempt()
    assert rig.published == CONTENT
    assert len(CONTENT) - 5 * CHUNK - 321 == rig.session.received
    assert EventName.RESUMED in rig.names()


def _flip(data: bytearray) -> None:
    data[2 * CHUNK + 5] ^= 1


def _zero(data: bytearray) -> None:
    data[3 * CHUNK : 4 * CHUNK] = bytes(CHUNK)


def _truncate(data: bytearray) -> None:
    del data[4 * CHUNK :]


def _extend(data: bytearray) -> None:
    data += b"junk" * 100_000


@pytest.mark.parametrize(("damage", "chunks"), [(_flip, 1), (_zero, 1), (_extend, 0)])
async def test_exactly_the_damaged_chunks_are_fetched_again(damage: Damage, chunks: int) -> None:
    """A former run's rows are claims: the audit finds what the disk no longer has."""
    rig = Rig(ScriptedTransport(CONTENT, script=[Reply(cut_after=10 * CHUNK), *[Reply(status=503)] * 3]), connections=1)
    with pytest.raises(StatusError):
        await rig.attempt()
    await rig.engine.close()
    assert len(rig.store.claims) == 10
    damage(rig.part)
    rig.new_session()
    await rig.run((StatusError, Interrupted))
    assert rig.published == CONTENT
    assert len(CONTENT) - (10 - chunks) * CHUNK == rig.session.received


async def test_an_object_replaced_between_runs_is_never_mixed() -> None:
    """Another ETag: the kept bytes are given up, which is said, and the new object is downloaded whole."""
    transport = ScriptedTransport(CONTENT, script=[Reply(cut_after=10 * CHUNK), *[Reply(status=503)] * 3])
    rig = Rig(transport, connections=1)
    with pytest.raises(StatusError):
        await rig.attempt()
    await rig.engine.close()
    transport.content, transport.etag = OTHER, '"v2"'
    rig.new_session()
    with pytest.raises(RepresentationChanged):
        await rig.run((StatusError,))
    await rig.attempt()
    assert rig.published == OTHER
    assert EventName.RESTARTED in rig.names()
    assert rig.session.restarted is not None
    assert "etag" in rig.session.restarted.lower()
    assert rig.session.mode is Mode.PARALLEL  # as a new download: its validators tell versions apart


async def test_an_object_replaced_in_mid_run_is_never_mixed() -> None:
    """The object changes between two responses of one attempt."""
    transport = ScriptedTransport(CONTENT, script=[Reply(cut_after=6 * CHUNK)])
    rig = Rig(transport, connections=1)
    original = transport.fetch
    count = 0

    def fetch(request: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            transport.content, transport.etag = OTHER, '"v2"'
        return original(request)

    transport.fetch = fetch  # type: ignore[method-assign]
    with pytest.raises(RepresentationChanged):
        await rig.attempt()
    await rig.attempt()
    assert rig.published == OTHER
    assert rig.session.mode is Mode.SINGLE  # it may do so again, under several connections


async def test_without_validators_the_overlap_must_prove_the_resume() -> None:
    """No ETag, no date: one stream; the bytes before the gap are asked for again and must be the same."""
    transport = ScriptedTransport(CONTENT, etag=None, script=[Reply(cut_after=10 * CHUNK)])
    rig = Rig(transport)
    await rig.run()
    assert rig.published == CONTENT
    assert rig.session.mode is Mode.SINGLE
    assert len(CONTENT) < rig.session.received <= len(CONTENT) + 3 * 64 * KIB


async def test_without_validators_a_changed_object_is_noticed_by_its_bytes() -> None:
    """Same size, no validator, other bytes: the overlap differs, nothing is mixed."""
    transport = ScriptedTransport(CONTENT, etag=None, script=[Reply(cut_after=10 * CHUNK), *[Reply(status=503)] * 2])
    rig = Rig(transport)
    with pytest.raises(StatusError):
        await rig.attempt()
    transport.content = OTHER
    with pytest.raises(RepresentationChanged, match="bytes beside the gap"):
        await rig.run((StatusError,))
    await rig.attempt()
    assert rig.published == OTHER


async def test_an_origin_without_ranges_is_read_in_one_pass() -> None:
    """200 to the first request: sequential, marked as not resumable."""
    rig = Rig(ScriptedTransport(CONTENT, ranges=False))
    await rig.attempt()
    assert rig.published == CONTENT
    assert rig.session.can_resume is False
    assert len(CONTENT) == rig.session.received


async def test_an_origin_without_ranges_that_breaks_is_read_again_and_compared() -> None:
    """The second pass compares what is kept and writes the rest."""
    rig = Rig(ScriptedTransport(CONTENT, ranges=False, script=[Reply(cut_after=20 * CHUNK)]))
    await rig.run()
    assert rig.published == CONTENT
    assert len(CONTENT) + 20 * CHUNK == rig.session.received


async def test_a_range_less_origin_that_never_gets_further_is_not_asked_for_ever() -> None:
    """Passes that bring nothing new count as failures."""
    transport = ScriptedTransport(CONTENT, ranges=False, script=[Reply(cut_after=6 * CHUNK)] * 1000)
    rig = Rig(transport)
    for _ in range(3):
        with pytest.raises(Interrupted):
            await rig.attempt()
    assert len(transport.requests) <= 7


async def test_ranges_ignored_after_a_good_start_fall_back_to_one_pass() -> None:
    """206 first, then 200 with the whole body: that very body is used, what is kept is compared."""
    script = [
        Reply(),
        *[Reply(status=200, body=CONTENT, headers={"content-range": None, "content-length": str(len(CONTENT))})] * 8,
    ]
    rig = Rig(ScriptedTransport(CONTENT, script=script))
    await rig.run()
    assert rig.published == CONTENT
    assert rig.session.restarted == "no-range"


async def test_a_wrong_content_range_writes_nothing_and_falls_back() -> None:
    """Shifted answers are refused before a byte is written; the whole body is fetched instead."""
    shifted = Reply(headers={"content-range": f"bytes 5-{CHUNK}/{len(CONTENT)}"})
    rig = Rig(ScriptedTransport(CONTENT, script=[Reply(), *[shifted] * 4]))
    await rig.run((ProtocolFault, Interrupted))
    assert rig.published == CONTENT


async def test_a_web_page_in_place_of_a_range_is_refused() -> None:
    """A login page with status 200 is an error of its own, and the kept bytes stay."""
    page = Reply(
        status=200,
        body=b"<html>log in</html>",
        headers={"content-type": "text/html", "content-range": None, "etag": None, "content-length": "19"},
    )
    rig = Rig(ScriptedTransport(CONTENT, script=[Reply(cut_after=10 * CHUNK), *[page] * 3]), connections=1)
    with pytest.raises(WebPage):
        await rig.attempt()
    await rig.run((WebPage, Interrupted))
    assert rig.published == CONTENT
    assert len(CONTENT) <= rig.session.received <= len(CONTENT) + 100


async def test_a_status_ends_the_attempt_with_what_the_origin_asked_for() -> None:
    """503 with Retry-After: nothing is asked again in this attempt, the seconds are in the error."""
    transport = ScriptedTransport(CONTENT, script=[Reply(status=503, headers={"retry-after": "2"})])
    rig = Rig(transport)
    with pytest.raises(StatusError) as caught:
        await rig.attempt()
    assert (caught.value.status, caught.value.retry_after_s) == (503, 2.0)
    assert len(transport.requests) == 1
    await rig.attempt()
    assert rig.published == CONTENT


async def test_an_expired_redirect_is_resolved_again_outside_the_retry_budget() -> None:
    """403 from the remembered target: the link as given is asked again at once."""
    moved = Reply(hops=(Hop("https://origin.test/model.bin", 302, {}),), url="https://cdn.test/signed?sig=1")
    rig = Rig(
        ScriptedTransport(CONTENT, script=[replace(moved, cut_after=10 * CHUNK), Reply(status=403), moved]),
        connections=1,
    )
    await rig.attempt()
    assert rig.published == CONTENT
    urls = [request.url for request in rig.transport.requests]
    link, target = "https://origin.test/model.bin", "https://cdn.test/signed?sig=1"
    assert [link, target, link] == urls[:3]


async def test_a_stale_owner_writes_nothing() -> None:
    """When another generation holds the lease, the attempt ends and nothing is published."""
    rig = Rig(ScriptedTransport(CONTENT))
    rig.store.generation = 2
    with pytest.raises(LeaseLost):
        await rig.attempt()
    assert rig.store.finished is None


async def test_a_mirror_takes_over_when_the_first_source_refuses() -> None:
    """404 from the first: the mirror is tried in the same attempt."""
    rig = Rig(
        ScriptedTransport(CONTENT, script=[Reply(status=404)]), mirrors=("https://mirror.test/m.bin",), sha256=SHA
    )
    await rig.attempt()
    assert rig.published == CONTENT
    assert "mirror.test" in rig.transport.requests[-1].url


class _LateDigest:
    """Reads the whole file only when asked for the digest, and lets a test damage it just before, once."""

    def __init__(self, part: PartFile, damage: list[Damage]) -> None:
        assert isinstance(part, MemoryPartFile)
        self._part = part
        self._damage = damage

    def advance(self, upto: int) -> None:
        """Nothing to follow."""

    def rewind(self, to: int) -> None:
        """Nothing to take back."""

    async def finish(self, length: int) -> str:
        if self._damage:
            self._damage.pop()(self._part.content)
        return hashlib.sha256(self._part.content[:length]).hexdigest()

    async def close(self) -> None:
        """Nothing is open."""


async def test_rot_in_the_part_file_is_found_by_the_whole_digest_and_healed() -> None:
    """The digest is wrong, the chunk digests name the rotten chunk, only that one is fetched again."""
    damage: list[Damage] = [_flip]
    rig = Rig(ScriptedTransport(CONTENT), sha256=SHA, connections=1, follow=lambda part: _LateDigest(part, damage))
    published = await rig.attempt()
    assert rig.published == CONTENT
    assert published.sha256 == SHA
    assert len(CONTENT) + CHUNK == rig.session.received
    assert EventName.REPAIRED in rig.names()


async def test_a_body_without_length_counts_when_two_reads_agree() -> None:
    """No length, no framing: truncated once, then whole twice; the file is the one two reads agree on."""
    headers = {"content-length": None, "content-range": None}
    whole = Reply(status=200, body=CONTENT, headers=headers)
    short = Reply(status=200, body=CONTENT[:-70_000], headers=headers)
    rig = Rig(ScriptedTransport(CONTENT, etag=None, script=[short, whole, whole]))
    published = await rig.attempt()
    assert rig.published == CONTENT
    assert len(CONTENT) == published.size


async def test_a_body_without_length_that_never_agrees_is_refused() -> None:
    """Each read has another length: nothing is published."""
    headers = {"content-length": None, "content-range": None}
    script = [Reply(status=200, body=CONTENT[: -(i + 1) * 1000], headers=headers) for i in range(6)]
    rig = Rig(ScriptedTransport(CONTENT, etag=None, script=script))
    with pytest.raises(LengthUnverified):
        await rig.attempt()
    assert rig.store.finished is None
