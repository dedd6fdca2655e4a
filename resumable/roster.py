"""The downloads this process has in hand: begins them, runs them again after a pause, writes down what was asked."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final, TypeAlias

from recovery.journal import JsonValue
from recovery.slots import Slots
from recovery.states import State
from resumable.errors import DownloadElsewhere, DownloadError
from resumable.events import DownloadEvent, DownloadView, EventName
from resumable.handle import DownloadHandle
from resumable.joined import JoinedHandle
from resumable.linkstore import LinkStore
from resumable.merging import Known
from resumable.model import DownloadRequest, Result, There
from resumable.redact import redact_url
from resumable.request import id_of, key_of, links_of, relinked, require_same_file, stored_request
from resumable.rows import DownloadRow
from resumable.run import Run
from resumable.shared import Shared
from resumable.standing import Standing
from resumable.stopping import unless_stopped
from resumable.unclobbered import asks, before_answer
from resumable.verify import FileSize, already_there, has_place, peek
from resumable.views import first_view
from resumable.viewwriter import ViewWriter

__all__ = ["Found", "Roster"]

_NOTHING_LEFT: Final = frozenset({State.COMPLETE, State.CANCELLED})
"""In these a download's secret links have served; whoever asks again brings them along."""

Found: TypeAlias = tuple[Result, DownloadView]
"""A finished download, and how it stands."""

Told = Callable[[Standing, DownloadEvent | None], None]


