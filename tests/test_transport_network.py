"""The real transport across origins: redirects and what they are told, TLS, proxies, addresses, real servers."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import aiohttp
import pytest

from resumable.addresses import public_only
from resumable.credentials import basic
from resumable.errors import ConnectFailed, DownloadError, Interrupted, OriginError, RedirectRefused, Stalled
from resumable.transport import AiohttpTransport
from resumable.transport_errors import AddressRefused
from tests.fetching import ask, drain, fetch, secrets_in
from tests.origin import Behaviour, Content, End, Origin
from tests.proxy import Proxy
from tests.servers import Authority, Server, authority, caddy, free_port, lighttpd, nginx, python_http

TOKEN = {"X-Api-Key": "hunter2", "Authorization": "Bearer hunter2", "Cookie": "session=hunter2"}
SECRET = set(map(str.lower, TOKEN))


@pytest.fixture
def ours() -> Iterator[Origin]:
    """The origin that the secrets are for."""
    with Origin() as running:
        yield running


@pytest.fixture
def theirs() -> Iterator[Origin]:
    """Another origin: the same host, another port."""
    with Origin() as running:
        yield running


@pytest.fixture
async def transport() -> AsyncIterator[AiohttpTransport]:
    """A transport that the environment of the test run does not reach."""
    made = AiohttpTransport(environ={})
    yield made
    await made.close()


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One private authority for the whole run: making keys takes time."""
    return authority(tmp_path_factory.mktemp("tls"))


# -- redirects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
async def test_a_redirect_is_followed_and_told(ours: Origin, transport: AiohttpTransport, status: int) -> None:
    """The range goes along to the target; the hop keeps the headers, where a CDN's own digest may stand."""
    ours.put("/a", b"", Behaviour(status=status, location="/b?x=1", headers={"X-Linked-ETag": '"abc"'}, body=b"moved"))
    ours.put("/b", b"0123456789")
    outcome = await fetch(transport, ask(ours.url("/a"), range=(2, 5)))
    assert (outcome.status, outcome.body, outcome.url) == (206, b"234", ours.url("/b?x=1"))
    (hop,) = outcome.hops
    assert (hop.url, hop.status, hop.headers["x-linked-etag"]) == (ours.url("/a"), status, '"abc"')
    assert [one.range for one in ours.requests] == ["bytes=2-4", "bytes=2-4"]
    assert ours.connections == 1


async def test_a_redirect_without_a_target_is_the_answer(ours: Origin, transport: AiohttpTransport) -> None:
    """Nothing to follow, nothing to guess."""
    ours.put("/a", b"", Behaviour(status=302, body=b"where to?"))
    outcome = await fetch(transport, ask(ours.url("/a")))
    assert (outcome.status, outcome.body, outcome.hops) == (302, b"where to?", ())


async def test_a_redirects_long_body_is_not_read(ours: Origin, transport: AiohttpTransport) -> None:
    """The connection is given up rather than a gigabyte read, and a slow one is not waited for."""
    ours.put("/a", Content(1 << 30), Behaviour(headers={"Location": "/b"}, status=302, body=b"x" * (8 << 20)))
    ours.put("/slow", b"", Behaviour(headers={"Location": "/b"}, status=302, body=b"x" * 100, stall_at=50))
    ours.put("/b", b"content")
    assert (await fetch(transport, ask(ours.url("/a")))).body == b"content"
    assert (await fetch(transport, ask(ours.url("/slow"), stall_timeout_s=60))).body == b"content"


@pytest.mark.parametrize(
    ("behaviours", "words"),
    [
        ({"/a": Behaviour(location="/b"), "/b": Behaviour(location="/a")}, "circle"),
        ({"/a": Behaviour(location="/a")}, "circle"),
        ({"/a": Behaviour(location="file:///etc/passwd")}, "not http"),
        ({"/a": Behaviour(location="ftp://h/")}, "not http"),
        ({f"/{chr(97 + n)}": Behaviour(location=f"/{chr(98 + n)}") for n in range(12)}, "more than 10"),
    ],
)
async def test_a_redirect_that_leads_nowhere_good(
    ours: Origin, transport: AiohttpTransport, behaviours: dict[str, Behaviour], words: str
) -> None:
    """Refused, after as many requests as it took to see it."""
    for path, behaviour in behaviours.items():
        ours.put(path, b"", behaviour)
    outcome = await fetch(transport, ask(ours.url("/a")))
    assert isinstance(outcome.error, RedirectRefused)
    assert words in str(outcome.error)
    assert len(ours.requests) == min(len(behaviours), 11)


