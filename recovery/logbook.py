"""One operation's row as its supervisor keeps it: in memory always, in the journal whenever that can be had.

This is the one place where trouble with the store is caught, so that it never becomes trouble of the operation. It
decides nothing about the operation itself.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from recovery.clock import Clock
from recovery.events import HealthEvent
from recovery.history import History
from recovery.lifecycle import Fenced, begun
from recovery.observers import tell
from recovery.records import AttemptRecord, Change, Command, Operation, OperationSpec
from recovery.states import IllegalTransition, State
from recovery.verdict import Verdict

__all__ = ["Entry", "JournalPort", "Logbook", "StoreEdge"]

T = TypeVar("T")

log = logging.getLogger("recovery.supervisor")

_MOST_PENDING = 100
_MISTAKES = (TypeError, ValueError)
"""What a journal raises when it cannot store what a spec says."""
_REFUSALS = (TypeError, ValueError, OverflowError, IllegalTransition, sqlite3.IntegrityError, sqlite3.DataError)
"""What it raises when it will never store what it was given, however well the file is: a defect, and not trouble."""


class JournalPort(Protocol):
    """What a supervisor asks of a journal: of ``recovery.journal.Journal``, or ``recovery.testing.MemoryJournal``."""

    async def begin(self, spec: OperationSpec, *, now: float | None = None) -> Operation:
        """Return the operation's row, inserted or made eligible again if need be."""

    async def begin_and_claim(
        self,
        spec: OperationSpec,
        *,
        owner: str,
        ttl_s: float,
        now: float,
        also: Callable[[sqlite3.Connection, int], None] | None = None,
    ) -> tuple[Operation, int | None]:
        """Begin and take the lease in one transaction; the generation is None while another owner holds it. ``also`` is
        called in it once the lease is taken, with its generation, where there is a connection to call it with.
        """

    async def renew(
        self,
        operation_id: str,
        generation: int,
        *,
        ttl_s: float,
        now: float,
        progress: tuple[int, int | None] | None = None,
    ) -> bool:
        """Extend the lease; False once another owner has it."""

    async def record(self, operation_id: str, generation: int, change: Change) -> Operation:
        """Write a change; raises Fenced when the generation is stale."""

    async def take_commands(self, operation_ids: Collection[str]) -> list[Command]:
        """Return the commands posted for these operations and mark them as taken."""


class StoreEdge:
    """Calls the journal and turns its trouble into news: one for all operations of a supervisor."""

    def __init__(self, clock: Clock, on_health: Callable[[HealthEvent], None] | None = None) -> None:
        """``on_health`` hears of the first failure of a row of them, and of the first success after it."""
        self._clock = clock
        self._on_health = on_health
        self.trouble: str | None = None
        """What the store said when it failed last; None while it works."""

    async def ask(self, call: Awaitable[T], *, mistakes: tuple[type[Exception], ...] = ()) -> T | None:
        """Return the journal's answer, or None when it could not be had.

        Raises:
            Fenced: another owner has the operation.
            Exception: one of ``mistakes``, which say that the question was wrong and not the store.
        """
        try:
            answer = await call
        except Fenced:
            raise
        except mistakes:
            raise
        except Exception as exc:  # noqa: BLE001 - the edge: whatever ails the store (SQLite, the disk, a closed
            # database, a row that moved on without us), the operation that it only describes goes on.
            self._report(f"{type(exc).__name__}: {exc}")
            return None
        if self.trouble is not None:
            self._report(None)
        return answer

    def _report(self, trouble: str | None) -> None:
        news = (trouble is None) != (self.trouble is None)
        self.trouble = trouble
        if trouble is not None:
            log.warning("store-trouble", extra={"trouble": trouble})
        if not news:
            return
        reason = "" if trouble is None else f"What happens now is not being recorded: {trouble}"
        event = HealthEvent("ok" if trouble is None else "degraded", reason, self._clock.time())
        tell(event)
        if self._on_health is None:
            return
        try:
            self._on_health(event)
        except Exception:  # an observer's code must not fail what it observes
            log.exception("health-observer-failed")


class Entry(Struct, frozen=True, kw_only=True):
    """One change of an operation, at ``now`` (seconds since the epoch)."""

    state: State
    now: float
    history: History | None = None
    verdict: Verdict | None = None
    error: str | None = None
    wait_s: float | None = None
    """Seconds until the next attempt, or the next look at a condition."""
    attempt: AttemptRecord | None = None
    progress: tuple[int, int | None] | None = None

    @property
    def next_at(self) -> float | None:
        """When that is, seconds since the epoch."""
        return None if self.wait_s is None else self.now + self.wait_s


