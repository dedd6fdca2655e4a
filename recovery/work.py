"""One function on its way through the database thread, and how a group of them shares a transaction.

Nothing here knows files or health: it runs functions on a connection that has a transaction open.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from recovery.faults import Fault, fault_of

__all__ = [
    "Restore",
    "StoreConnection",
    "Work",
    "WorkFailed",
    "after_commit",
    "hand_out",
    "is_behind",
    "is_blind",
    "put_back",
    "restore_all",
    "run_apart",
    "run_together",
]

log = logging.getLogger(__name__)

Restore = Callable[[sqlite3.Connection], None]
"""Puts what its owner holds into a database that may have lost it; runs in a transaction, and must be safe to run
again.
"""


class StoreConnection(sqlite3.Connection):
    """A connection that remembers what is to happen once the open transaction is committed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Open like ``sqlite3.Connection``."""
        super().__init__(*args, **kwargs)
        self.on_commit: list[Callable[[], None]] = []
        self.restores: Sequence[Restore] = ()
        self.blind = False
        """Whether it began without what the file knows, because that could not be read."""
        self.behind = False
        """Whether what this process holds is newer than what is in it: set while a file catches up."""
        self.rev: int | None = None
        """Of a group that shares a transaction, the number of its newest change, 0 before there is one; else None."""

    def roll_back(self) -> None:
        """Undo the open transaction, if SQLite has not done so by itself, and forget what was to follow its COMMIT."""
        self.on_commit.clear()
        if self.in_transaction:
            self.execute("ROLLBACK")

    def run_committed(self) -> None:
        """Do what was to happen after COMMIT."""
        actions, self.on_commit = self.on_commit, []
        for action in actions:
            action()


def after_commit(conn: sqlite3.Connection, action: Callable[[], None]) -> None:
    """Run ``action`` in the database thread once the transaction around the calling write function is committed.

    It is dropped when the function, or the whole group, is rolled back. It must be quick and must not raise.
    """
    assert isinstance(conn, StoreConnection), "only the connection a write function was given knows its transaction"
    conn.on_commit.append(action)


def put_back(conn: sqlite3.Connection) -> None:
    """Put what this process holds into the database, from within a write function that misses a row of its own."""
    if isinstance(conn, StoreConnection):
        restore_all(conn, conn.restores)


def is_blind(conn: sqlite3.Connection) -> bool:
    """Return whether the database had to begin without what the state file knows."""
    return isinstance(conn, StoreConnection) and conn.blind


def is_behind(conn: sqlite3.Connection) -> bool:
    """Return whether what this process holds is newer than the rows in the database."""
    return isinstance(conn, StoreConnection) and conn.behind


def restore_all(conn: StoreConnection, restores: Sequence[Restore]) -> None:
    """Run the restores, each in a savepoint; one that raises costs its own rows only, and is logged.

    Raises:
        sqlite3.Error: the file is at fault.
    """
    for restore in restores:
        before = len(conn.on_commit)
        conn.execute("SAVEPOINT restoring")
        try:
            restore(conn)
        except Exception as exc:  # the edge to other packages' functions: recovery must not fail because of theirs
            if fault_of(exc) is not None and isinstance(exc, sqlite3.Error):
                raise
            log.exception("could not put back what this process holds")
            del conn.on_commit[before:]
            conn.execute("ROLLBACK TO restoring")
        conn.execute("RELEASE restoring")


class Work:
    """A function to run inside a transaction, who waits for it, and what became of it."""

    __slots__ = ("error", "fn", "future", "reads_only", "urgent", "value")

    def __init__(
        self,
        fn: Callable[[sqlite3.Connection], Any],
        future: asyncio.Future[Any] | None = None,
        *,
        urgent: bool = True,
        reads_only: bool = False,
    ) -> None:
        """Describe work that has not run yet."""
        self.fn = fn
        self.future = future
        self.urgent = urgent
        """Whether its group must be on disk before the result is handed out."""
        self.reads_only = reads_only
        """A read that came this way because no reader connection can be used: nothing to catch up."""
        self.value: Any = None
        self.error: BaseException | None = None
        """What it raised by its own doing; ``value`` means nothing then."""


def hand_out(works: Sequence[Work]) -> None:
    """Tell whoever waits for these functions what became of them; in the event loop."""
    for work in works:
        future = work.future
        if future is None or future.done():
            continue  # its caller was cancelled meanwhile
        if work.error is None:
            future.set_result(work.value)
        elif isinstance(work.error, StopIteration):  # a future refuses it
            future.set_exception(RuntimeError("a write function raised StopIteration"))
        else:
            future.set_exception(work.error)


class WorkFailed(Exception):  # noqa: N818 - names what happened
    """A function raised by its own doing; its exception is in its ``Work``."""


def run_together(conn: StoreConnection, works: Sequence[Work]) -> None:
    """Run the functions without savepoints, which is all that is needed as long as none of them raises.

    Raises:
        WorkFailed: one raised; the transaction must be rolled back, and the group run again with ``run_apart``.
        sqlite3.Error: the file is at fault.
    """
    # Each statement gives the interpreter lock away, and a busy event loop may keep it for 5 ms: savepoints around
    # every function would triple the statements of a group for the sake of the rare one that raises.
    conn.rev = 0
    try:
        for work in works:
            _run(conn, work)
            if work.error is not None:
                raise WorkFailed
    finally:
        conn.rev = None


def run_apart(conn: StoreConnection, works: Sequence[Work]) -> None:
    """Run each function inside a savepoint of its own: one that raises loses its own changes only.

    Raises:
        sqlite3.Error: the file is at fault.
    """
    for work in works:
        before = len(conn.on_commit)
        conn.execute("SAVEPOINT work")
        _run(conn, work)
        if work.error is not None:
            del conn.on_commit[before:]
            conn.execute("ROLLBACK TO work")
        conn.execute("RELEASE work")


def _writes_in_a_read(exc: sqlite3.Error, work: Work) -> bool:
    # SQLite's "read-only" is then about the function, which has no business to write, and not about the file.
    return work.reads_only and fault_of(exc) is Fault.READ_ONLY


def _run_reading(conn: StoreConnection, work: Work) -> Any:
    conn.execute("PRAGMA query_only = ON")
    try:
        return work.fn(conn)
    finally:
        conn.execute("PRAGMA query_only = OFF")


def _run(conn: StoreConnection, work: Work) -> None:
    work.error = None
    try:
        work.value = _run_reading(conn, work) if work.reads_only else work.fn(conn)
    except BaseException as exc:  # the edge to the callers' functions: whatever one raises goes to its own caller
        if isinstance(exc, sqlite3.Error) and fault_of(exc) is not None and not _writes_in_a_read(exc, work):
            raise
        work.error = exc
    if not conn.in_transaction:
        msg = "a write function must not end the transaction it runs in"
        raise RuntimeError(msg) from work.error
