"""What other processes do, read from the state file they share: looked at ten times a second, off the event loop.

A look that finds nothing new costs one pragma and one index lookup. SQLite is the truth; whatever else may bring news
sooner (this process's own events, Redis) only saves time.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from recovery.database import DatabaseClosed
from recovery.rows import operations
from recovery.siderows import read_gates
from resumable_ui.broadcast import Broadcaster
from resumable_ui.managed import handle_of, read

if TYPE_CHECKING:
    from recovery.records import Operation
    from resumable.manager import DownloadManager

LOOK_S: Final = 0.1
AGAIN_S: Final = 1.0
"""Look at everything this often in any case: that an owner has died shows in the clock, not in the file."""
MOST_ROWS: Final = 5_000

_log = logging.getLogger("resumable_ui.tail")


@dataclass(slots=True)
class _News:
    mark: tuple[int, int]
    operations: list[Operation] = field(default_factory=list)
    gates: Mapping[str, Any] = field(default_factory=dict)


class Tail:
    """Follows one manager's state file."""

    def __init__(self, manager: DownloadManager, broadcaster: Broadcaster) -> None:
        """Nothing is read yet."""
        self._manager = manager
        self._broadcaster = broadcaster
        self._mark = (-1, -1)
        self._rev = 0
        self._looked_at = 0.0

    async def load(self) -> None:
        """Read everything once, before the first client comes."""
        await self._look(first=True)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._look()
            except DatabaseClosed:
                return
            except Exception:  # noqa: BLE001 - the edge of the task: a row that cannot be read must not end the hub's sight
                _log.exception("looking at the state file failed")
                await asyncio.sleep(1.0)

    async def _look(self, *, first: bool = False) -> None:
        now = asyncio.get_running_loop().time()
        news = await read(self._manager, self._read)
        if news is None and not first and now - self._looked_at < AGAIN_S:
            return
        self._looked_at = now
        if news is not None:
            self._mark = news.mark
            self._take(news, first=first)
        await self._views()

    def _read(self, conn: sqlite3.Connection) -> _News | None:
        (version,) = conn.execute("PRAGMA data_version").fetchone()
        (newest,) = conn.execute("SELECT COALESCE(MAX(rev), 0) FROM operations").fetchone()
        mark = (int(version), int(newest))
        if mark == self._mark:
            return None
        rows = (
            []
            if newest == self._rev
            else list(operations(conn, "WHERE rev > ? ORDER BY rev LIMIT ?", (self._rev, MOST_ROWS)))
        )
        return _News(mark, rows, read_gates(conn))

    def _take(self, news: _News, *, first: bool) -> None:
        broadcaster = self._broadcaster
        for operation in news.operations:
            self._rev = max(self._rev, operation.rev)
            if broadcaster.board.offer_operation(operation) and not first:
                broadcaster.tell_operation(operation.operation_id)
        for host in broadcaster.board.offer_gates(news.gates):
            if not first:
                broadcaster.tell_gate(host)

    async def _views(self) -> None:
        views = await self._manager.downloads()
        for view in views:
            self._broadcaster.show(view)
        gone = set(self._broadcaster.board.ids) - {view.download_id for view in views}
        for name in gone:
            if handle_of(self._manager, name) is None:
                self._broadcaster.removed(name, "forgotten")
