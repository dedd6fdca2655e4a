"""The public fake transport: the contract it shares with the real one, and its script."""

from __future__ import annotations

import asyncio

import pytest

from resumable.errors import ConnectFailed
from resumable.ports import Hop, Transport
from resumable.testing import Reply, ScriptedTransport
from tests.fetching import ask, fetch, next_block
from tests.origin import Framing
from tests.transport_contract import CONTENT, Step, TransportContract

URL = "http://origin.example/file"


pytestmark = pytest.mark.usefixtures("both_ways")


class TestContract(TransportContract):
    """The shared cases over the fake."""

    async def stage(self, step: Step, content: bytes = CONTENT) -> tuple[Transport, str]:
        """Serve it from memory."""
        headers: dict[str, str | None] = {name.lower(): value for name, value in step.headers.items()}
        if step.framing is not Framing.LENGTH:
            headers["content-length"] = None
        if step.framing is Framing.CHUNKED:
            headers["transfer-encoding"] = "chunked"
        reply = Reply(
            status=step.status,
            headers=headers,
            body=step.body if step.status is not None else None,
            cut_after=step.cut_after,
            stall_after=step.stall_after,
        )
        return ScriptedTransport(content, script=[reply]), URL


async def test_each_request_takes_one_step_and_then_the_origin_is_honest() -> None:
    """Exceptions are raised, replies answered, and what was asked is on record."""
    transport = ScriptedTransport(b"0123456789", script=[ConnectFailed("down"), Reply(status=429)])
    outcomes = [await fetch(transport, ask(URL, range=(start, None))) for start in range(3)]
    assert [type(outcome.error) for outcome in outcomes] == [ConnectFailed, type(None), type(None)]
    assert [outcome.status for outcome in outcomes] == [0, 429, 206]
    assert [request.headers["range"] for request in transport.requests] == ["bytes=0-", "bytes=1-", "bytes=2-"]
    assert (outcomes[2].body, transport.body_bytes) == (b"23456789", 8)


async def test_content_may_be_replaced_between_requests() -> None:
    """A new ETag makes If-Range fail, as at a real origin."""
    transport = ScriptedTransport(b"old content")
    transport.content, transport.etag = b"new content!", '"v2"'
    outcome = await fetch(transport, ask(URL, headers={"range": "bytes=4-", "if-range": '"v1"'}))
    assert (outcome.status, outcome.body, outcome.headers["etag"]) == (200, b"new content!", '"v2"')


async def test_an_origin_without_ranges_sends_everything() -> None:
    """A Range header is ignored, and said to be."""
    transport = ScriptedTransport(b"content", ranges=False, etag=None)
    outcome = await fetch(transport, ask(URL, range=(3, None)))
    assert (outcome.status, outcome.body, outcome.headers["accept-ranges"]) == (200, b"content", "none")
    assert "etag" not in outcome.headers


@pytest.mark.parametrize(
    ("etag", "last_modified", "condition", "status"),
    [
        ('"v1"', None, '"v1"', 206),
        ('W/"v1"', None, 'W/"v1"', 200),
        (None, "Mon, 23 Nov 2026 09:17:09 GMT", "Mon, 23 Nov 2026 09:17:09 GMT", 206),
        (None, "Mon, 23 Nov 2026 09:17:09 GMT", "Mon, 23 Nov 2026 09:17:10 GMT", 200),
        (None, None, '"v1"', 200),
    ],
)
async def test_if_range_holds_for_strong_validators_only(
    etag: str | None, last_modified: str | None, condition: str, status: int
) -> None:
    """RFC 9110 13.1.5: a weak tag never matches."""
    transport = ScriptedTransport(b"content", etag=etag, last_modified=last_modified)
    outcome = await fetch(transport, ask(URL, headers={"range": "bytes=1-2", "if-range": condition}))
    assert outcome.status == status


async def test_redirects_are_told_as_the_script_has_them() -> None:
    """Hops and the final address come from the reply."""
    hop = Hop(URL, 302, {"location": "http://cdn.example/x", "x-linked-etag": '"abc"'})
    transport = ScriptedTransport(b"content", script=[Reply(hops=(hop,), url="http://cdn.example/x")])
    outcome = await fetch(transport, ask(URL))
    assert (outcome.hops, outcome.url) == ((hop,), "http://cdn.example/x")


async def test_a_held_body_waits_for_its_event_and_can_be_cancelled() -> None:
    """Nothing comes behind ``hold_after`` before the event; leaving the context is seen."""
    release = asyncio.Event()
    transport = ScriptedTransport(b"0123456789", script=[Reply(hold_after=4, until=release)])
    async with transport.fetch(ask(URL)) as response:
        first = await next_block(response)
        waiting = asyncio.ensure_future(response.read())
        await asyncio.sleep(0.01)
        assert (first, waiting.done(), transport.open_answers) == (b"0123", False, 1)
        release.set()
        assert await waiting == b"456789"
    assert transport.open_answers == 0


async def test_a_given_body_replaces_the_content() -> None:
    """Status 200 and a page: what a captive portal does."""
    page = Reply(status=200, body=b"<html>", headers={"content-type": "text/html", "etag": None})
    transport = ScriptedTransport(b"0123456789", script=[page])
    outcome = await fetch(transport, ask(URL, range=(4, None)))
    assert (outcome.status, outcome.body, outcome.headers["content-length"]) == (200, b"<html>", "6")
    assert not {"etag", "content-range"} & set(outcome.headers)
