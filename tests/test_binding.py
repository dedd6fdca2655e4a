"""What a session is bound to: a former run's books, the first answer, another source, or what lies in a part file."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resumable.errors import DiskFull, RepresentationChanged, StatusError
from resumable.events import EventName
from resumable.fetcher import OVERLAP, SAMPLES
from resumable.identity import link_of
from resumable.model import Checkpoint
from resumable.ports import Fetch
from resumable.session import Mode
from resumable.testing import Reply, ScriptedTransport
from tests.rig import CHUNK, CONTENT, OTHER, URL, Rig, half_done

SHA = hashlib.sha256(CONTENT).hexdigest()
PART = Path("/d/model.bin.part")
MIRROR = "https://mirror.test/m.bin"


# -- a part file without checkpoints -----------------------------------------------------------------------------------


def lost(content: bytes, *, sha256: str | None = SHA, connections: int = 1, **options: Any) -> Rig:
    """Return a rig whose part file holds ``content`` and whose state file is gone."""
    rig = Rig(ScriptedTransport(CONTENT), sha256=sha256, connections=connections, **options)
    rig.folder.files[PART] = bytearray(content)
    return rig


@pytest.mark.parametrize("connections", [1, 3])
async def test_a_part_file_whose_state_was_lost_is_taken_over(connections: int) -> None:
    """Whole chunks are kept, the rest is fetched, and the whole digest proves them."""
    rig = lost(CONTENT[: 30 * CHUNK + 5], connections=connections)
    published = await rig.attempt()
    assert (rig.published, published.sha256) == (CONTENT, SHA)
    assert rig.session.received <= len(CONTENT) - 30 * CHUNK
    assert rig.session.ledger is not None
    assert rig.session.ledger.resumed == 30 * CHUNK
    assert rig.store.claims == {}


async def test_what_was_taken_over_wrongly_is_fetched() -> None:
    """One rotten chunk of it: the whole digest says so, and what nothing vouched for is fetched. No other byte is."""
    content = bytearray(CONTENT[: 30 * CHUNK])
    content[5] ^= 1
    rig = lost(bytes(content))
    await rig.attempt()
    assert rig.published == CONTENT
    assert len(CONTENT) == rig.session.received
    assert "nothing vouched for" in rig.messages(EventName.REPAIRED)[0]


async def test_another_files_part_file_is_found_out_by_the_first_range() -> None:
    """Its bytes before the gap are not the origin's."""
    rig = lost(OTHER[: 30 * CHUNK])
    with pytest.raises(RepresentationChanged):
        await rig.attempt()
    await rig.attempt()
    assert rig.published == CONTENT


async def test_without_a_digest_nothing_is_taken_over() -> None:
    """It is said, and everything is fetched."""
    rig = lost(CONTENT[: 30 * CHUNK], sha256=None)
    await rig.attempt()
    assert rig.published == CONTENT
    assert len(CONTENT) == rig.session.received
    assert "nothing vouches for" in rig.messages(EventName.WARNING)[0]


async def test_our_own_part_file_of_another_link_is_not_told_as_a_strangers() -> None:
    """That it is given up, and why, is told once, as the beginning anew."""
    rig = lost(CONTENT[: 30 * CHUNK], sha256=None)
    rig.session.kept_for_another = True
    await rig.attempt()
    assert rig.published == CONTENT
    assert len(rig.messages(EventName.RESTARTED)) == 1
    assert rig.messages(EventName.WARNING) == []


async def test_a_restart_takes_nothing_over() -> None:
    """The person has said so."""
    rig = lost(CONTENT[: 30 * CHUNK], restart=True)
    await rig.attempt()
    assert len(CONTENT) == rig.session.received


async def test_what_was_taken_over_is_not_written_down_as_proved() -> None:
    """The next process must not take for checked what only a whole digest would have checked."""
    rig = lost(CONTENT[: 30 * CHUNK])
    rig.transport.script.extend([Reply(), Reply(cut_after=2 * CHUNK), *[Reply(status=503)] * 3])
    with pytest.raises(StatusError):
        await rig.attempt()
    assert set(rig.store.claims) == {30, 31}


async def test_without_ranges_nothing_is_taken_over() -> None:
    """The whole body comes anyway."""
    rig = lost(CONTENT[: 30 * CHUNK])
    rig.transport.ranges = False
    await rig.attempt()
    assert rig.published == CONTENT
    assert len(CONTENT) == rig.session.received


# -- a former run's books ----------------------------------------------------------------------------------------------


