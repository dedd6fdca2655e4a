"""When news are sent: the newest of each key, a change of state at once, mere progress at most so often. Pure."""

from __future__ import annotations

from typing import Final

MAX_HZ: Final = 10.0
"""Progress of one download, a second."""
EARLY: Final = 0.3
"""Share of the interval by which one may come early: clocks and loops are not exact."""
SOON_S: Final = 0.005
"""Least time between two packets of mere progress: what comes in it goes out together."""
_FEW: Final = 1_000


class Feed:
    """Keys with news, and when each was sent last. Holds no news: whoever sends reads the newest elsewhere."""

    def __init__(self, max_hz: float = MAX_HZ) -> None:
        """Begin empty."""
        self._interval_s = 1.0 / max_hz
        self._waiting: dict[str, bool] = {}
        self._next_at: dict[str, float] = {}
        """When progress of a key may be sent again, were it sent at its exact rate."""
        self._tidy_at = _FEW

    def put(self, key: str, *, urgent: bool) -> None:
        """Note news of ``key``; they replace what was to be sent of it, and stay urgent once they are."""
        self._waiting[key] = urgent or self._waiting.get(key, False)

    def forget(self, key: str) -> None:
        """Drop a key."""
        self._waiting.pop(key, None)
        self._next_at.pop(key, None)

    def take(self, now: float, *, urgent_only: bool = False) -> dict[str, bool]:
        """Return the keys to send at ``now`` (monotonic seconds), oldest news first, and whether each is urgent; they
        are not returned again.
        """
        early = now + self._interval_s * EARLY
        taken = {
            key: urgent
            for key, urgent in self._waiting.items()
            if urgent or (not urgent_only and self._next_at.get(key, now) <= early)
        }
        for key in taken:
            del self._waiting[key]
            # A little early now is a little later the next time: the rate over time is kept.
            self._next_at[key] = min(max(self._next_at.get(key, now), now), early) + self._interval_s
        if len(self._next_at) > self._tidy_at:
            # A moment that has passed says no more than none: what is never spoken of again must not be kept for good.
            self._next_at = {key: at for key, at in self._next_at.items() if at > now}
            self._tidy_at = max(_FEW, 2 * len(self._next_at))
        return taken

    def due_in(self, now: float) -> float | None:
        """Return the seconds until the first waiting key may be sent; None where none waits."""
        if not self._waiting:
            return None
        early = self._interval_s * EARLY
        return max(0.0, min(self._next_at.get(key, now) for key in self._waiting) - early - now)

    @property
    def idle(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting
