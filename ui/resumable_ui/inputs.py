"""Checks what a user typed before anything starts: links, digests, header lines.

Pure. Every refusal is a ValueError with one sentence that names the value (secrets left out) and what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from resumable.redact import redact_url

_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # token, RFC 9110 5.6.2
_BAD_IN_VALUE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110 5.5
_BAD_IN_URL: Final = re.compile(r"[\x00-\x20\x7f]")
_OURS: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "range",
        "te",
        "transfer-encoding",
    }
)
"""Fields that decide what the bytes of an answer mean; the program sets them itself."""


def parse_url(text: str) -> str:
    """Return the link, stripped; raise ValueError unless it is ``http://`` or ``https://`` with a host."""
    url = text.strip()
    if _BAD_IN_URL.search(url):
        msg = f"not a link: {_shown(url)} holds a space (write it as %20) or a control character"
        raise ValueError(msg)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        what = "its port is no number up to 65535, or its brackets hold no IPv6 address"
        msg = f"not a link: {_shown(url)} ({what}; a password's '/', '?' and '#' are to be percent-encoded)"
        raise ValueError(msg) from None  # the error's own words quote the link
    if parts.scheme.lower() not in {"http", "https"}:
        what = f"{parts.scheme}:// is not supported" if parts.scheme and "://" in url else "no http:// or https://"
        msg = f"not a link that can be downloaded: {_shown(url)} ({what})"
        raise ValueError(msg)
    if not host:
        msg = f"not a link: {_shown(url)} names no server"
        raise ValueError(msg)
    return url


def _shown(url: str) -> str:
    """A link as an error may show it: without secrets, and not a screenful."""
    shown = redact_url(url)
    return repr(shown if len(shown) <= 100 else shown[:97] + "...")


def parse_sha256(text: str) -> str:
    """Return 64 lower-case hex digits for ``HEX``, ``sha256:HEX`` or ``sha-256=HEX``; raise ValueError otherwise."""
    digest = re.sub(r"\Asha-?256[:=]", "", text.strip(), flags=re.IGNORECASE)
    if not _SHA256.fullmatch(digest):
        msg = f"not a SHA-256: {text[:80]!r} ({len(digest)} characters; 64 hex digits are needed)"
        raise ValueError(msg)
    return digest.lower()


def parse_header(text: str) -> tuple[str, str]:
    """Return ``(name, value)`` of ``Name: value``; the value is a secret and is never part of an error."""
    name, colon, value = text.partition(":")
    name, value = name.strip(), value.strip(" \t")
    if not colon or not _FIELD_NAME.fullmatch(name):
        shown = repr(name[:40]) if colon else "it has no colon"
        msg = f"not a header: {shown} (write it as 'Name: value')"
        raise ValueError(msg)
    if _BAD_IN_VALUE.search(value):
        msg = f"not a header: the value of {name!r} holds a control character"
        raise ValueError(msg)
    if name.lower() in _OURS:
        msg = f"header {name!r} cannot be set: it decides which bytes are sent, which this program must know"
        raise ValueError(msg)
    return name, value


def parse_header_lines(lines: Iterable[str]) -> dict[str, str]:
    """Return the headers of several lines; empty ones and ``#`` comments are skipped, later ones win."""
    headers: dict[str, str] = {}
    for line in lines:
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        name, value = parse_header(stripped)
        for known in [known for known in headers if known.lower() == name.lower()]:
            del headers[known]
        headers[name] = value
    return headers