async def test_claims_on_chunks_that_do_not_exist_are_nothing() -> None:
    """A row that fits no chunk, or says nothing of its bytes, is left out before it can do harm."""
    rig = await half_done(ScriptedTransport(CONTENT))
    rig.store.claims |= {index: Checkpoint(index, CHUNK, bytes(32)) for index in (-1, 41, 10**9)}
    rig.store.claims[20] = Checkpoint(20, CHUNK, b"")
    await rig.attempt()
    assert rig.published == CONTENT


async def test_a_restart_forgets_what_is_kept() -> None:
    """Asked for by a person: everything is fetched, whatever the books say."""
    rig = await half_done(ScriptedTransport(CONTENT))
    rig.request = Rig(rig.transport, connections=1, restart=True).request
    rig.new_session()
    await rig.attempt()
    assert rig.published == CONTENT
    assert len(CONTENT) == rig.session.received


@pytest.mark.parametrize("resumed", [False, True], ids=["fresh", "resumed"])
async def test_a_full_disk_is_told_before_anything_is_fetched_each_time(resumed: bool) -> None:
    """Until there is room; then it goes on where it was."""
    rig = await half_done(ScriptedTransport(CONTENT)) if resumed else Rig(ScriptedTransport(CONTENT), connections=1)
    before = rig.transport.body_bytes
    rig.folder.capacity = 20 * CHUNK
    for _ in range(2):
        with pytest.raises(DiskFull):
            await rig.attempt()
    assert rig.transport.body_bytes == before
    rig.folder.capacity = None
    await rig.attempt()
    assert rig.published == CONTENT
    assert rig.session.received == len(CONTENT) - (10 * CHUNK if resumed else 0)


# -- several sources ---------------------------------------------------------------------------------------------------


class Sources(ScriptedTransport):
    """Serves ``CONTENT`` at the first link, and something of its own at the mirror."""

    def __init__(self, mirror: bytes = CONTENT, *, etag: str = '"mirror"', down: bool = False) -> None:
        super().__init__(CONTENT)
        self.mirror = ScriptedTransport(mirror, etag=etag)
        self.down = down
        self.asked: list[str] = []

    def honest(self, request: Fetch) -> tuple[int, dict[str, str], bytes]:
        self.asked.append("mirror" if "mirror" in request.url else "primary")
        if "mirror" in request.url:
            return self.mirror.honest(request)
        return (503, {"content-length": "0"}, b"") if self.down else super().honest(request)


async def test_a_mirror_goes_on_from_what_the_first_source_sent() -> None:
    """Another ETag there means nothing; overlap, size and the whole digest prove it, and the bytes are kept."""
    transport = Sources()
    rig = await half_done(transport, mirrors=(MIRROR,), sha256=SHA)
    transport.down = True
    await rig.attempt()
    assert rig.published == CONTENT
    assert rig.session.mode is Mode.SINGLE
    assert rig.session.received <= len(CONTENT) - 10 * CHUNK + 64 * 1024
    assert any("going on with https://mirror.test" in message for message in rig.messages(EventName.WARNING))


@pytest.mark.parametrize("content", [OTHER, CONTENT + b"!"], ids=["other bytes", "other size"])
async def test_a_mirror_with_another_file_costs_nothing(content: bytes) -> None:
    """It is left alone from then on, the first source's failure is what is told, and everything kept stays kept."""
    transport = Sources(content)
    rig = await half_done(transport, mirrors=(MIRROR,), sha256=SHA)
    transport.down = True
    transport.asked.clear()
    for _ in range(2):
        with pytest.raises(StatusError):
            await rig.attempt()
    assert transport.asked == ["primary", "mirror", "primary"]
    assert rig.session.durable == 10 * CHUNK
    transport.down = False
    await rig.attempt()
    assert rig.published == CONTENT
    assert len(CONTENT) - 10 * CHUNK <= rig.session.received <= len(CONTENT) - 10 * CHUNK + 64 * 1024


async def test_two_sources_are_not_mixed_without_a_digest() -> None:
    """Nothing would prove them equal."""
    transport = Sources()
    rig = await half_done(transport, mirrors=(MIRROR,))
    transport.down = True
    transport.asked.clear()
    with pytest.raises(StatusError):
        await rig.attempt()
    assert "mirror" not in transport.asked


async def test_a_mirror_that_everything_came_from_may_change() -> None:
    """Then it is a change of the file, and the download begins again."""
    transport = Sources(down=True)
    rig = Rig(transport, connections=1, mirrors=(MIRROR,), sha256=SHA)
    transport.script.extend([Reply(), Reply(cut_after=10 * CHUNK), *[Reply(status=503)] * 3])
    with pytest.raises(StatusError):
        await rig.attempt()
    assert rig.session.durable == 10 * CHUNK
    transport.mirror.etag = '"other"'
    with pytest.raises(RepresentationChanged):
        await rig.run(StatusError)
    await rig.run(StatusError)
    assert rig.published == CONTENT
    assert rig.messages(EventName.RESTARTED)


