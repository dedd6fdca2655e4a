"""Running totals of a project's downloads, so that an event costs the same however many there are. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from recovery.states import TERMINAL, State
from resumable.events import DownloadView
from resumable_ui.wire import STATUS

_STAGES: Final = ("downloading", "pending", "paused", "failed", "completed", "cancelled")


@dataclass(slots=True)
class Totals:
    """Of one project."""

    done: int = 0
    total: int = 0
    unknown: int = 0
    """Downloads under way whose size nobody knows yet."""
    states: dict[str, int] = field(default_factory=dict)

    def count(self, view: DownloadView, sign: int) -> None:
        """Add (or with -1 take away) one download."""
        if view.state is not State.CANCELLED:
            self.done += sign * (view.bytes_done if view.bytes_total is not None else 0)
            self.total += sign * (view.bytes_total or 0)
            self.unknown += sign * (view.bytes_total is None and view.state not in TERMINAL)
        status = STATUS[view.state]
        self.states[status] = self.states.get(status, 0) + sign

    def move(self, view: DownloadView, more: int) -> None:
        """Add bytes to a download of which nothing else has changed."""
        if view.state is not State.CANCELLED and view.bytes_total is not None:
            self.done += more

    @property
    def progress(self) -> float:
        """Percent of the bytes whose number is known."""
        return percent(self.done, self.total, complete=stage_of(self.states) == STATUS[State.COMPLETE])

    def totals_json(self) -> str:
        """Return ``stage`` and ``progress`` as JSON without braces."""
        return f'"stage":"{stage_of(self.states)}","progress":{self.progress}'


def stage_of(states: Mapping[str, int]) -> str:
    """Return a project's stage, one of the six words of ``status``: the liveliest of its downloads decides."""
    return next((stage for stage in _STAGES if states.get(stage)), "pending")


def percent(done: int, total: int, *, complete: bool) -> float:
    """Return how much ``done`` is of ``total``, rounded down: 100 means all of it, and two MB missing of 40 GB are not
    nothing. Nothing of nothing is all of it once complete: some files are empty.
    """
    if total > 0:
        return done * 10_000 // total / 100
    return 100.0 if complete else 0.0
