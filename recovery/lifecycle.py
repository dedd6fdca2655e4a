"""What may happen to an operation's row, as functions from one row to the next. Pure: keeping the rows is the
journal's.

Law: the state changes only along ``recovery.states.TRANSITIONS``, and whoever holds a generation that is not the
row's changes nothing (``Fenced``). A lease that ran out but that nobody else has taken is still its owner's: it may
go on as if nothing had happened, which is what a laptop that slept over its lease needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace

from recovery.history import History
from recovery.records import Change, Operation, OperationSpec
from recovery.states import TERMINAL, TRANSITIONS, State, transition
from recovery.verdict import Action, Category, UserAction, Verdict

__all__ = [
    "CRASH_LOOP",
    "Fenced",
    "advanced",
    "asked_again",
    "begun",
    "claimed",
    "condemned",
    "is_due",
    "is_expired",
    "recorded",
    "renewed",
    "requeued",
    "set_by_hand",
]

_CLAIMABLE = frozenset({State.QUEUED, State.WAITING, State.PARKED, State.RUNNING, State.VERIFYING})
_LEASED = frozenset({State.RUNNING, State.VERIFYING})
_WITHOUT_LEASE = TERMINAL | {State.PAUSED, State.QUEUED}

CRASH_LOOP = Verdict(
    category=Category.UNKNOWN,
    action=Action.FAIL,
    code="crash-loop",
    message="The program died again and again while it worked on this, so it is not tried again by itself."
    " What was done is kept.",
    user_actions=(UserAction.RETRY_NOW, UserAction.CANCEL),
)


class Fenced(Exception):  # noqa: N818 - names what happened
    """Another owner has taken the operation over, or its row is gone: stop, and change nothing."""

    def __init__(self, operation_id: str, generation: int | None = None, found: int | None = None) -> None:
        """``generation`` is the one that was presented, ``found`` the row's (None when there is no row); both None when
        no more is known than that the lease was lost.
        """
        super().__init__(operation_id, generation, found)
        self.operation_id = operation_id
        self.generation = generation
        self.found = found

    def __str__(self) -> str:
        """Return what was found in place of what was expected."""
        if self.generation is None and self.found is None:
            return f"operation {self.operation_id} was taken over by another owner, or its row is gone"
        what = "is gone" if self.found is None else f"has generation {self.found}"
        return f"operation {self.operation_id} {what}, not {self.generation}"


def begun(spec: OperationSpec, operation_id: str, now: float) -> Operation:
    """Return the first row of an operation."""
    policy = spec.policy
    return Operation(
        operation_id=operation_id,
        kind=spec.kind,
        key=spec.key,
        project=spec.project,
        title=spec.title,
        history=History(started_at=now),
        max_attempts=policy.max_attempts,
        max_no_progress=policy.max_no_progress,
        deadline_at=None if policy.deadline_s is None else now + policy.deadline_s,
        created_at=now,
        updated_at=now,
        args=spec.args,
    )


def asked_again(row: Operation, spec: OperationSpec, now: float, *, owner: str | None = None) -> Operation:
    """Return the row after ``owner`` has asked for the operation again: what had stopped is eligible, with a fresh
    budget.

    What another owner is running stays as that one has asked for it. ``deaths`` stay, unless a person asks: who crashes
    at every start must not be started for ever by whoever starts what was unfinished.
    """
    if row.leased(now) and row.owner != owner:
        return row
    if row.state in TERMINAL or row.state is State.PAUSED:
        if spec.again is not None and spec.again != row.generation:
            return row
        row = _without_verdict(row, state=transition(row.state, State.QUEUED), history=row.history.fresh_budget(now))
    if spec.recount and row.history.attempts:
        row = replace(row, history=History(started_at=now))
    return _as_asked(row, spec, now)


def claimed(row: Operation, owner: str, ttl_s: float, now: float) -> Operation | None:
    """Return the row with ``owner`` holding the lease; None when another one does, or when it is not to be run.

    A claim over the lease that another owner let run out while running counts as that owner's death.
    """
    if row.state not in _CLAIMABLE or (row.leased(now) and row.owner != owner):
        return None
    if row.state in _LEASED and row.owner is not None and row.owner != owner:
        row = _died(row)
    return replace(
        row,
        state=transition(row.state, State.RUNNING),
        owner=owner,
        lease_until=now + ttl_s,
        generation=row.generation + 1,
        updated_at=now,
    )


def renewed(
    row: Operation,
    generation: int,
    owner: str | None,
    ttl_s: float,
    now: float,
    progress: tuple[int, int | None] | None,
) -> Operation:
    """Return the row with the lease extended; ``owner`` takes it back if it was swept up but not taken.

    Raises:
        Fenced: the lease is somebody else's, or nobody's by decision (paused, cancelled, ended).
    """
    _require(row, generation)
    row = _taken_back(row, owner)
    if row.owner is None:
        raise Fenced(row.operation_id, generation, row.generation)
    return replace(_progressed(row, progress), lease_until=now + ttl_s, updated_at=now)


def advanced(row: Operation, generation: int, progress: tuple[int, int | None] | None) -> Operation:
    """Return the row with durable progress noted, or the row itself when there is nothing to note.

    Raises:
        Fenced: the generation is stale.
    """
    _require(row, generation)
    return _progressed(row, progress)


def recorded(row: Operation, generation: int, change: Change, owner: str | None = None) -> Operation:
    """Return the row with what its owner has to say; ``owner`` takes it back if it was swept up but not taken.

    Raises:
        Fenced: the generation is stale.
        IllegalTransition: no step leads from the row's state to the new one.
    """
    _require(row, generation)
    row = _taken_back(row, owner)
    # Its owner holds the generation, so it was running: queued can only mean that it was swept up meanwhile.
    origin, state, verdict = row.state, change.state, change.verdict
    if origin is State.QUEUED and state not in TRANSITIONS[State.QUEUED]:
        origin = State.RUNNING
    row = _progressed(row, change.progress)
    history = row.history if change.history is None else change.history
    free = state in _WITHOUT_LEASE or not change.keep_lease
    return replace(
        row,
        state=transition(origin, state),
        history=history,
        deadline_at=_deadline(row, history),
        deaths=0 if state is State.COMPLETE else row.deaths,
        error=change.error,
        next_at=change.next_at,
        owner=None if free else row.owner,
        lease_until=None if free else row.lease_until,
        updated_at=change.now,
        **_NO_VERDICT if verdict is None else _fields_of(verdict),
    )


def is_due(row: Operation, now: float) -> bool:
    """Return whether a waiting or parked operation has reached its time and nobody holds it."""
    waits = row.state in {State.WAITING, State.PARKED}
    return waits and row.next_at is not None and row.next_at <= now and not row.leased(now)


def is_expired(row: Operation, now: float) -> bool:
    """Return whether an operation is said to run although nobody's lease on it is live."""
    return row.state in _LEASED and not row.leased(now)


