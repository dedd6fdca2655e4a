"""What the engine needs from the outside, as Protocols. Adapters implement them; ``resumable.testing`` has the
public fakes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from recovery.clock import Clock
from resumable.model import Checkpoint, Finished, Saved
from resumable.ranges import Span
from resumable.validators import Representation

__all__ = [
    "CheckpointStore",
    "Clock",
    "Digester",
    "Fetch",
    "FinishedFile",
    "Hop",
    "PartFile",
    "Readable",
    "Response",
    "Sink",
    "Transport",
]


@dataclass(frozen=True, slots=True)
class Hop:
    """One redirect on the way: the status and headers (lower-case names) of the answer that redirected."""

    url: str = field(repr=False)
    status: int
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """One GET. ``url`` and ``private_headers`` hold secrets."""

    url: str = field(repr=False)
    headers: Mapping[str, str]
    """Sent to every hop: ``range``, ``if-range``, ``accept-encoding``, ``cache-control``."""
    private_headers: Mapping[str, str] = field(repr=False)
    """The caller's headers: sent only to ``private_origin``, never to another origin (scheme, host, port)."""
    private_origin: str = field(repr=False)
    """The URL whose origin may see ``private_headers``, user info and netrc credentials."""
    connect_timeout_s: float
    stall_timeout_s: float
    min_rate: int
    max_redirects: int


class Response(Protocol):
    """An answer whose head has arrived. Leaving its context with the body unread closes the connection."""

    @property
    def status(self) -> int:
        """Status code of the final answer."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers with lower-case names; repeated fields are joined with ``", "`` (RFC 9110 5.3)."""

    @property
    def url(self) -> str:
        """URL of the final answer, secrets included."""

    @property
    def hops(self) -> Sequence[Hop]:
        """The redirects that led here, first one first."""

    async def read(self) -> bytes:
        """Return the next block (any size >= 1); ``b""`` once the body has ended by its framing.

        Raises Interrupted when the body ends early, Stalled on silence or when below the rate floor.
        """

    async def read_into(self, buffer: memoryview, arrived: Callable[[int], None]) -> int:
        """Put the next bytes at the start of ``buffer`` and return how many: at least one, 0 once the body has ended.

        ``arrived`` is told of them as they come, before this returns. Cancelled or raising, it keeps what ``arrived``
        was told of: those bytes are in the buffer, and the body goes on after them. Raises what ``read`` does.
        """


class Transport(Protocol):
    """Makes requests; never retries, never decodes, keeps cookies of nobody."""

    def fetch(self, request: Fetch) -> AbstractAsyncContextManager[Response]:
        """Send the request, follow redirects, and yield the final answer.

        Entering raises ConnectFailed, Stalled (no head in time), RedirectRefused, or ProtocolFault(UNREADABLE).
        """


class Readable(Protocol):
    """An open file whose bytes can be hashed."""

    async def hash_span(self, offset: int, length: int, digest: Sink) -> int:
        """Feed up to ``length`` bytes to ``digest`` off the event loop; return how many there were."""


class FinishedFile(Readable, Protocol):
    """A file under its final name."""

    async def close(self) -> None:
        """Release the descriptor."""


class PartFile(Readable, Protocol):
    """The incomplete file beside the destination, open and locked. Offsets and lengths are bytes. Methods raise
    LocalError.
    """

    path: Path

    async def write(self, offset: int, blocks: Sequence[bytes | memoryview], digest: Digester) -> bytes:
        """Write the blocks one after the other at ``offset`` and feed ``digest``; return its digest so far.

        One thread hop. Bytes are hashed after the operating system took them, and short writes are continued.
        """

    async def reserve(self, length: int) -> Sequence[Span]:
        """Make sure ``length`` bytes fit: preallocate, or raise DiskFull with the amounts. Return the spans of these
        bytes that somebody has written before, as far as can be told.
        """

    async def truncate(self, length: int) -> bool:
        """Cut or extend the file to exactly ``length`` bytes; False where another program has cut it, or seems to have
        written to it, since it was opened or truncated, and what was written may be gone.
        """

    async def sync(self) -> None:
        """fdatasync; raises DeviceError when it fails, after which nothing written since the last sync may be
        trusted.
        """

    async def publish(self, dest: Path, *, replace: bool, length: int | None = None) -> Path | None:
        """fsync, rename to ``dest``, fsync the directory, release lock and descriptor. With ``replace`` False never
        overwrites: picks ``name.1.ext``. ``length`` truncates it first; None, and nothing else, where that says False.
        """

    async def abandon(self) -> None:
        """Close and delete it; a file already published stays."""

    async def set_aside(self, path: Path) -> None:
        """Rename the part file to ``path`` (a ``.suspect``), replacing an older one."""

    async def close(self, *, keep_empty: bool = True) -> None:
        """Release the lock and the descriptor; the file stays, but for an empty one where not ``keep_empty``."""


class Sink(Protocol):
    """Whatever takes bytes one after the other."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Feed bytes."""


class Digester(Sink, Protocol):
    """The part of a ``hashlib`` object that is used."""

    def digest(self) -> bytes:
        """Return the digest of what was fed so far."""

    def copy(self) -> Digester:
        """Return an independent copy."""


class CheckpointStore(Protocol):
    """Remembers, per download, which bytes of which representation are in the part file.

    ``generation`` fences: a call with a generation that is no longer current changes nothing and raises LeaseLost. A
    store that cannot write degrades to memory and says so elsewhere; it never raises for that.
    """

    async def load(self, download_id: str) -> Saved | None:
        """Return what former runs left, None where there is nothing."""

    async def begin(
        self, download_id: str, generation: int, representation: Representation, chunk_size: int, link: str = ""
    ) -> None:
        """Bind the download to a representation; forgets the chunks of any other.

        ``link`` identifies the source that stated it: validators of two sources say nothing about each other.
        """

    async def commit(self, download_id: str, generation: int, checkpoints: Sequence[Checkpoint]) -> None:
        """Make the claims durable; a later claim for the same chunk replaces the earlier."""

    async def forget(self, download_id: str, generation: int, indexes: Sequence[int]) -> None:
        """Withdraw the claims for these chunks."""

    async def finish(self, download_id: str, generation: int, finished: Finished) -> None:
        """Record a published file; its chunk claims become one compact record."""

    async def named(self, download_id: str, generation: int, dest: Path) -> None:
        """Record the file name that the first answer gave."""
