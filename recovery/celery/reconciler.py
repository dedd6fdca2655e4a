"""Sends again what a broker or a killed worker has lost: what is due, and what nobody runs any more.

The journal says what is unfinished. Every process of every worker that uses a state file could do this; a lock file
beside it lets one of them (a lease that ends with its holder, at once). Sending too often is harmless: whoever comes
second finds the lease held, or the work done.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final, Protocol

from msgspec import Struct, field

from recovery.celery.messages import MessageStore
from recovery.celery.taskrun import KIND
from recovery.clock import Clock, SystemClock
from recovery.journal import Journal
from recovery.lifecycle import CRASH_LOOP
from recovery.records import Operation
from recovery.states import TERMINAL, IllegalTransition, State
from recovery.sweeper import Sweeper

__all__ = [
    "LockFile",
    "Nudge",
    "Outbox",
    "Reconciler",
    "idle_since",
    "nudge_of",
    "nudges_for_tasks",
    "reconcile_forever",
]

log = logging.getLogger("recovery.celery")

DUE_S: Final = 30.0
"""For the broker's own message to come first, and to get through the queue, when an operation is due."""
LOST_S: Final = 5.0
"""The same when its owner has died."""
_AGAIN_S: Final = 120.0
"""After so long a message that changed nothing is taken for lost; twice as long each time, up to"""
_LONGEST_AGAIN_S: Final = 3_600.0
_MOST_FAILURES: Final = 3
"""After so many messages in a row that could not be sent the broker is taken for away, until the next look."""


class Nudge(Struct, frozen=True):
    """What is to be sent because of one operation, and since when that operation has been idle (epoch seconds)."""

    operation_id: str
    since: float
    task_id: str | None = None
    """Send this message again, unless Celery says that it has ended."""
    at_once: bool = False
    """A person wants it: the time it waits for does not count any more."""
    task: str = ""
    """Where there is no such message: send a new one for this task, with ``kwargs``. Empty: send none."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)


class Outbox(Protocol):
    """Where messages go. Its methods block, and are called off the event loop."""

    def send(self, nudge: Nudge, message: Mapping[str, Any] | None) -> None:
        """Send it; raises what the broker's client raises."""

    def has_ended(self, task_id: str) -> bool:
        """Return whether Celery's result backend says that this task has ended (by a hard time limit, a revoke)."""


def idle_since(row: Operation, now: float) -> float | None:
    """Return since when an unfinished operation could run and does not; None while there is nothing to be done."""
    if row.leased(now):
        return None
    if row.state is State.QUEUED:
        return row.updated_at
    if row.state in {State.WAITING, State.PARKED}:
        return None if row.next_at is None or row.next_at > now else row.next_at
    return None  # one whose owner died is queued by the sweep before


def nudges_for_tasks(rows: Iterable[Operation], now: float) -> list[Nudge]:
    """Return the messages to send again for the operations that stand for tasks."""
    found = []
    for row in rows:
        since, grace_s = idle_since(row, now), LOST_S if row.deaths else DUE_S
        nudge = None if since is None or now - since < grace_s else nudge_of(row, since)
        if nudge is not None:
            found.append(nudge)
    return found


def nudge_of(row: Operation, since: float) -> Nudge | None:
    """Return the nudge that sends a task's own message again; None for an operation that stands for no task."""
    task_id = row.args.get("id")
    if row.kind != KIND or not isinstance(task_id, str):
        return None
    return Nudge(row.operation_id, since, task_id)


