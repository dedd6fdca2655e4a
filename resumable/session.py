"""What one process knows of one download, from its first attempt to its last: the state the engine works on, without
behaviour.

It outlives an attempt, so that the next one in the same process neither loads nor audits again. The durable truth is in
the checkpoint store; this is the part that would be stale there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from resumable.events import EventName
from resumable.identity import identities, link_of
from resumable.ledger import Ledger
from resumable.model import Checkpoint, DownloadRequest, Saved, There
from resumable.ports import CheckpointStore, Clock, Digester, FinishedFile, PartFile, Readable, Transport
from resumable.source import Source
from resumable.validators import Proof, Representation, elsewhere, has_validator, proof


class Audited(Protocol):
    """The audit's word on one claim; a good partial claim brings the digester that read it."""

    @property
    def checkpoint(self) -> Checkpoint:
        """The claim."""

    @property
    def ok(self) -> bool:
        """Whether the disk agrees."""

    @property
    def digester(self) -> Digester | None:
        """Fed with exactly the claimed bytes, for a good partial claim."""


class WholeDigest(Protocol):
    """SHA-256 of the whole file, computed behind the transfer."""

    def advance(self, upto: int) -> None:
        """Tell that bytes ``[0, upto)`` are final on disk."""

    def rewind(self, to: int) -> None:
        """Tell that bytes from ``to`` on have been taken back."""

    async def finish(self, length: int) -> str:
        """Return the hex digest of the first ``length`` bytes."""

    async def close(self) -> None:
        """Stop reading."""


class Adapters(Struct, frozen=True, kw_only=True):
    """The concrete parts an engine is given; ``manager.py`` composes them, tests give fakes."""

    transport: Transport
    store: CheckpointStore
    clock: Clock
    open_part: Callable[[Path], Awaitable[PartFile]]
    audit: Callable[[Readable, Mapping[int, Checkpoint], int, int], AsyncIterator[Audited]]
    follow: Callable[[PartFile], WholeDigest]
    open_new: Callable[[str, int | None], Awaitable[PartFile]]
    """Opens the part file of the name the answer suggests, or of one like it (never an existing file's), with room for
    so many bytes where that is known: ``PartFile.reserve`` tells whether it was to be had.
    """
    throttle: Callable[[int], Awaitable[None]] | None
    """Awaited with the size of every block; sleeps to keep a rate limit."""
    notify: Callable[[EventName, str], None]
    """Told what happened, in words; synchronous and never raises."""
    open_finished: Callable[[Path, int], Awaitable[FinishedFile | None]] | None = None
    """Opens a file of exactly so many bytes under its final name; without it no publication is recognised."""
    unclobbered: Callable[[str], Awaitable[There | None]] | None = None
    """Returns the file that counts as done under the name that an answer suggests; None where none ever does."""
    stands: Callable[[Path], Awaitable[bool]] | None = None
    """Whether anything has this path."""
    publishing: Callable[[], None] = lambda: None
    """Called when publishing begins, which no cancellation cuts short."""


class Mode(StrEnum):
    """How bytes are asked for."""

    PARALLEL = "parallel"  # ranges, several connections
    SINGLE = "single"  # ranges, one connection, overlap proof where there is no validator
    SEQUENTIAL = "sequential"  # the whole body from byte 0 each time


