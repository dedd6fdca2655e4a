"""The ``DownloadManager``: starts downloads, remembers them across processes, and steers them. It composes engine
and recovery.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from recovery.classify import Classifier
from recovery.clock import Clock, SystemClock
from recovery.database import Database, Health
from recovery.events import HealthEvent, OperationEvent
from recovery.hostgates import JournalGates
from recovery.journal import JOURNAL, AttemptRecord, Journal, JsonValue
from recovery.owner import new_owner
from recovery.policy import RetryPolicy
from recovery.shield import to_the_end
from recovery.states import ACTIVE, State
from recovery.supervisor import Supervisor
from recovery.verdict import Condition
from recovery.watchers import standard_watchers
from resumable.catalog import Catalog, Entry
from resumable.checkpoints import SqliteCheckpoints
from resumable.diskspace import has_room_for
from resumable.errors import NeedsLink
from resumable.events import LOSSY, DownloadEvent, DownloadView
from resumable.handle import DownloadHandle
from resumable.linkstore import LinkStore
from resumable.model import DownloadRequest, Options, Result
from resumable.opened import Opened
from resumable.ports import Transport
from resumable.request import checked_request, request_of
from resumable.roster import Found, Roster
from resumable.rows import COMPANIONS, DOWNLOADS, claimed_ids
from resumable.shared import Shared
from resumable.standing import Standing
from resumable.statefile import default_state_path
from resumable.tail import Tail
from resumable.throttle import RateLimit
from resumable.transport import AiohttpTransport
from resumable.verdicts import described, download_rule
from resumable.verify import VerifyReport, verify_file
from resumable.viewwriter import ViewWriter

__all__ = ["DownloadManager", "download"]

log = logging.getLogger("resumable")


class DownloadManager:
    """Downloads with a memory: everything it starts can be continued by the next process that opens the same state
    file. What it is asked outside its ``async with`` raises RuntimeError.
    """

    _database = Opened[Database]()
    _journal = Opened[Journal]()
    _store = Opened[SqliteCheckpoints]()
    _links = Opened[LinkStore]()
    _catalog = Opened[Catalog]()
    _views = Opened[ViewWriter]()
    _roster = Opened[Roster]()

    def __init__(  # noqa: PLR0913 - keyword-only, and each has a default that is right for most
        self,
        *,
        state: Path | str | None = None,
        max_concurrent: int = 4,
        per_host: int = 16,
        limit_rate: int | None = None,
        policy: RetryPolicy | None = None,
        options: Options | None = None,
        on_event: Callable[[DownloadEvent], None] | None = None,
        on_health: Callable[[HealthEvent], None] | None = None,
        clock: Clock | None = None,
        transport: Transport | None = None,
        longest_wait_s: float = math.inf,
        follow: bool = True,
    ) -> None:
        """``state`` None uses ``$RESUMABLE_STATE`` or the platform's state directory; ``limit_rate`` is bytes per
        second over all. ``max_concurrent`` downloads transfer at once; what waits or is parked does not count.
        ``per_host`` is the most connections to one host, over all downloads. A download whose next attempt is further
        away than ``longest_wait_s`` seconds ends with DownloadDeferred, for workers that have other things to do; with
        ``follow`` False one that another process runs ends with DownloadElsewhere in place of being followed. Nothing
        is opened before ``async with``.

        Raises:
            ValueError: a number that makes no sense.
        """
        for name, number in (("max_concurrent", max_concurrent), ("per_host", per_host), ("limit_rate", limit_rate)):
            if number is not None and number < 1:
                msg = f"{name} must be at least 1, not {number}"
                raise ValueError(msg)
        self._path = Path(state) if state is not None else default_state_path(os.environ)
        self._clock = clock or SystemClock()
        self._policy = policy or RetryPolicy()
        self._options = options or Options()
        self._max_concurrent = max_concurrent
        self._rate_limit = None if limit_rate is None else RateLimit(limit_rate, self._clock)
        self._per_host = per_host
        self._longest_wait_s = longest_wait_s
        self._follow = follow
        self._given_transport = transport
        self._on_event = on_event
        self._on_health = on_health

    # -- life ----------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open the state file and the connection pool."""
        async with AsyncExitStack() as closing:
            await self._open(closing)
            self._closing = closing.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Checkpoint and keep what is running, then close everything."""
        try:
            await to_the_end(self._closing.aclose())
        finally:
            Opened.close(self)

    async def _open(self, closing: AsyncExitStack) -> None:
        clock = self._clock
        database = await Database.open(self._path, (JOURNAL, DOWNLOADS), clock=clock, on_health=self._on_health)
        self._database = await closing.enter_async_context(database)
        self._journal = Journal(database, clock=clock, companions=COMPANIONS, needed=claimed_ids)
        self._store = SqliteCheckpoints(database, clock=clock)
        self._links = LinkStore(self._path.with_name(self._path.name + ".links"))
        self._catalog = Catalog(database, self._journal, clock)
        transport = self._given_transport
        if transport is None:
            transport = own = AiohttpTransport(per_host=self._per_host)
            closing.push_async_callback(own.close)
        self._views = ViewWriter(database, clock)
        closing.push_async_callback(self._views.close)
        supervisor = Supervisor(
            self._journal,
            owner=await asyncio.to_thread(new_owner),
            classifier=Classifier([download_rule]),
            clock=clock,
            on_event=self._operation_event,
            describe=described,
            max_concurrent=self._max_concurrent,
            longest_wait_s=self._longest_wait_s,
            gates=JournalGates(self._journal, clock=clock),
            watchers={**standard_watchers(), Condition.DISK_SPACE: has_room_for},
        )
        closing.push_async_callback(supervisor.close)
        shared = Shared(
            clock=clock,
            transport=transport,
            store=self._store,
            catalog=self._catalog,
            supervisor=supervisor,
            policy=self._policy,
            rate_limit=self._rate_limit,
            follow=self._follow,
        )
        self._roster = Roster(shared, self._links, self._views, told=self._told, looking_at_once=self._max_concurrent)
        closing.push_async_callback(self._roster.stop)

    @property
    def journal(self) -> Journal:
        """The journal in the state file, for operations of other kinds beside the downloads."""
        return self._journal

    @property
    def health(self) -> Health:
        """Whether what is done now will be remembered."""
        return self._database.health

    @property
    def health_reason(self) -> str:
        """Why not, in plain language; empty when all is well."""
        return self._database.health_reason

    # -- starting ---------------------------------------------------------------------------------------------------

    def start(  # noqa: PLR0913 - what can be said about a download; a record would only be in its users' way
        self,
        url: str,
        dest: Path | str | None = None,
        *,
        directory: Path | str | None = None,
        project: str = "",
        mirrors: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
        sha256: str | None = None,
        refresh_url: Callable[[], Awaitable[str]] | None = None,
        priority: int = 0,
        options: Options | None = None,
        args: Mapping[str, JsonValue] | None = None,
    ) -> DownloadHandle:
        """Start a download, or join the one that already runs for this destination in this process.

        One that was paused here goes on.

        ``dest`` is the finished file; without it the file is put into ``directory`` (default: the current one) under
        the name that the server or the URL gives.

        Raises:
            ValueError: a bad URL, digest, header or number.
            DestinationError: a bad destination, or one that is being downloaded from another link or with another
                digest.
        """
        request = checked_request(
            url,
            dest,
            directory=directory,
            project=project,
            mirrors=mirrors,
            headers=headers,
            sha256=sha256,
            options=options or self._options,
        )
        return self._roster.start(request, refresh_url=refresh_url, priority=priority, args=args)

    async def finished(self, url: str, dest: Path | str | None = None, **request: Any) -> Found | None:
        """Return what is finished as ``start`` would be asked for it; None where it has to be started."""
        known = {name: value for name, value in request.items() if name not in {"refresh_url", "priority", "args"}}
        options = known.pop("options", None) or self._options
        return await self._roster.finished(checked_request(url, dest, options=options, **known))

    def handle(self, download_id: str) -> DownloadHandle | None:
        """Return the handle of a download that runs, waits or is paused in this process; None for any other."""
        roster: Roster | None = self.__dict__.get("_roster")  # nothing runs in a manager that is not open
        return None if roster is None else roster.get(download_id)

    # -- across processes -------------------------------------------------------------------------------------------

    async def recover(
        self,
        ids: Sequence[str] | None = None,
        *,
        states: Collection[State] | None = None,
        args: Mapping[str, JsonValue] | None = None,
    ) -> list[DownloadHandle]:
        """Continue what former processes left unfinished, or exactly ``ids``; what another process runs is joined.

        What a person has paused stays paused, unless it is among ``ids`` or ``states``. A download whose secret link is
        no longer known is left out (its view says so); ``relink`` brings it back. ``args`` replace those it was
        started with.

        Raises:
            NeedsLink: the link of one of ``ids`` is no longer known; none of them is started.
        """
        left: list[tuple[Entry, DownloadRequest]] = []
        for entry in reversed(await self._catalog.entries(ids)):
            state = entry.operation.state
            unfinished = state in ACTIVE or entry.interrupted
            if ids is None and not (unfinished if states is None else state in states):
                continue
            row = entry.row
            request = request_of(row, await asyncio.to_thread(self._links.get, row.download_id), self._options)
            if request is not None:
                left.append((entry, request))
            elif ids is not None:  # before any is started: nobody would have the handles of those
                relink = f"resumable relink {row.download_id} URL"
                raise NeedsLink(f"the link of {row.download_id} is not kept; give a fresh one: {relink}")
        return [self._continue(entry, request, args) for entry, request in left]

    def _continue(self, entry: Entry, request: DownloadRequest, args: Mapping[str, JsonValue] | None) -> DownloadHandle:
        row, operation = entry.row, entry.operation
        return self._roster.start(
            request,
            key=operation.key,
            filename=row.filename,
            priority=int(row.request.get("priority", 0)),
            args=operation.args if args is None else args,
        )

    async def downloads(self, *, project: str | None = None) -> list[DownloadView]:
        """Return every known download, newest first, as whoever runs it sees it."""
        await self._views.settle()
        views = await self._catalog.views(project=project)
        return [self._roster.view_here(view.download_id) or view for view in views]

    async def find(self, id_or_prefix: str) -> DownloadView:
        """Return the download with this id, prefix of an id, or path; raises LookupError where there is none or
        several.
        """
        await self._views.settle()
        view = await self._catalog.find(id_or_prefix)
        return self._roster.view_here(view.download_id) or view

    def tail(self) -> Tail:
        """Return a reader of what changes, in this process and in others; its first look is at everything."""
        return Tail(self._catalog, self._clock, self._roster.view_here)

    async def history(self, download_id: str) -> list[AttemptRecord]:
        """Return the attempts made so far, oldest first."""
        return await self._journal.attempts(download_id)

    async def pause(self, download_id: str) -> DownloadView:
        """Pause a download wherever it runs; returns once this process has done so or the other was told.

        Raises:
            LookupError: there is no such download.
            DownloadError: it has ended.
        """
        handle = self._roster.get(download_id)
        if handle is not None and not handle.done:
            await handle.pause()
        else:
            await self._catalog.command(download_id, "pause")
        return await self.find(download_id)

    async def cancel(self, download_id: str, *, delete_part: bool = False) -> DownloadView:
        """Cancel a download wherever it runs; raises as ``pause``. What another process had received is deleted only
        where that obeys within a few seconds.
        """
        handle = self._roster.get(download_id)
        if handle is not None and not handle.ended:
            await handle.cancel(delete_part=delete_part)
        else:
            await self._roster.abandon(download_id)
            if delete_part and await self._roster.delete_abandoned(download_id):
                Standing(await self._catalog.find(download_id), clock=self._clock, told=self._told).emptied()
                await self._views.settle()
        return await self.find(download_id)

    async def retry(self, download_id: str) -> DownloadView:
        """End a wait at once wherever it waits, or make an ended download eligible again with a fresh budget."""
        handle = self._roster.get(download_id)
        if handle is not None and not handle.ended:
            handle.retry_now()
        else:
            await self._catalog.command(download_id, "retry_now")
        return await self.find(download_id)

    async def relink(self, download_id: str, url: str) -> DownloadView:
        """Give a download a fresh link; its bytes are kept and proved against what the new link serves.

        Raises:
            LookupError: there is no such download.
            ValueError: not a link.
            DownloadElsewhere: another process is running it.
        """
        await self._roster.relink(download_id, url)
        return await self.find(download_id)

    async def verify(self, path: Path, *, sha256: str | None = None) -> VerifyReport:
        """Read a finished file again and compare it with ``sha256`` or with the receipt of its download."""
        path = await asyncio.to_thread(path.absolute)
        receipt = await self._store.receipt_for(path)
        return await verify_file(path, receipt, sha256=sha256)

    async def prune(self, *, older_than_s: float) -> int:
        """Forget what ended over ``older_than_s`` seconds ago, but no failed one that can go on; returns how many."""
        forgotten = await self._catalog.prune(older_than_s)
        await asyncio.to_thread(self._links.drop_all, forgotten)
        return len(forgotten)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _operation_event(self, event: OperationEvent) -> None:
        handle = self._roster.get(event.operation_id)
        if handle is not None:
            handle.operation_event(event)

    def _told(self, standing: Standing, event: DownloadEvent | None) -> None:
        # That it waits in line, the operation's row says as well.
        urgent = standing.view.state is not State.QUEUED and (event is None or event.event not in LOSSY)
        # While it is only asked whether a finished file is still the right one, every process shows what is true.
        self._views.put(standing, urgent=urgent and not standing.known_complete)
        if event is None or self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception:  # an observer's code must not fail what it observes
            log.exception("observer-failed", extra={"download_id": standing.view.download_id})


async def download(
    url: str,
    dest: Path | str | None = None,
    *,
    state: Path | str | None = None,
    on_event: Callable[[DownloadEvent], None] | None = None,
    policy: RetryPolicy | None = None,
    **request: Any,
) -> Result:
    """Download one file and return its ``Result``; the same call continues it after any interruption.

    ``request`` takes what ``DownloadManager.start`` takes. Raises ValueError for bad input and DownloadError
    subclasses.
    """
    async with DownloadManager(state=state, on_event=on_event, policy=policy) as manager:
        return await manager.start(url, dest, **request)
