"""Writes the views of a process's downloads into the database, so that every other process sees what it sees.

One task for all downloads: changes of state go out at once (of many downloads within a quarter of a second), numbers
about four times a second, in one write each time, which shares its commit with the checkpoints that come at the same
pace. A view that changes again while it waits is written once: a small file is begun, verified and complete before
anybody could have looked.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Final

from recovery.clock import Clock
from recovery.database import Database, DatabaseClosed
from resumable.events import DownloadView
from resumable.standing import Standing
from resumable.viewrows import put_views

__all__ = ["ViewWriter"]

_EVERY_S: Final = 0.25
_GATHER_S: Final = 0.02
"""How long changes of state wait for others to share their write: for each beyond ``_FEW``, at most ``_EVERY_S``."""
_FEW: Final = 3
_MOST_ROWS: Final = 100
"""Most views whose numbers are written in one go: of a thousand downloads each is written every few seconds."""


class ViewWriter:
    """Writes what it was told to write, until it is closed."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Use an open database; the task starts with the first view."""
        self._database = database
        self._clock = clock
        self._waiting: dict[str, Standing] = {}
        self._urgent: dict[str, Standing] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()

    def put(self, standing: Standing, *, urgent: bool) -> None:
        """Have the newest view of a download written: at once if ``urgent``, else within the next quarter second."""
        if standing.elsewhere:
            return  # its owner writes it
        if urgent:
            self._waiting.pop(standing.view.download_id, None)
            self._urgent[standing.view.download_id] = standing
            self._news.set()
        elif standing.view.download_id not in self._urgent:
            self._waiting[standing.view.download_id] = standing
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="views")

    async def flush(self) -> None:
        """Return when what was put so far is written."""
        self._urgent.update(self._waiting)
        self._waiting.clear()
        async with self._writing:
            await self._write()

    async def settle(self) -> None:
        """Return when every change of state that was put so far is written; at once where there is none."""
        if self._urgent or self._writing.locked():
            async with self._writing:
                await self._write()

    async def close(self) -> None:
        """Write what is left and end."""
        async with self._writing:  # a write that is cancelled while it waits for its turn is not made
            task, self._task = self._task, None
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        while self._urgent or self._waiting:
            await self._write()

    async def _run(self) -> None:
        while True:
            self._news.clear()
            if not self._urgent:
                await self._pause()
            beyond = len(self._urgent) - _FEW
            if beyond > 0:
                # Of real time: nothing depends on when it is over.
                await asyncio.sleep(min(beyond * _GATHER_S, _EVERY_S))
            async with self._writing:
                await self._write()

    async def _pause(self) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(_EVERY_S))
        waiting = asyncio.ensure_future(self._news.wait())
        try:
            await asyncio.wait({sleeping, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            waiting.cancel()

    async def _write(self) -> None:
        batch, self._urgent = self._urgent, {}
        while self._waiting and len(batch) < _MOST_ROWS:
            download_id = next(iter(self._waiting))
            batch.setdefault(download_id, self._waiting.pop(download_id))
        if not batch:
            return
        try:
            await self._database.write(
                _putting([(standing.view, standing.generation) for standing in batch.values()], self._clock.time()),
                urgent=False,
            )
        except DatabaseClosed:
            self._waiting.clear()


def _putting(views: list[tuple[DownloadView, int]], now: float) -> Callable[[sqlite3.Connection], None]:
    return lambda conn: put_views(conn, views, now)
