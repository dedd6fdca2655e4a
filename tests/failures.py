"""Failures as the libraries raise them, made by hand: the rows of research/recovery.md section 4, one example each."""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import ftplib
import http.client
import imaplib
import json
import multiprocessing
import poplib
import smtplib
import socket
import sqlite3
import ssl
import subprocess
import urllib.error
import xmlrpc.client
from email.message import Message
from types import SimpleNamespace
from typing import Any, NamedTuple

import aiohttp
import aiohttp.client_exceptions
import aiohttp.http_exceptions
from aiohttp.client_reqrep import ConnectionKey, RequestInfo
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from recovery.classify import Action, Category, Condition, Verdict
from recovery.gate import HostGateOpen
from recovery.invalid import InvalidInput
from recovery.policy import DeadlineExceeded
from recovery.taxonomy import machine, network, origin


def foreign(
    path: str, *args: Any, bases: tuple[type[BaseException], ...] = (Exception,), **facts: Any
) -> BaseException:
    """Return an exception of a library that is not installed here, by its shape: module, name, attributes."""
    module, _, name = path.rpartition(".")
    exc: BaseException = type(name, bases, {"__module__": module})(*args)
    for fact, value in facts.items():
        setattr(exc, fact, value)
    return exc


def caused(exc: BaseException, cause: BaseException) -> BaseException:
    """Return ``exc`` as if raised ``from cause``."""
    exc.__cause__ = cause
    return exc


def declared(verdict: Verdict) -> BaseException:
    """Return an exception that says itself what it is, as ``resumable`` does for what only it can recognise."""
    return foreign("elsewhere.Declared", recovery_hint=verdict)


def numbered(number: int) -> OSError:
    """Return the OSError the system raises for this errno."""
    return OSError(number, "text that nobody may look at")


KEY = ConnectionKey("cdn.example", 443, True, True, None, None, None)
REQUEST = RequestInfo(URL("https://cdn.example/f"), "GET", CIMultiDictProxy(CIMultiDict()))


def connector(
    os_error: OSError, cls: type[aiohttp.ClientConnectorError] = aiohttp.ClientConnectorError
) -> BaseException:
    """Return aiohttp's envelope around a failed connect."""
    return caused(cls(KEY, os_error), os_error)


def answered(
    status: int, cls: type[aiohttp.ClientResponseError] = aiohttp.ClientResponseError, **headers: str
) -> BaseException:
    """Return aiohttp's exception for an answer with this status."""
    return cls(REQUEST, (), status=status, headers=CIMultiDict({k.replace("_", "-"): v for k, v in headers.items()}))


def tls(reason: str | None, cls: type[ssl.SSLError] = ssl.SSLError) -> ssl.SSLError:
    """Return an SSLError as OpenSSL makes it: errno 1 is SSL_ERROR_SSL, the reason a symbol."""
    exc = cls(1, "text that nobody may look at")
    if reason is not None:
        exc.reason = reason
    return exc


def sqlite(code: int | None, cls: type[sqlite3.Error] = sqlite3.OperationalError) -> sqlite3.Error:
    """Return an exception of SQLite with its extended result code."""
    exc = cls("text that nobody may look at")
    if code is not None:
        exc.sqlite_errorcode = code
    return exc


class Row(NamedTuple):
    """One example of one row of the taxonomy (research/recovery.md section 4)."""

    name: str
    exc: BaseException
    category: Category
    action: Action
    limit: int | None = None
    condition: Condition | None = None


C, A = Category, Action

