"""Which events become lines of a log: each change of state, and progress now and then. Pure: events bring the time."""

from __future__ import annotations

from collections import Counter
from typing import Final

from recovery.verdict import Category
from resumable.events import TERMINAL_EVENTS, DownloadEvent, EventName
from resumable_ui.projection import event_words, name_of

INTERVAL_S: Final = 30.0
"""Seconds between two progress lines of one download."""

SHORT_S: Final = 3.0

_DETAILS: Final = frozenset({EventName.QUEUED, EventName.INTERRUPTED})
_ON_THE_BAR: Final = frozenset({EventName.STARTED, EventName.VERIFYING})


class LogLines:
    """Turns a stream of events into the lines worth printing; how a download ended is said by its outcome."""

    def __init__(self, *, verbose: bool = False, bar: bool = False, progress: bool = True) -> None:
        """``verbose`` adds every broken connection and the shortest waits; without ``progress`` there are no periodic
        lines. Beside a ``bar`` what it shows anyway is left out.
        """
        self._verbose = verbose
        self._left_out = (frozenset() if verbose else _DETAILS) | (_ON_THE_BAR if bar else frozenset())
        self._progress = progress and not bar
        self._last: dict[str, float] = {}
        self._untold: Counter[str] = Counter()

    def line(self, event: DownloadEvent) -> str | None:
        """Return the line for this event, None where it is not worth one."""
        download_id = event.view.download_id
        if event.event in TERMINAL_EVENTS:
            self._last.pop(download_id, None)
            return None
        if event.event is EventName.PROGRESS:
            if not self._progress or event.ts - self._last.setdefault(download_id, event.ts) < INTERVAL_S:
                return None
        elif event.event in self._left_out or (not self._verbose and _is_short_rest(event)):
            if event.event is EventName.INTERRUPTED:
                self._untold[download_id] += 1
            return None
        self._last[download_id] = event.ts
        return f"{download_id}  {name_of(event.view)}: {event_words(event)}"

    def broken_words(self, download_id: str) -> str:
        """Return how many connections of a download broke without a line of their own, once: nothing is hidden."""
        count = self._untold.pop(download_id, 0)
        return "" if not count else f"{count} broken connection{'s' if count > 1 else ''}"


def _is_short_rest(event: DownloadEvent) -> bool:
    """Whether a server is only left alone for a moment: over before the line would be read."""
    view = event.view
    resting = view.error is not None and view.error.category == Category.GATE
    return event.event is EventName.WAITING and resting and (view.retry_delay or 0.0) < SHORT_S
