"""Work that must come to its end although its caller is cancelled: clean-up that is shielded, bounded, and re-raises.

Not a way to ignore cancellation: the caller's CancelledError is held back until the work has ended (or its time is up)
and then raised.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from recovery.redaction import describe

__all__ = ["to_the_end"]

T = TypeVar("T")

log = logging.getLogger(__name__)


_let_go: set[asyncio.Task[Any]] = set()
"""Kept, so that they are not collected while they run."""


async def to_the_end(work: Coroutine[Any, Any, T], *, within_s: float | None = None, let_go: bool = False) -> T:
    """Run ``work`` in a task of its own and return its result; a cancellation meanwhile is raised once it has ended.

    The bound is real time, not the injected clock's: it exists for a program that is being stopped. When it passes, the
    work is cancelled and not waited for any longer; with ``let_go`` it is not cancelled and comes to its end behind the
    caller's back, if its program goes on.

    Raises:
        asyncio.CancelledError: the caller was cancelled; an error of the work is then its ``__cause__``.
        TimeoutError: the work did not end within ``within_s`` seconds.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    ends_at = None if within_s is None else loop.time() + within_s
    held_back: asyncio.CancelledError | None = None
    while not task.done():
        left = None if ends_at is None else ends_at - loop.time()
        if left is not None and left <= 0:
            break
        try:
            await asyncio.wait((task,), timeout=left)
        except asyncio.CancelledError as exc:
            held_back = exc
    if not task.done():
        if let_go:
            _let_go.add(task)
            task.add_done_callback(_forget)
        else:
            task.cancel()
        late = TimeoutError(f"not done within {within_s} s")
        if held_back is None:
            raise late
        raise held_back from late
    if held_back is None:
        return task.result()
    raise held_back from (None if task.cancelled() else task.exception())


def _forget(task: asyncio.Task[Any]) -> None:
    _let_go.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("ended-too-late", extra={"error": describe(error)})
