"""What the store knows of all downloads, as views; and commands to the processes that run them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Final

from recovery.clock import Clock
from recovery.journal import Journal, Operation
from recovery.states import ACTIVE, TERMINAL, State
from resumable.checkpoints import SqliteCheckpoints
from resumable.errors import DownloadError
from resumable.events import DownloadView, ErrorView
from resumable.rows import DownloadRow, FileRow
from resumable.views import actions_for

_SETTLE_S: Final = 5.0
_POLL_S: Final = 0.1
_LEASED: Final = frozenset({State.RUNNING, State.VERIFYING})


class Catalog:
    """Reads the journal and the download rows together."""

    def __init__(self, journal: Journal, store: SqliteCheckpoints, clock: Clock) -> None:
        """Use an open journal and store of the same database."""
        self._journal = journal
        self._store = store
        self._clock = clock

    async def views(self, *, project: str | None = None) -> list[DownloadView]:
        """Return every known download, newest first."""
        operations = await self._journal.list(kind="download", project=project)
        rows = {row.download_id: row for row in await self._store.rows()}
        claimed = await self._store.claimed_bytes()
        receipts = await self._store.sizes()
        now = self._clock.time()
        views = [
            view_of(op, rows[op.operation_id], receipts.get(op.operation_id), claimed.get(op.operation_id, 0), now)
            for op in operations
            if op.operation_id in rows
        ]
        return sorted(views, key=lambda view: view.created_at, reverse=True)

    async def find(self, id_or_prefix: str) -> DownloadView:
        """Return the one download whose id begins so, or whose file this is; raises LookupError otherwise."""
        views = await self.views()
        path = str(await asyncio.to_thread(Path(id_or_prefix).absolute))
        exact = [view for view in views if id_or_prefix in {view.download_id, view.dest}]
        found = (
            exact
            or [v for v in views if v.download_id.startswith(id_or_prefix)]
            or [v for v in views if v.dest == path]
        )
        if not found:
            raise LookupError(f"no download {id_or_prefix}; 'resumable status' lists them")
        if len(found) > 1:
            raise LookupError(f"{id_or_prefix} fits {len(found)} downloads; give more of the id")
        return found[0]

    async def command(self, download_id: str, name: str) -> None:
        """Tell the process that runs a download; where none does, act on its row."""
        operation = await self._journal.get(download_id)
        if operation is None:
            raise LookupError(f"no download {download_id}")
        if operation.leased(self._clock.time()):
            await self._journal.post_command(download_id, name)
            return
        target = {"pause": State.PAUSED, "cancel": State.CANCELLED, "retry_now": State.QUEUED}[name]
        if operation.state is target:
            return
        if operation.state is State.COMPLETE or (name == "pause" and operation.state not in ACTIVE):
            raise DownloadError(f"{download_id} is {operation.state}; there is nothing to {name.partition('_')[0]}")
        await self._journal.set_idle_state(download_id, target, now=self._clock.time())

    async def settled(self, download_id: str) -> None:
        """Wait, a few seconds at most, until nobody holds the download's lease."""
        deadline = self._clock.monotonic() + _SETTLE_S
        while self._clock.monotonic() < deadline:
            operation = await self._journal.get(download_id)
            if operation is None or not operation.leased(self._clock.time()):
                return
            await self._clock.sleep(_POLL_S)

    async def prune(self, older_than_s: float) -> int:
        """Forget downloads that ended longer ago; returns how many."""
        horizon = self._clock.time() - older_than_s
        old = [
            op.operation_id
            for op in await self._journal.list(kind="download")
            if op.state in TERMINAL and op.updated_at < horizon
        ]
        return await self._journal.forget(old)


def view_of(operation: Operation, row: DownloadRow, receipt: FileRow | None, claimed: int, now: float) -> DownloadView:
    """Return how a download stands by what the store says."""
    dead = operation.state in _LEASED and not operation.leased(now)
    total = row.representation.complete_length if row.representation is not None else operation.progress_total
    complete = operation.state is State.COMPLETE and receipt is not None
    view = DownloadView(
        download_id=operation.operation_id,
        project_id=operation.project,
        url=str(row.request.get("url", "")),
        dest=str(row.dest or row.directory),
        filename=row.filename or "",
        state=operation.state,
        bytes_done=claimed,
        bytes_total=total,
        attempt=max(operation.history.attempts, 1),
        attempts=operation.history.attempts,
        max_attempts=operation.max_attempts,
        no_progress=operation.history.no_progress,
        max_no_progress=operation.max_no_progress,
        retry_at=operation.next_at,
        retry_delay=None if operation.next_at is None else max(0.0, operation.next_at - now),
        error=_error(operation),
        actions=actions_for(State.PAUSED if dead else operation.state),
        owner=operation.owner or "",
        stale=dead,
        rev=operation.rev,
        created_at=operation.created_at,
        updated_at=operation.updated_at,
    )
    if complete and receipt is not None:
        view = replace(
            view,
            dest=str(receipt.path),
            filename=receipt.path.name,
            bytes_done=receipt.size,
            bytes_total=receipt.size,
            sha256=receipt.sha256,
            verified_by=receipt.verified_by,
            error=None,
        )
    return view


def _error(operation: Operation) -> ErrorView | None:
    if operation.category is None or operation.state not in {State.WAITING, State.PARKED, State.FAILED}:
        return None
    return ErrorView(
        code=operation.code or operation.category.value,
        category=operation.category.value,
        message=operation.message or "",
        detail=operation.error or "",
        retryable=operation.state is not State.FAILED,
    )
