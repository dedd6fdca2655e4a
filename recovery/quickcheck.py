"""The check that a state file deserves after an unclean end: SQLite's quick_check, beside everything else and
time-boxed.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

from recovery.connections import connect_reader
from recovery.faults import SQLITE_RAISES, Fault, fault_of

__all__ = ["quick_check"]

_STEPS_BETWEEN_LOOKS = 10_000


def quick_check(path: Path, stop: threading.Event, limit_s: float) -> str | None:
    """Return what is wrong with the file; None when it is sound, or when the time was up before that was known.
    Blocking.

    ``stop`` ends it early from another thread.
    """
    ends_at = time.monotonic() + limit_s
    try:
        with contextlib.closing(connect_reader(path, 0.0)) as conn:
            conn.set_progress_handler(lambda: stop.is_set() or time.monotonic() > ends_at, _STEPS_BETWEEN_LOOKS)
            verdict = str(conn.execute("PRAGMA quick_check(1)").fetchone()[0])
    except SQLITE_RAISES as exc:
        return str(exc) if fault_of(exc) is Fault.CORRUPT else None
    return None if verdict == "ok" else verdict
