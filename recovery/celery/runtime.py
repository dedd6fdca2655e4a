"""What one worker process has for its tasks: a loop thread, an open journal, a supervisor. Made at the first task.

Nothing of it may exist before a fork: neither threads nor SQLite connections survive one. ``PerProcess`` sees to that.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from recovery.celery.endings import Ending
from recovery.celery.messages import MessageStore
from recovery.celery.shutdown import shutting_down
from recovery.celery.taskrun import LEASE_S, TaskRun, TaskRunner
from recovery.classify import Classifier
from recovery.clock import SystemClock
from recovery.database import Database
from recovery.journal import JOURNAL, Journal
from recovery.loopthread import CallerSide, Visit, process_loop
from recovery.owner import new_owner
from recovery.supervisor import Supervisor
from recovery.verdict import Verdict

__all__ = ["JournalRuntime", "Runtime", "messages_of", "open_journal"]

log = logging.getLogger("recovery.celery")

_LOOK_S = 0.25
_PAUSE_S = 6.0
"""A second more than bodies have to put themselves in order."""
_CLOSE_S = 30.0
"""Longer than anything takes but a disk that does not answer. A worker that never ends is killed in the end, and its
supervisor may have waited for hours.
"""


def messages_of(state: Path) -> MessageStore:
    """Return the messages that belong to a state file."""
    return MessageStore(state.with_name(state.name + ".tasks"))


class Runtime(ABC):
    """Subclasses open the journal, and whatever else their bodies use."""

    def __init__(
        self,
        state: Path,
        *,
        longest_wait_s: float,
        is_control: Callable[[BaseException], bool],
    ) -> None:
        """Nothing is opened before the first task. A wait longer than ``longest_wait_s`` seconds frees the slot."""
        self.state = state
        self.longest_wait_s = longest_wait_s
        self.loop_thread = process_loop.get()
        self._is_control = is_control
        self._stack = AsyncExitStack()
        self._opening: asyncio.Task[TaskRunner] | None = None
        self._watching: asyncio.Task[None] | None = None

    @abstractmethod
    async def open(self, stack: AsyncExitStack) -> Journal:
        """Open what tasks need; ``stack`` closes it."""

    def start(self, run: TaskRun, body: Callable[[TaskRun], Awaitable[Any]]) -> Visit[Ending]:
        """Start a task's body; the calling thread waits through the visit."""

        async def main(side: CallerSide) -> Ending:
            runner = await self.opened()
            if self._watching is None:
                self._watching = asyncio.get_running_loop().create_task(self._watch(runner))
            return await runner.run(run, side, body)

        return self.loop_thread.start(main)

    async def opened(self) -> TaskRunner:
        """Return the runner, once everything it needs is open. A failure to open is tried again by the next task."""
        if self._opening is None or (self._opening.done() and self._opening.exception() is not None):
            self._opening = asyncio.get_running_loop().create_task(self._open())
        return await asyncio.shield(self._opening)

    async def _open(self) -> TaskRunner:
        # The broker has the message of a task until it ends, so a row that a power cut takes back costs no work.
        journal = (await self.open(self._stack)).relaxed()
        clock = SystemClock()

        def control(exc: BaseException) -> Verdict | None:
            return classifier.classify(asyncio.CancelledError()) if self._is_control(exc) else None

        classifier = Classifier([control])
        supervisor = Supervisor(
            journal,
            owner=await asyncio.to_thread(new_owner),
            classifier=classifier,
            clock=clock,
            longest_wait_s=self.longest_wait_s,
            lease_ttl_s=LEASE_S,
        )
        self._stack.push_async_callback(_pause_all, supervisor)
        return TaskRunner(
            journal,
            supervisor,
            messages_of(self.state),
            clock=clock,
            classifier=classifier,
            is_control=self._is_control,
        )

    async def _watch(self, runner: TaskRunner) -> None:
        """Tell the running bodies when their worker begins to shut down."""
        told: set[TaskRun] = set()
        while True:
            await asyncio.sleep(_LOOK_S)
            if not shutting_down():
                continue
            for run in runner.running - told:
                told.add(run)
                if run.on_shutdown is not None:
                    run.on_shutdown()

    def close(self) -> None:
        """Put down what still runs, and close everything. The loop's thread ends with the process.

        What has not closed by then (a thread may hang in a disk) is left alone: the next process recovers it.
        """
        closing = self.loop_thread.start(self._close)
        if not closing.settle(within_s=_CLOSE_S) or closing.error is not None:
            log.error("runtime-not-closed", exc_info=closing.error)

    async def _close(self, _: CallerSide) -> None:
        if self._watching is not None:
            self._watching.cancel()
        await self._stack.aclose()


async def _pause_all(supervisor: Supervisor) -> None:
    with suppress(TimeoutError):  # of a thread that is at work still: its row says so until its process has ended
        async with asyncio.timeout(_PAUSE_S):
            await supervisor.close()


class JournalRuntime(Runtime):
    """A journal and nothing else."""

    async def open(self, stack: AsyncExitStack) -> Journal:
        """Open the state file."""
        return await open_journal(self.state, stack)


async def open_journal(state: Path, stack: AsyncExitStack) -> Journal:
    """Open a state file that holds a journal and nothing else; ``stack`` closes it."""
    database = await Database.open(state, (JOURNAL,))
    stack.push_async_callback(database.close)
    return Journal(database)
