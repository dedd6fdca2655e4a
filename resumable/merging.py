"""One view out of what several rows say of a download. Almost pure: it asks the system whether a process is alive.

The operation's row is right about the state, the attempts and the reason; the stored view is right about the numbers.
Where the two disagree, the row is newer or its owner could not write the view any more.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from recovery.owner import surely_dead
from recovery.records import Operation
from recovery.states import State
from recovery.taxonomy import machine
from resumable.events import DownloadView, ErrorView
from resumable.model import DownloadRequest
from resumable.rows import DownloadRow, FileRow
from resumable.standing import next_rev
from resumable.viewrows import ViewRow
from resumable.views import actions_for

__all__ = ["NOTHING_KNOWN", "SILENCE_S", "Known", "interrupted", "merged", "silent_at"]

SILENCE_S: Final = 10.0
"""How long the owner of a running download may give no sign of life (it gives one every 5 s) before we say so."""

_AT_WORK: Final = frozenset({State.RUNNING, State.VERIFYING})
_WITH_OWNER: Final = _AT_WORK | {State.WAITING, State.PARKED}
_WITH_ERROR: Final = frozenset({State.WAITING, State.PARKED, State.FAILED})


class Known(Struct, frozen=True, kw_only=True):
    """What former runs left of a download that is about to run. ``claimed`` is bytes."""

    row: DownloadRow | None
    receipt: FileRow | None
    claimed: int
    seen: DownloadView | None
    again: int
    """Generation of the stopped operation that is taken up again, -1 where there is none (``OperationSpec.again``)."""
    created_at: float | None
    leased: bool
    """Whether another process runs it now."""
    complete: bool = False
    """Whether the store has it as done."""
    fresh: bool = False
    """Whether nobody has ever asked for it."""

    def settled_for(self, request: DownloadRequest) -> bool:
        """Whether the rows say that the file is there as ``request`` wants it, and nothing has to be put right."""
        seen, row, receipt = self.seen, self.row, self.receipt
        if not self.complete or self.leased or seen is None or row is None or receipt is None:
            return False
        if seen.state is not State.COMPLETE or row.request.get("has_secrets"):
            return False
        return request.sha256 is None or request.sha256 == receipt.sha256


NOTHING_KNOWN: Final = Known(
    row=None, receipt=None, claimed=0, seen=None, again=-1, created_at=None, leased=False, fresh=True
)
"""Of a download that nobody has ever asked for."""


def interrupted(operation: Operation) -> bool:
    """Return whether a download is paused because its process ended, and not because a person wanted that."""
    return operation.state is State.PAUSED and operation.code == machine.CONTROL.code


def silent_at(operation: Operation, seen: ViewRow | None) -> float | None:
    """Return when its owner has been silent for too long (epoch seconds); None where nobody has to say anything."""
    if operation.state not in _WITH_OWNER or operation.owner is None:
        return None
    last, until = _last_sign(operation, seen), operation.lease_until
    if until == 0.0:
        return last  # known to be dead
    if operation.next_at is not None and until is not None and until <= operation.updated_at:
        # Put off with the lease given back, as a worker does that must not sleep: its time has to come first.
        return max(last, operation.next_at) + SILENCE_S
    return last + SILENCE_S


def merged(
    operation: Operation, row: DownloadRow, seen: ViewRow | None, *, receipt: FileRow | None, claimed: int, now: float
) -> DownloadView:
    """Return how a download stands at ``now`` (epoch seconds).

    ``receipt`` counts where nothing was seen; ``claimed`` (bytes that checkpoints vouch for) also where the process
    that ran the download fell silent.
    """
    view = seen.view if seen is not None else _essentials(operation, row, receipt, claimed)
    if seen is None or not _agree(operation, seen):
        view = _by_operation(view, operation, now)
    silent = silent_at(operation, seen)
    # A queued download is nobody's yet, but the process in whose queue it stands may be gone.
    orphaned = operation.state is State.QUEUED and surely_dead(view.owner)
    if not orphaned and (silent is None or now < silent):
        return view
    rev = next_rev(view.rev, _last_sign(operation, seen))
    total = view.bytes_total
    if total is None and row.representation is not None:
        total = row.representation.complete_length
    return replace(
        view,
        bytes_done=max(view.bytes_done, claimed),
        bytes_total=total,
        stale=True,
        speed=0.0,
        eta=None,
        actions=actions_for(State.PAUSED),
        rev=rev,
    )


def _last_sign(operation: Operation, seen: ViewRow | None) -> float:
    if seen is not None and seen.generation == operation.generation:
        return max(operation.updated_at, seen.written_at)
    return operation.updated_at


def _agree(operation: Operation, seen: ViewRow) -> bool:
    if seen.generation != operation.generation:
        return False
    return seen.view.state is operation.state or (operation.state in _AT_WORK and seen.view.state in _AT_WORK)


def _by_operation(view: DownloadView, operation: Operation, now: float) -> DownloadView:
    return replace(
        view,
        project_id=operation.project,
        state=operation.state,
        attempt=max(operation.history.attempts + (operation.state in _AT_WORK), 1),
        attempts=operation.history.attempts,
        max_attempts=operation.max_attempts,
        no_progress=operation.history.no_progress,
        max_no_progress=operation.max_no_progress,
        retry_at=operation.next_at,
        retry_delay=None if operation.next_at is None else max(0.0, operation.next_at - now),
        speed=0.0,
        eta=None,
        error=_error(operation),
        actions=actions_for(operation.state, operation.user_actions if operation.state in _WITH_ERROR else ()),
        owner=operation.owner or view.owner,
        stale=False,
        rev=next_rev(view.rev, operation.updated_at),
        created_at=view.created_at or operation.created_at,
        updated_at=max(view.updated_at, operation.updated_at),
    )


def _essentials(operation: Operation, row: DownloadRow, receipt: FileRow | None, claimed: int) -> DownloadView:
    """Return a view of a download whose owner's own is not there."""
    total = row.representation.complete_length if row.representation is not None else operation.progress_total
    view = DownloadView(
        download_id=operation.operation_id,
        url=str(row.request.get("url", "")),
        dest=str(row.dest or row.directory),
        filename=row.filename or "",
        bytes_done=claimed,
        bytes_total=total,
        updated_at=operation.updated_at,
    )
    if receipt is None or operation.state is not State.COMPLETE:
        return view
    return replace(
        view,
        dest=str(receipt.path),
        filename=receipt.path.name,
        bytes_done=receipt.size,
        bytes_total=receipt.size,
        sha256=receipt.sha256,
        verified_by=receipt.verified_by,
    )


def _error(operation: Operation) -> ErrorView | None:
    if operation.category is None or operation.state not in _WITH_ERROR:
        return None
    return ErrorView(
        code=operation.code or operation.category.value,
        category=operation.category.value,
        message=operation.message or "",
        detail=operation.error or "",
        retryable=operation.state is not State.FAILED,
    )
