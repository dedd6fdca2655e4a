"""Downloads, operations and attempts as the page and other clients read them (research/ui.md section 8). Pure.

``state`` has the same nine words everywhere (docs/decisions/0005); ``status`` beside it has the six of the application
this page was first made for, so that its front end reads on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from recovery.states import State
from recovery.verdict import UserAction
from resumable.events import DownloadView

if TYPE_CHECKING:
    from recovery.records import AttemptRecord, Operation

VERSION: Final = 1
"""Of the protocol between hub and clients."""

STATUS: Final[Mapping[State, str]] = {
    State.QUEUED: "pending",
    State.RUNNING: "downloading",
    State.WAITING: "pending",
    State.PARKED: "pending",
    State.PAUSED: "paused",
    State.VERIFYING: "downloading",
    State.COMPLETE: "completed",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
}

RECOVERY_STATE: Final[Mapping[State, str]] = {
    State.QUEUED: "pending",
    State.RUNNING: "in_progress",
    State.WAITING: "recovering",
    State.PARKED: "recovering",
    State.PAUSED: "pending",
    State.VERIFYING: "in_progress",
    State.COMPLETE: "success",
    State.FAILED: "exhausted",
    State.CANCELLED: "failed",
}
"""The six words of the same application for an operation; ``state`` beside them is ours."""

STRATEGY: Final[Mapping[State, str]] = {
    State.WAITING: "retry",
    State.PARKED: "wait_for_condition",
    State.FAILED: "ask",
}
"""What recovery does about an operation in this state; ``none`` in all others."""

_UNDER_WAY: Final = frozenset({State.RUNNING, State.VERIFYING})

_MOVING: Final = (
    "bytes_done",
    "bytes_received",
    "speed",
    "eta",
    "elapsed",
    "updated_at",
)
"""What moves while nothing happens; all else of a view stands still between two changes of state."""
_STANDING: Final = (
    "download_id",
    "project_id",
    "url",
    "dest",
    "filename",
    "bytes_total",
    "bytes_resumed",
    "attempt",
    "retries",
    "max_attempts",
    "no_progress",
    "max_no_progress",
    "retry_at",
    "retry_delay",
    "can_resume",
    "restarted",
    "verified_by",
    "sha256",
    "owner",
    "stale",
    "created_at",
    "attempts",
)
_moving_of = attrgetter(*_MOVING)
_standing_of = attrgetter(*_STANDING)
seen_of: Final = attrgetter(*_STANDING, "state", "error", "actions", "breaks", "warnings")
"""Everything ``standing_wire`` shows of a view: where this is equal, so is that."""


def download_wire(view: DownloadView, *, rev: int | None = None) -> dict[str, Any]:
    """Return a ``Download``: ``view.to_wire()`` and what legacy clients and the banner read; ``rev`` replaces the
    view's own.

    A number that JSON does not have (a speed of ``inf``) is null.
    """
    return {**standing_wire(view), **moving_wire(view), "rev": view.rev if rev is None else rev}


def moving_wire(view: DownloadView) -> dict[str, Any]:
    """Return the fields of a ``Download`` that change with every progress event."""
    return {name: finite(value) for name, value in zip(_MOVING, _moving_of(view), strict=True)}


def moving_json(view: DownloadView) -> str:
    """Return ``moving_wire`` as JSON without braces: it is made two thousand times a second."""
    return (
        f'"bytes_done":{view.bytes_done},"bytes_received":{view.bytes_received},"speed":{_number(view.speed)},'
        f'"eta":{_number(view.eta)},"elapsed":{_number(view.elapsed)},"updated_at":{_number(view.updated_at)}'
    )


def _number(value: float | None) -> str:
    return "null" if value is None or not math.isfinite(value) else repr(value)


def standing_wire(view: DownloadView) -> dict[str, Any]:
    """Return the other fields, but for ``rev``."""
    wire = dict(zip(_STANDING, _standing_of(view), strict=True))
    error = view.error
    wire["state"] = view.state.value
    wire["breaks"] = list(view.breaks)
    wire["warnings"] = list(view.warnings)
    wire["actions"] = [action.value for action in view.actions]
    wire["error"] = error and {
        "code": error.code,
        "category": error.category,
        "message": error.message,
        "detail": error.detail,
        "retryable": error.retryable,
    }
    wire["operation_id"] = view.download_id
    wire["status"] = STATUS[view.state]
    wire["resumable"] = view.can_resume
    wire["episode"] = episode_of(view)
    wire["retry_at"], wire["retry_delay"] = finite(view.retry_at), finite(view.retry_delay)
    return wire


def finite(value: Any) -> Any:
    """Return null for a number that JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def episode_of(view: DownloadView) -> int:
    """Return the number of the present trouble: the same for all failures in a row without progress, higher for the
    next trouble.

    Attempts are only ever counted up, and failures without progress begin anew after each progress, so the difference
    needs no memory: the same in every process and after every restart.
    """
    failed = view.attempt - 1 if view.state in _UNDER_WAY else view.attempts
    return max(0, failed - view.no_progress)


