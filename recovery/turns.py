"""A function that is not async, run by a supervisor: it runs in its caller's own thread, with its locals and signals.

The supervisor, its heartbeat and its journal live in the event loop of ``recovery.loopthread``; whenever an attempt is
due, the waiting thread gets a turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from functools import partial
from typing import Any, TypeVar

from recovery.loopthread import CallerSide, process_loop

__all__ = ["Turns", "take_turns"]

T = TypeVar("T")

_LAST_WORDS_S = 2.0


class Turns:
    """Of one call. ``call`` is for the event loop, ``wait_for`` for the function that is called."""

    def __init__(self, side: CallerSide) -> None:
        """``side`` is the thread that waits."""
        self._side = side
        self._loop = asyncio.get_running_loop()
        self._stopping = False

    async def call(self, function: Callable[[], T]) -> T:
        """Call ``function`` in the thread. Cancelled, it waits: a thread cannot be interrupted, only asked to stop."""
        self._stopping = False
        return await self._side.see_through(partial(self._turn, function), when_cancelled=self._stop)

    def _stop(self) -> None:
        self._stopping = True

    def _turn(self, function: Callable[[], T]) -> T:
        if self._stopping:
            raise CancelledError  # before the thread came to it
        return function()

    def wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what is to be stored to its end; for a function that is being called in the thread.

        Raises:
            concurrent.futures.CancelledError: the function is to stop: it was paused, cancelled, or lost its lease.
        """
        if self._stopping:
            work.close()
            raise CancelledError
        asyncio.run_coroutine_threadsafe(work, self._loop).result()


def take_turns(operate: Callable[[Turns], Coroutine[Any, Any, T]]) -> T:
    """Start ``operate`` in the process's loop thread, take turns for it here, and return its result.

    An exception that arrives in this thread while it waits, such as KeyboardInterrupt, cancels the operation, waits a
    moment for its last words, and goes on.

    Raises:
        RuntimeError: this is the thread of an event loop, which would stand still meanwhile.
    """
    if _in_event_loop():
        raise RuntimeError("it would block this event loop until it has ended: call it with asyncio.to_thread")

    async def visit(side: CallerSide) -> T:
        return await operate(Turns(side))

    return process_loop.get().start(visit).outcome(grace_s=_LAST_WORDS_S)


def _in_event_loop() -> bool:
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        return False
    # Under gevent all greenlets see the loop of the process; whether this is the one it runs in, ``start`` knows.
    return not (process_loop.made and running is process_loop.get().loop)
