"""Waiting that no cancellation cuts short: for what must have ended before anything else may happen."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["until_done"]


async def until_done(*futures: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait until all are done, whatever happens; return the cancellation that came meanwhile, for the caller."""
    held_back: asyncio.CancelledError | None = None
    while not all(future.done() for future in futures):
        try:
            await asyncio.wait(futures)
        except asyncio.CancelledError as error:
            held_back = error
    return held_back
