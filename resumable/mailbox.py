"""Events on their way to one reader: state changes are kept, of progress only the newest, so a slow reader costs no
memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from resumable.events import LOSSY, DownloadEvent

_MOST_KEPT: Final = 1000


class Mailbox:
    """Holds events between the download and one ``async for``."""

    def __init__(self) -> None:
        """Begin empty."""
        self._events: deque[DownloadEvent] = deque(maxlen=_MOST_KEPT)
        self._news = asyncio.Event()
        self._closed = False

    def put(self, event: DownloadEvent) -> None:
        """Add an event; a newer lossy one takes the place of the one before it."""
        if event.event in LOSSY and self._events and self._events[-1].event is event.event:
            self._events.pop()
        self._events.append(event)
        self._news.set()

    def close(self) -> None:
        """End the iteration once what is here has been read."""
        self._closed = True
        self._news.set()

    async def read(self) -> AsyncIterator[DownloadEvent]:
        """Yield events as they come; ends when closed and empty."""
        while True:
            while self._events:
                yield self._events.popleft()
            if self._closed:
                return
            self._news.clear()
            await self._news.wait()
