"""The hub over HTTP: the paths scripts know, the document that describes them, the page's files, prefixes, ASGI."""

from __future__ import annotations

import asyncio
import contextlib
import json
import mimetypes
import re
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route as StarletteRoute

from resumable.manager import DownloadManager
from resumable_ui.access import Access
from resumable_ui.api import ROUTES
from resumable_ui.asgi import below
from resumable_ui.hub import Hub
from resumable_ui.openapi import document
from resumable_ui.refusals import HTTP_STATUS, Code, Refused
from tests.hubs import TOKEN, Served, Watcher, served, until
from tests.origin import Behaviour, Content, Origin

MIB = 1 << 20

pytestmark = pytest.mark.blocking


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Served]:
    """Return a hub."""
    async with served(tmp_path) as serving:
        yield serving


@pytest.fixture
def origin() -> Iterator[Origin]:
    """Return an origin with a file that takes its time and one that is not there."""
    with Origin() as server:
        server.put("/slow.bin", Content(8 * MIB, seed=22), Behaviour(rate=1 * MIB))
        yield server


async def state_of(hub: Served, name: str, wanted: str) -> dict[str, Any]:
    """Wait until a download is in a state, as a polling script would."""
    for _ in range(1000):
        status, download = await hub.http("GET", f"/api/downloads/{name}")
        assert status == 200
        if download["state"] == wanted:
            found: dict[str, Any] = download
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"never {wanted}: {download}")


async def test_a_script_adds_pauses_resumes_cancels_and_retries(hub: Served, origin: Origin) -> None:
    """The source application's paths, one after the other."""
    status, added = await hub.http("POST", "/api/downloads", body={"url": origin.url("/slow.bin"), "project": "p"})
    name = added["download_id"]
    assert (status, added["ok"]) == (201, True)
    await state_of(hub, name, "running")
    status, paused = await hub.http("POST", f"/api/downloads/{name}/pause")
    assert (status, paused["state"]) == (200, "paused")
    status, again = await hub.http("POST", f"/api/downloads/{name}/pause")
    assert (status, again["error"]["code"]) == (409, "not_allowed")
    assert (await hub.http("POST", f"/api/downloads/{name}/resume"))[0] == 200
    await state_of(hub, name, "running")
    _, listed = await hub.http("GET", "/api/downloads?state=running&project=p&limit=5")
    assert ([one["download_id"] for one in listed["downloads"]], listed["total"]) == ([name], 1)
    assert (await hub.http("GET", "/api/downloads?state=running&project=q"))[1]["total"] == 0
    assert (await hub.http("POST", f"/api/downloads/{name}/cancel", body={"delete_part": True}))[0] == 200
    await state_of(hub, name, "cancelled")
    assert (await hub.http("POST", f"/api/downloads/{name}/retry", body={"request_id": "r"}))[0] == 200
    await state_of(hub, name, "running")
    await hub.http("POST", f"/api/downloads/{name}/cancel")


async def test_a_failed_one_is_relinked_and_explains_itself(hub: Served, origin: Origin) -> None:
    """What was tried is in the operation's details; a fresh link makes it run."""
    origin.put("/gone.bin", b"", Behaviour(status=404))
    origin.put("/there.bin", b"x" * 1000)
    page = await hub.watcher("recovery")
    _, added = await hub.http("POST", "/api/downloads", body={"url": origin.url("/gone.bin"), "filename": "f.bin"})
    name = added["download_id"]
    failed = await state_of(hub, name, "failed")
    assert (failed["error"]["category"], failed["status"]) == ("not-found", "failed")
    await page.until(lambda: page.of("recovery_update"), "the state file was looked at")
    _, operations = await hub.http("GET", "/api/recovery/operations")
    assert [one["operation_id"] for one in operations["operations"]] == [name]
    status, details = await hub.http("GET", f"/api/recovery/operations/{name}")
    assert (status, len(details["attempts"])) == (200, 1)
    (attempt,) = details["attempts"]
    assert (attempt["n"], attempt["from"], attempt["to"], attempt["http_status"]) == (1, 0, 0, 404)
    assert attempt["ended_at"] >= attempt["started_at"] > 0
    _, numbers = await hub.http("GET", "/api/recovery/status")
    assert (numbers["operations"], numbers["by_state"], numbers["health"]) == (1, {"failed": 1}, "ok")
    status, refused = await hub.http("POST", f"/api/downloads/{name}/relink", body={})
    assert (status, refused["error"]["code"]) == (400, "bad_request")
    status, _ = await hub.http("POST", f"/api/downloads/{name}/relink", body={"url": origin.url("/there.bin")})
    assert status == 200
    await state_of(hub, name, "complete")


