"""State files with something wrong with them, for tests of what the database makes of that."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

from recovery.database import Database, StoreLimits
from recovery.testing import FakeClock
from tests.notes import NOTES, HealthLog, note

IMPATIENT = StoreLimits(wait_s=0.05)


@contextlib.asynccontextmanager
async def opened(
    path: Path | None,
    *,
    health: HealthLog | None = None,
    clock: FakeClock | None = None,
    limits: StoreLimits = IMPATIENT,
) -> AsyncIterator[Database]:
    """Open a database that does not wait long, with a clock that only moves when told."""
    database = await Database.open(path, [NOTES], on_health=health, clock=clock or FakeClock(), limits=limits)
    try:
        yield database
    finally:
        await database.close()


def read_only(conn: sqlite3.Connection) -> None:
    """Make this connection refuse to write, as on a file system that has become read-only."""
    conn.execute("PRAGMA query_only = ON")


def full(conn: sqlite3.Connection) -> None:
    """Let the database grow no more, as on a full disk."""
    pages = conn.execute("PRAGMA page_count").fetchone()[0]
    conn.execute(f"PRAGMA max_page_count = {pages}")


def held(conn: sqlite3.Connection) -> None:
    """A restore: put back the one note that this process holds."""
    note("held")(conn)


BIG = "x" * 20_000


class Exclusive:
    """Another program that holds the database, or only our lock file."""

    def __init__(self, path: Path, *, lock_file: bool) -> None:
        self.path, self.lock_file = path, lock_file

    def __enter__(self) -> None:
        if self.lock_file:
            self.descriptor = os.open(f"{self.path}.lock", os.O_RDWR)
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        else:
            self.conn = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            self.conn.execute("BEGIN EXCLUSIVE")

    def __exit__(self, *_: object) -> None:
        if self.lock_file:
            os.close(self.descriptor)
        else:
            self.conn.execute("ROLLBACK")
            self.conn.close()
