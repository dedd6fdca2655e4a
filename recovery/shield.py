"""Work that must come to its end although its caller is cancelled: clean-up that is shielded, bounded, and re-raises.

Not a way to ignore cancellation: the caller's CancelledError is held back until the work has ended (or its time is up)
and then raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["to_the_end"]

T = TypeVar("T")


async def to_the_end(work: Coroutine[Any, Any, T], *, within_s: float | None = None) -> T:
    """Run ``work`` in a task of its own and return its result; a cancellation meanwhile is raised once it has ended.

    The bound is real time, not the injected clock's: it exists for a program that is being stopped. When it passes, the
    work is cancelled and not waited for any longer.

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
        task.cancel()
        late = TimeoutError(f"not done within {within_s} s")
        if held_back is None:
            raise late
        raise held_back from late
    if held_back is None:
        return task.result()
    raise held_back from (None if task.cancelled() else task.exception())
