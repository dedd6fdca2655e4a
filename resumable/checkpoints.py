"""Downloads, chunk claims and receipts in recovery's database; every change is fenced by the lease's generation.

Not the truth about bytes: claims are audited against the part file before they count.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from recovery.clock import Clock, SystemClock
from recovery.database import Database, after_commit
from recovery.journal import Fenced, check_generation
from recovery.rowcrc import intact, sealed
from recovery.rows import read_operation
from resumable.errors import LeaseLost
from resumable.identity import share_link
from resumable.model import Checkpoint, Finished, Saved
from resumable.rows import (
    DownloadRow,
    FileRow,
    claimed_bytes,
    downloads,
    names_file,
    put_download,
    put_file,
    read_download,
    read_file,
    stored_name,
)
from resumable.validators import Representation

__all__ = ["SqliteCheckpoints", "look_in"]

T = TypeVar("T")


class SqliteCheckpoints:
    """The CheckpointStore port over ``recovery.database``, and the rows around it."""

    def __init__(self, database: Database, *, clock: Clock | None = None) -> None:
        """Use an open database that was opened with the ``DOWNLOADS`` schema."""
        self._database = database
        self._clock = clock or SystemClock()

    # -- the port ----------------------------------------------------------------------------------------------------

    async def load(self, download_id: str) -> Saved | None:
        """Return what former runs left; rows that fail their CRC are treated as absent."""
        return (await self.look(download_id))[1]

    async def begin(
        self, download_id: str, generation: int, representation: Representation, chunk_size: int, link: str = ""
    ) -> None:
        """Bind the download to a representation; the chunks of any other are forgotten."""

        def write(conn: sqlite3.Connection) -> None:
            check_generation(conn, download_id, generation)
            row = read_download(conn, download_id)
            if row is not None:
                equals = tuple(row.request.get("links", ()))
                bound = replace(row, representation=representation, chunk_size=chunk_size, link=link, equals=equals)
                put_download(conn, bound)
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
            row = read_download(conn, download_id)
            if row is not None:
                put_download(conn, replace(row, filename=dest.name))

        await self._fenced(write, urgent=False)

    async def finish(self, download_id: str, generation: int, finished: Finished) -> None:
        """Write the receipt; the chunk claims become one compact blob in it."""

        def write(conn: sqlite3.Connection) -> None:
            check_generation(conn, download_id, generation)
            try:
                mtime_ns: int | None = os.stat(finished.path).st_mtime_ns
            except OSError:
                mtime_ns = None
            put_file(
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
                    links=finished.links,
                    finished_at=self._clock.time(),
                ),
            )
            conn.execute("DELETE FROM download_chunks WHERE download_id = ?", (download_id,))

        # Nobody is told before the operation is recorded as complete, and what brings that to the disk brings this.
        await self._fenced(write, urgent=False)

    # -- rows for the manager ------------------------------------------------------------------------------------------

    async def enter(
        self,
        row: DownloadRow,
        *,
        owner: str,
        generation: int | None = None,
        begin: Callable[[sqlite3.Connection], None] | None = None,
        then: Callable[[], None] | None = None,
    ) -> bool:
        """Write down what ``owner`` asks for; False, and nothing, while another owner runs the download. ``begin`` is
        called in the transaction where the journal knows of no such operation, ``then`` in the database thread once it
        is committed (quick, and may be called again).

        Where every chunk is claimed and the link is another one, the last claim is withdrawn: nothing of the former
        link's is published before the new one has answered for it. A digest that is to be checked does as well.

        Raises LeaseLost where ``generation`` is given and is not the lease's any more.
        """
        now = self._clock.time()

        def write(conn: sqlite3.Connection) -> bool:
            if generation is not None:
                check_generation(conn, row.download_id, generation)
            else:
                running = read_operation(conn, row.download_id)
                if running is not None and running.owner != owner and running.leased(now):
                    return False
                if running is None and begin is not None:
                    begin(conn)
            old = read_download(conn, row.download_id)
            if old is not None and row.request.get("sha256") is None and not _same_links(old, row):
                _withdraw_last(conn, old)
            kept = row
            if old is not None:
                name = row.filename or old.filename
                kept = replace(
                    row,
                    filename=name,
                    representation=old.representation,
                    chunk_size=old.chunk_size,
                    link=old.link,
                    equals=old.equals,
                )
            if kept != old:
                put_download(conn, kept)
            if then is not None:
                after_commit(conn, then)
            return True

        return await self._fenced(write, urgent=False)

    async def look(self, download_id: str) -> tuple[DownloadRow | None, Saved | None]:
        """Return what was asked for and what former runs left, as of one moment."""

        return await self._database.read(lambda conn: look_in(conn, download_id))

    async def put(self, row: DownloadRow) -> None:
        """Insert or replace what was asked for; what an existing row says of chunk claims and their origin is kept, and
        added to by ``row.equals``.
        """

        def write(conn: sqlite3.Connection) -> None:
            old = read_download(conn, row.download_id)
            kept = row
            if old is not None:
                kept = replace(
                    row,
                    representation=old.representation,
                    chunk_size=old.chunk_size,
                    link=old.link,
                    equals=tuple(dict.fromkeys((*old.equals, *row.equals))),
                )
            put_download(conn, kept)

        await self._database.write(write, urgent=False)

    async def get(self, download_id: str) -> DownloadRow | None:
        """Return what was asked for, None where there is no intact row."""
        return await self._database.read(lambda conn: read_download(conn, download_id))

    async def has_named(self, dest: Path) -> bool:
        """Return whether the file of any download, whatever became of it, is to have this path."""
        return await self._database.read(lambda conn: names_file(conn, dest))

    async def rows(self) -> list[DownloadRow]:
        """Return every intact download row."""

        def read(conn: sqlite3.Connection) -> list[DownloadRow]:
            return list(downloads(conn))

        return await self._database.read(read)

    async def receipt_for(self, path: Path) -> FileRow | None:
        """Return the newest receipt for a published path."""
        return await self._database.read(lambda conn: read_file(conn, "path", stored_name(str(path))))

    async def _fenced(self, write: Callable[[sqlite3.Connection], T], *, urgent: bool) -> T:
        try:
            return await self._database.write(write, urgent=urgent)
        except Fenced as error:
            raise LeaseLost("another process has taken this download over") from error


def look_in(conn: sqlite3.Connection, download_id: str) -> tuple[DownloadRow | None, Saved | None]:
    """See ``SqliteCheckpoints.look``; for use inside somebody's transaction."""
    row = read_download(conn, download_id)
    return row, None if row is None else _saved(conn, row)


