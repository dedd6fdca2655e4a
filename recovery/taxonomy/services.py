"""Exceptions of the standard library's other network modules (mail, FTP, XML-RPC) and of redis-py. Pure; a part of
``exceptions.TYPES``.

Their protocols say by the first digit of a reply whether asking again makes sense: 4 is a passing condition, 5 a final
one (RFC 959 4.2, RFC 5321 4.2.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from recovery.taxonomy import machine, network, origin
from recovery.taxonomy.statuses import status_verdict
from recovery.verdict import Verdict

__all__ = ["SERVICES"]


def _smtp(exc: BaseException) -> Verdict:
    code = getattr(exc, "smtp_code", None)
    return origin.BAD_REQUEST if isinstance(code, int) and 500 <= code <= 599 else origin.SERVER_UNAVAILABLE


def _xmlrpc(exc: BaseException) -> Verdict:
    code = getattr(exc, "errcode", None)
    return status_verdict(code) if isinstance(code, int) else origin.GARBLED


SERVICES: Mapping[str, Verdict | Callable[[BaseException], Verdict]] = MappingProxyType(
    {
        "ftplib.error_temp": origin.SERVER_UNAVAILABLE,
        "ftplib.error_perm": origin.BAD_REQUEST,
        "ftplib.Error": origin.GARBLED,
        "smtplib.SMTPServerDisconnected": network.DISCONNECTED,
        "smtplib.SMTPAuthenticationError": origin.CREDENTIALS,
        "smtplib.SMTPResponseException": _smtp,
        "smtplib.SMTPRecipientsRefused": origin.BAD_REQUEST,
        "smtplib.SMTPNotSupportedError": origin.BAD_REQUEST,
        "smtplib.SMTPException": network.CONNECTION,
        # imaplib: the connection is of no more use; a new one may be
        "imaplib.abort": network.DISCONNECTED,
        "imaplib.error": origin.BAD_REQUEST,
        "poplib.error_proto": origin.BAD_REQUEST,
        "xmlrpc.ProtocolError": _xmlrpc,
        "xmlrpc.Fault": origin.BAD_REQUEST,
        "xmlrpc.Error": origin.GARBLED,
        "multiprocessing.TimeoutError": network.TIMEOUT,
        "subprocess.TimeoutExpired": network.TIMEOUT,
        "redis.AuthenticationError": origin.CREDENTIALS,
        "redis.AuthenticationWrongNumberOfArgsError": origin.CREDENTIALS,
        "redis.NoPermissionError": origin.CREDENTIALS,
        # it loads its data, elects another master, or waits for one: all of that passes
        "redis.BusyLoadingError": origin.SERVER_UNAVAILABLE,
        "redis.ReadOnlyError": origin.SERVER_UNAVAILABLE,
        "redis.MasterDownError": origin.SERVER_UNAVAILABLE,
        "redis.ClusterDownError": origin.SERVER_UNAVAILABLE,
        "redis.TryAgainError": origin.SERVER_UNAVAILABLE,
        "redis.OutOfMemoryError": origin.SERVER_UNAVAILABLE,
        "redis.ConnectionError": network.CONNECTION,
        "redis.TimeoutError": network.TIMEOUT,
        "redis.ResponseError": origin.BAD_REQUEST,
        "redis.DataError": machine.VALIDATION,
        "netrc.NetrcParseError": origin.CREDENTIALS,
        "email.MessageError": origin.REMOTE_DATA,
        "email.MessageDefect": origin.REMOTE_DATA,
        "http.LoadError": machine.VALIDATION,  # a cookie file of ours that is none
    }
)