async def test_the_first_source_is_asked_again_with_its_own_tag() -> None:
    """After a mirror has failed too, the first source's validator vouches for what it sent."""
    transport = Sources()
    rig = await half_done(transport, mirrors=(MIRROR,), sha256=SHA)
    transport.down = True
    transport.mirror.content = b""
    with pytest.raises(StatusError):
        await rig.attempt()
    transport.down = False
    transport.requests.clear()
    await rig.attempt()
    assert [transport.requests[0].url, transport.requests[0].headers["if-range"]] == [URL, '"v1"']


# -- which source the kept bytes came from -----------------------------------------------------------------------------


async def from_the_mirror(sha256: str | None) -> tuple[Rig, Sources]:
    """Return a rig whose first process fetched ten chunks from the mirror, because the first source was down."""
    transport = Sources(down=True)
    rig = Rig(transport, connections=1, mirrors=(MIRROR,), sha256=sha256)
    transport.script.extend([Reply(), Reply(cut_after=10 * CHUNK), *[Reply(status=503)] * 4])
    with pytest.raises(StatusError):
        await rig.attempt()
    assert rig.session.durable == 10 * CHUNK
    await rig.engine.close()
    transport.script.clear()
    transport.asked.clear()
    rig.told.clear()
    rig.new_session()
    return rig, transport


@pytest.mark.parametrize("sha256", [SHA, None], ids=["digest", "no digest"])
async def test_a_mirrors_bytes_outlive_the_process(sha256: str | None) -> None:
    """The first source is back, with a tag of its own. With a digest it goes on; without, the mirror does."""
    rig, transport = await from_the_mirror(sha256)
    transport.down = False
    await rig.attempt()
    assert rig.published == CONTENT
    assert set(transport.asked) == ({"mirror"} if sha256 is None else {"primary"})
    assert rig.session.received <= len(CONTENT) - 10 * CHUNK + 64 * 1024
    assert EventName.RESTARTED not in rig.names()


async def test_a_first_source_with_another_file_costs_nothing() -> None:
    """It is not asked again; the mirror, whose bytes are kept, goes on."""
    rig, transport = await from_the_mirror(SHA)
    transport.down = False
    transport.content = OTHER
    await rig.attempt()
    assert rig.published == CONTENT
    assert transport.asked[-1] == "mirror"
    assert EventName.RESTARTED not in rig.names()


@pytest.mark.parametrize("sha256", [SHA, None], ids=["digest", "no digest"])
async def test_another_server_goes_on_from_what_the_first_one_sent(sha256: str | None) -> None:
    """A person relinks it to another server, whose tag means nothing here: bytes prove it to be the same file."""
    rig = await half_done(ScriptedTransport(CONTENT), sha256=sha256, connections=3)
    rig.request = replace(rig.request, url=MIRROR)
    rig.store.equals = (link_of(MIRROR),)
    rig.transport.etag = '"mirror"'
    rig.new_session()
    published = await rig.attempt()
    assert rig.published == CONTENT
    assert published.verified_by == ("overlap" if sha256 is None else "digest")
    sampled = 0 if sha256 is not None else SAMPLES * min(CHUNK, OVERLAP)
    assert rig.session.received == len(CONTENT) - 10 * CHUNK + 64 * 1024 + sampled
    assert EventName.RESTARTED not in rig.names()


async def test_another_server_with_another_file_is_found_out() -> None:
    """Its bytes are not the kept ones: begun again, never mixed."""
    rig = await half_done(ScriptedTransport(CONTENT))
    rig.request = replace(rig.request, url=MIRROR)
    rig.store.equals = (link_of(MIRROR),)
    rig.transport.content = OTHER
    rig.new_session()
    with pytest.raises(RepresentationChanged):
        await rig.attempt()
    await rig.attempt()
    assert rig.published == OTHER


