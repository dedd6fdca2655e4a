"""Time and waiting, injected, so that nothing in this package calls ``time`` or ``asyncio.sleep`` behind a test's
back.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """What supervisors, gates and stores ask for the time. ``recovery.testing.FakeClock`` is the one for tests."""

    def monotonic(self) -> float:
        """Return seconds on a clock that never jumps; meaningless outside this process."""

    def time(self) -> float:
        """Return seconds since the epoch; may jump when the clock is set."""

    async def sleep(self, seconds: float) -> None:
        """Wait; cancellable. Zero or less yields to the event loop once."""


class SystemClock:
    """The real clock."""

    __slots__ = ()

    def monotonic(self) -> float:
        """Return ``time.monotonic()``."""
        return time.monotonic()

    def time(self) -> float:
        """Return ``time.time()``."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait ``seconds`` of real time."""
        await asyncio.sleep(max(0.0, seconds))
