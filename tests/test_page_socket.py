"""The page's own Socket.IO client against python-socketio itself, in a browser, with the line cut in every way."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.browsing import comes_true, opened
from tests.page_host import page_host
from tests.page_records import record, snapshot

pytest.importorskip("socketio")
import socketio
from aiohttp import web
from socketio.exceptions import ConnectionRefusedError as RefuseConnection

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = pytest.mark.asyncio(loop_scope="session")

TOKEN = "let-me-in"


@dataclass
class Line:
    """A TCP relay in front of a server: it can be cut, or go silent without a word, as a dead line does."""

    port: int
    target: int
    silent: bool = False
    refuse: bool = False
    opened: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        self.opened += 1
        if self.refuse:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers |= {writer, far_writer}
        with contextlib.suppress(OSError):
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        writer.close()
        far_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not self.silent:
                writer.write(data)
                await writer.drain()
        writer.close()

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()


@dataclass
class Server:
    """A Socket.IO server that plays the hub, behind a line."""

    sio: Any
    line: Line
    epoch: str = "e1"
    downloads: list[dict[str, Any]] = field(default_factory=lambda: [record("a", bytes_done=5)])
    sids: list[str] = field(default_factory=list)
    auths: list[Any] = field(default_factory=list)
    got: list[Any] = field(default_factory=list)
    refusal: tuple[str, Any] | None = None
    answer: Any = field(default_factory=lambda: {"ok": True})

    @property
    def url(self) -> str:
        """The hub's base address, through the line."""
        return f"http://127.0.0.1:{self.line.port}/some/where/"


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[Server]:
    """Run it, for pages from anywhere."""
    sio = socketio.AsyncServer(async_mode="aiohttp", cors_allowed_origins="*", **options)
    app = web.Application()
    sio.attach(app, socketio_path="/some/where/socket.io")
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    line = Line(0, runner.addresses[0][1])
    relay = await asyncio.start_server(line.handle, "127.0.0.1", 0)
    line.port = relay.sockets[0].getsockname()[1]
    server = Server(sio, line)

    async def connect(sid: str, environ: Any, auth: Any) -> None:
        server.sids.append(sid)
        server.auths.append(auth)
        if server.refusal is not None:
            raise RefuseConnection(*server.refusal)

    async def subscribe(sid: str, data: Any) -> Any:
        server.got.append(["subscribe", data])
        return snapshot(server.downloads, epoch=server.epoch)

    async def other(event: str, sid: str, *data: Any) -> Any:
        server.got.append([event, *data])
        return server.answer

    sio.on("connect", connect)
    sio.on("subscribe", subscribe)
    sio.on("*", other)
    try:
        yield server
    finally:
        relay.close()
        line.cut()
        for socket in list(sio.eio.sockets.values()):
            await socket.close(wait=False, abort=True)
        await runner.cleanup()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """Return a page with the page's modules; the policy is left out, for the servers have ports of their own."""
    blank = ("text/html", "<!doctype html><link rel=icon href=static/icon.svg><title>blank</title>")
    async with page_host({"blank.html": blank}, policy="") as url, opened(browser, faults=False) as page:
        await page.goto(f"{url}blank.html")
        await page.evaluate("""async () => {
          window.m = await import("./static/resumable.js");
          window.faults = [];
          addEventListener("error", (event) => faults.push(event.message));
          addEventListener("unhandledrejection", (event) => faults.push(String(event.reason)));
        }""")
        yield page
        assert await page.evaluate("faults") == []


@asynccontextmanager
async def following(page: Page, url: str, token: str = TOKEN) -> AsyncIterator[None]:
    """Let the page's ``store`` follow a server, with the words of its connection in ``log``."""
    await page.evaluate(
        """([base, token]) => {
          window.log = [];
          window.store = m.connect({ base, token });
          store.subscribe("status", () => log.push(store.status));
        }""",
        [url, token],
    )
    try:
        yield
    finally:
        await page.evaluate("store.close()")


async def live(page: Page) -> None:
    """Wait until the page follows its server."""
    await comes_true(page, "store.status === 'live'")


