"""The classifier against the real requests and httpx: each of their exception classes, and failures that they raise.

botocore is judged by its shape only (``tests/failures.py``): it is not installed here, and nothing of it is imported.
"""

from __future__ import annotations

import contextlib
import errno
import inspect
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpcore
import httpx
import pytest
import redis.exceptions
import requests
import urllib3.exceptions

from recovery.classify import Action, Category, Classifier, Verdict
from recovery.taxonomy.exceptions import TYPES, type_key
from tests.test_taxonomy import assert_is_a_verdict, bare

CLASSIFIER = Classifier()
ROOT = Path(__file__).resolve().parent.parent
C, A = Category, Action

LIBRARIES = {
    "requests": requests.exceptions,
    "urllib3": urllib3.exceptions,
    "httpx": httpx,
    "httpcore": httpcore,
    "redis": redis.exceptions,
}


def classes_of(module: ModuleType) -> list[type[BaseException]]:
    """Return the exception classes that a module shows."""
    found = [cls for cls in vars(module).values() if inspect.isclass(cls) and issubclass(cls, BaseException)]
    assert len(found) >= 10
    return found


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_exception_class_gets_exactly_one_verdict(library: str) -> None:
    """Even on an instance on which nothing is set."""
    for cls in classes_of(LIBRARIES[library]):
        assert_is_a_verdict(CLASSIFIER.classify(bare(cls)))


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_row_names_a_class_that_exists(library: str) -> None:
    """A misspelled name would be a row that never matches; httpcore shares the rows of httpx, and has fewer classes."""
    known = {type_key(cls) for cls in classes_of(LIBRARIES[library])}
    rows = {key for key in TYPES if key.partition(".")[0] == library}
    if library == "httpcore":
        of_httpx = {cls.__name__ for cls in classes_of(httpx)}
        rows = {row for row in rows if row.partition(".")[2] not in of_httpx}
    assert set() == rows - known


# ---- as they are raised ---------------------------------------------------------------------------------------------


class Server:
    """One socket that answers, or does not."""

    def __init__(self, behave: Callable[[socket.socket], None]) -> None:
        """``behave`` gets each connection in a thread."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._behave = behave
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, contextlib.suppress(OSError):
                    self._behave(connection)

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()


def answering(answer: bytes) -> Callable[[socket.socket], None]:
    """Return a behaviour: read the request, send these bytes, close."""

    def behave(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(answer)

    return behave


def silent(connection: socket.socket) -> None:
    """Read for ever."""
    while connection.recv(65_536):
        pass


def resetting(connection: socket.socket) -> None:
    """Close with a reset."""
    connection.recv(65_536)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"
CHUNKS_CUT = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
BUSY = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
GONE = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
LOOP = b"HTTP/1.1 302 Found\r\nLocation: /\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
NO_JSON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n{oops}"
SQUEEZED = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"


def with_requests(url: str) -> Any:
    """Fetch with requests, as programs do."""
    answer = requests.get(url, timeout=0.5, proxies={"http": "", "https": ""})
    answer.raise_for_status()
    return answer.json()


def with_httpx(url: str) -> Any:
    """Fetch with httpx, as programs do."""
    with httpx.Client(timeout=0.5, trust_env=False, follow_redirects=True) as client:
        answer = client.get(url)
        answer.raise_for_status()
        return answer.json()


def verdict_on(fetch: Callable[[str], Any], url: str) -> Verdict:
    """Return what the classifier says of the failure."""
    try:
        fetch(url)
    except Exception as exc:  # noqa: BLE001 - whatever the library raises
        return CLASSIFIER.classify(exc)
    pytest.fail("nothing was raised")


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket], None]], Server]]:
    """Start servers that end with the test."""
    servers: list[Server] = []

    def start(behave: Callable[[socket.socket], None]) -> Server:
        servers.append(Server(behave))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize("fetch", [with_requests, with_httpx])
@pytest.mark.parametrize(
    ("behave", "category", "action"),
    [
        (silent, C.TIMEOUT, A.RETRY),
        (resetting, C.CONNECTION, A.RETRY),
        (answering(b""), C.CONNECTION, A.RETRY_FRESH),
        (answering(CUT), C.INTERRUPTED, A.RETRY),
        (answering(CHUNKS_CUT), C.INTERRUPTED, A.RETRY),
        (answering(BUSY), C.THROTTLED, A.AFTER),
        (answering(GONE), C.GONE, A.FAIL),
        (answering(LOOP), C.BAD_REQUEST, A.FAIL),
        (answering(NO_JSON), C.REMOTE_DATA, A.RETRY),
        (answering(SQUEEZED), C.PROTOCOL, A.RETRY),
    ],
    ids=["silent", "reset", "hangs up", "cut", "chunks cut", "busy", "gone", "redirects", "no JSON", "bad gzip"],
)
def test_failures_as_the_libraries_raise_them(
    fetch: Callable[[str], Any],
    behave: Callable[[socket.socket], None],
    category: Category,
    action: Action,
    serve: Callable[[Callable[[socket.socket], None]], Server],
) -> None:
    """The same fault gets the same verdict, whichever library met it."""
    verdict = verdict_on(fetch, serve(behave).url)
    if behave not in {silent, resetting} and category is C.CONNECTION and fetch is with_httpx:
        category, action = C.INTERRUPTED, A.RETRY  # httpx says RemoteProtocolError for a cut and for nothing at all
    assert (verdict.category, verdict.action) == (category, action)
    if category is C.THROTTLED:
        assert verdict.retry_after_s == 7.0


@pytest.mark.parametrize("fetch", [with_requests, with_httpx])
@pytest.mark.parametrize(
    ("url", "category", "action"),
    [
        ("http://127.0.0.1:1/", C.CONNECTION, A.RETRY),
        ("http://nothing.invalid/", C.DNS, A.RETRY),
        ("nonsense", C.BAD_REQUEST, A.FAIL),
        ("gopher://h/", C.BAD_REQUEST, A.FAIL),
    ],
)
def test_failures_without_a_server(
    fetch: Callable[[str], Any], url: str, category: Category, action: Action, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused, unknown name, no URL at all."""

    def unknown(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    if "invalid" in url:
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
    verdict = verdict_on(fetch, url)
    assert (verdict.category, verdict.action) == (category, action)


@pytest.mark.parametrize("fetch", [with_requests, with_httpx])
def test_tls_to_a_port_without_tls_is_final(
    fetch: Callable[[str], Any], serve: Callable[[Callable[[socket.socket], None]], Server]
) -> None:
    """The same two ends would say the same again."""
    server = serve(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    verdict = verdict_on(fetch, server.url.replace("http://", "https://"))
    assert (verdict.category, verdict.action) == (C.TLS_PERMANENT, A.FAIL)


def test_too_many_open_files_is_parked_and_not_blamed_on_the_server() -> None:
    """urllib3 wraps EMFILE in three envelopes."""
    refused = OSError(errno.EMFILE, "Too many open files")
    inner = urllib3.exceptions.NewConnectionError(None, "x")  # type: ignore[arg-type]
    inner.__cause__ = refused
    exc = requests.ConnectionError(urllib3.exceptions.MaxRetryError(None, "/", inner))  # type: ignore[arg-type]
    assert CLASSIFIER.classify(exc).action is A.PARK


def test_none_of_them_is_imported_to_be_recognised() -> None:
    """A program without them pays nothing for the rows."""
    code = (
        "import recovery.classify, sys;"
        "print(*({'requests', 'urllib3', 'httpx', 'httpcore', 'botocore', 'aiohttp', 'kombu'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "\n"
