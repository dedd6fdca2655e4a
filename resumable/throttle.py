"""Bandwidth limits: token buckets that the reader waits at, so that the kernel's receive window slows the origin
down.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from resumable.ports import Clock

_BURST_S: Final = 0.25


class RateLimit:
    """At most ``rate`` bytes per second over all who share it; bursts of a quarter of a second."""

    def __init__(self, rate: int, clock: Clock) -> None:
        """Raise ValueError unless ``rate`` (bytes per second) is positive."""
        if rate <= 0:
            msg = f"a rate limit needs more than {rate} bytes per second"
            raise ValueError(msg)
        self.rate = rate
        self._clock = clock
        self._free_at = clock.monotonic()

    async def take(self, count: int) -> None:
        """Wait until ``count`` bytes may pass; concurrent takers are served in the order they came."""
        now = self._clock.monotonic()
        self._free_at = max(self._free_at, now - _BURST_S) + count / self.rate
        wait = self._free_at - now
        if wait > 0:
            await self._clock.sleep(wait)


def combined(*limits: RateLimit | None) -> Callable[[int], Awaitable[None]] | None:
    """Return one wait for all given limits, None where there is none."""
    some = [limit for limit in limits if limit is not None]
    if not some:
        return None
    if len(some) == 1:
        return some[0].take

    async def take(count: int) -> None:
        for limit in some:
            await limit.take(count)

    return take
