"""What must not get in, what must not break: tokens, hosts, origins, paths, floods, and packets no page sends."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import socketio

from resumable_ui.access import Access
from tests.hubs import TOKEN, VIEWER, Served, Watcher, served, until
from tests.origin import Origin

pytestmark = pytest.mark.blocking


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Served]:
    """Return a hub with a token, one for viewers, and room for few clients."""
    async with served(tmp_path / "root", max_clients=8) as serving:
        yield serving


async def refusal(serving: Served, **auth: Any) -> dict[str, Any]:
    """Return what a connection attempt is told."""
    watcher = Watcher(serving.url, **auth)
    told: list[Any] = []
    watcher.client.on("connect_error", lambda data: told.append(data))
    with pytest.raises(socketio.exceptions.ConnectionError):
        await watcher.connect()
    answer: dict[str, Any] = told[0]
    return answer


async def still_serves(serving: Served) -> None:
    """Fail unless the hub answers a well-behaved client."""
    watcher = await serving.watcher("all")
    assert (await watcher.subscribe("all"))["ok"]
    await watcher.close()


def websocket_url(serving: Served) -> str:
    """Return the address of a raw socket."""
    return f"{serving.url}/socket.io/?EIO=4&transport=websocket".replace("http:", "ws:")


async def upgrade_status(serving: Served, headers: dict[str, str]) -> int:
    """Return the status that a websocket handshake is answered with."""
    async with aiohttp.ClientSession() as session:
        try:
            async with session.ws_connect(websocket_url(serving), headers=headers):
                return 101
        except aiohttp.WSServerHandshakeError as error:
            return error.status


# -- who --------------------------------------------------------------------------------------------------------------

WRONG_AUTH = [
    ({}, "unauthorized"),
    ({"token": ""}, "unauthorized"),
    ({"token": "wrong"}, "unauthorized"),
    ({"token": TOKEN + "x", "v": 1}, "unauthorized"),
    ({"token": ["operator-token"], "v": 1}, "unauthorized"),
    ({"token": "\ud800", "v": 1}, "unauthorized"),
    ({"token": TOKEN, "v": 2}, "version"),
    ({"token": TOKEN, "v": "1"}, "version"),
]


@pytest.mark.parametrize(("auth", "code"), WRONG_AUTH, ids=repr)
async def test_a_connection_without_the_token_is_refused_with_a_code(
    hub: Served, auth: dict[str, Any], code: str
) -> None:
    """The page shows what the code says, and does not try again in vain."""
    told = await refusal(hub, **auth)
    assert (code, code) == (told["code"], told["data"]["code"])
    assert TOKEN not in json.dumps(told)
    await still_serves(hub)


@pytest.mark.parametrize("token", [None, "wrong", "Basic x", ""])
async def test_http_without_the_token_is_refused(hub: Served, token: str | None) -> None:
    """Reading and acting; only the page itself and the description of the interface are open."""
    for method, path in (("GET", "/api/snapshot"), ("GET", "/api/downloads"), ("POST", "/api/downloads")):
        status, answer = await hub.http(method, path, token=token)
        assert (status, answer["error"]["code"]) == (401, "unauthorized")
    assert (await hub.http("GET", "/", token=token))[0] == 200
    assert (await hub.http("GET", "/api/openapi.json", token=token))[0] == 200


async def test_a_viewer_looks_and_does_not_act(hub: Served) -> None:
    """Over the socket and over HTTP."""
    viewer = await hub.watcher("all", token=VIEWER)
    assert viewer.of("connected")[0]["role"] == "viewer"
    for event, data in (
        ("add_download", {"url": "http://127.0.0.1:1/x"}),
        ("download_action", {"download_id": "d1", "action": "cancel"}),
        ("bulk_action", {"action": "retry", "filter": "failed"}),
    ):
        answer = await viewer.call(event, data)
        assert (answer["ok"], answer["error"]["code"]) == (False, "forbidden"), event
    assert (await hub.http("GET", "/api/snapshot", token=VIEWER))[0] == 200
    status, answer = await hub.http("POST", "/api/downloads", token=VIEWER, body={"url": "http://127.0.0.1:1/x"})
    assert (status, answer["error"]["code"]) == (403, "forbidden")


async def test_an_application_decides_by_its_own_sessions(tmp_path: Path) -> None:
    """``authorize`` sees the request's headers, cookies among them, over the socket and over HTTP."""
    from resumable_ui.clients import Role

    def authorize(headers: Any) -> Role | None:
        return Role.VIEWER if headers.get("cookie") == "session=1" else None

    async with served(tmp_path, access=Access(authorize=authorize)) as hub:
        assert (await hub.http("GET", "/api/snapshot", token=None))[0] == 401
        assert (await hub.http("GET", "/api/snapshot", token=None, headers={"Cookie": "session=1"}))[0] == 200
        watcher = Watcher(hub.url, v=1)
        await watcher.connect(headers={"Cookie": "session=1"})
        assert (await watcher.subscribe())["ok"]
        await watcher.close()
        told = await refusal(hub, v=1)
        assert told["code"] == "unauthorized"


