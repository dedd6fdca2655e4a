"""Numbers that operating system, resolver, TLS and SQLite put on failures, and the verdict of each. Pure lookups.

Only numbers and symbolic names are looked at, never the text of a message: texts are translated, reworded and wrapped.
"""

from __future__ import annotations

import errno
import socket  # for the values of EAI_*, which differ by platform; nothing is opened here
from collections.abc import Iterable

from recovery.taxonomy import machine, network
from recovery.verdict import Category, Verdict

__all__ = ["eai_verdict", "file_verdict", "socket_verdict", "sqlite_verdict", "tls_verdict"]


def _numbers(module: object, names: Iterable[str]) -> list[int]:
    """Return the values of those names that this platform knows."""
    return [number for name in names if (number := getattr(module, name, None)) is not None]


_ERRNO_NAMES: tuple[tuple[Verdict, str], ...] = (
    (network.TIMEOUT, "ETIMEDOUT ETIME"),
    (
        network.CONNECTION,
        # ESTALE: the server of a network file system forgot our file
        "ECONNREFUSED ECONNRESET ECONNABORTED EPIPE ESHUTDOWN ENOTCONN EHOSTUNREACH EHOSTDOWN ENETRESET EPROTO ESTALE",
    ),
    (network.NETWORK_UNREACHABLE, "ENETUNREACH ENETDOWN ENONET ERFKILL"),
    (machine.DISK_FULL, "ENOSPC EDQUOT"),
    (machine.FILE_TOO_LARGE, "EFBIG"),
    (machine.PERMISSION, "EACCES EPERM EROFS ENOENT ENOTDIR EISDIR ENAMETOOLONG ELOOP EEXIST ENOTEMPTY EXDEV"),
    (machine.TRANSIENT_FILE, "EBUSY ETXTBSY EAGAIN EWOULDBLOCK EINTR EALREADY EINPROGRESS EDEADLK ENOLCK"),
    (machine.DESCRIPTORS, "EMFILE ENFILE EADDRNOTAVAIL ENOBUFS"),
    (machine.ADDRESS_IN_USE, "EADDRINUSE"),
    # EUCLEAN and EBADMSG: ext4 and XFS report damaged metadata with them
    (machine.DEVICE, "EIO ENODEV ENXIO EREMOTEIO EUCLEAN EBADMSG ENOMEDIUM EMEDIUMTYPE"),
    (machine.MEMORY, "ENOMEM"),
)
_ERRNO: dict[int, Verdict] = {
    number: verdict for verdict, names in _ERRNO_NAMES for number in _numbers(errno, names.split())
}

_BUILTIN_ERRNO: dict[type[BaseException], int] = {
    BlockingIOError: errno.EAGAIN,
    BrokenPipeError: errno.EPIPE,
    ConnectionAbortedError: errno.ECONNABORTED,
    ConnectionRefusedError: errno.ECONNREFUSED,
    ConnectionResetError: errno.ECONNRESET,
    ConnectionError: errno.ECONNRESET,
    FileExistsError: errno.EEXIST,
    FileNotFoundError: errno.ENOENT,
    InterruptedError: errno.EINTR,
    IsADirectoryError: errno.EISDIR,
    NotADirectoryError: errno.ENOTDIR,
    PermissionError: errno.EACCES,
    TimeoutError: errno.ETIMEDOUT,
}
"""PEP 3151 types are often raised without a number: ``TimeoutError()`` is an OSError whose errno is None."""

_SHARING_VIOLATION = frozenset({32, 33})
"""ERROR_SHARING_VIOLATION and ERROR_LOCK_VIOLATION of Windows, whose errno says EACCES."""

_OF_A_SOCKET = frozenset({Category.TIMEOUT, Category.CONNECTION, Category.DESCRIPTORS, Category.MEMORY})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})


def file_verdict(exc: BaseException) -> Verdict | None:
    """Judge an OSError by its number, None if it has none that is known."""
    number = _number(exc)
    if number == errno.EACCES and getattr(exc, "winerror", None) in _SHARING_VIOLATION:
        return machine.TRANSIENT_FILE
    return None if number is None else _ERRNO.get(number)


