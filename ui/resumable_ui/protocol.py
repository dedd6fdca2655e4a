"""The conversation with a Socket.IO client: who it is, what it watches, what it asks for (research/ui.md section 8)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from socketio.exceptions import ConnectionRefusedError as RefuseConnection

from resumable import __version__
from resumable_ui.access import Access
from resumable_ui.answers import Answers
from resumable_ui.broadcast import SETTINGS, Broadcaster
from resumable_ui.clients import MOST_ROOMS, Bucket, Client, Role, checked_rooms
from resumable_ui.commands import Commands
from resumable_ui.refusals import Code, Refused
from resumable_ui.sockets import PING_INTERVAL_S, Sockets
from resumable_ui.wire import VERSION

_log = logging.getLogger("resumable_ui.protocol")

Handler = Callable[[Client, Any], Awaitable[Any]]

_HELLO_S: Final = 0.01


class Protocol:
    """Registers itself with the sockets of one hub."""

    def __init__(
        self,
        sockets: Sockets,
        broadcaster: Broadcaster,
        commands: Commands,
        answers: Answers,
        *,
        access: Access,
        max_clients: int,
        time: Callable[[], float],
    ) -> None:
        """``time`` is the epoch's."""
        self._sockets = sockets
        self._broadcaster = broadcaster
        self._commands = commands
        self._answers = answers
        self._access = access
        self._max_clients = max_clients
        self._time = time
        sockets.on("connect", self._connect)
        sockets.on("disconnect", self._disconnect)
        for event, handler in self._handlers().items():
            sockets.on(event, self._guarded(handler))

    def _handlers(self) -> Mapping[str, Handler]:
        return {
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "operation_details": self._details,
            "subscribe_project": self._subscribe_project,
            "unsubscribe_project": self._leave_project,
            "join_project": self._subscribe_project,
            "leave_project": self._leave_project,
            "subscribe_recovery": self._subscribe_recovery,
            "download_action": self._acting("act", self._commands.act_form),
            "bulk_action": self._acting("bulk", self._commands.bulk_form),
            "add_download": self._acting("add", self._commands.add),
        }

    # -- coming and going ----------------------------------------------------------------------------------------------

    async def _connect(self, sid: str, environ: Mapping[str, Any], auth: Any) -> None:
        auth = auth if isinstance(auth, dict) else {}
        role = self._access.role_of(auth.get("token"), headers_of(environ))
        if role is None:
            raise refuse_connection(Code.UNAUTHORIZED.value, "the token is missing or wrong")
        version = auth.get("v")
        if version not in {None, VERSION}:
            raise refuse_connection("version", f"this server speaks version {VERSION}: reload the page")
        if len(self._broadcaster.clients) >= self._max_clients:
            raise refuse_connection(Code.BUSY.value, "too many connections; try again in a moment")
        caps = auth.get("caps")
        client = Client(
            sid,
            role=role,
            batch=version is not None and isinstance(caps, list) and "batch" in caps,
            legacy=version is None,
            rooms={"all"} if version is None else set(),
        )
        self._broadcaster.clients[sid] = client
        asyncio.get_running_loop().call_soon(self._greet, client)

    def _greet(self, client: Client) -> None:
        """Send ``connected``, once the answer to its connect packet is on its way."""
        if self._broadcaster.clients.get(client.sid) is not client:
            return
        if not self._sockets.connected(client.sid):
            asyncio.get_running_loop().call_later(_HELLO_S, self._greet, client)
            return
        data = {
            "data": "Connected to progress tracking",
            "v": VERSION,
            "epoch": self._broadcaster.board.epoch,
            "server_version": __version__,
            "role": client.role.value,
            "ping_interval": PING_INTERVAL_S,
        }
        self._broadcaster.greet(client, data)

    async def _disconnect(self, sid: str, reason: str = "") -> None:  # noqa: ARG002 - the signature of a handler
        self._broadcaster.clients.pop(sid, None)

    def _guarded(self, handler: Handler) -> Callable[..., Awaitable[Any]]:
        """Turn what a handler raises into an acknowledgement: a client must never be left without one."""

        async def handle(sid: str, *data: Any) -> Any:
            client = self._broadcaster.clients.get(sid)
            if client is None:
                return self._refusal(Refused(Code.UNAUTHORIZED, "not connected"), data)
            if not await self._broadcaster.may_be_answered(client):
                return self._refusal(Refused(Code.BUSY, "answers are not read"), data)
            try:
                return await handler(client, data[0] if data else None)
            except Refused as refusal:
                return self._refusal(refusal, data)
            except Exception:  # noqa: BLE001 - the edge to a client: it must be told, and the fault must be seen
                _log.exception("a handler failed")
                return self._refusal(Refused(Code.FAILED, "a fault of the server; its log says more"), data)

        return handle

    @staticmethod
    def _refusal(refusal: Refused, data: tuple[Any, ...]) -> dict[str, Any]:
        answer: dict[str, Any] = {"ok": False, "error": refusal.to_wire()}
        if data and isinstance(data[0], dict) and isinstance(data[0].get("request_id"), str):
            answer["request_id"] = data[0]["request_id"]
        return answer

    # -- watching ------------------------------------------------------------------------------------------------------

    async def _subscribe(self, client: Client, data: Any) -> dict[str, Any]:
        rooms = checked_rooms(data.get("rooms") if isinstance(data, dict) else None)
        if rooms is None:
            raise Refused(Code.BAD_REQUEST, "rooms must be a list of all, recovery, project:ID or download:ID")
        self._pace(client.snapshots)
        # No await between joining and reading: nothing can fall between snapshot and events.
        self._join(client, rooms)
        client.flow.skipping = False
        return self._broadcaster.snapshot(client)

    @staticmethod
    def _join(client: Client, rooms: Iterable[str]) -> None:
        if not client.join(rooms):
            raise Refused(Code.BAD_REQUEST, f"at most {MOST_ROOMS} rooms; watch all, or leave some")

    @staticmethod
    def _pace(bucket: Bucket) -> None:
        if not bucket.take(asyncio.get_running_loop().time()):
            raise Refused(Code.RATE_LIMITED, "too many questions at once; wait a second")

    async def _unsubscribe(self, client: Client, data: Any) -> dict[str, Any]:
        rooms = checked_rooms(data.get("rooms") if isinstance(data, dict) else None)
        if rooms is None:
            raise Refused(Code.BAD_REQUEST, "rooms must be a list")
        client.rooms -= rooms
        return {"ok": True}

    async def _subscribe_project(self, client: Client, data: Any) -> dict[str, Any]:
        """The source application's: an object or a bare id; answers with the present state and an acknowledgement."""
        room = _project_room(data)
        self._pace(client.looks)
        self._join(client, [room])
        board = self._broadcaster.board
        ids = [view.download_id for view in board.views() if f"project:{view.project_id}" == room]
        self._broadcaster.send_state(client, ids)
        return {"ok": True, **board.snapshot([room], self._time()), "settings": SETTINGS}

    async def _leave_project(self, client: Client, data: Any) -> dict[str, Any]:
        client.rooms.discard(_project_room(data))
        return {"ok": True}

    async def _subscribe_recovery(self, client: Client, _data: Any) -> dict[str, Any]:
        return await self._subscribe(client, {"rooms": ["recovery"]})

    # -- asking --------------------------------------------------------------------------------------------------------

    async def _details(self, client: Client, data: Any) -> dict[str, Any]:
        name = data.get("operation_id") if isinstance(data, dict) else None
        if not isinstance(name, str):
            raise Refused(Code.BAD_REQUEST, "operation_id must be a text")
        self._pace(client.looks)
        return {"ok": True, **await self._commands.details(name)}

    def _acting(self, what: str, work: Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]) -> Handler:
        async def act(client: Client, data: Any) -> dict[str, Any]:
            if client.role is not Role.OPERATOR:
                raise Refused(Code.FORBIDDEN, "this token may look, not act")
            if not client.actions.take(asyncio.get_running_loop().time()):
                raise Refused(Code.RATE_LIMITED, "too many actions at once; wait a second")
            if not isinstance(data, dict):
                raise Refused(Code.BAD_REQUEST, "an object is needed")
            answer = await self._answers.once(what, data, lambda: work(data))
            return {"ok": True, "request_id": data.get("request_id"), **answer}

        return act


def refuse_connection(code: str, message: str) -> RefuseConnection:
    """Return the exception that becomes ``connect_error`` with ``data.code`` at the client."""
    error = RefuseConnection(message, {"code": code, "message": message})
    error.error_args["code"] = code
    return error


def headers_of(environ: Mapping[str, Any]) -> dict[str, str]:
    """Return the request's headers, names in lower case, from a WSGI environment."""
    return {
        name[len("HTTP_") :].replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }


def _project_room(data: Any) -> str:
    name = data.get("project_id") if isinstance(data, dict) else data
    room = f"project:{name}"
    if not isinstance(name, str) or checked_rooms([room]) is None:
        raise Refused(Code.BAD_REQUEST, "project_id must be a text")
    return room
