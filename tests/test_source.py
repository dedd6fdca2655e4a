"""Links that expire: the redirect's target first, then a fresh link, once for all connections that were refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yarl

from resumable.credentials import Secrets
from resumable.errors import StatusError
from resumable.model import DownloadRequest, Options
from resumable.ports import Hop
from resumable.session import Session
from resumable.source import MAYBE_EXPIRED, Source
from resumable.testing import Reply, ScriptedTransport
from tests.fetching import ask
from tests.rig import CHUNK, CONTENT, URL, Rig

TARGET = "https://cdn.test/blob?X-Amz-Signature=secret"
FRESH = "https://origin.test/model.bin?token=fresh"


def redirected(**more: object) -> Reply:
    """Return a step that leads over one redirect to the signed target."""
    return Reply(hops=(Hop(URL, 302, {}),), url=TARGET, **more)  # type: ignore[arg-type]


async def test_a_target_is_remembered_and_its_secrets_are_not_shown() -> None:
    """The next request goes there directly; who may see the caller's headers stays the link as given."""
    source = Source(f"{URL}?token=secret", {"authorization": "Bearer x"})
    async with ScriptedTransport(CONTENT, script=[redirected()]).fetch(ask(source.url)) as response:
        source.remember(response)
    request = source.request({"range": "bytes=0-"}, Options())
    assert (request.url, request.private_origin) == (TARGET, f"{URL}?token=secret")
    assert request.private_headers == {"authorization": "Bearer x"}
    assert "secret" not in source.shown


async def test_an_answer_without_redirects_is_not_a_target() -> None:
    """The link as given stays what is asked."""
    source = Source(URL, {})
    async with ScriptedTransport(CONTENT).fetch(ask(URL)) as response:
        source.remember(response)
    assert source.resolved is None


class Resolver:
    """Gives fresh links, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        await asyncio.sleep(0)
        return f"{FRESH}{self.calls}"


@pytest.mark.parametrize(
    ("resolved", "resolver", "renewed", "calls"),
    [(TARGET, True, True, 0), (TARGET, False, True, 0), (None, True, True, 1), (None, False, False, 0)],
)
async def test_what_a_refusal_leads_to(resolved: str | None, resolver: bool, renewed: bool, calls: int) -> None:
    """First the target is forgotten; then a fresh link is asked for; where there is no way to one, that is it."""
    refresh = Resolver()
    source = Source(URL, {}, refresh if resolver else None, resolved=resolved)
    assert renewed == await source.renew(source.generation, durable=0)
    assert (source.resolved, refresh.calls) == (None, calls)


async def test_many_refused_connections_ask_for_one_fresh_link() -> None:
    """Those that were refused under the old link hear that there is a new one (drive9#138)."""
    refresh = Resolver()
    source = Source(URL, {}, refresh)
    generation = source.generation
    assert await asyncio.gather(*(source.renew(generation, durable=0) for _ in range(8))) == [True] * 8
    assert (refresh.calls, source.url) == (1, f"{FRESH}1")


async def test_a_resolver_of_dead_links_is_asked_once_without_progress() -> None:
    """And again once something has come since."""
    refresh = Resolver()
    source = Source(URL, {}, refresh)
    found = [await source.renew(source.generation, durable=durable) for durable in (0, 0, 5, 5, 6)]
    assert found == [True, False, True, False, True]
    assert refresh.calls == 3


async def test_another_link_is_used_from_the_next_request_on() -> None:
    """Given by a person while it runs: the old target is forgotten with the old link."""
    source = Source(URL, {}, resolved=TARGET)
    before = source.generation
    source.relink(FRESH)
    assert source.request({}, Options()).url == FRESH
    assert await source.renew(before, durable=0)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://u:p@Origin.test/x?y=z", "https://origin.test:443"),
        ("http://origin.test:8080/", "http://origin.test:8080"),
        ("http://[::1]/", "http://::1:80"),
        ("http://origin.test:99999999/", "http://origin.test:"),
    ],
)
def test_a_gate_is_named_without_secrets(url: str, origin: str) -> None:
    """Scheme, host and port; an address that is none has a name too."""
    assert origin == Source(url, {}).origin


