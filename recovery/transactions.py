"""The journal's changes as synchronous functions on a connection, for use inside anybody's write function.

They read a row, ask ``lifecycle`` for the next one, and write it. They must only be called in a transaction.
"""

from __future__ import annotations

import base64
import os
import random
import sqlite3
import zlib
from collections.abc import Collection

from msgspec.structs import replace

from recovery.lifecycle import Fenced, advanced, asked_again, begun, claimed, recorded, renewed
from recovery.records import Change, JsonValue, Operation, OperationSpec
from recovery.revs import next_rev
from recovery.rowcrc import Cell
from recovery.rows import drop_commands, operations, put_attempt, put_operation, read_operation
from recovery.siderows import forget_steps, put_step
from recovery.states import TERMINAL, State
from recovery.supersede import supersede
from recovery.work import after_commit, is_behind, is_blind, put_back

__all__ = ["Transactions", "check_generation", "find_live", "new_id", "put_changed"]

_LIVE = ", ".join(f"'{state.value}'" for state in State if state not in TERMINAL)
_FIND_LIVE = f"WHERE kind = ? AND key = ? AND state IN ({_LIVE})"
_ATTEMPTS_KEPT = 200

# Of the system's only where it begins: each call of that gives the interpreter lock away, and a busy database thread
# takes it. Unique is all that an id has to be.
_ids = random.Random()
os.register_at_fork(after_in_child=_ids.seed)


def check_generation(conn: sqlite3.Connection, operation_id: str, generation: int) -> None:
    """Refuse a write of an owner that has lost its lease: call it first, in the same write function.

    Raises:
        Fenced: another owner has taken over, or the row is gone and this process does not hold it either.
    """
    row = _held_row(conn, operation_id)
    if row is None or row.generation != generation:
        raise Fenced(operation_id, generation, None if row is None else row.generation)


class Transactions:
    """The changes an owner makes. It remembers the rows this process holds, so that they outlive the file."""

    def __init__(self) -> None:
        """Hold nothing."""
        self._held: dict[str, tuple[Operation, tuple[Cell, ...]]] = {}
        """As last committed, by id, with their cells in the table. Changed in the database thread only."""

    def begin_in(
        self, conn: sqlite3.Connection, spec: OperationSpec, fresh_id: str, now: float, *, absent: bool = False
    ) -> Operation:
        """See ``Journal.begin``; ``fresh_id`` is used where the spec names none. ``absent``: the caller has seen in
        this transaction that there is no row of the spec's id.
        """
        row, changed = _begin(conn, spec, fresh_id, None, now, absent=absent)
        return put_changed(conn, row) if changed else row

    def begin_and_claim_in(
        self, conn: sqlite3.Connection, spec: OperationSpec, fresh_id: str, *, owner: str, ttl_s: float, now: float
    ) -> tuple[Operation, int | None]:
        """See ``Journal.begin_and_claim``."""
        row, changed = _begin(conn, spec, fresh_id, owner, now)
        taken = claimed(row, owner, ttl_s, now)
        if taken is not None:
            row = self._put(conn, taken)
        elif changed:
            row = put_changed(conn, row)
        return row, None if taken is None else row.generation

    def claim_in(
        self, conn: sqlite3.Connection, operation_id: str, *, owner: str, ttl_s: float, now: float
    ) -> Operation | None:
        """See ``Journal.claim``; returns the row."""
        row = read_operation(conn, operation_id)
        taken = None if row is None else claimed(row, owner, ttl_s, now)
        return None if taken is None else self._put(conn, taken)

    def reclaim_in(self, conn: sqlite3.Connection, told: Operation, now: float) -> None:
        """Make a file that was away agree with a claim that was made in memory, because its owner goes by what it was
        told: this id, this generation. Another owner's live lease stands; then ours is fenced.
        """
        row = read_operation(conn, told.operation_id) or find_live(conn, told.kind, told.key)
        if row is None:
            put_changed(conn, told)
        elif row.owner == told.owner or not row.leased(now):
            put_changed(conn, replace(told, created_at=min(row.created_at, told.created_at)))
            supersede(conn, row, told)

    def renew_in(
        self,
        conn: sqlite3.Connection,
        operation_id: str,
        generation: int,
        *,
        ttl_s: float,
        now: float,
        progress: tuple[int, int | None] | None = None,
    ) -> bool:
        """See ``Journal.renew``."""
        row = self._read(conn, operation_id)
        try:
            if row is None:
                return False
            self._put(conn, renewed(row, generation, self._owner_of(operation_id), ttl_s, now, progress))
            if ttl_s <= 0:
                # Anybody's from now on: what another owner completes and forgets must not come back from here.
                after_commit(conn, lambda: self._let_go(operation_id, generation))
        except Fenced:
            self._let_go(operation_id, generation)
            return False
        return True

    def record_in(self, conn: sqlite3.Connection, operation_id: str, generation: int, change: Change) -> Operation:
        """See ``Journal.record``."""
        row = self._read(conn, operation_id)
        if row is None:
            raise Fenced(operation_id, generation)
        try:
            row = self._put(conn, recorded(row, generation, change, self._owner_of(operation_id)))
        except Fenced:
            self._let_go(operation_id, generation)
            raise
        if change.state in TERMINAL or change.state is State.PAUSED:
            drop_commands(conn, operation_id)  # they were for this run, and must not meet the next one
        if change.state is State.COMPLETE:
            # Done: when it is asked for again, it is done again, and from the start.
            forget_steps(conn, operation_id)
        if change.attempt is not None:
            put_attempt(conn, operation_id, change.attempt)
            oldest = change.attempt.number - _ATTEMPTS_KEPT
            if oldest > 0:
                conn.execute("DELETE FROM attempts WHERE operation_id = ? AND number <= ?", (operation_id, oldest))
        return row

    def save_step_in(
        self,
        conn: sqlite3.Connection,
        operation_id: str,
        generation: int,
        name: str,
        data: JsonValue,
        *,
        now: float,
        progress: tuple[int, int | None] | None = None,
    ) -> None:
        """See ``Journal.save_step``."""
        self._advance(conn, operation_id, generation, progress)
        put_step(conn, operation_id, name, data, now)

    def forget_steps_in(
        self,
        conn: sqlite3.Connection,
        operation_id: str,
        generation: int,
        names: Collection[str] | None,
        progress: tuple[int, int | None] | None = None,
    ) -> None:
        """See ``Journal.forget_steps``."""
        self._advance(conn, operation_id, generation, progress)
        forget_steps(conn, operation_id, names)

    def restore_in(self, conn: sqlite3.Connection) -> None:
        """Put back the rows this process holds: those that are missing and, in a file that was away, those that nobody
        else has taken over meanwhile.
        """
        for held, _ in list(self._held.values()):
            row = read_operation(conn, held.operation_id)
            if row is None or (is_behind(conn) and row.owner == held.owner and replace(row, rev=held.rev) != held):
                self.reclaim_in(conn, held, held.updated_at)

    def _put(self, conn: sqlite3.Connection, row: Operation) -> Operation:
        """Write a row, and hold it as long as it has an owner."""
        row, cells = _put_next(conn, row)
        after_commit(conn, lambda: self._remember(row, cells))
        return row

    def _read(self, conn: sqlite3.Connection, operation_id: str) -> Operation | None:
        return _held_row(conn, operation_id, self._held.get(operation_id))

    def _owner_of(self, operation_id: str) -> str | None:
        held = self._held.get(operation_id)
        return None if held is None else held[0].owner

    def _advance(
        self,
        conn: sqlite3.Connection,
        operation_id: str,
        generation: int,
        progress: tuple[int, int | None] | None,
    ) -> None:
        """Note progress with the step it comes from: killed after each of its steps, an owner gets somewhere."""
        row = self._read(conn, operation_id)
        if row is None:
            raise Fenced(operation_id, generation)
        further = advanced(row, generation, progress)
        if further is not row:
            self._put(conn, further)

    def _let_go(self, operation_id: str, generation: int) -> None:
        # Or, should the file be lost, we would put back a row that is another owner's by now.
        held = self._held.get(operation_id)
        if held is not None and held[0].generation == generation:
            del self._held[operation_id]

    def _remember(self, row: Operation, cells: tuple[Cell, ...]) -> None:
        if row.owner is None:
            self._held.pop(row.operation_id, None)
        else:
            self._held[row.operation_id] = (row, cells)