async def until(condition: Callable[[], bool | Awaitable[bool]], within_s: float = 8.0) -> None:
    """Wait for something on this side."""
    for _ in range(int(within_s / 0.02)):
        found = condition()
        if found if isinstance(found, bool) else await found:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come about")


async def test_it_connects_and_follows(page: Page) -> None:
    """Version, capabilities and token in the handshake; the snapshot; then what comes, one by one and in batches."""
    async with serving() as server, following(page, server.url):
        await live(page)
        assert server.auths == [{"token": TOKEN, "v": 1, "client": "resumable-ui/1", "caps": ["batch"]}]
        assert server.got == [["subscribe", {"rooms": ["all"]}]]
        news = [{"project_id": "p", "progress": record("a", bytes_done=6, rev=2)}]
        await server.sio.emit("progress_batch", {"epoch": "e1", "seq": 2, "ts": 1.0, "items": news})
        await comes_true(page, "store.downloads.get('a').bytes_done === 6")
        await server.sio.emit(
            "progress_update",
            {"epoch": "e1", "seq": 3, "ts": 1.0, "project_id": "p", "progress": record("a", bytes_done=7, rev=3)},
        )
        await comes_true(page, "store.downloads.get('a').bytes_done === 7")
        await server.sio.emit("download_removed", {"download_id": "a", "reason": "pruned"})
        await comes_true(page, "store.downloads.size === 0")


async def test_acknowledgements_both_ways(page: Page) -> None:
    """Texts of any alphabet survive, and so does half a megabyte."""
    async with serving() as server, following(page, server.url):
        await live(page)
        server.answer = {"ok": True, "echo": "é 漢 \0 🚀", "much": "x" * 500_000}
        answer = await page.evaluate("store.request('anything', { a: 'é 漢 \\0 🚀' })")
        assert server.got[-1][1]["a"] == "é 漢 \0 🚀"
        assert answer["echo"] == "é 漢 \0 🚀"
        assert len(answer["much"]) == 500_000
        await page.evaluate(
            """(url) => {
          window.own = new m.Socket(url, { auth: () => ({ token: 'own' }) }).connect();
          own.on("question", (a, answer) => answer(a + 1, "too"));
        }""",
            server.url,
        )
        await comes_true(page, "own.connected")
        assert server.auths[-1] == {"token": "own"}
        answer = await server.sio.call("question", 41, sid=server.sids[-1], timeout=5)
        assert list(answer) == [42, "too"]
        await page.evaluate("own.disconnect()")


REFUSALS = [
    pytest.param(("no", {"code": "unauthorized"}), "unauthorized", id="code-in-data"),
    pytest.param(("the token is wrong", {"code": "unauthorized", "message": "m"}), "unauthorized", id="with-message"),
]


@pytest.mark.parametrize(("refusal", "status"), REFUSALS)
async def test_a_refused_token_is_not_tried_again(page: Page, refusal: tuple[str, Any], status: str) -> None:
    """Not once, until a person gives another; then it connects."""
    async with serving() as server:
        server.refusal = refusal
        async with following(page, server.url):
            await comes_true(page, f"store.status === '{status}'")
            await asyncio.sleep(1.0)
            assert len(server.auths) == 1
            server.refusal = None
            await page.evaluate("store.reconnect('another')")
            await live(page)
            assert [auth["token"] for auth in server.auths] == ["let-me-in", "another"]


async def test_the_servers_goodbye_is_no_reason_to_stay_away(page: Page) -> None:
    """A disconnect by the server is followed by a new connection and a new snapshot."""
    async with serving() as server, following(page, server.url):
        await live(page)
        server.downloads = [record("a", bytes_done=77, rev=9)]
        await server.sio.disconnect(server.sids[-1])
        await comes_true(page, "store.downloads.get('a').bytes_done === 77")


