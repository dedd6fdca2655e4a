"""Which address is asked next: parsing, and the rules for following redirects. Pure.

One parser (yarl) serves the check and the connection, so that no address can look different to the two. Paths and
queries are kept byte for byte: a signature is computed over what was written, and normalising ``%7E`` breaks it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

from yarl import URL

from resumable.errors import RedirectRefused
from resumable.redact import redact_url

SCHEMES: Final = frozenset({"http", "https"})
REDIRECTS: Final = frozenset({300, 301, 302, 303, 307, 308})
"""RFC 9110 15.4: statuses whose ``Location`` is followed. 304 is an answer, 305 and 306 are dead."""

# What WHATWG leaves alone in a path or a query; an existing %XX is never touched.
_KEEP: Final = "%!$&'()*+,;=:@/?[]|~^"
_HOST: Final = re.compile(r"[0-9A-Za-z._-]+|(?=.*:)[0-9A-Fa-f:.]+(%[0-9A-Za-z]+)?")
_BLANK: Final = "".join(map(chr, range(0x21)))
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def parse_url(text: str) -> URL:
    """Return the address to ask, its fragment dropped and its host in ASCII; ValueError where it is none we ask.

    Blanks around it are cut off first, as every browser does (CVE-2023-24329 was a scheme check that did not).
    """
    parts = urlsplit(_trimmed(text))
    if parts.scheme not in SCHEMES:
        msg = f"{parts.scheme or 'no scheme'} is not http or https"
        raise ValueError(msg)
    authority = URL(f"{parts.scheme}://{parts.netloc}")
    host = authority.raw_host
    if not host or not _HOST.fullmatch(host):
        msg = "the address names no host"
        raise ValueError(msg)
    return URL.build(
        scheme=parts.scheme,
        authority=authority.raw_authority,
        path=quote(parts.path or "/", safe=_KEEP, errors="surrogateescape"),
        query_string=quote(parts.query, safe=_KEEP, errors="surrogateescape"),
        encoded=True,
    )


def _trimmed(text: str) -> str:
    text = text.strip(_BLANK)
    if _CONTROL.search(text):
        # urllib would drop line breaks and tabs without a word, and see another address than the log shows.
        msg = "the address holds a control character"
        raise ValueError(msg)
    return text


def location(status: int, headers: Mapping[str, str]) -> str | None:
    """Return where the answer redirects to, None where it is not a redirect (300 without ``Location`` is an answer)."""
    return headers.get("location") if status in REDIRECTS else None


def next_hop(current: URL, where: str, visited: Collection[str], *, most: int) -> URL:
    """Return the address a redirect leads to, without user info: a server does not get to choose what we log in with.

    Raises RedirectRefused for a loop, more than ``most`` redirects, https to http, and an address that is not HTTP.
    """
    shown = redact_url(str(current))
    if len(visited) > most:
        msg = f"more than {most} redirects"
        raise RedirectRefused(msg, url=shown)
    why = ""
    try:
        url = parse_url(urljoin(str(current), _trimmed(where))).with_user(None)
    except ValueError as error:
        why = type(error).__name__
    if why:
        # Outside the handler: urllib and yarl quote the address in theirs, which must not hang on as ``__context__``.
        msg = "the server redirects to an address that is not http or https"
        raise RedirectRefused(msg, url=shown) from ValueError(why)
    if current.scheme == "https" and url.scheme != "https":
        msg = "the server redirects from https to http, where anybody on the way could change the file"
        raise RedirectRefused(msg, url=shown)
    if str(url) in visited:
        msg = "the server redirects in a circle"
        raise RedirectRefused(msg, url=shown)
    return url
