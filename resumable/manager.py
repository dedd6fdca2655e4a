"""The ``DownloadManager``: starts downloads, remembers them across processes, and steers them. It composes engine
and recovery.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from recovery.classify import Classifier
from recovery.clock import Clock, SystemClock
from recovery.database import Database, Health
from recovery.events import HealthEvent, OperationEvent
from recovery.hostgates import JournalGates
from recovery.journal import JOURNAL, AttemptRecord, Journal, JsonValue
from recovery.owner import new_owner
from recovery.policy import RetryPolicy
from recovery.states import TERMINAL, State
from recovery.supervisor import Supervisor
from recovery.verdict import Condition
from recovery.watchers import standard_watchers
from resumable.catalog import Catalog
from resumable.checkpoints import SqliteCheckpoints
from resumable.diskspace import has_room_for
from resumable.errors import NeedsLink
from resumable.events import DownloadEvent, DownloadView
from resumable.handle import DownloadHandle
from resumable.linkstore import LinkStore
from resumable.model import DownloadRequest, Options, Result
from resumable.request import checked_request, id_of, key_of, links_of, relinked, request_of, stored_request
from resumable.rows import COMPANIONS, DOWNLOADS, DownloadRow
from resumable.run import Run, Shared
from resumable.slots import Slots
from resumable.statefile import default_state_path
from resumable.throttle import RateLimit
from resumable.transport import AiohttpTransport
from resumable.verdicts import download_rule
from resumable.verify import VerifyReport, already_there, verify_file

UNFINISHED: Final = frozenset(set(State) - TERMINAL)


class DownloadManager:
    """Downloads with a memory: everything it starts can be continued by the next process that opens the same state
    file.
    """

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
        transport: Any = None,
        longest_wait_s: float = math.inf,
        follow: bool = True,
    ) -> None:
        """``state`` None uses ``$RESUMABLE_STATE`` or the platform's state directory; ``limit_rate`` is bytes per
        second over all. A download whose next attempt is further away than ``longest_wait_s`` seconds ends with
        DownloadDeferred, for workers that have other things to do; with ``follow`` False one that another process runs
        ends with DownloadElsewhere in place of being followed.

        Raises ValueError for numbers that make no sense. Nothing is opened before ``async with``.
        """
        self._path = Path(state) if state is not None else default_state_path(os.environ)
        self._clock = clock or SystemClock()
        self._policy = policy or RetryPolicy()
        self._options = options or Options()
        self._slots = Slots(max_concurrent)
        self._rate_limit = None if limit_rate is None else RateLimit(limit_rate, self._clock)
        self._per_host = per_host
        self._longest_wait_s = longest_wait_s
        self._follow = follow
        self._given_transport = transport
        self._on_event = on_event
        self._on_health = on_health
        self._handles: dict[str, DownloadHandle] = {}
        self._runs: dict[str, Run] = {}
        self._closing = False

    # -- life -------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open the state file and the connection pool."""
        self._database = await Database.open(
            self._path, (JOURNAL, DOWNLOADS), clock=self._clock, on_health=self._on_health
        )
        self._journal = Journal(self._database, clock=self._clock, companions=COMPANIONS)
        self._store = SqliteCheckpoints(self._database, clock=self._clock)
        self._links = LinkStore(self._path.with_name(self._path.name + ".links"))
        self._transport = self._given_transport or AiohttpTransport(per_host=self._per_host)
        self._supervisor = Supervisor(
            self._journal,
            owner=await asyncio.to_thread(new_owner),
            classifier=Classifier([download_rule]),
            clock=self._clock,
            on_event=self._operation_event,
            longest_wait_s=self._longest_wait_s,
            gates=JournalGates(self._journal, clock=self._clock),
            watchers={**standard_watchers(), Condition.DISK_SPACE: has_room_for},
        )
        self._shared = Shared(
            clock=self._clock,
            transport=self._transport,
            store=self._store,
            links=self._links,
            supervisor=self._supervisor,
            operation=self._journal.get,
            policy=self._policy,
            slots=self._slots,
            rate_limit=self._rate_limit,
            emit=self._emit,
            follow=self._follow,
        )
        self._catalog = Catalog(self._journal, self._store, self._clock)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Checkpoint and keep what is running, then close everything."""
        self._closing = True
        await asyncio.gather(*(handle.stop() for handle in list(self._handles.values())))
        await self._supervisor.close()
        if self._given_transport is None:
            await self._transport.close()
        await self._database.close()

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

        ``dest`` is the finished file; without it the file is put into ``directory`` (default: the current one) under
        the name
        that the server or the URL gives. Raises ValueError for a bad URL or digest, DestinationError for a bad
        destination.
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
        return self._start(request, refresh_url=refresh_url, priority=priority, args=args)

    def _start(
        self,
        request: DownloadRequest,
        *,
        refresh_url: Callable[[], Awaitable[str]] | None = None,
        priority: int = 0,
        key: str | None = None,
        filename: str | None = None,
        args: Mapping[str, JsonValue] | None = None,
    ) -> DownloadHandle:
        key = key or key_of(request)
        download_id = id_of(key)
        live = self._handles.get(download_id)
        if live is not None and not live.done:
            return live
        run = Run(
            self._shared,
            request,
            download_id=download_id,
            key=key,
            refresh_url=refresh_url,
            priority=priority,
            filename=filename,
            args=args,
        )
        self._runs[download_id] = run
        handle = DownloadHandle(run, self)
        self._handles[download_id] = handle
        return handle

    def again(self, run: Run) -> Run:
        fresh = Run(
            self._shared,
            run.request,
            download_id=run.session.download_id,
            key=run.key,
            refresh_url=run.session.sources[0].refresh_url,
            priority=run.priority,
            filename=run.session.filename,
            args=run.args,
        )
        fresh.mailboxes = run.mailboxes
        self._runs[run.session.download_id] = fresh
        return fresh

    async def execute(self, run: Run) -> Result:
        """Run one download from the look at what is already there to the result."""
        request, download_id = run.request, run.session.download_id
        former, receipt, run.claimed_bytes = await self._store.known(download_id)
        there = await already_there(request, receipt, self._transport)
        if there is not None:
            return run.found(there)
        await self._remember(run, former)
        result = await run.run()
        await asyncio.to_thread(self._links.drop, download_id)
        return result

    async def _remember(self, run: Run, former: DownloadRow | None) -> None:
        """Write down what was asked for: the redacted form in the store, the secret half beside it."""
        request, download_id = run.request, run.session.download_id
        if former is not None and run.session.filename is None and not request.options.restart:
            run.session.filename = former.filename
        stored = stored_request(request)
        if stored["has_secrets"]:
            await asyncio.to_thread(self._links.put, download_id, links_of(request))
        row = DownloadRow(
            download_id=download_id,
            directory=str(request.directory),
            filename=run.session.filename,
            named_by="caller" if request.filename is not None else "origin",
            request=stored,
            representation=None,
            chunk_size=None,
        )
        if former != row:
            await self._store.put(row)

    # -- across processes -------------------------------------------------------------------------------------------

    async def recover(
        self, ids: Sequence[str] | None = None, *, states: Collection[State] | None = None
    ) -> list[DownloadHandle]:
        """Continue what former processes left unfinished, or exactly ``ids``; what another process runs is joined.

        A download whose secret link is no longer known is left out (its view says so); ``relink`` brings it back.
        """
        wanted = UNFINISHED if states is None else frozenset(states)
        handles: list[DownloadHandle] = []
        for row in await self._store.rows():
            if ids is not None and row.download_id not in ids:
                continue
            operation = await self._journal.get(row.download_id)
            if ids is None and (operation is None or operation.state not in wanted):
                continue
            links = await asyncio.to_thread(self._links.get, row.download_id)
            request = request_of(row, links, self._options)
            if request is None:
                if ids is not None:
                    relink = f"resumable relink {row.download_id} URL"
                    raise NeedsLink(f"the link of {row.download_id} is not kept; give a fresh one: {relink}")
                continue
            key = operation.key if operation is not None else key_of(request)
            args = None if operation is None else operation.args
            handles.append(self._start(request, key=key, filename=row.filename, args=args))
        return handles

    async def downloads(self, *, project: str | None = None) -> list[DownloadView]:
        """Return every known download, newest first; live ones as they are this moment."""
        views = await self._catalog.views(project=project)
        return [self._live(view) for view in views]

    async def find(self, id_or_prefix: str) -> DownloadView:
        """Return the download with this id, prefix of an id, or path; raises LookupError where there is none or
        several.
        """
        return self._live(await self._catalog.find(id_or_prefix))

    async def history(self, download_id: str) -> list[AttemptRecord]:
        """Return the attempts made so far, oldest first."""
        return await self._journal.attempts(download_id)

    async def pause(self, download_id: str) -> DownloadView:
        """Pause a download wherever it runs; returns once this process has done so or the other was told."""
        handle = self._handles.get(download_id)
        if handle is not None:
            await handle.pause()
        else:
            await self._catalog.command(download_id, "pause")
        return await self.find(download_id)

    async def cancel(self, download_id: str, *, delete_part: bool = False) -> DownloadView:
        """Cancel a download wherever it runs."""
        handle = self._handles.get(download_id)
        if handle is not None:
            await handle.cancel(delete_part=delete_part)
        else:
            await self._catalog.command(download_id, "cancel")
            if delete_part:
                await self._catalog.settled(download_id)
                row = await self._store.get(download_id)
                await self.delete_part(None if row is None else row.dest)
        await asyncio.to_thread(self._links.drop, download_id)
        return await self.find(download_id)

    async def retry(self, download_id: str) -> DownloadView:
        """End a wait at once wherever it runs, or make an ended download eligible again with a fresh budget."""
        handle = self._handles.get(download_id)
        if handle is not None:
            handle.retry_now()
        else:
            await self._catalog.command(download_id, "retry_now")
        return await self.find(download_id)

    async def relink(self, download_id: str, url: str) -> DownloadView:
        """Give a download a fresh link; its bytes are kept and proved against what the new link serves."""
        row = await self._store.get(download_id)
        if row is None:
            raise LookupError(f"no download {download_id}")
        links = await asyncio.to_thread(self._links.get, download_id)
        changed, fresh = relinked(row, links, url)
        await asyncio.to_thread(self._links.put, download_id, fresh)
        await self._store.put(changed)
        return await self.find(download_id)

    async def verify(self, path: Path, *, sha256: str | None = None) -> VerifyReport:
        """Read a finished file again and compare it with ``sha256`` or with the receipt of its download."""
        path = await asyncio.to_thread(path.absolute)
        receipt = await self._store.receipt_for(path)
        return await verify_file(path, receipt, sha256=sha256)

    async def prune(self, *, older_than_s: float) -> int:
        """Forget downloads that ended longer ago than ``older_than_s`` seconds; their files stay. Returns how many."""
        return await self._catalog.prune(older_than_s)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _live(self, view: DownloadView) -> DownloadView:
        run = self._runs.get(view.download_id)
        handle = self._handles.get(view.download_id)
        return run.view if run is not None and handle is not None and not handle.done else view

    def _operation_event(self, event: OperationEvent) -> None:
        run = self._runs.get(event.operation_id)
        if run is not None:
            run.operation_event(event)

    def _emit(self, event: DownloadEvent) -> None:
        if self._on_event is not None:
            self._on_event(event)

    async def delete_part(self, dest: Path | None) -> None:
        if dest is not None:
            part = dest.with_name(dest.name + ".part")
            await asyncio.to_thread(part.unlink, missing_ok=True)


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
