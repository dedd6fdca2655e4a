"""The public fakes and faults: they do what their names say, and leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.web
import pytest

from recovery import JOURNAL, Database, Journal, OperationSpec, RetryPolicy, Supervisor, recoverable
from recovery.health import Health
from recovery.switches import SWITCHES
from recovery.testing import (
    FakeClock,
    MemoryJournal,
    StoreTrouble,
    draws,
    failing,
    network_faults,
    no_waits,
    store_trouble,
)

SLOW = RetryPolicy(base=3_000.0, cap=3_000.0)


# ---- functions ------------------------------------------------------------------------------------------------------


async def test_a_function_fails_as_scripted_and_then_works() -> None:
    """Async stays async; None is a call that succeeds; types are raised as instances."""
    calls: list[int] = []

    async def work(number: int) -> int:
        calls.append(number)
        return number

    flaky = failing(work, TimeoutError, None, ConnectionResetError("x"))
    assert asyncio.iscoroutinefunction(flaky)
    outcomes: list[object] = []
    for number in range(4):
        try:
            outcomes.append(await flaky(number))
        except OSError as exc:
            outcomes.append(type(exc).__name__)
    assert outcomes == ["TimeoutError", 1, "ConnectionResetError", 3]
    assert calls == [1, 3]


def test_a_blocking_function_fails_as_scripted_too() -> None:
    """And keeps its name."""
    flaky = failing(len, ValueError)
    with pytest.raises(ValueError, match=r"^$"):
        flaky("abc")
    assert (flaky("abc"), flaky.__name__) == (3, "len")


@pytest.mark.parametrize("values", [(), (1.0,), (-0.1,), (0.5, float("nan"))], ids=str)
def test_a_draw_is_a_number_below_one(values: tuple[float, ...]) -> None:
    """As ``random.random`` gives them."""
    with pytest.raises(ValueError, match="a draw is a number"):
        draws(*values)


async def test_draws_make_waits_the_same_in_every_run() -> None:
    """In turn, over and over."""
    draw = draws(0.0, 0.5)
    assert [draw() for _ in range(4)] == [0.0, 0.5, 0.0, 0.5]
    clock = FakeClock(auto=True)

    async def work() -> None: ...

    decorate: Callable[..., Any] = recoverable(clock=clock, draw=draws(0.25), policy=RetryPolicy(base=8.0))
    await decorate(failing(work, TimeoutError))()
    assert clock.monotonic() == 2.0


# ---- waits ----------------------------------------------------------------------------------------------------------


async def run_in_memory(flaky: Callable[[], Awaitable[str]]) -> str:
    """Call it as a recoverable function."""
    decorate: Callable[..., Any] = recoverable(policy=SLOW)
    result: str = await decorate(flaky)()
    return result


async def run_supervised(flaky: Callable[[], Awaitable[str]]) -> str:
    """Give it to a supervisor, on the real clock."""
    supervisor = Supervisor(MemoryJournal(), draw=random.random)
    return await supervisor.run(OperationSpec(kind="test", key="x", policy=SLOW), lambda _: flaky())


@pytest.mark.parametrize("run", [run_in_memory, run_supervised])
async def test_nobody_sleeps_between_attempts(run: Callable[..., Awaitable[str]]) -> None:
    """Waits of hours and conditions that take long: over at once, and switched back afterwards."""

    async def work() -> str:
        return "done"

    with no_waits():
        full = OSError(errno.ENOSPC, "full")
        async with asyncio.timeout(10):
            assert await run(failing(work, TimeoutError, full, ConnectionResetError)) == "done"
    assert (SWITCHES.waits, SWITCHES.most_attempts) == (True, None)


@pytest.mark.parametrize("run", [run_in_memory, run_supervised])
async def test_retrying_can_be_switched_off(run: Callable[..., Awaitable[str]]) -> None:
    """One attempt: the first error is the test's to see; nested, the inner switch counts."""

    async def work() -> str:
        return "done"

    with no_waits(attempts=1):
        with pytest.raises(TimeoutError):
            await run(failing(work, TimeoutError))
        with no_waits(attempts=2):
            assert await run(failing(work, TimeoutError)) == "done"
        assert SWITCHES.most_attempts == 1


def test_blocking_functions_do_not_sleep_either() -> None:
    """Hours would be noticed."""
    begun = time.monotonic()

    def work() -> str:
        return "done"

    decorate: Callable[..., Any] = recoverable(policy=SLOW, draw=draws(0.9))
    with no_waits():
        assert decorate(failing(work, TimeoutError))() == "done"
    assert time.monotonic() - begun < 60