def requeued(row: Operation, now: float) -> Operation:
    """Return the row eligible again: its owner died, or its time has come. The generation stays, see the law above."""
    if row.state in _LEASED:
        row = _died(row)
    return replace(row, state=transition(row.state, State.QUEUED), owner=None, lease_until=None, updated_at=now)


def condemned(row: Operation, now: float) -> Operation:
    """Return the row failed because its owners keep dying; a late owner of it is fenced."""
    row = _died(row) if row.state in _LEASED else row
    return replace(
        row,
        **_fields_of(CRASH_LOOP),
        state=transition(row.state, State.FAILED),
        error=f"{row.deaths} owners were lost without progress",
        next_at=None,
        owner=None,
        lease_until=None,
        generation=row.generation + 1,
        updated_at=now,
    )


def set_by_hand(row: Operation, state: State, now: float) -> Operation:
    """Return the row as a person wants it while nobody runs it; QUEUED opens a fresh budget, whatever was before.

    Raises:
        IllegalTransition: no step leads there.
    """
    row = replace(
        row,
        state=transition(row.state, state),
        next_at=None,
        owner=None,
        lease_until=None,
        generation=row.generation + 1,  # who let the lease run out and wakes up now is fenced
        updated_at=now,
    )
    if state is State.QUEUED:
        row = replace(_without_verdict(row, state=state, history=row.history.fresh_budget(now)), deaths=0, error=None)
    return row


def _require(row: Operation, generation: int) -> None:
    if row.generation != generation:
        raise Fenced(row.operation_id, generation, row.generation)


def _as_asked(row: Operation, spec: OperationSpec, now: float) -> Operation:
    policy = spec.policy
    asked = replace(
        row,
        project=spec.project,
        title=spec.title or row.title,
        max_attempts=policy.max_attempts,
        max_no_progress=policy.max_no_progress,
        deadline_at=None if policy.deadline_s is None else row.history.started_at + policy.deadline_s,
        deaths=0 if spec.by_hand else row.deaths,
        args=spec.args,
    )
    if spec.progress_done is not None:
        asked = _progressed(asked, (spec.progress_done, row.progress_total))
    return row if asked == row else replace(asked, updated_at=now)


def _taken_back(row: Operation, owner: str | None) -> Operation:
    if row.owner is not None or row.state is not State.QUEUED or owner is None:
        return row
    return replace(row, state=transition(row.state, State.RUNNING), owner=owner, deaths=max(0, row.deaths - 1))


def _died(row: Operation) -> Operation:
    return replace(row, deaths=row.deaths + 1, progress_at_death=row.progress_done)


def _progressed(row: Operation, progress: tuple[int, int | None] | None) -> Operation:
    if progress is None:
        return row
    done, total = progress
    return replace(
        row,
        progress_done=done,
        progress_total=total,
        deaths=0 if done > row.progress_at_death else row.deaths,
        progress_at_death=min(row.progress_at_death, done),
    )


def _without_verdict(row: Operation, *, state: State, history: History) -> Operation:
    deadline_at = _deadline(row, history)
    return replace(row, state=state, history=history, deadline_at=deadline_at, **_NO_VERDICT)


def _deadline(row: Operation, history: History) -> float | None:
    # It counts from the start of the budget, which a fresh one and time spent parked move on.
    return None if row.deadline_at is None else row.deadline_at + history.started_at - row.history.started_at


def _fields_of(verdict: Verdict) -> dict[str, Any]:
    return {
        "category": verdict.category,
        "code": verdict.code,
        "message": verdict.message,
        "condition": verdict.condition,
        "user_actions": verdict.user_actions,
    }


_NO_VERDICT: Mapping[str, Any] = MappingProxyType(
    {"category": None, "code": None, "message": None, "condition": None, "user_actions": ()}
)
