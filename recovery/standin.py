"""The database in memory that stands in for the state file while that cannot be used, and how the file catches up
afterwards.

It begins as a copy of the file where the file can be read, otherwise with what this process holds. Blocking,
database thread only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from recovery.connections import connect_memory, copy_archive, copy_database
from recovery.faults import SQLITE_RAISES
from recovery.redo import RedoList
from recovery.schema import DamagedSchema, ForeignDatabase, NewerSchema, Schema, install
from recovery.statefile import StateFile, StoreLimits
from recovery.work import Restore, StoreConnection, Work, WorkFailed, restore_all, run_apart, run_together

__all__ = ["StandIn", "put_right"]


class StandIn:
    """A database in memory with the tables of the state file."""

    def __init__(self, conn: StoreConnection, restores: Sequence[Restore], *, complete: bool, redo: RedoList) -> None:
        """Wrap an open connection; use ``StandIn.open``."""
        conn.restores = restores
        self.conn = conn
        self.complete = complete
        """Whether everything the file had is in here, so that a lost file can be written again from it."""
        self.redo = redo

    @classmethod
    def open(
        cls,
        source: StateFile | Path | None,
        schemas: Sequence[Schema],
        limits: StoreLimits,
        restores: Sequence[Restore],
    ) -> StandIn:
        """Stand in for ``source``: a file that is open, one that cannot be opened for writing, or nothing."""
        if source is not None:
            conn = connect_memory()
            if _copy(source, conn, limits, schemas):
                return cls(conn, restores, complete=True, redo=RedoList(limits.redo))
            conn.close()
        conn = connect_memory()
        try:
            install(conn, schemas)
            conn.execute("BEGIN")
            restore_all(conn, restores)
            conn.execute("COMMIT")
        except BaseException:
            conn.close()
            raise
        return cls(conn, restores, complete=False, redo=RedoList(limits.redo))

    def run(self, works: Sequence[Work], *, keep: bool) -> None:
        """Run the functions in one transaction; with ``keep``, remember those that succeed for the file."""
        try:
            self._transact(run_together, works)
        except WorkFailed:
            self._transact(run_apart, works)
        if keep:
            for work in works:
                if work.error is None and not work.reads_only:
                    self.redo.add(work)

    def catch_up(self, file: StateFile, limits: StoreLimits, restores: Sequence[Restore]) -> int:
        """Run on ``file`` what ran here; returns how many functions did. Raises StoreFault; what was done stays
        done.
        """
        caught_up = 0
        if file.blank and self.complete:
            caught_up = len(self.redo)
            self.redo.clear()  # the file began as a copy of this database
        while len(self.redo):
            works = self.redo.first(limits.group)
            file.transact(partial(_run_again, works=works), urgent=True, wait_s=limits.wait_s)
            refused = sum(work.error is not None for work in works)
            caught_up += len(works) - refused
            self.redo.done(len(works), refused=refused)
        put_right(file, restores, limits)
        return caught_up

    def close(self) -> None:
        """Forget everything."""
        self.conn.close()

    def _transact(self, run: Callable[[StoreConnection, Sequence[Work]], None], works: Sequence[Work]) -> None:
        conn = self.conn
        try:
            conn.execute("BEGIN IMMEDIATE")
            run(conn, works)
            conn.execute("COMMIT")
        except BaseException:
            conn.roll_back()
            raise
        conn.run_committed()


def put_right(file: StateFile, restores: Sequence[Restore], limits: StoreLimits) -> None:
    """Put what this process holds into a file that was away, or is new. Raises StoreFault."""
    file.conn.behind = True
    try:
        file.transact(lambda conn: restore_all(conn, restores), urgent=True, wait_s=limits.wait_s)
    finally:
        file.conn.behind = False


def _run_again(conn: StoreConnection, works: Sequence[Work]) -> None:
    run_apart(conn, works)
    conn.on_commit.clear()  # what was to follow the commit has followed it in memory


def _copy(source: StateFile | Path, target: StoreConnection, limits: StoreLimits, schemas: Sequence[Schema]) -> bool:
    try:
        if isinstance(source, StateFile):
            copied = copy_database(source.conn, target, limits.copy)
        else:
            copied = copy_archive(source, target, limits.copy)
        if copied:
            install(target, schemas)
    except (*SQLITE_RAISES, OSError, DamagedSchema, NewerSchema, ForeignDatabase):
        return False
    return copied
