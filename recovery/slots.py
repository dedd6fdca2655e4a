"""A bounded number of slots, given out by priority, first come first served within one.

It knows nothing of what the slots are for.
"""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

__all__ = ["Slots"]


class Slots:
    """Like a semaphore, but the highest priority waits least. For one event loop."""

    def __init__(self, most: int) -> None:
        """Raise ValueError unless there is at least one slot."""
        if most < 1:
            msg = f"there must be at least one slot, not {most}"
            raise ValueError(msg)
        self._free = most
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = count()

    @property
    def at_once(self) -> bool:
        """Whether a slot can be had without waiting."""
        return self._free > 0

    def line_up(self, priority: int = 0) -> asyncio.Future[None]:
        """Return a future that is done once a slot is taken; whoever loses interest cancels it before, or releases."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._free:
            self._free -= 1
            turn.set_result(None)
        else:
            heapq.heappush(self._waiting, (-priority, next(self._order), turn))
        return turn

    async def acquire(self, priority: int = 0) -> None:
        """Take a slot, waiting for it if need be; higher ``priority`` comes first. ``release`` gives it back."""
        turn = self.line_up(priority)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()  # it was handed over in the moment in which the waiter turned away
            raise

    def release(self) -> None:
        """Give a slot back, to whoever is next."""
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
