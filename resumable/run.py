"""One download in this process: it joins engine and supervisor, and tells what happens as views and events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from recovery.clock import Clock
from recovery.events import OperationEvent
from recovery.journal import JsonValue, Operation, OperationSpec
from recovery.policy import RetryPolicy
from recovery.states import State
from recovery.supervisor import (
    Attempt,
    Control,
    LeaseHeld,
    OperationCancelled,
    OperationDeferred,
    OperationPaused,
    Supervisor,
)
from resumable.audit import audit
from resumable.checkpoints import SqliteCheckpoints
from resumable.engine import Engine, Published
from resumable.errors import (
    DiskFull,
    DownloadCancelled,
    DownloadDeferred,
    DownloadElsewhere,
    DownloadError,
    DownloadPaused,
)
from resumable.events import DownloadEvent, DownloadView, EventName
from resumable.filename import numbered
from resumable.hashing import FollowBehind
from resumable.linkstore import LinkStore
from resumable.mailbox import Mailbox
from resumable.model import Checkpoint, DownloadRequest, Result
from resumable.partfile import DiskPartFile
from resumable.ports import PartFile, Transport
from resumable.redact import redact_url
from resumable.session import Adapters, Audited, Session
from resumable.slots import Slots
from resumable.source import Source
from resumable.speed import SpeedMeter, seconds_left
from resumable.throttle import RateLimit, combined
from resumable.verdicts import disk_full_now
from resumable.verify import There
from resumable.views import actions_for, after_operation_event

_FOLLOW_S: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all downloads of one manager use."""

    clock: Clock
    transport: Transport
    store: SqliteCheckpoints
    links: LinkStore
    supervisor: Supervisor
    operation: Callable[[str], Awaitable[Operation | None]]
    policy: RetryPolicy
    slots: Slots
    rate_limit: RateLimit | None
    emit: Callable[[DownloadEvent], None]
    follow: bool = True


