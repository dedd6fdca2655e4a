"""One connection of a crew: asks for one extent, checks the answer, and streams its body into the part file."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

from msgspec import Struct

from resumable.answers import Answers
from resumable.errors import Fault, Interrupted, ProtocolFault, RepresentationChanged, Stalled
from resumable.events import EventName
from resumable.lookahead import Lookahead
from resumable.plan import FIRST_EXTENT, ChunkState, Extent
from resumable.ports import Response
from resumable.probe import RangeProbe, same_on_disk
from resumable.ranges import Span
from resumable.response import Accept, Changed, Ignored, NothingLeft, Reject, content_length
from resumable.session import Adapters, Mode, Session
from resumable.stream import ExtentStream, SequentialStream

__all__ = ["Adopt", "Fetcher", "Mates", "Spool", "Work"]

OVERLAP: Final = 64 << 10
"""Bytes on each side of a gap that are asked for again when no validator vouches; they must be the recorded ones."""

SAMPLES: Final = 8
"""Chunks of what is kept of which a link is asked for the first bytes when only a person says that it is of the same
file: versions of a model have tensors in common, so that the bytes beside a gap may well be the same.
"""

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


class Work(Struct, frozen=True, kw_only=True):
    """What all fetchers of a crew share."""

    session: Session
    adapters: Adapters
    answers: Answers
    adopt: Adopt
    spool: Spool
    probe: RangeProbe
    mates: Mates
    sampling: asyncio.Lock
    """Held by the one connection that compares samples; the others wait for what it finds."""


class Fetcher:
    """Fetches at most one extent; ``extent`` and ``stream`` say what it was given and how far it has come."""

    def __init__(self, work: Work, extent: Extent | None) -> None:
        """Prepare; without an extent it makes the first request of a download, and takes one from the answer."""
        self._work = work
        self._session = work.session
        self.extent = extent
        self.stream: ExtentStream | None = None
        self._reached = 0
        """Where what was read of an answer ends, if that is beyond the extent."""

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
                await self._whole(response, self.extent)
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
                    # The head of an error is too little to publish an empty file for: it is asked once more, for all.
                    session.mode = Mode.SEQUENTIAL
                case NothingLeft():
                    raise ProtocolFault(Fault.UNSATISFIABLE, url=session.source.shown)
                case Changed():
                    raise answers.changed(decision)
                case Ignored() | Reject():
                    raise ProtocolFault(Fault.WRONG_RANGE, url=session.source.shown)

    async def _stream_first(self, accept: Accept, response: Response) -> None:
        session = self._session
        ledger = session.ledger
        if ledger is None or ledger.complete:
            return
        if session.mode is Mode.SEQUENTIAL:
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
        if session.mode is Mode.SEQUENTIAL:
            await self._whole(response, self.extent)
        else:
            await self._stream(response, self.extent, limit=_limit_of(accept))
            await self._nothing_beyond(response, accept)

    async def _extent(self, extent: Extent) -> None:
        answers, probe, ledger = self._work.answers, self._work.probe, self._session.bound_ledger
        async with self._work.sampling:
            if self._session.must_sample:
                await self._sample()
        if answers.must_prove:
            around = ledger.kept_before(extent.cursor, OVERLAP), ledger.kept_after(extent.stop, OVERLAP)
            # Behind the last kept byte nothing will prove what is written; there it follows from what it goes on from.
            beyond = ledger.plan.last_done() >= ledger.grid.index(extent.stop - 1)
            ledger.hold(on=self._session.expected_digest is None and beyond)
            await self._ask(extent, around, self._prove)
        elif overlap := probe.ask(extent.cursor):
            try:
                await self._ask(extent, (overlap, 0), probe.answer)
            finally:
                probe.end()
        else:
            await self._ask(extent, (0, 0), self._prove)

    async def _ask(
        self, extent: Extent, around: tuple[int, int], prove: Callable[[bytes, int], Awaitable[None]]
    ) -> None:
        """Ask for an extent and the bytes ``around`` it, which ``prove`` is given."""
        session, answers = self._session, self._work.answers
        before, after = around
        expected = answers.expected(extent.cursor - before, extent.stop + after, ranged=True)
        async with answers.to(expected) as (response, decision):
            match decision:
                case Accept(ranged=False) if answers.must_prove:
                    await self._go_sequential(response, extent)  # all of it is there: compared with all that is kept
                case Accept(span=Span(stop=stop)) if stop <= extent.cursor:
                    raise self._useless("it holds only bytes that are kept")
                case Accept(skip=skip):
                    session.can_resume = True
                    body = response
                    if skip or before:
                        body = ahead = Lookahead(response)
                        await ahead.take(skip)
                        await prove(await ahead.take(before), extent.cursor)
                    await self._stream(body, extent, limit=_limit_of(decision))
                    if after:
                        await self._prove_after(body, decision, after)
                    await self._nothing_beyond(body, decision)
                case Ignored():
                    await self._go_sequential(response, extent)
                case Changed(certain=False, reason=reason) if session.request.sha256 is not None:
                    if not session.doubtful:
                        message = f"{reason}: comparing bytes instead, and the SHA-256 in the end"
                        self._work.adapters.notify(EventName.WARNING, message)
                    answers.doubt()
                case Changed():
                    raise answers.changed(decision)
                case NothingLeft() | Reject():
                    raise ProtocolFault(Fault.UNSATISFIABLE, url=session.source.shown)

    async def _sample(self) -> None:
        """Compare bytes from all over what is kept with what the source has there; it has to have the same.

        An answer with the whole file says nothing yet: it will be compared with everything that is kept.
        """
        session, answers = self._session, self._work.answers
        grid = session.bound_ledger.grid
        for index in session.bound_ledger.plan.spread(SAMPLES):
            span = grid.span(index)
            asked = answers.expected(span.start, min(span.start + OVERLAP, span.stop), ranged=True)
            async with answers.to(asked) as (response, decision):
                match decision:
                    case Accept(ranged=False) | Ignored():
                        return
                    case Accept(skip=skip, span=Span() as found):
                        ahead = Lookahead(response)
                        await ahead.take(skip)
                        await self._prove(await ahead.take(found.length), found.stop)
                    case Changed():
                        raise answers.changed(decision)
                    case Accept() | NothingLeft() | Reject():
                        raise ProtocolFault(Fault.UNSATISFIABLE, url=session.source.shown)
        session.sampled = True

    async def _prove_after(self, body: Response, accept: Accept, count: int) -> None:
        """Compare the ``count`` bytes that follow the extent in this answer with what is kept there.

        Raises ProtocolFault where it ends among them: asked for again, it would do so again.
        """
        if self.extent is None or accept.span is None or accept.span.stop < self.extent.stop:
            return
        end, stop = self.extent.stop, self.extent.stop + count
        if accept.span.stop < stop:
            raise self._useless("it ends before the kept bytes that would prove it")
        await self._prove(await Lookahead(body).take(count), stop)
        self._session.bound_ledger.proved(end)
        self._reached = stop

    def _useless(self, detail: str) -> ProtocolFault:
        return ProtocolFault(Fault.WRONG_RANGE, url=self._session.source.shown, detail=detail)

    async def _nothing_beyond(self, body: Response, accept: Accept) -> None:
        """Raise ProtocolFault where a body goes on behind the bytes it is labelled with; chunked, it can."""
        stream = self.stream
        if stream is None or accept.body_length is None or accept.span is None:
            return
        labelled = accept.span.start - accept.skip + accept.body_length
        if max(stream.extent.cursor, self._reached) == labelled and await self._goes_on(body):
            raise ProtocolFault(Fault.TOO_LONG, url=self._session.source.shown)

    async def _goes_on(self, body: Response) -> bool:
        """Whether more comes although all has; only a body without a Content-Length can do that."""
        if content_length(body.headers)[0] is not None:
            return False
        try:
            return bool(await body.read())
        except (Interrupted, Stalled):
            return False

    async def _go_sequential(self, response: Response, extent: Extent) -> None:
        """The origin ignores ranges here: this very body becomes the one sequential pass, all other connections end."""
        mates = self._work.mates
        mates.distrust_ranges("the server ignores ranges")
        await mates.alone(self)
        ledger = self._session.bound_ledger
        ledger.plan.release(extent, ledger.prefixes())
        ledger.open.clear()
        self.extent = ledger.plan.take_all()
        await self._whole(response, self.extent)

    async def _whole(self, response: Response, extent: Extent) -> None:
        """Take a whole body; where no validator vouches for it, it must have every chunk that is kept."""
        session = self._session
        stream = SequentialStream(
            session.bound_ledger,
            session.open_part,
            extent,
            received=session.add_received,
            throttle=self._work.adapters.throttle,
        )
        self.stream = stream
        if self._work.answers.must_prove:
            stream.prove_all()
        await stream.consume(response)
        if await self._goes_on(response):
            raise RepresentationChanged("it is longer than it was", url=session.source.shown)
        session.compared = session.compared or stream.last_kept >= 0

    async def _stream(self, response: Response, extent: Extent, *, limit: int | None) -> None:
        session = self._session
        self.stream = ExtentStream(
            session.bound_ledger,
            session.open_part,
            extent,
            received=session.add_received,
            throttle=self._work.adapters.throttle,
            limit=limit,
        )
        await self.stream.consume(response)

    async def _prove(self, received: bytes, stop: int) -> None:
        """Compare bytes beside a gap with what the part file holds before ``stop``; no validator says it for us."""
        session = self._session
        session.add_received(len(received))
        if not await same_on_disk(session.open_part, received, stop):
            raise RepresentationChanged("the bytes beside the gap differ", url=session.source.shown)
        session.compared = True


def _limit_of(accept: Accept) -> int | None:
    """Return the offset where the usable bytes of an answer end; None where it does not say."""
    return None if accept.span is None else accept.span.stop
