"""HTTP statuses and ``Retry-After``: total functions from what a server says to a verdict. Pure.

Meant for statuses that end an attempt. What a download makes of 206, 304 or 416 with their headers is decided where the
headers are known; here a success or redirect status that was raised as an error is an answer nobody could use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from types import MappingProxyType

from msgspec.structs import replace

from recovery.taxonomy import network, origin
from recovery.verdict import Action, Verdict

__all__ = ["parse_http_date", "parse_retry_after", "status_verdict"]

_STATUSES: Mapping[int, Verdict] = MappingProxyType(
    {
        401: origin.AUTH,
        402: origin.PAYMENT,
        403: origin.AUTH,
        404: origin.NOT_FOUND,
        407: network.PROXY_LOGIN,
        408: network.REQUEST_TIMEOUT,  # RFC 9110 15.5.9: may be repeated on another connection
        409: origin.CONFLICT,  # RFC 9110 15.5.10: the user might be able to resolve it
        410: origin.GONE,
        412: origin.CHANGED,  # RFC 9110 13.1: the precondition was our validator
        416: origin.RANGE_REFUSED,
        421: network.MISDIRECTED,  # RFC 9110 15.5.20: may be repeated on another connection
        423: origin.LOCKED,  # RFC 4918
        425: origin.TOO_EARLY,  # RFC 8470: repeat without early data, of which we never send any
        429: origin.THROTTLED,
        451: origin.LEGAL,  # RFC 7725
        500: origin.SERVER_ERROR,
        501: origin.BAD_REQUEST,
        502: origin.SERVER_UNAVAILABLE,
        503: origin.SERVER_UNAVAILABLE,
        504: origin.SERVER_UNAVAILABLE,
        505: origin.BAD_REQUEST,
        506: origin.BAD_REQUEST,
        507: origin.SERVER_STORAGE,  # RFC 4918
        508: origin.BAD_REQUEST,
        509: origin.THROTTLED,  # not registered; "bandwidth limit exceeded" of Apache and cPanel
        510: origin.BAD_REQUEST,
        511: network.CAPTIVE_PORTAL,  # RFC 6585
        # Cloudflare's own: the origin behind it is down, slow or unreachable (its documentation, from error-520 on)
        520: origin.SERVER_UNAVAILABLE,
        521: origin.SERVER_UNAVAILABLE,
        522: origin.SERVER_UNAVAILABLE,
        523: origin.SERVER_UNAVAILABLE,
        524: origin.SERVER_UNAVAILABLE,
        525: origin.ORIGIN_TLS,
        526: network.TLS_PERMANENT,
        527: origin.SERVER_UNAVAILABLE,
        530: origin.SERVER_UNAVAILABLE,
    }
)

_THROTTLED_WITH_RETRY_AFTER = frozenset({403, 413, 503})
"""413 and 503: RFC 9110 15.5.14 and 15.6.4. 403: GitHub's secondary rate limits say so with a 403."""

_REPEATED = frozenset({Action.RETRY, Action.RETRY_FRESH, Action.AFTER})

LONGEST_RETRY_AFTER_S = 1e9
"""About 30 years; more says no more, and ``9999999999`` made others overflow (urllib3#3743)."""

_SECONDS = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?", re.ASCII)
_LONGEST_FIELD = 64


def status_verdict(status: int, retry_after_s: float | None = None) -> Verdict:
    """Judge an HTTP status; total for 100 to 599, and anything else is judged as an answer that is not HTTP.

    ``retry_after_s`` is the wait in seconds the server asked for (RFC 9110 10.2.3); it turns 403, 413 and 503 into
    THROTTLED and travels in every verdict that tries again. It must be finite and not negative, as what
    ``parse_retry_after`` returns is.
    """
    if retry_after_s is not None and status in _THROTTLED_WITH_RETRY_AFTER:
        return replace(origin.THROTTLED, retry_after_s=retry_after_s)
    verdict = _STATUSES.get(status) or _by_class(status)
    if retry_after_s is not None and verdict.action in _REPEATED:
        return replace(verdict, retry_after_s=retry_after_s)
    return verdict


def _by_class(status: int) -> Verdict:
    """Judge a status without a row of its own by its class (RFC 9110 15: an unknown status is its class's x00)."""
    if 300 <= status <= 399 and status != 304:
        return origin.BAD_LINK
    if 400 <= status <= 499:
        return origin.BAD_REQUEST
    if 500 <= status <= 599:
        return origin.SERVER_ERROR
    return origin.GARBLED


def parse_retry_after(value: str, *, now: float) -> float | None:
    """Return the seconds a ``Retry-After`` field asks for (RFC 9110 10.2.3), None if it cannot be read.

    ``now`` is seconds since the epoch, best taken from the response's ``Date`` field, so that a wrong clock here does
    not matter. A date that has passed and a negative number are 0.0; decimals, though not in the RFC, are understood.
    """
    text = value.strip()
    if len(text) > _LONGEST_FIELD:
        # A number this long means "never"; a text this long means nothing.
        return LONGEST_RETRY_AFTER_S if text.isascii() and text.isdigit() else None
    if _SECONDS.fullmatch(text):
        return _bounded(float(text))
    when = parse_http_date(text)
    return None if when is None else _bounded(when - now)


def parse_http_date(text: str) -> float | None:
    """Return the epoch seconds of an HTTP-date in any of its three forms (RFC 9110 5.6.7), None if it is none."""
    try:
        when = parsedate_to_datetime(text)
        # The asctime form names no zone; RFC 9110 5.6.7 says all three are UTC.
        return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _bounded(seconds: float) -> float:
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER_S)
