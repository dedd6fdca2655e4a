"""The one place that knows the inside of python-socketio and python-engineio (tests/test_hub_sockets.py pins it).

What the public API lacks: the length of a client's queue, sending one encoded packet to many, dropping a connection at
once, and refusing what no client of ours sends. Everything else of the hub sees ``Sockets`` only.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import socketio
from aiohttp import web
from engineio.async_drivers import aiohttp as aiohttp_driver
from engineio.async_drivers import asgi as asgi_driver
from engineio.packet import MESSAGE
from engineio.packet import Packet as EnginePacket
from socketio.packet import ACK, CONNECT, DISCONNECT, EVENT, Packet

LARGEST_PACKET: Final = 64 << 10
"""Bytes a client may send at once; ours sends a few hundred."""
PING_INTERVAL_S: Final = 10
PING_TIMEOUT_S: Final = 10
UNKNOWN_S: Final = 10.0
"""How long a connection may stay without having said who it is."""

_RESERVED: Final = frozenset({"connect", "disconnect"})
_LONGEST_CONTROL: Final = 16

# Never below WARNING, whatever the application's logging says: at INFO both log whole packets, tokens among them.
_log = logging.getLogger("resumable_ui.sockets")
_log.setLevel(logging.WARNING)


class StrictPacket(Packet):  # type: ignore[misc] # the stubs have no type for it
    """A Socket.IO packet that holds JSON, and that a client of ours might have sent."""

    uses_binary_events = False  # looking for bytes in a snapshot costs more than encoding it

    def decode(self, encoded_packet: Any) -> int:
        """Take a packet apart; raise ValueError for one that is not to be acted upon."""
        if not isinstance(encoded_packet, str) or encoded_packet[:1] not in {"0", "1", "2", "3"}:
            raise ValueError("not a packet of JSON")
        super().decode(encoded_packet)
        if self.namespace not in {None, "/"}:
            raise ValueError("no such namespace")
        if self.packet_type in {EVENT, ACK} and not isinstance(self.data, list):
            raise ValueError("not an event")
        if self.packet_type == EVENT and not (self.data and isinstance(self.data[0], str)):
            raise ValueError("an event without a name")
        if self.packet_type == EVENT and self.data[0] in _RESERVED:
            raise ValueError("an event of the server's own")
        if self.packet_type in {CONNECT, DISCONNECT} and not isinstance(self.data, (dict, type(None))):
            raise ValueError("not what a client connects with")
        return 0


class StrictServer(socketio.AsyncServer):  # type: ignore[misc]
    """The server, with malformed packets ending their connection instead of filling the log."""

    async def _handle_eio_message(self, eio_sid: str, data: Any) -> None:
        try:
            await super()._handle_eio_message(eio_sid, data)
        except (ValueError, RecursionError, TypeError, KeyError) as error:
            _log.warning("malformed packet (%s): connection closed", type(error).__name__)
            socket = self.eio.sockets.get(eio_sid)
            if socket is not None:
                await _abort(socket)

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        await super()._handle_eio_disconnect(eio_sid, reason)
        socket = self.eio.sockets.get(eio_sid)
        if socket is not None:
            # A client that has said goodbye would otherwise wait for the end of its own long poll, for 20 s.
            socket.queue.put_nowait(None)


def _readable(message: Any) -> str:
    """Return a frame that the engine can decode without an exception; raise OSError, which ends the connection."""
    if not isinstance(message, str) or message[:1] not in {"1", "2", "3", "4", "5", "6"}:
        raise OSError("not an Engine.IO packet")
    if message[0] == "4":
        if message[1:2] not in {"0", "1", "2", "3"}:
            raise OSError("not a Socket.IO packet")
    elif len(message) > _LONGEST_CONTROL:
        raise OSError("an Engine.IO packet that is too long")
    return message


class _AiohttpWebSocket(aiohttp_driver.WebSocket):  # type: ignore[misc]
    """The driver's, without compression: on loopback it costs more than the bytes, and 10 clients pay 10 times."""

    async def __call__(self, environ: Any) -> Any:
        request = environ["aiohttp.request"]
        self.handler.__self__.transport = request.transport  # for _abort
        self._sock = web.WebSocketResponse(max_msg_size=LARGEST_PACKET, compress=False)
        await self._sock.prepare(request)
        self.environ = environ
        await self.handler(self)
        return self._sock

    async def wait(self) -> str:
        return _readable(await super().wait())


class _AsgiWebSocket(asgi_driver.WebSocket):  # type: ignore[misc]
    async def wait(self) -> str:
        return _readable(await super().wait())


class Outbox(asyncio.Queue[Any]):
    """The queue of one client, which knows how much is in it: that is asked for each packet and client."""

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self.size = 0
        """Characters."""

    def _put(self, item: Any) -> None:
        super()._put(item)
        self.size += _length(item)

    def _get(self) -> Any:
        item = super()._get()
        self.size -= _length(item)
        return item


