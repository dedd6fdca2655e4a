"""What can be asked of the journal: reads only, each on one consistent snapshot, and only rows that are intact."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import TypeAlias

from recovery.database import Database
from recovery.lifecycle import is_due, is_expired
from recovery.records import AttemptRecord, JournalStatistics, Operation
from recovery.rows import operations, read_attempts, read_operation
from recovery.schema import file_identity
from recovery.states import State
from recovery.tally import tally_in
from recovery.transactions import find_live

__all__ = ["Lookup"]

# The class below has a method called list.
Operations: TypeAlias = list[Operation]
Attempts: TypeAlias = list[AttemptRecord]


class Lookup:
    """The reading half of ``recovery.journal.Journal``."""

    def __init__(self, database: Database) -> None:
        """Read from ``database``."""
        self._database = database

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
