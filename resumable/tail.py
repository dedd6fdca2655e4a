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

from msgspec import Struct

from recovery.clock import Clock
from recovery.states import State
from resumable.catalog import Catalog, Cursor, Entry, known_here, moved
from resumable.events import DownloadView

__all__ = ["News", "Tail"]


class News(Struct, frozen=True):
    """What is new since the last look."""

    changed: tuple[DownloadView, ...] = ()
    """New and changed downloads, each as it is now, newest download first."""
    forgotten: tuple[str, ...] = ()
    """Ids of downloads that are no longer known (pruned, or the state file was begun anew)."""
    anew: bool = False
    """Whether the state file was begun anew: damaged and set aside, or deleted."""


class Tail:
    """One reader's place in the state file. Not for several tasks at once."""

    def __init__(self, catalog: Catalog, clock: Clock, here: Callable[[str], DownloadView | None]) -> None:
        """Made by ``DownloadManager.tail``; ``here`` returns the view of a download that runs in this process, which is
        newer than the stored one.
        """
        self._catalog = catalog
        self._clock = clock
        self._here = here
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
        owners = {entry.view.owner for entry in self._watched.values()}
        here = {name for name in self._watched if self._here(name) is not None}
        found = await self._catalog.changes(self._cursor, owners, here)
        cursor, ids = found.cursor, found.ids
        anew = bool(self._cursor.identity) and cursor.identity != self._cursor.identity
        if ids is None or cursor.count != self._hidden + len(self._revs | dict.fromkeys(ids | found.moved.keys(), 0)):
            entries = await self._catalog.entries()
            gone = tuple(self._revs.keys() - {entry.view.download_id for entry in entries})
            self._hidden = cursor.count - len(entries)
        else:
            now = self._clock.time()
            ids |= {name for name, entry in self._watched.items() if name not in here and _due(entry, now, found.dead)}
            ids |= found.moved.keys() - self._watched.keys()
            ours = {name: self._here(name) for name in found.here - ids}
            ids |= {name for name, view in ours.items() if view is None}  # it has ended meanwhile
            entries = await self._catalog.entries(ids) if ids else []
            # Ten a second for each download that runs somewhere: what has not changed is not read again.
            entries += [moved(self._watched[name], seen, now) for name, seen in found.moved.items() if name not in ids]
            entries += [known_here(self._watched[name], view) for name, view in ours.items() if view is not None]
            gone = ()
        self._cursor = cursor
        for download_id in gone:
            self._revs.pop(download_id)
            self._watched.pop(download_id, None)
        return News(tuple(view for view in map(self._noted, entries) if view is not None), gone, anew)

    def _noted(self, entry: Entry) -> DownloadView | None:
        download_id = entry.view.download_id
        view = self._here(download_id) or entry.view
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
