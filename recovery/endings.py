"""How a supervised operation ends other than by its own result or its own last exception, as a tree.

::

    OperationEnded                     .operation: the row as last known
    |-- OperationPaused                stopped on request; everything is kept
    |-- OperationCancelled             stopped for good on request
    |-- OperationDeferred              the wait is longer than this supervisor may wait: .next_at; everything is kept
    |-- LeaseHeld                      another owner runs it; nothing was done here
    `-- CrashLooping                   too many owners died running it; it stays failed until a person retries
    AttemptTimedOut (TimeoutError)     our own limit on one attempt, as told apart from a TimeoutError of the attempt

A run that loses its lease raises ``recovery.journal.Fenced``; one whose deadline passes during an attempt
``recovery.policy.DeadlineExceeded``. What says that the operation itself went wrong carries its verdict in
``recovery_hint``, like any exception that judges itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recovery.lifecycle import CRASH_LOOP
from recovery.records import Operation
from recovery.states import State
from recovery.taxonomy.buttons import GOES_ON
from recovery.verdict import Action, Category, Verdict

__all__ = [
    "AttemptTimedOut",
    "CrashLooping",
    "LeaseHeld",
    "OperationCancelled",
    "OperationDeferred",
    "OperationEnded",
    "OperationPaused",
]


class OperationEnded(Exception):  # noqa: N818 - names what happened, like everything below it
    """The run of an operation ended without a result of its own."""

    what = "ended"

    def __init__(self, operation: Operation | Mapping[str, Any], *args: object) -> None:
        """Keep the row; what it says that is plain JSON is also in ``args``, of which task queues and process pools
        make the exception again.
        """
        self.operation = operation if isinstance(operation, Operation) else _row(operation)
        super().__init__(_plain(self.operation), *args)

    def __str__(self) -> str:
        """Return what happened to what."""
        operation = self.operation
        return f"{operation.kind} {operation.title or repr(operation.key)} {self.what}"


class OperationPaused(OperationEnded):
    """It was paused on request; everything durable is kept."""

    what = "was paused"


class OperationCancelled(OperationEnded):
    """It was cancelled on request."""

    what = "was cancelled"


class OperationDeferred(OperationEnded):
    """Its next attempt is too far away to wait for here: it is recorded, and the lease is free."""

    what = "waits for its next attempt"

    def __init__(self, operation: Operation | Mapping[str, Any], next_at: float) -> None:
        """``next_at``: seconds since the epoch."""
        super().__init__(operation, next_at)
        self.next_at = next_at


class LeaseHeld(OperationEnded):
    """Another owner, or another run of this one, has the operation; nothing was done here."""

    what = "is being run by another owner"


class CrashLooping(OperationEnded):
    """Its owners keep dying while they run it, so it is not run again until a person asks for it."""

    what = "was not run again"
    recovery_hint = CRASH_LOOP


class AttemptTimedOut(TimeoutError):  # noqa: N818 - names what happened
    """One attempt took longer than the policy's ``attempt_timeout_s``."""

    def __init__(self, seconds: float) -> None:
        """``seconds``: the limit."""
        super().__init__(seconds)
        self.seconds = seconds
        self.recovery_hint = Verdict(
            category=Category.TIMEOUT,
            action=Action.RETRY,
            code="attempt-timeout",
            message=f"One try took longer than {seconds:g} seconds and was stopped.",
            user_actions=GOES_ON,
        )

    def __str__(self) -> str:
        """Return what happened."""
        return f"the attempt took longer than {self.seconds:g} s"


_TEXTS = ("operation_id", "kind", "key", "project", "title", "code", "message", "error")
_NUMBERS = ("next_at", "progress_done", "progress_total", "deaths", "created_at", "updated_at")


def _plain(operation: Operation) -> dict[str, Any]:
    return {name: getattr(operation, name) for name in (*_TEXTS, *_NUMBERS)} | {"state": operation.state.value}


def _row(plain: Mapping[str, Any]) -> Operation:
    return Operation(**{**plain, "state": State(plain["state"])})
