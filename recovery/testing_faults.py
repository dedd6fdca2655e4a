"""Faults for the tests of programs that use this package: in functions, in the network, in the state file.

Everything here is a context manager or a wrapper, and undoes itself; ``recovery.testing`` shows it to the public.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import os
import socket
import sqlite3
import weakref
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from enum import StrEnum
from typing import Any, ParamSpec, TypeVar
from unittest import mock

from recovery.database import Database
from recovery.switches import SWITCHES

__all__ = ["NetworkFaults", "StoreTrouble", "draws", "failing", "network_faults", "no_waits", "store_trouble"]

P = ParamSpec("P")
R = TypeVar("R")

ErrorSource = BaseException | type[BaseException]


@contextmanager
def no_waits(*, attempts: int | None = None) -> Iterator[None]:
    """Let nobody in this process sleep between two attempts; ``attempts`` limits them in place of every policy.

    For recoverable functions and supervisors alike, whatever clock they have; times in events and rows stay those that
    were decided upon. ``attempts=1`` switches retrying off.
    """
    before = SWITCHES.waits, SWITCHES.most_attempts
    SWITCHES.waits, SWITCHES.most_attempts = False, attempts
    try:
        yield
    finally:
        SWITCHES.waits, SWITCHES.most_attempts = before


def draws(*values: float) -> Callable[[], float]:
    """Return a ``draw`` that gives these numbers in turn, over and over: jitter that is the same in every run.

    Raises:
        ValueError: no number, or one that is not in [0, 1).
    """
    if not values or not all(0.0 <= value < 1.0 for value in values):
        raise ValueError("a draw is a number in [0, 1), and at least one is needed")
    endless = itertools.cycle(values)
    return lambda: next(endless)


def failing(function: Callable[P, R], *errors: ErrorSource | None) -> Callable[P, R]:
    """Return ``function`` as it would be on a bad day: its first calls raise these errors (None: that call succeeds).

    An async function stays one; it raises when it is awaited.
    """
    script = list(errors)

    def next_error() -> BaseException | None:
        error = script.pop(0) if script else None
        return error() if isinstance(error, type) else error

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def failing_later(*args: P.args, **kwargs: P.kwargs) -> Any:
            await asyncio.sleep(0)
            error = next_error()
            if error is not None:
                raise error
            return await function(*args, **kwargs)

        return failing_later  # type: ignore[return-value]  # R is its coroutine

    @functools.wraps(function)
    def failing_now(*args: P.args, **kwargs: P.kwargs) -> R:
        error = next_error()
        if error is not None:
            raise error
        return function(*args, **kwargs)

    return failing_now


# ---- network --------------------------------------------------------------------------------------------------------


class NetworkFaults:
    """What ``network_faults`` does to sockets; ``met`` counts the faults that somebody ran into."""

    def __init__(
        self, error: ErrorSource, hosts: Collection[str] | None, times: int | None, cut_after: int | None
    ) -> None:
        """See ``network_faults``."""
        self.met = 0
        self._error = error
        self._hosts = None if hosts is None else frozenset(hosts)
        self._times = times
        self._cut_after = cut_after
        self._names: dict[str, set[str]] = {}
        self._left: weakref.WeakKeyDictionary[socket.socket, int] = weakref.WeakKeyDictionary()

    def on_lookup(self, host: object, addresses: Callable[[], list[Any]]) -> list[Any]:
        """Look a name up, or fail; remember whose addresses these are."""
        name = host.decode() if isinstance(host, bytes) else str(host)
        kind = self._error if isinstance(self._error, type) else type(self._error)
        if issubclass(kind, socket.gaierror) and self._concerns({name}):
            self._fail()
        found = addresses()
        for *_, address in found:
            self._names.setdefault(str(address[0]), set()).add(name)
        return found

    def on_connect(self, sock: socket.socket, address: Any) -> None:
        """Fail, if this connection is to fail; remember it, if it is to break later."""
        if not self._is_ours(sock, address):
            return
        if self._cut_after is None:
            self._fail()
        self._left[sock] = self._cut_after or 0

    def most(self, sock: socket.socket, wanted: int) -> int:
        """Return how many bytes may be received now; fails when it is time to break."""
        left = self._left.get(sock)
        if left is None or self._is_over:
            return wanted
        if left == 0:
            self._fail()
        return min(wanted, left)

    def received(self, sock: socket.socket, count: int) -> None:
        """Count what came."""
        if sock in self._left:
            self._left[sock] = max(0, self._left[sock] - count)

    @property
    def _is_over(self) -> bool:
        return self._times is not None and self.met >= self._times

    def _is_ours(self, sock: socket.socket, address: Any) -> bool:
        if sock.family not in {socket.AF_INET, socket.AF_INET6}:
            return False
        host, port = str(address[0]), address[1]
        names = {host} | self._names.get(host, set())
        return self._concerns(names | {f"{name}:{port}" for name in names})

    def _concerns(self, names: set[str]) -> bool:
        return not self._is_over and (self._hosts is None or not names.isdisjoint(self._hosts))

    def _fail(self) -> None:
        self.met += 1
        raise self._error() if isinstance(self._error, type) else self._error


@contextmanager
def network_faults(
    error: ErrorSource = ConnectionRefusedError,
    *,
    hosts: Collection[str] | None = None,
    times: int | None = None,
    cut_after: int | None = None,
) -> Iterator[NetworkFaults]:
    """Make connections fail: with ``error``, to these hosts (``name``, ``address`` or either with ``:port``), so often.

    A ``socket.gaierror`` fails the look-up of the name instead. With ``cut_after`` connections succeed, and break with
    ``error`` after exactly that many bytes have been received. Connections that are made in the block by Python's own
    sockets are concerned, also under asyncio and what is built upon it; not those of C code (uvloop), nor the bytes of
    blocking TLS.
    """
    faults = NetworkFaults(error, hosts, times, cut_after)
    real_lookup = socket.getaddrinfo
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex
    recv, recv_into = socket.socket.recv, socket.socket.recv_into

    def faulty_lookup(host: Any, *args: Any, **kwargs: Any) -> list[Any]:
        return faults.on_lookup(host, lambda: real_lookup(host, *args, **kwargs))

    def faulty_connect(sock: socket.socket, address: Any) -> None:
        faults.on_connect(sock, address)
        connect(sock, address)

    def faulty_connect_ex(sock: socket.socket, address: Any) -> int:
        try:
            faults.on_connect(sock, address)
        except OSError as exc:
            if exc.errno is None:
                raise
            return exc.errno
        return connect_ex(sock, address)

    def faulty_recv(sock: socket.socket, size: int, flags: int = 0) -> bytes:
        data = recv(sock, faults.most(sock, size), flags)
        faults.received(sock, len(data))
        return data

    def faulty_recv_into(sock: socket.socket, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        count = recv_into(sock, buffer, faults.most(sock, nbytes or memoryview(buffer).nbytes), flags)
        faults.received(sock, count)
        return count

    with (
        mock.patch.object(socket, "getaddrinfo", faulty_lookup),
        mock.patch.object(socket.socket, "connect", faulty_connect),
        mock.patch.object(socket.socket, "connect_ex", faulty_connect_ex),
        mock.patch.object(socket.socket, "recv", faulty_recv),
        mock.patch.object(socket.socket, "recv_into", faulty_recv_into),
    ):
        yield faults


# ---- the state file -------------------------------------------------------------------------------------------------


class StoreTrouble(StrEnum):
    """What may be wrong with a state file."""

    READ_ONLY = "read-only"
    FULL = "full"
    IO_ERROR = "io-error"
    LOCKED = "locked"
    DAMAGED = "damaged"
    DELETED = "deleted"


_CODES = {
    StoreTrouble.READ_ONLY: sqlite3.SQLITE_READONLY,
    StoreTrouble.FULL: sqlite3.SQLITE_FULL,
    StoreTrouble.IO_ERROR: sqlite3.SQLITE_IOERR_WRITE,
    StoreTrouble.LOCKED: sqlite3.SQLITE_BUSY,
    StoreTrouble.DAMAGED: sqlite3.SQLITE_CORRUPT,
}


@asynccontextmanager
async def store_trouble(database: Database, trouble: StoreTrouble | str) -> AsyncIterator[None]:
    """Break the state file of an open database, as SQLite would report it; what is written meanwhile is kept in memory.

    ``database.health`` says so. At the end of the block, or when its backoff is over, the database tries the file
    again and catches up. DAMAGED and DELETED it mends at once, by beginning a new file.

    Raises:
        ValueError: no such trouble, or the database has no file.
    """
    kind, path = StoreTrouble(trouble), database.path
    if path is None:
        raise ValueError("a database in memory has no file to break")
    if kind is StoreTrouble.DELETED:
        await asyncio.to_thread(os.unlink, path)
    else:
        await database.write(_raising_once(_CODES[kind], kind.value))
    try:
        yield
    finally:
        await database.probe()


def _raising_once(code: int, name: str) -> Callable[[sqlite3.Connection], None]:
    """Return a write function that fails as SQLite does; it is run again elsewhere, and must succeed there."""
    error = sqlite3.OperationalError(f"{name} (a fault for a test)")
    error.sqlite_errorcode = code
    pending = [error]

    def write(_: sqlite3.Connection) -> None:
        if pending:
            raise pending.pop()

    return write
