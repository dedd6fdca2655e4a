"""Downloads, chunk claims and receipts in recovery's database; every change is fenced by the lease's generation.

Not the truth about bytes: claims are audited against the part file before they count.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from recovery.clock import Clock, SystemClock
from recovery.database import Database
from recovery.journal import Fenced, check_generation
from recovery.rowcrc import intact, sealed
from recovery.schema import Schema
from resumable.errors import LeaseLost
from resumable.model import Checkpoint, Finished, Saved
from resumable.validators import Representation

DOWNLOADS: Final = Schema("downloads", (files("resumable").joinpath("schema.sql").read_text("utf-8"),))

COMPANIONS: Final = tuple((table, "download_id") for table in ("downloads", "download_chunks", "download_files"))
"""What is forgotten together with an operation."""

_DOWNLOAD = "download_id, directory, filename, named_by, request, representation, chunk_size, crc"
_FILE = "download_id, path, size, mtime_ns, sha256, chunk_size, digests, verified_by, representation, bytes_received, finished_at, crc"


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadRow:
    """What was asked for, as it is stored: without secrets."""

    download_id: str
    directory: str
    filename: str | None
    named_by: str
    request: dict[str, Any]
    representation: Representation | None
    chunk_size: int | None

    @property
    def dest(self) -> Path | None:
        """Absolute path of the finished file, None while the name is not known."""
        return None if self.filename is None else Path(self.directory) / self.filename

    def cells(self) -> tuple[str | int | None, ...]:
        """Return the columns before the CRC."""
        representation = (
            None if self.representation is None else json.dumps(self.representation.to_json(), sort_keys=True)
        )
        request = json.dumps(self.request, sort_keys=True)
        return (
            self.download_id,
            self.directory,
            self.filename,
            self.named_by,
            request,
            representation,
            self.chunk_size,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
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


class SqliteCheckpoints:
    """The CheckpointStore port over ``recovery.database``, and the rows around it."""

    def __init__(self, database: Database, *, clock: Clock | None = None) -> None:
        """Use an open database that was opened with the ``DOWNLOADS`` schema."""
        self._database = database
        self._clock = clock or SystemClock()

    # -- the port ----------------------------------------------------------------------------------------------------

    async def load(self, download_id: str) -> Saved | None:
        """Return what former runs left; rows that fail their CRC are treated as absent."""

        def read(conn: sqlite3.Connection) -> Saved | None:
            row = _read_download(conn, download_id)
            if row is None or row.representation is None or row.chunk_size is None:
                return None
            claims: dict[int, Checkpoint] = {}
            query = "SELECT download_id, idx, length, digest, crc FROM download_chunks WHERE download_id = ?"
            for cells in conn.execute(query, (download_id,)):
                if intact(cells):
                    claims[cells[1]] = Checkpoint(cells[1], cells[2], cells[3])
            return Saved(representation=row.representation, chunk_size=row.chunk_size, checkpoints=claims)

        return await self._database.read(read)

    async def begin(self, download_id: str, generation: int, representation: Representation, chunk_size: int) -> None:
        """Bind the download to a representation; the chunks of any other are forgotten."""

        def write(conn: sqlite3.Connection) -> None:
            check_generation(conn, download_id, generation)
            row = _read_download(conn, download_id)
            if row is not None:
                _put_download(conn, _replaced(row, representation=representation, chunk_size=chunk_size))
            conn.execute("DELETE FROM download_chunks WHERE download_id = ?", (download_id,))

        await self._fenced(write, urgent=False)

    async def commit(self, download_id: str, generation: int, checkpoints: Sequence[Checkpoint]) -> None:
        """Make the claims durable in one transaction."""
        rows = [sealed((download_id, c.index, c.length, c.digest)) for c in checkpoints]

        def write(conn: sqlite3.Connection) -> None:
            check_generation(conn, download_id, generation)
            conn.executemany("INSERT OR REPLACE INTO download_chunks VALUES (?, ?, ?, ?, ?)", rows)

        await self._fenced(write, urgent=False)

    async def forget(self, download_id: str, generation: int, indexes: Sequence[int]) -> None:
        """Withdraw the claims for these chunks."""

        def write(conn: sqlite3.Connection) -> None:
            check_generation(conn, download_id, generation)
            conn.executemany(
                "DELETE FROM download_chunks WHERE download_id = ? AND idx = ?",
                [(download_id, index) for index in indexes],
            )

        await self._fenced(write, urgent=False)

    async def named(self, download_id: str, generation: int, dest: Path) -> None:
        """Record the file name that the first answer gave."""

        def write(conn: sqlite3.Connection) -> None:
            check_generation(conn, download_id, generation)
            row = _read_download(conn, download_id)
            if row is not None:
                _put_download(conn, _replaced(row, filename=dest.name))

        await self._fenced(write, urgent=False)

    async def finish(self, download_id: str, generation: int, finished: Finished) -> None:
        """Write the receipt; the chunk claims become one compact blob in it."""

        def write(conn: sqlite3.Connection) -> None:
            check_generation(conn, download_id, generation)
            try:
                mtime_ns: int | None = os.stat(finished.path).st_mtime_ns
            except OSError:
                mtime_ns = None
            _put_file(
                conn,
                FileRow(
                    download_id=download_id,
                    path=finished.path,
                    size=finished.size,
                    mtime_ns=mtime_ns,
                    sha256=finished.sha256,
                    chunk_size=finished.chunk_size,
                    digests=finished.digests,
                    verified_by=finished.verified_by,
                    representation=finished.representation,
                    bytes_received=finished.bytes_received,
                    finished_at=self._clock.time(),
                ),
            )
            conn.execute("DELETE FROM download_chunks WHERE download_id = ?", (download_id,))

        await self._fenced(write, urgent=True)

    # -- rows for the manager
    # --------------------------------------------------------------------------------------------

    async def put(self, row: DownloadRow) -> None:
        """Insert or replace what was asked for; chunk claims and representation of an existing row are kept."""

        def write(conn: sqlite3.Connection) -> None:
            old = _read_download(conn, row.download_id)
            kept = row if old is None else _replaced(row, representation=old.representation, chunk_size=old.chunk_size)
            _put_download(conn, kept)

        await self._database.write(write, urgent=False)

    async def get(self, download_id: str) -> DownloadRow | None:
        """Return what was asked for, None where there is no intact row."""
        return await self._database.read(lambda conn: _read_download(conn, download_id))

    async def rows(self) -> list[DownloadRow]:
        """Return every intact download row."""

        def read(conn: sqlite3.Connection) -> list[DownloadRow]:
            return [_download(c) for c in conn.execute(f"SELECT {_DOWNLOAD} FROM downloads") if intact(c)]  # noqa: S608

        return await self._database.read(read)

    async def receipt(self, download_id: str) -> FileRow | None:
        """Return the receipt of a finished download."""
        return await self._database.read(lambda conn: _read_file(conn, "download_id = ?", download_id))

    async def receipt_for(self, path: Path) -> FileRow | None:
        """Return the newest receipt for a published path."""
        return await self._database.read(lambda conn: _read_file(conn, "path = ?", str(path)))

    async def claimed_bytes(self) -> dict[str, int]:
        """Return the claimed bytes of every unfinished download, by id."""

        def read(conn: sqlite3.Connection) -> dict[str, int]:
            return dict(conn.execute("SELECT download_id, SUM(length) FROM download_chunks GROUP BY download_id"))

        return await self._database.read(read)

    async def known(self, download_id: str) -> tuple[DownloadRow | None, FileRow | None, int]:
        """Return what was asked for, the receipt, and the claimed bytes of one download, in one look."""

        def read(conn: sqlite3.Connection) -> tuple[DownloadRow | None, FileRow | None, int]:
            query = "SELECT COALESCE(SUM(length), 0) FROM download_chunks WHERE download_id = ?"
            (claimed,) = conn.execute(query, (download_id,)).fetchone()
            receipt = _read_file(conn, "download_id = ?", download_id)
            return _read_download(conn, download_id), receipt, int(claimed)

        return await self._database.read(read)

    async def sizes(self) -> dict[str, FileRow]:
        """Return every receipt, by id."""

        def read(conn: sqlite3.Connection) -> dict[str, FileRow]:
            rows = conn.execute(f"SELECT {_FILE} FROM download_files")  # noqa: S608
            return {cells[0]: _file(cells) for cells in rows if intact(cells)}

        return await self._database.read(read)

    async def _fenced(self, write: Any, *, urgent: bool) -> None:
        try:
            await self._database.write(write, urgent=urgent)
        except Fenced as error:
            raise LeaseLost("another process has taken this download over") from error


def _replaced(row: DownloadRow, **changes: Any) -> DownloadRow:
    fields = {name: getattr(row, name) for name in DownloadRow.__dataclass_fields__}
    return DownloadRow(**{**fields, **changes})


def _put_download(conn: sqlite3.Connection, row: DownloadRow) -> None:
    conn.execute("INSERT OR REPLACE INTO downloads VALUES (?, ?, ?, ?, ?, ?, ?, ?)", sealed(row.cells()))


def _read_download(conn: sqlite3.Connection, download_id: str) -> DownloadRow | None:
    query = f"SELECT {_DOWNLOAD} FROM downloads WHERE download_id = ?"  # noqa: S608
    cells = conn.execute(query, (download_id,)).fetchone()
    return _download(cells) if cells is not None and intact(cells) else None


def _download(cells: Sequence[Any]) -> DownloadRow:
    return DownloadRow(
        download_id=cells[0],
        directory=cells[1],
        filename=cells[2],
        named_by=cells[3],
        request=json.loads(cells[4]),
        representation=None if cells[5] is None else Representation.from_json(json.loads(cells[5])),
        chunk_size=cells[6],
    )


def _put_file(conn: sqlite3.Connection, row: FileRow) -> None:
    cells = (
        row.download_id,
        str(row.path),
        row.size,
        row.mtime_ns,
        row.sha256,
        row.chunk_size,
        row.digests,
        row.verified_by,
        json.dumps(row.representation.to_json(), sort_keys=True),
        row.bytes_received,
        float(row.finished_at),
    )
    conn.execute("INSERT OR REPLACE INTO download_files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", sealed(cells))


def _read_file(conn: sqlite3.Connection, where: str, value: str) -> FileRow | None:
    query = f"SELECT {_FILE} FROM download_files WHERE {where} ORDER BY finished_at DESC LIMIT 1"  # noqa: S608
    cells = conn.execute(query, (value,)).fetchone()
    return _file(cells) if cells is not None and intact(cells) else None


def _file(cells: Sequence[Any]) -> FileRow:
    return FileRow(
        download_id=cells[0],
        path=Path(cells[1]),
        size=cells[2],
        mtime_ns=cells[3],
        sha256=cells[4],
        chunk_size=cells[5],
        digests=cells[6],
        verified_by=cells[7],
        representation=Representation.from_json(json.loads(cells[8])),
        bytes_received=cells[9],
        finished_at=cells[10],
    )