@pytest.mark.parametrize("status", sorted(MAYBE_EXPIRED))
async def test_an_expired_link_costs_no_attempt(status: int) -> None:
    """Refused in mid-transfer with any status that signed links use: a fresh link, the same attempt, no byte lost."""
    refused = Reply(status=status)
    transport = ScriptedTransport(CONTENT, script=[Reply(cut_after=10 * CHUNK), refused])
    rig = Rig(transport, connections=1)
    refresh = Resolver()
    rig.session.sources[0].refresh_url = refresh
    await rig.attempt()
    assert rig.published == CONTENT
    assert [URL, URL, f"{FRESH}1"] == [request.url for request in transport.requests]
    assert len(CONTENT) == rig.session.received


async def test_other_refusals_do_not_renew_anything() -> None:
    """A server that is down is not a link that has expired."""
    rig = Rig(ScriptedTransport(CONTENT, script=[Reply(status=500)]), connections=1)
    refresh = Resolver()
    rig.session.sources[0].refresh_url = refresh
    with pytest.raises(StatusError):
        await rig.attempt()
    assert refresh.calls == 0


def test_a_session_knows_what_is_not_there_yet() -> None:
    """Asking for it is a mistake of ours, and says so."""
    rig = Rig(ScriptedTransport(CONTENT), filename=None)
    session: Session = rig.session
    assert (session.dest, session.durable, session.complete_length) == (None, 0, None)
    with pytest.raises(RuntimeError, match="size"):
        _ = session.bound_ledger
    with pytest.raises(RuntimeError, match="open"):
        _ = session.open_part


async def test_a_resolver_that_fails_is_asked_again() -> None:
    """Its error is what is told; the next attempt asks it once more, and has the link."""
    calls = 0

    async def resolver() -> str:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        if calls == 1:
            raise ConnectionResetError("the catalogue hung up")
        return FRESH

    rig = Rig(ScriptedTransport(CONTENT, script=[Reply(status=403)] * 2), connections=1)
    rig.session.sources[0].refresh_url = resolver
    with pytest.raises(ConnectionResetError, match="the catalogue hung up"):
        await rig.attempt()
    await rig.attempt()
    assert rig.published == CONTENT
    assert calls == 2


ELSEWHERE = "https://elsewhere.test/x"
BACK = "https://origin.test/evil"


@pytest.mark.parametrize(
    ("hops", "target", "told"),
    [
        ((URL,), TARGET, False),
        ((URL,), BACK, True),
        ((URL, ELSEWHERE), BACK, False),
        ((URL, ELSEWHERE), TARGET, False),
        ((URL, BACK), TARGET, False),
    ],
    ids=["away", "same origin", "away and back", "away twice", "away in the end"],
)
async def test_secrets_withheld_on_the_way_stay_withheld(hops: tuple[str, ...], target: str, told: bool) -> None:
    """A chain that left the origin and came back was led by somebody else; its target is never told the secrets."""
    source = Source(URL, {"authorization": "Bearer x"})
    step = Reply(hops=tuple(Hop(url, 302, {}) for url in hops), url=target)
    async with ScriptedTransport(CONTENT, script=[step]).fetch(ask(URL)) as response:
        source.remember(response)
    asked = source.request({}, Options())
    assert asked.url == target
    secrets = Secrets(yarl.URL(asked.url), yarl.URL(asked.private_origin), asked.private_headers)
    assert bool(secrets.tell(yarl.URL(asked.url)).headers) == told
    source.relink(FRESH)
    assert source.request({}, Options()).private_origin == FRESH


def test_what_is_secret_is_in_no_repr() -> None:
    """Requests, sources and what is sent are printed by debuggers and loggers."""
    secret = "https://u:SECRET@origin.test/f?sig=SECRET"
    headers = {"authorization": "SECRET"}
    source = Source(secret, headers, resolved=secret)
    request = DownloadRequest(url=secret, directory=Path("/d"), filename="f", mirrors=(secret,), headers=headers)
    shown = [request, source, source.request({}, Options()), Hop(secret, 302, {"location": secret})]
    assert not [text for text in map(repr, shown) if "SECRET" in text]
