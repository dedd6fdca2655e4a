"""What can be wrong with the state file, as a closed set, and the plain words for it. Pure: judging, not acting.

Not the taxonomy of operation failures (``classify.py``): an operation never fails because of what is in here.
"""

from __future__ import annotations

import errno
import sqlite3
from enum import StrEnum

from recovery.schema import DamagedSchema, ForeignDatabase, NewerSchema

__all__ = ["SQLITE_RAISES", "Fault", "StoreFault", "fault_of"]


class Fault(StrEnum):
    """Why the state file cannot be used right now."""

    BUSY = "busy"  # somebody holds it longer than we wait
    FULL = "full"
    READ_ONLY = "read-only"
    IO = "io"
    UNAVAILABLE = "unavailable"  # directory gone, no permission, no descriptors
    CORRUPT = "corrupt"
    GONE = "gone"  # deleted or replaced while it was open
    NEWER = "newer"
    FOREIGN = "foreign"


SQLITE_RAISES = (sqlite3.Error, UnicodeDecodeError)
"""What reading a damaged file may raise: where a damaged name is part of SQLite's message, decoding it fails."""

_SQLITE = {
    sqlite3.SQLITE_BUSY: Fault.BUSY,
    sqlite3.SQLITE_LOCKED: Fault.BUSY,
    sqlite3.SQLITE_PROTOCOL: Fault.BUSY,
    sqlite3.SQLITE_FULL: Fault.FULL,
    sqlite3.SQLITE_READONLY: Fault.READ_ONLY,
    sqlite3.SQLITE_IOERR: Fault.IO,
    sqlite3.SQLITE_CANTOPEN: Fault.UNAVAILABLE,
    sqlite3.SQLITE_PERM: Fault.UNAVAILABLE,
    sqlite3.SQLITE_NOLFS: Fault.UNAVAILABLE,
    sqlite3.SQLITE_CORRUPT: Fault.CORRUPT,
    sqlite3.SQLITE_NOTADB: Fault.CORRUPT,
    sqlite3.SQLITE_FORMAT: Fault.CORRUPT,
}
_ERRNO = {
    errno.ENOSPC: Fault.FULL,
    errno.EDQUOT: Fault.FULL,
    errno.EFBIG: Fault.FULL,
    errno.EROFS: Fault.READ_ONLY,
    errno.EIO: Fault.IO,
}
_WORDS = {
    Fault.BUSY: "another program has held the state file {path} locked for too long",
    Fault.FULL: "the disk that holds the state file {path} is full",
    Fault.READ_ONLY: "the state file {path} is read-only",
    Fault.IO: "the disk that holds the state file {path} reports errors",
    Fault.UNAVAILABLE: "the state file {path} cannot be opened",
    Fault.CORRUPT: "the state file {path} was damaged",
    Fault.GONE: "the state file {path} was deleted or replaced while it was in use",
    Fault.NEWER: "the state file {path} was written by a newer version of this program and is left untouched",
    Fault.FOREIGN: "the state file {path} belongs to another program and is left untouched",
}


def fault_of(exc: BaseException) -> Fault | None:
    """Return the fault an exception stands for; None when it is not the file's fault (a constraint, bad SQL, a bug)."""
    match exc:
        case sqlite3.Error():
            code = getattr(exc, "sqlite_errorcode", None)  # absent when the sqlite3 module itself raised
            if code == sqlite3.SQLITE_READONLY_DBMOVED:
                return Fault.GONE
            return None if code is None else _SQLITE.get(code & 0xFF)
        case DamagedSchema() | UnicodeDecodeError():
            return Fault.CORRUPT
        case NewerSchema():
            return Fault.NEWER
        case ForeignDatabase():
            return Fault.FOREIGN
        case OSError():
            return _ERRNO.get(exc.errno or 0, Fault.UNAVAILABLE)
        case _:
            return None


class StoreFault(Exception):  # noqa: N818 - names what happened
    """The state file cannot be used; nothing of the transaction at hand was written, unless COMMIT itself failed.

    Internal to the store: callers of ``Database`` never see it.
    """

    def __init__(self, fault: Fault, detail: str = "") -> None:
        """Keep the fault and the technical detail."""
        super().__init__(f"{fault.value}: {detail}")
        self.fault = fault
        self.detail = detail
        self.file_id: tuple[int, int] | None = None
        """Device and inode of the file that was found at fault, where that matters."""

    @classmethod
    def of(cls, exc: Exception) -> StoreFault:
        """Return ``exc`` as a fault; what is not known to be one counts as an I/O error."""
        return exc if isinstance(exc, StoreFault) else cls(fault_of(exc) or Fault.IO, str(exc))

    def words(self, path: str) -> str:
        """Return the fault in plain language, without a final full stop."""
        words = _WORDS[self.fault].format(path=path)
        return f"{words} ({self.detail})" if self.detail else words
