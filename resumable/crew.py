"""The connections of one attempt: gives each an extent, replaces those that broke with progress, and ends when nothing
is missing.

It makes no second try for anything that failed without progress; what is left over is the next attempt's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final

from resumable.answers import Answers
from resumable.checkpointer import Checkpointer
from resumable.concurrency import AdaptiveLimit
from resumable.errors import (
    Fault,
    Interrupted,
    LeaseLost,
    LocalError,
    OriginError,
    ProtocolFault,
    RepresentationChanged,
    Stalled,
    StatusError,
    WebPage,
)
from resumable.events import EventName
from resumable.fetcher import Adopt, Fetcher, Spool, Work
from resumable.ledger import Ledger
from resumable.plan import Extent
from resumable.probe import RangeProbe
from resumable.session import Adapters, Mode, Session
from resumable.settling import until_done
from resumable.stream import ContentDiffersError, ExtentStream

__all__ = ["Crew"]

PROGRESS_QUANTUM: Final = 1 << 20
"""A broken connection that brought this much (or a whole chunk) is simply replaced; less counts as a failure."""
_LOOK_S: Final = 1.0
"""How often a crew looks, while nothing happens, whether there is work for more connections."""
_HEAD_START_S: Final = 0.05
"""How long an audit lets requests go first, at the most; they had to wait 20 ms for its first hashes."""
_SUSPICIOUS: Final = frozenset(
    {
        Fault.NO_CONTENT_RANGE,
        Fault.BAD_CONTENT_RANGE,
        Fault.WRONG_RANGE,
        Fault.MULTIPART,
        Fault.BAD_LENGTH,
        Fault.UNSATISFIABLE,
        Fault.TOO_LONG,
    }
)


class Crew:
    """Runs one attempt's connections over the session's plan."""

    def __init__(
        self, session: Session, adapters: Adapters, *, adopt: Adopt, spool: Spool, progress: Callable[[int], None]
    ) -> None:
        """``adopt`` is awaited with the first usable answer; ``progress`` is told the durable bytes after each
        checkpoint.
        """
        self._session = session
        self._adapters = adapters
        self._asked = asyncio.Event()
        self._answers = Answers(session, adapters, answered=self._asked.set)
        self._books = Checkpointer(session, adapters, progress)
        self._probe = RangeProbe(session)
        self._work = Work(
            session=session,
            adapters=adapters,
            answers=self._answers,
            adopt=adopt,
            spool=spool,
            probe=self._probe,
            mates=self,
            sampling=asyncio.Lock(),
        )
        self._limit = AdaptiveLimit(session.request.options.connections)
        self._fetchers: dict[asyncio.Task[None], Fetcher] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._faults: list[OriginError] = []
        self._over: list[asyncio.Task[None]] = []
        """What has ended since it was looked at last."""
        self._wake = asyncio.Event()
        self._audited = False

    # -- the loop ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Return when every chunk is done and checkpointed; raises what ended the attempt.

        Whatever ends it, connections are closed, gathered bytes are written and a last checkpoint is committed first.
        """
        self._in_background(self._books.tick(self._streams), "checkpoint tick")
        try:
            await self._until_complete()
        except BaseException:
            try:
                await self._finish_in_any_case()
            except (LeaseLost, LocalError) as error:
                # Why the attempt ends must not be hidden by this, a cancellation least of all.
                self._adapters.notify(EventName.WARNING, f"the last checkpoint was not made: {error}")
            raise
        await self._finish_in_any_case()

    async def _until_complete(self) -> None:
        while not self._complete():
            self._spawn()
            self._audit_once()
            if not self._fetchers and not self._auditing:
                raise self._most_telling()
            await self._wait()

    def _audit_once(self) -> None:
        if self._auditing and not self._audited:
            self._audited = True
            self._in_background(self._audit(), "audit")

    async def _audit(self) -> None:
        """Judge former claims, once what is missing has been asked for: hashing takes the processors from all else."""
        if self._fetchers:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_HEAD_START_S):
                    await self._asked.wait()
        await self._books.audit(self.woken)

    def _in_background(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._background.add(task)

    def _streams(self) -> list[ExtentStream]:
        return [fetcher.stream for fetcher in self._fetchers.values() if fetcher.stream is not None]

    def _complete(self) -> bool:
        ledger = self._session.ledger
        return ledger is not None and ledger.complete and not self._probe.pending

    @property
    def _auditing(self) -> bool:
        return bool(self._session.claims)

    async def _wait(self) -> None:
        self._wake.clear()
        if not self._over:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._wake.wait()
        over, self._over = self._over, []
        for task in self._background.intersection(over):
            self._background.discard(task)
            task.result()
        for task in over:
            if task in self._fetchers:
                self._reap(task)
        await self._probe.settle()

    def _spawn(self) -> None:
        session = self._session
        ledger = session.ledger
        if ledger is None:
            if not self._fetchers and self._limit.limit:
                self._start(None)
            return
        if session.mode is Mode.SEQUENTIAL:
            if not self._fetchers and self._limit.limit and ledger.plan.missing and not self._auditing:
                ledger.open.clear()
                self._start(ledger.plan.take_all())
            return
        proving = session.must_sample or (session.mode is Mode.SINGLE and self._answers.must_prove)
        if proving and self._auditing:
            return  # kept bytes must be known to be good before they can prove anything
        most = 1 if session.mode is Mode.SINGLE else self._limit.limit
        while len(self._fetchers) < min(most, self._limit.limit):
            extent = self._next_extent(ledger, most)
            if extent is None:
                return
            self._start(extent)

    def _next_extent(self, ledger: Ledger, connections: int) -> Extent | None:
        now = self._adapters.clock.monotonic()
        extent = ledger.plan.take(connections=connections, limit=self._session.request.options.max_range)
        if extent is None and self._session.mode is Mode.PARALLEL:
            extent = ledger.plan.steal(now=now)
        if extent is not None:
            extent.started_at = now
        return extent

    def _start(self, extent: Extent | None) -> None:
        fetcher = Fetcher(self._work, extent)
        task = asyncio.create_task(fetcher.fetch())
        task.add_done_callback(self._ended)
        self._fetchers[task] = fetcher

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._over.append(task)
        self._asked.set()
        self._wake.set()

    # -- what became of a connection -----------------------------------------------------------------------------------

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
        fetcher = self._fetchers.pop(task, None)
        if fetcher is None:
            return 0
        ledger = self._session.ledger
        if fetcher.extent is not None and ledger is not None:
            ledger.plan.release(fetcher.extent, ledger.prefixes())
            if ledger.retry_proof():
                return 0
        return fetcher.gained

    def _book_fault(self, error: OriginError, gained: int) -> None:
        session = self._session
        if isinstance(error, ProtocolFault) and error.fault in _SUSPICIOUS and session.mode is not Mode.SEQUENTIAL:
            # Ranges cannot be trusted here: take the whole body instead, once, and compare what is already kept.
            session.range_faults += 1
            if session.range_faults > 1 or session.ledger is None:
                self.distrust_ranges(str(error))
                return
        quantum = PROGRESS_QUANTUM
        if session.ledger is not None:
            quantum = min(quantum, session.ledger.grid.chunk_size)
        if gained >= quantum and isinstance(error, (Interrupted, Stalled)):
            self._limit.succeeded()
            return
        self._faults.append(error)
        status = error.status if isinstance(error, StatusError) else None
        self._limit.failed(running=len(self._fetchers), status=status)

    def _most_telling(self) -> OriginError:
        """Return the failure to report: a refusal says more than a broken connection."""
        order = (StatusError, WebPage, ProtocolFault)
        for kind in order:
            for fault in self._faults:
                if isinstance(fault, kind):
                    return fault
        return self._faults[-1]

    # -- what connections ask of each other ----------------------------------------------------------------------------

    def woken(self) -> None:
        """Look whether there is work for more fetchers."""
        self._wake.set()

    def distrust_ranges(self, why: str) -> None:
        """Take the whole body from now on, and say so."""
        session = self._session
        session.mode = Mode.SEQUENTIAL
        session.can_resume = False
        session.restarted = "no-range"
        self._limit.limit = max(1, self._limit.limit)
        self._adapters.notify(EventName.RESTARTED, f"no-range: reading the file from its start, because {why}")

    async def alone(self, me: Fetcher) -> None:
        """End every fetcher but ``me``; return when no former claim waits for the audit."""
        others = [task for task, fetcher in self._fetchers.items() if fetcher is not me]
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others)
        for task in others:
            self._let_go(task)
        await self._books.judged.wait()

    # -- the end -------------------------------------------------------------------------------------------------------

    async def _finish_in_any_case(self) -> None:
        """Close every connection, write what was gathered, commit it; then let the reason for ending continue."""
        tasks = {*self._fetchers, *self._background}
        for task in tasks:
            task.cancel()
        if self._complete() and not self._session.begun:  # a small file: the receipt that follows at once says it all
            held_back = await until_done(*tasks)
            self._take_back(tasks)
            if held_back is not None:
                raise held_back
            return
        ending = asyncio.ensure_future(self._settle(tasks))
        held_back = await until_done(ending)
        if held_back is not None:
            ending.exception()  # seen: the cancellation is what the caller must hear of
            raise held_back
        ending.result()

    async def _settle(self, tasks: set[asyncio.Task[None]]) -> None:
        if tasks:
            await asyncio.wait(tasks)
        self._take_back(tasks)
        await self._books.commit()

    def _take_back(self, tasks: set[asyncio.Task[None]]) -> None:
        for task in tasks:
            if not task.cancelled():
                task.exception()  # seen: the attempt has already been told why it ends
        for task in list(self._fetchers):
            self._let_go(task)
        self._background.clear()
