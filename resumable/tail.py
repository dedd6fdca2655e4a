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

from collections.abc import Callable, Collection
from dataclasses import dataclass

from recovery.clock import Clock
from recovery.states import State
from resumable.catalog import Catalog, Cursor, Entry, moved
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
        self._watched: dict[str, Entry] = {}
        """What is under way somewhere: its owner's silence or death is noticed, its numbers are followed cheaply."""
        self._hidden = 0
        """Rows that make no view: damaged, or of a download that is just being begun."""

    async def news(self) -> News:
        """Return what changed since the last call, in any process; everything the first time.

        Cheap enough to be asked ten times a second: while nothing changes it is a few index look-ups. A download whose
        process has gone silent is told as changed (``stale``) when that is noticed, although nobody wrote anything.
        Views come with ``rev`` ever growing; one that is told again with the same ``rev`` is left out.
        """
        found = await self._catalog.changes(self._cursor, {entry.view.owner for entry in self._watched.values()})
        cursor, ids = found.cursor, found.ids
        if ids is None or cursor.count != self._hidden + len(self._revs | dict.fromkeys(ids | found.moved.keys(), 0)):
            entries = await self._catalog.entries()
            gone = tuple(self._revs.keys() - {entry.view.download_id for entry in entries})
            self._hidden = cursor.count - len(entries)
        else:
            now = self._clock.time()
            ids |= {download_id for download_id, entry in self._watched.items() if _due(entry, now, found.dead)}
            ids |= found.moved.keys() - self._watched.keys()
            entries = await self._catalog.entries(ids) if ids else []
            # Ten a second for each download that runs somewhere: what has not changed is not read again.
            entries += [moved(self._watched[name], seen, now) for name, seen in found.moved.items() if name not in ids]
            gone = ()
        self._cursor = cursor
        for download_id in gone:
            self._revs.pop(download_id)
            self._watched.pop(download_id, None)
        return News(tuple(view for view in map(self._noted, entries) if view is not None), gone)

    def _noted(self, entry: Entry) -> DownloadView | None:
        view = self._live(entry.view)
        download_id = view.download_id
        if (entry.silent_at is not None or view.state is State.QUEUED) and not view.stale:
            self._watched[download_id] = entry
        else:
            self._watched.pop(download_id, None)
        if self._revs.get(download_id) == view.rev:
            return None
        self._revs[download_id] = view.rev
        return view


def _due(entry: Entry, now: float, dead: Collection[str]) -> bool:
    return entry.view.owner in dead or (entry.silent_at is not None and entry.silent_at <= now)
