"""What the store knows of all downloads, whoever runs them; and commands to the processes that do."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final

from msgspec import Struct

from recovery.clock import Clock
from recovery.database import Database
from recovery.journal import Change, Journal, Operation, OperationSpec
from recovery.owner import surely_dead
from recovery.rows import operations, read_operation
from recovery.schema import file_identity
from recovery.states import ACTIVE, TERMINAL, State
from recovery.taxonomy import machine
from recovery.transactions import new_id
from resumable.errors import DownloadError
from resumable.events import DownloadView
from resumable.merging import NOTHING_KNOWN, Known, interrupted, merged, silent_at
from resumable.pruning import with_part
from resumable.rows import (
    DownloadRow,
    FileRow,
    claimed_bytes,
    claimed_ids,
    downloads,
    has_rows,
    read_download,
    read_file,
)
from resumable.viewrows import ViewRow, newest_seq, read_view, views, written_ids, written_since

__all__ = ["Catalog", "Changes", "Cursor", "Entry", "known_here", "moved"]

_KIND: Final = "download"
_SETTLE_S: Final = 5.0
_MOMENT_S: Final = 1.0
"""Length of a lease that ends in the transaction that takes it."""
_POLL_S: Final = 0.1
_COMMANDS: Final = {"pause": State.PAUSED, "cancel": State.CANCELLED, "retry_now": State.QUEUED}


class Entry(Struct, frozen=True, kw_only=True):
    """One download as of one moment."""

    operation: Operation
    row: DownloadRow
    view: DownloadView
    silent_at: float | None
    """When its view becomes stale unless its process gives a sign of life (epoch seconds); None: not by itself."""

    @property
    def interrupted(self) -> bool:
        """Whether it is paused because its process ended, and not because a person wanted that."""
        return interrupted(self.operation)


class Cursor(Struct, frozen=True):
    """How far somebody has read; only ever compared and handed back."""

    identity: str = ""
    rev: int = 0
    seq: int = 0
    count: int = 0


class Changes(Struct, frozen=True):
    """What one look at the database found new."""

    cursor: Cursor
    """How far the database is now."""
    ids: set[str] | None
    """Downloads to read again; None: all of them."""
    moved: Mapping[str, ViewRow]
    """Views of others whose operation has not changed: their numbers moved, and that is all."""
    here: set[str]
    """Downloads of those passed over whose view alone was written: who asks has a newer one in memory."""
    dead: set[str]
    """Of the owners asked about, those known to be dead."""


class Catalog:
    """Reads the journal and the download rows together, each time in one snapshot."""

    def __init__(self, database: Database, journal: Journal, clock: Clock) -> None:
        """Use an open database and its journal."""
        self._database = database
        self._journal = journal
        self._clock = clock

    # -- looking -------------------------------------------------------------------------------------------------------

    async def entries(self, ids: Collection[str] | None = None) -> list[Entry]:
        """Return every known download, or those of ``ids`` that are known; newest first."""
        now = self._clock.time()

        def read(conn: sqlite3.Connection) -> list[Entry]:
            found = _all(conn, now) if ids is None else _some(conn, ids, now)
            return sorted(found, key=lambda entry: (entry.view.created_at, entry.operation.rev), reverse=True)

        return await self._database.read(read)

    async def entry(self, download_id: str) -> Entry | None:
        """Return one download, None where it is not known."""
        return next(iter(await self.entries([download_id])), None)

    async def views(self, *, project: str | None = None) -> list[DownloadView]:
        """Return every known download (of a project), newest first."""
        return [entry.view for entry in await self.entries() if project in {None, entry.view.project_id}]

    async def find(self, id_or_prefix: str) -> DownloadView:
        """Return the one download whose id begins so, or whose file this is; raises LookupError otherwise."""
        exact = await self.entry(id_or_prefix)
        if exact is not None:
            return exact.view
        path = await asyncio.to_thread(os.path.abspath, id_or_prefix)  # "../models/x" too
        known = await self.views()
        found = [view for view in known if view.dest in {id_or_prefix, path}]
        found = found or [view for view in known if id_or_prefix and view.download_id.startswith(id_or_prefix)]
        if not found:
            raise LookupError(f"no download {id_or_prefix!r}; 'resumable status --all' lists them")
        if len(found) > 1:
            raise LookupError(f"{id_or_prefix!r} fits {len(found)} downloads; give more of the id")
        return found[0]

    async def changes(self, since: Cursor, owners: Collection[str], here: Collection[str] = ()) -> Changes:
        """Return what was written since, and which of ``owners`` are dead; views of downloads that run ``here`` are
        not taken apart. A handful of index look-ups when nothing has changed.
        """

        def read(conn: sqlite3.Connection) -> Changes:
            dead = {owner for owner in owners if surely_dead(owner)}
            identity = file_identity(conn)
            (rev,) = conn.execute("SELECT max(rev) FROM operations").fetchone()
            (count,) = conn.execute("SELECT count(*) FROM downloads").fetchone()
            cursor = Cursor(identity, int(rev or 0), newest_seq(conn), int(count))
            if cursor == since:
                return Changes(cursor, set(), {}, set(), dead)
            if cursor.identity != since.identity or cursor.rev < since.rev:
                return Changes(cursor, None, {}, set(), dead)  # the file was begun anew
            query = "SELECT operation_id FROM operations WHERE rev > ? AND kind = ?"
            ids = {row[0] for row in conn.execute(query, (since.rev, _KIND))}
            ours = written_ids(conn, since.seq) & set(here) - ids if here else set[str]()
            written = written_since(conn, since.seq, ours)
            moved = {name: seen for name, seen in written.items() if seen is not None and name not in ids}
            return Changes(cursor, ids | (written.keys() - moved.keys()), moved, ours, dead)

        return await self._database.read(read)

    async def known(self, download_id: str, owner: str) -> Known:
        """Return everything that matters to ``owner``, who is about to run a download."""
        now = self._clock.time()

        def read(conn: sqlite3.Connection) -> Known:
            operation = read_operation(conn, download_id)
            if operation is None and not has_rows(conn, download_id):
                return NOTHING_KNOWN  # of many files that are asked for at once, nearly all
            seen = read_view(conn, download_id)
            return Known(
                row=read_download(conn, download_id),
                receipt=read_file(conn, "download_id", download_id),
                claimed=claimed_bytes(conn, download_id),
                seen=None if seen is None else seen.view,
                again=-1 if operation is None or operation.state in ACTIVE else operation.generation,
                created_at=None if operation is None else operation.created_at,
                leased=operation is not None and operation.owner != owner and operation.leased(now),
                complete=operation is not None and operation.state is State.COMPLETE,
                fresh=operation is None,
            )

        return await self._database.read(read)

    async def receipt(self, download_id: str) -> FileRow | None:
        """Return the receipt of a finished download."""
        return await self._database.read(lambda conn: read_file(conn, "download_id", download_id))

    # -- what needs no run ---------------------------------------------------------------------------------------------

    def beginning(self, spec: OperationSpec) -> Callable[[sqlite3.Connection], Operation]:
        """Return what enters an operation that nobody knows as queued, for somebody's transaction."""
        fresh, now = new_id(), self._clock.time()
        return lambda conn: self._journal.begin_in(conn, spec, fresh, now, absent=True)

    async def found(self, spec: OperationSpec, owner: str, size: int) -> int | None:
        """Record as complete what needs no transfer, ``size`` in bytes; return its generation.

        None where it is recorded so already, or is not ours to record.
        """
        done = Change(state=State.COMPLETE, now=self._clock.time(), progress=(size, size))
        return await self._record(spec, owner, done)

    async def stopped(self, spec: OperationSpec, owner: str) -> int | None:
        """Record that the program ends before it could begin a download; whoever starts what was unfinished takes it
        up. Returns as ``found``.
        """
        return await self._record(
            spec, owner, Change(state=State.PAUSED, now=self._clock.time(), verdict=machine.CONTROL)
        )

    async def _record(self, spec: OperationSpec, owner: str, change: Change) -> int | None:
        fresh = new_id()

        def write(conn: sqlite3.Connection) -> int | None:
            known = None if spec.operation_id is None else read_operation(conn, spec.operation_id)
            if known is not None and known.state is State.COMPLETE:
                return None
            row, generation = self._journal.begin_and_claim_in(
                conn, spec, fresh, owner=owner, ttl_s=_MOMENT_S, now=change.now
            )
            if generation is not None:
                self._journal.record_in(conn, row.operation_id, generation, change)
            return generation

        return await self._journal.transact(write)

    async def unbegun(self, download_id: str) -> None:
        """Forget a download that was entered and then refused before it began."""
        await self._journal.set_idle_state(download_id, State.CANCELLED, now=self._clock.time())
        await self._journal.forget([download_id])

    # -- steering ------------------------------------------------------------------------------------------------------

    async def command(self, download_id: str, name: str) -> None:
        """Tell the process that runs a download to ``pause``, ``cancel`` or ``retry_now``; act where none does.

        Raises:
            LookupError: there is no such download.
            DownloadError: it has ended, and there is nothing to do that to.
        """
        operation = await self._journal.get(download_id)
        if operation is None:
            raise LookupError(f"no download {download_id}")
        if operation.leased(self._clock.time()):
            await self._journal.post_command(download_id, name)
            return
        target = _COMMANDS[name]
        if operation.state is target:
            return
        if operation.state is State.COMPLETE or (name == "pause" and operation.state not in ACTIVE):
            raise DownloadError(f"{download_id} is {operation.state}; there is nothing to {name.partition('_')[0]}")
        await self._journal.set_idle_state(download_id, target, now=self._clock.time())

    async def settled(self, download_id: str) -> State | None:
        """Wait, a few seconds at most, until nobody holds the download's lease; return its state then, None where
        somebody holds it still, or it is forgotten.
        """
        deadline = self._clock.monotonic() + _SETTLE_S
        while self._clock.monotonic() < deadline:
            operation = await self._journal.get(download_id)
            if operation is None:
                return None
            if not operation.leased(self._clock.time()):
                return operation.state
            await self._clock.sleep(_POLL_S)
        return None

    async def prune(self, older_than_s: float) -> list[str]:
        """Forget downloads that ended longer ago; returns which. One that failed and can go on from its part file
        stays: without its checkpoints those bytes would have to come again.
        """
        horizon = self._clock.time() - older_than_s
        ended = {
            op.operation_id: op.state
            for op in await self._journal.list(kind=_KIND)
            if op.state in TERMINAL and op.updated_at < horizon
        }
        failed = {name for name, state in ended.items() if state is State.FAILED}

        def claiming(conn: sqlite3.Connection) -> list[DownloadRow]:
            rows = (read_download(conn, name) for name in failed & claimed_ids(conn))
            return [row for row in rows if row is not None]

        unfinished = await asyncio.to_thread(with_part, await self._database.read(claiming))
        old = [name for name in ended if name not in unfinished]
        await self._journal.forget(old)
        return old