def _saved(conn: sqlite3.Connection, row: DownloadRow) -> Saved | None:
    if row.representation is None or row.chunk_size is None:
        return None
    claims: dict[int, Checkpoint] = {}
    query = "SELECT download_id, idx, length, digest, crc FROM download_chunks WHERE download_id = ?"
    for cells in conn.execute(query, (row.download_id,)):
        if intact(cells):
            claims[cells[1]] = Checkpoint(cells[1], cells[2], cells[3])
    return Saved(
        representation=row.representation,
        chunk_size=row.chunk_size,
        checkpoints=claims,
        link=row.link,
        equals=row.equals,
    )


def _same_links(old: DownloadRow, new: DownloadRow) -> bool:
    return share_link(old.request.get("links", ()), new.request.get("links", ()))


def _withdraw_last(conn: sqlite3.Connection, row: DownloadRow) -> None:
    length = None if row.representation is None else row.representation.complete_length
    if length is None or claimed_bytes(conn, row.download_id) < length:
        return  # something has to be asked for anyway
    last = "SELECT max(idx) FROM download_chunks WHERE download_id = ?"
    query = f"DELETE FROM download_chunks WHERE download_id = ? AND idx = ({last})"  # noqa: S608
    conn.execute(query, (row.download_id, row.download_id))