class Roster:
    """One handle for each download that was started here, and what the handles need of a manager."""

    def __init__(
        self, shared: Shared, links: LinkStore, views: ViewWriter, *, told: Told, looking_at_once: int
    ) -> None:
        """``told`` is called with every event of every download. At most ``looking_at_once`` of them look at what is
        already there, which keeps them in order and a list of a thousand from reading a thousand files at once.
        """
        self._shared = shared
        self._links = links
        self._views = views
        self._told = told
        self._looking = Slots(looking_at_once)
        self._handles: dict[str, DownloadHandle] = {}
        self._stopped = False

    def start(
        self,
        request: DownloadRequest,
        *,
        refresh_url: Callable[[], Awaitable[str]] | None = None,
        priority: int = 0,
        key: str | None = None,
        filename: str | None = None,
        args: Mapping[str, JsonValue] | None = None,
    ) -> DownloadHandle:
        """Return the handle of a download that runs from now on, or of the one that runs for this key already; one that
        was paused here goes on.
        """
        self._require_open()
        key = key or key_of(request)
        download_id = id_of(key)
        live = self._handles.get(download_id)
        if live is not None and not live.ended:
            require_same_file(stored_request(live.request), request, live.download_id)
            live.take_up()
            if request.sha256 is None or request.sha256 == live.request.sha256:
                return live
            return JoinedHandle(live, request.sha256)
        view = first_view(
            request,
            download_id=download_id,
            filename=filename,
            policy=self._shared.policy,
            owner=self._shared.supervisor.owner,
            now=self._shared.clock.time(),
        )
        standing = Standing(view, clock=self._shared.clock, told=self._told)
        run = Run(
            self._shared,
            request,
            standing,
            key=key,
            refresh_url=refresh_url,
            priority=priority,
            filename=filename,
            args=args,
        )
        handle = DownloadHandle(run, self)
        self._handles[download_id] = handle
        return handle

    async def finished(self, request: DownloadRequest) -> Found | None:
        """Return the result of a download that the store knows to be complete and whose file stands there unchanged, as
        far as its origin says, and its view; None where it takes a run to tell, or there is something to be recorded.

        Without a handle, events and a new view: of a task that awaits such a file they were a fifth of the time.

        Raises:
            DownloadElsewhere: another process runs it, and is not to be followed.
            DestinationError: that one, or what stands at the destination, is in the way.
        """
        self._require_open()
        download_id, options, shared = id_of(key_of(request)), request.options, self._shared
        live = self._handles.get(download_id)
        if options.restart or options.no_clobber or (live is not None and not live.ended):
            return None
        peeked = self._peek(request)
        if peeked is None:
            return None
        began = shared.clock.monotonic()
        turn = self._looking.line_up()
        try:
            known = await self._known(download_id, request)
            receipt, seen = known.receipt, known.seen
            if receipt is None or seen is None or not known.settled_for(request):
                return None
            if await peeked != (receipt.size, receipt.mtime_ns):
                return None
            there = await already_there(request, receipt, shared.transport, peeked=peeked)
        finally:
            self._step_back(turn)
        if there is None:
            return None
        return there.result(download_id, elapsed=shared.clock.monotonic() - began), seen

    # -- for its handles -----------------------------------------------------------------------------------------------

    def again(self, handle: DownloadHandle, run: Run) -> Run:
        """Return a new run of the same download, for its handle; raises RuntimeError once the manager is closed."""
        self._require_open()
        self._handles[handle.download_id] = handle
        return Run(
            self._shared,
            run.request,
            run.standing,
            key=run.key,
            refresh_url=run.refresh_url,
            priority=run.priority,
            filename=run.session.filename,
            args=run.args,
        )

    async def execute(self, run: Run) -> Result:
        """Run one download from the look at what is already there to the result, for its handle."""
        try:
            return await self._execute(run)
        finally:
            if run.request.dest is not None:
                self._shared.promised.discard(run.request.dest)
            if run.standing.view.state in _NOTHING_LEFT and run.may_keep_links:
                former = run.former
                none_kept = run.standing.known_complete and former is not None and not former.request.get("has_secrets")
                if not none_kept:
                    await asyncio.to_thread(self._links.drop, run.download_id)

    async def _execute(self, run: Run) -> Result:
        peeked = self._peek(run.request)
        turn = self._looking.line_up(run.priority)
        with ExitStack() as looking:
            looking.callback(self._step_back, turn)
            known = await self._known(run.download_id, run.request)
            run.take_up(known)
            run.standing.tell(EventName.QUEUED)
            if not known.complete:
                await self._remember(run)
            there = await self._look(run, known, turn, peeked)
            if there is not None:
                return await run.found(there)
            if known.complete:
                await self._remember(run)
            return await run.run(in_line=looking.close, remember=self._remember)

    async def _known(self, download_id: str, request: DownloadRequest) -> Known:
        """Return what the store knows; raises DownloadElsewhere where another process runs it and is not followed,
        DestinationError where that one is after another file.
        """
        known = await self._shared.catalog.known(download_id, self._shared.supervisor.owner)
        if known.leased and known.row is not None:
            require_same_file(known.row.request, request, download_id)
        if known.leased and not self._shared.follow:
            raise DownloadElsewhere(download_id, url=redact_url(request.url))
        return known

    def _peek(self, request: DownloadRequest) -> Awaitable[FileSize | None] | None:
        """Look at the destination while the state file is read: a finished file is found a turn of a thread sooner."""
        if request.dest is None or not self._looking.at_once:
            return None
        return asyncio.get_running_loop().run_in_executor(None, peek, request.dest)

    async def _look(
        self, run: Run, known: Known, turn: asyncio.Future[None], peeked: Awaitable[FileSize | None] | None
    ) -> There | None:
        """Return the file that makes a transfer needless; None also once somebody wants to stop, which its run does."""
        request, receipt, shared = run.request, known.receipt, self._shared
        unclobbered = asks(request)
        if turn.done() and not turn.cancelled() and not (unclobbered or has_place(request, receipt)):
            return None  # of most of a list of links: no task for that

        async def look() -> There | None:
            await turn
            if unclobbered:
                return await before_answer(request, receipt, shared.brought)
            return await already_there(request, receipt, shared.transport, peeked=peeked)

        try:
            return await unless_stopped(run.control, look())
        except DownloadError:
            if known.fresh:
                await self._shared.supervisor.edge.ask(self._shared.catalog.unbegun(run.download_id))
                await asyncio.to_thread(self._links.drop, run.download_id)
            raise

    def _step_back(self, turn: asyncio.Future[None]) -> None:
        """Give a turn to look to the next one, used or not."""
        if not turn.done():
            turn.cancel()
        elif not turn.cancelled():
            self._looking.release()

    async def put_down(self, run: Run) -> None:
        """Record what was stopped before its supervisor had it, for its handle: that it goes on in the next process."""
        shared = self._shared
        if run.control.state is not None:
            return
        owner = shared.supervisor.owner
        known = await shared.catalog.known(run.download_id, owner)
        if known.complete or known.leased:
            return
        if not run.remembered:
            run.take_up(known)
            await self._remember(run)
        generation = await shared.supervisor.edge.ask(shared.catalog.stopped(run.spec(), owner))
        if generation is not None:
            run.standing.generation = generation
            run.standing.become(State.PAUSED)

    async def _remember(self, run: Run, generation: int | None = None) -> None:
        """Write down what was asked for: the redacted form in the store, the secret half beside it; nothing while
        another process runs it. Under a lease, ``generation``, it is put right where another has written meanwhile.
        """
        request, former, store = run.request, run.former, self._shared.store
        stored = run.stored
        row = DownloadRow(
            download_id=run.download_id,
            directory=str(request.directory),
            filename=run.session.filename,
            named_by="caller" if request.filename is not None else "origin",
            request=stored,
            representation=None if former is None else former.representation,
            chunk_size=None if former is None else former.chunk_size,
            link="" if former is None else former.link,
        )
        if generation is not None:
            (of, known, saved), run.at_claim = run.at_claim or (None, None, None), None
            if of != generation:  # there was no look, or the lease it was for came to nothing
                known, saved = await store.look(run.download_id)
            if known is not None and known.request == stored:
                run.session.looked = (saved,)  # under its lease, so nobody changes it before it is loaded
                return
            run.session.looked = None
        owner = self._shared.supervisor.owner
        beginning = self._shared.catalog.beginning(run.spec())

        def begin(conn: sqlite3.Connection) -> None:
            run.entered = beginning(conn)

        secret = bool(stored["has_secrets"])
        then = None if secret else self._dropping(run.download_id)
        if not await store.enter(row, owner=owner, generation=generation, begin=begin, then=then):
            return
        if secret:
            await asyncio.to_thread(self._links.put, run.download_id, links_of(request))
        run.may_keep_links = secret
        run.remembered = True

    def _dropping(self, download_id: str) -> Callable[[], None]:
        """Return what drops the links of a download, in another thread; once, however often it is called: a state file
        that comes back late must not take what was kept meanwhile.
        """
        left = [download_id]

        def drop() -> None:
            self._links.drop_all(left)
            left.clear()

        return drop

    async def abandon(self, download_id: str) -> None:
        """Record that a download that does not run here is cancelled, for its handle."""
        await self._shared.catalog.command(download_id, "cancel")
        await asyncio.to_thread(self._links.drop, download_id)

    async def delete_abandoned(self, download_id: str) -> bool:
        """Delete the part file of a download that was cancelled, wherever it ran; return whether that could be done.

        Not under its process, which may still write; nor where that was done, or failed, before it was told.
        """
        if await self._shared.catalog.settled(download_id) is not State.CANCELLED:
            return False
        row = await self._shared.store.get(download_id)
        await self.delete_part(None if row is None else row.dest)
        return True

    async def written(self) -> None:
        """Return when other processes see what this one sees, for a handle."""
        await self._views.flush()

    def over(self, handle: DownloadHandle) -> None:
        """Forget a handle that has ended; whoever holds it can go on with it all the same."""
        if self._handles.get(handle.download_id) is handle:
            del self._handles[handle.download_id]

    async def delete_part(self, dest: Path | None) -> None:
        """Delete the part file of a destination, for its handle."""
        if dest is not None:
            part = dest.with_name(dest.name + ".part")
            await asyncio.to_thread(part.unlink, missing_ok=True)

    # -- for its manager -----------------------------------------------------------------------------------------------

    def get(self, download_id: str) -> DownloadHandle | None:
        """Return the handle of a download that runs, waits or is paused here; None for any other."""
        return self._handles.get(download_id)

    async def relink(self, download_id: str, url: str) -> None:
        """Give a download a fresh link; see ``DownloadManager.relink``."""
        entry = await self._shared.catalog.entry(download_id)
        if entry is None:
            raise LookupError(f"no download {download_id}")
        handle = self._handles.get(download_id)
        here = handle is not None and not handle.ended
        if not here and entry.operation.leased(self._shared.clock.time()):
            msg = f"{download_id} is running in another process with the link it has; pause it first"
            raise DownloadElsewhere(download_id, entry.view.url, msg)
        links = await asyncio.to_thread(self._links.get, download_id)
        row, fresh = relinked(entry.row, links, url)
        if handle is not None:
            handle.relink(url)
        await asyncio.to_thread(self._links.put, download_id, fresh)
        await self._shared.store.put(row)

    def view_here(self, download_id: str) -> DownloadView | None:
        """Return the view of a download that runs or waits in this process; None for any other."""
        handle = self._handles.get(download_id)
        return handle.view if handle is not None and not handle.done else None

    def _require_open(self) -> None:
        if self._stopped:
            raise RuntimeError("this DownloadManager is closed; the next one can go on with the download")

    async def stop(self) -> None:
        """Stop all of them as at the end of the program; none is begun any more."""
        self._stopped = True
        await asyncio.gather(*(handle.stop() for handle in list(self._handles.values())))
