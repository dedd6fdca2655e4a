"""How many connections one origin tolerates for one file. Pure."""

from __future__ import annotations

from typing import Final

THROTTLED: Final = frozenset({403, 421, 429, 503, 509})
"""What servers answer to one connection too many (research/downloaders.md 4.49)."""


class AdaptiveLimit:
    """Falls with every connection that fails without progress, grows again with every extent that completes.

    Once it is down to nothing the attempt is over: after as many failures as there are connections, with nothing gained
    in between, no more work is handed out.
    """

    def __init__(self, most: int) -> None:
        """Begin at ``most`` connections (>= 1)."""
        self.most = most
        self.limit = most

    def succeeded(self) -> None:
        """Book an extent that completed, or a connection that broke after real progress."""
        self.limit = min(self.most, self.limit + 1)

    def failed(self, *, running: int, status: int | None = None) -> None:
        """Book a connection that failed without progress while ``running`` others go on."""
        if status in THROTTLED and running:
            self.most = running
        self.limit = min(self.limit, running)
