"""How a run sleeps: until something happens, or until a task is done, and always so that it can be woken.

Not a lock and not a queue: whoever is woken looks for himself at what has changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from recovery.shield import to_the_end

__all__ = ["Waker"]

R = TypeVar("R")

_GOODBYE_S = 0.5
"""For a wait that is given up to end: a moment, unless it is a stranger's."""


class Waker:
    """One sleeper that anybody in the event loop may wake."""

    __slots__ = ("_future",)

    def __init__(self) -> None:
        """Awake."""
        self._future: asyncio.Future[None] | None = None

    def wake(self, _: object = None) -> None:
        """Let the sleeper look again; nothing happens when nobody sleeps. Usable as a done-callback."""
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def sleep(self) -> None:
        """Sleep until the next ``wake``."""
        self._future = asyncio.get_running_loop().create_future()
        try:
            await self._future
        finally:
            self._future = None

    async def until(self, task: asyncio.Task[Any], *, or_else: Callable[[], bool]) -> None:
        """Sleep until the task is done or ``or_else()`` is true, which is asked after every ``wake``."""
        task.add_done_callback(self.wake)
        while not (task.done() or or_else()):
            await self.sleep()

    async def result(self, work: Coroutine[Any, Any, R], *, unless: Callable[[], bool]) -> R | None:
        """Return the work's result, or None when ``unless()`` became true before; the work is then cancelled."""
        task = asyncio.get_running_loop().create_task(work)
        try:
            await self.until(task, or_else=unless)
            return task.result() if task.done() else None
        finally:
            if not task.done():
                task.cancel()
                await to_the_end(_ended(task), within_s=_GOODBYE_S)


async def _ended(task: asyncio.Task[Any]) -> None:
    await asyncio.wait((task,))
