"""Who may be told which secret, hop by hop: the caller's headers, user info in URLs, netrc. Pure; it sends nothing."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field

from yarl import URL


def basic(user: str, password: str) -> str:
    """Return the value of an ``Authorization`` header (RFC 7617; UTF-8, as its section 2.1 advises)."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode("ascii")


def login_in(url: URL) -> str | None:
    """Return the ``Authorization`` that the user info of ``url`` stands for, None where it has none."""
    return None if url.user is None else basic(url.user, url.password or "")


def origin(url: URL) -> tuple[str, str, int]:
    """Return scheme, host and port: two addresses with the same are the same origin (RFC 9110 4.3.1)."""
    return url.scheme, url.raw_host or "", url.port or 0


class Trust:
    """Says hop by hop whether the secrets of one origin may be sent; once lost it does not come back.

    A redirect chain that left an origin and returns to it was led by somebody else (CVE-2022-27774, aiohttp#13180).
    """

    def __init__(self, home: URL) -> None:
        """Trust the origin of ``home`` and no other."""
        self._origin = origin(home)
        self._kept = True

    def reaches(self, url: URL) -> bool:
        """Return whether secrets may go to ``url``, the next hop; call it once for every hop, in order."""
        self._kept = self._kept and origin(url) == self._origin
        return self._kept


@dataclass(frozen=True, slots=True)
class Told:
    """What one hop is told."""

    headers: Mapping[str, str] = field(repr=False)
    netrc: bool
    """Whether the netrc file may be asked: the hop is of the private origin and nothing else logs in."""


class Secrets:
    """The secrets of one request. Two origins own some: the private one, and that of the address which is asked first.

    The user info that stands in an address is meant for that address, also where it is a mirror of another origin.
    """

    def __init__(self, first: URL, private: URL, headers: Mapping[str, str]) -> None:
        """Keep the caller's ``headers`` for the origin of ``private``."""
        self._headers = headers
        self._own, self._own_login = Trust(first), login_in(first)
        self._private, self._private_login = Trust(private), login_in(private)

    def tell(self, url: URL) -> Told:
        """Return what the next hop, ``url``, may be told; call it once for every hop, in order."""
        own, private = self._own.reaches(url), self._private.reaches(url)
        headers = dict(self._headers) if private else {}
        login = (self._own_login if own else None) or (self._private_login if private else None)
        if any(name.lower() == "authorization" for name in headers):
            return Told(headers, netrc=False)
        if login is not None:
            headers["Authorization"] = login
        return Told(headers, netrc=private and login is None)