async def test_secure_stays_secure(ours: Origin, ca: Authority) -> None:
    """https to http is refused; http to https is followed."""
    ours.put("/plain", b"plain", Behaviour())
    with Origin(tls=ca.context("127.0.0.1")) as secure:
        secure.put("/down", b"", Behaviour(location=ours.url("/plain")))
        secure.put("/file", b"secure")
        ours.put("/up", b"", Behaviour(location=secure.url("/file")))
        transport = AiohttpTransport(environ={}, ca_file=ca.ca_file)
        down = await fetch(transport, ask(secure.url("/down")))
        up = await fetch(transport, ask(ours.url("/up")))
        await transport.close()
    assert isinstance(down.error, RedirectRefused)
    assert (up.body, ours.seen("/plain")) == (b"secure", [])


async def test_a_signed_redirect_expires(ours: Origin, transport: AiohttpTransport) -> None:
    """The origin's own behaviour that others build on: valid, then 403, then valid again by a fresh redirect."""
    content = Content(100_000)
    with Origin() as cdn:
        cdn.put("/blob", content, Behaviour(signed=True))
        ours.put("/file", b"", Behaviour(location=cdn.url("/blob"), location_ttl_s=60))
        first = await fetch(transport, ask(ours.url("/file")))
        again = await fetch(transport, ask(first.url, private_origin=ours.url("/file")))
        cdn.expire_links()
        late = await fetch(transport, ask(first.url, private_origin=ours.url("/file")))
    assert [one.status for one in (first, again, late)] == [200, 200, 403]
    assert first.body == again.body == content.read(0, content.size)


# -- secrets -----------------------------------------------------------------------------------------------------------


async def test_secrets_do_not_cross_origins(ours: Origin, theirs: Origin, transport: AiohttpTransport) -> None:
    """At the socket: ours sees them, theirs never does, and ours not again when theirs sends us back (S14)."""
    ours.put("/a", b"", Behaviour(location="/b"))
    ours.put("/b", b"", Behaviour(location=theirs.url("/c")))
    theirs.put("/c", b"", Behaviour(location=ours.url("/d")))
    ours.put("/d", b"content")
    outcome = await fetch(transport, ask(ours.url("/a"), private_headers=TOKEN))
    assert outcome.body == b"content"
    sent = {one.path: SECRET & set(one.headers) for one in ours.requests + theirs.requests}
    assert sent == {"/a": SECRET, "/b": SECRET, "/c": set(), "/d": set()}


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.2"], ids=["another name of this machine", "another address of this machine"]
)
async def test_another_host_is_another_origin(transport: AiohttpTransport, host: str) -> None:
    """Though it is the same server."""
    with Origin(host="0.0.0.0") as origin:
        url = origin.url("/a", host="127.0.0.1")
        origin.put("/a", b"", Behaviour(location=origin.url("/b", host=host)))
        origin.put("/b", b"content")
        await fetch(transport, ask(url, private_headers=TOKEN))
        assert [SECRET & set(one.headers) for one in origin.requests] == [SECRET, set()]


async def test_a_mirror_is_not_told_the_secrets(ours: Origin, theirs: Origin, transport: AiohttpTransport) -> None:
    """Asked first, but not the private origin: only the login in its own address."""
    theirs.put("/file", b"content")
    mirror = theirs.url("/file", login="bob:pw")
    await fetch(transport, ask(mirror, private_origin=ours.url("/file"), private_headers=TOKEN))
    (seen,) = theirs.requests
    assert {name: seen.headers.get(name) for name in SECRET} == {
        "authorization": basic("bob", "pw"),
        "cookie": None,
        "x-api-key": None,
    }