def moved(known: Entry, seen: ViewRow, now: float) -> Entry:
    """Return the entry of a download of which the view alone was written since ``known``; ``now`` is epoch seconds."""
    view = merged(known.operation, known.row, seen, receipt=None, claimed=0, now=now)
    return Entry(operation=known.operation, row=known.row, view=view, silent_at=silent_at(known.operation, seen))


def known_here(known: Entry, view: DownloadView) -> Entry:
    """Return the entry of a download of which this process has a newer view than the stored one."""
    return Entry(operation=known.operation, row=known.row, view=view, silent_at=known.silent_at)


def _all(conn: sqlite3.Connection, now: float) -> Iterator[Entry]:
    rows = {row.download_id: row for row in downloads(conn)}
    seen = {row.view.download_id: row for row in views(conn)}
    for operation in operations(conn, "WHERE kind = ?", (_KIND,)):
        row = rows.get(operation.operation_id)
        if row is not None:
            yield _entry(conn, operation, row, seen.get(operation.operation_id), now)


def _some(conn: sqlite3.Connection, ids: Collection[str], now: float) -> Iterator[Entry]:
    for download_id in ids:
        operation, row = read_operation(conn, download_id), read_download(conn, download_id)
        if operation is not None and row is not None and operation.kind == _KIND:
            yield _entry(conn, operation, row, read_view(conn, download_id), now)


def _entry(conn: sqlite3.Connection, operation: Operation, row: DownloadRow, seen: ViewRow | None, now: float) -> Entry:
    receipt, claimed, silent = None, 0, silent_at(operation, seen)
    if seen is None:  # lost, or never written: the rows behind it know the essentials
        receipt = read_file(conn, "download_id", row.download_id)
    if seen is None or (silent is not None and now >= silent):  # who is killed does not write its last view
        claimed = claimed_bytes(conn, row.download_id)
    view = merged(operation, row, seen, receipt=receipt, claimed=claimed, now=now)
    return Entry(operation=operation, row=row, view=view, silent_at=silent)
