"""One connection of the test origin: reads requests, sends answers byte by exact byte, and breaks off as told."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.origin_answer import Answer, Seen, head
from tests.origin_behaviour import Behaviour, End, Framing

GONE = (OSError, ssl.SSLError, ValueError)
"""What a socket raises once either side has closed it (ValueError: a closed one has no descriptor)."""
_STEP = 1 << 20
_CHUNK = 64 * 1024
_LINGER_S = 1.0


class Hang(Exception):  # noqa: N818 - an order, not an error
    """The connection is to be ended now."""

    def __init__(self, end: End) -> None:
        super().__init__(end)
        self.end = end


@dataclass(frozen=True, slots=True)
class Head:
    """A request's head."""

    method: str
    target: str
    version: str
    headers: dict[str, str] = field(repr=False)

    @property
    def path(self) -> str:
        """The target without its query, and without the origin that a proxy is told."""
        path = self.target.partition("?")[0]
        return "/" + path.split("://", 1)[1].partition("/")[2] if "://" in path else path


class Wire:
    """A connection, used by one thread; ``drop`` and ``stop`` may be called from others."""

    def __init__(self, connection: socket.socket, number: int, changed: threading.Condition) -> None:
        self.number = number
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connection
        self._changed = changed
        self._buffer = b""
        self._dropped = False
        self._stopped = threading.Event()

    def secure(self, tls: ssl.SSLContext) -> None:
        """Shake hands."""
        self._socket = tls.wrap_socket(self._socket, server_side=True)

    def read_head(self) -> Head | None:
        """Return the next request, None when the peer has closed."""
        while b"\r\n\r\n" not in self._buffer:
            data = self._socket.recv(65536)
            self._check()
            if not data or len(self._buffer) > 1 << 20:
                return None
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = text.decode("latin-1").split("\r\n")
        method, target, version = first.split(" ", 2)
        pairs = (line.partition(":") for line in lines)
        return Head(method, target, version, {name.lower(): value.strip() for name, _, value in pairs})

    def respond(
        self, seen: Seen, answer: Callable[[], Answer], behaviour: Behaviour, released: threading.Event, request: Head
    ) -> bool:
        """Send the answer; whether the connection may be used again. Raises Hang when it is to be broken."""
        self._wait(behaviour.latency_s)
        if behaviour.hang_up is not None:
            raise Hang(behaviour.hang_up)
        if behaviour.raw is not None:
            self._socket.sendall(behaviour.raw)
            raise Hang(End.FIN)
        found = answer()
        seen.status = found.status
        keep = (
            behaviour.framing is not Framing.CLOSE
            and not behaviour.close
            and request.version != "HTTP/1.0"
            and request.headers.get("connection", "").lower() != "close"
        )
        self._send_head(head(found, behaviour, keep_alive=keep), behaviour.drip_head_s)
        if request.method != "HEAD" and found.status not in {204, 304}:
            self._send_body(seen, found, behaviour, released)
            self._socket.sendall(behaviour.after_body)
        return keep

    def send_text(self, status: int, body: bytes) -> None:
        """Send a short answer."""
        self._socket.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    def finish(self, end: End) -> None:
        """End the connection. With FIN the peer gets all that was sent; with RST its kernel may throw it away."""
        with contextlib.suppress(*GONE):
            if end is End.RST or self._dropped:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                self._socket.shutdown(socket.SHUT_WR)
                self._socket.settimeout(_LINGER_S)
                while self._socket.recv(65536):
                    pass
        with contextlib.suppress(*GONE):
            self._socket.close()

    def say_goodbye(self) -> None:
        """Over TLS, tell the peer that nothing more comes, so that it can tell the end from a cut."""
        if isinstance(self._socket, ssl.SSLSocket):
            self._socket.settimeout(_LINGER_S)
            with contextlib.suppress(*GONE):
                self._socket.unwrap()

    def drop(self) -> None:
        """Reset the connection as soon as its thread notices: at once when idle, after the running send when not."""
        self._dropped = True
        with contextlib.suppress(*GONE):
            self._socket.shutdown(socket.SHUT_RD)

    def stop(self) -> None:
        """Wake the thread wherever it waits."""
        self._stopped.set()
        self._dropped = True
        with contextlib.suppress(*GONE):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _check(self) -> None:
        if self._dropped:
            raise Hang(End.RST)

    def _wait(self, seconds: float) -> None:
        if seconds > 0 and self._stopped.wait(seconds):
            raise Hang(End.RST)
        self._check()

    def _send_head(self, data: bytes, drip_s: float) -> None:
        if not drip_s:
            self._socket.sendall(data)
            return
        for at in range(len(data)):
            self._socket.sendall(data[at : at + 1])
            self._wait(drip_s)

    def _send_body(self, seen: Seen, found: Answer, behaviour: Behaviour, released: threading.Event) -> None:
        chunked = behaviour.framing is Framing.CHUNKED
        began = time.monotonic()
        for view in _steps(found.body(behaviour.flip_at), behaviour):
            if seen.body_bytes == behaviour.stall_at:
                self._stall(released)
            if seen.body_bytes == behaviour.cut_at:
                raise Hang(behaviour.cut)
            if chunked:
                self._socket.sendall(b"%x\r\n" % len(view))
            self._send_counted(view, seen)
            if chunked:
                self._socket.sendall(b"\r\n")
            if behaviour.rate is not None:
                self._wait(began + seen.body_bytes / behaviour.rate - time.monotonic())
        if seen.body_bytes == behaviour.stall_at:
            self._stall(released)
        if seen.body_bytes == behaviour.cut_at:
            raise Hang(behaviour.cut)
        if chunked:
            self._socket.sendall(b"0\r\n\r\n")

    def _send_counted(self, view: memoryview, seen: Seen) -> None:
        while view:
            sent = self._socket.send(view)
            view = view[sent:]
            with self._changed:
                seen.body_bytes += sent
                self._changed.notify_all()
            self._check()

    def _stall(self, released: threading.Event) -> None:
        while not released.is_set():
            self._check()
            if select.select([self._socket], [], [], 0.02)[0]:
                raise Hang(End.RST)  # the peer has closed; a client that sends more is not in our tests


def _steps(views: Iterator[memoryview], behaviour: Behaviour) -> Iterator[memoryview]:
    """Cut the views where something is to happen, and into what a rate or the chunked framing sends at a time."""
    most = _CHUNK if behaviour.framing is Framing.CHUNKED else _STEP
    if behaviour.rate is not None:
        most = max(1, min(most, behaviour.rate // 50))
    at = 0
    stops = sorted(stop for stop in (behaviour.cut_at, behaviour.stall_at) if stop is not None)
    for whole in views:
        view = whole
        while view:
            size = min([most, *(stop - at for stop in stops if stop > at)])
            yield view[:size]
            at += len(view[:size])
            view = view[size:]
