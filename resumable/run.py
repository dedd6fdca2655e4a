"""One download in this process: it joins engine and supervisor."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from msgspec.structs import replace

from recovery.events import OperationEvent
from recovery.journal import JsonValue, Operation, OperationSpec
from recovery.states import State
from recovery.supervisor import (
    Attempt,
    Control,
    CrashLooping,
    DeadlineExceeded,
    Fenced,
    LeaseHeld,
    OperationCancelled,
    OperationDeferred,
    OperationPaused,
)
from resumable.checkpoints import look_in
from resumable.engine import Engine, Published
from resumable.errors import (
    CrashLoop,
    DigestMismatch,
    DiskFull,
    DownloadCancelled,
    DownloadDeferred,
    DownloadElsewhere,
    DownloadError,
    DownloadPaused,
    LeaseLost,
    OutOfTime,
)
from resumable.events import EventName
from resumable.identity import link_of
from resumable.joining import follow
from resumable.merging import Known
from resumable.model import DownloadRequest, Result, Saved, There
from resumable.redact import redact_url
from resumable.request import require_same_file, stored_request
from resumable.rows import DownloadRow
from resumable.session import Session
from resumable.shared import Shared
from resumable.source import Source
from resumable.standing import Standing
from resumable.verdicts import PART_FILE_BUSY, disk_full_now
from resumable.verify import as_promised

__all__ = ["Run"]


_OVER: Final = frozenset({State.FAILED, State.CANCELLED})
"""In these nobody goes on by himself, and a part file without a byte is nothing to go on from."""

Remember: TypeAlias = "Callable[[Run, int | None], Awaitable[None]]"
"""Writes down what was asked for, under the lease of a generation or, with None, unless another process runs it."""


class Run:
    """Runs one download once, from the claim of its lease to its end; pausing ends it, resuming makes another."""

    def __init__(
        self,
        shared: Shared,
        request: DownloadRequest,
        standing: Standing,
        *,
        key: str,
        refresh_url: Callable[[], Awaitable[str]] | None = None,
        priority: int = 0,
        filename: str | None = None,
        args: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """Prepare; ``filename`` is a name that a former run learned from the origin, ``args`` go into the row."""
        self._shared = shared
        self.request = request
        self.standing = standing
        self.key = key
        self.control = Control()
        self.priority = priority
        self.args = args or {}
        self.refresh_url = refresh_url
        self._engine: Engine | None = None
        self._trial: Attempt | None = None
        self._attempts = 0
        self.done: Result | None = None
        """The result, as soon as the file and its receipt are there."""
        if request.dest is not None:
            shared.promised.add(request.dest)
        self.remembered = False
        """Whether the store has what was asked for."""
        self.entered: Operation | None = None
        """The operation's row, where this run has entered it and has not run it yet."""
        self.at_claim: tuple[int, DownloadRow | None, Saved | None] | None = None
        """A lease's generation, and what the store had of it as that was taken; nobody else changes it since."""
        self.may_keep_links = True
        """Whether there may be secret links of it beside the store, by this run or a former one."""
        self.claimed_bytes: int | None = None
        """What former runs' checkpoints vouch for."""
        self.former: DownloadRow | None = None
        """What the store had of it when it was looked at last."""
        self._again = -1
        self._was_complete = False
        self._in_line: Callable[[], None] = lambda: None
        self._remember: Remember = _forget
        self._filename = filename
        self._stored: tuple[DownloadRequest | None, dict[str, Any]] = (None, {})
        self.session = self._new_session()
        standing.begin()

    @property
    def download_id(self) -> str:
        """The id that the store, the events and the command line use."""
        return self.session.download_id

    @property
    def stored(self) -> dict[str, Any]:
        """What the store keeps of what was asked for."""
        of, stored = self._stored
        if of is not self.request:
            stored = stored_request(self.request, priority=self.priority)
            self._stored = self.request, stored
        return stored

    def take_up(self, known: Known) -> None:
        """Begin where former runs ended, as far as the store knows them."""
        self._again = known.again
        self._was_complete = known.complete
        self.former = known.row
        self.claimed_bytes = 0 if self.request.options.restart else known.claimed
        if known.row is not None and self.session.filename is None:
            self.session.filename = known.row.filename
        self.standing.take_up(
            known.seen,
            claimed=self.claimed_bytes,
            created_at=known.created_at,
            complete=known.complete,
            anew=self.request.options.restart,
        )
        self.session.breaks.extend(self.standing.view.breaks)

    def relink(self, url: str) -> None:
        """Use another link from the next request on."""
        self.request = dataclasses.replace(self.request, url=url)
        self.may_keep_links = True
        self.session.relink(url, link_of(url))
        self.standing.view = replace(self.standing.view, url=redact_url(url))

    # -- running -------------------------------------------------------------------------------------------------------

    async def run(self, *, in_line: Callable[[], None], remember: Remember) -> Result:
        """Return the result; raises DownloadError subclasses. Cancelling it keeps everything received.

        ``in_line`` is called once its place among those that wait for a slot is taken; ``remember`` is awaited when it
        is taken over from another process, and under each lease.
        """
        self._in_line = in_line
        self._remember = remember
        if self._was_complete:  # and its file is not there, or not the one that is wanted
            self.standing.begin_anew()
            self.session.breaks.clear()
        url = self.standing.view.url
        try:
            return await self._to_the_end()
        except OperationPaused as error:
            raise DownloadPaused("the download was paused; what it has is kept", url=url) from error
        except OperationCancelled as error:
            raise DownloadCancelled("the download was cancelled", url=url) from error
        except OperationDeferred as error:
            raise self._booked(DownloadDeferred(error.next_at, url=url)) from error
        except DeadlineExceeded as error:
            raise self._booked(OutOfTime("the download was not done in the time it was given", url=url)) from error
        except CrashLooping as error:
            message = "the program died three times in a row while it ran this download, so it was not begun again"
            raise self._booked(CrashLoop(message, url=url)) from error
        except DownloadError as error:
            self._booked(error)
            raise
        finally:
            await self._close()

    def _booked(self, error: DownloadError) -> DownloadError:
        """Return the exception with what is known at the end."""
        if error.verdict is None:
            error.verdict = self.control.verdict
            error.attempts = self._attempts
            error.bytes_kept = self.standing.view.bytes_done
        return error

    async def _close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is None:
            return
        # A handle may be kept for long; the books of its chunks, up to a megabyte, need not be.
        self.session.ledger, self.session.claims = None, {}
        if engine.closed:
            return
        # A name of the caller's is his own; one that the origin gave is taken, for the next run, by its part file.
        over = self.standing.view.state in _OVER and self.request.filename is not None
        closing = asyncio.ensure_future(engine.close(keep_empty=not over))
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            if not closing.done():
                await asyncio.wait({closing})
            raise

    async def _to_the_end(self) -> Result:
        """Run it, or follow whoever does, until there is a result."""
        shared = self._shared
        while True:
            forgiven = ""
            try:
                entered, self.entered, self.at_claim = self.entered, None, None
                published = await shared.supervisor.run(
                    self.spec(),
                    self._attempt,
                    control=self.control,
                    host=self._host(),
                    priority=self.priority,
                    entered=entered,
                    on_claim=self._claimed,
                )
            except LeaseHeld as held:
                self._in_line()  # who follows waits for no slot
                if not shared.follow:
                    raise DownloadElsewhere(self.download_id, url=self.standing.view.url) from held
                await self._require_same_file()
            except (LeaseLost, Fenced):
                # It was taken over while this process was silent: its books are the other one's now. The part file was
                # not: if that is what the other one gives up for, this process goes on.
                forgiven = PART_FILE_BUSY.code
                await self._close()
                self.session = self._new_session()
            else:
                return self._result(published)
            result = await follow(shared.catalog, self.standing, self.control, shared.clock, forgiven=forgiven)
            if result is not None:
                await self._require_same_file()
                return await as_promised(result, self.request.sha256, url=self.standing.view.url)
            self.take_up(await shared.catalog.known(self.download_id, shared.supervisor.owner))
            await self._remember(self, None)

    async def _require_same_file(self) -> None:
        """Raise DestinationError where the other process is not after the file that was asked for here.

        It is looked at again, and once more at the end: whoever has the lease has the last word on the links.
        """
        row = await self._shared.store.get(self.download_id)
        if row is not None:
            require_same_file(row.request, self.request, self.download_id)

    def _claimed(self, conn: sqlite3.Connection, generation: int) -> None:
        self.at_claim = generation, *look_in(conn, self.download_id)

    def _new_session(self) -> Session:
        request = self.request
        sources = [Source(request.url, request.headers, self.refresh_url, link=link_of(request.url))]
        sources += [Source(mirror, request.headers, link=link_of(mirror)) for mirror in request.mirrors]
        return Session(self.standing.view.download_id, request, sources, request.filename or self._filename)

    def _host(self) -> Callable[[], str] | None:
        """Return what names the origin in use, whose gate is asked before each attempt; none where nothing is retried:
        a download that is tried once makes no storm, and should not wait for others' bad luck.
        """
        if self._shared.policy.max_no_progress == 0:
            return None
        return lambda: self.session.source.origin

    def spec(self) -> OperationSpec:
        """Return what the journal is told of it."""
        view = self.standing.view
        return OperationSpec(
            kind="download",
            key=self.key,
            operation_id=self.download_id,
            project=self.request.project,
            title=view.filename or view.url,
            policy=self._shared.policy,
            again=self._again,
            recount=(self.request.options.restart or self._was_complete) and not self._attempts,
            progress_done=self.claimed_bytes,
            args=self.args,
        )

    async def _attempt(self, attempt: Attempt) -> Published:
        standing, session = self.standing, self.session
        self._attempts = attempt.number
        self._trial = attempt
        if standing.generation != attempt.generation:
            standing.generation = attempt.generation
            await self._remember(self, attempt.generation)
        standing.attempt_begins(attempt.number)
        if self._engine is None:
            adapters = self._shared.adapters(
                self.request,
                notify=lambda name, message: self.standing.engine_event(name, message, self.session),
                publishing=self._publishing,
            )
            self._engine = Engine(session, adapters)
        standing.tell(EventName.STARTED)
        try:
            published = await self._engine.attempt(
                attempt.generation, lambda durable: attempt.progress(durable, session.complete_length)
            )
        except DiskFull as error:
            if not self.request.options.wait_for_space:
                error.recovery_hint = disk_full_now(error)
            raise
        except DigestMismatch as error:
            if error.kept:  # set aside: nothing is left to continue from
                standing.view = replace(standing.view, bytes_done=0, bytes_resumed=0)
            raise
        finally:
            standing.refresh(session)
            if session.begun and self.request.options.restart:
                # It has begun anew, and once: what came since is to be kept over a pause.
                self.request = dataclasses.replace(self.request, options=replace(self.request.options, restart=False))
        standing.published(published)
        attempt.progress(published.size, published.size)  # what came after the last checkpoint has a receipt, and none
        self.done = self._result(published)
        return published

    async def found(self, there: There) -> Result:
        """Record and return the result of a download that needs no transfer."""
        standing, supervisor = self.standing, self._shared.supervisor
        if not standing.known_complete:
            recorded = self._shared.catalog.found(self.spec(), supervisor.owner, there.size)
            generation = await supervisor.edge.ask(recorded)
            standing.generation = generation or standing.generation
        standing.view = replace(
            standing.view,
            state=State.COMPLETE,
            dest=str(there.path),
            filename=there.path.name,
            bytes_done=there.size,
            bytes_total=there.size,
            sha256=there.sha256,
            verified_by=there.verified_by,
            error=None,
            actions=(),
        )
        standing.tell(EventName.COMPLETED, there.note)
        return there.result(self.download_id, elapsed=standing.elapsed)

    def _result(self, published: Published) -> Result:
        session = self.session
        return Result(
            path=published.path,
            size=published.size,
            sha256=published.sha256,
            bytes_resumed=min(self.standing.view.bytes_resumed, published.size),
            bytes_received=session.received,
            attempts=self._attempts,
            elapsed=self.standing.elapsed,
            verified_by=published.verified_by,
            download_id=session.download_id,
            warnings=tuple(session.warnings),
        )

    def operation_event(self, event: OperationEvent) -> None:
        """Take the supervisor's news."""
        self._in_line()
        self.standing.operation_event(event, self.session, max_no_progress=self._shared.policy.max_no_progress)

    def _publishing(self) -> None:
        """From now on the attempt is waited for, however long the disk takes: it cannot be stopped half way."""
        if self._trial is not None:
            self._trial.in_thread = True
        if self.request.options.no_clobber and self.session.dest is not None:
            self._shared.brought.add(self.session.dest)


async def _forget(_run: Run, _generation: int | None) -> None:
    """Stand in until it runs."""
