"""Steps of operations and gates of hosts as table rows: named JSON, intact or absent."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from typing import Any

from recovery.records import JsonValue
from recovery.rowcrc import intact, sealed
from recovery.rows import load_json, to_json

__all__ = ["forget_steps", "move_steps", "put_gate", "put_step", "read_gate", "read_gates", "read_steps"]

_GATES = "SELECT host, state, updated_at, crc FROM gates"
_STEPS = "SELECT operation_id, name, data, saved_at, crc FROM steps WHERE operation_id = ?"


def put_step(conn: sqlite3.Connection, operation_id: str, name: str, data: JsonValue, now: float) -> None:
    """Insert or replace what a step returned; raises ValueError when it is not JSON or too long."""
    row = sealed((operation_id, name, to_json(data), float(now)))
    conn.execute("INSERT OR REPLACE INTO steps (operation_id, name, data, saved_at, crc) VALUES (?, ?, ?, ?, ?)", row)


def forget_steps(conn: sqlite3.Connection, operation_id: str, names: Collection[str] | None = None) -> None:
    """Delete these steps, or all of the operation's."""
    if names is None:
        conn.execute("DELETE FROM steps WHERE operation_id = ?", (operation_id,))
        return
    conn.executemany("DELETE FROM steps WHERE operation_id = ? AND name = ?", [(operation_id, name) for name in names])


def read_steps(conn: sqlite3.Connection, operation_id: str) -> dict[str, Any]:
    """Return what the steps returned, by name, in the order in which they were saved."""
    rows = [row for row in conn.execute(_STEPS, (operation_id,)) if intact(row) and row[0] == operation_id]
    return {row[1]: load_json(row[2]) for row in sorted(rows, key=lambda row: float(row[3]))}


def move_steps(conn: sqlite3.Connection, old_id: str, new_id: str) -> None:
    """Give the steps of one operation to another; what that has saved itself stays."""
    for row in conn.execute(_STEPS, (old_id,)).fetchall():
        if intact(row):
            moved = sealed((new_id, *row[1:-1]))
            conn.execute(
                "INSERT OR IGNORE INTO steps (operation_id, name, data, saved_at, crc) VALUES (?, ?, ?, ?, ?)", moved
            )
    conn.execute("DELETE FROM steps WHERE operation_id = ?", (old_id,))


def put_gate(conn: sqlite3.Connection, host: str, record: Mapping[str, JsonValue] | None, now: float) -> None:
    """Insert or replace a host's gate; None deletes it. Raises ValueError when it is not JSON or too long."""
    if record is None:
        conn.execute("DELETE FROM gates WHERE host = ?", (host,))
        return
    row = sealed((host, to_json(record), float(now)))
    conn.execute("INSERT OR REPLACE INTO gates (host, state, updated_at, crc) VALUES (?, ?, ?, ?)", row)


def read_gate(conn: sqlite3.Connection, host: str) -> Mapping[str, Any] | None:
    """Return a host's gate; None when there is none that is intact."""
    row = conn.execute(f"{_GATES} WHERE host = ?", (host,)).fetchone()
    return load_json(row[1]) if row is not None and intact(row) and row[0] == host else None


def read_gates(conn: sqlite3.Connection) -> dict[str, Any]:
    """Return the intact gates by host."""
    return {row[0]: load_json(row[1]) for row in conn.execute(_GATES) if intact(row)}
