"""Connections begun beforehand: used where they fit, replaced where they do not, closed where nobody came."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resumable import preconnect
from resumable.certificates import tls_context
from resumable.preconnect import Preconnect
from resumable.transport import AiohttpTransport
from resumable_ui import beforehand, running
from resumable_ui.arguments import Arguments
from tests.command import environment, run
from tests.fetching import ask, fetch
from tests.origin import Content, Origin
from tests.servers import authority

MIB = 1 << 20
URL = "http://origin.example:8080/folder/file.bin?sig=secret"


@pytest.fixture
def origin() -> Iterator[Origin]:
    """An origin with one small file."""
    with Origin() as running:
        running.put("/file", b"content")
        yield running


def soon(holds: Callable[[], bool]) -> None:
    """Wait until something holds; fail where it never does."""
    until = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.005)


def port_of(origin: Origin) -> int:
    """Return the port of an origin."""
    return int(origin.url("").rpartition(":")[2].rstrip("/"))


@pytest.mark.blocking
async def test_the_first_request_takes_the_connection_that_was_begun(origin: Origin) -> None:
    """One connection in all, and what nobody takes is closed with the transport."""
    begun = Preconnect("127.0.0.1", port_of(origin), count=2)
    soon(lambda: origin.connections == 2)
    transport = AiohttpTransport(environ={}, preconnect=begun)
    outcome = await fetch(transport, ask(origin.url("/file")))
    assert (outcome.body, origin.connections, len(origin.requests)) == (b"content", 2, 1)
    await transport.close()
    soon(lambda: origin.open_connections == 0)


@pytest.mark.blocking
@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"])
async def test_one_that_the_server_gave_up_is_replaced(says: bytes) -> None:
    """Closed before its use, with or without a word: the request goes over a new one, at the first try."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        begun = Preconnect("127.0.0.1", port, count=1)
        first, _ = listening.accept()
        first.sendall(says)
        first.close()

        def answer() -> bytes:
            second, _ = listening.accept()
            with second:
                asked = second.recv(65536)
                second.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ncontent")
                return asked

        answering = asyncio.create_task(asyncio.to_thread(answer))
        transport = AiohttpTransport(environ={}, preconnect=begun)
        outcome = await fetch(transport, ask(f"http://127.0.0.1:{port}/file"))
        await transport.close()
        assert (outcome.body, (await answering)[:10]) == (b"content", b"GET /file ")


@pytest.mark.blocking
async def test_a_connection_that_goes_elsewhere_is_left_alone(origin: Origin) -> None:
    """The address that the resolver gives for the request decides, not the name."""
    begun = Preconnect("127.0.0.1", port_of(origin), count=1)
    soon(lambda: origin.connections == 1)
    assert begun.take(socket.AF_INET, ("127.0.0.2", port_of(origin))) is None
    assert begun.take(socket.AF_INET6, ("127.0.0.1", port_of(origin))) is None
    found: list[socket.socket] = []

    def kept() -> bool:  # the server may know of it a moment before the thread that began it
        taken = begun.take(socket.AF_INET, ("127.0.0.1", port_of(origin)))
        found.extend([] if taken is None else [taken])
        return bool(found)

    soon(kept)
    (taken,) = found
    taken.connect(("127.0.0.1", port_of(origin)))
    taken.connect(("127.0.0.1", port_of(origin)))  # a second time it is no error either
    taken.close()
    begun.close()


@pytest.mark.blocking
@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
async def test_a_server_that_is_not_there_is_somebody_elses_news(host: str) -> None:
    """Nothing is raised and nothing is kept; the request finds out for itself."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
    begun = Preconnect(host, address[1], count=3)
    time.sleep(0.05)
    assert begun.take(socket.AF_INET, address) is None
    begun.close()


@pytest.mark.blocking
def test_closed_while_the_name_is_looked_up_it_keeps_nothing(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver may take longer than the whole command."""
    closed: list[Preconnect] = []

    def slow(*_: object, **__: object) -> list[object]:
        soon(lambda: bool(closed))
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port_of(origin)))]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    begun = Preconnect("127.0.0.1", port_of(origin), count=2)
    begun.close()
    closed.append(begun)
    soon(lambda: origin.connections > 0 and origin.open_connections == 0)
    assert begun.take(socket.AF_INET, ("127.0.0.1", port_of(origin))) is None


