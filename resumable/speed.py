"""Bytes per second over a sliding window of wire bytes, and the time left. Pure: the caller says what time it is."""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW_S: Final = 5.0
_STEP_S: Final = 0.1


class SpeedMeter:
    """Counts what came over the wire; bytes kept from former runs never enter, so a resume does not look like speed."""

    def __init__(self) -> None:
        """Begin with nothing received."""
        self._samples: deque[tuple[float, int]] = deque()

    def sample(self, now: float, received: int) -> None:
        """Note that ``received`` bytes in all have come by ``now`` (monotonic seconds)."""
        if self._samples and now - self._samples[-1][0] < _STEP_S:
            return
        self._samples.append((now, received))
        while now - self._samples[0][0] > WINDOW_S and len(self._samples) > 2:
            self._samples.popleft()

    def rate(self, now: float, received: int) -> float:
        """Return bytes per second over the window; 0.0 before there is anything to tell."""
        if not self._samples:
            return 0.0
        since, before = self._samples[0]
        elapsed = now - since
        return max(0.0, (received - before) / elapsed) if elapsed > 0 else 0.0


def seconds_left(remaining: int | None, rate: float, *, waiting_s: float = 0.0) -> float | None:
    """Return seconds to the end: the wait for the next attempt plus the transfer; None where it cannot be known."""
    if remaining is None or rate <= 0:
        return None
    return waiting_s + remaining / rate
