"""Connections to SQLite databases with the settings that ours need, and copies from one to another.

It decides nothing and takes no lock of ours. Blocking, like everything that touches a file.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from recovery.faults import SQLITE_RAISES
from recovery.work import StoreConnection

__all__ = [
    "FileId",
    "connect",
    "connect_memory",
    "connect_reader",
    "copy_archive",
    "copy_database",
    "file_id",
    "file_size",
]

FileId: TypeAlias = tuple[int, int]

# Bytes that a flipped bit made invalid UTF-8 must reach the row's CRC check instead of failing the whole query.
_as_text = partial(str, encoding="utf-8", errors="replace")


def connect(path: Path, mode: str, wait_s: float) -> StoreConnection:
    """Return a connection to a file that exists (``mode`` "rw" or "ro"); raises sqlite3.Error."""
    # mode=rw: SQLite never creates the file, so that it never has another mode than 0600.
    return _connect(path, f"mode={mode}", wait_s)


def connect_reader(path: Path, wait_s: float) -> StoreConnection:
    """Return a connection that only reads; raises sqlite3.Error."""
    conn = connect(path, "rw", wait_s)  # "ro" cannot recover a WAL that a dead process left
    with _closed_on_error(conn):
        conn.execute("PRAGMA query_only = ON")
    return conn


def connect_memory() -> StoreConnection:
    """Return an empty database that lives as long as its connection."""
    conn = sqlite3.connect(":memory:", isolation_level=None, factory=StoreConnection, check_same_thread=False)
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
    except SQLITE_RAISES:
        return False
    return True


def copy_archive(path: Path, target: sqlite3.Connection, limit: int) -> bool:
    """Copy a file that cannot be opened for writing; False when it cannot be read, or changed while it was."""
    if file_size(path) == 0:
        return False
    with contextlib.suppress(*SQLITE_RAISES), contextlib.closing(connect(path, "ro", 0.0)) as source:
        if copy_database(source, target, limit):
            return True
    # Where not even the -shm can be made (a read-only mount), SQLite reads a WAL database only on our word that
    # nobody changes it. That nobody did is looked at afterwards; with a -wal or -journal it would not be the whole.
    before = _fingerprint(path)
    if before is None:
        return False
    try:
        with contextlib.closing(_connect(path, "mode=ro&immutable=1", 0.0)) as source:
            return copy_database(source, target, limit) and _fingerprint(path) == before
    except SQLITE_RAISES:
        return False


def file_id(path: Path | str) -> FileId | None:
    """Return device and inode of what is at ``path`` now; None when nothing is."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (found.st_dev, found.st_ino)


def file_size(path: Path | str) -> int:
    """Return the size of what is at ``path`` in bytes; 0 when nothing is."""
    try:
        return os.stat(path).st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _connect(path: Path, parameters: str, wait_s: float) -> StoreConnection:
    uri = f"file:{quote(os.fsencode(path))}?{parameters}"
    conn = sqlite3.connect(
        uri,
        uri=True,
        timeout=wait_s,
        isolation_level=None,
        cached_statements=256,
        factory=StoreConnection,
        check_same_thread=False,  # it is used in one thread at a time, but closed in another when that has ended
    )
    conn.text_factory = _as_text
    with _closed_on_error(conn):
        _set_up(conn)
    return conn


def _set_up(conn: StoreConnection) -> None:
    for pragma in ("cache_size = -1024", "temp_store = MEMORY", "trusted_schema = OFF", "cell_size_check = ON"):
        conn.execute(f"PRAGMA {pragma}")
    conn.execute("PRAGMA mmap_size = 0")  # a stray pointer must not reach the file, nor its truncation kill us
    conn.execute("PRAGMA foreign_keys = ON")


@contextlib.contextmanager
def _closed_on_error(conn: StoreConnection) -> Iterator[None]:
    # Python 3.13 warns of a connection that is left to the garbage collector.
    try:
        yield
    except BaseException:
        conn.close()
        raise


def _fingerprint(path: Path) -> tuple[FileId, int, int] | None:
    if file_size(Path(f"{path}-wal")) > 0 or file_size(Path(f"{path}-journal")) > 0:
        return None
    found = os.stat(path)
    return ((found.st_dev, found.st_ino), found.st_size, found.st_mtime_ns)