CONTROL_FLOW = [
    Row("asyncio cancel", asyncio.CancelledError(), C.CONTROL, A.PROPAGATE),
    Row("Ctrl-C", KeyboardInterrupt(), C.CONTROL, A.PROPAGATE),
    Row("exit", SystemExit(1), C.CONTROL, A.PROPAGATE),
    Row("generator closed", GeneratorExit(), C.CONTROL, A.PROPAGATE),
    Row("future cancelled", concurrent.futures.CancelledError(), C.CONTROL, A.PROPAGATE),
    Row("soft time limit", foreign("billiard.exceptions.SoftTimeLimitExceeded"), C.CONTROL, A.PROPAGATE),
    Row("celery Retry", foreign("celery.exceptions.Retry"), C.CONTROL, A.PROPAGATE),
    Row("celery Ignore", foreign("celery.exceptions.Ignore"), C.CONTROL, A.PROPAGATE),
    Row("celery Reject", foreign("celery.exceptions.Reject"), C.CONTROL, A.PROPAGATE),
    Row("gevent Timeout", foreign("gevent.timeout.Timeout", bases=(BaseException,)), C.CONTROL, A.PROPAGATE),
    Row("paused", foreign("recovery.endings.OperationPaused"), C.CONTROL, A.PROPAGATE),
    Row("cancelled download", foreign("resumable.errors.DownloadCancelled"), C.CONTROL, A.PROPAGATE),
    Row("fenced", foreign("recovery.journal.Fenced"), C.LOST_RACE, A.PROPAGATE),
    Row("lease lost", foreign("resumable.errors.LeaseLost"), C.LOST_RACE, A.PROPAGATE),
]

