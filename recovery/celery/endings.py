"""The words in which a run of a task is spoken of: the message as plain values, why it stops, how it ended. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Self

from msgspec import Struct, field

from recovery.policy import RetryPolicy
from recovery.records import Operation
from recovery.verdict import Action, Category, Rule, Verdict

__all__ = ["Ending", "GiveWay", "How", "Judged", "SlotFreed", "StopReason", "TaskCall", "TaskFailed"]


class StopReason(StrEnum):
    """Why a run is put down before its end."""

    SHUTDOWN = "shutdown"  # of the worker: another one goes on
    SOFT_LIMIT = "soft-limit"
    PERSON = "person"  # paused what the task waits for
    INTERRUPTED = "interrupted"  # revoked, or the process is being ended


class How(StrEnum):
    """How a run ended."""

    DONE = "done"
    FAILED = "failed"
    DEFERRED = "deferred"  # the next attempt has a time, and the slot is free until then
    ATTACHED = "attached"  # another task has the operation
    DUPLICATE = "duplicate"  # another copy of this message has it, or had it
    PAUSED = "paused"
    QUEUED = "queued"  # put down, and eligible
    CANCELLED = "cancelled"
    LOST = "lost"  # the lease went to somebody else while it ran


class Ending(Struct, frozen=True, kw_only=True):
    """What became of a run. ``next_at``: seconds since the epoch."""

    how: How
    value: Any = None
    error: BaseException | None = None
    operation_id: str = ""
    next_at: float = 0.0
    reason: StopReason | None = None


class TaskCall(Struct, frozen=True, kw_only=True):
    """One message, as plain values."""

    name: str
    task_id: str
    key: str | None = None
    """What makes two messages the same operation; None: nothing but the id of the message does."""
    policy: RetryPolicy | None = None
    """Of the body's own failures; None: they end the task."""
    classify: Rule | None = None
    """The body's own opinion on its failures; only with a policy."""
    message: Mapping[str, Any] = field(default_factory=dict)
    """How to send it again; empty where there is nothing to be sent (eager calls)."""
    first: bool = True
    """Whether this is the first time the message comes, as far as one can tell."""
    at_once: bool = False
    """Whether a person wants it to wait no longer."""
    is_known: Callable[[], bool] = lambda: True
    """Whether Celery has the result of this message, or nobody wants it; asked in the task's thread when the operation
    has ended but the message came again: its process may have died between the two."""
    show_started: Callable[[], None] = lambda: None
    """Shows that it runs; called in the task's thread."""
    in_thread: bool = False
    """Whether the body runs in the task's thread, where nothing else can happen meanwhile."""


class TaskFailed(Exception):  # noqa: N818 - names what happened
    """A task had failed when its process died, before its caller was told. ``info`` has ``operation_id, code, category,
    message, detail``, as the journal knows them; the exception itself is lost.
    """

    def __init__(self, message: str, info: Mapping[str, Any] | None = None) -> None:
        """Keep the sentence for people, and what else is known."""
        super().__init__(message, dict(info or {}))
        self.info = dict(info or {})

    @classmethod
    def of(cls, row: Operation) -> Self:
        """Return the failure that a row remembers."""
        info = {
            "operation_id": row.operation_id,
            "code": row.code,
            "category": None if row.category is None else row.category.value,
            "message": row.message,
            "detail": row.error,
        }
        return cls(row.error or row.message or "the task failed", info)

    def __str__(self) -> str:
        """Return the sentence."""
        return str(self.args[0])


class GiveWay(Exception):  # noqa: N818 - says what a body does
    """Raised out of a body that has nothing to do before ``next_at``: its slot is better used by another task."""

    def __init__(self, next_at: float, wait_s: float, *, verdict: Verdict | None = None, detail: str = "") -> None:
        """``next_at`` is seconds since the epoch, ``wait_s`` the same from now; ``verdict`` says what is waited for."""
        super().__init__(next_at, wait_s)
        self.detail = detail or "waits for its next attempt"
        self.next_at = next_at
        self.recovery_hint = Verdict(
            category=Category.UNKNOWN if verdict is None else verdict.category,
            action=Action.AFTER,
            code="gives-way" if verdict is None else verdict.code,
            message="Waits, and lets other tasks run." if verdict is None else verdict.message,
            retry_after_s=max(0.0, wait_s),
            spared=True,
        )

    def __str__(self) -> str:
        """Return what is waited for."""
        return self.detail


class SlotFreed(BaseException):
    """Leads out of a synchronous body that gives its slot back; no Exception, so that no handler there stops it."""


class Judged(Exception):  # noqa: N818 - names what happened
    """A body's failure with a verdict that is not the classifier's own; ``__cause__`` is the failure."""

    def __init__(self, verdict: Verdict) -> None:
        """Keep the verdict."""
        super().__init__(verdict.message)
        self.recovery_hint = verdict
