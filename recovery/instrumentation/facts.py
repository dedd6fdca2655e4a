"""What the observers share: the facts of an event under the names of the conventions, and when operations began. Pure.

Attribute names follow OpenTelemetry's semantic conventions: lower case, dots between namespaces, an own namespace
(``recovery``) for what no convention covers, ``error.type`` and ``exception.*`` as defined there
(opentelemetry.io/docs/specs/semconv/general/naming, .../registry/attributes/error).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from recovery.events import OperationEvent
from recovery.states import ACTIVE, State

__all__ = ["Life", "Lives", "exception_of", "facts"]

_MOST = 10_000


def facts(event: OperationEvent) -> dict[str, str | int | float]:
    """Return what an event says, without what is empty."""
    said: Mapping[str, str | int | float | None] = {
        "recovery.operation.id": event.operation_id,
        "recovery.operation.kind": event.kind,
        "recovery.operation.key": event.key,
        "recovery.operation.project": event.project,
        "recovery.operation.state": event.state.value,
        "recovery.operation.previous_state": None if event.previous is None else event.previous.value,
        "recovery.attempt": event.attempt,
        "recovery.attempt.max": event.max_attempts,
        "recovery.attempt.no_progress": event.no_progress,
        "recovery.retry.delay": event.delay_s,
        "recovery.retry.at": event.next_retry_at,
        "recovery.error.category": None if event.verdict is None else event.verdict.category.value,
        "recovery.error.action": None if event.verdict is None else event.verdict.action.value,
        "error.type": None if event.verdict is None else event.verdict.code,
        "exception.type": exception_of(event)[0],
        "exception.message": exception_of(event)[1],
    }
    return {name: value for name, value in said.items() if value is not None and value != ""}


def exception_of(event: OperationEvent) -> tuple[str, str]:
    """Return type and (redacted) message of the exception behind an event, empty where there is none."""
    kind, _, message = (event.error or "").partition(": ")
    return kind, message


class Life:
    """One operation between its first event and its last."""

    __slots__ = ("attempts", "began_at", "span", "state")

    def __init__(self, began_at: float) -> None:
        """``began_at``: seconds since the epoch."""
        self.began_at = began_at
        self.state: State | None = None
        self.attempts = 0
        """The newest attempt that was counted."""
        self.span: Any = None
        """What an observer keeps of its own."""


class Lives:
    """The operations that are under way, as far as events told."""

    def __init__(self) -> None:
        """None is."""
        self._lives: OrderedDict[str, Life] = OrderedDict()

    def of(self, event: OperationEvent) -> Life:
        """Return the life that an event belongs to.

        One whose end nobody told (its process gave it away) is dropped when there are thousands of younger ones.
        """
        life = self._lives.get(event.operation_id)
        if life is None:
            life = self._lives[event.operation_id] = Life(event.ts)
            if len(self._lives) > _MOST:
                self._lives.popitem(last=False)
        return life

    def begins_attempt(self, event: OperationEvent) -> bool:
        """Return whether the event begins an attempt; each attempt once."""
        life = self.of(event)
        if event.state is not State.RUNNING or event.attempt <= life.attempts:
            return False
        life.attempts = event.attempt
        return True

    def move(self, event: OperationEvent) -> tuple[State | None, float | None]:
        """Take the event in; return the state before it, and the seconds since the beginning if it was the end."""
        life = self.of(event)
        before, life.state = life.state, event.state
        if event.state in ACTIVE:
            return before, None
        del self._lives[event.operation_id]
        return before, max(0.0, event.ts - life.began_at)
