"""Turns what aiohttp raises into what a ``Transport`` may raise: nothing foreign, and no secret in message or cause.

The cause keeps the foreign type, because its type says why and is what gets classified. Where aiohttp's own exception
quotes the URL or the request's headers (so: signatures and logins), the cause is a bare one of the same type.
"""

from __future__ import annotations

import os
import ssl
from typing import Final

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from resumable.errors import ConnectFailed, Fault, OriginError, ProtocolFault, RedirectRefused, Stalled

FOREIGN: Final = (aiohttp.ClientError, OSError, ValueError, RuntimeError)
"""Everything a request may raise; ValueError covers host names the IDNA codec refuses and headers with line breaks."""


class AddressRefused(OSError):  # noqa: N818 - named like the rest of errors.py
    """The address policy refuses the address a name leads to.

    The text is always the same: aiohappyeyeballs keeps the type only where all attempts failed with the same words.
    """

    def __init__(self) -> None:
        """Say so, without the address: it would tell a stranger what a private name resolves to."""
        super().__init__("the address policy refuses where this name leads")


class SentOnce(Exception):  # noqa: N818 - a parcel, not an error of its own
    """Carries a failure past aiohttp's hidden second try on a reused connection."""

    def __init__(self, failure: aiohttp.ClientError) -> None:
        """Wrap the failure of the only sending."""
        super().__init__()
        self.failure = failure


def no_connection(seconds: float, host: str, *, url: str) -> OriginError:
    """Return the error for a connection that did not come about in time."""
    return _caused(
        ConnectFailed(f"no connection to {host} within {seconds:g} s", url=url), aiohttp.ConnectionTimeoutError()
    )


def no_head(seconds: float, *, url: str) -> OriginError:
    """Return the error for a server that took the request and did not answer in time."""
    return Stalled(seconds, url=url)


def no_answer(error: BaseException, host: str, *, url: str, hop: int) -> OriginError:
    """Return the error for a request that ``error`` kept from being answered; ``hop`` counts redirects so far."""
    if isinstance(error, SentOnce):
        error = error.failure
    if isinstance(error, aiohttp.ClientConnectorError):
        return _no_connection_to(error, host, url=url, hop=hop)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        message = f"the proxy refused to connect to {host} ({error.status})"
        return _caused(ConnectFailed(message, url=url), _bare(error))
    if isinstance(error, aiohttp.ClientResponseError):
        # The parser's reason quotes what the server sent: name its kind only.
        why: BaseException = error
        while why.__cause__ is not None:
            why = why.__cause__
        return ProtocolFault(Fault.UNREADABLE, url=url, detail=type(why).__name__)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        message = "the server closed the connection without an answer"
        return _caused(ConnectFailed(message, url=url), aiohttp.ServerDisconnectedError())
    if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
        return RedirectRefused("the address is not one that can be asked", url=url)
    if isinstance(error, OSError):
        return _caused(ConnectFailed(f"the connection broke before an answer came ({_reason(error)})", url=url), error)
    message = f"the request could not be sent ({type(error).__name__})"
    return _caused(ConnectFailed(message, url=url), ValueError(type(error).__name__))


def _no_connection_to(error: aiohttp.ClientConnectorError, host: str, *, url: str, hop: int) -> OriginError:
    if isinstance(error.os_error, AddressRefused):
        message = f"connecting to {host} is not allowed here"
        # A policy is a fact about the link, not about the weather: a redirect into it must not be tried again.
        refused = RedirectRefused(message, url=url) if hop else ConnectFailed(message, url=url)
        return _caused(refused, error.os_error)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        message = f"the name {error.host} could not be resolved"
    elif isinstance(error, aiohttp.ClientConnectorCertificateError):
        message = f"the certificate of {host} is not to be trusted ({_reason(error.certificate_error)})"
    elif isinstance(error, aiohttp.ClientProxyConnectionError):
        message = f"the proxy {error.host}:{error.port} cannot be reached ({_reason(error.os_error)})"
    elif isinstance(error, aiohttp.ClientConnectorSSLError):
        message = f"no secure connection to {host} ({_reason(error.os_error)})"
    else:
        message = f"{error.host}:{error.port} cannot be reached ({_reason(error.os_error)})"
    return _caused(ConnectFailed(message, url=url), error)


_NO_TLS: Final = "what answers at this port does not speak TLS; a plain http link may be meant"
_TLS_REASONS: Final = {"WRONG_VERSION_NUMBER": _NO_TLS, "HTTP_REQUEST": _NO_TLS}
"""OpenSSL's names for an answer in plain text."""


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return _TLS_REASONS.get(error.reason, error.reason) or "TLS failed"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)  # asyncio's own texts repeat the address
    return type(error).__name__


def _bare(error: aiohttp.ClientHttpProxyError) -> aiohttp.ClientHttpProxyError:
    nothing: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())
    request = aiohttp.RequestInfo(URL(), "CONNECT", nothing, URL())
    kept = {name: value for name, value in (error.headers or {}).items() if name.lower() == "retry-after"}
    headers = CIMultiDict(kept)
    return aiohttp.ClientHttpProxyError(request, (), status=error.status, message=error.message, headers=headers)


def _caused(error: OriginError, cause: BaseException | None) -> OriginError:
    error.__cause__ = cause
    return error
