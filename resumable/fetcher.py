"""One connection of a crew: asks for one extent, checks the answer, and streams its body into the part file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from resumable.answers import Answers
from resumable.errors import Fault, ProtocolFault, RepresentationChanged
from resumable.events import EventName
from resumable.lookahead import Lookahead
from resumable.plan import FIRST_EXTENT, ChunkState, Extent
from resumable.ports import Response
from resumable.probe import RangeProbe, same_on_disk
from resumable.response import Accept, Changed, Ignored, NothingLeft, Reject
from resumable.session import Adapters, Mode, Session
from resumable.stream import ExtentStream, SequentialStream

__all__ = ["Adopt", "Fetcher", "Mates", "Spool", "Work"]

OVERLAP: Final = 64 << 10
"""Bytes before the gap that are asked for again when the origin gives no validator; they must be the recorded ones."""

Adopt = Callable[[Accept, Response], Coroutine[Any, Any, None]]
"""Awaited with the first usable answer of a download: binds the session to it."""
Spool = Callable[[Response, Callable[[], AbstractAsyncContextManager[Response]]], Coroutine[Any, Any, None]]
"""Awaited with a body without a length, and a way to read it again."""


class Mates(Protocol):
    """What a fetcher needs of the crew it works in."""

    def distrust_ranges(self, why: str) -> None:
        """Take the whole body from now on."""

    async def alone(self, me: Fetcher) -> None:
        """End every other fetcher; return when no former claim waits for the audit."""

    def woken(self) -> None:
        """Look whether there is work for more fetchers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What all fetchers of a crew share."""

    session: Session
    adapters: Adapters
    answers: Answers
    adopt: Adopt
    spool: Spool
    probe: RangeProbe
    mates: Mates


class Fetcher:
    """Fetches at most one extent; ``extent`` and ``stream`` say what it was given and how far it has come."""

    def __init__(self, work: Work, extent: Extent | None) -> None:
        """Prepare; without an extent it makes the first request of a download, and takes one from the answer."""
        self._work = work
        self._session = work.session
        self.extent = extent
        self.stream: ExtentStream | None = None

    @property
    def gained(self) -> int:
        """Bytes that were missing and have come."""
        return 0 if self.stream is None else self.stream.gained

    async def fetch(self) -> None:
        """Make one request and take what it brings; raises what makes its answer or its body useless."""
        if self.extent is None:
            await self._first()
        elif self._session.mode is Mode.SEQUENTIAL:
            async with self._work.answers.whole() as response:
                await self._stream(response, self.extent, sequential=True)
        else:
            await self._extent(self.extent)

    async def _first(self) -> None:
        session, answers = self._session, self._work.answers
        stop = FIRST_EXTENT if session.request.options.connections > 1 and session.mode is Mode.PARALLEL else None
        expected = answers.expected(0, stop, ranged=session.mode is not Mode.SEQUENTIAL)
        async with answers.to(expected) as (response, decision):
            match decision:
                case Accept(complete_length=None, ranged=True):
                    # Part of nobody knows how much: taken for the whole, it would be a truncated file.
                    self._work.mates.distrust_ranges("the server does not say how long the file is")
                case Accept(complete_length=None):
                    await self._work.adopt(decision, response)
                    await self._work.spool(response, answers.whole)
                case Accept():
                    await self._work.adopt(decision, response)
                    await self._stream_first(decision, response)
                case NothingLeft(complete_length=0):
                    representation = session.representation or decision.representation
                    await self._work.adopt(Accept(None, 0, representation, ranged=False), response)
                case NothingLeft():
                    raise ProtocolFault(Fault.UNSATISFIABLE, url=session.source.shown)
                case Changed(reason=reason):
                    raise RepresentationChanged(reason, url=session.source.shown)
                case Ignored() | Reject():
                    raise ProtocolFault(Fault.WRONG_RANGE, url=session.source.shown)

    async def _stream_first(self, accept: Accept, response: Response) -> None:
        session = self._session
        ledger = session.ledger
        if ledger is None or ledger.complete:
            return
        sequential = session.mode is Mode.SEQUENTIAL
        if sequential:
            self.extent = ledger.plan.take_all()
        elif ledger.plan.state(0) is not ChunkState.MISSING:
            return  # it has been found on the disk, and this body begins with it
        else:
            limit = accept.span.length if accept.span is not None else None
            self.extent = ledger.plan.take(connections=1, limit=limit)
        if self.extent is None:
            return
        self.extent.started_at = self._work.adapters.clock.monotonic()
        self._work.mates.woken()
        await self._stream(response, self.extent, sequential=sequential)

    async def _extent(self, extent: Extent) -> None:
        answers, probe = self._work.answers, self._work.probe
        if answers.must_prove:
            await self._ask(extent, min(OVERLAP, extent.cursor), self._prove)
        elif overlap := probe.ask(extent.cursor):
            try:
                await self._ask(extent, overlap, probe.answer)
            finally:
                probe.end()
        else:
            await self._ask(extent, 0, self._prove)

    async def _ask(self, extent: Extent, overlap: int, prove: Callable[[bytes, int], Awaitable[None]]) -> None:
        session, answers = self._session, self._work.answers
        expected = answers.expected(extent.cursor - overlap, extent.stop, ranged=True)
        async with answers.to(expected) as (response, decision):
            match decision:
                case Accept(skip=skip):
                    session.can_resume = True
                    body = response
                    if skip or overlap:
                        body = ahead = Lookahead(response)
                        await ahead.take(skip)
                        await prove(await ahead.take(overlap), extent.cursor)
                    await self._stream(body, extent)
                case Ignored():
                    await self._go_sequential(response, extent)
                case Changed(certain=False, reason=reason):
                    self._doubt_the_tag(reason)
                case Changed(reason=reason):
                    raise RepresentationChanged(reason, url=session.source.shown)
                case NothingLeft() | Reject():
                    raise ProtocolFault(Fault.UNSATISFIABLE, url=session.source.shown)

    def _doubt_the_tag(self, reason: str) -> None:
        """Only the ETag differs (nodes of one CDN may disagree): go on in one stream and let the bytes prove it."""
        session = self._session
        if session.representation is None:
            raise RuntimeError("nothing to doubt before the first answer")
        session.representation = replace(session.representation, etag=None)
        session.doubtful = True
        session.mode = Mode.SINGLE
        message = f"only the ETag differs ({reason}): comparing bytes instead"
        self._work.adapters.notify(EventName.WARNING, message)

    async def _go_sequential(self, response: Response, extent: Extent) -> None:
        """The origin ignores ranges here: this very body becomes the one sequential pass, all other connections end."""
        mates = self._work.mates
        mates.distrust_ranges("the server ignores ranges")
        await mates.alone(self)
        ledger = self._session.bound_ledger
        ledger.plan.release(extent, ledger.prefixes())
        ledger.open.clear()
        self.extent = ledger.plan.take_all()
        await self._stream(response, self.extent, sequential=True)

    async def _stream(self, response: Response, extent: Extent, *, sequential: bool = False) -> None:
        session = self._session
        kind = SequentialStream if sequential else ExtentStream
        self.stream = kind(
            session.bound_ledger,
            session.open_part,
            extent,
            received=session.add_received,
            throttle=self._work.adapters.throttle,
        )
        await self.stream.consume(response)

    async def _prove(self, received: bytes, stop: int) -> None:
        """Compare the overlap with what the part file holds before ``stop``; no validator says it for us."""
        session = self._session
        session.add_received(len(received))
        if not await same_on_disk(session.open_part, received, stop):
            raise RepresentationChanged("the bytes before the gap differ", url=session.source.shown)
