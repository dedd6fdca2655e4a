"""Public fakes for the tests of programs that use this package, and for our own: no socket, no disk, no clock.

``ScriptedTransport`` is an origin in memory. It answers as a good server would, unless its script says otherwise::

    script = [Reply(cut_after=1000), Reply(status=503, headers={"retry-after": "2"})]
    transport = ScriptedTransport(content, script=script)

The first request gets 1,000 bytes and a broken connection, the second a 503, every later one what it asks for.

``MemoryFolder`` is a disk, ``MemoryPartFile`` and ``MemoryFinishedFile`` are what stands there, ``MemoryCheckpoints``
is a store of one download: the engine's other ports, for tests of it and of adapters that are not ours.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from msgspec import Struct, field

from resumable.errors import Interrupted, Stalled
from resumable.ports import Fetch, Hop, Response
from resumable.redact import redact_url
from resumable.testing_checkpoints import MemoryCheckpoints
from resumable.testing_partfile import MemoryFinishedFile, MemoryFolder, MemoryPartFile

__all__ = [
    "MemoryCheckpoints",
    "MemoryFinishedFile",
    "MemoryFolder",
    "MemoryPartFile",
    "Reply",
    "ScriptedTransport",
]

_RANGE: Final = re.compile(r"bytes=([0-9]+)-([0-9]*)")


class Reply(Struct, frozen=True, kw_only=True):
    """How one request is answered. What is not given is what a good server would do."""

    status: int | None = None
    """Given without ``body``, the answer has an empty one."""
    headers: Mapping[str, str | None] = field(default_factory=dict)
    """Laid over the honest ones, lower-case names; None takes a header away."""
    body: bytes | None = None
    cut_after: int | None = None
    """The connection breaks after this many bytes of the body."""
    stall_after: int | None = None
    """Stalled is raised after this many bytes, at once: no test waits for a timeout."""
    hold_after: int | None = None
    """Nothing more comes after this many bytes until ``until`` is set."""
    until: asyncio.Event | None = None
    hops: tuple[Hop, ...] = ()
    url: str | None = None
    """Address of the final answer, where redirects led to another one."""


class ScriptedTransport:
    """A ``Transport`` that serves ``content`` from memory, by a script; ``content`` and ``etag`` may be replaced."""

    def __init__(
        self,
        content: bytes = b"",
        *,
        etag: str | None = '"v1"',
        last_modified: str | None = None,
        ranges: bool = True,
        script: Iterable[Reply | Exception] = (),
        block_size: int = 64 * 1024,
    ) -> None:
        """Serve ``content``. Each request takes one step of ``script``; an exception there is raised, not answered."""
        self.content = content
        self.etag = etag
        self.last_modified = last_modified
        self.ranges = ranges
        self.script = deque(script)
        self.requests: list[Fetch] = []
        """Every request, the first one first."""
        self.body_bytes = 0
        """Body bytes handed over, over all requests."""
        self.open_answers = 0
        """Answers whose context has not been left."""
        self._block_size = block_size

    @asynccontextmanager
    async def fetch(self, request: Fetch) -> AsyncIterator[Response]:
        """Answer with the next step of the script, or honestly when it is used up."""
        self.requests.append(request)
        step = self.script.popleft() if self.script else Reply()
        await asyncio.sleep(0)
        if isinstance(step, Exception):
            raise step
        self.open_answers += 1
        try:
            yield _ScriptedAnswer(self, request, step, self._block_size)
        finally:
            self.open_answers -= 1

    async def close(self) -> None:
        """Do nothing, like a transport without connections."""

    def honest(self, request: Fetch) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body as RFC 9110 13.1.5 and 14 have them."""
        headers = {"accept-ranges": "bytes" if self.ranges else "none"}
        headers |= {"etag": self.etag} if self.etag is not None else {}
        headers |= {"last-modified": self.last_modified} if self.last_modified is not None else {}
        asked = _RANGE.fullmatch(request.headers.get("range", "")) if self.ranges else None
        condition = request.headers.get("if-range")
        same = condition is None or condition in {self.etag, self.last_modified} - {None}
        if asked is None or not same or (condition or "").startswith("W/"):
            return 200, headers | {"content-length": str(len(self.content))}, self.content
        start, total = int(asked[1]), len(self.content)
        if start >= total:
            return 416, headers | {"content-range": f"bytes */{total}", "content-length": "0"}, b""
        body = self.content[start : int(asked[2]) + 1 if asked[2] else total]
        headers["content-range"] = f"bytes {start}-{start + len(body) - 1}/{total}"
        return 206, headers | {"content-length": str(len(body))}, body


class _ScriptedAnswer:
    def __init__(self, origin: ScriptedTransport, request: Fetch, reply: Reply, block_size: int) -> None:
        status, headers, body = origin.honest(request)
        if reply.status is not None or reply.body is not None:
            body = reply.body or b""
            headers["content-length"] = str(len(body))
        if reply.status is not None and reply.status != status:
            headers.pop("content-range", None)
        laid_over: dict[str, str | None] = {**headers, **reply.headers}
        self.status = status if reply.status is None else reply.status
        self.headers: Mapping[str, str] = {name: value for name, value in laid_over.items() if value is not None}
        self.url = reply.url or request.url
        self.hops = reply.hops
        self._origin = origin
        self._request = request
        self._reply = reply
        self._body = body
        self._block_size = block_size
        self._position = 0

    async def read(self) -> bytes:
        """Return the next block, or raise what the script says."""
        return await self._next(self._block_size)

    async def read_into(self, buffer: memoryview, arrived: Callable[[int], None]) -> int:
        """Put the next block into ``buffer``, or raise what the script says."""
        block = await self._next(min(self._block_size, len(buffer)))
        buffer[: len(block)] = block
        if block:
            arrived(len(block))
        return len(block)

    async def _next(self, most: int) -> bytes:
        await asyncio.sleep(0)
        reply, position = self._reply, self._position
        if reply.hold_after == position and reply.until is not None:
            await reply.until.wait()
        if reply.stall_after == position:
            raise Stalled(self._request.stall_timeout_s, url=redact_url(self.url))
        if position == reply.cut_after or position == len(self._body):
            return self._end()
        stops = [reply.cut_after, reply.stall_after, reply.hold_after, position + most]
        stop = min(stop for stop in stops if stop is not None and stop > position)
        block = self._body[position:stop]
        self._position += len(block)
        self._origin.body_bytes += len(block)
        return block

    def _end(self) -> bytes:
        promised = int(self.headers["content-length"]) if "content-length" in self.headers else None
        chunked = "transfer-encoding" in self.headers
        short = chunked and self._position == self._reply.cut_after
        if short or (promised is not None and not chunked and self._position < promised):
            raise Interrupted(self._position, None if chunked else promised, url=redact_url(self.url))
        return b""
