"""What happened to a download, as frozen records: the one vocabulary from the engine to the browser (research/ui.md
section 8).

A ``DownloadView`` is the whole truth about one download at one moment; a ``DownloadEvent`` is a reason to look at it.
Events are hints: losing one costs a stale pixel. URLs in them are redacted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from recovery.classify import UserAction
from recovery.states import State


class EventName(StrEnum):
    """Why an event was sent."""

    QUEUED = "queued"
    STARTED = "started"  # an attempt began
    RESUMED = "resumed"  # the first answer of this run continued from kept bytes
    PROGRESS = "progress"  # received bytes moved; lossy, at most 10 a second
    INTERRUPTED = "interrupted"  # one connection broke; the attempt goes on
    RESTARTED = "restarted"  # kept bytes were given up, for the reason in the message
    REPAIRED = "repaired"  # the audit or the digest found damage; those chunks are fetched again
    WAITING = "waiting"  # the attempt failed; the next one comes at view.retry_at
    PARKED = "parked"  # waits for a condition
    PAUSED = "paused"
    VERIFYING = "verifying"
    WARNING = "warning"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


LOSSY = frozenset({EventName.PROGRESS, EventName.INTERRUPTED})
"""Events of which only the newest matters."""
TERMINAL_EVENTS = frozenset({EventName.COMPLETED, EventName.FAILED, EventName.CANCELLED, EventName.PAUSED})


class ErrorView(Struct, frozen=True, kw_only=True):
    """A failure as people and programs see it."""

    code: str
    """Stable kebab-case name of what went wrong."""
    category: str
    message: str
    """Plain language: what happened and what to do."""
    detail: str = ""
    """Technical one-liner, redacted."""
    retryable: bool = False


class DownloadView(Struct, frozen=True, kw_only=True):
    """One download at one moment. Sizes are bytes, ``speed`` bytes per second, times epoch seconds, ``eta`` and
    delays seconds.
    """

    download_id: str
    project_id: str = ""
    url: str = ""
    """Redacted: no user info, query values replaced."""
    dest: str = ""
    filename: str = ""
    state: State = State.QUEUED
    bytes_done: int = 0
    """Durable: checkpointed or audited; falls only together with ``restarted``."""
    bytes_total: int | None = None
    bytes_resumed: int = 0
    """On disk when this run started."""
    bytes_received: int = 0
    """On the wire in this run."""
    breaks: tuple[int, ...] = ()
    """Durable byte counts at which connections or attempts ended, the newest 20."""
    attempt: int = 0
    retries: int = 0
    """How often it was tried again after a failure; going on after a pause is another attempt, and no retry."""
    max_attempts: int = 0
    no_progress: int = 0
    max_no_progress: int = 0
    retry_at: float | None = None
    retry_delay: float | None = None
    speed: float = 0.0
    eta: float | None = None
    error: ErrorView | None = None
    can_resume: bool | None = None
    """Whether this origin lets a broken transfer continue; None until its first answer."""
    restarted: str | None = None
    """Why bytes were given up (``changed: ...``, ``no-range``), None if they never were."""
    verified_by: str | None = None
    sha256: str | None = None
    actions: tuple[UserAction, ...] = ()
    owner: str = ""
    """The process that runs it, or ran it last; a name, not a number."""
    stale: bool = False
    """Whether it is said to be under way although its process is gone, or has been silent for 10 s."""
    rev: int = 0
    """Grows with every change of this download, in whatever process, also over restarts: of two views the one with the
    greater ``rev`` is newer.
    """
    created_at: float = 0.0
    updated_at: float = 0.0
    elapsed: float = 0.0
    attempts: int = 0
    warnings: tuple[str, ...] = ()
    """What was odd and did not stop it, the newest 20."""

    def to_json(self) -> str:
        """Return the wire form as JSON, for the fewest microseconds: it is written several times a second."""
        try:
            return _encoder.encode(self).decode()
        except UnicodeEncodeError:  # a file name that is no UTF-8: only json writes lone surrogates
            return json.dumps(self.to_wire(), separators=(",", ":"))

    def to_wire(self) -> dict[str, Any]:
        """Return a JSON-safe dict with exactly these fields."""
        wire: dict[str, Any] = msgspec.to_builtins(self)
        for name in _LISTS:
            wire[name] = list(wire[name])
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> DownloadView:
        """Return what ``to_wire`` was made from; fields of a newer version are dropped.

        Raises:
            ValueError, TypeError, KeyError: it is not the wire form of a view.
        """
        values = {name: value for name, value in wire.items() if name in _VIEW_FIELDS}
        error = values.get("error")
        values["error"] = None if error is None else ErrorView(**{name: error[name] for name in _ERROR_FIELDS})
        values["state"] = State(values.get("state", State.QUEUED))
        values["actions"] = tuple(UserAction(name) for name in values.get("actions", ()))
        for name in ("breaks", "warnings"):
            values[name] = tuple(values.get(name, ()))
        return cls(**values)


_encoder = msgspec.json.Encoder()
_LISTS = ("breaks", "actions", "warnings")
_VIEW_FIELDS = frozenset(DownloadView.__struct_fields__)
_ERROR_FIELDS = ErrorView.__struct_fields__


class DownloadEvent(Struct, frozen=True, kw_only=True):
    """Something happened; ``view`` is the state after it."""

    event: EventName
    view: DownloadView
    message: str = ""
    ts: float = 0.0

    def to_wire(self) -> dict[str, Any]:
        """Return ``{"event", "ts", "message", ...view}``, JSON-safe."""
        return {"event": self.event.value, "ts": self.ts, "message": self.message, **self.view.to_wire()}
