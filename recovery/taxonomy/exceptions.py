"""Which exception type earns which verdict: one table, by name, so that no library is imported to be recognised. Pure.

A key is the type's top-level package and its own name: ``aiohttp.ServerTimeoutError`` stands for
``aiohttp.client_exceptions.ServerTimeoutError``. The first type of an exception's MRO that is in the table decides, so
a type whose parents mislead has a row of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from msgspec import Struct

from recovery.taxonomy import machine, network, origin
from recovery.taxonomy.codes import eai_verdict, file_verdict, socket_verdict, sqlite_verdict, tls_verdict
from recovery.taxonomy.responses import answer_verdict, boto_verdict, json_verdict, proxy_verdict, response_verdict
from recovery.taxonomy.services import SERVICES
from recovery.verdict import Verdict

__all__ = ["CONTROL_TYPES", "TYPES", "Entry", "Inside", "type_key"]


class Inside(Struct, frozen=True):
    """An envelope: what is inside (cause, ``os_error``, ...) decides, and ``otherwise`` where that says nothing."""

    otherwise: Verdict


Lookup = Callable[[BaseException], Verdict | None]
Entry = Verdict | Inside | Lookup


def type_key(cls: type) -> str:
    """Return the name under which a type is listed."""
    return f"{str(cls.__module__).partition('.')[0]}.{cls.__name__}"


def _socket(exc: BaseException) -> Verdict | None:
    return socket_verdict(exc) or network.CONNECTION


def _resolver(exc: BaseException) -> Verdict | None:
    return eai_verdict(getattr(exc, "errno", None))


def _tls(exc: BaseException) -> Verdict | None:
    return tls_verdict(getattr(exc, "reason", None))


def _sqlite(exc: BaseException) -> Verdict | None:
    code = getattr(exc, "sqlite_errorcode", None)
    return sqlite_verdict(code) if isinstance(code, int) else None


CONTROL_TYPES = frozenset(
    {
        # Whatever is not an Exception (asyncio's CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit, gevent's
        # Timeout, trio's Cancelled) is control flow without being listed. These are Exceptions and are it all the same.
        "concurrent.CancelledError",
        "billiard.SoftTimeLimitExceeded",  # tenacity's default predicate retried it three times
        "celery.SoftTimeLimitExceeded",
        "celery.TaskPredicate",
        "celery.Retry",
        "celery.Ignore",
        "celery.Reject",
        "recovery.OperationPaused",
        "recovery.OperationCancelled",
        "resumable.DownloadPaused",
        "resumable.DownloadCancelled",
    }
)

_STANDARD_LIBRARY: dict[str, Entry] = {
    "builtins.TimeoutError": network.TIMEOUT,
    "builtins.OSError": file_verdict,  # socket_verdict inside an envelope of the network
    "builtins.MemoryError": machine.MEMORY,
    "builtins.ValueError": machine.VALIDATION,
    "builtins.TypeError": machine.VALIDATION,
    "builtins.LookupError": machine.VALIDATION,
    "builtins.AssertionError": machine.VALIDATION,
    "builtins.ArithmeticError": machine.VALIDATION,
    "builtins.AttributeError": machine.VALIDATION,
    "builtins.NameError": machine.VALIDATION,
    "builtins.NotImplementedError": machine.VALIDATION,
    "builtins.ImportError": machine.VALIDATION,
    "builtins.SyntaxError": machine.VALIDATION,
    "builtins.RecursionError": machine.VALIDATION,
    "asyncio.IncompleteReadError": network.INTERRUPTED,
    "asyncio.LimitOverrunError": origin.GARBLED,
    "asyncio.InvalidStateError": machine.VALIDATION,
    "concurrent.InvalidStateError": machine.VALIDATION,
    "socket.gaierror": _resolver,
    "socket.herror": network.DNS,
    "ssl.SSLCertVerificationError": network.TLS_PERMANENT,
    "ssl.SSLError": _tls,
    "json.JSONDecodeError": origin.REMOTE_DATA,
    "sqlite3.IntegrityError": lambda exc: _sqlite(exc) or machine.VALIDATION,
    "sqlite3.OperationalError": lambda exc: _sqlite(exc) or machine.STORE_FAILED,
    "sqlite3.Error": lambda exc: _sqlite(exc) or machine.VALIDATION,
    "sqlite3.Warning": machine.VALIDATION,
    "http.RemoteDisconnected": network.DISCONNECTED,
    "http.IncompleteRead": network.INTERRUPTED,
    "http.InvalidURL": origin.BAD_LINK,
    "http.NotConnected": network.DISCONNECTED,
    "http.ImproperConnectionState": network.DISCONNECTED,
    "http.HTTPException": origin.GARBLED,
    "urllib.HTTPError": answer_verdict,
    "urllib.ContentTooShortError": network.INTERRUPTED,
    "urllib.URLError": Inside(network.CONNECTION),
}

_AIOHTTP: dict[str, Entry] = {
    # Its MRO reaches ClientConnectionError before TimeoutError.
    "aiohttp.ServerTimeoutError": network.TIMEOUT,
    "aiohttp.ServerDisconnectedError": network.DISCONNECTED,
    # A ClientConnectionError by inheritance, and nothing a retry could mend.
    "aiohttp.ServerFingerprintMismatch": network.TLS_PERMANENT,
    "aiohttp.ClientConnectorCertificateError": network.TLS_PERMANENT,
    "aiohttp.ClientSSLError": Inside(network.TLS_TRANSIENT),
    "aiohttp.ClientConnectorDNSError": Inside(network.DNS),
    "aiohttp.ClientProxyConnectionError": network.PROXY,
    "aiohttp.ClientConnectorError": Inside(network.CONNECTION),
    "aiohttp.ClientOSError": _socket,
    "aiohttp.ClientConnectionError": network.CONNECTION,
    "aiohttp.ClientPayloadError": network.INTERRUPTED,
    "aiohttp.ContentLengthError": network.INTERRUPTED,
    "aiohttp.TransferEncodingError": network.INTERRUPTED,
    "aiohttp.HttpProcessingError": origin.GARBLED,
    "aiohttp.WebSocketError": origin.GARBLED,
    "aiohttp.WSHandshakeError": origin.GARBLED,
    "aiohttp.TooManyRedirects": origin.BAD_LINK,
    "aiohttp.InvalidURL": origin.BAD_LINK,
    "aiohttp.NonHttpUrlClientError": origin.BAD_LINK,
    "aiohttp.RedirectClientError": origin.BAD_LINK,
    "aiohttp.ClientHttpProxyError": proxy_verdict,
    "aiohttp.ContentTypeError": json_verdict,
    "aiohttp.ClientResponseError": response_verdict,
}

_HTTPX: dict[str, Entry] = {
    "TimeoutException": network.TIMEOUT,
    "NetworkError": Inside(network.CONNECTION),
    "ProxyError": network.PROXY,
    "RemoteProtocolError": network.INTERRUPTED,
    "LocalProtocolError": machine.VALIDATION,
    "UnsupportedProtocol": origin.BAD_LINK,
    "InvalidURL": origin.BAD_LINK,
    "TooManyRedirects": origin.BAD_LINK,
    "DecodingError": origin.GARBLED,
    "HTTPStatusError": answer_verdict,
    "StreamError": machine.VALIDATION,
}

_REQUESTS: dict[str, Entry] = {
    "requests.ConnectTimeout": network.TIMEOUT,  # a ConnectionError first, by inheritance
    "requests.Timeout": network.TIMEOUT,
    "requests.SSLError": Inside(network.TLS_TRANSIENT),
    "requests.ProxyError": network.PROXY,
    "requests.ConnectionError": Inside(network.CONNECTION),
    "requests.ChunkedEncodingError": network.INTERRUPTED,
    "requests.ContentDecodingError": origin.GARBLED,
    "requests.HTTPError": answer_verdict,
    "requests.TooManyRedirects": origin.BAD_LINK,
    "requests.InvalidURL": origin.BAD_LINK,
    "requests.MissingSchema": origin.BAD_LINK,
    "requests.InvalidSchema": origin.BAD_LINK,
    "requests.URLRequired": origin.BAD_LINK,
    "requests.InvalidJSONError": origin.REMOTE_DATA,
    "requests.InvalidHeader": machine.VALIDATION,
    "requests.StreamConsumedError": machine.VALIDATION,
    "requests.UnrewindableBodyError": machine.VALIDATION,
    "requests.RequestException": Inside(network.CONNECTION),
    "urllib3.NameResolutionError": Inside(network.DNS),
    "urllib3.NewConnectionError": Inside(network.CONNECTION),
    "urllib3.TimeoutError": network.TIMEOUT,
    "urllib3.MaxRetryError": Inside(network.CONNECTION),
    "urllib3.SSLError": Inside(network.TLS_TRANSIENT),
    "urllib3.ProxyError": network.PROXY,
    "urllib3.IncompleteRead": network.INTERRUPTED,
    "urllib3.ProtocolError": Inside(network.INTERRUPTED),
    "urllib3.DecodeError": origin.GARBLED,
    "urllib3.LocationValueError": origin.BAD_LINK,
}

_BOTO: dict[str, Entry] = {
    "botocore.ClientError": boto_verdict,
    "botocore.ConnectTimeoutError": network.TIMEOUT,
    "botocore.ReadTimeoutError": network.TIMEOUT,
    "botocore.SSLError": Inside(network.TLS_TRANSIENT),
    "botocore.ProxyConnectionError": network.PROXY,
    "botocore.ConnectionError": Inside(network.CONNECTION),
    "botocore.HTTPClientError": Inside(network.CONNECTION),
    "botocore.IncompleteReadError": network.INTERRUPTED,
    "botocore.ResponseStreamingError": network.INTERRUPTED,
    "botocore.NoCredentialsError": origin.CREDENTIALS,
    "botocore.PartialCredentialsError": origin.CREDENTIALS,
    "botocore.CredentialRetrievalError": origin.CREDENTIALS,
    "botocore.TokenRetrievalError": origin.CREDENTIALS,
    "botocore.ParamValidationError": machine.VALIDATION,
    "botocore.ChecksumError": machine.DIGEST,
    "botocore.FlexibleChecksumError": machine.DIGEST,
}

_OTHERS: dict[str, Entry] = {
    "kombu.OperationalError": Inside(network.CONNECTION),
    # What somebody gave does not fit a schema: his to correct, and no bug.
    "jsonschema.ValidationError": machine.INVALID_INPUT,
    "pydantic_core.ValidationError": machine.INVALID_INPUT,
    "marshmallow.ValidationError": machine.INVALID_INPUT,
    "recovery.Fenced": machine.LOST_RACE,
    "recovery.LeaseHeld": machine.LOST_RACE,
    "resumable.LeaseLost": machine.LOST_RACE,
}

TYPES: Mapping[str, Entry] = MappingProxyType(
    _STANDARD_LIBRARY
    | _AIOHTTP
    | {f"{package}.{name}": entry for package in ("httpx", "httpcore") for name, entry in _HTTPX.items()}
    | _REQUESTS
    | _BOTO
    | _OTHERS
    | dict(SERVICES)
)