NETWORK = [
    Row("bare TimeoutError, errno None", TimeoutError(), C.TIMEOUT, A.RETRY),
    Row("aiohttp ServerTimeoutError", aiohttp.ServerTimeoutError(), C.TIMEOUT, A.RETRY),
    Row("aiohttp SocketTimeoutError", aiohttp.SocketTimeoutError(), C.TIMEOUT, A.RETRY),
    Row("aiohttp ConnectionTimeoutError", aiohttp.ConnectionTimeoutError(), C.TIMEOUT, A.RETRY),
    Row("ETIMEDOUT", numbered(errno.ETIMEDOUT), C.TIMEOUT, A.RETRY),
    Row("connect ETIMEDOUT", connector(numbered(errno.ETIMEDOUT)), C.TIMEOUT, A.RETRY),
    Row("own deadline", DeadlineExceeded(), C.DEADLINE, A.FAIL),
    Row("aiohttp ServerDisconnectedError", aiohttp.ServerDisconnectedError(), C.CONNECTION, A.RETRY_FRESH),
    Row("http.client RemoteDisconnected", http.client.RemoteDisconnected(""), C.CONNECTION, A.RETRY_FRESH),
    Row("aiohttp ClientOSError", aiohttp.ClientOSError(errno.ECONNRESET, "x"), C.CONNECTION, A.RETRY),
    Row("aiohttp ClientOSError, no errno", aiohttp.ClientOSError(), C.CONNECTION, A.RETRY),
    Row("aiohttp ClientConnectorError", connector(numbered(errno.ECONNREFUSED)), C.CONNECTION, A.RETRY),
    Row("happy eyeballs, no errno", connector(OSError("Multiple exceptions")), C.CONNECTION, A.RETRY),
    Row("aiohttp ClientConnectionResetError", aiohttp.ClientConnectionResetError(), C.CONNECTION, A.RETRY),
    Row("aiohttp connector closed", aiohttp.ClientConnectionError("x"), C.CONNECTION, A.RETRY),
    *(
        Row(name, numbered(getattr(errno, name)), C.CONNECTION, A.RETRY)
        for name in (
            [
                "ECONNREFUSED",
                "ECONNRESET",
                "ECONNABORTED",
                "EPIPE",
                "ENETUNREACH",
                "EHOSTUNREACH",
                "ENETDOWN",
                "ESTALE",
                "ENOTCONN",
                "ERFKILL",
            ]
        )
    ),
    Row("bare ConnectionResetError", ConnectionResetError(), C.CONNECTION, A.RETRY),
    Row("bare BrokenPipeError", BrokenPipeError(), C.CONNECTION, A.RETRY),
    Row("a firewall's EPERM", connector(numbered(errno.EPERM)), C.CONNECTION, A.RETRY, 1),
    Row("no socket file", connector(numbered(errno.ENOENT)), C.CONNECTION, A.RETRY),
    Row("EIO of a socket", aiohttp.ClientOSError(errno.EIO, "x"), C.CONNECTION, A.RETRY),
    Row("ClientPayloadError", aiohttp.ClientPayloadError(), C.INTERRUPTED, A.RETRY),
    Row("ContentLengthError", aiohttp.http_exceptions.ContentLengthError("x"), C.INTERRUPTED, A.RETRY),
    Row("TransferEncodingError", aiohttp.http_exceptions.TransferEncodingError("x"), C.INTERRUPTED, A.RETRY),
    Row("asyncio IncompleteReadError", asyncio.IncompleteReadError(b"", 9), C.INTERRUPTED, A.RETRY),
    Row("http.client IncompleteRead", http.client.IncompleteRead(b""), C.INTERRUPTED, A.RETRY),
    Row("ContentTooShortError", urllib.error.ContentTooShortError("x", None), C.INTERRUPTED, A.RETRY),  # type: ignore[arg-type]
    Row("EAI_AGAIN", socket.gaierror(socket.EAI_AGAIN, "x"), C.DNS, A.RETRY),
    Row("EAI_FAIL", socket.gaierror(socket.EAI_FAIL, "x"), C.DNS, A.RETRY),
    Row(
        "aiohttp DNS error",
        connector(socket.gaierror(socket.EAI_AGAIN, "x"), aiohttp.ClientConnectorDNSError),
        C.DNS,
        A.RETRY,
    ),
    Row("aiodns through aiohttp", connector(OSError(None, "x"), aiohttp.ClientConnectorDNSError), C.DNS, A.RETRY),
    Row("herror", socket.herror(1, "x"), C.DNS, A.RETRY),
    Row("EAI_NONAME", socket.gaierror(socket.EAI_NONAME, "x"), C.DNS, A.RETRY, 1),
    Row("EAI_NODATA", socket.gaierror(socket.EAI_NODATA, "x"), C.DNS, A.RETRY, 1),
    Row(
        "aiohttp NXDOMAIN",
        connector(socket.gaierror(socket.EAI_NONAME, "x"), aiohttp.ClientConnectorDNSError),
        C.DNS,
        A.RETRY,
        1,
    ),
    Row("EAI_MEMORY", socket.gaierror(socket.EAI_MEMORY, "x"), C.MEMORY, A.RETRY, 1),
    Row("no host at all", declared(network.OFFLINE), C.OFFLINE, A.PARK, None, Condition.NETWORK),
    Row("SSLEOFError", tls(None, ssl.SSLEOFError), C.TLS_TRANSIENT, A.RETRY),
    Row("SSLZeroReturnError", tls(None, ssl.SSLZeroReturnError), C.TLS_TRANSIENT, A.RETRY),
    Row("BAD_RECORD_MAC", tls("BAD_RECORD_MAC"), C.TLS_TRANSIENT, A.RETRY),
    Row("reset in the handshake", connector(ConnectionResetError(errno.ECONNRESET, "x")), C.CONNECTION, A.RETRY),
    Row(
        "aiohttp SSL error",
        connector(tls("BAD_RECORD_MAC"), aiohttp.ClientConnectorSSLError),
        C.TLS_TRANSIENT,
        A.RETRY,
    ),
    Row("SSLCertVerificationError", tls(None, ssl.SSLCertVerificationError), C.TLS_PERMANENT, A.FAIL),
    Row(
        "ClientConnectorCertificateError",
        aiohttp.ClientConnectorCertificateError(KEY, tls(None, ssl.SSLCertVerificationError)),
        C.TLS_PERMANENT,
        A.FAIL,
    ),
    Row(
        "ServerFingerprintMismatch",
        aiohttp.ServerFingerprintMismatch(b"a", b"b", "cdn.example", 443),
        C.TLS_PERMANENT,
        A.FAIL,
    ),
    Row("WRONG_VERSION_NUMBER", tls("WRONG_VERSION_NUMBER"), C.TLS_PERMANENT, A.FAIL),
    Row(
        "aiohttp TLS to a plain port",
        connector(tls("WRONG_VERSION_NUMBER"), aiohttp.ClientConnectorSSLError),
        C.TLS_PERMANENT,
        A.FAIL,
    ),
    Row(
        "ClientProxyConnectionError",
        connector(numbered(errno.ECONNREFUSED), aiohttp.ClientProxyConnectionError),
        C.PROXY,
        A.RETRY,
    ),
    Row("proxy answers 407", answered(407, aiohttp.ClientHttpProxyError), C.PROXY, A.ASK),
    Row("proxy answers 502", answered(502, aiohttp.ClientHttpProxyError), C.PROXY, A.RETRY),
]

