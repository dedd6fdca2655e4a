"""Work before a run that gives way to whoever wants to stop it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from recovery.control import Control
from recovery.waker import Waker
from resumable.settling import until_done

__all__ = ["unless_stopped"]

T = TypeVar("T")


async def unless_stopped(control: Control, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what ``work`` comes to; None, and it is cancelled, once somebody wants to pause or cancel."""
    waker = Waker()
    task = asyncio.ensure_future(work)
    control.attach(waker.wake)
    try:
        await waker.until(task, or_else=lambda: control.requested is not None)
        return task.result() if task.done() else None
    finally:
        control.attach(None)
        if not task.done():
            task.cancel()
            held_back = await until_done(task)
            if held_back is not None:
                raise held_back
