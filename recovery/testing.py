"""Public fakes for the tests of programs that use this package: time that moves when told to, a journal in memory,
jitter without chance, waits without time, faults in functions, network and state file.

How to use them: ``docs/testing.md``.
"""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

from recovery.memory_journal import MemoryJournal
from recovery.testing_faults import (
    NetworkFaults,
    StoreTrouble,
    draws,
    failing,
    network_faults,
    no_waits,
    store_trouble,
)

__all__ = [
    "FakeClock",
    "MemoryJournal",
    "NetworkFaults",
    "StoreTrouble",
    "draws",
    "failing",
    "network_faults",
    "no_waits",
    "store_trouble",
]

_TURNS = 32
"""Event-loop turns granted to whoever was woken before time moves on: enough for a chain of awaits that are ready."""


class FakeClock:
    """A clock of virtual time (a ``recovery.clock.Clock``); sleeping costs no real time.

    ``await clock.advance(60)`` wakes the sleepers of the next minute one after the other, each at its own time, and
    lets each run before the next is woken. With ``auto`` the clock jumps to the next sleeper whenever the event loop
    has been idle for some turns; work in threads counts as idle, so use ``advance`` and ``until_sleeping`` where that
    matters.
    """

    def __init__(self, *, start: float = 1_700_000_000.0, auto: bool = False) -> None:
        """Start at ``start`` seconds since the epoch; the monotonic clock starts at zero."""
        self._start = start
        self._elapsed = 0.0
        self._auto = auto
        self._armed = False
        self._idle_turns = 0
        self._order = count()
        self._timers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._watchers: list[asyncio.Future[None]] = []

    def __repr__(self) -> str:
        """Show the elapsed time and who sleeps."""
        return f"<FakeClock +{self._elapsed:g} s, {self.sleepers} sleeping>"

    def monotonic(self) -> float:
        """Return the virtual seconds since the clock was made."""
        return self._elapsed

    def time(self) -> float:
        """Return the virtual seconds since the epoch."""
        return self._start + self._elapsed

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as a person or NTP does; sleepers and ``monotonic`` do not notice."""
        self._start += seconds

    @property
    def sleepers(self) -> int:
        """How many coroutines are sleeping."""
        return sum(not future.done() for _, _, future in self._timers)

    @property
    def next_wake_s(self) -> float | None:
        """Seconds until the first sleeper wakes, None when nobody sleeps."""
        timer = self._first()
        return None if timer is None else timer[0] - self._elapsed

    async def sleep(self, seconds: float) -> None:
        """Wait until virtual time has moved on by ``seconds``; zero or less yields once."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._timers, (self._elapsed + seconds, next(self._order), future))
        for watcher in self._watchers:
            if not watcher.done():
                watcher.set_result(None)
        self._idle_turns = 0
        if self._auto and not self._armed:
            self._armed = True
            loop.call_soon(self._turn, loop)
        await future

    async def advance(self, seconds: float) -> None:
        """Move virtual time on by ``seconds``, waking sleepers in the order of their times."""
        target = self._elapsed + seconds
        await _settle()
        while (timer := self._first()) is not None and timer[0] <= target:
            self._wake(timer)
            await _settle()
        self._elapsed = max(self._elapsed, target)
        await _settle()

    async def until_sleeping(self, sleepers: int = 1) -> None:
        """Wait, in real time, until so many coroutines sleep: for work that goes through threads or sockets."""
        while self.sleepers < sleepers:
            watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._watchers.append(watcher)
            try:
                await watcher
            finally:
                self._watchers.remove(watcher)

    def _first(self) -> tuple[float, int, asyncio.Future[None]] | None:
        while self._timers and self._timers[0][2].done():
            heapq.heappop(self._timers)  # cancelled while asleep
        return self._timers[0] if self._timers else None

    def _wake(self, timer: tuple[float, int, asyncio.Future[None]]) -> None:
        self._elapsed = max(self._elapsed, timer[0])
        timer[2].set_result(None)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count idle turns of the event loop and jump to the next sleeper after enough of them."""
        timer = self._first()
        if timer is None:
            self._armed = False
            return
        self._idle_turns += 1
        if self._idle_turns >= _TURNS:
            self._idle_turns = 0
            self._wake(timer)
        loop.call_soon(self._turn, loop)


async def _settle() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)