async def test_user_info_logs_in_and_is_not_sent_on(ours: Origin, theirs: Origin, transport: AiohttpTransport) -> None:
    """As Basic to its own origin, also after a redirect there; not to another; and not in any address we report."""
    ours.put("/a", b"", Behaviour(location="/b", login=basic("alice", "hunter2")))
    ours.put("/b", b"", Behaviour(location=theirs.url("/c", login="root:toor"), login=basic("alice", "hunter2")))
    theirs.put("/c", b"content")
    outcome = await fetch(transport, ask(ours.url("/a", login="alice:hunter2")))
    assert (outcome.body, outcome.url) == (b"content", theirs.url("/c"))
    assert [one.headers.get("authorization") for one in theirs.requests] == [None]
    assert [hop.url for hop in outcome.hops] == [ours.url("/a"), ours.url("/b")]


async def test_netrc_is_for_the_private_origin_only(ours: Origin, theirs: Origin, tmp_path: Path) -> None:
    """Both are 127.0.0.1, which has an entry; only the private origin sees it (S15, CVE-2024-11053)."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2\n")
    netrc.chmod(0o600)
    ours.put("/a", b"", Behaviour(location=theirs.url("/b"), login=basic("me", "hunter2")))
    theirs.put("/b", b"content")
    environ = {"NETRC": str(netrc)}
    for trust_env, status in ((True, 200), (False, 401)):
        transport = AiohttpTransport(trust_env=trust_env, environ=environ)
        assert (await fetch(transport, ask(ours.url("/a")))).status == status
        await transport.close()
    assert [one.headers.get("authorization") for one in theirs.requests] == [None]


@pytest.mark.parametrize("name", ["X-A\r\nX-Evil", "X-A"])
async def test_a_line_break_in_a_header_is_not_sent(ours: Origin, transport: AiohttpTransport, name: str) -> None:
    """Refused before anything goes out (S26)."""
    ours.put("/file", b"content")
    outcome = await fetch(transport, ask(ours.url("/file"), private_headers={name: "hunter2\r\nX-Evil: 1"}))
    assert isinstance(outcome.error, ConnectFailed)
    assert secrets_in(outcome.error, "hunter2") == []
    assert ours.requests == []


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(hang_up=End.FIN),
        Behaviour(hang_up=End.RST),
        Behaviour(raw=b"garbage\r\n\r\n"),
        Behaviour(raw=b"HTTP/1.1 200 OK\r\nSet-Cookie: hunter2\r\n"),
        Behaviour(cut_at=3),
        Behaviour(stall_at=3),
        Behaviour(latency_s=5),
        Behaviour(location="ftp://u:hunter2@h/?sig=hunter2"),
        Behaviour(location="http://127.1/?sig=hunter2"),
        Behaviour(location="http://127.0.0.1:1/?sig=hunter2"),
        Behaviour(location="http://nowhere.invalid/?sig=hunter2"),
        Behaviour(location="/file?sig=hunter2&login=alice:hunter2"),
    ],
)
async def test_no_error_holds_a_secret(ours: Origin, transport: AiohttpTransport, behaviour: Behaviour) -> None:
    """Neither in its words nor in its causes and attributes, which end up in tracebacks and logs."""
    ours.put("/file", b"content", behaviour)
    url = ours.url("/file?sig=hunter2&login=alice:hunter2", login="alice:hunter2")
    outcome = await fetch(transport, ask(url, private_headers=TOKEN, stall_timeout_s=0.2))
    assert isinstance(outcome.error, OriginError)
    assert secrets_in(outcome.error, "hunter2") == []


@pytest.mark.parametrize("url", ["ftp://u:hunter2@h/x", "http://", "http://127.1/", "http://h:99999/?sig=hunter2"])
async def test_what_cannot_be_asked_is_refused(transport: AiohttpTransport, url: str) -> None:
    """No scheme but HTTP, no host that two parsers read differently (S9, S11)."""
    outcome = await fetch(transport, ask(url))
    assert isinstance(outcome.error, RedirectRefused)
    assert secrets_in(outcome.error, "hunter2") == []


# -- finding and reaching the host -------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 64 + ".example", "xn--a.example", ".", "a..b"])
async def test_a_name_that_does_not_resolve(transport: AiohttpTransport, host: str) -> None:
    """A failed connection whatever is wrong with the name."""
    outcome = await fetch(transport, ask(f"http://{host}/x?sig=hunter2"))
    assert isinstance(outcome.error, ConnectFailed | RedirectRefused)
    assert secrets_in(outcome.error, "hunter2") == []


async def test_connecting_has_its_time(transport: AiohttpTransport) -> None:
    """A peer that takes the connection and never shakes hands: the cause is a connection timeout."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        outcome = await fetch(transport, ask(f"https://127.0.0.1:{port}/?sig=hunter2", connect_timeout_s=0.3))
    assert isinstance(outcome.error, ConnectFailed)
    assert isinstance(outcome.error.__cause__, aiohttp.ConnectionTimeoutError)
    assert secrets_in(outcome.error, "hunter2") == []