async def test_retry_all(hub: Served, origin: Origin) -> None:
    """One request for all that failed; what cannot be retried is named with its reason."""
    for n in range(3):
        origin.put(f"/{n}.bin", b"", Behaviour(status=404))
        await hub.http("POST", "/api/downloads", body={"url": origin.url(f"/{n}.bin")})
    await until(lambda: len(origin.requests) >= 3)
    for view in await hub.manager.downloads():
        await state_of(hub, view.download_id, "failed")
    for n in range(3):
        origin.put(f"/{n}.bin", b"now it is there")
    status, answer = await hub.http("POST", "/api/bulk", body={"action": "retry", "filter": "failed"})
    assert (status, len(answer["done"]), answer["refused"]) == (200, 3, [])
    for name in answer["done"]:
        await state_of(hub, name, "complete")
    status, answer = await hub.http("POST", "/api/bulk", body={"action": "retry", "filter": [*answer["done"][:1], "x"]})
    assert [one["code"] for one in answer["refused"]] == ["not_allowed", "not_found"]
    for body in ({"action": "relink", "filter": "all"}, {"action": "retry"}, {"action": "retry", "filter": "some"}, {}):
        assert (await hub.http("POST", "/api/bulk", body=body))[0] == 400


async def test_many_at_once_wait_for_each_other_in_part_only(hub: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 40 waits for the state file; the answer keeps the order, and never more than 16 are at it."""
    commands = hub.hub._commands
    assert commands is not None
    at_work: list[int] = []

    async def act(download_id: str, _action: str, _args: object) -> dict[str, Any]:
        at_work.append(at_work[-1] + 1 if at_work else 1)
        await asyncio.sleep(0.01)
        at_work.append(at_work[-1] - 1)
        if download_id.endswith("7"):
            raise Refused(Code.NOT_ALLOWED, "no")
        return {}

    monkeypatch.setattr(commands, "act", act)
    names = [f"d{n}" for n in range(40)]
    answer = await commands.bulk("retry", names, {})
    assert answer["done"] == [name for name in names if not name.endswith("7")]
    assert [one["id"] for one in answer["refused"]] == ["d7", "d17", "d27", "d37"]
    assert max(at_work) == 16


REFUSALS = [
    ("GET", "/api/nothing", None, 404, "not_found"),
    ("GET", "/api/downloads/none", None, 404, "not_found"),
    ("GET", "/api/recovery/operations/none", None, 404, "not_found"),
    ("POST", "/api/downloads/none/pause", {}, 404, "not_found"),
    ("POST", "/api/downloads/none/explode", {}, 404, "not_found"),
    ("POST", "/api/recovery/operations/none/retry", {}, 404, "not_found"),
    ("DELETE", "/api/downloads", None, 405, "method_not_allowed"),
    ("GET", "/api/downloads/none/pause", None, 405, "method_not_allowed"),
    ("PUT", "/", None, 405, "method_not_allowed"),
    ("GET", "/api/downloads?limit=-1", None, 400, "bad_request"),
    ("GET", "/api/downloads?limit=99999", None, 400, "bad_request"),
    ("POST", "/api/downloads", ["http://127.0.0.1/x"], 400, "bad_request"),
    ("POST", "/api/downloads/none/pause", {"if_rev": "7"}, 400, "bad_request"),
    ("POST", "/api/downloads/none/pause", {"args": 7}, 400, "bad_request"),
    ("GET", "/no-such-page", None, 404, "not_found"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "code"), REFUSALS, ids=lambda value: str(value)[:40])
async def test_a_refusal_is_json_with_a_code_and_a_sentence(
    hub: Served, method: str, path: str, body: Any, status: int, code: str
) -> None:
    """Never a page of HTML, never a bare status."""
    answered, answer = await hub.http(method, path, body=body)
    assert (answered, answer["ok"], answer["error"]["code"]) == (status, False, code)
    assert len(answer["error"]["message"]) > 10


async def test_bodies_that_are_no_json_are_refused(hub: Served) -> None:
    """Deep ones too."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for body in (b"{", b"\xff", b"[" * 60_000, b"nul", b'"x"'):
            async with session.post(f"{hub.url}/api/downloads", data=body) as answer:
                assert (answer.status, (await answer.json())["error"]["code"]) == (400, "bad_request")


async def test_a_change_since_is_a_conflict(hub: Served, origin: Origin) -> None:
    """A button pressed on an old picture."""
    _, added = await hub.http("POST", "/api/downloads", body={"url": origin.url("/slow.bin")})
    name, old = added["download_id"], added["rev"]
    running = await state_of(hub, name, "running")
    assert running["rev"] > old
    status, answer = await hub.http("POST", f"/api/downloads/{name}/pause", body={"if_rev": old})
    assert (status, answer["error"]["code"]) == (409, "conflict")
    await hub.http("POST", f"/api/downloads/{name}/cancel")


def test_the_document_has_exactly_the_routes_there_are() -> None:
    """Both are made of one table; every operation has a name, answers and its path's variables."""
    described = {
        (method.upper(), path): operation
        for path, methods in document()["paths"].items()
        for method, operation in methods.items()
    }
    assert set(described) == {(route.method, route.path) for route in ROUTES}
    names = [operation["operationId"] for operation in described.values()]
    assert len(names) == len(set(names))
    for (method, path), operation in described.items():
        declared = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
        assert declared == set(re.findall(r"\{(\w+)\}", path)), path
        assert "default" in operation["responses"]
        assert ("requestBody" in operation) == (method == "POST")


def test_the_document_refers_to_nothing_that_is_not_there() -> None:
    """Every $ref leads somewhere; the document is JSON."""
    text = json.dumps(document())
    schemas = document()["components"]["schemas"]
    assert {name.rpartition("/")[2] for name in re.findall(r'"\$ref": "([^"]+)"', text)} <= set(schemas)
    assert set(HTTP_STATUS) == set(Code)


async def test_answers_have_the_fields_the_document_promises(hub: Served, origin: Origin) -> None:
    """A download, field by field and type by type."""
    _, added = await hub.http("POST", "/api/downloads", body={"url": origin.url("/slow.bin")})
    download = await state_of(hub, added["download_id"], "running")
    properties = document()["components"]["schemas"]["Download"]["properties"]
    assert set(properties) == set(download)
    numbers = (int, float)
    python: dict[str, Any] = {"string": str, "integer": int, "number": numbers, "boolean": bool, "array": list}
    python["null"] = type(None)
    for name, schema in properties.items():
        kinds = [option.get("type", "object") for option in schema.get("anyOf", [schema])]
        assert any(isinstance(download[name], python.get(kind, dict)) for kind in kinds), (name, download[name])
    await hub.http("POST", f"/api/downloads/{added['download_id']}/cancel")


# -- files -------------------------------------------------------------------------------------------------------------


async def test_scripts_are_scripts_whatever_the_machine_thinks(hub: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poisoned table of types (Windows' registry) must not stop the page's modules."""
    monkeypatch.setitem(mimetypes.types_map, ".js", "text/plain")
    mimetypes.add_type("text/plain", ".js")
    mimetypes.add_type("text/plain", ".css")
    expected = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    async with aiohttp.ClientSession() as session:
        for path in hub.hub.assets.paths:
            kind = expected.get(path.rpartition(".")[2])
            async with session.get(f"{hub.url}/{path}") as answer:
                assert answer.status == 200
                if kind is not None:
                    assert answer.content_type == kind
                tag = answer.headers["ETag"]
            async with session.get(f"{hub.url}/static/{path}", headers={"If-None-Match": tag}) as answer:
                assert (answer.status, await answer.read()) == (304, b"")
    assert "index.html" in hub.hub.assets.paths
    mimetypes.init()


ELSEWHERE = ["/..%2fpyproject.toml", "/%2e%2e/hub.py", "/static/../hub.py", "//etc/passwd", "/hub.py"]


@pytest.mark.parametrize("path", ELSEWHERE)
async def test_only_the_pages_files_are_served(hub: Served, path: str) -> None:
    """By name, from memory: there is no way to another file."""
    from yarl import URL

    async with aiohttp.ClientSession() as session, session.get(URL(hub.url + path, encoded=True)) as answer:
        assert answer.status == 404


def test_the_pages_links_are_relative() -> None:
    """A proxy may serve it below any path."""
    from resumable_ui.assets import Assets

    assets = Assets.load()
    for path in assets.paths:
        answer = assets.answer(path)
        assert answer is not None
        text = answer.body.decode("utf-8", "replace")
        if path.endswith((".html", ".css")):
            assert not re.findall(r"""(?:src|href|action)\s*=\s*["']?/|url\(\s*["']?/""", text), path
        if path.endswith(".html"):
            assert not re.findall(r"<script(?![^>]*\bsrc=)[^>]*>|\son\w+\s*=|<style", text), f"inline in {path}"


# -- prefixes ----------------------------------------------------------------------------------------------------------


async def test_everything_works_below_a_prefix(tmp_path: Path) -> None:
    """Page, interface and socket; the folder's name without a slash leads to the one with it."""
    async with served(tmp_path, prefix="/tools/dl") as hub, aiohttp.ClientSession() as session:
        assert (await hub.http("GET", "/"))[0] == 200
        assert (await hub.http("GET", "/api/snapshot"))[0] == 200
        async with session.get(hub.url, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (308, "dl/")
        async with session.get(hub.url.removesuffix("/tools/dl") + "/") as answer:
            assert answer.status == 404
        watcher = Watcher(hub.url.removesuffix("/tools/dl"), token=TOKEN, v=1)
        await watcher.connect(socketio_path="/tools/dl/socket.io")
        assert (await watcher.subscribe())["ok"]
        await watcher.close()


@contextlib.asynccontextmanager
async def uvicorn_serving(app: Any) -> AsyncIterator[str]:
    """Run an ASGI application in this loop."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="warning", lifespan="on", ws="websockets-sansio")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    await until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listening.close()


BELOW = [
    # path, root_path, prefix -> below it
    ("/dl/api/x", "/dl", "", "/api/x"),
    ("/api/x", "/dl", "", "/api/x"),
    ("/dl", "/dl", "", ""),
    ("/dl/h/api/x", "/dl", "h", "/api/x"),
    ("/api/x", "/a", "", "/api/x"),  # stripped already, and begins alike
    ("/hub/api/x", "", "h", None),
]


@pytest.mark.parametrize(("path", "mounted", "prefix", "expected"), BELOW)
def test_the_path_below_where_a_hub_is_mounted(path: str, mounted: str, prefix: str, expected: str | None) -> None:
    """Whether or not the framework has taken its own part away."""
    assert below({"path": path, "root_path": mounted}, f"/{prefix}" if prefix else "") == expected


# python-engineio's client reads no answer to a POST: where the body comes after the head, it is left to the collector.
@pytest.mark.filterwarnings("ignore:Unclosed connection:ResourceWarning")
@pytest.mark.parametrize("how", ["mounted", "wrapping", "alone"])
async def test_an_asgi_application_gets_a_hub_in_two_lines(tmp_path: Path, origin: Origin, how: str) -> None:
    """Mounted in a framework, in front of any application, or alone."""

    async def hello(_request: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    async with DownloadManager(state=tmp_path / "state.db") as manager:
        hub = Hub(manager, access=Access(token=TOKEN), root=tmp_path)
        mine = Starlette(routes=[StarletteRoute("/hello", hello)])
        app: Any
        if how == "mounted":
            mine.mount("/dl", hub.asgi())
            app = mine
        elif how == "wrapping":
            app = hub.asgi(mine, prefix="/dl")
        else:
            app = hub.asgi()
        prefix = "" if how == "alone" else "/dl"
        async with uvicorn_serving(app) as url, aiohttp.ClientSession() as session:
            if how != "alone":
                async with session.get(f"{url}/hello") as answer:
                    assert await answer.text() == "hello"
            async with session.get(f"{url}{prefix}/") as answer:
                assert (answer.status, answer.content_type) == (200, "text/html")
                assert "Content-Security-Policy" in answer.headers
            async with session.get(f"{url}{prefix}/api/snapshot") as answer:
                assert answer.status == 401
            for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
                with pytest.raises(aiohttp.WSServerHandshakeError):
                    await session.ws_connect(f"{url}{prefix}/socket.io/?EIO=4&transport=websocket", headers=headers)
            watcher = Watcher(url, token=TOKEN, v=1, caps=["batch"])
            for transport in ("polling", "websocket"):
                await watcher.connect(socketio_path=f"{prefix}/socket.io", transports=[transport])
                assert (await watcher.subscribe())["ok"]
                await watcher.close()
            await watcher.connect(socketio_path=f"{prefix}/socket.io")
            await watcher.subscribe()
            added = await watcher.call("add_download", {"url": origin.url("/slow.bin")})
            await watcher.until(lambda: watcher.sees(added["download_id"])["bytes_done"] > 0)
            assert (await watcher.act(added["download_id"], "cancel"))["state"] == "cancelled"
            headers = {"Authorization": f"Bearer {TOKEN}"}
            async with session.post(
                f"{url}{prefix}/api/downloads", json={"url": "x" * 70_000}, headers=headers
            ) as answer:
                assert answer.status == 413
            await watcher.close()
            await hub.stop()
