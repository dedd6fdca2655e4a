"""The journal in numbers, counted from its intact rows."""

from __future__ import annotations

import sqlite3
from collections import Counter

from recovery.records import JournalStatistics
from recovery.rows import damaged_operations, operations, read_attempts
from recovery.states import State

__all__ = ["tally_in"]


def tally_in(conn: sqlite3.Connection, project: str | None) -> JournalStatistics:
    """See ``Journal.statistics``."""
    damaged = len(damaged_operations(conn))
    rows = [row for row in operations(conn, "") if project is None or row.project == project]
    by_state = Counter(row.state for row in rows)
    ended = by_state[State.COMPLETE] + by_state[State.FAILED]
    failures = Counter(
        attempt.category for row in rows for attempt in read_attempts(conn, row.operation_id) if attempt.category
    )
    retried = [row for row in rows if row.history.attempts > 1]
    waiting = [row.next_at for row in rows if row.state in {State.WAITING, State.PARKED} and row.next_at is not None]
    return JournalStatistics(
        operations=len(rows),
        by_state=dict(by_state),
        by_category={category: count for category, count in failures.items() if category is not None},
        attempts=sum(row.history.attempts for row in rows),
        retried=len(retried),
        recovered=sum(row.state is State.COMPLETE for row in retried),
        success_rate=by_state[State.COMPLETE] / ended if ended else None,
        damaged=damaged,
        deaths=sum(row.deaths for row in rows),
        next_due_at=min(waiting, default=None),
    )