async def test_a_short_break_costs_no_word(page: Page) -> None:
    """The line is back within a second: what changed meanwhile is there, and nobody was alarmed."""
    async with serving() as server, following(page, server.url):
        await live(page)
        before = await page.evaluate("log")
        server.downloads = [record("a", bytes_done=78, rev=9)]
        server.line.cut()
        await comes_true(page, "store.downloads.get('a').bytes_done === 78")
        assert (await page.evaluate("log"), before[-1]) == (before, "live")


async def test_another_epoch_voids_what_was_known(page: Page) -> None:
    """A server whose revs begin anew, as after its state file was replaced."""
    async with serving() as server:
        server.downloads = [record("a", bytes_done=5, rev=500), record("b")]
        async with following(page, server.url):
            await live(page)
            server.epoch, server.downloads = "e2", [record("a", bytes_done=1, rev=1)]
            server.line.cut()
            await comes_true(page, "store.downloads.size === 1 && store.downloads.get('a').bytes_done === 1")


async def test_a_snapshot_that_comes_unasked_is_taken(page: Page) -> None:
    """The hub sends one to a page that had been too slow: what it missed is in it, what is gone is not."""
    async with serving() as server, following(page, server.url):
        server.downloads = [record("a"), record("b")]
        await live(page)
        await server.sio.emit("snapshot", snapshot([record("a", "complete", rev=9)], seq=9), to=server.sids[-1])
        await comes_true(page, "store.downloads.size === 1 && store.downloads.get('a').state === 'complete'")


async def test_reconnecting_a_hosts_own_socket(page: Page) -> None:
    """Its client is asked to connect; where it is connected it is left alone."""
    asked = await page.evaluate("""() => {
      const socket = { connected: false, asked: 0, on() {}, off() {}, emit() {}, connect() { this.asked += 1; } };
      const store = m.connect({ socket });
      store.reconnect();
      socket.connected = true;
      store.reconnect();
      return socket.asked;
    }""")
    assert asked == 1


async def test_news_of_another_server_do_not_void_the_answer_that_is_on_its_way(page: Page) -> None:
    """A host's client that is let in without a version is sent news at once: more of them than round trips."""
    asked, status, done = await page.evaluate("""async () => {
      const heard = {}, acks = [];
      const on = (event, listener) => { heard[event] = listener; };
      const socket = { connected: false, on, off() {}, emit(...args) { acks.push(args.at(-1)); } };
      const store = m.connect({ socket });
      const download = { download_id: "a", project_id: "p", retry_at: null, rev: 1, bytes_done: 1, state: "running" };
      const snapshot = (epoch) => ({ ok: true, epoch, seq: 1, ts: 1, downloads: [download] });
      const turn = () => new Promise((go) => setTimeout(go));
      const arrive = () => { socket.connected = true; heard.connect(); };
      arrive();
      acks.pop()(snapshot("e1"));
      await turn();
      socket.connected = false;
      heard.disconnect();
      arrive();  // to a hub that was started anew
      const first = acks[0];
      const news = (seq) => {
        const progress = { ...download, rev: seq, bytes_done: seq };
        heard.progress_update({ epoch: "e2", seq, project_id: "p", progress });
      };
      for (let seq = 2; seq < 40; seq++) news(seq);
      first(snapshot("e2"));
      await turn();
      news(41);
      const seen = [acks.length, store.status, store.downloads.get("a").bytes_done];
      store.close();
      return seen;
    }""")
    assert (asked, status, done) == (1, "live", 41)


async def test_a_line_that_died_in_silence_is_noticed(page: Page) -> None:
    """No pings, no bytes, no FIN: after interval and timeout the page says so, and comes back by itself."""
    async with serving(ping_interval=1, ping_timeout=1) as server, following(page, server.url):
        await live(page)
        await asyncio.sleep(2.5)  # two pings
        assert await page.evaluate("log") == ["live"]
        server.line.silent = True
        await comes_true(page, "store.status === 'lost'")
        server.line.silent = False
        server.line.cut()
        await live(page)


async def test_coming_back_is_paced(page: Page) -> None:
    """Against a server that is gone: a few tries at once, then about one a second, never a storm."""
    async with serving() as server, following(page, server.url):
        await live(page)
        server.line.refuse, before = True, server.line.opened
        server.line.cut()
        await comes_true(page, "store.status === 'lost'")
        await asyncio.sleep(3.0)
        tries = server.line.opened - before
        assert 2 <= tries <= 10  # its own and those of the fallback
        server.line.refuse = False
        await live(page)


