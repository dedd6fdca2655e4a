"""What happens once nothing is missing: the whole digest, second readings, healing, publication."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from pathlib import Path

import pytest

from resumable.errors import DestinationError, DigestMismatch, Interrupted, LeaseLost
from resumable.events import EventName
from resumable.model import Finished
from resumable.ports import Fetch
from resumable.testing import MemoryPartFile, Reply, ScriptedTransport
from tests.rig import CHUNK, CONTENT, OTHER, URL, Rig

SHA = hashlib.sha256(CONTENT).hexdigest()
PLAIN = URL.replace("https", "http")
STATED = {"repr-digest": f"sha-256=:{base64.b64encode(bytes.fromhex(SHA)).decode()}:"}


class Flipping(ScriptedTransport):
    """Damages one byte of the content on the way, at an offset per request; the last one goes on for ever."""

    def __init__(self, *offsets: int | None, stated: bool = False) -> None:
        super().__init__(CONTENT)
        self._offsets = offsets
        self._stated = stated

    @property
    def readings(self) -> int:
        """How often the file was asked for from its start."""
        return sum(request.headers.get("range", "bytes=0-").startswith("bytes=0-") for request in self.requests)

    def honest(self, request: Fetch) -> tuple[int, dict[str, str], bytes]:
        offset = self._offsets[min(len(self.requests), len(self._offsets)) - 1]
        if offset is not None:
            self.content = CONTENT[:offset] + bytes([CONTENT[offset] ^ 0xFF]) + CONTENT[offset + 1 :]
        status, headers, body = super().honest(request)
        self.content = CONTENT
        return status, headers | (STATED if self._stated else {}), body


async def test_what_was_damaged_on_the_way_is_healed_by_a_second_reading() -> None:
    """Over plain HTTP a wrong digest is not believed at once; the second reading is right, and that is told."""
    transport = Flipping(3 * CHUNK + 5, None)
    rig = Rig(transport, url=PLAIN, sha256=SHA, connections=1)
    published = await rig.attempt()
    assert (rig.published, published.sha256) == (CONTENT, SHA)
    assert 2 * len(CONTENT) == rig.session.received
    assert rig.messages(EventName.REPAIRED) == ["the SHA-256 is wrong: reading the file again"]


async def test_only_what_two_readings_disagree_on_is_read_a_third_time() -> None:
    """Each reading is damaged elsewhere: the third one is for those two chunks alone."""
    transport = Flipping(None, 3 * CHUNK + 5, 7 * CHUNK, None)
    # Connections that break make the second reading one of ranges too.
    transport.script.append(Reply(cut_after=CHUNK))
    rig = Rig(transport, url=PLAIN, sha256=SHA, connections=1)
    await rig.attempt()
    assert rig.published == CONTENT
    assert rig.messages(EventName.REPAIRED)[1] == "the SHA-256 is wrong: reading 2 chunk(s) that came differently again"
    assert 2 * len(CONTENT) + 2 * CHUNK == rig.session.received


@pytest.mark.parametrize(
    ("url", "stated", "readings"),
    [(PLAIN, False, 2), (PLAIN, True, 2), (URL, False, 1), (URL, True, 2)],
    ids=["plain", "plain, the origin's own", "TLS", "TLS, the origin's own"],
)
async def test_two_readings_that_agree_are_what_the_origin_has(url: str, stated: bool, readings: int) -> None:
    """Kept as .suspect. Over TLS the way is not to blame, so a digest from elsewhere is not worth a second reading."""
    rig = Rig(Flipping(5, stated=stated), url=url, sha256=None if stated else SHA, connections=1)
    with pytest.raises(DigestMismatch) as caught:
        await rig.attempt()
    assert caught.value.kept == "model.bin.suspect"
    assert readings == rig.transport.readings
    assert Path("/d/model.bin") not in rig.folder.files
    assert rig.store.claims == {}


async def test_where_there_is_a_mirror_the_mirror_is_asked_instead() -> None:
    """A second reading of the same origin is worth less than one of another."""
    mirror = "http://mirror.test/model.bin"
    rig = Rig(Flipping(5, None), url=PLAIN, mirrors=(mirror,), sha256=SHA, connections=1)
    await rig.attempt()
    assert rig.published == CONTENT
    assert [PLAIN, mirror] == [request.url for request in rig.transport.requests]
    assert rig.folder.files[Path("/d/model.bin.suspect")] != CONTENT


async def test_an_empty_file_has_its_digest_too() -> None:
    """No chunk, and yet a digest that can be wrong."""
    rig = Rig(ScriptedTransport(b""), sha256=hashlib.sha256().hexdigest())
    assert (await rig.attempt()).size == 0
    with pytest.raises(DigestMismatch):
        await Rig(ScriptedTransport(b""), sha256=SHA).attempt()


async def test_a_digest_that_contradicts_the_callers_is_refused_before_anything_is_fetched() -> None:
    """The origin states another one: 40 GB later would be too late."""
    rig = Rig(Flipping(None, stated=True), sha256=hashlib.sha256(OTHER).hexdigest())
    with pytest.raises(DigestMismatch, match="the origin states Repr-Digest"):
        await rig.attempt()
    assert rig.transport.body_bytes == 0


async def test_a_publication_that_has_begun_is_finished_although_cancelled() -> None:
    """Else the file would stand there without its receipt, and be fetched again; the caller is given it."""
    rig = Rig(ScriptedTransport(CONTENT))
    begun, go_on = asyncio.Event(), asyncio.Event()
    finish = rig.store.finish

    async def slow(download_id: str, generation: int, finished: Finished) -> None:
        begun.set()
        await go_on.wait()
        await finish(download_id, generation, finished)

    rig.store.finish = slow  # type: ignore[method-assign]
    attempt = asyncio.create_task(rig.attempt())
    await begun.wait()
    attempt.cancel()
    await asyncio.sleep(0)
    assert not attempt.done()
    go_on.set()
    assert (await attempt).size == len(CONTENT)
    assert rig.published == CONTENT
    assert rig.store.finished is not None


async def test_a_publication_that_fails_while_it_is_cancelled_is_cancelled() -> None:
    """There is no file, so nothing came too late."""
    rig = Rig(ScriptedTransport(CONTENT))
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def broken(download_id: str, generation: int, finished: Finished) -> None:
        begun.set()
        await go_on.wait()
        raise LeaseLost(f"{download_id} {generation} {finished.size}")

    rig.store.finish = broken  # type: ignore[method-assign]
    attempt = asyncio.create_task(rig.attempt())
    await begun.wait()
    attempt.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert rig.store.finished is None


async def test_a_stale_owner_publishes_but_claims_nothing() -> None:
    """The lease was lost between the last checkpoint and the receipt: the caller hears of it."""
    rig = Rig(ScriptedTransport(CONTENT))
    finish = rig.store.finish

    async def late(download_id: str, generation: int, finished: Finished) -> None:
        rig.store.generation = 2
        await finish(download_id, generation, finished)

    rig.store.finish = late  # type: ignore[method-assign]
    with pytest.raises(LeaseLost):
        await rig.attempt()
    assert rig.store.finished is None


@pytest.mark.parametrize(
    ("headers", "name"),
    [({"content-disposition": 'attachment; filename="weights.bin"'}, "weights.bin"), ({}, "model.bin")],
    ids=["Content-Disposition", "the URL"],
)
async def test_the_answer_names_the_file(headers: dict[str, str], name: str) -> None:
    """The name is recorded before the first byte, and nothing that stands there is replaced."""
    rig = Rig(ScriptedTransport(CONTENT, script=[Reply(headers=headers)]), filename=None, connections=1)
    rig.folder.files[Path("/d") / name] = bytearray(b"somebody else's")
    published = await rig.attempt()
    assert rig.store.name == Path("/d") / name
    assert published.path == Path("/d") / name.replace(".", ".1.")
    assert rig.folder.files[Path("/d") / name] == b"somebody else's"


@pytest.mark.parametrize("chunked", [False, True], ids=["length known", "length unknown"])
async def test_more_than_allowed_is_refused(chunked: bool) -> None:
    """At once where the size is known, and where it is not, as soon as it is exceeded."""
    headers = {"transfer-encoding": "chunked", "content-length": None} if chunked else {}
    transport = ScriptedTransport(CONTENT, ranges=False, script=[Reply(headers=headers)])
    rig = Rig(transport, max_bytes=5 * CHUNK)
    with pytest.raises(DestinationError, match=f"more than the {5 * CHUNK}"):
        await rig.attempt()
    assert transport.body_bytes <= 7 * CHUNK


async def test_a_body_without_length_that_breaks_is_read_again_from_its_start() -> None:
    """Chunked framing tells a cut; nothing of it is published."""
    headers: dict[str, str | None] = {"transfer-encoding": "chunked", "content-length": None}
    script = [Reply(headers=headers, cut_after=9 * CHUNK), Reply(headers=headers)]
    rig = Rig(ScriptedTransport(CONTENT, ranges=False, script=script), sha256=SHA)
    with pytest.raises(Interrupted):
        await rig.attempt()
    published = await rig.attempt()
    assert (rig.published, published.sha256) == (CONTENT, SHA)


async def test_a_small_file_that_is_cut_before_it_gets_its_name_is_fetched_again() -> None:
    """Its length is looked at only when it is published: a hole has no part in it."""
    small = CONTENT[: CHUNK // 2]
    rig = Rig(ScriptedTransport(small), connections=1)
    cuts = [3]

    def cutting(part: MemoryPartFile) -> None:
        publish = part.publish

        async def publishing(dest: Path, *, replace: bool, length: int | None = None) -> Path | None:
            while cuts:
                del part.content[cuts.pop() :]
            return await publish(dest, replace=replace, length=length)

        part.publish = publishing  # type: ignore[method-assign]

    rig.prepare = cutting
    published = await rig.attempt()
    assert (small, len(small)) == (rig.published, published.size)
    assert rig.messages(EventName.REPAIRED) == ["1 chunk(s) were damaged on disk: they are fetched again"]
    assert 2 * len(small) == rig.session.received
