"""An event loop in a thread of its own, for programs whose functions are called by threads: one per process.

``asyncio.run`` per call closes the loop under everything that is bound to it (sessions, databases, locks): the second
call then fails with "Event loop is closed". Here the loop lives as long as its process, and a call costs two thread
hops::

    return loop_thread.start(lambda side: work(side)).outcome(grace_s=5)

The waiting thread is not idle: through ``side`` the coroutine can have functions run in it, which is where frameworks
with thread-local state (Celery's current task) want to be called. Under gevent the "threads" are greenlets, and all of
this holds.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

__all__ = ["CallerSide", "LoopThread", "PerProcess", "Visit", "process_loop"]

T = TypeVar("T")
R = TypeVar("R")

_SLICE_S = 0.1
"""An exception that another thread sets for a waiting one is only raised between two waits."""
_START_S = 30.0


class CallerSide:
    """The waiting thread, as the coroutine sees it; every method is to be called in the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """``loop`` is the one the coroutine runs in."""
        self._loop = loop
        self.inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def post(self, fn: Callable[[], None]) -> None:
        """Have ``fn`` run in the waiting thread some time; it must not raise. Never, if that thread waits no more."""
        self.inbox.put(fn)

    async def call(self, fn: Callable[[], R]) -> R:
        """Run ``fn`` in the waiting thread and return its result, or raise what it raised, a SystemExit included."""
        return await self._put(fn)

    async def see_through(self, fn: Callable[[], R], *, when_cancelled: Callable[[], None] = lambda: None) -> R:
        """Like ``call``, but wait for the end of ``fn`` even when cancelled, however often: a thread cannot be
        interrupted, only be asked to stop, for which ``when_cancelled`` is called here. A result outlives that.

        Raises:
            asyncio.CancelledError: ``fn`` raised ``concurrent.futures.CancelledError`` after the cancellation.
        """
        future = self._put(fn)
        cancelled: asyncio.CancelledError | None = None
        while not future.done():
            try:
                await asyncio.wait((future,))
            except asyncio.CancelledError as exc:
                cancelled = exc
                when_cancelled()
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            if cancelled is None:
                raise
            raise cancelled from None

    def _put(self, fn: Callable[[], R]) -> asyncio.Future[R]:
        future: asyncio.Future[R] = self._loop.create_future()

        def run() -> None:
            try:
                value = fn()
            except BaseException as exc:  # noqa: BLE001 - handed to whoever awaits, whatever it is
                self._loop.call_soon_threadsafe(_fail, future, exc)
            else:
                self._loop.call_soon_threadsafe(_succeed, future, value)

        self.inbox.put(run)
        return future


