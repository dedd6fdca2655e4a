"""Runs operations to their end: claims the lease, makes attempts, judges failures, waits or parks, tries again.

One for one: every ``run`` is on its own, and a failure of one never touches another (``asyncio.TaskGroup`` does the
reverse). What is run does not know that it is retried. It knows nothing of HTTP or files, and it is no scheduler: it
runs what it is given now, and what a former process left behind somebody has to give it again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from msgspec.structs import replace

from recovery.admission import Admission
from recovery.classify import Classifier
from recovery.clock import Clock, SystemClock
from recovery.control import Attempt, Control, Wish
from recovery.endings import (
    AttemptTimedOut,
    CrashLooping,
    LeaseHeld,
    OperationCancelled,
    OperationDeferred,
    OperationEnded,
    OperationPaused,
)
from recovery.events import HealthEvent, OperationEvent
from recovery.heartbeat import Heartbeat
from recovery.hostgates import HostGates
from recovery.lifecycle import Fenced
from recovery.logbook import Entry, JournalPort, Logbook, StoreEdge
from recovery.means import Means
from recovery.observers import observed, tell
from recovery.owner import new_owner
from recovery.policy import DeadlineExceeded
from recovery.records import Operation, OperationSpec
from recovery.redaction import describe
from recovery.run import Run
from recovery.slots import Slots
from recovery.states import State
from recovery.switches import SWITCHES
from recovery.verdict import Condition
from recovery.watchers import Watcher, standard_watchers

__all__ = [
    "Attempt",
    "AttemptTimedOut",
    "Control",
    "CrashLooping",
    "DeadlineExceeded",
    "Fenced",
    "JournalPort",
    "LeaseHeld",
    "OperationCancelled",
    "OperationDeferred",
    "OperationEnded",
    "OperationPaused",
    "Supervisor",
    "Wish",
]

T = TypeVar("T")

log = logging.getLogger("recovery.supervisor")


class Supervisor:
    """Runs any number of operations in one event loop; make one per loop and share it."""

    def __init__(  # noqa: PLR0913 - keyword-only, and each has a default that is right for most
        self,
        journal: JournalPort | None = None,
        *,
        classifier: Classifier | None = None,
        clock: Clock | None = None,
        draw: Callable[[], float] = random.random,
        owner: str | None = None,
        on_event: Callable[[OperationEvent], None] | None = None,
        on_health: Callable[[HealthEvent], None] | None = None,
        lease_ttl_s: float = 15.0,
        gates: HostGates | None = None,
        watchers: Mapping[Condition, Watcher] | None = None,
        max_concurrent: int | None = None,
        longest_wait_s: float = math.inf,
        describe: Callable[[BaseException], str] = describe,
    ) -> None:
        """Nothing is opened and no task is started.

        ``journal`` None keeps everything in memory and writes nothing. ``draw`` gives the jitter, a number in [0, 1).
        ``owner`` must be another for each process that ever lived; the default is. ``on_event`` is called in the event
        loop after the store accepted what it tells; ``on_health`` when the store begins to fail, and when it works
        again. ``watchers`` say whether what parked operations wait for has come (None: ``standard_watchers()``); where
        there is none, an attempt finds out. ``max_concurrent`` attempts are made at once; waiting and parked operations
        do not count, but one that awaits another of the same supervisor does: as many of these as there are slots would
        wait for ever. A wait longer than ``longest_wait_s`` raises OperationDeferred instead (0 for a worker that must
        not sleep). ``describe`` turns an exception into the redacted line that is stored and shown.

        Raises:
            ValueError: a number that makes no sense.
        """
        if not lease_ttl_s > 0 or not longest_wait_s >= 0 or (max_concurrent is not None and max_concurrent < 1):
            raise ValueError("lease_ttl_s must be above 0, longest_wait_s at least 0, max_concurrent at least 1")
        self.owner = owner or new_owner()
        self._journal = journal
        self._clock = clock or SystemClock()
        self._on_event = on_event
        self._lease_ttl_s = lease_ttl_s
        self._gates = gates
        self._slots = None if max_concurrent is None else Slots(max_concurrent)
        self._edge = StoreEdge(self._clock, on_health)
        self._means = Means(
            clock=self._clock,
            classifier=classifier or Classifier(),
            draw=draw,
            describe=describe,
            watchers=standard_watchers() if watchers is None else dict(watchers),
            heartbeat=None if journal is None else Heartbeat(journal, self._edge, self._clock, ttl_s=lease_ttl_s),
            tell=self._tell,
            longest_wait_s=longest_wait_s,
        )
        self._runs: dict[tuple[str, str], tuple[Run[Any], asyncio.Task[Any] | None, asyncio.Future[None]]] = {}
        self._left_behind: dict[tuple[str, str], Operation] = {}
        """Whose attempt ignored its cancellation and is still at work: a second one must not begin beside it."""

    def __repr__(self) -> str:
        """Show who it is and how much it does."""
        return f"<Supervisor {self.owner}: {len(self._runs)} running>"

    @property
    def journal(self) -> JournalPort | None:
        """Where its operations are kept; None in memory."""
        return self._journal

    @property
    def edge(self) -> StoreEdge:
        """Through which the journal is to be asked, so that its trouble is news and nobody's error."""
        return self._edge

    def statistics(self) -> dict[str, int]:
        """Return how many operations of each state it has in hand."""
        counts: dict[str, int] = {}
        for run, *_ in self._runs.values():
            state = run.book.operation.state.value
            counts[state] = counts.get(state, 0) + 1
        return counts

    async def run(  # noqa: PLR0913 - keyword-only, and most runs need none of them
        self,
        spec: OperationSpec,
        attempt: Callable[[Attempt], Awaitable[T]],
        *,
        control: Control | None = None,
        host: str | Callable[[], str] | None = None,
        priority: int = 0,
        on_give_up: Callable[[BaseException], Awaitable[bool]] | None = None,
        classifier: Classifier | None = None,
        entered: Operation | None = None,
        on_claim: Callable[[sqlite3.Connection, int], None] | None = None,
    ) -> T:
        """Call ``attempt`` until it returns, and return what it returned.

        ``control`` pauses, cancels or hurries this run; commands that others post to the journal act through it.
        ``host`` names the gate to ask before each attempt, or returns its name then. Where ``max_concurrent`` lets only
        some go, the highest ``priority`` comes first. ``on_give_up`` is awaited with the last exception before the
        operation is recorded as failed: the place to undo, and to return False; True says that there is another way,
        which is tried at once with a fresh budget. ``classifier`` judges this run's failures in place of the
        supervisor's. ``entered`` is the operation's row where the caller has just written down its intent.
        ``on_claim`` is called in the transaction that takes the lease, to read what nobody else changes from then on;
        perhaps more than once, and not at all where the journal has trouble or no connection. It is told
        the generation, which tells a lease that an attempt has from one that came to nothing.

        An asyncio cancellation stops the attempt, records ``paused``, frees the lease and goes on its way, within a
        second.

        Raises:
            Exception: the attempt's last one, when the policy gives up; ``control.verdict`` says why.
            OperationPaused, OperationCancelled: asked for through ``control``.
            OperationDeferred: the next attempt is further away than ``longest_wait_s``.
            LeaseHeld: another owner, or another run of this supervisor, has the operation; or an attempt of a former
                run, which ignored its cancellation, is still at work.
            CrashLooping: its owners died three times running it; ``control.retry_now()`` before the run tries again.
            DeadlineExceeded: the policy's deadline passed during an attempt.
            Fenced: the lease was lost while it ran.
            TypeError, ValueError: the journal cannot store what ``spec`` says.
        """
        identity = (spec.kind, spec.key)
        other = self._runs.get(identity)
        if other is not None:
            # The journal would let us in: for it we are one owner.
            raise LeaseHeld(other[0].book.operation)
        deaf = self._left_behind.get(identity)
        if deaf is not None:
            raise LeaseHeld(deaf)
        policy = SWITCHES.policy(spec.policy)
        spec = spec if policy is spec.policy else replace(spec, policy=policy)
        now = self._clock.time()
        book = Logbook(
            self._journal, self._edge, spec, owner=self.owner, ttl_s=self._lease_ttl_s, now=now, on_claim=on_claim
        )
        if entered is not None:
            book.take_up(entered)
        admission = Admission(self._slots, self._gates, self._edge, host=host, priority=priority)
        run = Run(
            self._means,
            book,
            attempt,
            control=control or Control(),
            admission=admission,
            on_give_up=on_give_up,
            classifier=classifier,
        )
        ended = asyncio.get_running_loop().create_future()
        self._runs[identity] = (run, asyncio.current_task(), ended)
        try:
            return await run.drive()
        finally:
            del self._runs[identity]
            ended.set_result(None)
            trial = run.trial
            if trial is not None and not trial.done:
                self._left_behind[identity] = book.operation
                trial.when_done(lambda _: self._left_behind.pop(identity, None))

    async def close(self) -> None:
        """Pause what still runs and wait for it: each ``run`` raises OperationPaused. Who called it may go on."""
        runs = list(self._runs.values())
        for run, *_ in runs:
            run.control.pause()
        others = {ended for _, task, ended in runs if task is not asyncio.current_task()}
        if others:
            await asyncio.wait(others)

    def _tell(self, control: Control, book: Logbook, previous: State | None, entry: Entry | None) -> None:
        operation = book.operation
        control.state = operation.state
        if self._on_event is None and not observed():
            return
        history = operation.history
        event = OperationEvent(
            operation_id=operation.operation_id,
            kind=operation.kind,
            key=operation.key,
            project=operation.project,
            state=operation.state,
            previous=previous,
            attempt=history.attempts + (operation.state is State.RUNNING),
            max_attempts=book.spec.policy.max_attempts,
            no_progress=history.no_progress,
            delay_s=None if entry is None else entry.wait_s,
            next_retry_at=None if entry is None else entry.next_at,
            verdict=None if entry is None else entry.verdict,
            error=None if entry is None else entry.error,
            ts=operation.updated_at,
            rev=operation.rev,
        )
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception:  # an observer's code must not fail what it observes
                log.exception("observer-failed", extra={"operation_id": operation.operation_id})
        tell(event)