def new_id() -> str:
    """Return a new operation id: 10 characters that are easy to read out and to type."""
    return base64.b32encode(_ids.randbytes(7))[:10].decode().lower()


def find_live(conn: sqlite3.Connection, kind: str, key: str) -> Operation | None:
    """Return the operation of this kind and key that has not ended."""
    for row in operations(conn, _FIND_LIVE, (kind, key)):
        if row.kind == kind and row.key == key and row.state not in TERMINAL:
            return row
    return None


def put_changed(conn: sqlite3.Connection, row: Operation) -> Operation:
    """Write a row under the next ``rev`` and return it as it is now."""
    return _put_next(conn, row)[0]


def _put_next(conn: sqlite3.Connection, row: Operation) -> tuple[Operation, tuple[Cell, ...]]:
    row = replace(row, rev=next_rev(conn, otherwise=row.rev))
    return row, put_operation(conn, row)


def _begin(
    conn: sqlite3.Connection, spec: OperationSpec, fresh_id: str, owner: str | None, now: float, *, absent: bool = False
) -> tuple[Operation, bool]:
    row = find_live(conn, spec.kind, spec.key)
    if row is None and spec.operation_id is not None and not absent:
        row = read_operation(conn, spec.operation_id)
        if row is not None and (row.kind, row.key) != (spec.kind, spec.key):
            msg = f"operation {spec.operation_id} is {row.kind} of {row.key!r}, not {spec.kind} of {spec.key!r}"
            raise ValueError(msg)
    if row is None:
        row = begun(spec, spec.operation_id or fresh_id, now)
        # The file may know this operation: then its generations have been used, by owners that may be alive.
        return (replace(row, generation=zlib.crc32(fresh_id.encode())) if is_blind(conn) else row), True
    again = asked_again(row, spec, now, owner=owner)
    if again.history.attempts < row.history.attempts:
        conn.execute("DELETE FROM attempts WHERE operation_id = ?", (row.operation_id,))
    if again.state is not row.state:
        drop_commands(conn, row.operation_id)  # they were for a run that has ended
    return again, again is not row


def _held_row(
    conn: sqlite3.Connection, operation_id: str, known: tuple[Operation, tuple[Cell, ...]] | None = None
) -> Operation | None:
    row = read_operation(conn, operation_id, known=known)
    if row is None:
        # Damaged on disk, perhaps, while its owner lives: then this process knows it.
        put_back(conn)
        row = read_operation(conn, operation_id)
    return row
