"""What ``DownloadManager.start`` gives back: one download of this process, to await and to steer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Generator
from pathlib import Path
from typing import Any, Protocol

from resumable.errors import DownloadError
from resumable.events import DownloadEvent, DownloadView
from resumable.model import Result
from resumable.run import Run

__all__ = ["DownloadHandle", "Keeper"]


class Keeper(Protocol):
    """What a handle asks of its manager."""

    def execute(self, run: Run) -> Coroutine[Any, Any, Result]:
        """Run one download from the look at what is already there to the result."""

    def again(self, run: Run) -> Run:
        """Return a new run of the same download."""

    async def delete_part(self, dest: Path | None) -> None:
        """Delete the part file of this destination."""


class DownloadHandle:
    """A running, waiting or finished download of this process; await it for its ``Result``."""

    def __init__(self, run: Run, keeper: Keeper) -> None:
        """Made by ``DownloadManager.start``."""
        self._keeper = keeper
        self._run = run
        self._task: asyncio.Task[Result] = asyncio.create_task(keeper.execute(run))
        self._resumed = asyncio.Event()
        self._paused_here = False
        # A failure nobody awaits is still in the store, the events and the log.
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())

    @property
    def download_id(self) -> str:
        """The id that the store, the events and the command line use."""
        return self._run.session.download_id

    @property
    def done(self) -> bool:
        """Whether nothing of it runs or waits in this process any more."""
        return self._task.done()

    @property
    def view(self) -> DownloadView:
        """How it stands right now."""
        return self._run.view

    def __await__(self) -> Generator[Any, None, Result]:
        """Wait for the result; raises DownloadError subclasses. Cancelling the waiter does not stop the download."""
        return self._wait().__await__()

    async def _wait(self) -> Result:
        while True:
            task = self._task
            try:
                return await asyncio.shield(task)
            except DownloadError:
                if not self._paused_here:
                    raise
            await self._resumed.wait()

    async def events(self) -> AsyncIterator[DownloadEvent]:
        """Yield DownloadEvents as they come; ends after a terminal one. Slow readers miss progress, never a state."""
        async for event in self._run.subscribe().read():
            yield event

    async def pause(self) -> None:
        """Stop transferring and keep everything; returns when the last checkpoint is committed."""
        self._paused_here = True
        self._resumed.clear()
        self._run.control.pause()
        await asyncio.wait({self._task})

    async def resume(self) -> None:
        """Go on after ``pause``; does nothing while it runs."""
        if not self._task.done():
            return
        self._paused_here = False
        self._run = self._keeper.again(self._run)
        self._task = asyncio.create_task(self._keeper.execute(self._run))
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._resumed.set()

    async def cancel(self, *, delete_part: bool = False) -> None:
        """Stop for good; the part file stays unless ``delete_part``. Awaiting the handle raises DownloadCancelled."""
        self._paused_here = False
        self._run.control.cancel()
        self._resumed.set()
        await asyncio.wait({self._task})
        if delete_part:
            await self._keeper.delete_part(self._run.session.dest)

    def retry_now(self) -> None:
        """End a wait at once, with a fresh retry budget."""
        self._run.control.retry_now()

    async def stop(self) -> None:
        """Stop as at the end of the program: everything received is kept, and the next one may continue it."""
        self._task.cancel()
        await asyncio.wait({self._task})
