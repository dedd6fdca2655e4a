"""The number of the newest change in the journal. It never goes back, or whoever follows the changes would miss one."""

from __future__ import annotations

import sqlite3

from recovery.rowcrc import intact, sealed

__all__ = ["keep_rev", "newest_rev"]

_MOST = 1 << 52  # beyond that it is a flipped bit
_FORGOTTEN = "SELECT name, value, crc FROM meta WHERE name = 'forgotten_rev'"


def newest_rev(conn: sqlite3.Connection, *, otherwise: int = 0) -> int:
    """Return the newest rev that was given out; ``otherwise`` where the newest row is damaged."""
    newest = int(conn.execute("SELECT max(rev) FROM operations").fetchone()[0] or 0)
    forgotten = conn.execute(_FORGOTTEN).fetchone()
    kept = int(forgotten[1]) if forgotten is not None and intact(forgotten) else 0
    return max(newest if newest < _MOST else otherwise, kept)


def keep_rev(conn: sqlite3.Connection, rev: int) -> None:
    """Remember a rev whose row is about to be forgotten."""
    conn.execute("INSERT OR REPLACE INTO meta (name, value, crc) VALUES (?, ?, ?)", sealed(("forgotten_rev", str(rev))))
