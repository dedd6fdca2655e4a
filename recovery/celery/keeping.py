"""Keeps the message of a task that takes its time beside the journal, and shows that it runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from recovery.celery.messages import MessageStore

if TYPE_CHECKING:
    from recovery.celery.taskrun import TaskRun

__all__ = ["KEEP_AFTER_S", "Keeping"]

KEEP_AFTER_S: Final = 0.25


class Keeping:
    """Of one run; a task that ends before ``KEEP_AFTER_S`` seconds of real time costs a timer and nothing else: the
    broker still has its message, and nobody could see it run.
    """

    def __init__(self, run: TaskRun, messages: MessageStore) -> None:
        """Begin to wait; to be called in the event loop."""
        self._run = run
        self._messages = messages
        self._loop = asyncio.get_running_loop()
        self._keeping: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(KEEP_AFTER_S, self._begin)

    async def end(self) -> bool:
        """Return whether the message is kept, once nothing is on its way to the disk any more."""
        self._timer.cancel()
        if self._keeping is None:
            return False
        # Not cancelled: a thread would write it all the same, after whoever drops it.
        await asyncio.wait((self._keeping,))
        return True

    def _begin(self) -> None:
        self._keeping = self._loop.create_task(self._keep())

    async def _keep(self) -> None:
        call = self._run.call
        if not call.in_thread and not self._run.shown:
            self._run.side.post(call.show_started)
        await asyncio.to_thread(self._messages.put, call.task_id, call.message)
