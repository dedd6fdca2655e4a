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
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.resources import files
from typing import Any, Final, TypeAlias, TypeVar

from recovery.clock import Clock, SystemClock
from recovery.database import Database
from recovery.history import History
from recovery.lifecycle import Fenced, is_due, is_expired, set_by_hand
from recovery.records import AttemptRecord, Change, Command, JournalStatistics, JsonValue, Operation, OperationSpec
from recovery.retention import forget_in, prune_in
from recovery.rows import operations, put_command, read_attempts, read_commands, read_operation
from recovery.schema import Schema, file_identity
from recovery.siderows import put_gate, put_step, read_gate, read_gates, read_steps
from recovery.states import State
from recovery.tally import tally_in
from recovery.transactions import Transactions, check_generation, find_live, new_id, put_changed
from recovery.verdict import Verdict

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
Operations: TypeAlias = list[Operation]
Attempts: TypeAlias = list[AttemptRecord]
Commands: TypeAlias = list[Command]

JOURNAL: Final = Schema("journal", (files("recovery").joinpath("schema.sql").read_text("utf-8"),))

_COMMAND_OF: Mapping[State, str] = {State.PAUSED: "pause", State.CANCELLED: "cancel", State.QUEUED: "retry_now"}


class Journal(Transactions):
    """All operations of one state file."""

    def __init__(
        self, database: Database, *, clock: Clock | None = None, companions: Sequence[tuple[str, str]] = ()
    ) -> None:
        """``companions`` are tables of other packages, each with its column of operation ids: what is forgotten here is
        forgotten there, too.
        """
        super().__init__()
        self._database = database
        self._clock = clock or SystemClock()
        self._companions = tuple(companions)
        database.add_restore(self.restore_in)

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
        return await self._database.write(
            lambda conn: self.claim_in(conn, operation_id, owner=owner, ttl_s=ttl_s, now=now)
        )

    async def begin_and_claim(
        self, spec: OperationSpec, *, owner: str, ttl_s: float, now: float
    ) -> tuple[Operation, int | None]:
        """``begin`` and ``claim`` in one transaction; the generation is None while another owner's lease is live."""
        fresh_id = new_id()
        return await self._database.write(
            lambda conn: self.begin_and_claim_in(conn, spec, fresh_id, owner=owner, ttl_s=ttl_s, now=now)
        )

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

    async def record(  # noqa: PLR0913 - the fields of a Change, by name
        self,
        operation_id: str,
        generation: int,
        *,
        state: State,
        history: History | None = None,
        verdict: Verdict | None = None,
        error: str | None = None,
        next_at: float | None = None,
        attempt: AttemptRecord | None = None,
        progress: tuple[int, int | None] | None = None,
        now: float,
    ) -> Operation:
        """Write what the lease's owner has to say; see ``Change``. Returns the new row.

        Raises:
            Fenced: another owner has taken over; nothing was changed.
            IllegalTransition: no step leads to ``state``; nothing was changed.
        """
        change = Change(
            state=state,
            now=now,
            history=history,
            verdict=verdict,
            error=error,
            next_at=next_at,
            attempt=attempt,
            progress=progress,
        )
        return await self._database.write(lambda conn: self.record_in(conn, operation_id, generation, change))

    async def release(
        self, operation_id: str, generation: int, state: State, *, next_at: float | None = None, now: float
    ) -> Operation:
        """Give the lease back and leave the operation in ``state``; raises like ``record``."""
        change = Change(state=state, now=now, next_at=next_at, keep_lease=False)
        return await self._database.write(lambda conn: self.record_in(conn, operation_id, generation, change))

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
            conn.execute("DELETE FROM commands WHERE operation_id = ? AND taken_at IS NULL", (operation_id,))
            return put_changed(conn, set_by_hand(row, state, now))

        return await self._database.write(work)

    # --- looking ------------------------------------------------------------------------------------------------------

    async def get(self, operation_id: str) -> Operation | None:
        """Return the row; None when there is none (that is intact)."""
        return await self._database.read(lambda conn: read_operation(conn, operation_id))

    async def find(self, kind: str, key: str) -> Operation | None:
        """Return the live row with this kind and key, else the one that ended last, else None."""

        def work(conn: sqlite3.Connection) -> Operation | None:
            live = find_live(conn, kind, key)
            if live is not None:
                return live
            found = operations(conn, "WHERE kind = ? AND key = ?", (kind, key))
            ended = [row for row in found if (row.kind, row.key) == (kind, key)]
            return max(ended, key=lambda row: row.updated_at, default=None)

        return await self._database.read(work)

    async def list(
        self,
        states: Collection[State] | None = None,
        project: str | None = None,
        *,
        kind: str | None = None,
        limit: int | None = None,
    ) -> Operations:
        """Return the operations of these states, project and kind (None: any), the newest ones, newest first."""

        def work(conn: sqlite3.Connection) -> Operations:
            marks = "" if states is None else f"WHERE state IN ({', '.join('?' * len(states))})"
            rows = operations(conn, marks, [] if states is None else [state.value for state in states])
            chosen = [
                row
                for row in rows
                if (states is None or row.state in states)
                and (project is None or row.project == project)
                and (kind is None or row.kind == kind)
            ]
            chosen.sort(key=lambda row: (row.created_at, row.rev), reverse=True)
            return chosen[:limit]

        return await self._database.read(work)

    async def changed_since(self, rev: int, *, limit: int = 1_000) -> Operations:
        """Return the operations with a newer ``rev``, oldest change first: the way to follow what other processes do.

        Another ``identity`` than before means that the file was begun anew: then start over from 0.
        """
        where = "WHERE rev > ? ORDER BY rev LIMIT ?"
        return await self._database.read(
            lambda conn: [row for row in operations(conn, where, (rev, limit)) if row.rev > rev]
        )

    async def identity(self) -> str:
        """Return the random name of the database behind this journal."""
        return await self._database.read(file_identity)

    async def due(self, now: float) -> Operations:
        """Return what waits or is parked, has reached its time, and is held by nobody."""
        where = "WHERE state IN ('waiting', 'parked') AND next_at <= ?"
        return await self._database.read(
            lambda conn: [row for row in operations(conn, where, (now,)) if is_due(row, now)]
        )

    async def expired(self, now: float) -> Operations:
        """Return what is said to run although its lease has run out: its owner died or stalled."""
        where = "WHERE state IN ('running', 'verifying')"
        return await self._database.read(lambda conn: [row for row in operations(conn, where) if is_expired(row, now)])

    async def attempts(self, operation_id: str) -> Attempts:
        """Return the attempts made so far (the newest 200), oldest first."""
        return await self._database.read(lambda conn: read_attempts(conn, operation_id))

    async def statistics(self, project: str | None = None) -> JournalStatistics:
        """Return the journal (or one project of it) in numbers."""
        return await self._database.read(lambda conn: tally_in(conn, project))

    # --- forgetting ---------------------------------------------------------------------------------------------------

    async def forget(self, operation_ids: Collection[str]) -> int:
        """Forget ended operations with everything about them; return how many. Others of the ids are left alone."""
        ids = tuple(operation_ids)
        return await self._database.write(lambda conn: forget_in(conn, ids, self._companions), urgent=False)

    async def prune(self, older_than: float, keep_per_project_bytes: int = 1_000_000) -> int:
        """Forget operations that ended before ``older_than`` (epoch seconds), and of each project the oldest ended ones
        until what is left takes up no more than ``keep_per_project_bytes``; return how many.
        """
        now = self._clock.time()
        return await self._database.write(
            lambda conn: prune_in(conn, older_than, keep_per_project_bytes, self._companions, now), urgent=False
        )

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

        def take(conn: sqlite3.Connection) -> list[Command]:
            commands = sorted(waiting(conn), key=lambda command: command.posted_at)
            for command in commands:
                put_command(conn, command, taken_at=now)
            return commands

        return await self._database.write(take)

    # --- steps and gates ----------------------------------------------------------------------------------------------

    async def save_step(self, operation_id: str, generation: int, name: str, data: JsonValue) -> None:
        """Remember what a step inside an operation returned, so that it need not be done again.

        Raises:
            Fenced: another owner has taken over.
            ValueError: ``data`` is not JSON or too long.
        """
        now = self._clock.time()

        def work(conn: sqlite3.Connection) -> None:
            check_generation(conn, operation_id, generation)
            put_step(conn, operation_id, name, data, now)

        await self._database.write(work)

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

        def work(conn: sqlite3.Connection) -> T:
            old = read_gate(conn, host)
            new, result = change(old)
            if new is not old:
                put_gate(conn, host, new, now)
            return result

        return await self._database.write(work, urgent=False)

    async def gates(self) -> dict[str, Any]:
        """Return every host's gate record."""
        return await self._database.read(read_gates)
