"""The journal: what every operation is about, how it stands, who runs it, and what was tried; durable in the state
file.

It keeps and hands out; it decides nothing, sleeps never and runs nothing. Every change is one transaction, made by
one of the ``..._in`` functions: they take the connection, so that another package can make a change of its own
together with one of ours (see ``recovery.database``)::

    def publish(conn: sqlite3.Connection) -> None:
        conn.execute("INSERT INTO files VALUES (?, ?, ?)", sealed((operation_id, name)))
        journal.record_in(conn, operation_id, generation, Change(state=State.COMPLETE, now=now))

    await journal.transact(publish)

In memory: ``Journal(await Database.open(None, [JOURNAL]))``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar, cast

from recovery.clock import Clock, SystemClock
from recovery.database import Database
from recovery.lifecycle import Fenced, requeued, set_by_hand
from recovery.lookup import Lookup
from recovery.records import AttemptRecord, Change, Command, JournalStatistics, JsonValue, Operation, OperationSpec
from recovery.retention import doomed_in, forget_in, sweep_out_in
from recovery.rows import damaged_operations, drop_commands, put_command, read_commands, read_operation
from recovery.schema import Schema
from recovery.siderows import put_gate, read_gate, read_gates, read_steps
from recovery.states import State
from recovery.transactions import Transactions, check_generation, new_id
from recovery.work import after_commit

__all__ = [
    "JOURNAL",
    "AttemptRecord",
    "Change",
    "Command",
    "Fenced",
    "Journal",
    "JournalStatistics",
    "JsonValue",
    "Operation",
    "OperationSpec",
    "check_generation",
]

T = TypeVar("T")

# The class below has a method called list.
Commands: TypeAlias = list[Command]

JOURNAL: Final = Schema.of("journal", "recovery")

_PRUNED_AT_ONCE = 100
_COMMAND_OF: Mapping[State, str] = {State.PAUSED: "pause", State.CANCELLED: "cancel", State.QUEUED: "retry_now"}


class Journal(Transactions, Lookup):
    """All operations of one state file."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock | None = None,
        companions: Sequence[tuple[str, str]] = (),
        needed: Callable[[sqlite3.Connection], Container[str]] = lambda _: (),
    ) -> None:
        """``companions`` are tables of other packages, each with its column of operation ids: what is forgotten here is
        forgotten there, too. ``needed`` reads the ids of operations that ``prune`` leaves where they have failed, since
        a retry would go on from what is written of them.
        """
        Transactions.__init__(self)
        Lookup.__init__(self, database)
        self._clock = clock or SystemClock()
        self._companions = tuple(companions)
        self._needed = needed
        database.add_restore(self.restore_in)

    def relaxed(self) -> Journal:
        """Return this journal as one whose changes outlive the process but perhaps not a power cut: no write waits for
        the disk. For operations of which somebody else knows too, such as a message that its broker still has.
        """
        return Journal(
            cast("Database", _Relaxed(self._database)),
            clock=self._clock,
            companions=self._companions,
            needed=self._needed,
        )

    async def transact(self, work: Callable[[sqlite3.Connection], T], *, urgent: bool = True) -> T:
        """Run a write function of the caller's, which may use the ``..._in`` functions; see ``Database.write``."""
        return await self._database.write(work, urgent=urgent)

    # --- the life of an operation -------------------------------------------------------------------------------------

    async def begin(self, spec: OperationSpec, *, now: float | None = None) -> Operation:
        """Return the live row with this kind and key, made eligible again if it had stopped, or insert one.

        A row that has ended is only taken up again under the same ``spec.operation_id``; otherwise a new one begins.

        Raises:
            ValueError: the args are not JSON or too long, or the id belongs to another kind or key.
        """
        fresh_id = new_id()
        at = self._clock.time() if now is None else now
        return await self._database.write(lambda conn: self.begin_in(conn, spec, fresh_id, at))

    async def claim(self, operation_id: str, *, owner: str, ttl_s: float, now: float) -> int | None:
        """Take the lease for ``ttl_s`` seconds; return the new generation.

        None when another owner's lease is live, or when there is nothing to run (ended, paused, gone).
        """
        told: list[Operation] = []

        def work(conn: sqlite3.Connection) -> int | None:
            if told:
                self.reclaim_in(conn, told[0], now)
                return told[0].generation
            row = self.claim_in(conn, operation_id, owner=owner, ttl_s=ttl_s, now=now)
            if row is None:
                return None
            after_commit(conn, lambda: told.append(row))
            return row.generation

        return await self._database.write(work, urgent=False)  # a lease does not outlive the machine's boot anyway

    async def begin_and_claim(
        self,
        spec: OperationSpec,
        *,
        owner: str,
        ttl_s: float,
        now: float,
        also: Callable[[sqlite3.Connection, int], None] | None = None,
    ) -> tuple[Operation, int | None]:
        """``begin`` and ``claim`` in one transaction; the generation is None while another owner's lease is live.

        ``also`` is called in that transaction once the lease is taken, with its generation.
        """
        fresh_id = new_id()
        told: list[Operation] = []

        def work(conn: sqlite3.Connection) -> tuple[Operation, int | None]:
            if told:
                # It ran in memory, was answered, and runs again on the file.
                self.reclaim_in(conn, told[0], now)
                return told[0], told[0].generation
            row, generation = self.begin_and_claim_in(conn, spec, fresh_id, owner=owner, ttl_s=ttl_s, now=now)
            if generation is not None:
                after_commit(conn, lambda: told.append(row))
                if also is not None:
                    also(conn, generation)
            return row, generation

        # Nobody has been told anything yet: what a power cut takes back here is begun anew (docs/decisions/0017).
        return await self._database.write(work, urgent=False)

    async def renew(
        self,
        operation_id: str,
        generation: int,
        *,
        ttl_s: float,
        now: float,
        progress: tuple[int, int | None] | None = None,
    ) -> bool:
        """Extend the lease to ``now + ttl_s``; False once it is not ours any more."""
        return await self._database.write(
            lambda conn: self.renew_in(conn, operation_id, generation, ttl_s=ttl_s, now=now, progress=progress),
            urgent=False,
        )

    async def record(self, operation_id: str, generation: int, change: Change) -> Operation:
        """Write what the lease's owner has to say, and return the new row.

        Raises:
            Fenced: another owner has taken over; nothing was changed.
            IllegalTransition: no step leads to the new state; nothing was changed.
        """
        return await self._database.write(lambda conn: self.record_in(conn, operation_id, generation, change))

    async def release(
        self, operation_id: str, generation: int, state: State, *, next_at: float | None = None, now: float
    ) -> Operation:
        """Give the lease back and leave the operation in ``state``; raises like ``record``."""
        change = Change(state=state, now=now, next_at=next_at, keep_lease=False)
        return await self.record(operation_id, generation, change)

    async def set_idle_state(self, operation_id: str, state: State, *, now: float) -> Operation:
        """Pause, cancel or queue (with a fresh budget) an operation that nobody runs; return its row.

        Where somebody runs it after all, the row is not changed and the matching command is posted instead.

        Raises:
            LookupError: there is no such operation.
            IllegalTransition: no step leads to ``state``.
        """
        request_id = new_id()

        def work(conn: sqlite3.Connection) -> Operation:
            row = read_operation(conn, operation_id)
            if row is None:
                raise LookupError(operation_id)
            if row.leased(now):
                wish = Command(request_id=request_id, operation_id=operation_id, name=_COMMAND_OF[state], posted_at=now)
                put_command(conn, wish)
                return row
            drop_commands(conn, operation_id)
            return self._put(conn, set_by_hand(row, state, now))

        return await self._database.write(work)

    async def hand_back(self, operation_id: str, *, now: float) -> None:
        """Make an operation that its owner has just put down eligible again, with all it has used up so far. Nothing
        happens where somebody else has decided otherwise meanwhile.
        """

        def work(conn: sqlite3.Connection) -> None:
            row = read_operation(conn, operation_id)
            if row is not None and row.state is State.PAUSED and not row.leased(now):
                self._put(conn, requeued(row, now))

        await self._database.write(work)

    # --- forgetting ---------------------------------------------------------------------------------------------------

    async def forget(self, operation_ids: Collection[str]) -> int:
        """Forget ended operations with everything about them; return how many. Others of the ids are left alone."""
        ids = tuple(operation_ids)
        return await self._database.write(lambda conn: forget_in(conn, ids, self._companions), urgent=False)

    async def prune(self, older_than: float, keep_per_project_bytes: int = 1_000_000) -> int:
        """Forget operations that ended before ``older_than`` (epoch seconds), and of each project the oldest ended ones
        until what is left takes up no more than ``keep_per_project_bytes``; return how many. What has failed and is
        ``needed`` stays.
        """
        now = self._clock.time()

        def look(conn: sqlite3.Connection) -> tuple[list[str], list[str]]:
            doomed = doomed_in(conn, older_than, keep_per_project_bytes, self._companions, self._needed(conn))
            return doomed, damaged_operations(conn)

        doomed, damaged = await self._database.read(look)
        await self._database.write(lambda conn: sweep_out_in(conn, damaged, older_than, now), urgent=False)
        # A few at a time: whoever writes meanwhile must not wait for all of them.
        batches = [doomed[first : first + _PRUNED_AT_ONCE] for first in range(0, len(doomed), _PRUNED_AT_ONCE)]
        return sum([await self.forget(batch) for batch in batches])

    # --- commands -----------------------------------------------------------------------------------------------------

    async def post_command(
        self,
        operation_id: str,
        name: str,
        args: Mapping[str, JsonValue] | None = None,
        request_id: str | None = None,
    ) -> bool:
        """Leave a wish for whoever runs the operation; False when a wish with this ``request_id`` was left before.

        Raises:
            ValueError: the args are not JSON or too long.
        """
        command = Command(
            request_id=request_id or new_id(),
            operation_id=operation_id,
            name=name,
            args=args or {},
            posted_at=self._clock.time(),
        )

        def work(conn: sqlite3.Connection) -> bool:
            if any(read_commands(conn, "WHERE request_id = ?", (command.request_id,))):
                return False
            put_command(conn, command)
            return True

        return await self._database.write(work)

    async def take_commands(self, operation_ids: Collection[str]) -> Commands:
        """Return the wishes left for these operations, oldest first; each is handed out once. Cheap while there are
        none.
        """
        wanted = frozenset(operation_ids)

        def waiting(conn: sqlite3.Connection) -> list[Command]:
            found = read_commands(conn, "WHERE taken_at IS NULL")
            return [command for command, taken in found if taken is None and command.operation_id in wanted]

        if not wanted or not await self._database.read(waiting):
            return []
        now = self._clock.time()
        told: list[Command] = []

        def take(conn: sqlite3.Connection) -> list[Command]:
            # Run again on a file that was away, it must not take what nobody would be told of.
            commands = list(told) or sorted(waiting(conn), key=lambda command: command.posted_at)
            for command in commands:
                put_command(conn, command, taken_at=now)
            after_commit(conn, lambda: told.extend(commands))
            return commands

        return await self._database.write(take)

    # --- steps and gates ----------------------------------------------------------------------------------------------

    async def save_step(
        self,
        operation_id: str,
        generation: int,
        name: str,
        data: JsonValue,
        *,
        progress: tuple[int, int | None] | None = None,
    ) -> None:
        """Remember what a step inside an operation returned, so that it need not be done again, until it is complete.

        ``progress``: durable units done and in total, noted in the same transaction.

        Raises:
            Fenced: another owner has taken over.
            ValueError: ``data`` is not JSON or too long.
        """
        now = self._clock.time()
        await self._database.write(
            lambda conn: self.save_step_in(conn, operation_id, generation, name, data, now=now, progress=progress)
        )

    async def forget_steps(
        self,
        operation_id: str,
        generation: int,
        names: Collection[str] | None = None,
        *,
        progress: tuple[int, int | None] | None = None,
    ) -> None:
        """Forget these steps, or all of the operation's: they were taken back, which is progress, too.

        Raises:
            Fenced: another owner has taken over.
        """
        await self._database.write(lambda conn: self.forget_steps_in(conn, operation_id, generation, names, progress))

    async def steps(self, operation_id: str) -> dict[str, Any]:
        """Return what the steps of an operation returned, in the order in which they were saved."""
        return await self._database.read(lambda conn: read_steps(conn, operation_id))

    async def change_gate(
        self, host: str, change: Callable[[Mapping[str, Any] | None], tuple[Mapping[str, JsonValue] | None, T]]
    ) -> T:
        """Change a host's gate in one transaction: ``change`` gets its record (None: none), and returns the one to keep
        (None: forget it; the same object: leave it) and a result.
        """
        now = self._clock.time()
        told: list[T] = []

        def work(conn: sqlite3.Connection) -> T:
            if told:
                return told[0]  # what others have noted on the file meanwhile is newer than this
            old = read_gate(conn, host)
            new, result = change(old)
            if new is not old:
                put_gate(conn, host, new, now)
            after_commit(conn, lambda: told.append(result))
            return result

        return await self._database.write(work, urgent=False)

    async def gates(self) -> dict[str, Any]:
        """Return every host's gate record."""
        return await self._database.read(read_gates)


class _Relaxed:
    """A database whose writes are never urgent."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.read = database.read
        self.add_restore = database.add_restore

    async def write(self, fn: Callable[[sqlite3.Connection], T], *, urgent: bool = True) -> T:  # noqa: ARG002
        return await self._database.write(fn, urgent=False)
