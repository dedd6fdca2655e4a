"""News of other processes through Redis, sooner than the state file is looked at: never instead of it.

In a worker, events go out; in the hub they come in::

    relay = RedisRelay("redis://localhost:6379/0")
    async with DownloadManager(on_event=relay) as manager: ...
    await relay.close()

    hub = Hub(manager, redis="redis://localhost:6379/0")            # or: resumable serve --redis URL

What comes in is a hint: the hub takes it for a download whose owner, by the state file, is the process that says so,
and drops all else. python-socketio's manager swallows a dead Redis without a word, so nothing may depend on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final

from resumable.events import DownloadEvent, DownloadView, EventName
from resumable_ui.alarm import Alarm
from resumable_ui.ending import end
from resumable_ui.feed import SOON_S, Feed

EVENT: Final = "resumable_view"
CHANNEL: Final = "resumable"
MOST_VIEWS: Final = 100
"""In one message; each has about a kilobyte."""
_AGAIN_S: Final = (1.0, 2.0, 5.0, 10.0)
"""Between two tries to reach a Redis that is away; each costs a connection and two lines in the log."""
_OPTIONS: Final = {"socket_connect_timeout": 2.0}

_log = logging.getLogger("resumable_ui.relay")
_log.setLevel(logging.ERROR)  # python-socketio's complaints about Redis name its URL nowhere, but come every second


class RedisRelay:
    """Publishes what happens to downloads: changes of state at once, progress ten times a second, the newest only."""

    def __init__(self, url: str, *, channel: str = CHANNEL) -> None:
        """Nothing is opened before the first event. Raises ModuleNotFoundError without the ``redis`` extra."""
        self._manager: Any = _publishing_manager(url, channel)
        self._newest: dict[str, DownloadView] = {}
        self._feed = Feed()
        self._news = asyncio.Event()
        self._alarm = Alarm(self._news.set)
        self._sent_at = 0.0
        self._failures = 0
        """Of Redis, one after the other."""
        self._task: asyncio.Task[None] | None = None

    def __call__(self, event: DownloadEvent) -> None:
        """Take an event; for ``DownloadManager(on_event=...)``. Never waits, never raises."""
        name = event.view.download_id
        self._newest[name] = event.view
        urgent = event.event is not EventName.PROGRESS
        self._feed.put(name, urgent=urgent)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="redis relay")
        if urgent:
            self._news.set()
        else:
            self._alarm.at(self._sent_at + SOON_S)

    async def close(self) -> None:
        """Stop publishing."""
        self._alarm.off()
        if self._task is not None:
            await end(self._task)
        if self._manager.redis is not None:
            with contextlib.suppress(Exception):  # a connection that is gone needs no goodbye
                await self._manager.redis.aclose()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._news.wait()
            self._news.clear()
            found = [self._newest.pop(name, None) for name in self._feed.take(loop.time())]
            wires = [view.to_wire() for view in found if view is not None]
            for first in range(0, len(wires), MOST_VIEWS):
                # One message for all: each is a turn of two loops and of Redis.
                await self._manager.emit(EVENT, tuple(wires[first : first + MOST_VIEWS]))
                if not self._manager.reached:
                    break  # the rest is as lost: who needs it reads the state file
            await self._pause_if_away()
            self._sent_at = loop.time()
            due_s = self._feed.due_in(self._sent_at)
            if due_s is not None:
                self._alarm.at(self._sent_at + max(SOON_S, due_s))

    async def _pause_if_away(self) -> None:
        """Leave a Redis that could not be reached alone for a while; of what happens then, the newest waits."""
        if self._manager.reached:
            self._failures = 0
            return
        self._failures += 1
        await asyncio.sleep(_AGAIN_S[min(self._failures, len(_AGAIN_S)) - 1])


def _publishing_manager(url: str, channel: str) -> Any:
    """Return a manager for python-socketio that publishes, and whose ``reached`` says whether the last try did."""
    import socketio

    class Publishing(socketio.AsyncRedisManager):  # type: ignore[misc]
        """Redis' manager, which tells its log alone that it gave up: its ``_publish`` returns None then."""

        reached = True

        async def _publish(self, data: Any) -> Any:
            heard_by = await super()._publish(data)
            self.reached = heard_by is not None
            return heard_by

    return Publishing(url, channel=channel, write_only=True, logger=_log, redis_options=dict(_OPTIONS))


def listening_manager(url: str, hear: Callable[[DownloadView], None], *, channel: str = CHANNEL) -> Any:
    """Return a client manager for python-socketio that hands relayed views to ``hear``."""
    import socketio

    class Listening(socketio.AsyncRedisManager):  # type: ignore[misc]
        """Redis' manager, for hints in place of packets: what others emit goes to the board, not to clients."""

        async def _handle_emit(self, message: dict[str, Any]) -> None:
            if message.get("event") != EVENT:
                return
            data: Any = message.get("data")
            for wire in data if isinstance(data, list) else ():
                try:
                    view = DownloadView.from_wire(wire)
                except (ValueError, TypeError, KeyError, AttributeError):
                    continue  # of another version
                hear(view)

        async def close(self) -> None:
            """Stop listening."""
            thread = getattr(self, "thread", None)
            if thread is not None:
                await end(thread)
            for connection in (self.pubsub, self.redis):
                if connection is not None:
                    with contextlib.suppress(Exception):
                        await connection.aclose()

    return Listening(url, channel=channel, logger=_log, redis_options=dict(_OPTIONS))
