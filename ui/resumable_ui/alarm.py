"""A timer of the event loop for several who ask: the earliest moment counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls a function at the earliest of the moments that were asked for, once."""

    def __init__(self, ring: Callable[[], None]) -> None:
        """Nothing is asked for yet; ``ring`` is called from the event loop."""
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self._at = 0.0

    def at(self, when: float) -> None:
        """Ask for a moment (``loop.time()``); one that has passed is the loop's next turn."""
        if self._timer is not None:
            if self._at <= when:
                return
            self._timer.cancel()
        self._at = when
        self._timer = asyncio.get_running_loop().call_at(when, self._rang)

    def off(self) -> None:
        """Ask for nothing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _rang(self) -> None:
        self._timer = None
        self._ring()
