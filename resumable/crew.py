"""The connections of one attempt: opens them, gives each an extent, checkpoints what they wrote, and ends when
nothing is missing.

It makes no second try for anything that failed without progress; what is left over is the next attempt's.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from recovery.classify import parse_retry_after
from resumable.concurrency import AdaptiveLimit
from resumable.errors import (
    Fault,
    Interrupted,
    OriginError,
    ProtocolFault,
    RepresentationChanged,
    Stalled,
    StatusError,
    WebPage,
)
from resumable.events import EventName
from resumable.ledger import Ledger
from resumable.lookahead import Lookahead
from resumable.model import Durability
from resumable.plan import FIRST_EXTENT, Extent
from resumable.ports import PartFile, Response
from resumable.response import (
    Accept,
    Changed,
    Decision,
    Expected,
    Ignored,
    NothingLeft,
    Reject,
    interpret,
    request_headers,
)
from resumable.session import Adapters, Mode, Session
from resumable.source import MAYBE_EXPIRED
from resumable.stream import ContentDiffersError, ExtentStream, SequentialStream
from resumable.validators import has_validator

OVERLAP: Final = 64 << 10
"""Bytes before the gap that are asked for again when the origin gives no validator; they must be the recorded ones."""
PROGRESS_QUANTUM: Final = 1 << 20
"""A broken connection that brought this much (or a whole chunk) is simply replaced; less counts as a failure."""
_SUSPICIOUS: Final = frozenset(
    {
        Fault.NO_CONTENT_RANGE,
        Fault.BAD_CONTENT_RANGE,
        Fault.WRONG_RANGE,
        Fault.MULTIPART,
        Fault.UNSATISFIABLE,
        Fault.TOO_LONG,
    }
)


class Crew:
    """Runs one attempt's connections over the session's plan."""

    def __init__(
        self,
        session: Session,
        adapters: Adapters,
        *,
        adopt: Callable[[Accept, Response], Coroutine[Any, Any, None]],
        spool: Callable[[Response, Callable[[], AbstractAsyncContextManager[Response]]], Coroutine[Any, Any, None]],
        progress: Callable[[int], None],
    ) -> None:
        """``adopt`` is awaited with the first usable answer; ``progress`` is told the durable bytes after each
        checkpoint.
        """
        self._session = session
        self._adapters = adapters
        self._adopt = adopt
        self._spool = spool
        self._progress = progress
        self._limit = AdaptiveLimit(session.request.options.connections)
        self._tasks: dict[asyncio.Task[None], Extent | None] = {}
        self._streams: dict[asyncio.Task[None], ExtentStream] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._faults: list[OriginError] = []
        self._wake = asyncio.Event()
        self._judged = asyncio.Event()
        """Set while no claim of a former run waits for the audit."""
        if not session.claims:
            self._judged.set()

    # -- the loop ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Return when every chunk is done and checkpointed; raises what ended the attempt.

        Whatever ends it, connections are closed, gathered bytes are written and a last checkpoint is committed first.
        """
        self._background.add(asyncio.create_task(self._tick(), name="checkpoint tick"))
        if self._session.claims:
            self._background.add(asyncio.create_task(self._audit(), name="audit"))
        try:
            while not self._complete():
                self._spawn()
                if not self._tasks and not self._auditing:
                    raise self._most_telling()
                await self._wait()
        finally:
            await self._finish_in_any_case()

    def _complete(self) -> bool:
        ledger = self._session.ledger
        return ledger is not None and ledger.complete

    @property
    def _auditing(self) -> bool:
        return bool(self._session.claims)

    async def _wait(self) -> None:
        self._wake.clear()
        waker = asyncio.create_task(self._wake.wait())
        waited: set[asyncio.Task[Any]] = {waker, *self._tasks, *self._background}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED, timeout=1.0)
        finally:
            waker.cancel()
        for task in [task for task in self._background if task.done()]:
            self._background.discard(task)
            task.result()
        for task in [task for task in self._tasks if task.done()]:
            self._reap(task)

    def _spawn(self) -> None:
        session = self._session
        ledger = session.ledger
        if ledger is None:
            if not self._tasks and self._limit.limit:
                self._start(self._fetch_first(), None)
            return
        if session.mode is Mode.SEQUENTIAL:
            if not self._tasks and self._limit.limit and ledger.plan.missing and not self._auditing:
                ledger.open.clear()
                extent = ledger.plan.take_all()
                self._start(self._fetch_whole(extent), extent)
            return
        if session.mode is Mode.SINGLE and self._must_prove and session.claims:
            return  # the bytes before the gap must be known to be good before they can prove anything
        most = 1 if session.mode is Mode.SINGLE else self._limit.limit
        while len(self._tasks) < min(most, self._limit.limit):
            now = self._adapters.clock.monotonic()
            extent_or_none = ledger.plan.take(connections=most)
            if extent_or_none is None and session.mode is Mode.PARALLEL:
                extent_or_none = ledger.plan.steal(now=now)
            if extent_or_none is None:
                return
            extent_or_none.started_at = now
            self._start(self._fetch_extent(extent_or_none), extent_or_none)

    def _start(self, work: Coroutine[Any, Any, None], extent: Extent | None) -> None:
        self._tasks[asyncio.create_task(work)] = extent

    def _reap(self, task: asyncio.Task[None]) -> None:
        """Book a connection that ended; raises what must end the whole attempt."""
        gained = self._let_go(task)
        session = self._session
        if task.cancelled():
            return
        try:
            task.result()
        except RepresentationChanged:
            raise
        except ContentDiffersError as error:
            raise RepresentationChanged(
                "the bytes differ from those fetched before", url=session.source.shown
            ) from error
        except OriginError as error:
            session.breaks.append(session.durable)
            self._adapters.notify(EventName.INTERRUPTED, str(error))
            self._book_fault(error, gained)
        else:
            self._limit.succeeded()

    def _let_go(self, task: asyncio.Task[None]) -> int:
        """Take back what a connection was given and return the bytes it gained; does nothing the second time."""
        if task not in self._tasks:
            return 0
        extent, stream = self._tasks.pop(task), self._streams.pop(task, None)
        ledger = self._session.ledger
        if extent is not None and ledger is not None:
            ledger.plan.release(extent, ledger.prefixes())
        return 0 if stream is None else stream.gained

    def _book_fault(self, error: OriginError, gained: int) -> None:
        session = self._session
        if isinstance(error, ProtocolFault) and error.fault in _SUSPICIOUS and session.mode is not Mode.SEQUENTIAL:
            # Ranges cannot be trusted here: take the whole body instead, once, and compare what is already kept.
            session.range_faults += 1
            if session.range_faults > 1 or session.ledger is None:
                self._distrust_ranges(str(error))
                return
        quantum = PROGRESS_QUANTUM
        if session.ledger is not None:
            quantum = min(quantum, session.ledger.grid.chunk_size)
        if gained >= quantum and isinstance(error, (Interrupted, Stalled)):
            self._limit.succeeded()
            return
        self._faults.append(error)
        status = error.status if isinstance(error, StatusError) else None
        self._limit.failed(running=len(self._tasks), status=status)

    def _distrust_ranges(self, why: str) -> None:
        session = self._session
        session.mode = Mode.SEQUENTIAL
        session.can_resume = False
        session.restarted = "no-range"
        self._limit.limit = max(1, self._limit.limit)
        self._adapters.notify(EventName.RESTARTED, f"no-range: reading the file from its start, because {why}")

    def _most_telling(self) -> OriginError:
        """Return the failure to report: a refusal says more than a broken connection."""
        order = (StatusError, WebPage, ProtocolFault)
        for kind in order:
            for fault in self._faults:
                if isinstance(fault, kind):
                    return fault
        return self._faults[-1]

    # -- connections
    # -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _answered(self, expected: Expected) -> AsyncIterator[tuple[Response, Decision]]:
        """Yield an answer and what it means; an expired link is renewed outside the retry budget."""
        session = self._session
        source = session.source
        while True:
            generation = source.generation
            request = source.request(request_headers(expected), session.request.options)
            async with self._adapters.transport.fetch(request) as response:
                hops = [hop.headers for hop in response.hops]
                decision = interpret(expected, response.status, response.headers, hops)
                if not isinstance(decision, Reject):
                    source.remember(response)
                    yield response, decision
                    return
                refused = response.status in MAYBE_EXPIRED
                failure = self._failure(decision, response)
            if not (refused and await source.renew(generation, durable=session.durable)):
                raise failure

    def _failure(self, reject: Reject, response: Response) -> OriginError:
        shown = self._session.source.shown
        if reject.web_page:
            return WebPage(url=shown)
        if reject.fault is not None:
            return ProtocolFault(reject.fault, url=shown, detail=reject.detail)
        retry_after = response.headers.get("retry-after")
        seconds = None if retry_after is None else parse_retry_after(retry_after, now=self._adapters.clock.time())
        return StatusError(reject.status, url=shown, retry_after_s=seconds)

    async def _fetch_first(self) -> None:
        session = self._session
        stop = FIRST_EXTENT if session.request.options.connections > 1 and session.mode is Mode.PARALLEL else None
        ranged = session.mode is not Mode.SEQUENTIAL
        expected = self._expect(0, stop, ranged=ranged)
        async with self._answered(expected) as (response, decision):
            match decision:
                case Accept():
                    await self._adopt(decision, response)
                    if decision.complete_length is None:
                        await self._spool(response, self._whole_body)
                    else:
                        await self._stream_first(decision, response)
                case NothingLeft(complete_length=0):
                    await self._adopt(
                        Accept(None, 0, session.representation or decision.representation, ranged=False), response
                    )
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
        if session.mode is Mode.SEQUENTIAL:
            extent: Extent | None = ledger.plan.take_all()
        else:
            limit = accept.span.length if accept.span is not None else None
            extent = ledger.plan.take(connections=1, limit=limit)
        if extent is None:
            return
        extent.started_at = self._adapters.clock.monotonic()
        task = self._current()
        self._tasks[task] = extent
        self._wake.set()
        await self._stream(response, extent, sequential=session.mode is Mode.SEQUENTIAL)

    async def _fetch_extent(self, extent: Extent) -> None:
        session = self._session
        overlap = min(OVERLAP, extent.cursor) if self._must_prove else 0
        expected = self._expect(extent.cursor - overlap, extent.stop, ranged=True)
        async with self._answered(expected) as (response, decision):
            match decision:
                case Accept(skip=skip):
                    session.can_resume = True
                    body = response
                    if skip or overlap:
                        body = ahead = Lookahead(response)
                        await ahead.take(skip)
                        await self._prove(await ahead.take(overlap), extent.cursor)
                    await self._stream(body, extent)
                case Ignored():
                    await self._go_sequential(response, extent)
                case Changed(certain=False, reason=reason):
                    self._doubt_the_tag(reason)
                case Changed(reason=reason):
                    raise RepresentationChanged(reason, url=session.source.shown)
                case NothingLeft() | Reject():
                    raise ProtocolFault(Fault.UNSATISFIABLE, url=session.source.shown)

    @property
    def _must_prove(self) -> bool:
        """Whether kept bytes have to be compared with fetched ones, because no validator vouches for both."""
        session = self._session
        known = session.representation
        return session.doubtful or (known is not None and not has_validator(known))

    def _doubt_the_tag(self, reason: str) -> None:
        """Only the ETag differs (nodes of one CDN may disagree): go on in one stream and let the bytes prove it."""
        session = self._session
        if session.representation is None:
            raise RuntimeError("nothing to doubt before the first answer")
        session.representation = replace(session.representation, etag=None)
        session.doubtful = True
        session.mode = Mode.SINGLE
        self._adapters.notify(EventName.WARNING, f"only the ETag differs ({reason}): comparing bytes instead")

    async def _fetch_whole(self, extent: Extent) -> None:
        session = self._session
        async with self._answered(self._expect(0, None, ranged=False)) as (response, decision):
            match decision:
                case Accept():
                    await self._stream(response, extent, sequential=True)
                case Changed(reason=reason):
                    raise RepresentationChanged(reason, url=session.source.shown)
                case _:
                    raise ProtocolFault(Fault.UNREADABLE, url=session.source.shown)

    @asynccontextmanager
    async def _whole_body(self) -> AsyncIterator[Response]:
        """Yield one more answer with the whole body, of the same representation."""
        async with self._answered(self._expect(0, None, ranged=False)) as (response, decision):
            if isinstance(decision, Changed):
                raise RepresentationChanged(decision.reason, url=self._session.source.shown)
            if not isinstance(decision, Accept):
                raise ProtocolFault(Fault.UNREADABLE, url=self._session.source.shown)
            yield response

    async def _go_sequential(self, response: Response, extent: Extent) -> None:
        """The origin ignores ranges here: this very body becomes the one sequential pass, all other connections end."""
        self._distrust_ranges("the server ignores ranges")
        me = self._current()
        others = [task for task in self._tasks if task is not me]
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others)
        for task in others:
            self._let_go(task)
        await self._judged.wait()
        ledger = self._ledger()
        ledger.plan.release(extent, ledger.prefixes())
        ledger.open.clear()
        whole = ledger.plan.take_all()
        self._tasks[me] = whole
        await self._stream(response, whole, sequential=True)

    async def _stream(self, response: Response, extent: Extent, *, sequential: bool = False) -> None:
        kind = SequentialStream if sequential else ExtentStream
        stream = kind(
            self._ledger(),
            self._part(),
            extent,
            received=self._session.add_received,
            throttle=self._adapters.throttle,
        )
        self._streams[self._current()] = stream
        await stream.consume(response)

    async def _prove(self, received: bytes, stop: int) -> None:
        """Compare the overlap with what the part file holds before ``stop``; no validator says it for us."""
        self._session.add_received(len(received))
        kept = hashlib.sha256()
        await self._part().hash_span(stop - len(received), len(received), kept)
        if kept.digest() != hashlib.sha256(received).digest():
            raise RepresentationChanged("the bytes before the gap differ", url=self._session.source.shown)

    def _expect(self, start: int, stop: int | None, *, ranged: bool) -> Expected:
        session = self._session
        name = session.filename or ""
        return Expected(start=start, stop=stop, representation=session.representation, ranged=ranged, filename=name)

    def _current(self) -> asyncio.Task[None]:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection runs as a task")
        return task

    def _ledger(self) -> Ledger:
        if self._session.ledger is None:
            raise RuntimeError("no answer has told the size yet")
        return self._session.ledger

    def _part(self) -> PartFile:
        if self._session.part is None:
            raise RuntimeError("no answer has told the name yet")
        return self._session.part

    # -- checkpoints and audit
    # ---------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        interval = self._session.request.options.checkpoint_interval_s
        while True:
            await self._adapters.clock.sleep(interval)
            for stream in self._streams.values():
                stream.nudge()
            await self.checkpoint()
            self._adapters.notify(EventName.PROGRESS, "")

    async def checkpoint(self) -> None:
        """Make what is written durable: data (for power), row, only then the news of it."""
        session = self._session
        ledger = session.ledger
        if ledger is None:
            return
        if session.whole is not None:
            session.whole.advance(ledger.plan.done_prefix())
        dirty = ledger.take_dirty()
        if not dirty or session.representation is None:
            return
        try:
            if session.request.options.durability is Durability.POWER:
                await self._part().sync()
            if not session.begun:
                await self._adapters.store.begin(
                    session.download_id, session.generation, session.representation, ledger.grid.chunk_size
                )
                session.begun = True
            await self._adapters.store.commit(session.download_id, session.generation, dirty)
        except BaseException:
            ledger.redo(dirty)
            raise
        ledger.committed(dirty)
        self._progress(ledger.durable)

    async def _audit(self) -> None:
        """Judge a former run's claims beside the fetching; what the disk denies is missing again."""
        session = self._session
        ledger, part = self._ledger(), self._part()
        grid = ledger.grid
        damaged: list[int] = []
        remaining = dict(session.claims)
        async for audited in self._adapters.audit(part, session.claims, grid.chunk_size, grid.complete_length):
            index = audited.checkpoint.index
            remaining.pop(index, None)
            if audited.ok:
                ledger.audited(audited.checkpoint, audited.digester)
            else:
                ledger.damaged(index)
                damaged.append(index)
            session.claims = remaining
            self._wake.set()
        session.claims = {}
        self._judged.set()
        self._progress(ledger.durable)
        if damaged:
            lost = sum(grid.span(index).length for index in damaged)
            text = f"{len(damaged)} damaged chunk(s), {lost} bytes, of the part file are fetched again"
            self._adapters.notify(EventName.REPAIRED, text)
            await self._adapters.store.forget(session.download_id, session.generation, damaged)
        self._wake.set()

    async def _finish_in_any_case(self) -> None:
        """Close every connection, write what was gathered, commit it; then let the reason for ending continue."""
        tasks = {*self._tasks, *self._background}
        for task in tasks:
            task.cancel()
        ending = asyncio.ensure_future(self._settle(tasks))
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            if not ending.done():
                await asyncio.wait({ending})
            raise

    async def _settle(self, tasks: set[asyncio.Task[None]]) -> None:
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()  # seen: the attempt has already been told why it ends
        for task in list(self._tasks):
            self._let_go(task)
        self._background.clear()
        if self._complete() and not self._session.begun:
            return  # a small file: the receipt that follows at once says it all
        await self.checkpoint()
