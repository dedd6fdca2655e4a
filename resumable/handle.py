"""What ``DownloadManager.start`` gives back: one download of this process, to await and to steer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Generator
from pathlib import Path
from typing import Any, Protocol

from recovery.events import OperationEvent
from recovery.states import State
from resumable.errors import DownloadCancelled, DownloadPaused
from resumable.events import DownloadEvent, DownloadView
from resumable.model import DownloadRequest, Result
from resumable.run import Run

__all__ = ["DownloadHandle", "Keeper"]


class Keeper(Protocol):
    """What a handle asks of its manager."""

    def execute(self, run: Run) -> Coroutine[Any, Any, Result]:
        """Run one download from the look at what is already there to the result."""

    def again(self, handle: DownloadHandle, run: Run) -> Run:
        """Return a new run of the same download."""

    def over(self, handle: DownloadHandle) -> None:
        """Learn that nothing more comes of it by itself."""

    async def written(self) -> None:
        """Return when other processes see what this one sees."""

    async def abandon(self, download_id: str) -> None:
        """Record that a download that does not run is cancelled."""

    async def put_down(self, run: Run) -> None:
        """See to it that a run that was stopped early can be continued by another process."""

    async def delete_part(self, dest: Path | None) -> None:
        """Delete the part file of this destination."""


class DownloadHandle:
    """A running, waiting, paused or finished download of this process; await it for its ``Result``.

    Any number of tasks may await it, read its events and steer it.
    """

    def __init__(self, run: Run, keeper: Keeper) -> None:
        """Made by ``DownloadManager.start``."""
        self._keeper = keeper
        self._run = run
        self._held = False
        self._moved = asyncio.Event()
        self._cancelled = False
        self._task: asyncio.Task[Result]
        self._execute()

    def __repr__(self) -> str:
        """Show which one it is and how it stands."""
        return f"<DownloadHandle {self.download_id} {self.view.state.value}>"

    @property
    def download_id(self) -> str:
        """The id that the store, the events and the command line use."""
        return self._run.download_id

    @property
    def request(self) -> DownloadRequest:
        """What was asked for; its links and headers may hold secrets."""
        return self._run.request

    @property
    def done(self) -> bool:
        """Whether nothing of it runs or waits in this process: it has ended or is paused."""
        return self._task.done()

    @property
    def ended(self) -> bool:
        """Whether awaiting it returns or raises at once."""
        return self._task.done() and not self._held

    @property
    def held(self) -> bool:
        """Whether it was paused here: whoever awaits it goes on waiting until it is resumed or cancelled."""
        return self._held

    @property
    def view(self) -> DownloadView:
        """How it stands right now."""
        return self._run.standing.view

    def __await__(self) -> Generator[Any, None, Result]:
        """Wait for the result, also over pauses of this handle. Cancelling the waiter does not stop the download.

        Raises:
            DownloadError: it failed; DownloadPaused where another process paused it or the manager was closed.
        """
        return self._wait().__await__()

    async def _wait(self) -> Result:
        while True:
            task = self._task
            try:
                return await asyncio.shield(task)
            except DownloadPaused:
                if not self._held and task is self._task:  # another one: it was resumed before we looked
                    self._raise_cancelled()
                    raise
            except asyncio.CancelledError:
                if not task.cancelled():
                    raise  # it is the waiter that is cancelled
                if self._run.done is not None:
                    return self._run.done  # it was stopped when all was done
                raise DownloadPaused("the download was stopped; what it has is kept", url=self.view.url) from None
            await self._moved.wait()

    def _raise_cancelled(self) -> None:
        if self._cancelled:
            raise DownloadCancelled("the download was cancelled", url=self.view.url) from None

    async def events(self) -> AsyncIterator[DownloadEvent]:
        """Yield what happens from now on, until it ends; of one that has ended, how. Pausing the handle is no end.

        Slow readers miss progress, never a state, unless more than 10,000 of them wait to be read.
        """
        mailbox = self._run.standing.subscribe()
        try:
            async for event in mailbox.read():
                yield event
        finally:
            self._run.standing.unsubscribe(mailbox)

    async def pause(self) -> None:
        """Stop transferring and keep everything; returns when the last checkpoint is committed.

        No effect once it has ended.
        """
        if self._task.done():
            return
        self._held = True
        self._moved.clear()
        self._run.control.pause()
        await asyncio.wait({self._task})
        if self.view.state is not State.PAUSED:
            self._let_go()  # it came to its end before it could be paused
        await self._keeper.written()

    async def resume(self) -> None:
        """Go on after ``pause``, a failure or a cancellation; no effect while it runs or once it is complete."""
        self._restart()

    async def cancel(self, *, delete_part: bool = False) -> None:
        """Stop for good; the part file stays unless ``delete_part``. Awaiting the handle raises DownloadCancelled.

        No effect once it is complete.
        """
        if not self._task.done():
            self._run.control.cancel()
            await asyncio.wait({self._task})
        elif self.view.state not in {State.COMPLETE, State.CANCELLED}:
            await self._keeper.abandon(self.download_id)
            self._run.standing.become(State.CANCELLED)
            self._cancelled = True
        self._let_go()
        if delete_part and self.view.state is State.CANCELLED:
            await self._keeper.delete_part(self._run.session.dest)
            self._run.standing.emptied()
        await self._keeper.written()

    def retry_now(self) -> None:
        """End a wait at once, or begin again after a failure; each with a fresh retry budget."""
        self._restart()
        self._run.control.retry_now()  # of a run that has just been made: a person wants it, whatever was before

    # -- for its manager -----------------------------------------------------------------------------------------------

    def operation_event(self, event: OperationEvent) -> None:
        """Take the supervisor's news."""
        self._run.operation_event(event)

    def take_up(self) -> None:
        """Go on if it was paused here: somebody asks for it again."""
        if self._held:
            self._restart()

    def relink(self, url: str) -> None:
        """Use another link from the next request on."""
        self._run.relink(url)

    async def stop(self) -> None:
        """Stop as at the end of the program: everything received is kept, and the next one may continue it."""
        self._task.cancel()
        await asyncio.wait({self._task})
        if self._task.cancelled():
            await self._keeper.put_down(self._run)
        self._let_go()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _execute(self) -> None:
        self._task = asyncio.create_task(self._keeper.execute(self._run), name=f"download {self.download_id}")
        self._task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[Result]) -> None:
        # A failure nobody awaits is still in the store, the events and the log.
        if not task.cancelled():
            task.exception()
        if not self._held:
            self._close()

    def _restart(self) -> None:
        if not self._task.done() or self.view.state is State.COMPLETE:
            return
        self._cancelled = False
        self._run = self._keeper.again(self, self._run)
        self._execute()
        self._held = False
        self._moved.set()

    def _let_go(self) -> None:
        self._held = False
        self._moved.set()
        if self._task.done():
            self._close()

    def _close(self) -> None:
        self._run.standing.close()
        self._keeper.over(self)
