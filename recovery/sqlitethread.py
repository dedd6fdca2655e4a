"""The one place that touches aiosqlite: a thread that owns a connection and runs whole functions on it.

Not a second interface to SQL. aiosqlite's own statement-by-statement one is not used anywhere, because each of its
awaits is a place where a cancellation leaves a transaction open that the next caller then commits, and a cancelled
statement still runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

import aiosqlite

__all__ = ["SqliteThread", "run_without_loop"]

T = TypeVar("T")


class SqliteThread:
    """A thread with a SQLite connection that ``connect`` opens in it."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        """Prepare; nothing runs before ``start``."""
        self._aiosqlite = aiosqlite.Connection(connect, iter_chunk_size=64)
        # aiosqlite's thread would keep the interpreter from exiting when nobody closes it (ogx#4587, aiosqlite#299).
        self._aiosqlite._thread.daemon = True  # noqa: SLF001 - it has no public switch

    @property
    def alive(self) -> bool:
        """Whether the thread still takes work; it dies with the event loop it answered to."""
        return self._aiosqlite._thread.is_alive()  # noqa: SLF001

    async def start(self) -> None:
        """Start the thread and open the connection; raises what ``connect`` raises."""
        await self._aiosqlite

    async def ended(self) -> None:
        """Wait for the thread to end, as it does by itself after a ``start`` that was cancelled or has failed."""
        if self.alive:
            await asyncio.to_thread(self._aiosqlite._thread.join)  # noqa: SLF001 - see above

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        """Run ``fn(*args)`` in the thread and return its result.

        A caller that is cancelled stops waiting; the function runs all the same.
        """
        # _execute is how every public method of aiosqlite hands a call to its thread; there is no public name for it.
        execute = cast("Callable[..., Any]", self._aiosqlite._execute)  # noqa: SLF001
        return cast("T", await execute(fn, *args))

    def post(self, fn: Callable[[], None]) -> None:
        """Let ``fn`` run in the thread, after what was asked of it before; it must not raise, for nobody would know."""
        self._aiosqlite._tx.put_nowait((None, fn))  # noqa: SLF001 - as _execute does, without a future to wait for

    async def stop(self) -> None:
        """Close the connection, if ``fn`` has not done so, and end the thread."""
        await self._aiosqlite.close()


def run_without_loop(thread: SqliteThread, fn: Callable[[], None], *, within_s: float) -> None:
    """Run ``fn`` in the thread at interpreter exit, when the event loop it worked for is gone; bounded, never
    raises.
    """
    # No loop of our own for it: under gevent the one that has stopped still counts as running in this thread.
    done = threading.Event()

    def run() -> None:
        with contextlib.suppress(Exception):  # the process is ending: there is nobody left to tell
            fn()
        done.set()

    if thread.alive:
        thread.post(run)
        done.wait(within_s)