async def test_a_request_that_met_a_break_is_answered(page: Page) -> None:
    """It goes out again under its name once the line is back; the person sees an answer, not an error."""
    async with serving() as server, following(page, server.url):
        await live(page)
        server.line.silent = True
        await page.evaluate(
            "void (window.answer = store.request('download_action', { action: 'pause', download_id: 'a' }))"
        )
        await asyncio.sleep(0.1)
        server.line.silent = False
        server.line.cut()
        assert await page.evaluate("answer") == {"ok": True}
        sent = [one for one in server.got if one[0] == "download_action"]
        assert len({one[1]["request_id"] for one in sent}) == 1


async def test_malformed_frames_end_the_line_not_the_page(page: Page) -> None:
    """What is no packet is a reason to begin anew, and nothing else."""
    async with serving() as server, following(page, server.url):
        await live(page)
        engine = next(iter(server.sio.eio.sockets.values()))
        from engineio.packet import MESSAGE, Packet

        server.downloads = [record("a", bytes_done=79, rev=9)]
        await engine.send(Packet(MESSAGE, "2[not json"))
        await comes_true(page, "store.downloads.get('a').bytes_done === 79")


# -- where websockets are blocked ------------------------------------------------------------------------------------


@asynccontextmanager
async def rest(token: str = TOKEN) -> AsyncIterator[tuple[str, dict[str, Any], list[Any]]]:
    """Run a hub's HTTP half, with websockets refused as some proxies do; yields address, state and what was posted."""
    state: dict[str, Any] = {"downloads": [record("a", bytes_done=1)], "status": 200}
    posted: list[Any] = []
    headers = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*"}

    async def answer(request: web.Request) -> web.Response:
        if request.method == "OPTIONS":
            return web.Response(headers=headers)
        if request.headers.get("Authorization") != f"Bearer {token}" or state["status"] == 401:
            return web.json_response({"ok": False}, status=401, headers=headers)
        if request.path.endswith("api/snapshot"):
            state["polls"] = state.get("polls", 0) + 1
            return web.json_response(snapshot(state["downloads"], seq=state["polls"]), headers=headers)
        posted.append([request.method, request.path, json.loads(await request.text() or "null")])
        return web.json_response({"ok": True, "state": "paused", "rev": 2}, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/some/where/api/{rest:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/some/where/", state, posted
    finally:
        await runner.cleanup()


async def test_without_websockets_it_polls(page: Page) -> None:
    """The same truth every two seconds, actions as posts, and the page says that live updates are off."""
    async with rest() as (url, state, posted), following(page, url):
        await comes_true(page, "store.status === 'polling'")
        state["downloads"] = [record("a", bytes_done=2, rev=2)]
        await comes_true(page, "store.downloads.get('a').bytes_done === 2")
        answer = await page.evaluate(
            "store.request('download_action', { download_id: 'a', action: 'relink', args: { url: 'https://h/x' } })"
        )
        assert answer["ok"] is True
        await page.evaluate("store.request('bulk_action', { action: 'retry', filter: ['a'] })")
        await page.evaluate("store.request('add_download', { url: 'https://h/y' })")
        await page.evaluate("store.request('operation_details', { operation_id: 'a' })")
        assert posted == [
            ["POST", "/some/where/api/downloads/a/relink", {"url": "https://h/x"}],
            ["POST", "/some/where/api/bulk", {"action": "retry", "filter": ["a"]}],
            ["POST", "/some/where/api/downloads", {"url": "https://h/y"}],
            ["GET", "/some/where/api/recovery/operations/a", None],
        ]


async def test_a_refused_token_stops_the_polling(page: Page) -> None:
    """It asks for another and leaves the server alone."""
    async with rest("other") as (url, _state, _posted), following(page, url):
        await comes_true(page, "store.status === 'unauthorized'")