class Visit(Generic[T]):
    """One coroutine in the loop and the thread that waits for it. Its methods are for that thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, main: Callable[[CallerSide], Coroutine[Any, Any, T]]) -> None:
        """Start ``main`` in ``loop``."""
        self._loop = loop
        self._side = CallerSide(loop)
        self._task: asyncio.Task[None] | None = None
        self._value: T
        self._error: BaseException | None = None
        self.done = False
        loop.call_soon_threadsafe(self._begin, main)

    def _begin(self, main: Callable[[CallerSide], Coroutine[Any, Any, T]]) -> None:
        self._task = self._loop.create_task(self._run(main))

    async def _run(self, main: Callable[[CallerSide], Coroutine[Any, Any, T]]) -> None:
        try:
            self._value = await main(self._side)
        except BaseException as exc:  # noqa: BLE001 - the edge: it is raised in the thread that waits; out of a task
            # a SystemExit would end the loop for everybody
            self._error = exc
        finally:
            # Not when the future is done: a cancelled one says so at once, while its clean-up still runs.
            self.done = True
            self._side.inbox.put(None)

    def result(self) -> T:
        """Wait for the end, running meanwhile what the coroutine wants run here; return or raise what it did."""
        while not self.done:
            try:
                fn = self._side.inbox.get(timeout=_SLICE_S)
            except queue.Empty:
                continue
            if fn is not None:
                fn()
        if self._error is not None:
            raise self._error
        return self._value

    def outcome(self, *, grace_s: float) -> T:
        """Return the result; a signal or a time limit that is raised here meanwhile cancels the coroutine, which has
        ``grace_s`` seconds to clean up.
        """
        try:
            return self.result()
        except BaseException:
            if not self.done:
                self.cancel()
                self.settle(within_s=grace_s)
            raise

    def tell(self, fn: Callable[[], object]) -> None:
        """Call ``fn`` in the event loop, soon."""
        self._loop.call_soon_threadsafe(fn)

    def cancel(self) -> None:
        """Cancel the coroutine; ``settle`` waits for what it still has to do."""
        self._loop.call_soon_threadsafe(lambda: self._task is None or self._task.cancel())

    def settle(self, *, within_s: float) -> bool:
        """Wait for the end but not for ever, without raising what came of it; return whether it has ended."""
        slices = max(1, round(within_s / _SLICE_S))
        while not self.done and slices > 0:
            try:
                fn = self._side.inbox.get(timeout=_SLICE_S)
            except queue.Empty:
                slices -= 1
                continue
            if fn is not None:
                fn()
        return self.done

    @property
    def error(self) -> BaseException | None:
        """What the coroutine raised; None while it runs, and when it returned."""
        return self._error


class LoopThread:
    """A daemon thread with a running event loop. Make it where it is used: a thread does not survive ``fork``."""

    def __init__(self, name: str = "loop") -> None:
        """Start the thread and wait until its loop runs."""
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self.loop.close()
            raise
        if not self._started.wait(_START_S):
            raise RuntimeError("the event loop's thread did not start")

    def _run(self) -> None:
        self.loop.call_soon(self._started.set)
        self.loop.run_forever()

    def start(self, main: Callable[[CallerSide], Coroutine[Any, Any, T]]) -> Visit[T]:
        """Start a coroutine that another thread is to wait for.

        Raises:
            RuntimeError: called in the loop's own thread, where waiting would stop everything; or after ``close``.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("this is the event loop's own thread: await the coroutine instead")
        return Visit(self.loop, main)

    def run(self, main: Callable[[], Awaitable[T]], *, grace_s: float = 5.0) -> T:
        """Run a coroutine to its end; whatever is raised here meanwhile cancels it, and waits for its clean-up."""

        async def visit(_: CallerSide) -> T:
            return await main()

        return self.start(visit).outcome(grace_s=grace_s)

    def close(self, *, within_s: float = 10.0) -> None:
        """Stop the loop and wait for its thread; what still runs in it is cancelled first."""
        if self.pid != os.getpid() or self.loop.is_closed():
            return
        if self._thread.is_alive():
            self.run(self._cancel_all, grace_s=within_s)
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(within_s)
        if not self._thread.is_alive():
            self.loop.close()

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)
        await self.loop.shutdown_asyncgens()
        async with asyncio.timeout(5):
            await self.loop.shutdown_default_executor()


class PerProcess(Generic[T]):
    """A value that each process makes for itself at first use, and makes anew after a fork."""

    def __init__(self, make: Callable[[], T]) -> None:
        """Nothing is made yet."""
        self._make = make
        self._values: dict[int, T] = {}
        self._locks: dict[int, threading.Lock] = {}

    def get(self) -> T:
        """Return this process's value."""
        pid = os.getpid()
        value = self._values.get(pid)
        if value is not None:
            return value
        # A lock of a former process may have been held when it forked.
        with self._locks.setdefault(pid, threading.Lock()):
            if pid not in self._values:
                self._values = {pid: self._make()}
            return self._values[pid]

    def take(self) -> T | None:
        """Forget this process's value and return it; None when there is none."""
        return self._values.pop(os.getpid(), None)

    @property
    def made(self) -> bool:
        """Whether this process has a value."""
        return os.getpid() in self._values


process_loop = PerProcess(lambda: LoopThread("recovery"))
"""The one loop thread of this process. Under gevent there can be no second one: what asyncio takes for the running loop
belongs to the thread of the operating system, which all greenlets share."""


def _succeed(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], exc: BaseException) -> None:
    if not future.done():
        if isinstance(exc, StopIteration):
            exc = RuntimeError("the function raised StopIteration")
        future.set_exception(exc)
