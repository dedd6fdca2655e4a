"""The connection for reads, in a thread of its own, so that a slow report never delays a checkpoint.

A convenience, not a necessity: whenever it cannot serve (no WAL, no file, a fault) it says so and the writer reads
instead. It therefore judges nothing; the writer meets the same fault and acts.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

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
        self._asked: deque[_Question] = deque()

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
        question = _Question(fn)
        self._asked.append(question)
        await thread.run(self._answer)
        if question.open:
            raise ReaderUnusable  # whose turn it was has failed in a way of his own, and heard of it
        if question.error is not None:
            raise question.error
        answer: T = question.answer
        return answer

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

    def _answer(self) -> None:
        """Answer everybody who asks by now on one snapshot: the first one's turn is the others', too."""
        asked = [self._asked.popleft() for _ in range(len(self._asked))]
        if not asked:
            return
        try:
            conn = self._current()
            conn.execute("BEGIN")
            try:
                for question in asked:
                    question.put_to(conn)
            finally:
                with contextlib.suppress(sqlite3.Error):
                    conn.execute("ROLLBACK")
        except (*SQLITE_RAISES, OSError, ReaderUnusable) as exc:
            for question in asked:
                if question.open:
                    question.fail(exc)

    def _current(self) -> StoreConnection:
        conn = self._conn
        if conn is None or self._opened != self._store.opened:
            conn = self._connect()
        assert self._store.path is not None
        if file_id(self._store.path) != self._file_id:
            raise ReaderUnusable
        return conn


class _Question:
    """A function to run on a snapshot, and what became of it."""

    __slots__ = ("answer", "error", "fn", "open")

    def __init__(self, fn: Callable[[sqlite3.Connection], Any]) -> None:
        self.fn = fn
        self.open = True
        self.answer: Any = None
        self.error: BaseException | None = None

    def put_to(self, conn: sqlite3.Connection) -> None:
        try:
            self.answer, self.open = self.fn(conn), False
        except (*SQLITE_RAISES, OSError) as exc:
            self.fail(exc)
        except BaseException as exc:  # noqa: BLE001 - the edge to the callers' functions: each hears of its own
            self.error, self.open = exc, False

    def fail(self, cause: Exception) -> None:
        self.error, self.open = ReaderUnusable(), False
        self.error.__cause__ = cause