async def test_the_policy_is_asked_about_the_address_that_is_connected(ours: Origin, theirs: Origin) -> None:
    """A name, a literal and a redirect that lead to a refused address: nothing is sent there (S10, S12)."""
    asked: list[str] = []

    def refuse(address: str) -> bool:
        asked.append(address)
        return False

    ours.put("/file", b"content")
    transport = AiohttpTransport(environ={"http_proxy": "http://127.0.0.1:1"}, allow_address=refuse)
    for host in ("127.0.0.1", "localhost", "0x7f.1", "[::ffff:127.0.0.1]"):
        outcome = await fetch(transport, ask(ours.url("/file", host=host)))
        assert isinstance(outcome.error, ConnectFailed)
        assert isinstance(outcome.error.__cause__, AddressRefused)
    await transport.close()
    assert {"127.0.0.1"} <= set(asked) <= {"127.0.0.1", "::1", "::ffff:7f00:1"}
    assert ours.connections == 0


async def test_a_redirect_to_a_refused_address_is_refused(ours: Origin, theirs: Origin) -> None:
    """The first hop is allowed, the second is not: the error is the redirect's, and final."""
    ours.put("/file", b"", Behaviour(location=theirs.url("/x", host="127.0.0.9")))
    transport = AiohttpTransport(environ={}, allow_address=lambda address: address != "127.0.0.9")
    outcome = await fetch(transport, ask(ours.url("/file")))
    await transport.close()
    assert isinstance(outcome.error, RedirectRefused)
    assert theirs.connections == 0


async def test_the_ready_made_policy_refuses_this_machine(ours: Origin) -> None:
    """``addresses.public_only`` as the hook."""
    transport = AiohttpTransport(environ={}, allow_address=public_only)
    outcome = await fetch(transport, ask(ours.url("/file")))
    await transport.close()
    assert isinstance(outcome.error, ConnectFailed)
    assert ours.connections == 0


# -- TLS ---------------------------------------------------------------------------------------------------------------


async def test_a_private_authority_is_trusted_when_named(ca: Authority) -> None:
    """By parameter; bodies, ranges and reuse work as without TLS."""
    content = Content(5 << 20, seed=2)
    with Origin(tls=ca.context("127.0.0.1")) as origin:
        origin.put("/file", content)
        transport = AiohttpTransport(environ={}, ca_file=ca.ca_file)
        whole = await fetch(transport, ask(origin.url("/file")))
        part = await fetch(transport, ask(origin.url("/file"), range=(1000, 2000)))
        await transport.close()
    assert whole.body == content.read(0, content.size)
    assert (part.body, origin.connections) == (content.read(1000, 2000), 1)


async def test_a_private_authority_is_trusted_by_the_environment(
    ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE, as every OpenSSL program reads it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(ca.ca_file))
    with Origin(tls=ca.context("127.0.0.1")) as origin:
        origin.put("/file", b"content")
        transport = AiohttpTransport()
        outcome = await fetch(transport, ask(origin.url("/file")))
        await transport.close()
    assert outcome.body == b"content"


@pytest.mark.parametrize(
    ("names", "expired", "trusted", "words"),
    [
        (("127.0.0.1",), False, False, "unable to get local issuer certificate"),
        (("other.example",), False, True, "IP address mismatch"),
        (("127.0.0.1",), True, True, "certificate has expired"),
    ],
)
async def test_a_bad_certificate_is_never_accepted(
    ca: Authority, names: tuple[str, ...], words: str, *, expired: bool, trusted: bool
) -> None:
    """Unknown authority, wrong name, expired: failed before a request is sent, and the cause says certificate."""
    with Origin(tls=ca.context(*names, expired=expired)) as origin:
        transport = AiohttpTransport(environ={}, ca_file=ca.ca_file if trusted else None)
        outcome = await fetch(transport, ask(origin.url("/file")))
        await transport.close()
    assert isinstance(outcome.error, ConnectFailed)
    assert isinstance(outcome.error.__cause__, ssl.CertificateError)
    assert words in str(outcome.error)
    assert origin.requests == []


