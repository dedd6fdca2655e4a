"""The connection for reads, in a thread of its own, so that a slow report never delays a checkpoint.

A convenience, not a necessity: whenever it cannot serve (no WAL, no file, a fault) it says so and the writer reads
instead. It therefore judges nothing; the writer meets the same fault and acts.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from typing import TypeVar

from recovery.connections import connect_reader, file_id
from recovery.faults import SQLITE_RAISES
from recovery.sqlitethread import SqliteThread
from recovery.store import Store
from recovery.work import StoreConnection

__all__ = ["Reader", "ReaderUnusable"]

T = TypeVar("T")


class ReaderUnusable(Exception):  # noqa: N818 - names what happened
    """This read has to go through the writer."""


class Reader:
    """A reading connection to whatever file the store has in use; opened at the first read."""

    def __init__(self, store: Store) -> None:
        """Follow ``store``."""
        self._store = store
        self._thread: SqliteThread | None = None
        self._starting: asyncio.Task[None] | None = None
        self._conn: StoreConnection | None = None
        self._opened = -1
        self._file_id: tuple[int, int] | None = None

    async def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``fn`` on one consistent snapshot and return its result; raises what ``fn`` raises.

        Raises:
            ReaderUnusable: nothing was read, or what was read cannot be trusted.
        """
        if not self._store.readable_elsewhere:
            raise ReaderUnusable
        if self._thread is None:
            thread = self._thread = SqliteThread(self._connect)
            self._starting = asyncio.create_task(thread.start())
        starting = self._starting
        if starting is not None:
            try:
                await asyncio.shield(starting)
            except (*SQLITE_RAISES, OSError) as exc:
                if self._starting is starting:
                    self._thread = self._starting = None
                raise ReaderUnusable from exc
            self._starting = None
        thread = self._thread
        if thread is None:
            raise ReaderUnusable
        return await thread.run(self._read, fn)

    async def close(self) -> None:
        """Close the connection; the next read opens another."""
        thread, starting = self._thread, self._starting
        self._thread = self._starting = None
        if starting is not None:
            await asyncio.wait((starting,))
            if starting.cancelled() or starting.exception() is not None:
                if thread is not None:
                    await thread.ended()
                await asyncio.to_thread(self._disconnect)
                return
        if thread is not None:
            await thread.run(self._disconnect)
            await thread.stop()

    def _connect(self) -> StoreConnection:
        assert self._store.path is not None
        self._disconnect()
        self._opened = self._store.opened
        self._conn = connect_reader(self._store.path, self._store.limits.wait_s)
        self._file_id = file_id(self._store.path)
        return self._conn

    def _disconnect(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.close()

    def _read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        try:
            conn = self._conn
            if conn is None or self._opened != self._store.opened:
                conn = self._connect()
            assert self._store.path is not None
            if file_id(self._store.path) != self._file_id:
                raise ReaderUnusable
            conn.execute("BEGIN")
            try:
                return fn(conn)
            finally:
                with contextlib.suppress(sqlite3.Error):
                    conn.execute("ROLLBACK")
        except (*SQLITE_RAISES, OSError) as exc:
            raise ReaderUnusable from exc
