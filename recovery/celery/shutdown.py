"""Whether this worker is shutting down, as its children see it.

Celery tells the main process only, and lets it wait for tasks to end; one that downloads for hours would rather hand
its work back. A byte of memory that all children share says so: it is mapped before they are forked.
"""

from __future__ import annotations

import mmap

__all__ = ["announce", "shutting_down"]

_flag = mmap.mmap(-1, 1)


def announce() -> None:
    """Say that the worker begins to shut down. Async-signal-safe as far as Python goes: one byte is stored."""
    _flag[0] = 1


def shutting_down() -> bool:
    """Return whether the worker is shutting down."""
    return _flag[0] == 1