async def test_plain_http_behind_https_is_a_failed_connection(transport: AiohttpTransport) -> None:
    """A server that does not speak TLS: the cause says TLS, and nothing is tried without."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Plain\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as plain:
        outcome = await fetch(transport, ask(f"https://127.0.0.1:{plain.sockets[0].getsockname()[1]}/"))
    assert isinstance(outcome.error, ConnectFailed)
    assert isinstance(outcome.error.__cause__, ssl.SSLError)
    assert "does not speak TLS" in str(outcome.error)


async def test_a_missing_authority_file_is_said(tmp_path: Path) -> None:
    """Not ignored: that would be a connection the user did not want."""
    transport = AiohttpTransport(environ={}, ca_file=tmp_path / "missing.pem")
    outcome = await fetch(transport, ask("https://127.0.0.1:1/"))
    await transport.close()
    assert isinstance(outcome.error, ConnectFailed)
    assert isinstance(outcome.error.__cause__, FileNotFoundError)


@pytest.mark.parametrize("end", list(End))
async def test_a_cut_over_tls_gives_every_byte_first(ca: Authority, end: End) -> None:
    """Over TLS too, a body that ends early is interrupted after what came."""
    content = Content(3 << 20, seed=9)
    with Origin(tls=ca.context("127.0.0.1")) as origin:
        origin.put("/file", content, Behaviour(cut_at=2 << 20, cut=end))
        transport = AiohttpTransport(environ={}, ca_file=ca.ca_file)
        outcome = await fetch(transport, ask(origin.url("/file")))
        await transport.close()
    assert isinstance(outcome.error, Interrupted)
    assert outcome.body == content.read(0, outcome.error.received)
    assert end is End.RST or outcome.error.received == 2 << 20


async def test_leaving_a_body_over_tls_closes_at_once(ca: Authority) -> None:
    """No waiting for the peer's goodbye, and no more of the body taken in."""
    with Origin(tls=ca.context("127.0.0.1")) as origin:
        origin.put("/file", Content(1 << 40))
        origin.put("/stalled", Content(1 << 20), Behaviour(stall_at=10))
        transport = AiohttpTransport(environ={}, ca_file=ca.ca_file)
        async with transport.fetch(ask(origin.url("/file"))) as response:
            await response.read()
        stalled = await fetch(transport, ask(origin.url("/stalled"), stall_timeout_s=0.2))
        await origin.until(lambda: origin.open_connections == 0, 5)
        await transport.close()
    assert isinstance(stalled.error, Stalled)


# -- proxies -----------------------------------------------------------------------------------------------------------


async def through(proxy: Proxy, url: str, *, login: str = "", **options: object) -> tuple[bytes, DownloadError | None]:
    """Fetch with the proxy set in the environment."""
    setting = proxy.url.replace("//", f"//{login}@") if login else proxy.url
    environ = {"http_proxy": setting, "https_proxy": setting}
    transport = AiohttpTransport(environ=environ, **options)  # type: ignore[arg-type]
    outcome = await fetch(transport, ask(url))
    await transport.close()
    return outcome.body, outcome.error


async def test_http_goes_through_a_proxy(ours: Origin) -> None:
    """In absolute form; the login is for the proxy and does not reach the origin."""
    ours.put("/file", b"content")
    with Proxy(login=basic("me", "pw")) as proxy:
        body, error = await through(proxy, ours.url("/file?x=1"), login="me:pw")
    assert (body, error) == (b"content", None)
    assert [(one.method, one.target) for one in proxy.requests] == [("GET", ours.url("/file?x=1"))]
    assert "proxy-authorization" not in ours.requests[0].headers