def operation_wire(operation: Operation) -> dict[str, Any]:
    """Return a ``RecoveryOp``: the payload of ``recovery_update``, for operations of every kind."""
    history = operation.history
    under_way = operation.state in _UNDER_WAY
    delay = None if operation.next_at is None else max(0.0, operation.next_at - operation.updated_at)
    return {
        "operation_id": operation.operation_id,
        "function_name": operation.kind,
        "kind": operation.kind,
        "title": operation.title,
        "state": operation.state.value,
        "status": RECOVERY_STATE[operation.state],
        "attempt": max(1, history.attempts + under_way),
        "max_attempts": operation.max_attempts,
        "no_progress": history.no_progress,
        "max_no_progress": operation.max_no_progress,
        "error": _error_of(operation),
        "timestamp": operation.updated_at,
        "project_id": operation.project,
        "download_id": operation.operation_id if operation.kind == "download" else None,
        "category": None if operation.category is None else operation.category.value,
        "delay": finite(delay),
        "next_retry_at": finite(operation.next_at),
        "bytes_kept": operation.progress_done,
        "strategy": STRATEGY.get(operation.state, "none"),
        "actions": [action.value for action in operation.user_actions],
        "created_at": operation.created_at,
        "rev": operation.rev,
    }


def completed_wire(operation: Operation) -> dict[str, Any]:
    """Return the payload of ``recovery_completed``."""
    return {
        "operation_id": operation.operation_id,
        "success": operation.state is State.COMPLETE,
        "final_state": operation.state.value,
        "total_attempts": max(1, operation.history.attempts),
        "duration": max(0.0, operation.updated_at - operation.created_at),
        "timestamp": operation.updated_at,
        "bytes_saved": operation.progress_done,
    }


def attempt_wire(attempt: AttemptRecord) -> dict[str, Any]:
    """Return one attempt of the past for the details list. Times are epoch seconds, ``from`` and ``to`` bytes."""
    return {
        "n": attempt.number,
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "from": attempt.progress_from,
        "to": attempt.progress_to,
        "outcome": attempt.outcome,
        "category": None if attempt.category is None else attempt.category.value,
        "error": attempt.error,
        "http_status": status_in(attempt.error),
        "delay": attempt.delay_s,
    }


def status_in(error: str | None) -> int | None:
    """Return the HTTP status an attempt's error line names, None where it names none."""
    words = (error or "").split("the server answered ", 1)
    number = words[1][:3] if len(words) == 2 else ""
    return int(number) if number.isdigit() and 100 <= int(number) <= 599 else None


def gate_wire(host: str, record: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Return the payload of ``circuit_breaker_update`` for a host gate's record at epoch time ``now``."""
    phase = str(record.get("phase", "closed"))
    until = record.get("until")
    remaining = max(0.0, float(until) - now) if isinstance(until, (int, float)) else 0.0
    return {
        "operation_type": "host",
        "host": host,
        "state": "HALF_OPEN" if phase == "reopening" else phase.upper(),
        "phase": phase,
        "timeout_remaining": finite(remaining),
        "failures": int(record.get("failures", 0)),
    }


def _error_of(operation: Operation) -> dict[str, Any] | None:
    if operation.category is None:
        return None
    return {
        "code": operation.code or operation.category.value,
        "category": operation.category.value,
        "message": operation.message or "",
        "detail": operation.error or "",
        "retryable": operation.state is not State.FAILED,
    }


ACTION_NAMES: Final[Mapping[str, UserAction | None]] = {
    "pause": UserAction.PAUSE,
    "resume": UserAction.RESUME,
    "retry": UserAction.RETRY_NOW,
    "retry_now": UserAction.RETRY_NOW,
    "cancel": UserAction.CANCEL,
    "relink": UserAction.NEW_LINK,
    "new_link": UserAction.NEW_LINK,
}
"""What a client may ask for; ``retry`` and ``relink`` are the contract's names, the others the buttons' own."""
