"""A scripted, hostile origin for tests: real sockets, its own threads, every request on record.

It runs beside the test, one thread per connection, so that a blocked test loop does not stop it and each byte sent is
counted exactly (asyncio's transports would count what they only buffer; raw asyncio sockets cannot speak TLS)::

    content = Content(64 << 20, seed=1)
    with Origin() as origin:
        origin.put("/file", content, Behaviour(cut_at=6 << 20), script=[Behaviour(status=503, retry_after=2)])
        ...  # download origin.url("/file")
        assert [one.range for one in origin.seen("/file")] == [...]
        assert origin.body_bytes_sent("/file") <= content.size + (1 << 20)

As a process of its own (for benchmarks, and clients that are processes), steered by JSON lines on standard input::

    python -m tests.origin --put '{"path": "/file", "size": 1073741824, "seed": 1, "behaviour": {"rate": 10000000}}'
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self

from tests.origin_answer import Seen, answer, http_date
from tests.origin_behaviour import Behaviour, End, Framing, Gzip, Ranges, Validator
from tests.origin_content import Content, FixedContent
from tests.origin_wire import GONE, Hang, Wire

__all__ = [
    "Behaviour",
    "Content",
    "End",
    "FixedContent",
    "Framing",
    "Gzip",
    "Origin",
    "Ranges",
    "Seen",
    "Validator",
    "http_date",
]

_RECORD = "/-/requests"
"""Where a client in another process reads the record, as JSON."""


@dataclass(slots=True)
class _Place:
    content: Content
    behaviour: Behaviour
    script: Sequence[Behaviour]
    requests: int = 0
    active: int = 0

    def next(self) -> Behaviour:
        self.requests += 1
        return self.script[self.requests - 1] if self.requests <= len(self.script) else self.behaviour


class Origin:
    """A server on loopback. Everything may be called from any thread, also while requests are under way."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        """Listen at once; answers begin with ``start`` or the ``with`` block. ``tls`` makes it https."""
        self.host = host
        self._tls = tls
        self._places: dict[str, _Place] = {}
        self._seen: list[Seen] = []
        self._wires: set[Wire] = set()
        self.connections = 0
        """TCP connections accepted so far."""
        self._changed = threading.Condition()
        self._released = threading.Event()
        self._valid_since = 0.0
        self._listener: socket.socket | None = None
        self._listen(port)

    # -- what is served ------------------------------------------------------------------------------------------

    def put(
        self,
        path: str,
        content: Content | bytes = b"",
        behaviour: Behaviour | None = None,
        *,
        script: Iterable[Behaviour] = (),
    ) -> None:
        """Serve ``content`` at ``path``: each request by one step of ``script``, then all by ``behaviour``."""
        body = FixedContent(content) if isinstance(content, bytes) else content
        with self._changed:
            self._places[path] = _Place(body, behaviour or Behaviour(), tuple(script))

    def replace(self, path: str, content: Content | bytes) -> None:
        """Serve other content at ``path`` from now on, also in bodies under way; its validators change with it."""
        with self._changed:
            self._places[path].content = FixedContent(content) if isinstance(content, bytes) else content

    def behave(self, path: str, behaviour: Behaviour) -> None:
        """Answer requests to ``path`` by ``behaviour`` from now on; what is left of the script is dropped."""
        with self._changed:
            place = self._places[path]
            place.behaviour, place.script = behaviour, ()

    def expire_links(self) -> None:
        """Make every signed link to this origin that was given out so far invalid."""
        self._valid_since = time.time()

    # -- where ---------------------------------------------------------------------------------------------------

    def url(self, path: str = "/", *, host: str | None = None, login: str = "") -> str:
        """Return the address of ``path``; ``host`` is another name for this machine, ``login`` is ``user:password``."""
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{login}{'@' if login else ''}{host or self.host}:{self.port}{path}"

    # -- what happened -------------------------------------------------------------------------------------------

    @property
    def requests(self) -> list[Seen]:
        """Every request so far, in order of arrival."""
        with self._changed:
            return list(self._seen)

    def seen(self, path: str) -> list[Seen]:
        """Return the requests to ``path``."""
        return [one for one in self.requests if one.path == path]

    def body_bytes_sent(self, path: str | None = None) -> int:
        """Return the body bytes that the kernel took, of one path or of all."""
        return sum(one.body_bytes for one in self.requests if path is None or one.path == path)

    @property
    def open_connections(self) -> int:
        """TCP connections open now."""
        with self._changed:
            return len(self._wires)

    def clear(self) -> None:
        """Forget the requests on record; scripts go on where they are."""
        with self._changed:
            self._seen.clear()

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Block until ``condition`` holds, looked at whenever something happens here; fails when it never does."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout_s):
                msg = f"not within {timeout_s} s; requests so far: {self._seen}"
                raise AssertionError(msg)

    async def until(self, condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Wait as ``wait_for`` does, without blocking the loop."""
        await asyncio.to_thread(self.wait_for, condition, timeout_s)

    # -- trouble on command --------------------------------------------------------------------------------------

    def release(self) -> None:
        """Let everything that is stalled go on."""
        self._released.set()
        self._released = threading.Event()

    def drop(self) -> None:
        """Reset every open connection."""
        with self._changed:
            wires = list(self._wires)
        for wire in wires:
            wire.drop()

    def refuse(self) -> None:
        """Close the listening socket: connecting gets ECONNREFUSED until ``accept`` is called."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def accept(self) -> None:
        """Listen again, on the same port."""
        if self._listener is None:
            self._listen(self.port)
            self.start()

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Begin to answer."""
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Close everything."""
        self.refuse()
        with self._changed:
            wires = list(self._wires)
        for wire in wires:
            wire.stop()
        self.wait_for(lambda: not self._wires, 10)

    def __enter__(self) -> Self:
        """Begin to answer."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything."""
        self.stop()

    def _listen(self, port: int) -> None:
        self._listener = socket.create_server((self.host, port), backlog=512)
        self.port: int = self._listener.getsockname()[1]

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # closed by refuse()
            with self._changed:
                self.connections += 1
                wire = Wire(connection, self.connections, self._changed)
                self._wires.add(wire)
            threading.Thread(target=self._connection, args=(wire,), daemon=True).start()

    def _connection(self, wire: Wire) -> None:
        end = End.FIN
        try:
            if self._tls is not None:
                wire.secure(self._tls)
            while self._exchange(wire):
                pass
            wire.say_goodbye()
        except Hang as told:
            end = told.end
        except GONE:
            end = End.RST
        finally:
            wire.finish(end)
            with self._changed:
                self._wires.discard(wire)
                self._changed.notify_all()

    def _exchange(self, wire: Wire) -> bool:
        request = wire.read_head()
        if request is None:
            return False
        if request.path == _RECORD:
            wire.send_text(200, json.dumps([asdict(one) for one in self.requests]).encode())
            return True
        with self._changed:
            place = self._places.get(request.path) or _Place(FixedContent(b""), Behaviour(status=404), ())
            behaviour = place.next()
            place.active += 1
            if behaviour.most_active is not None and place.active > behaviour.most_active:
                behaviour = Behaviour(status=behaviour.refusal, retry_after=behaviour.retry_after)
            seen = Seen(
                number=place.requests,
                method=request.method,
                target=request.target,
                path=request.path,
                headers=request.headers,
                connection=wire.number,
                at=time.monotonic(),
            )
            self._seen.append(seen)
            released = self._released
            self._changed.notify_all()
        try:
            found = partial(answer, seen, place.content, behaviour, self._valid_since)
            return wire.respond(seen, found, behaviour, released, request)
        finally:
            with self._changed:
                seen.done = True
                seen.ended_at = time.monotonic()
                place.active -= 1
                self._changed.notify_all()


def _main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--put", action="append", default=[], type=json.loads, help="a JSON object, see above")
    parser.add_argument("--certificate", help="PEM file with key and certificate: speak TLS")
    options = parser.parse_args(arguments)
    tls = None
    if options.certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.certificate)
    with Origin(host=options.host, port=options.port, tls=tls) as origin:
        for command in options.put:
            _obey(origin, {"put": command})
        print(json.dumps({"port": origin.port, "url": origin.url("")}), flush=True)
        for line in sys.stdin:
            _obey(origin, json.loads(line))
            print("{}", flush=True)


def _obey(origin: Origin, command: dict[str, Any]) -> None:
    (name, value), *_ = command.items()
    if name in {"put", "replace"}:
        content = Content(value["size"], value.get("seed", 0))
        if name == "replace":
            origin.replace(value["path"], content)
            return
        script = [Behaviour.from_json(one) for one in value.get("script", ())]
        origin.put(value["path"], content, Behaviour.from_json(value.get("behaviour", {})), script=script)
    elif name in {"release", "drop", "refuse", "accept", "expire_links", "clear"}:
        getattr(origin, name)()
    else:
        msg = f"no such command: {name}"
        raise ValueError(msg)


if __name__ == "__main__":
    _main(sys.argv[1:])
