"""The state file as asyncio code sees it: ``write`` a function, ``read`` with a function, never mind what happens
to the file.

::

    async with await Database.open(Path("state.db"), [JOURNAL, CHECKPOINTS]) as database:
        await database.write(lambda conn: conn.execute("INSERT INTO notes VALUES (?)", ("kept",)))
        rows = await database.read(lambda conn: conn.execute("SELECT * FROM notes").fetchall())

How another package shares the file
    It declares its tables as a ``Schema`` of its own and passes that to ``Database.open`` beside
    ``recovery.journal.JOURNAL``. Its write functions take the connection and may call anybody's synchronous
    functions on it: all of that is one transaction. A checkpoint that must not be written by an owner that has lost
    its lease::

        def save(conn: sqlite3.Connection) -> None:
            check_generation(conn, operation_id, generation)       # from recovery.journal; raises Fenced
            row = sealed((download_id, index, length, digest))
            conn.execute("INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?)", row)

        await database.write(save, urgent=False)

    Rows end in a ``crc`` column (``recovery.rowcrc``); a row that is not ``intact`` is to be treated as absent.
    What its process holds in memory anyway it can offer with ``add_restore`` for the case that the file is lost.

What a write function must be
    Quick, synchronous, without an ``await`` or a COMMIT in it, and **safe to run again**: it may be run, rolled
    back and run again, also against a database in memory, and once more on the file later. So it decides by what it
    reads through the connection it is given; random names and the time are made before and closed over.

Not an ORM, and not a pool: one connection writes, in one thread; whatever is waiting shares one commit.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from msgspec.structs import asdict

from recovery.clock import Clock, SystemClock
from recovery.events import HealthEvent
from recovery.health import Health
from recovery.observers import tell
from recovery.quickcheck import quick_check
from recovery.reader import Reader, ReaderUnusable
from recovery.schema import Schema
from recovery.shield import to_the_end
from recovery.sqlitethread import SqliteThread, run_without_loop
from recovery.statefile import StoreLimits
from recovery.store import Store
from recovery.work import Restore, Work, after_commit
from recovery.writequeue import WriteQueue

__all__ = ["Database", "DatabaseClosed", "Health", "Schema", "StoreLimits", "after_commit"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_EXIT_S = 5.0


class DatabaseClosed(Exception):  # noqa: N818 - names what happened
    """The database is closed, or belongs to the process this one was forked from."""


class Database:
    """One state file (or a database in memory) for one process and one event loop. Made by ``Database.open``."""

    def __init__(
        self,
        path: Path | None,
        schemas: Sequence[Schema],
        *,
        clock: Clock,
        on_health: Callable[[HealthEvent], None] | None,
        limits: StoreLimits,
    ) -> None:
        """Use ``Database.open``."""
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._clock = clock
        self._on_health = on_health
        self._limits = limits
        self._store = Store(path, schemas, limits=limits, clock=clock, say=self._say)
        self._thread = SqliteThread(self._store.open)
        self._reader = Reader(self._store)
        self._queue = WriteQueue(self._thread, self._store, clock=clock, limits=limits, fail=self._give_up)
        self._over = asyncio.Event()
        self._mistake: Exception | None = None
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._started = False
        self._closing = False
        self._check: asyncio.Task[None] | None = None
        self._stop_check = threading.Event()
        self._server = self._loop.create_task(self._serve(), name=f"state file {path}")

    @classmethod
    async def open(
        cls,
        path: Path | None,
        schemas: Sequence[Schema],
        *,
        clock: Clock | None = None,
        on_health: Callable[[HealthEvent], None] | None = None,
        limits: StoreLimits | None = None,
    ) -> Database:
        """Open the state file, making it and its directory if need be (modes 0600 and 0700); None keeps all in memory.

        Never fails because of the file: what is wrong with it is in ``health`` and ``health_reason`` and is told to
        ``on_health``, which is called in the event loop. Errors in ``schemas`` themselves are raised.
        """
        where = None if path is None else await _settled(path)
        limits = limits or StoreLimits()
        database = cls(where, schemas, clock=clock or SystemClock(), on_health=on_health, limits=limits)
        try:
            await asyncio.shield(database._ready)
        except BaseException:
            await database.close()
            raise
        _open_databases.add(database)
        return database

    @property
    def path(self) -> Path | None:
        """The state file with all links resolved; None in memory."""
        return self._store.path

    @property
    def health(self) -> Health:
        """Whether what is written outlives this process."""
        return self._store.health

    @property
    def health_reason(self) -> str:
        """What is wrong, or what was lost, in plain language; empty when nothing ever was."""
        return self._store.reason

    async def write(self, fn: Callable[[sqlite3.Connection], T], *, urgent: bool = True) -> T:
        """Run ``fn`` in a transaction and return its result once that is committed; it shares the commit with its
        neighbours.

        What ``fn`` raises is raised here, and only its own changes are rolled back. ``urgent=False`` is for what
        may be lost in a power cut (never in a crash of the process): it costs no wait for the disk. A caller that
        is cancelled leaves its function applied whole or not at all, never a transaction open.

        Raises:
            DatabaseClosed: closed, or opened before a fork.
        """
        self._require_open()
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.add(Work(fn, future, urgent=urgent))
        return await future

    async def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``fn`` on one consistent snapshot of what is committed and return its result; it must not write.

        Raises:
            DatabaseClosed: closed, or opened before a fork.
        """
        self._require_open()
        try:
            return await self._reader.read(fn)
        except ReaderUnusable:
            self._require_open()
            future: asyncio.Future[T] = self._loop.create_future()
            self._queue.add(Work(fn, future, urgent=False, reads_only=True))
            return await future

    def add_restore(self, restore: Restore) -> None:
        """Register a function that puts what its owner holds into a database that may have lost it.

        It runs in a transaction of its own after the file was found damaged or deleted, when memory takes over
        without a copy of the file, and after catching up. It must be safe to run again.
        """
        self._store.restores.append(restore)

    async def probe(self) -> Health:
        """Try a file that could not be used now instead of at its time, as after "I made space"; return the health."""
        self._require_open()
        await self._thread.run(self._store.probe, True)  # noqa: FBT003
        self._queue.set_timer()
        return self.health

    def statistics(self) -> dict[str, Any]:
        """Return what the store has done since it was opened, JSON-safe."""
        return {
            "path": None if self.path is None else str(self.path),
            "health": self.health.value,
            "reason": self.health_reason,
            "wal": self._store.readable_elsewhere,
            "sqlite_version": sqlite3.sqlite_version,
            **asdict(self._store.counts),
        }

    async def close(self) -> None:
        """Commit what is queued, catch up if that is still possible, and close the file. May be called again."""
        if os.getpid() != self._pid:
            return
        self._closing = True
        self._over.set()
        _open_databases.discard(self)
        await to_the_end(self._wait_for_server())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- in the event loop --------------------------------------------------------------------------------------------

    def _require_open(self) -> None:
        if os.getpid() != self._pid:
            msg = "the database was opened before a fork; open another in this process"
            raise DatabaseClosed(msg)
        if self._closing:
            msg = "the database is closed"
            raise DatabaseClosed(msg)
        if asyncio.get_running_loop() is not self._loop:
            msg = "the database belongs to another event loop"
            raise RuntimeError(msg)

    async def _serve(self) -> None:
        """Open the file, and close it when that is asked for, or when the event loop is being torn down."""
        try:
            await to_the_end(self._start())
            await self._over.wait()
            if self._mistake is not None:
                log.error("the database gives up", exc_info=self._mistake)
        except asyncio.CancelledError:
            raise  # asyncio.run() ends without our having been closed: close all the same, below
        except Exception as exc:  # noqa: BLE001 - whatever it is (a mistake in a schema), open() raises it
            self._ready.set_exception(exc)
        finally:
            self._closing = True
            await to_the_end(self._finish())

    async def _start(self) -> None:
        await self._thread.start()
        self._started = True
        if not self._ready.done():
            self._ready.set_result(None)
        if self._store.file is not None and self._store.file.unclean:
            self._check = self._loop.create_task(self._check_file(self._store.opened))
        self._queue.set_timer()

    def _give_up(self, mistake: Exception) -> None:
        self._mistake = mistake
        self._over.set()

    async def _check_file(self, opened: int) -> None:
        assert self.path is not None
        found = await asyncio.to_thread(quick_check, self.path, self._stop_check, self._limits.check_s)
        if found is not None:
            await self._thread.run(self._store.condemn, opened, found)
            self._queue.set_timer()

    async def _finish(self) -> None:
        self._stop_check.set()
        self._queue.stop()
        if self._check is not None:
            await asyncio.wait((self._check,))
        try:
            await self._close_store()
        except Exception:  # the edge: whatever our own mistake is, nobody must wait for ever
            log.exception("the state file could not be closed")
        if not self._ready.done():
            self._ready.cancel()
        self._queue.refuse(DatabaseClosed("the database is closed"))

    async def _close_store(self) -> None:
        if not self._started:
            await self._thread.ended()  # it must not answer to an event loop that is closed
            await asyncio.to_thread(self._store.close)
            return
        try:
            await self._reader.close()
            await self._thread.run(self._queue.write_pending)
        finally:
            self._queue.answer()
            try:
                await self._thread.run(self._store.close)
            finally:
                await self._thread.stop()

    async def _wait_for_server(self) -> None:
        await asyncio.wait((self._server,))
        if self._ready.done() and not self._ready.cancelled():
            self._ready.exception()  # open() raises it, unless it was cancelled: then nobody wants it

    # --- in the database thread ---------------------------------------------------------------------------------------

    def _say(self, health: Health, reason: str) -> None:
        event = HealthEvent(health, reason, self._clock.time())
        self._in_loop(tell, event)
        if self._on_health is not None:
            self._in_loop(self._on_health, event)

    def _in_loop(self, callback: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is waiting any more
            self._loop.call_soon_threadsafe(callback, *args)

    # --- at the ends of processes -------------------------------------------------------------------------------------

    def close_at_exit(self) -> None:
        """Close what nobody closed, when the interpreter ends and the event loop is gone. Bounded; not for callers."""
        if os.getpid() == self._pid:
            run_without_loop(self._thread, self._drain_and_close, within_s=_EXIT_S)

    def leave_to_parent(self) -> None:
        """Become unusable after a fork, without touching the file. Not for callers."""
        # Kept, never closed: closing a parent's connection in the child would checkpoint behind its back.
        _of_the_parent.append(self)
        self._store.forget_lock()

    def _drain_and_close(self) -> None:
        self._queue.write_pending()
        self._store.close()


async def _settled(path: Path) -> Path:
    try:
        return Path(await asyncio.to_thread(os.path.realpath, path))
    except RuntimeError:
        # The main thread has ended, and other threads go on: Python starts no executor any more.
        return Path(os.path.realpath(path))  # noqa: ASYNC240


_open_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_of_the_parent: list[Database] = []


def _close_all_at_exit() -> None:
    for database in list(_open_databases):
        database.close_at_exit()


def _forget_after_fork() -> None:
    for database in list(_open_databases):
        database.leave_to_parent()
    _open_databases.clear()


atexit.register(_close_all_at_exit)
os.register_at_fork(after_in_child=_forget_after_fork)
