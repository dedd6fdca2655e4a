"""Reads status and ``Retry-After`` off exceptions that carry an answer, whichever HTTP library made them. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from recovery.taxonomy import network, origin
from recovery.taxonomy.statuses import LONGEST_RETRY_AFTER_S, parse_http_date, parse_retry_after, status_verdict
from recovery.verdict import Verdict

__all__ = ["answer_verdict", "boto_verdict", "json_verdict", "proxy_verdict", "response_verdict"]


def answer_verdict(exc: BaseException) -> Verdict | None:
    """Judge by the status on the exception or on its response, None if there is none."""
    status = _status(exc)
    return None if status is None else status_verdict(status, _retry_after(exc))


def response_verdict(exc: BaseException) -> Verdict | None:
    """Judge aiohttp's ClientResponseError: it says 400 also of what is not HTTP, with the parser's error as cause."""
    if any(cls.__name__ == "HttpProcessingError" for cls in type(exc.__cause__).__mro__):
        return origin.GARBLED
    return answer_verdict(exc)


def json_verdict(exc: BaseException) -> Verdict | None:
    """Judge aiohttp's ContentTypeError: an error page explains itself, a good answer of the wrong type is odd data."""
    status = _status(exc)
    return answer_verdict(exc) if status is not None and status >= 400 else origin.REMOTE_DATA


def proxy_verdict(exc: BaseException) -> Verdict | None:
    """Judge the answer of a proxy to CONNECT: 407 wants a login, the rest is the proxy's trouble."""
    return network.PROXY_LOGIN if _status(exc) == 407 else network.PROXY


# botocore/retries/standard.py: ThrottledRetryableChecker and TransientRetryableChecker
_BOTO_CODES: dict[str, Verdict] = {
    **dict.fromkeys(
        (
            "Throttling",
            "ThrottlingException",
            "ThrottledException",
            "RequestThrottled",
            "RequestThrottledException",
            "TooManyRequestsException",
            "ProvisionedThroughputExceededException",
            "RequestLimitExceeded",
            "BandwidthLimitExceeded",
            "LimitExceededException",
            "PriorRequestNotComplete",
            "TransactionInProgressException",
            "EC2ThrottledException",
            "SlowDown",
        ),
        origin.THROTTLED,
    ),
    **dict.fromkeys(("RequestTimeout", "RequestTimeoutException"), network.REQUEST_TIMEOUT),
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "RequestExpired"), origin.AUTH),
}


def boto_verdict(exc: BaseException) -> Verdict | None:
    """Judge botocore's ClientError by its error code, which is part of the API, then by its status."""
    response = getattr(exc, "response", None)
    error = response.get("Error") if isinstance(response, Mapping) else None
    code = error.get("Code") if isinstance(error, Mapping) else None
    return (_BOTO_CODES.get(code) if isinstance(code, str) else None) or answer_verdict(exc)


def _status(exc: BaseException) -> int | None:
    response = getattr(exc, "response", None)
    stated = _status_on(exc)
    if stated is not None or response is None:
        return stated
    return _status_on(response) or _plausible(_boto_metadata(response).get("HTTPStatusCode"))


def _status_on(carrier: object) -> int | None:
    stated = _plausible(getattr(carrier, "status", None))
    return _plausible(getattr(carrier, "status_code", None)) if stated is None else stated


def _plausible(value: object) -> int | None:
    """Return a number that can be a status; a stranger's ``status`` may be anything, and aiohttp's may be 0."""
    return value if isinstance(value, int) and 100 <= value <= 599 else None


def _boto_metadata(response: object) -> Mapping[str, Any]:
    metadata = response.get("ResponseMetadata") if isinstance(response, Mapping) else None
    return metadata if isinstance(metadata, Mapping) else {}


def _retry_after(exc: BaseException) -> float | None:
    stated = getattr(exc, "retry_after_s", None)
    if isinstance(stated, int | float) and stated >= 0:
        return min(float(stated), LONGEST_RETRY_AFTER_S)
    response = getattr(exc, "response", None)
    for headers in (
        getattr(exc, "headers", None),
        getattr(response, "headers", None),
        _boto_metadata(response).get("HTTPHeaders"),
    ):
        value = _field(headers, "Retry-After")
        if value is not None:
            # The wait is counted from the server's own clock where it says what that shows.
            sent = parse_http_date(_field(headers, "Date") or "")
            return parse_retry_after(value, now=time.time() if sent is None else sent)
    return None


def _field(headers: object, name: str) -> str | None:
    """Return a header's value from a mapping of any of the usual spellings."""
    get = getattr(headers, "get", None)
    if get is None:
        return None
    value = get(name) or get(name.lower())
    return value if isinstance(value, str) else None
