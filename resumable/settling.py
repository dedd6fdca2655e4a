"""Waiting that no cancellation cuts short: for what must have ended before anything else may happen."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["ended", "until_done"]


async def until_done(*futures: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait until all are done, whatever happens; return the cancellation that came meanwhile, for the caller."""
    held_back: asyncio.CancelledError | None = None
    for future in futures:
        while not future.done():
            try:
                await ended(future)
            except asyncio.CancelledError as error:
                held_back = error
    return held_back


async def ended(future: asyncio.Future[Any]) -> None:
    """Wait until it is done, without its result: ``asyncio.wait`` for one, at a fraction of the price."""
    if future.done():
        return
    waiter = asyncio.get_running_loop().create_future()

    def wake(_: asyncio.Future[Any]) -> None:
        if not waiter.done():
            waiter.set_result(None)

    future.add_done_callback(wake)
    try:
        await waiter
    finally:
        future.remove_done_callback(wake)
