"""Events on their way to one reader: state changes are kept, of progress only the newest, so a slow reader costs little
memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from resumable.events import LOSSY, DownloadEvent

_MOST_LOSSY: Final = 1_000
_MOST_STATES: Final = 10_000


class Mailbox:
    """Holds events between the download and one ``async for``: at most the newest 1,000 that are lossy, and the newest
    10,000 others, each of about a kilobyte.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._lossy: deque[tuple[int, DownloadEvent]] = deque(maxlen=_MOST_LOSSY)
        self._states: deque[tuple[int, DownloadEvent]] = deque(maxlen=_MOST_STATES)
        self._count = 0
        """Of all that were ever put; numbers them, to be read in their order."""
        self._news = asyncio.Event()
        self._closed = False

    def put(self, event: DownloadEvent) -> None:
        """Add an event; a newer lossy one takes the place of the one before it."""
        self._count += 1
        if event.event not in LOSSY:
            self._states.append((self._count, event))
        else:
            if self._replaced_by(event):
                self._lossy.pop()
            self._lossy.append((self._count, event))
        self._news.set()

    def close(self) -> None:
        """End the iteration once what is here has been read."""
        self._closed = True
        self._news.set()

    async def read(self) -> AsyncIterator[DownloadEvent]:
        """Yield events as they come; ends when closed and empty."""
        while True:
            while self._lossy or self._states:
                yield self._oldest()
            if self._closed:
                return
            self._news.clear()
            await self._news.wait()

    def _replaced_by(self, event: DownloadEvent) -> bool:
        """Return whether the newest of all that wait is one of the same kind."""
        if not self._lossy or (self._states and self._states[-1][0] > self._lossy[-1][0]):
            return False
        return self._lossy[-1][1].event is event.event

    def _oldest(self) -> DownloadEvent:
        """Take the first of all out."""
        first = not self._lossy or (self._states and self._states[0][0] < self._lossy[0][0])
        return (self._states if first else self._lossy).popleft()[1]
