"""A small HTTP proxy for tests: tunnels CONNECT, forwards GET, keeps a record, and can be told to fail."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Asked:
    """One request to the proxy."""

    method: str
    target: str
    headers: dict[str, str]


class Proxy:
    """Listens on loopback; wants ``login`` as Proxy-Authorization; answers ``status``, if given, instead of working."""

    def __init__(self, *, login: str | None = None, status: int | None = None, cut_at: int | None = None) -> None:
        """Listen at once; ``cut_at`` breaks each connection after so many bytes towards the client."""
        self.requests: list[Asked] = []
        self._login = login
        self._status = status
        self._cut_at = cut_at
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        """Begin to serve."""
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything."""
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._handle, args=(client,), daemon=True).start()

    def _handle(self, client: socket.socket) -> None:
        self._sockets.add(client)
        with contextlib.suppress(OSError, ValueError), client:
            head = b""
            while b"\r\n\r\n" not in head:
                data = client.recv(65536)
                if not data:
                    return
                head += data
            first, *lines = head.decode("latin-1").split("\r\n\r\n")[0].split("\r\n")
            method, target, _ = first.split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            self.requests.append(Asked(method, target, headers))
            status = self._status
            if self._login is not None and headers.get("proxy-authorization") != self._login:
                status = 407
            if status is not None:
                client.sendall(f"HTTP/1.1 {status} No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n".encode())
                return
            self._pass_on(client, method, target, lines)

    def _pass_on(self, client: socket.socket, method: str, target: str, lines: list[str]) -> None:
        where = urlsplit(f"//{target}" if method == "CONNECT" else target)
        with socket.create_connection((where.hostname or "", where.port or 80)) as origin:
            self._sockets.add(origin)
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Established\r\n\r\n")
            else:
                path = where._replace(scheme="", netloc="").geturl()
                kept = [line for line in lines if not line.lower().startswith("proxy-")]
                origin.sendall("\r\n".join([f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""]).encode())
            threading.Thread(target=_pump, args=(client, origin, None), daemon=True).start()
            _pump(origin, client, self._cut_at)
            # Another thread may be in recv(): only a shutdown wakes it.
            for one in (origin, client):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)


def _pump(source: socket.socket, sink: socket.socket, most: int | None) -> None:
    with contextlib.suppress(OSError):
        passed = 0
        while most is None or passed < most:
            data = source.recv(65536 if most is None else min(65536, most - passed))
            if not data:
                return
            sink.sendall(data)
            passed += len(data)
