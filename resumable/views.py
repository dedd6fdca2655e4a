"""From what the engine, the supervisor and the store know to what people and programs see. Pure."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from recovery.events import OperationEvent
from recovery.policy import RetryPolicy
from recovery.states import TERMINAL, State
from recovery.verdict import Action, UserAction, Verdict
from resumable.events import DownloadView, ErrorView
from resumable.model import DownloadRequest
from resumable.redact import one_line, redact_text, redact_url

_RETRYABLE: Final = frozenset(
    {Action.RETRY, Action.RETRY_FRESH, Action.AFTER, Action.PARK, Action.RESYNC, Action.RESTART, Action.REFRESH}
)
_BY_STATE: Final[dict[State, tuple[UserAction, ...]]] = {
    State.QUEUED: (UserAction.PAUSE, UserAction.CANCEL),
    State.RUNNING: (UserAction.PAUSE, UserAction.CANCEL),
    State.VERIFYING: (UserAction.CANCEL,),
    State.WAITING: (UserAction.RETRY_NOW, UserAction.PAUSE, UserAction.CANCEL),
    State.PARKED: (UserAction.RETRY_NOW, UserAction.PAUSE, UserAction.CANCEL),
    State.PAUSED: (UserAction.RESUME, UserAction.CANCEL),
    State.FAILED: (UserAction.RETRY_NOW, UserAction.CANCEL),
    State.CANCELLED: (UserAction.RETRY_NOW,),
    State.COMPLETE: (),
}


def actions_for(state: State, verdict_actions: tuple[UserAction, ...] = ()) -> tuple[UserAction, ...]:
    """Return the buttons that do something in this state; those the failure asks for come first."""
    possible = _BY_STATE[state]
    if state in {State.COMPLETE, State.CANCELLED}:
        return possible
    # A verdict knows the failure and not what became of it: what has failed for good cannot be paused any more.
    wanted = (action for action in verdict_actions if action is not UserAction.PAUSE or action in possible)
    return tuple(dict.fromkeys((*wanted, *possible)))


def error_view(verdict: Verdict, detail: str | None) -> ErrorView:
    """Return a failure as people and programs see it; ``detail`` is redacted here once more."""
    return ErrorView(
        code=verdict.code,
        category=verdict.category.value,
        message=verdict.message,
        detail=one_line(redact_text(detail or "")),
        retryable=verdict.action in _RETRYABLE,
    )


def after_operation_event(view: DownloadView, event: OperationEvent, *, max_no_progress: int) -> DownloadView:
    """Return the view after the supervisor's event: state, attempt, the next try, and why."""
    verdict_actions = event.verdict.user_actions if event.verdict is not None else ()
    error = error_view(event.verdict, event.error) if event.verdict is not None else None
    if event.state in {State.COMPLETE, State.CANCELLED, State.PAUSED}:
        error = None
    elif event.state is State.RUNNING:
        error = view.error
    return replace(
        view,
        state=event.state,
        # A claim is no attempt yet: a closed gate may come between. The attempt itself says so when it begins.
        attempt=max(view.attempt, 1 if event.state is State.RUNNING else event.attempt),
        max_attempts=event.max_attempts,
        no_progress=event.no_progress,
        max_no_progress=max_no_progress,
        retry_at=event.next_retry_at,
        retry_delay=event.delay_s,
        error=error,
        actions=actions_for(event.state, verdict_actions),
        speed=view.speed if event.state is State.RUNNING else 0.0,
        eta=view.eta if event.state is State.RUNNING else None,
        updated_at=event.ts,
        stale=False if event.state in TERMINAL else view.stale,
    )


def first_view(
    request: DownloadRequest, *, download_id: str, filename: str | None, policy: RetryPolicy, owner: str, now: float
) -> DownloadView:
    """Return the view of a download of which only the request is known. ``now`` is epoch seconds."""
    name = request.filename or filename
    return DownloadView(
        download_id=download_id,
        project_id=request.project,
        url=redact_url(request.url),
        dest=str(request.directory if name is None else request.directory / name),
        filename=name or "",
        max_attempts=policy.max_attempts,
        max_no_progress=policy.max_no_progress,
        actions=actions_for(State.QUEUED),
        owner=owner,
        created_at=now,
        updated_at=now,
    )
