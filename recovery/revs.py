"""The number of the newest change in the journal. It never goes back, or whoever follows the changes would miss one."""

from __future__ import annotations

import sqlite3

from recovery.rowcrc import intact, sealed
from recovery.work import StoreConnection

__all__ = ["keep_rev", "newest_rev", "next_rev"]

_MOST = 1 << 52  # beyond that it is a flipped bit
# One statement for both: it is run before every write.
_NEWEST = """
SELECT (SELECT max(rev) FROM operations), kept.name, kept.value, kept.crc
  FROM (SELECT 1) LEFT JOIN meta AS kept ON kept.name = 'forgotten_rev'
"""


def newest_rev(conn: sqlite3.Connection, *, otherwise: int = 0) -> int:
    """Return the newest rev that was given out; ``otherwise`` where the newest row is damaged."""
    newest, *kept = conn.execute(_NEWEST).fetchone()
    newest = newest or 0
    forgotten = int(kept[1]) if kept[0] is not None and intact(kept) else 0
    return max(newest if newest < _MOST else otherwise, forgotten)


def next_rev(conn: sqlite3.Connection, *, otherwise: int) -> int:
    """Return the number of a change that is about to be written to a row that has the number ``otherwise`` now."""
    group = conn if isinstance(conn, StoreConnection) else None
    if group is None or group.rev is None:
        return 1 + newest_rev(conn, otherwise=otherwise)
    # Nobody else writes meanwhile: of a group, the first one has to look.
    group.rev = 1 + max(group.rev or newest_rev(conn, otherwise=otherwise), otherwise)
    return group.rev


def keep_rev(conn: sqlite3.Connection, rev: int) -> None:
    """Remember a rev whose row is about to be forgotten."""
    conn.execute("INSERT OR REPLACE INTO meta (name, value, crc) VALUES (?, ?, ?)", sealed(("forgotten_rev", str(rev))))