class Session(Struct, eq=False):
    """One download in one process. Sizes are bytes."""

    download_id: str
    request: DownloadRequest
    sources: Sequence[Source]
    filename: str | None
    generation: int = 0
    source_index: int = 0
    bound_index: int = 0
    """The source whose answer the session is bound to: only there does another identity mean that the file changed.
    -1 where it is none of them any more.
    """
    mode: Mode = Mode.PARALLEL
    representation: Representation | None = None
    ledger: Ledger | None = None
    part: PartFile | None = None
    claims: Mapping[int, Checkpoint] = field(default_factory=dict)
    """A former run's claims that the audit has not judged."""
    kept: dict[int, int] = field(default_factory=dict)
    """Bytes at the head of chunks, by index, that a former run left and that no audit has found damaged."""
    adopted: set[int] = field(default_factory=set)
    """Chunks found in a part file without checkpoints: only the whole digest can vouch for them."""
    whole: WholeDigest | None = None
    looked: tuple[Saved | None] | None = None
    """What the store had under this lease, where that is known already."""
    loaded: bool = False
    begun: bool = False
    """Whether the store has bound this download to its representation."""
    pending_restart: str | None = None
    """Why the next attempt must forget what is kept."""
    restarted: str | None = None
    kept_for_another: bool = False
    """Whether what former runs left came from a link that nobody says is of the same file."""
    can_resume: bool | None = None
    changes_seen: int = 0
    doubtful: bool = False
    """Whether the validators contradict themselves or cease to come, so that only comparing bytes proves anything."""
    unconfirmed: int = 0
    """Answers in a row that no validator confirmed, though one is known."""
    sampled: bool = False
    """Whether a source that only a person says is of the same file was compared with bytes from all over the file."""
    query_is_new: bool = False
    """Whether what is kept came from a link with another query, and nobody but a validator says that it is the same."""
    compared: bool = False
    """Whether kept bytes were proved by comparing them with fetched ones."""
    tag_was_missing: bool = False
    """Whether an answer was confirmed by its date alone, though a tag is known."""
    name_is_new: bool = False
    """Whether this process took the name, which the origin gave, and no former one has published under it."""
    _dest: tuple[str | None, Path | None] = (None, None)
    """The path that was made of a name last."""
    range_faults: int = 0
    repairs: int = 0
    former_reading: Mapping[int, bytes] | None = None
    """The chunks' digests as they came the last time, while a file with a wrong whole digest is read again."""
    received: int = 0
    breaks: deque[int] = field(default_factory=lambda: deque(maxlen=20))
    warnings: list[str] = field(default_factory=list)

    @property
    def source(self) -> Source:
        """The source in use."""
        return self.sources[self.source_index]

    def bound_by(self, link: str) -> int:
        """Return the index of the source with this identity (``Source.link``), -1 where there is none.

        A query may be new though the link is not: signatures and tokens have many names.
        """
        links = [source.link for source in self.sources]
        if not link:
            return self.source_index  # of a former version, which did not write it down
        places = [one.partition("?")[0] for one in links]
        place = link.partition("?")[0]
        return links.index(link) if link in links else places.index(place) if place in places else -1

    def is_same_file(self, saved: Saved) -> bool:
        """Whether what is kept may be gone on with: it came from one of these links or from one that a person has given
        for the same file, a validator will tell, or a digest will.

        Comparing bytes beside a gap does not do for two links: versions of a model have tensors in common.
        """
        if self.request.sha256 is not None or not saved.link:
            return True
        if not {saved.link, *saved.equals}.isdisjoint(source.link for source in self.sources):
            return True
        return self.bound_by(saved.link) >= 0 and has_validator(saved.representation)

    def relink(self, url: str, link: str) -> None:
        """Use another link, with this identity, for the first source; what is kept is proved against what it serves."""
        former = self.sources[0].link
        self.sources[0].relink(url, link)
        if self.bound_index == 0 and self.bound_by(former) < 0:
            self.bound_index = -1
            self.leave_identity()

    def leave_identity(self) -> None:
        """Ask a source whose validators say nothing of what is kept: size, overlap and digest have to prove it."""
        self.sampled = False
        if self.representation is not None:
            self.representation = elsewhere(self.representation)
        if self.mode is Mode.PARALLEL and self.ledger is not None:
            self.mode = Mode.SINGLE

    @property
    def bound_ledger(self) -> Ledger:
        """The ledger, once an answer has told the size; RuntimeError before."""
        if self.ledger is None:
            raise RuntimeError("no answer has told the size yet")
        return self.ledger

    @property
    def open_part(self) -> PartFile:
        """The part file, while it is open; RuntimeError otherwise."""
        if self.part is None:
            raise RuntimeError("the part file is not open")
        return self.part

    @property
    def durable(self) -> int:
        """Bytes a committed checkpoint or the audit vouches for."""
        return self.ledger.durable if self.ledger is not None else 0

    @property
    def complete_length(self) -> int | None:
        """Size of the representation, None while unknown."""
        return self.representation.complete_length if self.representation is not None else None

    @property
    def dest(self) -> Path | None:
        """The finished file's path, None until the first answer has named it."""
        named, dest = self._dest
        if named != self.filename:
            dest = None if self.filename is None else self.request.directory / self.filename
            self._dest = self.filename, dest
        return dest

    def add_received(self, count: int) -> None:
        """Count wire bytes."""
        self.received += count

    @property
    def links(self) -> tuple[str, ...]:
        """What identifies the links as they were given and as they are now; for the receipt."""
        now = (link_of(source.url) for source in self.sources)
        return tuple(dict.fromkeys((*identities(self.request), *now)))

    @property
    def must_sample(self) -> bool:
        """Whether bytes from all over what is kept have to be compared with the source's before it is gone on with."""
        return not self.sampled and self.expected_digest is None and (self.bound_index < 0 or self.query_is_new)

    @property
    def expected_digest(self) -> tuple[str, str] | None:
        """The SHA-256 the whole file must have, in hex, and who says so; None where nobody does."""
        if self.request.sha256 is not None:
            return self.request.sha256, "the caller"
        known = self.representation
        if known is not None and known.sha256 is not None:
            return known.sha256, known.sha256_source or "the origin"
        return None

    @property
    def proof(self) -> Proof:
        """What proves the content, and no more than that."""
        if self.expected_digest is not None:
            return "digest"
        known = self.representation or Representation()
        return proof(replace(known, etag=None) if self.tag_was_missing else known, compared=self.compared)

    async def close(self, *, keep_empty: bool = True) -> None:
        """Release the part file and what reads it; everything stays on disk, but for a part file without a byte where
        not ``keep_empty``.
        """
        if self.whole is not None:
            await self.whole.close()
            self.whole = None
        if self.part is not None:
            await self.part.close(keep_empty=keep_empty)
            self.part = None
