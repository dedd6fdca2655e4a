"""What happened to an operation, the store or a host gate, as frozen records. Pure; sending them is somebody else's
work.

Events are hints and the journal is the truth: losing one costs a stale view, never a wrong one. Nothing in them is
secret: titles and errors are redacted by whoever makes them.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from recovery.states import State
from recovery.verdict import Verdict

__all__ = ["GateEvent", "HealthEvent", "OperationEvent"]


class OperationEvent(Struct, frozen=True, kw_only=True):
    """An operation changed. Delays are seconds, ``ts`` and ``next_retry_at`` seconds since the epoch."""

    operation_id: str
    kind: str
    key: str
    project: str = ""
    state: State
    previous: State | None = None
    """The state before; None for the first event of an operation."""
    attempt: int = 0
    """Attempts made in total, this one included."""
    max_attempts: int = 0
    no_progress: int = 0
    """Consecutive failures without durable progress: "1 of 3", beside ``attempt`` (cockroach#149996: one number
    alone misleads).
    """
    delay_s: float | None = None
    next_retry_at: float | None = None
    verdict: Verdict | None = None
    error: str | None = None
    """Technical one-liner, redacted."""
    ts: float
    rev: int = 0
    """Grows with every change of this operation; a receiver drops what is not newer than what it has."""

    def to_wire(self) -> dict[str, Any]:
        """Return a JSON-safe dict with exactly these fields."""
        return {
            "operation_id": self.operation_id,
            "kind": self.kind,
            "key": self.key,
            "project": self.project,
            "state": self.state.value,
            "previous": None if self.previous is None else self.previous.value,
            "attempt": self.attempt,
            "max_attempts": self.max_attempts,
            "no_progress": self.no_progress,
            "delay_s": self.delay_s,
            "next_retry_at": self.next_retry_at,
            "verdict": None if self.verdict is None else self.verdict.to_wire(),
            "error": self.error,
            "ts": self.ts,
            "rev": self.rev,
        }


class HealthEvent(Struct, frozen=True):
    """The store's health changed; the operations go on whatever it is."""

    health: str
    """``ok``, ``degraded`` or ``memory_only`` (a ``recovery.database.Health``)."""
    reason: str
    """Plain language; empty when ok."""
    ts: float

    def to_wire(self) -> dict[str, Any]:
        """Return a JSON-safe dict with exactly these fields."""
        return {"health": str(self.health), "reason": self.reason, "ts": self.ts}


class GateEvent(Struct, frozen=True):
    """A host gate opened, let a probe through, or closed again."""

    host: str
    state: str
    """``closed``, ``open``, ``half_open`` or ``reopening`` (a ``recovery.gate.GatePhase``)."""
    until: float | None
    """When the next request may be tried, epoch seconds; None when nothing is held back."""
    failures: int
    """Consecutive failures that led here."""
    ts: float

    def to_wire(self) -> dict[str, Any]:
        """Return a JSON-safe dict with exactly these fields."""
        return {
            "host": self.host,
            "state": str(self.state),
            "until": self.until,
            "failures": self.failures,
            "ts": self.ts,
        }
