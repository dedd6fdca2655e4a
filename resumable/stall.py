"""Tells a dead connection from a slow reader. Pure: the caller says what time it is and how much has come.

Only time spent waiting for the peer counts. A slow disk or a rate limit makes the reader come late; that is not the
peer's fault, and a connection must not be dropped for it.
"""

from __future__ import annotations

from typing import Final

_CLOSEST: Final = 1 / 50
"""Checks are at least this share of the window apart: a reader that hardly waits costs at most fifty per window."""


class StallMeter:
    """Watches one body: it has stalled when silent for ``timeout_s``, or below ``min_rate`` over that much waiting."""

    __slots__ = ("_closed_at", "_counted", "_min_rate", "_since", "_timeout", "_waited")

    def __init__(self, timeout_s: float, min_rate: int) -> None:
        """Begin a window of ``timeout_s`` seconds; ``min_rate`` is bytes/s, 0 leaves only the silence rule."""
        self._timeout = timeout_s
        self._min_rate = min_rate
        self._since: float | None = None
        self._counted = 0.0
        self._waited = 0.0
        self._closed_at = 0

    def wait(self, now: float) -> None:
        """The reader begins to wait for the peer at ``now`` (monotonic seconds)."""
        self._since = self._counted = now

    def heard(self, now: float) -> None:
        """Bytes have come at ``now``, and the reader waits for more: the peer is not silent."""
        if self._since is not None:
            self._since = now

    def go_on(self, now: float) -> None:
        """The wait is over at ``now``: a block, the end, or a cancellation."""
        self._waited += now - self._counted
        self._since = None

    def check(self, now: float, received: int) -> float | None:
        """Return in how many seconds to check again, None when stalled; ``received`` counts the body's bytes so far."""
        silent = waited = 0.0
        if self._since is not None:
            silent, waited = now - self._since, now - self._counted
        waited += self._waited
        if silent >= self._timeout:
            return None
        if waited >= self._timeout:
            if received - self._closed_at < self._min_rate * waited:
                return None
            self._closed_at = received
            self._counted = now
            self._waited = waited = 0.0
        return max(self._timeout - max(waited, silent), self._timeout * _CLOSEST)