# -- from where -------------------------------------------------------------------------------------------------------

HERE = "{host}"
PLACES = [
    # Host, Origin, other headers, whether it gets through
    (HERE, None, {}, True),
    (HERE, "http://{host}", {}, True),
    (HERE, "https://{host}", {}, True),  # a proxy that ends TLS and hands Host on
    (HERE, "http://evil.example", {}, False),
    (HERE, "http://127.0.0.1:1", {}, False),
    (HERE, "null", {}, False),
    (HERE, "http://{host}.evil.example", {}, False),
    (HERE, "http://evil.example", {"X-Forwarded-Host": "evil.example"}, False),
    (HERE, "http://evil.example", {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"}, False),
    ("evil.example", "http://evil.example", {}, False),  # DNS rebinding
    ("evil.example", None, {}, False),
    ("evil.example", None, {"X-Forwarded-Host": "127.0.0.1"}, False),
    ("127.0.0.1.evil.example", None, {}, False),
    ("localhost", None, {}, True),
    ("LOCALHOST.", None, {}, True),
    ("[::1]:{port}", None, {}, True),
    ("", None, {}, False),
    ("proxy.example", "https://proxy.example", {}, True),
    (HERE, "https://proxy.example", {}, True),  # a proxy that sends its own name for us as Host
    ("proxy.example:81", "http://proxy.example:82", {}, True),
    (HERE, None, {"Sec-Fetch-Site": "cross-site"}, False),  # an image on a page of another site
    (HERE, None, {"Sec-Fetch-Site": "same-site"}, False),  # of another port of this machine
    (HERE, None, {"Sec-Fetch-Site": "same-origin"}, True),
    (HERE, None, {"Sec-Fetch-Site": "none"}, True),
    (HERE, "https://proxy.example", {"Sec-Fetch-Site": "same-site"}, True),
]


@pytest.mark.parametrize(("host", "origin", "more", "passes"), PLACES)
async def test_host_and_origin(
    tmp_path: Path, host: str, origin: str | None, more: dict[str, str], passes: bool
) -> None:
    """A page elsewhere, a name that resolves to us, a proxy: over the socket's upgrade, its polling, and HTTP."""
    async with served(tmp_path, access=Access(token=TOKEN, hosts=frozenset({"proxy.example"}))) as hub:
        here = hub.url.removeprefix("http://")
        headers = {"Host": host.format(host=here, port=here.partition(":")[2]), **more}
        if origin is not None:
            headers["Origin"] = origin.format(host=here)
        status, answer = await hub.http("GET", "/api/snapshot", headers=headers)
        assert passes == (status == 200), answer
        polling, _ = await hub.http("GET", "/socket.io/?EIO=4&transport=polling", token=None, headers=headers)
        assert passes == (polling == 200)
        assert await upgrade_status(hub, headers) == (101 if passes else 403)
        if not passes:
            assert (status, answer["error"]["code"]) == (403, "forbidden")


async def test_no_cors_headers_are_sent(hub: Served) -> None:
    """Nothing tells a browser that another site may read answers."""
    async with aiohttp.ClientSession() as session:
        for method, path in (("OPTIONS", "/api/downloads"), ("GET", "/socket.io/?EIO=4&transport=polling")):
            async with session.request(method, hub.url + path, headers={"Origin": hub.url}) as answer:
                assert not [name for name in answer.headers if name.lower().startswith("access-control")]


async def test_every_answer_forbids_scripts_from_elsewhere(hub: Served) -> None:
    """The policy stands on pages, data and refusals."""
    async with aiohttp.ClientSession() as session:
        for path in ("/", "/nothing", "/api/openapi.json", "/api/snapshot"):
            async with session.get(hub.url + path) as answer:
                policy = answer.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy
                assert "script-src 'self'" in policy
                assert "frame-ancestors 'none'" in policy
                assert "unsafe" not in policy
                assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_form_of_another_site_is_not_taken_for_json(tmp_path: Path) -> None:
    """Without a token too: a page can send text/plain anywhere without being asked."""
    async with served(tmp_path, access=Access(token=None)) as hub, aiohttp.ClientSession() as session:
        body = json.dumps({"url": "http://127.0.0.1:1/x"})
        async with session.post(
            f"{hub.url}/api/downloads", data=body, headers={"Content-Type": "text/plain"}
        ) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (400, "bad_request")
        assert await hub.manager.downloads() == []


# -- where to ----------------------------------------------------------------------------------------------------------

OUTSIDE = [
    {"directory": "../elsewhere"},
    {"directory": "a/../../elsewhere"},
    {"directory": "/etc"},
    {"directory": "link"},
    {"directory": "link/below"},
    {"filename": "../x.bin"},
    {"filename": "a/b.bin"},
    {"filename": "..\\x.bin"},
    {"filename": "/etc/passwd"},
    {"filename": ".."},
    {"filename": ".hidden"},
    {"filename": "x\u202e.bin"},
    {"filename": "%2e%2e%2fx.bin"},
    {"directory": "nul\0"},
]


@pytest.mark.parametrize("where", OUTSIDE, ids=repr)
async def test_nothing_is_put_outside_of_the_served_folder(tmp_path: Path, where: dict[str, str]) -> None:
    """However the way out is written; nothing is begun and nothing is made."""
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    (root / "link").symlink_to(elsewhere)
    with Origin() as origin:
        origin.put("/f", b"x" * 100)
        async with served(tmp_path / "state", root=root) as hub:
            page = await hub.watcher("all")
            answer = await page.call("add_download", {"url": origin.url("/f"), **where})
            assert answer["ok"] is False
            assert answer["error"]["code"] in {"forbidden", "bad_request"}, answer
            status, _ = await hub.http("POST", "/api/downloads", body={"url": origin.url("/f"), **where})
            assert status in {403, 400}
            assert await hub.manager.downloads() == []
        assert origin.requests == []
    assert list(elsewhere.iterdir()) == []
    assert [path.name for path in root.iterdir()] == ["link"]


async def test_a_home_folder_is_a_name_like_any_other(tmp_path: Path) -> None:
    """A tilde in a folder or a file name means nothing here."""
    with Origin() as origin:
        origin.put("/f", b"x" * 100)
        async with served(tmp_path) as hub:
            page = await hub.watcher("all")
            form = {"url": origin.url("/f"), "directory": "~", "filename": "~root"}
            name = (await page.call("add_download", form))["download_id"]
            await page.until(lambda: page.sees(name)["state"] == "complete")
    assert (tmp_path / "~" / "~root").read_bytes() == b"x" * 100


BAD_FORMS = [
    {},
    {"url": ""},
    {"url": "ftp://127.0.0.1/x"},
    {"url": "file:///etc/passwd"},
    {"url": "http://"},
    {"url": 7},
    {"url": "http://127.0.0.1/" + "x" * 9000},
    {"url": "http://127.0.0.1/x", "sha256": "12"},
    {"url": "http://127.0.0.1/x", "headers": {"X\r\nY": "1"}},
    {"url": "http://127.0.0.1/x", "headers": {"X": "1\r\nY: 2"}},
    {"url": "http://127.0.0.1/x", "headers": {"Range": "bytes=0-1"}},
    {"url": "http://127.0.0.1/x", "headers": [1]},
    {"url": "http://127.0.0.1/x", "mirrors": "http://127.0.0.1/y"},
    {"url": "http://127.0.0.1/x", "filename": {"a": 1}},
    {"url": "http://127.0.0.1/x", "dest": "/etc/passwd"},
    {"url": "http://127.0.0.1/x", "request_id": 7},
    {"url": "http://127.0.0.1/x", "request_id": "r" * 200},
]


@pytest.mark.parametrize("form", BAD_FORMS, ids=lambda form: repr(form)[:60])
async def test_a_bad_form_is_refused_in_a_sentence(hub: Served, form: dict[str, Any]) -> None:
    """And nothing is begun."""
    page = await hub.watcher("all")
    answer = await page.call("add_download", form)
    assert (answer["ok"], answer["error"]["code"]) == (False, "bad_request"), answer
    assert await hub.manager.downloads() == []


async def test_secrets_of_a_form_are_shown_nowhere(hub: Served) -> None:
    """User info, query values and headers of a new download are in no event, snapshot or answer."""
    page = await hub.watcher("all", "project:p")
    url = "http://user:hunter2@127.0.0.1:1/f.bin?sig=hunter2&X-Amz-Credential=hunter2"
    form = {"url": url, "headers": {"Authorization": "Bearer hunter2"}, "mirrors": [url], "project": "p"}
    answer = await page.call("add_download", form)
    name = answer["download_id"]
    await page.until(lambda: page.sees(name)["state"] in {"waiting", "parked", "failed"})
    snapshot = await hub.http("GET", "/api/snapshot")
    details = await page.call("operation_details", {"operation_id": name})
    assert "hunter2" not in json.dumps([answer, page.events, snapshot, details], default=str)
    bad = await page.call("add_download", {"url": "ftp://user:hunter2@127.0.0.1/f?sig=hunter2"})
    assert "hunter2" not in json.dumps(bad)


async def test_a_hostile_file_name_arrives_as_data(tmp_path: Path) -> None:
    """Markup in a name is a name: JSON, with a type no browser takes for a page."""
    name = "<img src=x onerror=alert(1)>.bin"
    with Origin() as origin:
        origin.put("/f", b"x" * 100)
        async with served(tmp_path) as hub:
            page = await hub.watcher("all")
            url = origin.url("/f") + "?n=%3Cscript%3E"
            answer = await page.call("add_download", {"url": url, "project": "<script>alert(1)</script>"})
            await page.until(lambda: page.sees(answer["download_id"])["state"] == "complete")
            refused = await page.call("add_download", {"url": url, "filename": name})
            assert refused["ok"] is False  # "<" is no letter of a file name
            async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:
                for path in ("/api/snapshot", "/api/downloads", f"/api/{name}", "/%3Cscript%3E"):
                    async with session.get(hub.url + path) as found:
                        assert found.content_type == "application/json"
                        assert found.headers["X-Content-Type-Options"] == "nosniff"


# -- too much ----------------------------------------------------------------------------------------------------------

MALFORMED = [
    "",
    "x",
    "7",
    "9hello",
    "4",
    "4x",
    "49[]",
    "42",
    "42[",
    "42{}",
    "42[]",
    "42[1]",
    '42["connect",{}]',
    '42["disconnect","x"]',
    "42" + "[" * 30_000,
    "4" + "[" * 30_000,
    "2" + "[" * 30_000,
    "44[]",
    '451-["x",{"_placeholder":true,"num":0}]',
    "46",
    '42/admin,["x"]',
    "43999999999999999999999999999999[]",
    "b" + "QUJD",
    '40{"token":"' + TOKEN + '","v":1}',  # a second time
]


@pytest.mark.parametrize("frame", MALFORMED, ids=lambda frame: frame[:20])
@pytest.mark.parametrize("known", [False, True], ids=["before the token", "after"])
async def test_a_malformed_packet_ends_at_most_its_own_connection(
    hub: Served, frame: str, known: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever sends it, and whatever is in it; nobody can fill the log with tracebacks."""
    async with aiohttp.ClientSession() as session, session.ws_connect(websocket_url(hub)) as raw:
        await raw.receive()
        if known:
            await raw.send_str("40" + json.dumps({"token": TOKEN, "v": 1}))
            await raw.receive()
        await raw.send_str(frame)
        await raw.send_bytes(b"\x00\xff")
        async with asyncio.timeout(5):
            while (await raw.receive()).type not in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}:
                pass
        await still_serves(hub)
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.WARNING] == []


@pytest.mark.parametrize("size", [70_000, 2_000_000])
async def test_an_oversized_packet_ends_its_connection(hub: Served, size: int) -> None:
    """At the limit, not after having been read whole."""
    async with aiohttp.ClientSession() as session, session.ws_connect(websocket_url(hub)) as raw:
        await raw.receive()
        await raw.send_str("40" + json.dumps({"token": TOKEN, "v": 1}))
        await raw.receive()
        await raw.send_str('42["subscribe","' + "x" * size + '"]')
        async with asyncio.timeout(5):
            while not raw.closed:
                message = await raw.receive()
                if message.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}:
                    break
        await still_serves(hub)


async def test_an_oversized_body_is_refused(hub: Served) -> None:
    """With a length, and in chunks without one."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 10_000

    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for body in (b" " * 400_000, chunks()):
            async with session.post(f"{hub.url}/api/downloads", data=body) as answer:
                assert (answer.status, (await answer.json())["error"]["code"]) == (413, "too_large")
    await still_serves(hub)


async def test_who_never_says_who_it_is_is_shown_out(hub: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open connections without a token take up room; websockets and polling alike."""
    monkeypatch.setattr("resumable_ui.sockets.UNKNOWN_S", 0.3)
    async with aiohttp.ClientSession() as session, session.ws_connect(websocket_url(hub)) as raw:
        await hub.http("GET", "/socket.io/?EIO=4&transport=polling", token=None)
        assert hub.hub.connections == 2
        await until(lambda: hub.hub.connections == 0, "they are gone", 6)
        async with asyncio.timeout(5):
            while (await raw.receive()).type not in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}:
                pass


async def test_more_clients_than_allowed_are_told_so(hub: Served) -> None:
    """The ninth of eight; one that leaves makes room."""
    watchers = [await hub.watcher("all") for _ in range(8)]
    told = await refusal(hub, token=TOKEN, v=1)
    assert told["code"] == "busy"
    await watchers[0].close()
    await until(lambda: hub.hub.connections < 8, "it has left")
    await still_serves(hub)


async def test_a_thousand_connections_are_bounded(hub: Served) -> None:
    """Each is served or refused; those that were there before go on."""
    page = await hub.watcher("all")
    counts: Counter[int] = Counter()
    sockets: list[aiohttp.ClientWebSocketResponse] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def open_one() -> None:
            try:
                raw = await session.ws_connect(websocket_url(hub), timeout=aiohttp.ClientWSTimeout(ws_close=0.1))
            except aiohttp.WSServerHandshakeError as error:
                counts[error.status] += 1
            else:
                sockets.append(raw)
                counts[101] += 1

        for _ in range(20):
            await asyncio.gather(*(open_one() for _ in range(50)))
        assert counts[101] + counts[503] == 1000
        assert counts[101] <= 16
        assert hub.hub.connections <= 16
        assert (await page.subscribe("all"))["ok"]
        await asyncio.gather(*(raw.close() for raw in sockets))
    await still_serves(hub)


async def test_strangers_that_poll_leave_room_for_websockets(hub: Served) -> None:
    """An older browser does not say whose page it is that begins a hundred connections."""
    path = "/socket.io/?EIO=4&transport=polling"
    codes = [(await hub.http("GET", path, token=None))[0] for _ in range(24)]
    assert Counter(codes) == {200: 8, 503: 16}
    page = await hub.watcher("all")
    assert (await page.subscribe("all"))["ok"]


async def test_a_link_to_the_page_works_from_anywhere(hub: Served) -> None:
    """What a page of another site may do is send people here."""
    status, _ = await hub.http("GET", "/", token=None, headers={"Sec-Fetch-Site": "cross-site"})
    assert status == 200


@pytest.mark.parametrize(("token", "role"), [(TOKEN, "operator"), (VIEWER, "viewer")])
async def test_a_snapshot_says_what_its_reader_may_do(hub: Served, token: str, role: str) -> None:
    """Over both ways: a page that polls is told nowhere else."""
    page = await hub.watcher(token=token)
    assert (await page.subscribe("all"))["role"] == role
    assert (await hub.http("GET", "/api/snapshot", token=token))[1]["role"] == role


async def test_half_a_character_is_a_bad_request(hub: Served) -> None:
    """JSON can hold it, a file name and the state file cannot."""
    page = await hub.watcher("all")
    half = "a\ud800"
    answers = [
        await page.call("operation_details", {"operation_id": half}),
        await page.call("download_action", {"download_id": half, "action": "pause"}),
        await page.call("add_download", {"url": "http://127.0.0.1/x", "directory": half}),
    ]
    assert [answer["error"]["code"] for answer in answers] == ["bad_request"] * 3
    several = await page.call("bulk_action", {"action": "pause", "filter": [half]})
    assert several["refused"][0]["code"] == "bad_request"


async def test_a_flood_of_actions_is_slowed_down(hub: Served) -> None:
    """One client can neither occupy the hub nor the downloads."""
    page = await hub.watcher("all")
    call = {"download_id": "d1", "action": "pause"}
    answers = await asyncio.gather(*(page.call("download_action", call) for _ in range(200)))
    codes = {answer["error"]["code"] for answer in answers}
    assert codes == {"not_found", "rate_limited"}
    other = await hub.watcher("all")
    assert (await other.call("download_action", call))["error"]["code"] == "not_found"