class Logbook:
    """The row of one operation and its lease. ``journal`` None keeps it in memory only and writes nothing at all."""

    def __init__(
        self,
        journal: JournalPort | None,
        edge: StoreEdge,
        spec: OperationSpec,
        *,
        owner: str,
        ttl_s: float,
        now: float,
        on_claim: Callable[[sqlite3.Connection, int], None] | None = None,
    ) -> None:
        """Nothing is read or written yet. ``on_claim`` is called in the transaction in which the lease is taken."""
        self._journal = journal
        self._edge = edge
        self.spec = spec
        self._owner = owner
        self._ttl_s = ttl_s
        self._on_claim = on_claim
        self._pending: deque[Entry] = deque(maxlen=_MOST_PENDING)
        self.operation = _unrecorded(spec, owner, now)
        self.generation: int | None = None
        """The fencing token; None until the lease was taken in the journal."""
        self._released = False
        self.touched = False
        """Whether the journal may know of the operation through us."""
        self._entered = False

    def take_up(self, operation: Operation) -> None:
        """Go by this row, with which somebody has written the intent down already."""
        self.operation = operation
        self.touched = self._entered = True

    async def queue(self) -> None:
        """Write the intent down without taking the lease.

        Raises:
            TypeError, ValueError: the journal cannot store what the spec says; a mistake of the caller.
        """
        if self._journal is not None and not self._entered:
            self.touched = True
            call = self._journal.begin(self.spec, now=self.operation.created_at)
            begun_row = await self._edge.ask(call, mistakes=_MISTAKES)
            self.operation = begun_row or self.operation

    async def claim(self, now: float) -> bool:
        """Write the intent down and take the lease; False when another owner has it. True also when the journal fails.

        Raises:
            TypeError, ValueError: the journal cannot store what the spec says; a mistake of the caller.
        """
        self.touched = True
        if self._journal is not None:
            call = self._journal.begin_and_claim(
                self.spec, owner=self._owner, ttl_s=self._ttl_s, now=now, also=self._on_claim
            )
            answer = await self._edge.ask(call, mistakes=_MISTAKES)
            if answer is not None:
                self.operation, self.generation = answer
                return self.generation is not None
        return True

    async def note(self, entry: Entry) -> Operation:
        """Record a change and return the row. What the journal did not take is written with the next change it takes.

        Raises:
            Fenced: another owner has the operation; nothing was changed.
        """
        if self._journal is None:
            return self._remember(entry)
        if not self._pending or self._pending[-1] is not entry:  # it is noted again after a cancellation
            self._pending.append(entry)
        if self.generation is None and not await self._catch_up(self._journal, entry.now):
            return self._remember(entry)
        while self._pending:
            operation = await self._write(self._journal, self._pending[0])
            if operation is None:
                return self._remember(entry)
            self._pending.popleft()
            self.operation = operation
        return self.operation

    async def renew(self, now: float, progress: tuple[int, int | None] | None) -> bool:
        """Extend the lease and say how far the work has come; False once another owner has it."""
        if self._released:  # a heartbeat that comes late must not take it again
            return True
        return await self._renew(self._ttl_s, now, progress)

    async def release(self, now: float) -> None:
        """Let the lease end now; the row stays as it is, with the reason for its state in it."""
        self._released = True
        await self._renew(0.0, now, None)

    async def _renew(self, ttl_s: float, now: float, progress: tuple[int, int | None] | None) -> bool:
        if self._journal is None or self.generation is None:
            return True
        name, generation = self.operation.operation_id, self.generation
        try:
            call = self._journal.renew(name, generation, ttl_s=ttl_s, now=now, progress=progress)
            return await self._edge.ask(call, mistakes=_REFUSALS) is not False
        except _REFUSALS:
            log.exception("progress-refused", extra={"operation_id": name})
        return await self._edge.ask(self._journal.renew(name, generation, ttl_s=ttl_s, now=now)) is not False

    async def _write(self, journal: JournalPort, entry: Entry) -> Operation | None:
        """Record an entry; None when the store has trouble. What it refuses for good holds up nothing that follows: the
        bare change is recorded in its place, or none at all.
        """
        for each in (entry, Entry(state=entry.state, now=entry.now, verdict=entry.verdict, wait_s=entry.wait_s)):
            try:
                return await self._record(journal, each)
            except _REFUSALS:
                log.exception("entry-refused", extra={"operation_id": self.operation.operation_id})
        return self._remember(entry)

    async def _record(self, journal: JournalPort, entry: Entry) -> Operation | None:
        assert self.generation is not None
        return await self._edge.ask(
            journal.record(
                self.operation.operation_id,
                self.generation,
                Change(
                    state=entry.state,
                    history=entry.history,
                    verdict=entry.verdict,
                    error=entry.error,
                    next_at=entry.next_at,
                    attempt=entry.attempt,
                    progress=entry.progress,
                    now=entry.now,
                ),
            ),
            mistakes=_REFUSALS,
        )

    async def _catch_up(self, journal: JournalPort, now: float) -> bool:
        # The store was away when the operation began.
        answer = await self._edge.ask(journal.begin_and_claim(self.spec, owner=self._owner, ttl_s=self._ttl_s, now=now))
        if answer is None:
            return False
        operation, self.generation = answer
        if self.generation is None:
            raise Fenced(operation.operation_id, None, operation.generation)
        self.operation = replace(operation, history=self.operation.history)
        return True

    def _remember(self, entry: Entry) -> Operation:
        old = self.operation
        done, total = entry.progress or (old.progress_done, old.progress_total)
        verdict = entry.verdict
        self.operation = replace(
            old,
            state=entry.state,
            history=entry.history or old.history,
            category=None if verdict is None else verdict.category,
            code=None if verdict is None else verdict.code,
            message=None if verdict is None else verdict.message,
            condition=None if verdict is None else verdict.condition,
            user_actions=() if verdict is None else verdict.user_actions,
            error=entry.error,
            next_at=entry.next_at,
            progress_done=done,
            progress_total=total,
            rev=old.rev + 1,
            updated_at=entry.now,
        )
        return self.operation


def _unrecorded(spec: OperationSpec, owner: str, now: float) -> Operation:
    row = begun(spec, spec.operation_id or secrets.token_hex(5), now)
    return replace(row, state=State.RUNNING, owner=owner, rev=1)
