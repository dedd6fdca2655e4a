"""What other processes do, read from the state file they share: looked at ten times a second or more, off the loop.

A look that finds nothing new costs a few index look-ups. SQLite is the truth; whatever else may bring news sooner (this
process's own events, Redis) only saves time.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from recovery.database import DatabaseClosed
from recovery.states import State
from resumable_ui.broadcast import Broadcaster

if TYPE_CHECKING:
    from resumable.manager import DownloadManager

LOOK_S: Final = 0.1
LOOK_WHILE_MOVING_S: Final = 0.05
"""While somebody watches what other processes do: what is late here comes on top of what their own writing costs."""
LOOK_UNWATCHED_S: Final = 0.25
GATES_EVERY: Final = 8
"""Looks between two at the host gates, which change seldom."""
OPERATIONS_EVERY: Final = 600
"""Looks between two for operations that were forgotten: no row tells of that."""
MOST_ROWS: Final = 1_000

PRUNED: Final = "pruned"
"""Why a download is no longer known (``download_removed``): it had ended, and somebody forgot it."""
LOST: Final = "lost"
"""Or the state file was begun anew: damaged and set aside, or deleted."""

_LISTED: Final = frozenset(State) - {State.COMPLETE, State.CANCELLED}

_log = logging.getLogger("resumable_ui.lookout")


class Lookout:
    """Follows one manager's state file."""

    def __init__(self, manager: DownloadManager, broadcaster: Broadcaster) -> None:
        """Nothing is read yet."""
        self._manager = manager
        self._journal = manager.journal
        self._tail = manager.tail()
        self._broadcaster = broadcaster
        self._identity = ""
        self._rev = 0
        self._looks = 0
        self._moving = False
        """Whether the last look found news of another process."""
        self._stored: set[str] = set()
        """Downloads that were in the state file at the last look."""
        self._heard: set[str] = set()
        self._missing: set[str] = set()
        """Downloads that have ended here and were not in it."""

    async def load(self) -> None:
        """Read everything once, before the first client comes."""
        self._identity = await self._journal.identity()
        board = self._broadcaster.board
        for operation in await self._journal.list():
            self._rev = max(self._rev, operation.rev)
            board.offer_operation(operation)
            board.forget_ended(operation.operation_id)
        board.offer_gates(await self._journal.gates())
        for view in (await self._tail.news()).changed:
            self._stored.add(view.download_id)
            board.offer(view)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self._pause_s())
            try:
                await self.look()
            except DatabaseClosed:
                return
            except Exception:  # noqa: BLE001 - the edge of the task: a row nobody can read must not end the hub's sight
                _log.exception("looking at the state file failed")
                await asyncio.sleep(1.0)

    def heard(self, download_id: str) -> None:
        """Note that this process told of a download, which the state file may not know yet."""
        self._heard.add(download_id)

    def _pause_s(self) -> float:
        if not self._broadcaster.clients:
            return LOOK_UNWATCHED_S
        return LOOK_WHILE_MOVING_S if self._moving else LOOK_S

    async def look(self) -> None:
        """Read what is new and show it."""
        broadcaster = self._broadcaster
        news = await self._tail.news()
        self._moving = any(self._manager.handle(view.download_id) is None for view in news.changed)
        for view in news.changed:
            self._stored.add(view.download_id)
            broadcaster.show(view)
        for name in news.forgotten:
            self._stored.discard(name)
            broadcaster.removed(name, LOST if news.anew else PRUNED)
        await self._operations()
        self._looks += 1
        if self._looks % GATES_EVERY == 0:
            for host in broadcaster.board.offer_gates(await self._journal.gates()):
                broadcaster.tell_gate(host)
            self._forget_unstored()
        broadcaster.flush()

    def _forget_unstored(self) -> None:
        """Remove what ended here and was forgotten before a look could find it in the state file."""
        self._heard &= self._broadcaster.board.ids
        missing = {name for name in self._heard - self._stored if self._has_ended(name)}
        for name in missing & self._missing:
            self._broadcaster.removed(name, PRUNED)
        self._missing = missing

    def _has_ended(self, download_id: str) -> bool:
        handle = self._manager.handle(download_id)
        return handle is None or handle.ended

    async def _operations(self) -> None:
        changed = await self._journal.changed_since(self._rev, limit=MOST_ROWS)
        for operation in changed:
            self._rev = max(self._rev, operation.rev)
            if self._broadcaster.board.offer_operation(operation):
                self._broadcaster.tell_operation(operation.operation_id)
        if not changed and self._looks % GATES_EVERY == 0 and await self._journal.identity() != self._identity:
            # The file was damaged or deleted and begun anew: its numbers begin anew as well.
            self._identity, self._rev = await self._journal.identity(), 0
            self._broadcaster.board.keep_operations(())
        if self._looks % OPERATIONS_EVERY == 0:
            known = await self._journal.list(_LISTED)
            self._broadcaster.board.keep_operations({operation.operation_id for operation in known})