ORIGIN = [
    Row("InvalidURL", aiohttp.InvalidURL("x"), C.BAD_REQUEST, A.FAIL),
    Row("NonHttpUrlClientError", aiohttp.NonHttpUrlClientError("x"), C.BAD_REQUEST, A.FAIL),
    Row("TooManyRedirects", answered(302, aiohttp.TooManyRedirects), C.BAD_REQUEST, A.FAIL),
    Row("http.client InvalidURL", http.client.InvalidURL(), C.BAD_REQUEST, A.FAIL),
    Row("signed link expired", answered(403), C.AUTH, A.REFRESH, 1),
    Row("needs a link", declared(origin.NEEDS_LINK), C.NEEDS_LINK, A.ASK),
    Row("changed", declared(origin.CHANGED), C.CHANGED, A.RESTART, 1),
    Row("changed, digest pinned", declared(origin.CHANGED_PINNED), C.CHANGED, A.FAIL),
    Row("416, N below what is here", declared(origin.RANGE_BEYOND), C.RANGES, A.RESTART, 1),
    Row("200 to a Range request", declared(origin.RANGES_IGNORED), C.RANGES, A.RESTART, 1),
    Row("206, wrong Content-Range", declared(origin.PROTOCOL), C.PROTOCOL, A.RESTART, 1),
    Row("page in place of a file", declared(network.WEB_PAGE), C.CAPTIVE_PORTAL, A.RESTART, 1),
    Row("JSON cut off", json.JSONDecodeError("x", "{", 1), C.REMOTE_DATA, A.RETRY, 1),
    Row("page in place of JSON", answered(200, aiohttp.ContentTypeError), C.REMOTE_DATA, A.RETRY, 1),
    Row("error page in place of JSON", answered(502, aiohttp.ContentTypeError), C.SERVER, A.RETRY),
    Row("not HTTP at all", aiohttp.http_exceptions.BadStatusLine("x"), C.PROTOCOL, A.RETRY, 2),
    Row("http.client BadStatusLine", http.client.BadStatusLine("x"), C.PROTOCOL, A.RETRY, 2),
    Row(
        "not HTTP, said as status 400",
        caused(answered(400), aiohttp.http_exceptions.HttpProcessingError()),
        C.PROTOCOL,
        A.RETRY,
        2,
    ),
    Row("status 0 says nothing", answered(0), C.UNKNOWN, A.RETRY, 1),
    Row("own gate", HostGateOpen("cdn.example", 7.0), C.GATE, A.AFTER),
]