def socket_verdict(exc: BaseException) -> Verdict | None:
    """Judge an OSError about a connection: EACCES there is a firewall, not a folder's permission."""
    number = _number(exc)
    verdict = None if number is None else _ERRNO.get(number)
    if verdict is None or verdict.category in _OF_A_SOCKET:
        return verdict
    return network.FIREWALLED if number in _FORBIDDEN else network.CONNECTION


def _number(exc: BaseException) -> int | None:
    number = getattr(exc, "errno", None)
    if isinstance(number, int):
        return number
    return next((_BUILTIN_ERRNO[cls] for cls in type(exc).__mro__ if cls in _BUILTIN_ERRNO), None)


_NAME_UNKNOWN = frozenset(_numbers(socket, ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY", "EAI_FAMILY")))
_RESOLVER_MEMORY = frozenset(_numbers(socket, ("EAI_MEMORY",)))


def eai_verdict(number: object) -> Verdict:
    """Judge a ``socket.gaierror`` by its EAI number; what says nothing definite may pass (AGAIN, FAIL, the unknown)."""
    if number in _NAME_UNKNOWN:
        return network.NAME_NOT_FOUND
    return machine.MEMORY if number in _RESOLVER_MEMORY else network.DNS


_TLS_PERMANENT = frozenset(
    {
        "CERTIFICATE_VERIFY_FAILED",
        "WRONG_VERSION_NUMBER",
        "UNSUPPORTED_PROTOCOL",
        "NO_PROTOCOLS_AVAILABLE",
        "NO_CIPHERS_AVAILABLE",
        "NO_SHARED_CIPHER",
        "HTTP_REQUEST",
        "HTTPS_PROXY_REQUEST",
        "UNSAFE_LEGACY_RENEGOTIATION_DISABLED",
        "DH_KEY_TOO_SMALL",
        "EE_KEY_TOO_SMALL",
        "CA_KEY_TOO_SMALL",
        "CA_MD_TOO_WEAK",
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "SSL/TLS_ALERT_HANDSHAKE_FAILURE",
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "TLSV1_ALERT_INSUFFICIENT_SECURITY",
        "TLSV1_ALERT_UNKNOWN_CA",
        "TLSV1_UNRECOGNIZED_NAME",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    }
)
"""``SSLError.reason`` names of OpenSSL that the same two ends will produce again."""


def tls_verdict(reason: object) -> Verdict:
    """Judge an ``ssl.SSLError`` by OpenSSL's symbolic reason; BAD_RECORD_MAC, EOF and the unknown may pass.

    Its errno is a number of OpenSSL's (1 is SSL_ERROR_SSL, not EPERM) and is never looked up among the system's.
    """
    return network.TLS_PERMANENT if reason in _TLS_PERMANENT else network.TLS_TRANSIENT


_SQLITE_PRIMARY: dict[int, Verdict] = {
    3: machine.STORE_FAILED,  # PERM
    5: machine.STORE_BUSY,  # BUSY, and _SNAPSHOT, _RECOVERY, _TIMEOUT
    6: machine.STORE_BUSY,  # LOCKED
    7: machine.MEMORY,  # NOMEM
    8: machine.STORE_FAILED,  # READONLY
    9: machine.STORE_BUSY,  # INTERRUPT
    10: machine.STORE_FAILED,  # IOERR
    11: machine.STORE_CORRUPT,  # CORRUPT
    13: machine.STORE_FAILED,  # FULL
    14: machine.STORE_FAILED,  # CANTOPEN
    15: machine.STORE_BUSY,  # PROTOCOL: "locking protocol", the WAL index kept changing
    17: machine.STORE_BUSY,  # SCHEMA: changed by another connection
    22: machine.STORE_FAILED,  # NOLFS
    26: machine.STORE_CORRUPT,  # NOTADB
}


def sqlite_verdict(code: int) -> Verdict:
    """Judge an extended SQLite result code (sqlite.org/rescode.html); its low byte is the primary code.

    What is left (SQL that does not parse, a value that does not fit, a key that is taken, misuse) is a bug of the
    program. The database is the program's own: our store says ``Fenced`` where somebody else was faster.
    """
    return _SQLITE_PRIMARY.get(code & 0xFF, machine.VALIDATION)
