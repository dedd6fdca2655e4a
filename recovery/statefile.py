"""One open state file: opened safely, written in whole transactions under its lock, checkpointed, set aside when
damaged.

It does not decide what happens after a fault (``store.py``) and knows nothing of event loops. Blocking: everything
here runs in the database thread.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from recovery.connections import FileId, connect, file_id, file_size
from recovery.faults import SQLITE_RAISES, Fault, StoreFault
from recovery.filelock import FileLock
from recovery.mounts import filesystem_type, shares_memory
from recovery.schema import (
    DamagedSchema,
    ForeignDatabase,
    NewerSchema,
    Schema,
    install,
    outdated,
    require_known,
    require_tables,
)
from recovery.work import StoreConnection

__all__ = ["StateFile", "StoreLimits", "quarantine"]

T = TypeVar("T")

_FAULTS = (*SQLITE_RAISES, OSError, DamagedSchema, NewerSchema, ForeignDatabase)
_COMPANIONS = ("-wal", "-shm", "-journal")


class StoreLimits(Struct, frozen=True, kw_only=True):
    """How long the store waits and how much it keeps. Times are seconds, sizes bytes."""

    wait_s: float = 2.0
    """Longest wait for other processes before the store goes on in memory."""
    group: int = 256
    """Most functions in one transaction; bounds how long the lock is held."""
    checkpoint_commits: int = 500
    """A checkpoint costs several syncs, which whoever writes next waits for. At 200, one durable call in a hundred met
    one; at 500 the WAL comes to some 12 MiB.
    """
    checkpoint_bytes: int = 8 << 20
    """By which the WAL may grow: large transactions count more than their number."""
    idle_s: float = 2.0
    """Silence after which the WAL is emptied into the file."""
    probe_base_s: float = 1.0
    probe_cap_s: float = 30.0
    """Backoff of the attempts to use the file again."""
    redo: int = 10_000
    """Most functions kept for catching up."""
    copy: int = 64 << 20
    """Largest file that is copied into memory when it can no longer be written."""
    check_s: float = 5.0
    """Longest integrity check after an unclean end."""


class StateFile:
    """The state file, open for writing in this thread."""

    def __init__(
        self, conn: StoreConnection, path: Path, schemas: Sequence[Schema], lock: FileLock, *, wal: bool
    ) -> None:
        """Wrap an open connection; use ``StateFile.open``."""
        self._schemas = schemas
        self._schema_version = _schema_version(conn)
        self.conn = conn
        self.path = path
        self._path = str(path)
        self.lock = lock
        self.wal = wal
        self.blank = False
        """Whether the file was new or empty when it was opened."""
        self.unclean = False
        """Whether somebody had left commits in the WAL: a process that died, or one that is still at work."""
        self.network: str | None = None
        """The type of the network filesystem it is on; None on a local one."""
        self.id = file_id(path)
        self.unchecked = 0
        """Commits since the last WAL checkpoint."""
        self._wal_path = f"{path}-wal"
        self._wal_id = file_id(self._wal_path)
        self._wal_size = 0
        self._wal_mark = 0
        self._synced = True

    @classmethod
    def open(
        cls,
        path: Path,
        schemas: Sequence[Schema],
        lock: FileLock,
        *,
        wait_s: float,
        content: sqlite3.Connection | None = None,
        stale_wal: FileId | None = None,
    ) -> StateFile:
        """Open or create the file, private to this user, and bring its tables up to date.

        ``content`` is what a new or empty file is to begin with; it must not have a transaction open. ``stale_wal``
        is the -wal of another file that was at ``path``: SQLite would take it for this one's.

        Raises:
            StoreFault: nothing was changed that a sound older or newer program would miss.
        """
        with _as_fault():
            os.makedirs(path.parent, mode=0o700, exist_ok=True)
            with _locked(lock, wait_s):
                try:
                    with _as_fault():
                        if file_size(path) == 0 or (stale_wal and file_id(Path(f"{path}-wal")) == stale_wal):
                            # Perhaps still in use by a process that has not noticed yet; it will.
                            _remove_companions(path)
                        return cls._open_locked(path, schemas, lock, wait_s, content)
                except StoreFault as fault:
                    fault.file_id = file_id(path)
                    raise

    @classmethod
    def _open_locked(
        cls, path: Path, schemas: Sequence[Schema], lock: FileLock, wait_s: float, content: sqlite3.Connection | None
    ) -> StateFile:
        _make_private(path)
        blank = file_size(path) == 0
        if not blank:
            _require_ours(path, schemas)
        unclean = file_size(Path(f"{path}-wal")) > 0
        conn = connect(path, "rw", wait_s)
        try:
            if blank and content is not None:
                content.backup(conn)
            filesystem = filesystem_type(path.parent)
            wal = _configure(conn, wal=shares_memory(filesystem), blank=blank and content is None)
            if outdated(conn, schemas):
                _back_up(conn, path)
            install(conn, schemas)
            conn.execute("PRAGMA synchronous = FULL")
            file = cls(conn, path, schemas, lock, wal=wal)
        except BaseException:
            conn.close()
            raise
        file.blank, file.unclean = blank, unclean
        file.network = None if shares_memory(filesystem) else filesystem
        return file

    def transact(self, work: Callable[[StoreConnection], T], *, urgent: bool, wait_s: float) -> T:
        """Run ``work`` in one transaction and return its result after COMMIT.

        ``urgent`` syncs the commit to disk; otherwise a power cut may take it back, but never half of it. An
        exception of ``work`` itself that is not the file's fault must be wrapped in WorkFailed, which is passed on
        after ROLLBACK.

        Raises:
            StoreFault: the transaction did not happen (or, when COMMIT failed, perhaps did).
        """
        # No context managers: of what a write costs beside SQLite, they were a quarter.
        try:
            self._take_lock(wait_s)
            try:
                result = self._transact(work, urgent=urgent)
            finally:
                self.lock.release()
        except _FAULTS as exc:
            raise StoreFault.of(exc) from exc
        self.conn.run_committed()
        return result

    def _transact(self, work: Callable[[StoreConnection], T], *, urgent: bool) -> T:
        conn = self.conn
        self._require_same_file()
        if urgent is not self._synced:
            conn.execute("PRAGMA synchronous = FULL" if urgent else "PRAGMA synchronous = NORMAL")
            self._synced = urgent
        try:
            conn.execute("BEGIN IMMEDIATE")
            self._require_same_tables()
            result = work(conn)
            conn.execute("COMMIT")
        except BaseException:
            conn.roll_back()
            raise
        self.unchecked += 1
        return result

    def checkpoint_due(self, limits: StoreLimits) -> bool:
        """Return whether the WAL has grown enough since its last checkpoint."""
        grown = self._wal_size - self._wal_mark
        return self.unchecked >= limits.checkpoint_commits or (self.unchecked > 0 and grown >= limits.checkpoint_bytes)

    def checkpoint(self, *, truncate: bool, wait_s: float) -> None:
        """Move the WAL into the file, with TRUNCATE leaving an empty one. Under the lock, never beside a commit.

        Raises:
            StoreFault
        """
        if not self.wal:
            self.unchecked = 0
            return
        with _as_fault(), _locked(self.lock, wait_s):
            self._require_same_file()
            self._checkpoint(truncate=truncate)
            self.unchecked = 0
            self._wal_mark = self._wal_size = file_size(self._wal_path)

    def close(self, *, wait_s: float, checkpoint: bool = True) -> None:
        """Close the connection, under the lock if it is to be had: SQLite checkpoints when the last one closes."""
        try:
            with _as_fault(), _locked(self.lock, wait_s):
                if checkpoint and self.wal and file_id(self.path) == self.id:
                    with contextlib.suppress(sqlite3.Error):  # what is in the WAL is as durable as what is in the file
                        self._checkpoint(truncate=True)
                self.conn.close()
        except StoreFault:
            self.conn.close()

    def _checkpoint(self, *, truncate: bool) -> None:
        # SQLite would wait for whoever reads, and all writers would wait for us: what is left is for the next time.
        wait_ms = self.conn.execute("PRAGMA busy_timeout").fetchone()[0]
        self.conn.execute("PRAGMA busy_timeout = 0")
        try:
            self.conn.execute(f"PRAGMA wal_checkpoint({'TRUNCATE' if truncate else 'PASSIVE'})").fetchone()
        finally:
            self.conn.execute(f"PRAGMA busy_timeout = {wait_ms}")

    @property
    def stale_wal(self) -> FileId | None:
        """The -wal of this file if that still lies beside another file that has taken its place."""
        there = file_id(self._wal_path)
        return there if there == self._wal_id and file_id(self.path) != self.id else None

    def _take_lock(self, wait_s: float) -> None:
        try:
            held = self.lock.acquire(wait_s)
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise StoreFault(Fault.GONE, "its directory is missing") from exc
        if not held:
            raise StoreFault(Fault.BUSY)

    def _require_same_tables(self) -> None:
        # A newer version of this program may have migrated the file meanwhile: then our rows would be wrong in it.
        version = _schema_version(self.conn)
        if version != self._schema_version:
            require_known(self.conn, self._schemas)
            require_tables(self.conn, self._schemas)
            self._schema_version = version

    def _require_same_file(self) -> None:
        if self.id is None or file_id(self._path) != self.id:
            raise StoreFault(Fault.GONE)
        if not self.wal:
            return
        try:
            there = os.stat(self._wal_path)
        except FileNotFoundError:
            raise StoreFault(Fault.GONE, "its -wal file is missing") from None
        if (there.st_dev, there.st_ino) != self._wal_id:
            raise StoreFault(Fault.GONE, "its -wal file was replaced")
        self._wal_size = there.st_size


def quarantine(path: Path, lock: FileLock, damaged: FileId | None, *, wait_s: float) -> Path | None:
    """Set a damaged file and its companions aside under names that sort by time; returns the file's new name.

    Returns None when another file is at ``path`` by now: somebody else was faster.

    Raises:
        StoreFault: it cannot be moved.
    """
    if damaged is None or file_id(path) != damaged:
        return None
    with _as_fault(), _locked(lock, wait_s):
        if file_id(path) != damaged:
            return None
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        target = Path(f"{path}.corrupt-{stamp}")
        count = 1
        while os.path.lexists(target):
            count += 1
            target = Path(f"{path}.corrupt-{stamp}-{count}")
        # The file first: should we die between the renames, SQLite drops an old WAL that lies beside a new, empty file.
        for suffix in ("", *_COMPANIONS):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{path}{suffix}", f"{target}{suffix}")
        return target


def _configure(conn: sqlite3.Connection, *, wal: bool, blank: bool) -> bool:
    if wal and blank:
        # Nothing is in it yet. One sync says that it is a WAL file; without a journal on disk there are no others, of
        # which each takes a third of a second behind a busy disk, before the first byte is asked for.
        conn.execute("PRAGMA journal_mode = MEMORY")
    mode = conn.execute(f"PRAGMA journal_mode = {'WAL' if wal else 'TRUNCATE'}").fetchone()[0]
    # The tables of a blank WAL file need no sync of their own: they are in the WAL, which the first one brings along.
    conn.execute(f"PRAGMA synchronous = {'NORMAL' if blank and mode == 'wal' else 'FULL'}")
    conn.execute("PRAGMA wal_autocheckpoint = 0")  # checkpoints happen under our lock only
    # Blocks that the WAL has already are synced in half the time: no commit of the file system's own journal is needed.
    conn.execute("PRAGMA journal_size_limit = 16777216")
    return bool(mode == "wal")


def _schema_version(conn: sqlite3.Connection) -> int:
    return int(conn.execute("PRAGMA schema_version").fetchone()[0])


def _require_ours(path: Path, schemas: Sequence[Schema]) -> None:
    # Read-only: even closing a writable connection would move another program's WAL into its file.
    conn = connect(path, "ro", 0.0)
    try:
        require_known(conn, schemas)
    finally:
        conn.close()


def _make_private(path: Path) -> None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise StoreFault(Fault.UNAVAILABLE, "not a regular file") from None
        if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & 0o077:
            os.chmod(path, 0o600)
    else:
        # Only a file nobody else can have open: closing any descriptor of a database in use drops SQLite's locks on it.
        os.close(fd)


def _remove_companions(path: Path) -> None:
    for suffix in _COMPANIONS:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}{suffix}")


def _back_up(conn: sqlite3.Connection, path: Path) -> None:
    backup = Path(f"{path}.before-migration")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(backup)
    os.close(os.open(backup, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    conn.execute("VACUUM INTO ?", (str(backup),))


@contextlib.contextmanager
def _as_fault() -> Iterator[None]:
    try:
        yield
    except _FAULTS as exc:
        raise StoreFault.of(exc) from exc


@contextlib.contextmanager
def _locked(lock: FileLock, wait_s: float) -> Iterator[None]:
    if not lock.acquire(wait_s):
        raise StoreFault(Fault.BUSY)
    try:
        yield
    finally:
        lock.release()
