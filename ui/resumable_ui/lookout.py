"""What other processes do, read from the state file they share: looked at ten times a second, off the event loop.

A look that finds nothing new costs a few index look-ups. SQLite is the truth; whatever else may bring news sooner (this
process's own events, Redis) only saves time.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from recovery.database import DatabaseClosed
from resumable_ui.broadcast import Broadcaster

if TYPE_CHECKING:
    from resumable.manager import DownloadManager

LOOK_S: Final = 0.08
GATES_EVERY: Final = 6
"""Looks between two at the host gates, which change seldom."""
MOST_ROWS: Final = 1_000

_log = logging.getLogger("resumable_ui.lookout")


class Lookout:
    """Follows one manager's state file."""

    def __init__(self, manager: DownloadManager, broadcaster: Broadcaster) -> None:
        """Nothing is read yet."""
        self._journal = manager.journal
        self._tail = manager.tail()
        self._broadcaster = broadcaster
        self._identity = ""
        self._rev = 0
        self._looks = 0

    async def load(self) -> None:
        """Read everything once, before the first client comes."""
        self._identity = await self._journal.identity()
        board = self._broadcaster.board
        for operation in await self._journal.list():
            self._rev = max(self._rev, operation.rev)
            board.offer_operation(operation)
        board.offer_gates(await self._journal.gates())
        for view in (await self._tail.news()).changed:
            board.offer(view)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except DatabaseClosed:
                return
            except Exception:  # noqa: BLE001 - the edge of the task: a row nobody can read must not end the hub's sight
                _log.exception("looking at the state file failed")
                await asyncio.sleep(1.0)

    async def look(self) -> None:
        """Read what is new and show it."""
        broadcaster = self._broadcaster
        news = await self._tail.news()
        for view in news.changed:
            broadcaster.show(view)
        for name in news.forgotten:
            broadcaster.removed(name, "forgotten")
        await self._operations()
        self._looks += 1
        if self._looks % GATES_EVERY == 0:
            for host in broadcaster.board.offer_gates(await self._journal.gates()):
                broadcaster.tell_gate(host)
        broadcaster.flush()

    async def _operations(self) -> None:
        changed = await self._journal.changed_since(self._rev, limit=MOST_ROWS)
        for operation in changed:
            self._rev = max(self._rev, operation.rev)
            if self._broadcaster.board.offer_operation(operation):
                self._broadcaster.tell_operation(operation.operation_id)
        if not changed and self._looks % GATES_EVERY == 0 and await self._journal.identity() != self._identity:
            # The file was damaged or deleted and begun anew: its numbers begin anew as well.
            self._identity, self._rev = await self._journal.identity(), 0
            self._broadcaster.board.forget_operations()