def _length(packet: Any) -> int:
    return len(packet.data) if packet is not None and packet.data else 0


class Sockets:
    """All connections of one hub."""

    def __init__(self, mode: str, *, manager: Any = None) -> None:
        """``mode`` is ``aiohttp`` or ``asgi``; ``manager`` a client manager of python-socketio, such as Redis'."""
        self.server = StrictServer(
            async_mode=mode,
            client_manager=manager,
            serializer=StrictPacket,
            cors_allowed_origins=[],  # not "any": no CORS headers at all; the origin was checked before (access.py)
            transports=["websocket", "polling"],
            ping_interval=PING_INTERVAL_S,
            ping_timeout=PING_TIMEOUT_S,
            max_http_buffer_size=LARGEST_PACKET,
            http_compression=False,
            logger=_log,
            engineio_logger=_log,
        )
        self._manager = manager
        driver = {"aiohttp": _AiohttpWebSocket, "asgi": _AsgiWebSocket}[mode]
        engine: Any = self.server.eio
        engine._async = {**engine._async, "websocket": driver}  # noqa: SLF001
        engine.create_queue = Outbox
        self._engine = engine
        self._first_seen: dict[str, float] = {}
        self._closed = False

    def on(self, event: str, handler: Callable[..., Awaitable[Any]]) -> None:
        """Call ``handler(sid, data)`` for an event; what it returns is the acknowledgement."""
        self.server.on(event, handler)

    async def handle(self, *request: Any) -> Any:
        """Answer a request to the socket's path, in the form of the mode."""
        return await self.server.handle_request(*request)

    def count(self) -> int:
        """Return how many connections there are, those that have not said who they are among them."""
        return len(self._engine.sockets)

    def strangers(self) -> int:
        """Return how many of them poll and have not said who they are."""
        known = {self._engine_sid(sid) for sid in self._participants()}
        return sum(not socket.upgraded and name not in known for name, socket in self._engine.sockets.items())

    def connected(self, sid: str) -> bool:
        """Return whether a client has been let in and has been told so."""
        return bool(self.server.manager.is_connected(sid, "/"))

    def backlog(self, sid: str) -> tuple[int, int]:
        """Return the packets and characters that wait for a client to read them."""
        socket = self._socket(sid)
        return (0, 0) if socket is None else (socket.queue.qsize(), socket.queue.size)

    def send(self, sids: Iterable[str], message: str) -> None:
        """Queue one encoded event for each of the clients; those that are gone are passed over."""
        packet = EnginePacket(MESSAGE, message)
        for sid in sids:
            socket = self._socket(sid)
            if socket is not None and not socket.closed:
                socket.queue.put_nowait(packet)

    async def drop(self, sid: str) -> None:
        """End a connection at once, unread packets and all."""
        socket = self._socket(sid)
        if socket is not None:
            await _abort(socket)

    async def reap(self) -> None:
        """End the connections that have not said who they are for too long; call it every second or so."""
        now = time.monotonic()
        known = {self._engine_sid(sid) for sid in self._participants()}
        unknown = [name for name in self._engine.sockets if name not in known]
        self._first_seen = {name: self._first_seen.get(name, now) for name in unknown}
        for name, since in self._first_seen.items():
            if now - since > UNKNOWN_S and name in self._engine.sockets:
                await _abort(self._engine.sockets[name])
                self._engine.sockets.pop(name, None)

    async def close(self) -> None:
        """End every connection at once (a graceful end would wait for each client: 44 s with one open page)."""
        if self._closed:
            return
        self._closed = True
        for socket in list(self._engine.sockets.values()):
            await _abort(socket)
        await self.server.shutdown()
        if self._manager is not None:
            await self._manager.close()

    def _participants(self) -> list[str]:
        return [sid for sid, _ in self.server.manager.get_participants("/", None)]

    def _engine_sid(self, sid: str) -> str | None:
        found: str | None = self.server.manager.eio_sid_from_sid(sid, "/")
        return found

    def _socket(self, sid: str) -> Any:
        name = self._engine_sid(sid)
        return None if name is None else self._engine.sockets.get(name)


async def _abort(socket: Any) -> None:
    await socket.close(wait=False, abort=True)
    while not socket.queue.empty():
        socket.queue.get_nowait()
    # The writer waits for its queue for up to 20 s: None tells it to end.
    socket.queue.put_nowait(None)
    # And one that waits for a client that reads nothing would do so for 10 s more.
    transport = getattr(socket, "transport", None)
    if transport is not None:
        transport.abort()


def event_message(event: str, data: str) -> str:
    """Return an event packet of Socket.IO protocol v5 for data that is JSON already."""
    return f"{EVENT}[{json.dumps(event)},{data}]"