MACHINE = [
    Row("ENOSPC", numbered(errno.ENOSPC), C.DISK_FULL, A.PARK, None, Condition.DISK_SPACE),
    Row("EDQUOT", numbered(errno.EDQUOT), C.DISK_FULL, A.PARK, None, Condition.DISK_SPACE),
    Row("EFBIG", numbered(errno.EFBIG), C.FILE_TOO_LARGE, A.ASK),
    *(
        Row(name, numbered(getattr(errno, name)), C.PERMISSION, A.ASK)
        for name in ["EACCES", "EPERM", "EROFS", "ENOENT", "ENOTDIR", "EISDIR", "ENAMETOOLONG", "ELOOP"]
    ),
    Row("bare PermissionError", PermissionError(), C.PERMISSION, A.ASK),
    Row("bare FileNotFoundError", FileNotFoundError("x"), C.PERMISSION, A.ASK),
    *(
        Row(name, numbered(getattr(errno, name)), C.TRANSIENT_FILE, A.RETRY, 5)
        for name in ["EBUSY", "ETXTBSY", "EAGAIN", "EINTR"]
    ),
    Row(
        "WinError 32",
        foreign("builtins_of_windows.PermissionError", errno.EACCES, "x", bases=(PermissionError,), winerror=32),
        C.TRANSIENT_FILE,
        A.RETRY,
        5,
    ),
    Row(
        "WinError 33",
        foreign("builtins_of_windows.PermissionError", errno.EACCES, "x", bases=(PermissionError,), winerror=33),
        C.TRANSIENT_FILE,
        A.RETRY,
        5,
    ),
    *(
        Row(name, numbered(getattr(errno, name)), C.DESCRIPTORS, A.PARK, None, Condition.DESCRIPTORS)
        for name in ["EMFILE", "ENFILE", "EADDRNOTAVAIL"]
    ),
    Row("EADDRINUSE", numbered(errno.EADDRINUSE), C.DESCRIPTORS, A.RETRY),
    Row("EADDRINUSE while connecting", connector(numbered(errno.EADDRINUSE)), C.DESCRIPTORS, A.RETRY),
    Row(
        "EMFILE while connecting",
        connector(numbered(errno.EMFILE)),
        C.DESCRIPTORS,
        A.PARK,
        None,
        Condition.DESCRIPTORS,
    ),
    *(Row(name, numbered(getattr(errno, name)), C.DEVICE, A.RESYNC, 1) for name in ["EIO", "ENODEV", "ENXIO"]),
    Row("failed fsync", declared(machine.DEVICE), C.DEVICE, A.RESYNC, 1),
    Row("MemoryError", MemoryError(), C.MEMORY, A.RETRY, 1),
    Row("ENOMEM", numbered(errno.ENOMEM), C.MEMORY, A.RETRY, 1),
    Row("chunk digest", declared(machine.DIGEST), C.DIGEST, A.RESYNC, 2),
    Row("final digest", declared(machine.FINAL_DIGEST), C.FINAL_DIGEST, A.ASK),
    *(
        Row(type(exc).__name__, exc, C.VALIDATION, A.FAIL)
        for exc in (
            ValueError(),
            TypeError(),
            KeyError(),
            AssertionError(),
            LookupError(),
            AttributeError(),
            NameError(),
        )
    ),
    Row("pydantic", foreign("pydantic_core._pydantic_core.ValidationError", bases=(ValueError,)), C.VALIDATION, A.ASK),
    Row("jsonschema", foreign("jsonschema.exceptions.ValidationError"), C.VALIDATION, A.ASK),
    Row("marshmallow", foreign("marshmallow.exceptions.ValidationError"), C.VALIDATION, A.ASK),
    Row("bad workflow", InvalidInput("It is no JSON.", remedy="Export it again."), C.VALIDATION, A.ASK),
    Row("ZeroDivisionError", ZeroDivisionError(), C.VALIDATION, A.FAIL),
    Row("SQLITE_BUSY", sqlite(5), C.STORE_BUSY, A.DEGRADE),
    Row("SQLITE_BUSY_SNAPSHOT", sqlite(517), C.STORE_BUSY, A.DEGRADE),
    Row("SQLITE_LOCKED", sqlite(6), C.STORE_BUSY, A.DEGRADE),
    Row("SQLITE_FULL", sqlite(13), C.STORE_FAILED, A.DEGRADE, 1),
    Row("SQLITE_IOERR_WRITE", sqlite(778), C.STORE_FAILED, A.DEGRADE, 1),
    Row("SQLITE_READONLY", sqlite(8), C.STORE_FAILED, A.DEGRADE, 1),
    Row("SQLITE_CANTOPEN", sqlite(14), C.STORE_FAILED, A.DEGRADE, 1),
    Row("OperationalError without a code", sqlite(None), C.STORE_FAILED, A.DEGRADE, 1),
    Row("SQLITE_CORRUPT", sqlite(11, sqlite3.DatabaseError), C.STORE_CORRUPT, A.DEGRADE, 0),
    Row("SQLITE_NOTADB", sqlite(26, sqlite3.DatabaseError), C.STORE_CORRUPT, A.DEGRADE, 0),
    Row("SQLITE_NOMEM", sqlite(7), C.MEMORY, A.RETRY, 1),
    Row("SQLITE_ERROR: bad SQL", sqlite(1), C.VALIDATION, A.FAIL),
    Row("unique key taken", sqlite(2067, sqlite3.IntegrityError), C.VALIDATION, A.FAIL),
    Row("primary key taken", sqlite(1555, sqlite3.IntegrityError), C.VALIDATION, A.FAIL),
    Row("NOT NULL constraint", sqlite(1299, sqlite3.IntegrityError), C.VALIDATION, A.FAIL),
    Row("closed database", sqlite(None, sqlite3.ProgrammingError), C.VALIDATION, A.FAIL),
    Row("IntegrityError without a code", sqlite(None, sqlite3.IntegrityError), C.VALIDATION, A.FAIL),
    Row("anything else", RuntimeError(), C.UNKNOWN, A.RETRY, 1),
    Row("OSError without a number", OSError("x"), C.UNKNOWN, A.RETRY, 1),
    Row("an errno with no row", numbered(errno.ECHILD), C.UNKNOWN, A.RETRY, 1),
]

