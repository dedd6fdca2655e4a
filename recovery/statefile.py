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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from recovery.faults import Fault, StoreFault
from recovery.filelock import FileLock
from recovery.mounts import filesystem_type, shares_memory
from recovery.schema import DamagedSchema, ForeignDatabase, NewerSchema, Schema, install, outdated, require_known
from recovery.work import StoreConnection

__all__ = [
    "StateFile",
    "StoreLimits",
    "connect_archive",
    "connect_memory",
    "connect_reader",
    "copy_database",
    "file_id",
    "quarantine",
]

T = TypeVar("T")
FileId = tuple[int, int]

_FAULTS = (sqlite3.Error, OSError, DamagedSchema, NewerSchema, ForeignDatabase)
_COMPANIONS = ("-wal", "-shm", "-journal")
# Bytes that a flipped bit made invalid UTF-8 must reach the row's CRC check instead of failing the whole query.
_as_text = partial(str, encoding="utf-8", errors="replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """How long the store waits and how much it keeps. Times are seconds, sizes bytes."""

    wait_s: float = 2.0
    """Longest wait for other processes before the store goes on in memory."""
    group: int = 256
    """Most functions in one transaction; bounds how long the lock is held."""
    checkpoint_commits: int = 200
    checkpoint_bytes: int = 1 << 20
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

    def __init__(self, conn: StoreConnection, path: Path, lock: FileLock, *, wal: bool) -> None:
        """Wrap an open connection; use ``StateFile.open``."""
        self.conn = conn
        self.path = path
        self.lock = lock
        self.wal = wal
        self.blank = False
        """Whether the file was new or empty when it was opened."""
        self.unclean = False
        """Whether somebody had left commits in the WAL: a process that died, or one that is still at work."""
        self.id = file_id(path)
        self.unchecked = 0
        """Commits since the last WAL checkpoint."""
        self._wal_path = Path(f"{path}-wal")
        self._wal_id: FileId | None = None
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
    ) -> StateFile:
        """Open or create the file, private to this user, and bring its tables up to date.

        ``content`` is what a new or empty file is to begin with; it must not have a transaction open.

        Raises:
            StoreFault: nothing was changed that a sound older or newer program would miss.
        """
        with _as_fault():
            os.makedirs(path.parent, mode=0o700, exist_ok=True)
            with _locked(lock, wait_s):
                try:
                    with _as_fault():
                        return cls._open_locked(path, schemas, lock, wait_s, content)
                except StoreFault as fault:
                    fault.file_id = file_id(path)
                    raise

    @classmethod
    def _open_locked(
        cls, path: Path, schemas: Sequence[Schema], lock: FileLock, wait_s: float, content: sqlite3.Connection | None
    ) -> StateFile:
        _make_private(path)
        blank = _size(path) == 0
        if blank:
            # Left over from another file of this name, perhaps still in use by a process that has not noticed yet.
            for suffix in _COMPANIONS:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{path}{suffix}")
        else:
            _require_ours(path, schemas)
        unclean = _size(Path(f"{path}-wal")) > 0
        conn = _connect(path, "rw", wait_s)
        try:
            if blank and content is not None:
                content.backup(conn)
            wal = _configure(conn, wal=shares_memory(filesystem_type(path.parent)))
            if outdated(conn, schemas):
                _back_up(conn, path)
            install(conn, schemas)
            file = cls(conn, path, lock, wal=wal)
        except BaseException:
            conn.close()
            raise
        file.blank, file.unclean = blank, unclean
        return file

    def transact(self, work: Callable[[StoreConnection], T], *, urgent: bool, wait_s: float) -> T:
        """Run ``work`` in one transaction and return its result after COMMIT.

        ``urgent`` syncs the commit to disk; otherwise a power cut may take it back, but never half of it. An
        exception of ``work`` itself that is not the file's fault must be wrapped in WorkFailed, which is passed on
        after ROLLBACK.

        Raises:
            StoreFault: the transaction did not happen (or, when COMMIT failed, perhaps did).
        """
        conn = self.conn
        with _as_fault(), _locked(self.lock, wait_s):
            self._require_same_file()
            if urgent is not self._synced:
                conn.execute("PRAGMA synchronous = FULL" if urgent else "PRAGMA synchronous = NORMAL")
                self._synced = urgent
            try:
                conn.execute("BEGIN IMMEDIATE")
                result = work(conn)
                conn.execute("COMMIT")
            except BaseException:
                conn.on_commit.clear()
                if conn.in_transaction:
                    conn.execute("ROLLBACK")
                raise
            self.unchecked += 1
        conn.run_committed()
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
            self.conn.execute(f"PRAGMA wal_checkpoint({'TRUNCATE' if truncate else 'PASSIVE'})").fetchone()
            self.unchecked = 0
            self._wal_mark = self._wal_size = _size(self._wal_path)

    def close(self, *, wait_s: float, checkpoint: bool = True) -> None:
        """Close the connection, under the lock if it is to be had: SQLite checkpoints when the last one closes."""
        try:
            with _as_fault(), _locked(self.lock, wait_s):
                if checkpoint and self.wal and file_id(self.path) == self.id:
                    self.conn.execute("PRAGMA busy_timeout = 100")
                    with contextlib.suppress(sqlite3.Error):  # what is in the WAL is as durable as what is in the file
                        self.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                self.conn.close()
        except StoreFault:
            self.conn.close()

    def _require_same_file(self) -> None:
        if self.id is None or file_id(self.path) != self.id:
            raise StoreFault(Fault.GONE)
        if not self.wal:
            return
        try:
            there = os.stat(self._wal_path)
        except FileNotFoundError:
            if self._wal_id is not None:
                raise StoreFault(Fault.GONE, "its -wal file is missing") from None
            return
        found = (there.st_dev, there.st_ino)
        if self._wal_id is None:
            self._wal_id = found
        elif self._wal_id != found:
            raise StoreFault(Fault.GONE, "its -wal file was replaced")
        self._wal_size = there.st_size


def file_id(path: Path) -> FileId | None:
    """Return device and inode of what is at ``path`` now; None when nothing is."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return (found.st_dev, found.st_ino)


def connect_memory() -> StoreConnection:
    """Return an empty database that lives as long as its connection."""
    conn = sqlite3.connect(":memory:", isolation_level=None, factory=StoreConnection)
    conn.text_factory = _as_text
    conn.execute("PRAGMA foreign_keys = ON")
    return conn


def copy_database(source: sqlite3.Connection, target: sqlite3.Connection, limit: int) -> bool:
    """Copy every row into an empty database; False when the source is too large or cannot be read right now.

    Works on a deleted file, too, as long as it is open.
    """
    try:
        source.execute("PRAGMA busy_timeout = 0")
        source.execute("BEGIN")
        try:
            # Hold a read transaction: backup() on its own waits for a lock without limit.
            source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            pages, size = (source.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
            if pages * size > limit:
                return False
            source.backup(target)
        finally:
            source.execute("ROLLBACK")
    except sqlite3.Error:
        return False
    return True


def connect_archive(path: Path) -> StoreConnection:
    """Return a connection to a file that cannot be opened for writing; raises sqlite3.Error."""
    if _size(path) == 0:
        raise sqlite3.OperationalError("there is nothing to read")
    return _connect(path, "ro", 0.0)


def connect_reader(path: Path, wait_s: float) -> StoreConnection:
    """Return a connection that only reads; raises sqlite3.Error."""
    conn = _connect(path, "rw", wait_s)  # "ro" cannot recover a WAL that a dead process left
    conn.execute("PRAGMA query_only = ON")
    return conn


def quarantine(path: Path, lock: FileLock, damaged: FileId | None, *, wait_s: float) -> Path | None:
    """Set a damaged file and its companions aside under names that sort by time; returns the file's new name.

    Returns None when another file is at ``path`` by now: somebody else was faster.

    Raises:
        StoreFault: it cannot be moved.
    """
    with _as_fault(), _locked(lock, wait_s):
        if damaged is None or file_id(path) != damaged:
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


def _connect(path: Path, mode: str, wait_s: float) -> StoreConnection:
    # mode=rw: SQLite never creates the file, so that it never has another mode than 0600.
    uri = f"file:{quote(os.fsencode(path))}?mode={mode}"
    conn = sqlite3.connect(
        uri, uri=True, timeout=wait_s, isolation_level=None, cached_statements=256, factory=StoreConnection
    )
    conn.text_factory = _as_text
    for pragma in ("cache_size = -256", "temp_store = MEMORY", "trusted_schema = OFF", "cell_size_check = ON"):
        conn.execute(f"PRAGMA {pragma}")
    conn.execute("PRAGMA mmap_size = 0")  # a stray pointer must not reach the file, nor its truncation kill us
    conn.execute("PRAGMA foreign_keys = ON")
    return conn


def _configure(conn: sqlite3.Connection, *, wal: bool) -> bool:
    mode = conn.execute(f"PRAGMA journal_mode = {'WAL' if wal else 'TRUNCATE'}").fetchone()[0]
    conn.execute("PRAGMA synchronous = FULL")
    conn.execute("PRAGMA wal_autocheckpoint = 0")  # checkpoints happen under our lock only
    conn.execute("PRAGMA journal_size_limit = 4194304")
    return bool(mode == "wal")


def _require_ours(path: Path, schemas: Sequence[Schema]) -> None:
    # Read-only: even closing a writable connection would move another program's WAL into its file.
    conn = _connect(path, "ro", 0.0)
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


def _back_up(conn: sqlite3.Connection, path: Path) -> None:
    backup = Path(f"{path}.before-migration")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(backup)
    os.close(os.open(backup, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    conn.execute("VACUUM INTO ?", (str(backup),))


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


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
