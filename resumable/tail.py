"""Following what changes in a state file, whoever changes it: for a page, a terminal, anything that shows downloads.

::

    tail = manager.tail()
    while True:
        news = await tail.news()          # the first time: everything
        for view in news.changed: ...
        for download_id in news.forgotten: ...
        await asyncio.sleep(0.1)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from recovery.clock import Clock
from recovery.states import State
from resumable.catalog import Catalog, Cursor, Entry
from resumable.events import DownloadView

__all__ = ["News", "Tail"]


@dataclass(frozen=True, slots=True)
class News:
    """What is new since the last look."""

    changed: tuple[DownloadView, ...] = ()
    """New and changed downloads, each as it is now, newest download first."""
    forgotten: tuple[str, ...] = ()
    """Ids of downloads that are no longer known (pruned, or the state file was begun anew)."""


class Tail:
    """One reader's place in the state file. Not for several tasks at once."""

    def __init__(self, catalog: Catalog, clock: Clock, live: Callable[[DownloadView], DownloadView]) -> None:
        """Made by ``DownloadManager.tail``; ``live`` turns a stored view into the newer one this process may have."""
        self._catalog = catalog
        self._clock = clock
        self._live = live
        self._cursor = Cursor()
        self._revs: dict[str, int] = {}
        self._silent_at: dict[str, float] = {}
        self._owners: dict[str, str] = {}
        """Of what is under way: their death is noticed at once on this machine."""
        self._hidden = 0
        """Rows that make no view: damaged, or of a download that is just being begun."""

    async def news(self) -> News:
        """Return what changed since the last call, in any process; everything the first time.

        Cheap enough to be asked ten times a second: while nothing changes it is a few index look-ups. A download whose
        process has gone silent is told as changed (``stale``) when that is noticed, although nobody wrote anything.
        Views come with ``rev`` ever growing; one that is told again with the same ``rev`` is left out.
        """
        cursor, ids, dead = await self._catalog.changed_ids(self._cursor, set(self._owners.values()))
        if ids is None or cursor.count != self._hidden + len(self._revs | dict.fromkeys(ids, 0)):
            entries = await self._catalog.entries()
            gone = tuple(self._revs.keys() - {entry.view.download_id for entry in entries})
            self._hidden = cursor.count - len(entries)
        else:
            now = self._clock.time()
            ids |= {download_id for download_id, at in self._silent_at.items() if at <= now}
            ids |= {download_id for download_id, owner in self._owners.items() if owner in dead}
            entries = await self._catalog.entries(ids) if ids else []
            gone = ()
        self._cursor = cursor
        for download_id in gone:
            for known in (self._revs, self._silent_at, self._owners):
                known.pop(download_id, None)
        return News(tuple(view for view in map(self._noted, entries) if view is not None), gone)

    def _noted(self, entry: Entry) -> DownloadView | None:
        view = self._live(entry.view)
        download_id = view.download_id
        watched = entry.silent_at is not None or view.state is State.QUEUED
        for known in (self._silent_at, self._owners):
            known.pop(download_id, None)
        if watched and not view.stale:
            self._owners[download_id] = view.owner
            if entry.silent_at is not None:
                self._silent_at[download_id] = entry.silent_at
        if self._revs.get(download_id) == view.rev:
            return None
        self._revs[download_id] = view.rev
        return view