# ---- network --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Serve a kilobyte at every path."""

    async def answer(_: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(body=b"x" * 1_000)

    app = aiohttp.web.Application()
    app.router.add_get("/", answer)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    yield site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    await runner.cleanup()


async def fetch(port: int, host: str = "127.0.0.1") -> int:
    """Fetch with aiohttp; return how many bytes came."""
    async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/") as answer:
        return len(await answer.read())


async def test_connections_fail_and_work_again(port: int) -> None:
    """As often as was said; after the block everything is as before."""
    with network_faults(ConnectionRefusedError(errno.ECONNREFUSED, "refused"), times=2) as faults:
        for _ in range(2):
            with pytest.raises(aiohttp.ClientConnectorError):
                await fetch(port)
        assert await fetch(port) == 1_000
        assert faults.met == 2
    assert await fetch(port) == 1_000


@pytest.mark.parametrize(
    ("hosts", "fails"),
    [
        (None, True),
        (["127.0.0.1"], True),
        (["localhost"], True),
        (["localhost:{port}"], True),
        (["localhost:1"], False),
        (["example.org"], False),
        ([], False),
    ],
    ids=str,
)
async def test_only_the_hosts_that_were_named_fail(port: int, hosts: list[str] | None, *, fails: bool) -> None:
    """By name, by address, with or without a port."""
    named = None if hosts is None else [host.format(port=port) for host in hosts]
    with network_faults(ConnectionResetError, hosts=named) as faults, contextlib.suppress(OSError):
        assert await fetch(port, "localhost") == 1_000
    assert fails is (faults.met > 0)


async def test_names_that_cannot_be_looked_up(port: int) -> None:
    """A resolver's failure, and only for the name that was given."""
    unknown = socket.gaierror(socket.EAI_NONAME, "unknown")
    with network_faults(unknown, hosts=["localhost"]) as faults:
        with pytest.raises(aiohttp.ClientConnectorDNSError):
            await fetch(port, "localhost")
        assert await fetch(port) == 1_000
    assert faults.met == 1


async def test_connections_that_break_in_the_middle(port: int) -> None:
    """After so many bytes; what breaks is the transfer, not the connect."""
    with network_faults(ConnectionResetError, cut_after=600, times=1) as faults:
        with pytest.raises(aiohttp.ClientPayloadError):
            await fetch(port)
        assert await fetch(port) == 1_000
    assert faults.met == 1


class Echo:
    """A blocking client and its server, without asyncio."""

    def __init__(self) -> None:
        """Listen."""
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(b"x" * 100)

    def read(self, *, into: bool = False) -> int:
        """Connect and read to the end."""
        got = 0
        with socket.create_connection(self.listener.getsockname(), timeout=10) as sock:
            buffer = bytearray(10)
            while count := sock.recv_into(buffer) if into else len(sock.recv(10)):
                got += count
        return got


@pytest.fixture
def echo() -> Iterator[Echo]:
    """Return a server that ends with the test."""
    made = Echo()
    yield made
    made.listener.close()


@pytest.mark.parametrize("into", [False, True])
def test_blocking_sockets_are_concerned_too(echo: Echo, *, into: bool) -> None:
    """Connect and read."""
    with network_faults(ConnectionResetError, times=1), pytest.raises(ConnectionResetError):
        echo.read()
    with network_faults(ConnectionResetError, cut_after=50), pytest.raises(ConnectionResetError):
        echo.read(into=into)
    with network_faults(ConnectionResetError, hosts=["elsewhere"], cut_after=50):
        assert echo.read(into=into) == 100


def test_connect_ex_returns_the_number(echo: Echo) -> None:
    """As the real one does; an error without a number is raised."""
    address = echo.listener.getsockname()
    with socket.socket() as sock, network_faults(ConnectionRefusedError(errno.ECONNREFUSED, "x")):
        assert sock.connect_ex(address) == errno.ECONNREFUSED
    with socket.socket() as sock, network_faults(TimeoutError), pytest.raises(TimeoutError):
        sock.connect_ex(address)
    with socket.socket() as sock, network_faults(TimeoutError, hosts=[]):
        assert sock.connect_ex(address) == 0


def test_sockets_of_other_families_are_left_alone() -> None:
    """Programs talk to themselves."""
    with network_faults(ConnectionResetError, cut_after=0):
        left, right = socket.socketpair()
        with left, right:
            left.sendall(b"x")
            assert right.recv(1) == b"x"


def test_names_may_be_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """``socket.getaddrinfo`` takes them."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    with network_faults(socket.gaierror(socket.EAI_AGAIN, "x"), hosts=["h"]) as faults:
        with pytest.raises(socket.gaierror):
            socket.getaddrinfo(b"h", 80)
        assert socket.getaddrinfo("other", 80) == []
    assert faults.met == 1


# ---- the state file -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", list(StoreTrouble))
async def test_the_operation_goes_on_whatever_ails_the_store(trouble: StoreTrouble, state_path: Path) -> None:
    """Each trouble as SQLite reports it; afterwards the file works again and knows what happened meanwhile."""
    async with await Database.open(state_path, [JOURNAL], clock=FakeClock()) as database:
        journal = Journal(database)

        @recoverable(journal=journal, key="{name}", kind="test")
        async def work(name: str) -> str:
            return name

        await work("before")
        async with store_trouble(database, trouble.value):
            assert await work("meanwhile") == "meanwhile"
            assert database.health_reason
        assert database.health is Health.OK
        row = await journal.find("test", "meanwhile")
        assert row is not None
    async with await Database.open(state_path, [JOURNAL]) as database:
        assert await Journal(database).find("test", "meanwhile") is not None


async def test_a_database_in_memory_cannot_be_broken() -> None:
    """There is no file."""
    async with await Database.open(None, [JOURNAL]) as database:
        with pytest.raises(ValueError, match="no file to break"):
            async with store_trouble(database, "full"):
                pass
        with pytest.raises(ValueError, match="nonsense"):
            async with store_trouble(database, "nonsense"):
                pass
