"""The web hub: shows the downloads of every process that shares a state file, and steers them.

In an application of one's own, with aiohttp or with any ASGI framework, it takes two lines::

    hub = Hub(manager, access=Access(token="..."))
    hub.attach(app, prefix="/downloads")                 # aiohttp.web.Application
    app.mount("/downloads", hub.asgi())                  # Starlette, FastAPI, or any other ASGI application

The manager must be open while the hub runs, which is from the application's start (aiohttp) or the first request
(ASGI) until it stops. ``hub.access.token`` opens the page: ``/downloads/#token=...``.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from msgspec.structs import replace

from resumable.events import DownloadEvent, DownloadView, EventName
from resumable_ui.access import Access, bearer
from resumable_ui.answers import Answers
from resumable_ui.api import Api
from resumable_ui.assets import Assets
from resumable_ui.board import Board
from resumable_ui.broadcast import SETTINGS, Broadcaster
from resumable_ui.clients import Client, Role
from resumable_ui.commands import Commands
from resumable_ui.httpmessage import HttpAnswer, HttpRequest, refusal_answer
from resumable_ui.lookout import Lookout
from resumable_ui.protocol import Protocol
from resumable_ui.refusals import Code, Refused
from resumable_ui.relay import listening_manager
from resumable_ui.shelf import Shelf
from resumable_ui.sockets import Sockets

if TYPE_CHECKING:
    from aiohttp import web

    from resumable.manager import DownloadManager
    from resumable_ui.asgi import AsgiApp

MAX_CLIENTS: Final = 256
RETRY_IN_S: Final = 2
_LEAST_STRANGERS: Final = 8
"""Polling connections that may be there without having said who they are, however few clients are allowed."""

_LEVELS: Final = {EventName.WARNING: "warning", EventName.FAILED: "error"}
_LOGGED: Final = frozenset(EventName) - {EventName.PROGRESS, EventName.QUEUED}


class Hub:
    """One hub over one open manager, for one event loop."""

    def __init__(
        self,
        manager: DownloadManager,
        *,
        access: Access | None = None,
        root: Path | str = ".",
        max_clients: int = MAX_CLIENTS,
        redis: str | None = None,
        legacy_progress: bool = False,
    ) -> None:
        """``access`` None makes a random token; new downloads go below ``root`` only; ``redis`` is the URL of a server
        through which other processes' events may arrive sooner. Nothing is opened before ``start``.
        """
        self.access = access or Access()
        self.max_clients = max_clients
        self._manager = manager
        self._redis = redis
        self._shelf = Shelf(Path(root))
        self._board = _new_board()
        self._answers = Answers(time.monotonic)
        self._legacy_progress = legacy_progress
        self._assets = Assets({})
        self._sockets: Sockets | None = None
        self._broadcaster: Broadcaster | None = None
        self._commands: Commands | None = None
        self._lookout: Lookout | None = None
        self._api: Api | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._starting: asyncio.Future[None] | None = None
        self._mode = "aiohttp"

    # -- life ----------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read the state file and begin to follow it; may be called by several, and begins once. Where it fails, the
        next call tries again: a manager that is not open yet may be by then.
        """
        failed = self._starting is not None and self._starting.done() and not _went_well(self._starting)
        if self._starting is None or failed:
            self._starting = asyncio.ensure_future(self._start())
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        self._board = _new_board()  # what an earlier life of this hub knew may be forgotten by now
        self._assets = await asyncio.to_thread(Assets.load)
        redis = None if self._redis is None else listening_manager(self._redis, self.hint)
        self._sockets = Sockets(self._mode, manager=redis)
        self._broadcaster = Broadcaster(
            self._board, self._sockets, time=time.time, legacy_progress=self._legacy_progress
        )
        self._commands = Commands(self._manager, self._board, self._shelf, show=self._broadcaster.show)
        self._api = Api(
            self._board,
            self._commands,
            self._answers,
            time=time.time,
            monotonic=time.monotonic,
            settings=SETTINGS,
        )
        Protocol(
            self._sockets,
            self._broadcaster,
            self._commands,
            self._answers,
            access=self.access,
            max_clients=self.max_clients,
            time=time.time,
        )
        self._lookout = Lookout(self._manager, self._broadcaster)
        await self._lookout.load()
        self._tasks = [
            asyncio.create_task(self._broadcaster.run(), name="hub broadcast"),
            asyncio.create_task(self._lookout.run(), name="hub lookout"),
        ]

    async def stop(self) -> None:
        """Say goodbye and end every connection, in a fraction of a second."""
        if self._starting is None:
            return
        await asyncio.wait({self._starting})
        if self._broadcaster is not None:
            self._broadcaster.tell("server_shutdown", {"retry_in": RETRY_IN_S}, lambda _client: True)
            await asyncio.sleep(0.05)  # for the writers to hand it to the network
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._commands is not None:
            await self._commands.close()
        if self._sockets is not None:
            await self._sockets.close()
        self._starting = None

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()

    # -- attaching -----------------------------------------------------------------------------------------------------

    def attach(self, app: web.Application, prefix: str = "") -> None:
        """Serve below ``prefix`` of an aiohttp application; it starts and stops with that."""
        from resumable_ui.aiohttpapp import attach

        self._mode = "aiohttp"
        attach(self, app, prefix)

    def asgi(self, other: AsgiApp | None = None, *, prefix: str = "") -> AsgiApp:
        """Return an ASGI application; what is not below ``prefix`` goes to ``other``."""
        from resumable_ui.asgi import make_app

        self._mode = "asgi"
        return make_app(self, other, prefix)

    # -- answering -----------------------------------------------------------------------------------------------------

    async def answer(self, request: HttpRequest) -> HttpAnswer:
        """Return the answer to a request that is not the socket's; never raises Refused."""
        try:
            self.check(request)
            page = self._page(request)
            if page is not None:
                return page
            assert self._api is not None
            route, variables = self._api.route(request.method, request.path)
            role = self._require(route.role, request.headers)
            return await self._api.answer(route, replace(request, role=role), variables)
        except Refused as refusal:
            return refusal_answer(refusal)

    def check(self, request: HttpRequest) -> None:
        """Raise Refused for a request by a name that is not ours, or of a page of another site."""
        headers = request.headers
        if not self.access.host_allowed(headers.get("host")):
            raise Refused(
                Code.FORBIDDEN, "this server does not answer to that host name (resumable serve --allow-host)"
            )
        # A page may be opened by a link from anywhere; reading or steering is for pages of ours.
        if not self.access.origin_allowed(headers.get("origin"), headers.get("host")):
            raise Refused(Code.FORBIDDEN, "pages of other sites may not speak to this server")
        speaks = request.path.startswith(("/api/", "/socket.io"))
        if speaks and not self.access.site_allowed(headers):
            raise Refused(Code.FORBIDDEN, "pages of other sites may not speak to this server")

    def check_socket(self, request: HttpRequest) -> None:
        """Raise Refused for a socket's request that must not reach python-socketio."""
        self.check(request)
        assert self._sockets is not None
        if request.parameter("sid") is not None:
            return
        # Polling, which any page can begin in its visitor's browser, must not take the room of websockets.
        polls = request.parameter("transport") != "websocket"
        most_strangers = max(_LEAST_STRANGERS, self.max_clients // 4)
        if (polls and self._sockets.strangers() >= most_strangers) or self._sockets.count() >= 2 * self.max_clients:
            raise Refused(Code.BUSY, "too many connections; try again in a moment")

    async def socket(self, *request: Any) -> Any:
        """Hand a checked request to python-socketio, in the form of the mode."""
        assert self._sockets is not None
        return await self._sockets.handle(*request)

    def _require(self, needed: Role | None, headers: Mapping[str, str]) -> Role | None:
        if needed is None:
            return None
        role = self.access.role_of(bearer(headers), headers)
        if role is None:
            raise Refused(Code.UNAUTHORIZED, "the token is missing or wrong (Authorization: Bearer TOKEN)")
        if needed is Role.OPERATOR and role is not Role.OPERATOR:
            raise Refused(Code.FORBIDDEN, "this token may look, not act")
        return role

    def _page(self, request: HttpRequest) -> HttpAnswer | None:
        if request.path.startswith("/api/"):
            return None
        if request.method not in {"GET", "HEAD"}:
            raise Refused(Code.METHOD_NOT_ALLOWED, "only GET is possible here")
        path = request.path.removeprefix("/static").lstrip("/") or "index.html"
        found = self._assets.answer(path, request.headers.get("if-none-match", ""))
        if found is None:
            raise Refused(Code.NOT_FOUND, "there is nothing at this address")
        return found

    def show(self, view: DownloadView) -> None:
        """Take news of a download from wherever they come; older ones than are known change nothing."""
        if self._broadcaster is not None:
            self._broadcaster.show(view)

    def hint(self, view: DownloadView) -> None:
        """Take what somebody says of a download, if that is the process that runs it by the state file."""
        known = self._board.view(view.download_id)
        if known is not None and view.owner and view.owner == known.owner and self._broadcaster is not None:
            self._broadcaster.show(view)
            self._broadcaster.flush_soon()

    @property
    def clients(self) -> list[Client]:
        """Who is connected and let in."""
        return [] if self._broadcaster is None else list(self._broadcaster.clients.values())

    @property
    def connections(self) -> int:
        """How many connections there are, those that have not said who they are among them."""
        return 0 if self._sockets is None else self._sockets.count()

    @property
    def assets(self) -> Assets:
        """The page's files."""
        return self._assets

    # -- hearing -------------------------------------------------------------------------------------------------------

    def hear(self, event: DownloadEvent) -> None:
        """Take an event of the manager, sooner than the state file has it: ``DownloadManager(on_event=hub.hear)``."""
        broadcaster = self._broadcaster
        if broadcaster is None or self._lookout is None:
            return
        view = event.view
        self._lookout.heard(view.download_id)
        broadcaster.show(view)
        if event.event in _LOGGED and (event.message or event.event is not EventName.VERIFYING):
            level = _LEVELS.get(event.event, "info")
            data = {"download_id": view.download_id, "event": event.event.value, "filename": view.filename}
            broadcaster.log_entry(view.project_id, level, event.message or event.event.value, data)


def _went_well(future: asyncio.Future[None]) -> bool:
    return not future.cancelled() and future.exception() is None


def _new_board() -> Board:
    return Board(epoch=secrets.token_hex(6), rev=int(time.time() * 1000))
