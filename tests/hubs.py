"""A real hub for tests: in this process on a free port, or as the command ``resumable serve``; and a real client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Self

import aiohttp
import socketio
from aiohttp import web

from recovery.journal import Journal
from resumable.manager import DownloadManager
from resumable_ui.access import Access
from resumable_ui.clients import Client
from resumable_ui.hub import Hub
from tests.command import start

TOKEN = "operator-token"
VIEWER = "viewer-token"


class Watcher:
    """A Socket.IO client that keeps the newest of everything, as the page does."""

    def __init__(self, url: str, **auth: Any) -> None:
        self.url = url
        self.auth = auth
        self.client = socketio.AsyncClient(reconnection=False)
        self.events: list[tuple[str, Any]] = []
        self.downloads: dict[str, dict[str, Any]] = {}
        self.epoch = ""
        self.client.on("*", self._hear)

    async def _hear(self, event: str, *data: Any) -> None:
        payload: Any = data[0] if data else None
        self.events.append((event, payload))
        if event == "progress_batch":
            for item in payload["items"]:
                self._take(item["progress"])
        elif event == "progress_update":
            self._take(payload["progress"])
        elif event == "snapshot":
            self._take_all(payload)
        elif event == "download_removed":
            self.downloads.pop(payload["download_id"], None)

    def _take(self, download: dict[str, Any]) -> None:
        known = self.downloads.get(download["download_id"])
        if known is None or known["rev"] <= download["rev"]:
            self.downloads[download["download_id"]] = download

    def _take_all(self, snapshot: dict[str, Any]) -> None:
        if snapshot["epoch"] != self.epoch:
            self.downloads.clear()
            self.epoch = snapshot["epoch"]
        for download in snapshot["downloads"]:
            self._take(download)

    async def connect(self, **options: Any) -> Self:
        options = {"transports": ["websocket"], **options}
        await self.client.connect(self.url, auth=self.auth, **options)
        return self

    async def subscribe(self, *rooms: str) -> dict[str, Any]:
        snapshot = await self.call("subscribe", {"rooms": list(rooms or ("all",))})
        if snapshot["ok"]:
            self._take_all(snapshot)
        return snapshot

    async def call(self, event: str, data: Any, timeout: float = 10.0) -> dict[str, Any]:
        answer: dict[str, Any] = await self.client.call(event, data, timeout=timeout)
        return answer

    async def act(self, download_id: str, action: str, request_id: str | None = None, **more: Any) -> dict[str, Any]:
        data = {"request_id": request_id or f"r{time.monotonic_ns()}", "download_id": download_id, "action": action}
        return await self.call("download_action", {**data, **more})

    def sees(self, download_id: str) -> Any:
        """Return what the page shows of a download; a state of None before the first news of it."""
        return self.downloads.get(download_id, {"state": None, "bytes_done": 0, "rev": 0})

    def of(self, event: str) -> list[Any]:
        return [data for name, data in self.events if name == event]

    async def until(self, condition: Callable[[], Any], what: str = "", timeout_s: float = 15.0) -> Any:
        try:
            return await until(condition, what, timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; last events {self.events[-3:]}") from None

    async def close(self) -> None:
        await self.client.disconnect()


async def until(condition: Callable[[], Any], what: str = "", timeout_s: float = 15.0) -> Any:
    """Wait until ``condition()`` is true and return it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        await asyncio.sleep(0.01)
    raise AssertionError(f"never came true: {what}")


class Served:
    """A hub in this process."""

    def __init__(self, hub: Hub, manager: DownloadManager, url: str, folder: Path) -> None:
        self.hub = hub
        self.folder = folder
        self.manager = manager
        self.url = url
        self.watchers: list[Watcher] = []

    @property
    def journal(self) -> Journal:
        return self.manager.journal

    def flush(self) -> None:
        """Send progress now rather than at its turn."""
        assert self.hub._broadcaster is not None
        self.hub._broadcaster._feed._next_at.clear()
        self.hub._broadcaster._flush(urgent_only=False)

    def backlog(self, client: Client) -> tuple[int, int]:
        assert self.hub._sockets is not None
        return self.hub._sockets.backlog(client.sid)

    async def watcher(self, *rooms: str, token: str | None = TOKEN, **auth: Any) -> Watcher:
        watcher = Watcher(self.url, **{"token": token, "v": 1, "caps": ["batch"], **auth})
        self.watchers.append(watcher)
        await watcher.connect()
        if rooms:
            await watcher.subscribe(*rooms)
        return watcher

    async def http(
        self, method: str, path: str, *, token: str | None = TOKEN, body: Any = None, **options: Any
    ) -> tuple[int, Any]:
        headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **options.pop("headers", {})}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.url + path, json=body, headers=headers, **options) as answer,
        ):
            text = await answer.text()
            return answer.status, json.loads(text) if "json" in answer.content_type else text


@contextlib.asynccontextmanager
async def served(
    folder: Path,
    *,
    access: Access | None = None,
    prefix: str = "",
    manager_options: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Served]:
    """Run a hub over a manager of its own, with files in ``folder``."""
    hubs: list[Hub] = []

    def hear(event: Any) -> None:
        for hub in hubs:
            hub.hear(event)

    settings = {"state": folder / "state.db", "on_event": hear, **(manager_options or {})}
    async with DownloadManager(**settings) as manager:
        hub = Hub(manager, access=access or Access(token=TOKEN, viewer_token=VIEWER), **{"root": folder, **options})
        hubs.append(hub)
        app = web.Application()
        hub.attach(app, prefix=prefix)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        serving = Served(hub, manager, f"http://127.0.0.1:{port}{prefix}", folder)
        try:
            yield serving
        finally:
            for watcher in serving.watchers:
                await watcher.close()
            await runner.cleanup()


@contextlib.contextmanager
def command(folder: Path, *words: str, token: str = TOKEN) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run ``resumable serve`` on a free port; yield the process and its address."""
    arguments = ["serve", "--port", "0", "--json", "--state", str(folder / "state.db"), "--root", str(folder), *words]
    process = start(*arguments, cwd=folder, RESUMABLE_TOKEN=token)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise AssertionError(process.communicate(timeout=10)[1])
        yield process, json.loads(line)["url"].rstrip("/")
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=10)
