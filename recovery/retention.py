"""How much of the past the journal keeps: ended operations by age, and by bytes for each project. Live ones always
stay.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Sequence

from recovery.revs import keep_rev, newest_rev
from recovery.states import TERMINAL, State

__all__ = ["forget_in", "prune_in"]

_ENDED = ", ".join(f"'{state.value}'" for state in sorted(TERMINAL))
# What a row takes up beside its texts: keys, numbers, index entries, rounded up.
_SIZES = """
SELECT o.operation_id, o.project, o.state, o.updated_at,
       600 + length(o.key) * 2 + length(o.title) + length(o.args) + length(o.history)
           + coalesce(length(o.message), 0) + coalesce(length(o.error), 0)
       + coalesce((SELECT sum(120 + coalesce(length(a.error), 0)) FROM attempts a
                   WHERE a.operation_id = o.operation_id), 0)
       + coalesce((SELECT sum(100 + length(s.data)) FROM steps s WHERE s.operation_id = o.operation_id), 0)
  FROM operations o
"""
_COMMAND_LIFE_S = 86_400.0
_GATE_LIFE_S = 86_400.0
_TABLES = (("operations", "operation_id"), ("attempts", "operation_id"), ("commands", "operation_id"))
_ALL_TABLES = (*_TABLES, ("steps", "operation_id"))


def forget_in(conn: sqlite3.Connection, operation_ids: Collection[str], companions: Sequence[tuple[str, str]]) -> int:
    """Delete ended operations with their rows in all tables, ours and the companions'; return how many."""
    forgotten = 0
    newest = newest_rev(conn)
    for operation_id in operation_ids:
        query = f"SELECT 1 FROM operations WHERE operation_id = ? AND state IN ({_ENDED})"  # noqa: S608
        if conn.execute(query, (operation_id,)).fetchone() is None:
            continue
        forgotten += 1
        for table, column in (*_ALL_TABLES, *companions):
            conn.execute(f'DELETE FROM "{table}" WHERE "{column}" = ?', (operation_id,))  # noqa: S608
    if newest_rev(conn) < newest:
        keep_rev(conn, newest)
    return forgotten


def prune_in(
    conn: sqlite3.Connection,
    older_than: float,
    keep_bytes: int,
    companions: Sequence[tuple[str, str]],
    now: float,
) -> int:
    """See ``Journal.prune``. Commands and gates that nobody has touched for a day go, too."""
    doomed = []
    used: dict[str, int] = defaultdict(int)
    rows = conn.execute(_SIZES).fetchall()
    for operation_id, project, state, updated_at, size in sorted(rows, key=lambda row: float(row[3]), reverse=True):
        used[project] += size
        ended = state in _ENDED_VALUES
        if ended and (updated_at < older_than or used[project] > keep_bytes):
            doomed.append(operation_id)
            used[project] -= size
    conn.execute("DELETE FROM commands WHERE coalesce(taken_at, posted_at) < ?", (now - _COMMAND_LIFE_S,))
    conn.execute("DELETE FROM gates WHERE updated_at < ?", (now - _GATE_LIFE_S,))
    return forget_in(conn, doomed, companions)


_ENDED_VALUES = frozenset(state.value for state in State if state in TERMINAL)