RESPONSE = SimpleNamespace(status_code=503, headers={"Retry-After": "7"})
BOTO_503 = {"Error": {"Code": "x"}, "ResponseMetadata": {"HTTPStatusCode": 503, "HTTPHeaders": {}}}

OTHER_LIBRARIES = [
    Row("requests Timeout", foreign("requests.exceptions.Timeout", bases=(OSError,)), C.TIMEOUT, A.RETRY),
    Row("requests HTTPError", foreign("requests.exceptions.HTTPError", response=RESPONSE), C.THROTTLED, A.AFTER),
    Row("requests ChunkedEncodingError", foreign("requests.exceptions.ChunkedEncodingError"), C.INTERRUPTED, A.RETRY),
    Row(
        "requests ConnectionError around urllib3 around DNS",
        foreign(
            "requests.exceptions.ConnectionError",
            foreign(
                "urllib3.exceptions.MaxRetryError",
                reason=caused(
                    foreign("urllib3.exceptions.NameResolutionError"), socket.gaierror(socket.EAI_NONAME, "x")
                ),
            ),
            bases=(OSError,),
        ),
        C.DNS,
        A.RETRY,
        1,
    ),
    Row(
        "urllib3 ProtocolError with the cause as second argument",
        foreign("urllib3.exceptions.ProtocolError", "Connection aborted.", http.client.RemoteDisconnected("")),
        C.CONNECTION,
        A.RETRY_FRESH,
    ),
    Row(
        "requests SSLError around a bad certificate",
        foreign("requests.exceptions.SSLError", tls(None, ssl.SSLCertVerificationError), bases=(OSError,)),
        C.TLS_PERMANENT,
        A.FAIL,
    ),
    Row("httpx ConnectError alone", foreign("httpx.NetworkError"), C.CONNECTION, A.RETRY),
    Row(
        "httpx over httpcore over a refused connect",
        caused(foreign("httpx.NetworkError"), caused(foreign("httpcore.NetworkError"), numbered(errno.ECONNREFUSED))),
        C.CONNECTION,
        A.RETRY,
    ),
    Row("httpx ReadTimeout", foreign("httpx.TimeoutException"), C.TIMEOUT, A.RETRY),
    Row("httpx HTTPStatusError", foreign("httpx.HTTPStatusError", response=RESPONSE), C.THROTTLED, A.AFTER),
    Row("botocore 503", foreign("botocore.exceptions.ClientError", response=BOTO_503), C.SERVER, A.RETRY),
    Row(
        "botocore SlowDown",
        foreign("botocore.exceptions.ClientError", response={"Error": {"Code": "SlowDown"}}),
        C.THROTTLED,
        A.AFTER,
    ),
    Row(
        "botocore ExpiredToken, a 400",
        foreign("botocore.exceptions.ClientError", response=BOTO_503 | {"Error": {"Code": "ExpiredToken"}}),
        C.AUTH,
        A.REFRESH,
        1,
    ),
    Row(
        "botocore EndpointConnectionError",
        foreign(
            "botocore.exceptions.EndpointConnectionError",
            bases=(type(foreign("botocore.exceptions.ConnectionError")),),
            kwargs={"error": numbered(errno.ETIMEDOUT)},
        ),
        C.TIMEOUT,
        A.RETRY,
    ),
    Row("botocore NoCredentialsError", foreign("botocore.exceptions.NoCredentialsError"), C.AUTH, A.ASK),
    Row("botocore FlexibleChecksumError", foreign("botocore.exceptions.FlexibleChecksumError"), C.DIGEST, A.RESYNC, 2),
    Row("broker gone", foreign("kombu.exceptions.OperationalError"), C.CONNECTION, A.RETRY),
    Row(
        "urllib HTTPError",
        urllib.error.HTTPError("https://cdn.example/", 404, "x", Message(), None),
        C.NOT_FOUND,
        A.FAIL,
    ),
    Row("a command takes too long", subprocess.TimeoutExpired("x", 1), C.TIMEOUT, A.RETRY),
    Row("Redis away", foreign("redis.exceptions.ConnectionError"), C.CONNECTION, A.RETRY),
    Row("Redis silent", foreign("redis.exceptions.TimeoutError"), C.TIMEOUT, A.RETRY),
    Row("Redis, wrong password", foreign("redis.exceptions.AuthenticationError"), C.AUTH, A.ASK),
    Row("Redis, another master", foreign("redis.exceptions.ReadOnlyError"), C.SERVER, A.RETRY),
    Row("Redis, wrong command", foreign("redis.exceptions.ResponseError"), C.BAD_REQUEST, A.FAIL),
    Row("ftplib 421", ftplib.error_temp("421"), C.SERVER, A.RETRY),
    Row("ftplib 550", ftplib.error_perm("550"), C.BAD_REQUEST, A.FAIL),
    Row("smtplib disconnected", smtplib.SMTPServerDisconnected(), C.CONNECTION, A.RETRY_FRESH),
    Row("smtplib 450", smtplib.SMTPDataError(450, b"x"), C.SERVER, A.RETRY),
    Row("smtplib 550", smtplib.SMTPSenderRefused(550, b"x", "x"), C.BAD_REQUEST, A.FAIL),
    Row("smtplib, wrong password", smtplib.SMTPAuthenticationError(535, b"x"), C.AUTH, A.ASK),
    Row("smtplib, anything else", smtplib.SMTPException(), C.CONNECTION, A.RETRY),
    Row("imaplib, connection lost", imaplib.IMAP4.abort(), C.CONNECTION, A.RETRY_FRESH),
    Row("imaplib NO", imaplib.IMAP4.error(), C.BAD_REQUEST, A.FAIL),
    Row("poplib -ERR", poplib.error_proto(), C.BAD_REQUEST, A.FAIL),
    Row("xmlrpc 503", xmlrpc.client.ProtocolError("x", 503, "x", {}), C.SERVER, A.RETRY),
    Row("xmlrpc without a status", foreign("xmlrpc.client.ProtocolError"), C.PROTOCOL, A.RETRY, 2),
    Row("xmlrpc fault", xmlrpc.client.Fault(1, "x"), C.BAD_REQUEST, A.FAIL),
    Row("xmlrpc, no XML", xmlrpc.client.ResponseError(), C.PROTOCOL, A.RETRY, 2),
    Row("multiprocessing TimeoutError", multiprocessing.TimeoutError(), C.TIMEOUT, A.RETRY),
    Row("urllib URLError", urllib.error.URLError(numbered(errno.ECONNREFUSED)), C.CONNECTION, A.RETRY),
    Row("urllib URLError with a text", urllib.error.URLError("x"), C.CONNECTION, A.RETRY),
]

ROWS = CONTROL_FLOW + NETWORK + ORIGIN + MACHINE + OTHER_LIBRARIES
