"""``--json``: what happens, as newline-delimited JSON on stdout. Pure; the schema is in the README.

Lines are ASCII, so that they survive every locale; a number that JSON does not have becomes null.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import asdict

from resumable.events import DownloadEvent, DownloadView, ErrorView, EventName
from resumable_ui.outcome import Outcome


def event_line(event: DownloadEvent) -> str:
    """Return the line for something that happened on the way."""
    return dump(event.to_wire())


def view_line(view: DownloadView) -> str:
    """Return the line of ``status`` for one download."""
    return dump(view.to_wire())


def outcome_line(outcome: Outcome) -> str:
    """Return the last line of one download."""
    view, result = outcome.view, outcome.result
    return dump(
        {
            "event": outcome.event.value,
            "download_id": view.download_id,
            "url": view.url,
            "path": None if result is None else str(result.path),
            "size": view.bytes_total if result is None else result.size,
            "sha256": None if result is None else result.sha256,
            "bytes_resumed": view.bytes_resumed if result is None else result.bytes_resumed,
            "bytes_received": view.bytes_received if result is None else result.bytes_received,
            "attempts": view.attempts if result is None else result.attempts,
            "elapsed": view.elapsed if result is None else result.elapsed,
            "error": _error(outcome.fault),
        }
    )


def summary_line(outcomes: Sequence[Outcome], *, elapsed: float, exit_code: int) -> str:
    """Return the last line of the command; ``exit_code`` is what a shell will show."""
    counts = Counter(outcome.event for outcome in outcomes)
    ends = (EventName.COMPLETED, EventName.FAILED, EventName.CANCELLED, EventName.PAUSED)
    return dump(
        {
            "event": "summary",
            "downloads": len(outcomes),
            **{end.value: counts[end] for end in ends},
            "bytes_resumed": sum((o.result or o.view).bytes_resumed for o in outcomes),
            "bytes_received": sum((o.result or o.view).bytes_received for o in outcomes),
            "elapsed": elapsed,
            "exit_code": exit_code,
        }
    )


def dump(record: Mapping[str, Any]) -> str:
    """Return one record as one line."""
    try:
        return json.dumps(record, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return json.dumps(_finite(record), separators=(",", ":"))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _error(fault: ErrorView | None) -> dict[str, Any] | None:
    return None if fault is None else asdict(fault)