@pytest.mark.blocking
async def test_one_that_nobody_asks_for_is_not_kept(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that follows another process, or waits, asks for none: it is closed after a while, request or not;
    nor is one taken that is as old.
    """
    monkeypatch.setattr(preconnect, "SPARE_S", 0.05)
    begun = Preconnect("127.0.0.1", port_of(origin), count=1)
    soon(lambda: origin.connections == 1)
    time.sleep(0.1)
    assert begun.take(socket.AF_INET, ("127.0.0.1", port_of(origin))) is None
    soon(lambda: origin.open_connections == 0)
    begun = Preconnect("127.0.0.1", port_of(origin), count=1)
    soon(lambda: origin.connections == 2)
    async with running._transport(begun):
        await origin.until(lambda: origin.open_connections == 0)


@pytest.mark.blocking
async def test_certificates_are_read_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And verify: what is read beforehand trusts whom the environment names, and nobody else."""
    ca = authority(tmp_path)
    with Origin(tls=ca.context("127.0.0.1")) as origin:
        origin.put("/file", b"content")
        for named, trusted in ((True, True), (False, False)):
            with monkeypatch.context() as patch:
                if named:
                    patch.setenv("SSL_CERT_FILE", str(ca.ca_file))
                begun = Preconnect("127.0.0.1", port_of(origin), count=1, tls=True)
                assert begun.tls() is not None
            transport = AiohttpTransport(environ={}, preconnect=begun)
            outcome = await fetch(transport, ask(origin.url("/file")))
            await transport.close()
            assert (outcome.body == b"content", outcome.error is None) == (trusted, trusted)
    assert origin.connections == 2


def test_only_the_import_of_the_http_stack_reads_no_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that makes a context at the same time gets a whole one; afterwards everybody does."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority(tmp_path).ca_file))
    made: list[ssl.SSLContext] = []
    with running._certificates_unread():
        making = threading.Thread(target=lambda: made.append(tls_context()))
        making.start()
        unread = tls_context()
        making.join()
    read = tls_context()
    assert read.cert_store_stats()["x509_ca"] > 0
    assert unread.cert_store_stats()["x509_ca"] == 0
    assert made[0].cert_store_stats() == read.cert_store_stats()


# -- when the command begins any ---------------------------------------------------------------------------------------


def get(*urls: str, **more: object) -> Arguments:
    """Return the arguments of a ``get``."""
    return Arguments(command="get", urls=urls or (URL,), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "environ", "there", "expected"),
    [
        (get(), {}, {}, ("origin.example", 8080, 1)),
        (get("https://origin.example/a"), {}, {}, ("origin.example", 443, 1)),
        (get("http://user:pass@origin.example/a"), {}, {}, ("origin.example", 80, 1)),
        (get(), {}, {"file.bin.part": 5 * MIB}, ("origin.example", 8080, 4)),
        (get(out="x", connections=7), {}, {"x.part": 5 * MIB}, ("origin.example", 8080, 7)),
        (get(out="x", connections=7), {}, {"x.part": MIB}, ("origin.example", 8080, 1)),
        (get(restart=True), {}, {"file.bin.part": 5 * MIB}, ("origin.example", 8080, 1)),
        (get(), {}, {"file.bin": 1}, ("origin.example", 8080, 1)),  # the origin is asked whether it is still that one
        (get(sha256="0" * 64), {}, {"file.bin": 1}, None),
        (get(sha256="0" * 64, restart=True), {}, {"file.bin": 1}, ("origin.example", 8080, 1)),
        (get(no_clobber=True), {}, {"file.bin": 1}, None),
        (get(no_clobber=True), {}, {}, ("origin.example", 8080, 1)),
        (get(), {"HTTPS_PROXY": "http://proxy"}, {}, None),
        (get(), {"all_proxy": "http://proxy"}, {}, None),
        (get(), {"http_proxy": ""}, {}, ("origin.example", 8080, 1)),
        (get("http://b\u00fccher.example/a"), {}, {}, None),
        (get(URL, URL + "2"), {}, {}, None),
        (get(lists=("list",)), {}, {}, None),
        (Arguments(command="resume"), {}, {}, None),
        (Arguments(command="status"), {}, {}, None),
    ],
)
def test_only_a_command_that_will_ask_begins_connections(
    arguments: Arguments,
    environ: dict[str, str],
    there: dict[str, int],
    expected: tuple[str, int, int] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One, or as many as a large file is fetched with where a part of it is there; none by way of a proxy."""
    monkeypatch.chdir(tmp_path)
    for name, size in there.items():
        with open(name, "wb") as file:
            file.truncate(size)
    asked: list[tuple[str, int, int]] = []
    secure: list[bool] = []

    def note(host: str, port: int, *, count: int, tls: bool) -> None:
        asked.append((host, port, count))
        secure.append(tls)

    monkeypatch.setattr(beforehand, "Preconnect", note)
    beforehand.preconnect(arguments, environ)
    assert ([] if expected is None else [expected]) == asked
    assert secure == [one.startswith("https:") for one in arguments.urls[: len(asked)]]


# -- the command as a process ------------------------------------------------------------------------------------------


@pytest.mark.blocking
def test_a_command_needs_one_connection_for_a_small_file(origin: Origin, tmp_path: Path) -> None:
    """The one that was begun, and nothing of it is left over or complained of."""
    ended = run("get", origin.url("/file"), "-q", "--state", "state.db", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert (origin.connections, origin.open_connections, len(origin.requests)) == (1, 0, 1)


@pytest.mark.blocking
@pytest.mark.parametrize("words", [[], ["--sha256", "0" * 63]], ids=["no link", "no digest"])
def test_a_wrong_command_line_connects_to_nobody(origin: Origin, tmp_path: Path, words: list[str]) -> None:
    """It is checked before."""
    links = [origin.url("/file")] if words else []
    assert run("get", *links, *words, cwd=tmp_path).code == 2
    assert origin.connections == 0


@pytest.mark.blocking
def test_the_process_ends_with_its_code_and_what_others_want_done(tmp_path: Path) -> None:
    """Without taking its modules apart; hooks that were registered before the command, as coverage does, still run."""
    code = (
        "import atexit, sys; atexit.register(print, 'last words')\n"
        "from resumable.__main__ import command\n"
        "sys.exit(command())\n"
    )
    environ = {name: value for name, value in environment().items() if name != "PYTHONWARNINGS"}
    for words, expected in ((["--version"], 0), (["get"], 2)):
        ended = subprocess.run(
            [sys.executable, "-c", code, *words], env=environ, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (expected, "last words") == (ended.returncode, ended.stdout.strip().splitlines()[-1])


@pytest.mark.blocking
def test_large_file_is_right_where_a_run_was_killed(tmp_path: Path) -> None:
    """The next one begins several connections, and its file is the right one."""
    content = Content(12 * MIB, seed=5)
    with Origin() as origin:
        origin.put("/big.bin", content)
        with open(tmp_path / "big.bin.part", "wb") as file:
            file.truncate(5 * MIB)
        ended = run("get", origin.url("/big.bin"), "-o", "big.bin", "-q", "--state", "state.db", cwd=tmp_path)
        assert (0, content.read(0, content.size)) == (ended.code, (tmp_path / "big.bin").read_bytes())
        assert origin.connections == 4