async def test_https_is_tunnelled_through_a_proxy(ca: Authority) -> None:
    """The proxy sees a name and a port; the certificate is the origin's."""
    content = Content(3 << 20)
    with Origin(tls=ca.context("127.0.0.1")) as origin, Proxy(login=basic("me", "pw")) as proxy:
        origin.put("/file", content)
        body, error = await through(proxy, origin.url("/file"), login="me:pw", ca_file=ca.ca_file)
        assert (body == content.read(0, content.size), error) == (True, None)
        assert [(one.method, one.target) for one in proxy.requests] == [("CONNECT", f"127.0.0.1:{origin.port}")]
        assert "proxy-authorization" not in origin.requests[0].headers


@pytest.mark.parametrize("status", [403, 407, 502, 503])
async def test_a_proxy_that_refuses_the_tunnel(ca: Authority, status: int) -> None:
    """The cause has its status and Retry-After, and nothing of the request."""
    with Proxy(status=status) as proxy:
        _, error = await through(proxy, "https://origin.example/?sig=hunter2", login="me:hunter2")
    assert isinstance(error, ConnectFailed)
    assert isinstance(error.__cause__, aiohttp.ClientHttpProxyError)
    assert (error.__cause__.status, dict(error.__cause__.headers or {})) == (status, {"Retry-After": "7"})
    assert secrets_in(error, "hunter2", basic("me", "hunter2")) == []


async def test_a_proxy_that_is_not_there(ours: Origin) -> None:
    """Said as the proxy's fault, and never gone around."""
    ours.put("/file", b"content")
    transport = AiohttpTransport(environ={"http_proxy": f"http://me:hunter2@127.0.0.1:{free_port()}"})
    outcome = await fetch(transport, ask(ours.url("/file")))
    await transport.close()
    assert isinstance(outcome.error, ConnectFailed)
    assert isinstance(outcome.error.__cause__, aiohttp.ClientProxyConnectionError)
    assert ("proxy" in str(outcome.error), ours.connections) == (True, 0)
    assert secrets_in(outcome.error, "hunter2", basic("me", "hunter2")) == []


@pytest.mark.parametrize("environ", [{"http_proxy": "socks5://127.0.0.1:1"}, {"ALL_PROXY": "nonsense://x"}])
async def test_a_proxy_that_cannot_be_used(ours: Origin, environ: dict[str, str]) -> None:
    """An error that says so."""
    transport = AiohttpTransport(environ=environ)
    outcome = await fetch(transport, ask(ours.url("/file")))
    await transport.close()
    assert isinstance(outcome.error, ConnectFailed)
    assert ("proxy" in str(outcome.error), ours.connections) == (True, 0)


@pytest.mark.parametrize(
    ("environ", "trust_env"), [({"no_proxy": "127.0.0.0/8"}, True), ({"no_proxy": "*"}, True), ({}, False)]
)
async def test_a_proxy_is_gone_around_when_told_to(ours: Origin, environ: dict[str, str], *, trust_env: bool) -> None:
    """NO_PROXY, or an environment that is not trusted."""
    ours.put("/file", b"content")
    transport = AiohttpTransport(environ={"http_proxy": "http://127.0.0.1:1"} | environ, trust_env=trust_env)
    outcome = await fetch(transport, ask(ours.url("/file")))
    await transport.close()
    assert outcome.body == b"content"


async def test_a_proxy_that_truncates_is_noticed(ours: Origin) -> None:
    """The body's length is the origin's; what is missing is missing."""
    content = Content(1 << 20)
    ours.put("/file", content)
    with Proxy(cut_at=300_000) as proxy:
        body, error = await through(proxy, ours.url("/file"))
    assert isinstance(error, Interrupted)
    assert error.promised == content.size
    assert body == content.read(0, error.received) != b""


# -- real servers ------------------------------------------------------------------------------------------------------

