"""Thread hops: blocking calls run in threads in such a way that no cancellation leaves one running behind its back.

Not a scheduler: order, limits and retries are the callers' business.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from resumable.settling import until_done

__all__ = ["Hops", "io_executor", "shutdown_io_executor"]

T = TypeVar("T")

_MOST_THREADS: Final = 16
_WAITING_THREADS: Final = 6
"""Threads beyond one per processor: hashing keeps a processor busy, syncing and reading a slow disk only waits."""


class _Process:
    """The one executor of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.executor: ThreadPoolExecutor | None = None


_process = _Process()


def _after_fork() -> None:
    # A child has none of its parent's threads, and the lock may have been held by one of them.
    global _process  # noqa: PLW0603
    _process = _Process()


os.register_at_fork(after_in_child=_after_fork)


def io_executor() -> ThreadPoolExecutor:
    """Return this process's executor for disk and digest hops; made when first asked for, and anew after a fork."""
    process = _process
    with process.lock:
        if process.executor is None:
            process.executor = ThreadPoolExecutor(
                min(_MOST_THREADS, _processors() + _WAITING_THREADS), thread_name_prefix="resumable-io"
            )
        return process.executor


def shutdown_io_executor() -> None:
    """Wait for the hops that are under way and end the threads; a later hop starts new ones. Blocking.

    Nobody has to call it: the interpreter joins idle threads at exit.
    """
    process = _process
    with process.lock:
        executor, process.executor = process.executor, None
    if executor is not None:
        executor.shutdown(wait=True)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Hops:
    """The hops of one owner of a descriptor. Once ``finish`` has returned, no thread uses it any more."""

    __slots__ = ("_executor", "_flying")

    def __init__(self, executor: Executor | None = None) -> None:
        """Use ``executor``, or the process's own."""
        self._executor = executor
        self._flying: set[Future[Any]] = set()

    @property
    def flying(self) -> int:
        """Hops queued or running now."""
        return len(self._flying)

    async def run(self, work: Callable[[], T], *, undo: Callable[[T], None] | None = None) -> T:
        """Run ``work`` in a thread and return its result; its exception is raised.

        Cancelled, it withdraws a hop that has not begun and waits for one that has: when it raises, nothing of it
        runs any more. ``undo`` is given the result that nobody gets because of that, also in a thread.

        Raises RuntimeError when the executor has been shut down.
        """
        executor = self._executor or io_executor()
        future = executor.submit(work)
        self._flying.add(future)
        # Not asyncio.wrap_future: its chain of callbacks costs two turns of the event loop more, of three.
        landed = self._landing(future)
        try:
            await landed
        except asyncio.CancelledError:
            if not future.cancel():
                waiter = asyncio.wrap_future(future)
                await until_done(waiter)
                if waiter.exception() is None and undo is not None:
                    result = waiter.result()
                    await until_done(asyncio.wrap_future(executor.submit(lambda: undo(result))))
            raise
        if future.cancelled():
            # Not our caller's cancellation, and it must not look like one.
            raise RuntimeError("the executor was shut down before the hop began")
        return future.result()

    def _landing(self, future: Future[Any]) -> asyncio.Future[None]:
        """Return what is done, in the event loop, once the hop is."""
        loop = asyncio.get_running_loop()
        landed: asyncio.Future[None] = loop.create_future()

        def over(hop: Future[Any]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self._land, hop, landed)

        future.add_done_callback(over)
        return landed

    def _land(self, hop: Future[Any], landed: asyncio.Future[None]) -> None:
        self._flying.discard(hop)
        if not landed.done():
            landed.set_result(None)

    async def finish(self, last: Callable[[], None]) -> None:
        """Wait until no hop is under way, then run ``last`` in a thread; raise a cancellation only after it."""
        held_back = None
        while self._flying:
            held_back = await until_done(*map(self._landing, self._flying)) or held_back
        try:
            future = (self._executor or io_executor()).submit(last)
        except RuntimeError:
            last()  # the executor is gone, and nobody else would ever do it
        else:
            last_one = asyncio.wrap_future(future)
            held_back = await until_done(last_one) or held_back
            last_one.result()
        if held_back is not None:
            raise held_back
