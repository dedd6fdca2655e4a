"""When news are sent: the newest of each key, a change of state at once, mere progress at most so often. Pure."""

from __future__ import annotations

from typing import Final

MAX_HZ: Final = 10.0
"""Progress of one download, a second."""


class Feed:
    """Keys with news, and when each was sent last. Holds no news: whoever sends reads the newest elsewhere."""

    def __init__(self, max_hz: float = MAX_HZ) -> None:
        """Begin empty."""
        self._interval_s = 1.0 / max_hz
        self._waiting: dict[str, bool] = {}
        self._sent_at: dict[str, float] = {}

    def put(self, key: str, *, urgent: bool) -> None:
        """Note news of ``key``; they replace what was to be sent of it, and stay urgent once they are."""
        self._waiting[key] = urgent or self._waiting.get(key, False)

    def forget(self, key: str) -> None:
        """Drop a key."""
        self._waiting.pop(key, None)
        self._sent_at.pop(key, None)

    def take(self, now: float, *, urgent_only: bool = False) -> list[str]:
        """Return the keys to send at ``now`` (monotonic seconds), oldest news first; they are not returned again."""
        taken = [
            key
            for key, urgent in self._waiting.items()
            if urgent or (not urgent_only and now - self._sent_at.get(key, float("-inf")) >= self._interval_s * 0.95)
        ]
        for key in taken:
            del self._waiting[key]
            self._sent_at[key] = now
        return taken

    @property
    def idle(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting
