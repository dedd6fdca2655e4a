"""Another link for a destination: whoever asks for B is never handed A, finished, unpublished or under way."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from recovery.states import State
from resumable import DestinationError, DownloadError, DownloadManager, RetryPolicy, StatusError
from resumable.fetcher import OVERLAP, SAMPLES
from tests.managing import MIB, SLOW, Rig, content, in_state, only, received, row, until, whole
from tests.origin import Behaviour, Origin, Validator

A, B = content(2, seed=1), content(3, seed=2)
ONCE = RetryPolicy(max_no_progress=0)
ALIKE = Behaviour(etag='"1000-5f3"', headers={"last-modified": "Tue, 01 Jul 2025 00:00:00 GMT"})
"""Servers make tags of size and time: two files of one release have the same."""


async def got(rig: Rig, url: str, **request: Any) -> tuple[int, bytes]:
    """Download it to the one destination, once; return what was received and what is there."""
    async with rig.manager() as manager:
        result = await manager.start(url, rig.file(), **request)
    return result.bytes_received, rig.file().read_bytes()


# -- finished ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("validator", [Validator.NONE, Validator.STRONG, Validator.DATE])
async def test_another_link_for_a_finished_file_is_fetched(validator: Validator, rig: Rig, origin: Origin) -> None:
    """With validators and without; and asked for A again, A is fetched again."""
    origin.put("/a", A, Behaviour(validator=validator))
    origin.put("/b", B, Behaviour(validator=validator))
    for path, wanted in (("/a", A), ("/b", B), ("/a", A)):
        count, data = await got(rig, origin.url(path))
        assert whole(wanted) == data
        assert count >= wanted.size


async def test_two_files_with_one_tag_are_two_files(rig: Rig, origin: Origin) -> None:
    """A tag is about one resource: that B has A's says nothing."""
    other = content(2, seed=2)
    origin.put("/a", A, ALIKE)
    origin.put("/b", other, ALIKE)
    await got(rig, origin.url("/a"))
    assert (other.size, whole(other)) == await got(rig, origin.url("/b"))


@pytest.mark.parametrize("status", [404, 500])
async def test_another_link_that_fails_fails(status: int, rig: Rig, origin: Origin) -> None:
    """As often as it is tried; A's file stays, and whoever asks for A still has it without a transfer."""
    origin.put("/a", A)
    origin.put("/b", B, Behaviour(status=status))
    await got(rig, origin.url("/a"))
    for _ in range(2):
        with pytest.raises(StatusError):
            await got(rig, origin.url("/b"))
    assert (0, whole(A)) == await got(rig, origin.url("/a"))


async def test_another_link_with_the_digest_needs_no_transfer(rig: Rig, origin: Origin) -> None:
    """The digest says that it is the same file."""
    origin.put("/a", A)
    await got(rig, origin.url("/a"), sha256=A.sha256())
    assert (0, whole(A)) == await got(rig, origin.url("/gone"), sha256=A.sha256())


async def test_a_link_signed_anew_is_not_fetched_again(rig: Rig, origin: Origin) -> None:
    """Nor is a mirror that was given with it."""
    origin.put("/a", A)
    origin.put("/m", A)
    await got(rig, origin.url("/a?X-Amz-Signature=1"), mirrors=[origin.url("/m")])
    assert (0, whole(A)) == await got(rig, origin.url("/a?X-Amz-Signature=2"))
    assert (0, whole(A)) == await got(rig, origin.url("/m"))


# -- complete, but not published ---------------------------------------------------------------------------------------


async def left_unpublished(rig: Rig, origin: Origin, path: str = "/a") -> None:
    """Fetch all of A and fail to publish it: a folder stands in the way."""
    origin.behave(path, Behaviour(rate=8 * MIB))
    async with rig.manager(policy=ONCE) as manager:
        handle = manager.start(origin.url(path), rig.file())
        await until(lambda: handle.view.bytes_done > 0)
        rig.file().mkdir()
        with pytest.raises(DownloadError):
            await handle
        rig.file().rmdir()
        kept = only(await manager.downloads()).bytes_done
    assert kept == A.size
    origin.clear()


async def test_what_is_complete_is_not_published_for_another_link(rig: Rig, origin: Origin) -> None:
    """B is asked, says that it is something else, and is fetched."""
    origin.put("/a", A)
    origin.put("/b", B)
    await left_unpublished(rig, origin)
    assert (B.size, whole(B)) == await got(rig, origin.url("/b"))


async def test_what_is_complete_is_not_published_for_a_link_that_fails(rig: Rig, origin: Origin) -> None:
    """However often; under its own link nearly all of it is still good."""
    origin.put("/a", A)
    origin.put("/b", B, Behaviour(status=404))
    await left_unpublished(rig, origin)
    for _ in range(2):
        with pytest.raises(StatusError):
            await got(rig, origin.url("/b"))
    assert not rig.file().exists()
    origin.behave("/a", Behaviour())
    count, data = await got(rig, origin.url("/a"))
    assert whole(A) == data
    assert count <= MIB


