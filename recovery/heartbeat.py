"""One task per supervisor that keeps the leases of everything it runs and brings it the commands others have posted.

It lives only while something runs, writes only when a lease needs renewal, and decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from recovery.clock import Clock, SystemClock
from recovery.control import Control
from recovery.logbook import JournalPort, Logbook, StoreEdge

__all__ = ["Beating", "Heartbeat"]

log = logging.getLogger("recovery.supervisor")

_POLL_S = 0.5
_CLOCK_JUMP_S = 2.0


class Beating(Protocol):
    """What the heartbeat needs of a run."""

    book: Logbook
    control: Control

    async def renew(self) -> bool:
        """Extend the lease; False once another owner has it."""

    def lose(self) -> None:
        """Learn that another owner has the lease."""


class Heartbeat:
    """Renews leases after a third of their life and looks for commands twice a second, for all runs together.

    After a sleep of the machine, or a new setting of its clock, every lease seems to have run out to whoever comes
    first (the sweeper waits then, a caller does not), so all are renewed at the next look.
    """

    def __init__(self, journal: JournalPort, edge: StoreEdge, clock: Clock, *, ttl_s: float) -> None:
        """``ttl_s``: life of a lease, seconds."""
        self._journal = journal
        self._edge = edge
        self._clock = clock
        self._every_s = ttl_s / 3
        self._pause_s = min(_POLL_S, self._every_s)
        self._due: dict[Beating, float] = {}
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._drift = 0.0

    def add(self, run: Beating) -> None:
        """Care for a run that has just taken its lease."""
        self._due[run] = self._clock.monotonic() + self._every_s
        if self._task is not None or self._timer is not None:
            return
        self._drift = self._clock.time() - self._clock.monotonic()
        if type(self._clock) is SystemClock:
            # Most operations have ended by then: a task for each would cost more than all else that the call does.
            self._timer = asyncio.get_running_loop().call_later(self._pause_s, self._ring)
        else:
            self._start(rested=False)

    def discard(self, run: Beating) -> None:
        """Forget a run; task and timer end with the last one."""
        self._due.pop(run, None)
        if self._due:
            return
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._timer is not None:
            self._timer.cancel()  # the next run may come in another event loop, where this one would never ring
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self._due:
            self._start(rested=True)

    def _start(self, *, rested: bool) -> None:
        self._task = asyncio.get_running_loop().create_task(self._beat(rested=rested), name="recovery heartbeat")
        self._task.add_done_callback(self._ended)

    async def _beat(self, *, rested: bool) -> None:
        while True:
            if not rested:
                await self._clock.sleep(self._pause_s)
            rested = False
            jumped, now = self._clock_jumped(), self._clock.monotonic()
            due = [run for run, at in self._due.items() if jumped or at <= now]
            if due:
                # Together: the journal makes one commit of what arrives together.
                await asyncio.gather(*(self._renew(run) for run in due))
            await self._bring_commands()

    def _clock_jumped(self) -> bool:
        before, self._drift = self._drift, self._clock.time() - self._clock.monotonic()
        return abs(self._drift - before) > _CLOCK_JUMP_S

    async def _bring_commands(self) -> None:
        runs = {run.book.operation.operation_id: run for run in self._due}
        for command in await self._edge.ask(self._journal.take_commands(list(runs))) or ():
            run = runs.get(command.operation_id)
            if run is None or not run.control.obey(command.name):
                log.warning("command-not-understood", extra={"command": command.name})

    async def _renew(self, run: Beating) -> None:
        asked = self._clock.monotonic()  # the lease counts from here, however late the disk is with it
        if not await run.renew():
            run.lose()
        elif run in self._due:
            self._due[run] = asked + self._every_s

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._task is task:
            self._task = None
        if not task.cancelled() and task.exception() is not None:
            log.error("heartbeat-died", exc_info=task.exception())
            if self._due and self._task is None:
                self._start(rested=False)  # a defect of ours in one beat must not cost every operation its lease