Starter = Callable[[Path], AbstractContextManager[Server]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a file of 5 MiB and an empty one."""
    directory = tmp_path_factory.mktemp("www")
    content = Content(5 << 20, seed=11)
    (directory / "file").write_bytes(content.read(0, content.size))
    (directory / "empty").write_bytes(b"")
    return directory


@pytest.mark.parametrize("start", [nginx, caddy, lighttpd], ids=lambda start: start.__name__)
async def test_real_servers_serve_ranges(root: Path, transport: AiohttpTransport, start: Starter) -> None:
    """Whole, part, If-Range, behind the end, empty and missing, over one connection."""
    content = Content(5 << 20, seed=11)
    with start(root) as server:
        whole = await fetch(transport, ask(server.url("/file")))
        part = await fetch(transport, ask(server.url("/file"), range=(1_000_000, 3_000_000)))
        tag = {"range": "bytes=7-", "if-range": whole.headers["etag"], "accept-encoding": "identity"}
        same = await fetch(transport, ask(server.url("/file"), headers=tag))
        other = await fetch(transport, ask(server.url("/file"), headers=tag | {"if-range": '"other"'}))
        behind = await fetch(transport, ask(server.url("/file"), range=(content.size, None)))
        empty = await fetch(transport, ask(server.url("/empty")))
        missing = await fetch(transport, ask(server.url("/missing")))
    statuses = [one.status for one in (whole, part, same, other, behind, empty, missing)]
    assert statuses == [200, 206, 206, 200, 416, 200, 404]
    assert [one.error for one in (whole, part, same, other, behind, empty, missing)] == [None] * 7
    assert whole.body == other.body == content.read(0, content.size)
    assert (part.body, same.body) == (content.read(1_000_000, 3_000_000), content.read(7, content.size))
    # RFC 9110 15.5.17 only recommends to tell the length, and lighttpd does not.
    assert behind.headers.get("content-range") == (None if start is lighttpd else f"bytes */{content.size}")
    assert empty.body == b""


async def test_pythons_server_ignores_ranges(root: Path, transport: AiohttpTransport) -> None:
    """HTTP/1.0, one connection per request, 200 to a range; each answer is whole."""
    content = Content(5 << 20, seed=11)
    with python_http(root) as server:
        outcomes = [await fetch(transport, ask(server.url("/file"), range=(5, 10))) for _ in range(3)]
    assert [(one.status, one.error) for one in outcomes] == [(200, None)] * 3
    assert all(one.body == content.read(0, content.size) for one in outcomes)


async def test_a_real_server_over_tls(root: Path, ca: Authority) -> None:
    """nginx with a certificate of the private authority."""
    content = Content(5 << 20, seed=11)
    transport = AiohttpTransport(environ={}, ca_file=ca.ca_file)
    with nginx(root, certificate=ca.certificate("127.0.0.1")) as server:
        outcome = await fetch(transport, ask(server.url("/file")))
        await transport.close()
    assert (outcome.body == content.read(0, content.size), outcome.error) == (True, None)


async def test_a_server_that_is_killed_interrupts_the_body(root: Path, transport: AiohttpTransport) -> None:
    """The body says how far it came, and has given all of that."""
    content = Content(5 << 20, seed=11)
    with nginx(root, location="limit_rate 1m;") as server:
        async with transport.fetch(ask(server.url("/file"))) as response:
            first = await response.read()
            server.kill()
            rest, error = await drain(response)
    assert isinstance(error, Interrupted)
    assert (error.received, error.promised) == (len(first + rest), content.size)
    assert first + rest == content.read(0, error.received)


def test_the_origin_runs_as_a_process() -> None:
    """For benchmarks: it says where it listens, obeys lines on its standard input, and ends with it."""
    put = '{"path": "/file", "size": 10737418240, "seed": 1, "behaviour": {"ranges": "honoured"}}'
    command = [sys.executable, "-m", "tests.origin", "--put", put]
    repository = Path(__file__).parent.parent
    with subprocess.Popen(command, cwd=repository, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        base = __import__("json").loads(process.stdout.readline())["url"]

        async def once() -> bytes:
            transport = AiohttpTransport(environ={})
            outcome = await fetch(transport, ask(f"{base}/file", range=(10_000_000_000, 10_000_000_009)))
            record = await fetch(transport, ask(f"{base}/-/requests"))
            await transport.close()
            return outcome.body + record.body

        told = asyncio.run(once())
        process.stdin.close()
        assert process.wait(10) == 0
    assert told.startswith(Content(1 << 40, seed=1).read(10_000_000_000, 10_000_000_009))
    assert b'"range": "bytes=10000000000-10000000008"' in told