@pytest.mark.parametrize(("url", "validators"), [(MIRROR, True), (MIRROR, False), (URL + "?file=2", False)], ids=str)
async def test_two_versions_with_bytes_in_common_are_not_mixed(url: str, validators: bool) -> None:
    """Another link is asked for, and nobody says that it is the same file: that the bytes beside the gap are the same
    does not make it so, for models that were trained on have whole tensors in common.
    """
    rig = await half_done(ScriptedTransport(CONTENT, etag='"v1"' if validators else None))
    alike = slice(8 * CHUNK, 12 * CHUNK)
    rig.transport.content = OTHER[: alike.start] + CONTENT[alike] + OTHER[alike.stop :]
    rig.request = replace(rig.request, url=url)
    rig.new_session()
    await rig.attempt()
    assert rig.published == rig.transport.content
    assert EventName.RESTARTED in rig.names()


async def test_a_link_to_another_version_is_found_out_though_the_bytes_beside_the_gap_are_the_same() -> None:
    """A person has given it as a fresh link for the file, and is wrong: it is asked for some of all that is kept."""
    rig = await half_done(ScriptedTransport(CONTENT))
    alike = slice(8 * CHUNK, 12 * CHUNK)
    rig.transport.content = OTHER[: alike.start] + CONTENT[alike] + OTHER[alike.stop :]
    rig.request = replace(rig.request, url=MIRROR)
    rig.store.equals = (link_of(MIRROR),)
    rig.new_session()
    with pytest.raises(RepresentationChanged):
        await rig.attempt()
    await rig.attempt()
    assert rig.published == rig.transport.content


async def test_a_link_with_another_query_is_the_same_link() -> None:
    """A token has many names; what the origin says of the file is what counts."""
    rig = await half_done(ScriptedTransport(CONTENT), connections=3)
    rig.request = replace(rig.request, url=f"{URL}?ticket=new")
    rig.new_session()
    published = await rig.attempt()
    assert (rig.published, published.verified_by) == (CONTENT, "etag")
    assert rig.session.received == len(CONTENT) - 10 * CHUNK + SAMPLES * min(CHUNK, OVERLAP)


@pytest.mark.parametrize("connections", [1, 3])
async def test_another_file_behind_another_query_is_found_out_though_its_tag_is_the_same(connections: int) -> None:
    """``?file=1`` and ``?file=2`` have one size and, made of a time and the size, one tag; and the bytes where it goes
    on are the same.
    """
    rig = await half_done(ScriptedTransport(CONTENT), url=f"{URL}?file=1", connections=connections)
    alike = slice(8 * CHUNK, 12 * CHUNK)
    rig.transport.content = OTHER[: alike.start] + CONTENT[alike] + OTHER[alike.stop :]
    rig.request = replace(rig.request, url=f"{URL}?file=2")
    rig.new_session()
    await rig.run(RepresentationChanged)
    assert rig.published == rig.transport.content


async def test_a_state_file_that_does_not_say_which_link_it_was() -> None:
    """Of a former version: the first source, as it was then."""
    rig = await half_done(ScriptedTransport(CONTENT))
    rig.store.link = ""
    published = await rig.attempt()
    assert (rig.published, published.verified_by) == (CONTENT, "etag")


async def test_a_bad_source_leaves_no_identity_for_the_mirror() -> None:
    """The first source has another file than was promised; the mirror, with a tag of its own, is asked without one."""
    transport = Sources()
    transport.content = OTHER
    rig = Rig(transport, connections=1, mirrors=(MIRROR,), sha256=SHA)
    await rig.attempt()
    assert rig.published == CONTENT
    assert EventName.RESTARTED not in rig.names()


async def test_a_source_that_no_longer_has_the_file_is_left_for_another_one() -> None:
    """Without a digest nothing proves the two equal: what came from the first is given up, and it is said."""
    rig, transport = await from_the_mirror(None)
    transport.down = False
    transport.script.append(Reply(status=410))
    published = await rig.attempt()
    assert (rig.published, published.verified_by) == (CONTENT, "etag")
    assert transport.asked == ["mirror", "primary"]
    assert "410, and nothing proves" in rig.messages(EventName.RESTARTED)[0]


async def test_another_link_while_it_runs() -> None:
    """To another server, in the same process: its tag means nothing for what is kept, and nothing is given up."""
    transport = ScriptedTransport(CONTENT, script=[Reply(), Reply(cut_after=10 * CHUNK), *[Reply(status=503)] * 4])
    rig = Rig(transport)
    with pytest.raises(StatusError):
        await rig.attempt()
    kept = rig.session.durable
    transport.script.clear()
    transport.etag = '"mirror"'
    rig.session.relink(MIRROR, link_of(MIRROR))
    published = await rig.run(StatusError)
    assert (rig.published, published.verified_by) == (CONTENT, "overlap")
    assert kept
    assert rig.session.received <= len(CONTENT) + (6 + SAMPLES) * OVERLAP
    assert EventName.RESTARTED not in rig.names()