class Reconciler:
    """Looks every few seconds, in one event loop."""

    def __init__(
        self,
        journal: Journal,
        messages: MessageStore,
        outbox: Outbox,
        *,
        every_s: float = 5.0,
        clock: Clock | None = None,
        more: Callable[[Iterable[Operation], float], list[Nudge]] = lambda _rows, _now: [],
        stranded: Callable[[Iterable[Operation], float], list[str]] = lambda _rows, _now: [],
    ) -> None:
        """``more`` finds what operations of other kinds want sent; ``stranded`` those that are eligible although nobody
        will run them, which are paused.
        """
        self._journal = journal
        self._messages = messages
        self._outbox = outbox
        self._every_s = every_s
        self._clock = clock or SystemClock()
        self._more = more
        self._stranded = stranded
        self._sweeper = Sweeper(journal, clock=self._clock)
        self._sent: dict[str, tuple[float, int]] = {}
        """When each operation was nudged last, and how often for one idleness."""
        self._untold: dict[str, Nudge] | None = None
        """Of tasks that were given up because they kill their workers: whoever waits for their result is to be told."""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.look()
            except Exception:  # the edge: one look that fails (the broker is away) must not be the last one
                log.exception("the look for lost tasks failed")
            await self._clock.sleep(self._every_s)

    async def look(self) -> list[Nudge]:
        """Look once; return what was sent."""
        swept = await self._sweeper.sweep()
        now = self._clock.time()
        rows = await self._journal.list(set(State) - TERMINAL)
        if self._untold is None:
            self._untold = _by_id(await self._journal.list({State.FAILED}, kind=KIND), now)
        self._untold |= _by_id(swept.quarantined, now)
        idle = [*nudges_for_tasks(rows, now), *self._more(rows, now)]
        sent = await self._send_all([*self._untold.values(), *(nudge for nudge in idle if self._is_news(nudge, now))])
        for operation_id in self._stranded(rows, now):
            await self._put_to_rest(operation_id)
        alive = {row.operation_id for row in rows}
        self._sent = {name: when for name, when in self._sent.items() if name in alive}
        return sent

    async def _send_all(self, nudges: Iterable[Nudge]) -> list[Nudge]:
        """Send what can be sent; one that cannot holds up no other."""
        sent, failures = [], 0
        for nudge in nudges:
            try:
                if await self._send(nudge):
                    self._note(nudge)
                    sent.append(nudge)
                (self._untold or {}).pop(nudge.operation_id, None)
                failures = 0
            except Exception as exc:  # noqa: BLE001 - the edge to the broker's client: the next look tries again
                log.warning("not-nudged", extra={"operation_id": nudge.operation_id, "error": type(exc).__name__})
                failures += 1
                if failures == _MOST_FAILURES:
                    break
        return sent

    def _note(self, nudge: Nudge) -> None:
        at, times = self._sent.get(nudge.operation_id, (0.0, 0))
        self._sent[nudge.operation_id] = (self._clock.time(), times + 1 if nudge.since <= at else 1)

    def _is_news(self, nudge: Nudge, now: float) -> bool:
        at, times = self._sent.get(nudge.operation_id, (0.0, 0))
        if not times or nudge.since > at:
            return True
        again_s: float = _AGAIN_S * 2 ** min(times - 1, 10)
        return now - at >= min(_LONGEST_AGAIN_S, again_s)

    async def _send(self, nudge: Nudge) -> bool:
        message = None
        if nudge.task_id is not None:
            message = await asyncio.to_thread(self._messages.get, nudge.task_id)
            if message is not None and await asyncio.to_thread(self._outbox.has_ended, nudge.task_id):
                await asyncio.to_thread(self._messages.drop, nudge.task_id)
                message = None
                if not nudge.task:
                    # Everybody has been told that this task is over: keep what there is, begin nothing.
                    await self._put_to_rest(nudge.operation_id)
        if message is None and not nudge.task:
            return False
        await asyncio.to_thread(self._outbox.send, nudge, message)
        log.info("nudged", extra={"operation_id": nudge.operation_id})
        return True

    async def _put_to_rest(self, operation_id: str) -> None:
        with suppress(IllegalTransition, LookupError):  # it has ended, as a condemned one has, or is forgotten
            await self._journal.set_idle_state(operation_id, State.PAUSED, now=self._clock.time())


def _by_id(rows: Iterable[Operation], now: float) -> dict[str, Nudge]:
    nudges = [nudge_of(row, now) for row in rows if row.code == CRASH_LOOP.code]
    return {nudge.operation_id: nudge for nudge in nudges if nudge is not None}


class LockFile:
    """A lock that one process of a machine has, until it ends or lets go. Blocking, but never waiting."""

    def __init__(self, path: Path) -> None:
        """Nothing is opened yet."""
        self._path = path
        self._descriptor = -1

    def take(self) -> bool:
        """Return whether this process has it now."""
        if self._descriptor >= 0:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


async def reconcile_forever(
    state: Path,
    open_journal: Callable[[AsyncExitStack], Awaitable[Journal]],
    make: Callable[[Journal], Reconciler],
    *,
    every_s: float,
) -> None:
    """Open the state file, once there is one, and look until cancelled."""
    while not await asyncio.to_thread(state.exists):  # noqa: ASYNC110 - other processes make it
        await asyncio.sleep(every_s)
    async with AsyncExitStack() as stack:
        await make(await open_journal(stack)).run()
