"""What a download's tables hold, as records, and the functions that put them there and read them back.

They run inside somebody's transaction or read; a row whose CRC does not match is absent.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from recovery.rowcrc import intact, sealed
from recovery.schema import Schema
from resumable.validators import Representation

__all__ = [
    "COMPANIONS",
    "DOWNLOADS",
    "DownloadRow",
    "FileRow",
    "claimed_bytes",
    "claimed_ids",
    "downloads",
    "has_rows",
    "is_text",
    "names_file",
    "put_download",
    "put_file",
    "read_download",
    "read_file",
    "stored_name",
]

DOWNLOADS: Final = Schema.of("downloads", "resumable")

_TABLES: Final = ("downloads", "download_chunks", "download_files", "download_views")
COMPANIONS: Final = tuple((table, "download_id") for table in _TABLES)
"""What is forgotten together with an operation."""
_HAS_ROWS: Final = f"SELECT {' OR '.join(map('EXISTS (SELECT 1 FROM {} WHERE download_id = ?1)'.format, _TABLES))}"  # noqa: S608

_DOWNLOAD = "download_id, directory, filename, named_by, request, representation, chunk_size, crc"
_FILE = (
    "download_id, path, size, mtime_ns, sha256, chunk_size, digests, verified_by, representation, bytes_received,"
    " finished_at, crc"
)


class DownloadRow(Struct, frozen=True, kw_only=True):
    """What was asked for, as it is stored: without secrets."""

    download_id: str
    directory: str
    filename: str | None
    named_by: str
    request: dict[str, Any]
    representation: Representation | None
    chunk_size: int | None
    link: str = ""
    """Identity of the link (``identity.link_of``) whose answer the representation describes; "" where unknown."""
    equals: tuple[str, ...] = ()
    """Identities of links that a person has given for the same file as that one."""

    @property
    def dest(self) -> Path | None:
        """Absolute path of the finished file, None while the name is not known."""
        return None if self.filename is None else Path(self.directory) / self.filename

    def cells(self) -> tuple[str | int | None, ...]:
        """Return the columns before the CRC."""
        representation = None
        if self.representation is not None:
            links = {"link": self.link, "equals": self.equals}
            known = {name: value for name, value in links.items() if value}
            representation = json.dumps({**self.representation.to_json(), **known}, sort_keys=True)
        request = json.dumps(self.request, sort_keys=True)
        return (
            self.download_id,
            stored_name(self.directory),
            None if self.filename is None else stored_name(self.filename),
            self.named_by,
            request,
            representation,
            self.chunk_size,
        )


class FileRow(Struct, frozen=True, kw_only=True):
    """The receipt of a finished download."""

    download_id: str
    path: Path
    size: int
    mtime_ns: int | None
    sha256: str | None
    chunk_size: int
    digests: bytes
    verified_by: str
    representation: Representation
    bytes_received: int
    finished_at: float
    links: tuple[str, ...] = ()
    """What identifies the links it may have come from; empty in receipts of old."""


def stored_name(name: str) -> str:
    """Return a file name as TEXT: file names are bytes, and those that are no UTF-8 are written in hex behind a NUL,
    which no name has.
    """
    return name if is_text(name) else f"\0{os.fsencode(name).hex()}"


def _name(stored: str) -> str:
    return os.fsdecode(bytes.fromhex(stored[1:])) if stored.startswith("\0") else stored


def is_text(name: str) -> bool:
    """Return whether a file name can be written as UTF-8."""
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


def has_rows(conn: sqlite3.Connection, download_id: str) -> bool:
    """Return whether any table has something of this download, intact or not."""
    return bool(conn.execute(_HAS_ROWS, (download_id,)).fetchone()[0])


def names_file(conn: sqlite3.Connection, dest: Path) -> bool:
    """Return whether a download's row has this path as that of its file; looks at all of them."""
    query = "SELECT 1 FROM downloads WHERE directory = ? AND filename = ? LIMIT 1"
    return conn.execute(query, (stored_name(str(dest.parent)), stored_name(dest.name))).fetchone() is not None


def put_download(conn: sqlite3.Connection, row: DownloadRow) -> None:
    """Insert or replace the row."""
    conn.execute("INSERT OR REPLACE INTO downloads VALUES (?, ?, ?, ?, ?, ?, ?, ?)", sealed(row.cells()))


def read_download(conn: sqlite3.Connection, download_id: str) -> DownloadRow | None:
    """Return what was asked for, None where there is no intact row."""
    query = f"SELECT {_DOWNLOAD} FROM downloads WHERE download_id = ?"  # noqa: S608
    cells = conn.execute(query, (download_id,)).fetchone()
    return _download(cells) if cells is not None and intact(cells) else None


def downloads(conn: sqlite3.Connection) -> Iterator[DownloadRow]:
    """Yield every intact row."""
    for cells in conn.execute(f"SELECT {_DOWNLOAD} FROM downloads"):  # noqa: S608
        if intact(cells):
            yield _download(cells)


def _download(cells: Sequence[Any]) -> DownloadRow:
    identity = None if cells[5] is None else json.loads(cells[5])
    return DownloadRow(
        download_id=cells[0],
        directory=_name(cells[1]),
        filename=None if cells[2] is None else _name(cells[2]),
        named_by=cells[3],
        request=json.loads(cells[4]),
        representation=None if identity is None else Representation.from_json(identity),
        chunk_size=cells[6],
        link="" if identity is None else str(identity.get("link", "")),
        equals=() if identity is None else tuple(map(str, identity.get("equals", ()))),
    )


def claimed_bytes(conn: sqlite3.Connection, download_id: str) -> int:
    """Return the bytes that the checkpoints of an unfinished download vouch for."""
    query = "SELECT COALESCE(SUM(length), 0) FROM download_chunks WHERE download_id = ?"
    return int(conn.execute(query, (download_id,)).fetchone()[0])


def claimed_ids(conn: sqlite3.Connection) -> set[str]:
    """Return the ids of the unfinished downloads whose checkpoints vouch for bytes."""
    return {row[0] for row in conn.execute("SELECT DISTINCT download_id FROM download_chunks")}


def put_file(conn: sqlite3.Connection, row: FileRow) -> None:
    """Insert or replace the receipt."""
    cells = (
        row.download_id,
        stored_name(str(row.path)),
        row.size,
        row.mtime_ns,
        row.sha256,
        row.chunk_size,
        row.digests,
        row.verified_by,
        json.dumps({**row.representation.to_json(), "links": row.links}, sort_keys=True),
        row.bytes_received,
        float(row.finished_at),
    )
    conn.execute("INSERT OR REPLACE INTO download_files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", sealed(cells))


def read_file(conn: sqlite3.Connection, column: str, value: str) -> FileRow | None:
    """Return the newest intact receipt whose ``column`` (a constant) has this value."""
    query = f"SELECT {_FILE} FROM download_files WHERE {column} = ? ORDER BY finished_at DESC LIMIT 1"  # noqa: S608
    cells = conn.execute(query, (value,)).fetchone()
    return _file(cells) if cells is not None and intact(cells) else None


def _file(cells: Sequence[Any]) -> FileRow:
    of_what = json.loads(cells[8])
    return FileRow(
        download_id=cells[0],
        path=Path(_name(cells[1])),
        size=cells[2],
        mtime_ns=cells[3],
        sha256=cells[4],
        chunk_size=cells[5],
        digests=cells[6],
        verified_by=cells[7],
        representation=Representation.from_json(of_what),
        bytes_received=cells[9],
        finished_at=cells[10],
        links=tuple(map(str, of_what.get("links", ()))),
    )
