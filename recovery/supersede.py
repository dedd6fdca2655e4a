"""One operation under two names or two counts: what a process began while the file was away, and what the file knows.

The file's row gives way; its attempts, steps and waiting commands go over to the row that took its place.
"""

from __future__ import annotations

import sqlite3

from msgspec.structs import replace

from recovery.records import Operation
from recovery.rows import put_attempt, put_command, read_attempts, read_commands
from recovery.siderows import move_steps

__all__ = ["supersede"]


def supersede(conn: sqlite3.Connection, old: Operation, new: Operation) -> None:
    """Move what belongs to ``old`` over to ``new``, whose row is already there; delete ``old``'s row if it has another
    id.

    The attempts that ``new`` knew nothing of keep their order and get numbers before its own, down to 0 and below.
    """
    renamed = old.operation_id != new.operation_id
    unknown = old.history.attempts - new.history.attempts
    if renamed or unknown > 0:
        _move_attempts(conn, old.operation_id, new.operation_id, unknown)
    if renamed:
        move_steps(conn, old.operation_id, new.operation_id)
        for command, taken_at in list(read_commands(conn, "WHERE operation_id = ?", (old.operation_id,))):
            put_command(conn, replace(command, operation_id=new.operation_id), taken_at=taken_at)
        conn.execute("DELETE FROM operations WHERE operation_id = ?", (old.operation_id,))


def _move_attempts(conn: sqlite3.Connection, old_id: str, new_id: str, unknown: int) -> None:
    attempts = read_attempts(conn, old_id)
    conn.execute("DELETE FROM attempts WHERE operation_id = ?", (old_id,))
    for attempt in attempts:
        put_attempt(conn, new_id, replace(attempt, number=attempt.number - unknown))
