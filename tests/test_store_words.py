"""What is wrong with a state file, by SQLite's code and the system's, and the plain words for it."""

from __future__ import annotations

import errno
import os
import sqlite3

import pytest

from recovery.faults import Fault, StoreFault, fault_of
from recovery.schema import DamagedSchema, ForeignDatabase, NewerSchema


def sqlite_error(code: int | None, text: str = "x") -> sqlite3.Error:
    """Return an error as the sqlite3 module raises it; None as it raises those it finds itself."""
    exc = sqlite3.OperationalError(text)
    if code is not None:
        exc.sqlite_errorcode = code
    return exc


JUDGED: list[tuple[BaseException, Fault | None]] = [
    (sqlite_error(sqlite3.SQLITE_BUSY), Fault.BUSY),
    (sqlite_error(sqlite3.SQLITE_BUSY_SNAPSHOT), Fault.BUSY),
    (sqlite_error(sqlite3.SQLITE_LOCKED), Fault.BUSY),
    (sqlite_error(sqlite3.SQLITE_PROTOCOL), Fault.BUSY),
    (sqlite_error(sqlite3.SQLITE_FULL), Fault.FULL),
    (sqlite_error(sqlite3.SQLITE_READONLY), Fault.READ_ONLY),
    (sqlite_error(sqlite3.SQLITE_READONLY_CANTINIT), Fault.READ_ONLY),
    (sqlite_error(sqlite3.SQLITE_READONLY_DBMOVED), Fault.GONE),
    (sqlite_error(sqlite3.SQLITE_IOERR), Fault.IO),
    (sqlite_error(sqlite3.SQLITE_IOERR_FSYNC), Fault.IO),
    (sqlite_error(sqlite3.SQLITE_CANTOPEN), Fault.UNAVAILABLE),
    (sqlite_error(sqlite3.SQLITE_PERM), Fault.UNAVAILABLE),
    (sqlite_error(sqlite3.SQLITE_NOLFS), Fault.UNAVAILABLE),
    (sqlite_error(sqlite3.SQLITE_CORRUPT), Fault.CORRUPT),
    (sqlite_error(sqlite3.SQLITE_CORRUPT_INDEX), Fault.CORRUPT),
    (sqlite_error(sqlite3.SQLITE_NOTADB), Fault.CORRUPT),
    (sqlite_error(sqlite3.SQLITE_FORMAT), Fault.CORRUPT),
    (sqlite_error(sqlite3.SQLITE_ERROR), None),
    (sqlite_error(sqlite3.SQLITE_CONSTRAINT), None),
    (sqlite_error(sqlite3.SQLITE_MISUSE), None),
    (sqlite_error(None), None),
    (OSError(errno.ENOSPC, "x"), Fault.FULL),
    (OSError(errno.EDQUOT, "x"), Fault.FULL),
    (OSError(errno.EFBIG, "x"), Fault.FULL),
    (OSError(errno.EROFS, "x"), Fault.READ_ONLY),
    (OSError(errno.EIO, "x"), Fault.IO),
    (OSError(errno.EACCES, "x"), Fault.UNAVAILABLE),
    (OSError(errno.ENOENT, "x"), Fault.UNAVAILABLE),
    (OSError(errno.EMFILE, "x"), Fault.UNAVAILABLE),
    (OSError("x"), Fault.UNAVAILABLE),
    (DamagedSchema("x"), Fault.CORRUPT),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), Fault.CORRUPT),
    (NewerSchema("x"), Fault.NEWER),
    (ForeignDatabase("x"), Fault.FOREIGN),
    (ValueError("x"), None),
    (KeyboardInterrupt(), None),
]


@pytest.mark.parametrize(("exc", "expected"), JUDGED, ids=[f"{n} {exc!r}" for n, (exc, _) in enumerate(JUDGED)])
def test_faults(exc: BaseException, expected: Fault | None) -> None:
    """By code and type, never by text; a mistake in a statement is not the file's fault."""
    assert fault_of(exc) is expected


@pytest.mark.parametrize("code", sorted({*errno.errorcode} - {0}))
def test_every_system_error_is_some_fault(code: int) -> None:
    """There is none after which the store would not know what to do."""
    assert fault_of(OSError(code, os.strerror(code))) in set(Fault)


@pytest.mark.parametrize("fault", Fault)
def test_every_fault_has_words(fault: Fault) -> None:
    """They name the file, and say what is technically behind it."""
    words = StoreFault(fault, "database is locked").words("/a/state.db")
    assert "/a/state.db" in words
    assert words.endswith("(database is locked)")
    assert StoreFault(fault).words("/a/state.db") in words
    assert words[0].islower()


def test_what_is_not_known_counts_as_a_disk_error() -> None:
    """The store must decide something; a fault stays itself."""
    assert StoreFault.of(ValueError("odd")).fault is Fault.IO
    known = StoreFault(Fault.FULL)
    assert StoreFault.of(known) is known