class Run:
    """Runs one download and remembers how it stands."""

    def __init__(
        self,
        shared: Shared,
        request: DownloadRequest,
        *,
        download_id: str,
        key: str,
        refresh_url: Callable[[], Awaitable[str]] | None = None,
        priority: int = 0,
        filename: str | None = None,
        args: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """Prepare; ``filename`` is a name that a former run learned from the origin, ``args`` go into the row."""
        self._shared = shared
        self.request = request
        self.key = key
        self.control = Control()
        self.priority = priority
        self.args = args or {}
        self.mailboxes: list[Mailbox] = []
        self._speed = SpeedMeter()
        self._started = shared.clock.monotonic()
        self._refresh_url = refresh_url
        self._engine: Engine | None = None
        self._attempts = 0
        self.claimed_bytes: int | None = None
        """What former runs' checkpoints vouch for."""
        sources = [Source(request.url, request.headers, refresh_url)]
        sources += [Source(mirror, request.headers) for mirror in request.mirrors]
        self.session = Session(download_id, request, sources, request.filename or filename)
        now = shared.clock.time()
        self.view = DownloadView(
            download_id=download_id,
            project_id=request.project,
            url=redact_url(request.url),
            dest=str(self.session.dest or request.directory),
            filename=self.session.filename or "",
            max_attempts=shared.policy.max_attempts,
            max_no_progress=shared.policy.max_no_progress,
            actions=actions_for(State.QUEUED),
            created_at=now,
            updated_at=now,
        )

    # -- running -------------------------------------------------------------------------------------------------

    async def run(self) -> Result:
        """Return the result; raises DownloadError subclasses. Cancelling it keeps everything received."""
        self._tell(EventName.QUEUED)
        try:
            async with self._shared.slots.slot(self.priority):
                return await self._supervised()
        except OperationPaused as error:
            raise DownloadPaused("the download was paused; what it has is kept", url=self.view.url) from error
        except OperationCancelled as error:
            raise DownloadCancelled("the download was cancelled", url=self.view.url) from error
        except OperationDeferred as error:
            raise DownloadDeferred(error.next_at, url=self.view.url) from error
        except DownloadError as error:
            error.attempts = self._attempts
            error.bytes_kept = self.session.durable
            error.verdict = self.control.verdict
            raise
        finally:
            await self._close()

    async def _close(self) -> None:
        if self._engine is not None:
            closing = asyncio.ensure_future(self._engine.close())
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:
                if not closing.done():
                    await asyncio.wait({closing})
                raise
        for mailbox in self.mailboxes:
            mailbox.close()

    async def _supervised(self) -> Result:
        while True:
            try:
                published = await self._shared.supervisor.run(
                    self._spec(), self._attempt, control=self.control, host=self._host()
                )
            except LeaseHeld as held:
                if not self._shared.follow:
                    raise DownloadElsewhere(held.operation.operation_id, url=self.view.url) from held
                result = await self._follow(held.operation)
                if result is not None:
                    return result
            else:
                return self._result(published)

    def _host(self) -> Callable[[], str] | None:
        """Return what names the origin in use, whose gate is asked before each attempt; none where nothing is retried:
        a download that is tried once makes no storm, and should not wait for others' bad luck.
        """
        if self._shared.policy.max_no_progress == 0:
            return None
        return lambda: self.session.source.origin

    def _spec(self) -> OperationSpec:
        return OperationSpec(
            kind="download",
            key=self.key,
            operation_id=self.session.download_id,
            project=self.request.project,
            title=self.view.filename or self.view.url,
            policy=self._shared.policy,
            progress_done=self.claimed_bytes,
            args=self.args,
        )

    async def _attempt(self, attempt: Attempt) -> Published:
        self._attempts = attempt.number
        if self._engine is None:
            self._engine = Engine(self.session, self._adapters())
        self._tell(EventName.STARTED)
        try:
            published = await self._engine.attempt(
                attempt.generation, lambda durable: attempt.progress(durable, self.session.complete_length)
            )
        except DiskFull as error:
            if not self.request.options.wait_for_space:
                error.recovery_hint = disk_full_now(error)
            raise
        finally:
            self._refresh()
        self.view = replace(
            self.view, sha256=published.sha256, verified_by=published.verified_by, dest=str(published.path)
        )
        return published

    def found(self, there: There) -> Result:
        """Return the result of a download that needs no transfer."""
        self.view = replace(
            self.view,
            state=State.COMPLETE,
            dest=str(there.path),
            filename=there.path.name,
            bytes_done=there.size,
            bytes_total=there.size,
            sha256=there.sha256,
            verified_by=there.verified_by,
            actions=(),
        )
        self._tell(EventName.COMPLETED, there.note)
        for mailbox in self.mailboxes:
            mailbox.close()
        return Result(
            path=there.path,
            size=there.size,
            sha256=there.sha256,
            bytes_resumed=there.size,
            bytes_received=0,
            attempts=0,
            elapsed=self._shared.clock.monotonic() - self._started,
            verified_by=there.verified_by,
            download_id=self.session.download_id,
        )

    def _result(self, published: Published) -> Result:
        session = self.session
        return Result(
            path=published.path,
            size=published.size,
            sha256=published.sha256,
            bytes_resumed=min(self.view.bytes_resumed, published.size),
            bytes_received=session.received,
            attempts=self._attempts,
            elapsed=self._shared.clock.monotonic() - self._started,
            verified_by=published.verified_by,
            download_id=session.download_id,
            warnings=tuple(session.warnings),
        )

    # -- adapters ---------------------------------------------------------------------------------------------------

    def _adapters(self) -> Adapters:
        shared = self._shared
        limit = self.request.options.limit_rate
        own = None if limit is None else RateLimit(limit, shared.clock)
        return Adapters(
            transport=shared.transport,
            store=shared.store,
            clock=shared.clock,
            open_part=DiskPartFile.open,
            audit=_audit,
            follow=FollowBehind,
            choose_name=self._choose_name,
            throttle=combined(own, shared.rate_limit),
            notify=self._notify,
        )

    async def _choose_name(self, suggested: str) -> str:
        """Return ``suggested`` or a numbered form of it that no file, finished or not, has."""
        return await asyncio.to_thread(_free_name, self.request.directory, suggested)

    # -- telling ----------------------------------------------------------------------------------------------------

    def subscribe(self) -> Mailbox:
        """Return a new mailbox that gets every event from now on."""
        mailbox = Mailbox()
        self.mailboxes.append(mailbox)
        return mailbox

    def operation_event(self, event: OperationEvent) -> None:
        """Take the supervisor's news."""
        previous = self.view.state
        self.view = after_operation_event(self.view, event, max_no_progress=self._shared.policy.max_no_progress)
        if event.error is not None and event.state in {State.WAITING, State.PARKED, State.FAILED}:
            self.session.breaks.append(self.session.durable)
        self._refresh()
        name = _EVENT_OF.get(event.state)
        if name is not None and (event.state is not previous or event.state is State.WAITING):
            self._tell(name, self.view.error.message if self.view.error is not None else "")

    def _notify(self, name: EventName, message: str) -> None:
        if name is EventName.WARNING:
            self.session.warnings.append(message)
        if name is EventName.VERIFYING:
            self.view = replace(self.view, state=State.VERIFYING, rev=self.view.rev + 1)
        self._refresh()
        self._tell(name, message)

    def _refresh(self) -> None:
        """Bring the engine's numbers into the view."""
        session, shared = self.session, self._shared
        now = shared.clock.monotonic()
        self._speed.sample(now, session.received)
        rate = self._speed.rate(now, session.received) if self.view.state is State.RUNNING else 0.0
        total = session.complete_length
        done = session.durable
        dest = session.dest
        self.view = replace(
            self.view,
            filename=session.filename or self.view.filename,
            dest=self.view.dest if dest is None else str(dest),
            bytes_done=done if self.view.state is not State.COMPLETE else (total or done),
            bytes_total=total if total is not None else self.view.bytes_total,
            bytes_resumed=session.ledger.resumed if session.ledger is not None else self.view.bytes_resumed,
            bytes_received=session.received,
            breaks=tuple(session.breaks),
            speed=rate,
            eta=seconds_left(None if total is None else max(0, total - done), rate),
            can_resume=session.can_resume,
            restarted=session.restarted,
            elapsed=now - self._started,
            attempts=self._attempts,
            attempt=max(self.view.attempt, self._attempts),
        )

    def _tell(self, name: EventName, message: str = "") -> None:
        now = self._shared.clock.time()
        self.view = replace(self.view, updated_at=now, rev=self.view.rev + 1)
        event = DownloadEvent(event=name, view=self.view, message=message, ts=now)
        for mailbox in self.mailboxes:
            mailbox.put(event)
        self._shared.emit(event)

    # -- somebody else runs it --------------------------------------------------------------------------------------

    async def _follow(self, operation: Operation) -> Result | None:
        """Follow the process that holds the lease; its result is ours. None when it gave up the lease unfinished."""
        shared = self._shared
        self._tell(EventName.WARNING, "another process is already downloading this file; following it")
        while True:
            current = await shared.operation(operation.operation_id)
            if current is None:
                return None
            if current.state is State.COMPLETE:
                return await self._receipt(current)
            if not current.leased(shared.clock.time()):
                return None
            self.view = replace(
                self.view, state=current.state, bytes_done=current.progress_done, bytes_total=current.progress_total
            )
            self._tell(EventName.PROGRESS)
            await shared.clock.sleep(_FOLLOW_S)

    async def _receipt(self, operation: Operation) -> Result | None:
        receipt = await self._shared.store.receipt(operation.operation_id)
        if receipt is None:
            return None
        self.view = replace(
            self.view,
            state=State.COMPLETE,
            dest=str(receipt.path),
            filename=receipt.path.name,
            bytes_done=receipt.size,
            bytes_total=receipt.size,
            sha256=receipt.sha256,
            verified_by=receipt.verified_by,
        )
        self._tell(EventName.COMPLETED)
        return Result(
            path=receipt.path,
            size=receipt.size,
            sha256=receipt.sha256,
            bytes_resumed=0,
            bytes_received=0,
            attempts=operation.history.attempts,
            elapsed=self._shared.clock.monotonic() - self._started,
            verified_by=receipt.verified_by,
            download_id=operation.operation_id,
        )


_EVENT_OF: Final = {
    State.WAITING: EventName.WAITING,
    State.PARKED: EventName.PARKED,
    State.PAUSED: EventName.PAUSED,
    State.COMPLETE: EventName.COMPLETED,
    State.FAILED: EventName.FAILED,
    State.CANCELLED: EventName.CANCELLED,
}


def _audit(
    part: PartFile, claims: Mapping[int, Checkpoint], chunk_size: int, complete_length: int
) -> AsyncIterator[Audited]:
    return audit(part, claims, chunk_size=chunk_size, complete_length=complete_length)


def _free_name(directory: Path, suggested: str) -> str:
    name, n = suggested, 0
    while (directory / name).exists() or (directory / f"{name}.part").exists():
        n += 1
        name = numbered(suggested, n)
    return name
