"""Functions that an event loop wants called in one certain thread, whose caller waits there for an operation to end.

That is how a function that is not async is run by a supervisor: the supervisor, its heartbeat and its journal live in
an event loop, and the function runs in its caller's own thread, with its thread-locals, context and signals.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from recovery.attempt_task import Outcome

__all__ = ["Turns"]

T = TypeVar("T")

_LAST_WORDS_S = 2.0


class _Turn:
    """One function to be called, and what became of it."""

    __slots__ = ("_function", "_loop", "future")

    def __init__(self, function: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self._function = function
        self._loop = loop
        self.future: asyncio.Future[Outcome[Any]] = loop.create_future()

    def take(self) -> None:
        try:
            outcome = Outcome(value=self._function())
        except BaseException as exc:  # noqa: BLE001 - the edge of the thread: who waits for it gets it, Ctrl-C included
            outcome = Outcome(error=exc)
        self._loop.call_soon_threadsafe(self._hand_over, outcome)

    def _hand_over(self, outcome: Outcome[Any]) -> None:
        if not self.future.done():
            self.future.set_result(outcome)


class Turns:
    """Of one call. ``wait_for_end`` is for the thread, ``call`` for the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Nothing is started."""
        self._loop = loop
        self._queue: queue.SimpleQueue[_Turn | None] = queue.SimpleQueue()
        self._stopping = False
        self._ended = threading.Event()

    def wait_for_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` in the event loop, call here what it wants called, and return its result.

        An exception that arrives in the thread itself, such as KeyboardInterrupt, cancels the work, waits a moment for
        its last words, and goes on.
        """
        running = asyncio.run_coroutine_threadsafe(self._to_outcome(work), self._loop)
        try:
            while (turn := self._queue.get()) is not None:
                turn.take()
        except BaseException:
            running.cancel()
            self._ended.wait(_LAST_WORDS_S)
            raise
        outcome = running.result()
        if outcome.error is not None:
            raise outcome.error
        value: T = outcome.value  # type: ignore[assignment]  # None is a value like any other
        return value

    async def call(self, function: Callable[[], T]) -> T:
        """Call ``function`` in the thread. Cancelled, it waits: a thread cannot be interrupted, only asked to stop."""
        turn = _Turn(function, self._loop)
        self._queue.put(turn)
        try:
            await asyncio.wait((turn.future,))
        except asyncio.CancelledError:
            self._stopping = True
            await asyncio.wait((turn.future,))  # until it ends by itself, or we are cancelled once more
            raise
        outcome = turn.future.result()
        if outcome.error is not None:
            raise outcome.error
        value: T = outcome.value  # type: ignore[assignment]  # as above
        return value

    def wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what is to be stored to its end; for a function that is being called in the thread.

        Raises:
            concurrent.futures.CancelledError: the function is to stop: it was paused, cancelled, or took too long.
        """
        if self._stopping:
            work.close()
            raise CancelledError
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _to_outcome(self, work: Coroutine[Any, Any, T]) -> Outcome[T]:
        try:
            return Outcome(value=await work)
        except BaseException as exc:  # noqa: BLE001 - a KeyboardInterrupt that leaves a task would end the event loop
            return Outcome(error=exc)
        finally:
            self._ended.set()
            self._queue.put(None)