async def test_another_link_may_prove_that_it_is_the_same(rig: Rig, origin: Origin) -> None:
    """A link with another token: its tag, its size and the bytes it sends once more are what is kept."""
    origin.put("/a", A)
    await left_unpublished(rig, origin)
    origin.behave("/a", Behaviour())
    count, data = await got(rig, origin.url("/a?token=2"))
    assert whole(A) == data
    assert 0 < count <= MIB + SAMPLES * OVERLAP
    assert len(origin.seen("/a")) > 0


async def test_the_same_tag_does_not_make_it_the_same(rig: Rig, origin: Origin) -> None:
    """Complete, same size, same tag, same date, other content: bytes are compared before anything is published."""
    other = content(2, seed=2)
    origin.put("/a", A, replace(ALIKE, rate=8 * MIB))
    origin.put("/b", other, ALIKE)
    async with rig.manager(policy=ONCE) as manager:
        handle = manager.start(origin.url("/a"), rig.file())
        await until(lambda: handle.view.bytes_done > 0)
        rig.file().mkdir()
        with pytest.raises(DownloadError):
            await handle
        rig.file().rmdir()
    assert whole(other) == (await got(rig, origin.url("/b")))[1]


async def test_a_publication_that_nobody_recorded_is_not_another_links(rig: Rig, origin: Origin) -> None:
    """The process died between renaming A and writing its receipt; then B is asked for."""
    origin.put("/a", A)
    origin.put("/b", B, Behaviour(status=404))
    await left_unpublished(rig, origin)
    rig.part().rename(rig.file())
    with pytest.raises(StatusError):
        await got(rig, origin.url("/b"))


# -- under way in another process --------------------------------------------------------------------------------------


async def test_two_links_at_the_same_instant(rig: Rig, origin: Origin) -> None:
    """The second process looked before the first had its lease: it is refused, and the first one's links stand."""
    origin.put("/a", A, SLOW)
    origin.put("/b", B)
    async with rig.manager() as one, rig.manager(on_event=None) as two:
        begun = slow_to_look(two, lambda: one.start(origin.url("/a"), rig.file()))
        with pytest.raises(DestinationError, match="another link"):
            await two.start(origin.url("/b"), rig.file())
        (first,) = begun
        assert stored_url(rig) == origin.url("/a")
        origin.behave("/a", Behaviour())
        await first
    assert whole(A) == rig.file().read_bytes()
    assert (0, whole(A)) == await got(rig, origin.url("/a"))


async def test_the_one_with_the_lease_has_the_last_word_on_the_links(rig: Rig, origin: Origin) -> None:
    """Both wrote down what they want before either had the lease; the second gets no file of the first one's."""
    origin.put("/a", A, SLOW)
    origin.put("/b", B)
    origin.put("/busy", A, SLOW)
    async with rig.manager(max_concurrent=1) as one, rig.manager(on_event=None, max_concurrent=1) as two:
        blocks = [one.start(origin.url("/busy"), rig.file("1")), two.start(origin.url("/busy"), rig.file("2"))]
        await asyncio.gather(*(received(block, 1) for block in blocks))
        first = one.start(origin.url("/a"), rig.file())
        await until(lambda: stored_url(rig, first.download_id) == origin.url("/a"))
        second = two.start(origin.url("/b"), rig.file())
        await until(lambda: stored_url(rig, first.download_id) == origin.url("/b"))
        await blocks[0].cancel()
        await in_state(first, State.RUNNING)
        await until(lambda: stored_url(rig, first.download_id) == origin.url("/a"))
        await blocks[1].cancel()
        with pytest.raises(DestinationError, match="another link"):
            await second
        origin.behave("/a", Behaviour())
        await first
    assert whole(A) == rig.file().read_bytes()


def slow_to_look(manager: DownloadManager, meanwhile: Any) -> list[Any]:
    """Let something begin between a manager's look at the store and what it does next; what began is in the list."""
    look, begun = manager._catalog.known, list[Any]()

    async def known(*words: Any) -> Any:
        found = await look(*words)
        if not begun:
            begun.append(meanwhile())
            await in_state(begun[0], State.RUNNING)
        return found

    manager._catalog.known = known  # type: ignore[method-assign, assignment]
    return begun


def stored_url(rig: Rig, download_id: str | None = None) -> str | None:
    """Return the link in a download's row, of the only one where none is named."""
    query = "SELECT request FROM downloads" + ("" if download_id is None else " WHERE download_id = ?")
    found = row(rig.state, query, *([] if download_id is None else [download_id]))
    return None if found is None else str(json.loads(found[0])["url"])
