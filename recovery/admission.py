"""What stands between a run and its next attempt: a free slot of its supervisor, and the gate of its host.

It waits for slots and asks gates; how long to sit out a closed gate is the run's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from recovery.gate import Admit
from recovery.hostgates import HostGates
from recovery.logbook import StoreEdge
from recovery.slots import Slots
from recovery.verdict import Verdict

__all__ = ["Admission"]


class Admission:
    """The slot and the gate of one run; either may be missing."""

    def __init__(
        self,
        slots: Slots | None,
        gates: HostGates | None,
        edge: StoreEdge,
        *,
        host: str | Callable[[], str] | None,
        priority: int = 0,
    ) -> None:
        """``gates`` is only asked when there is a ``host``; a callable is asked for it before each attempt."""
        self._slots = slots
        self._priority = priority
        self._gates = gates
        self._edge = edge
        self._name = host
        self.host: str | None = None
        """Whose gate was asked last."""
        self._has_slot = False
        self._owner: str | None = None

    @property
    def slot_is_free(self) -> bool:
        """Whether a slot can be had without waiting."""
        return self._slots is None or self._has_slot or self._slots.at_once

    async def take_slot(self, wait_for: Callable[[asyncio.Task[Any]], Awaitable[None]]) -> None:
        """Wait for a slot; without one if ``wait_for`` returns before its task is done, because the run is to stop."""
        slots = self._slots
        if slots is None or self._has_slot:
            return
        if slots.at_once:
            await slots.acquire()
            self._has_slot = True
            return
        task = asyncio.get_running_loop().create_task(slots.acquire(self._priority))
        try:
            await wait_for(task)
            self._has_slot = task.done()
        finally:
            if not self._has_slot:
                # It may be handed to us in the moment in which we turn away.
                task.add_done_callback(lambda done: None if done.cancelled() else slots.release())
                task.cancel()

    def free_slot(self) -> None:
        """Give the slot back, if there is one."""
        if self._has_slot:
            self._has_slot = False
            assert self._slots is not None
            self._slots.release()

    async def ask_gate(self, owner: str, *, asked_for: bool = False) -> float | None:
        """Ask the host's gate for one attempt, ``owner``; return when to ask again (epoch seconds), None to go on.

        ``asked_for``: a person wants it now.
        """
        if self._gates is None or self._name is None:
            return None
        self.host = self._name() if callable(self._name) else self._name
        self._owner = owner  # before asking: if we are cancelled meanwhile, what we were given must be given back
        answer = await self._edge.ask(self._gates.admit(self.host, owner, asked_for=asked_for))
        if answer is None or isinstance(answer, Admit):
            return None
        self._owner = None
        return answer.until

    async def succeeded(self) -> None:
        """Tell the gate that the host answered."""
        await self._settle(lambda gates, host, owner: gates.succeeded(host, owner))

    async def failed(self, verdict: Verdict) -> None:
        """Tell the gate that the attempt failed; the verdict says whether that is the host's doing."""
        await self._settle(lambda gates, host, owner: gates.failed(host, owner, verdict))

    async def give_back(self) -> None:
        """Give the admission back unused: a probe that is never heard of closes a host for its whole lease."""
        await self._settle(lambda gates, host, owner: gates.released(host, owner))

    async def _settle(self, tell: Callable[[HostGates, str, str], Awaitable[None]]) -> None:
        if self._gates is not None and self.host is not None and self._owner is not None:
            await self._edge.ask(tell(self._gates, self.host, self._owner))
            self._owner = None
