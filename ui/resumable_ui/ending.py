"""A task of a library is ended, also when it loses the cancellation that was meant to end it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

_AGAIN_S: Final = 0.05


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task until it has ended; what it raised is not raised here.

    Once is not enough for what waits inside redis-py: it uses ``asyncio.wait_for``, which before Python 3.12 returns
    the result in place of a cancellation that comes as the result is ready (python/cpython#86296).
    """
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=_AGAIN_S)
    if not task.cancelled():
        task.exception()  # looked at: asyncio would log it as forgotten
