"""Who is let in: the host names this hub answers to, the origins of pages that may speak to it, tokens, roles. Pure.

A page on any site can make a browser send requests to 127.0.0.1. Three checks keep it out, each for what the others
miss: the Host header (a name of the attacker's that resolves to us, DNS rebinding), the Origin header (his page), and
the token. ``X-Forwarded-*`` is believed nowhere: anybody can send it.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from resumable_ui.clients import Role

LOOPBACK_NAMES: Final = frozenset({"127.0.0.1", "localhost", "::1"})

SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""On every answer of ours."""


def new_token() -> str:
    """Return a random token for one run of a hub: 192 bits, safe in a URL's fragment."""
    return secrets.token_urlsafe(24)


Authorize = Callable[[Mapping[str, str]], Role | None]
"""Looks at a request's headers (names in lower case), such as a session cookie; None refuses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The rules of one hub. Secure as it stands: a random token, loopback names only."""

    token: str | None = field(default_factory=new_token, repr=False)
    """Of operators; None lets everybody in who passes the other checks."""
    viewer_token: str | None = field(default=None, repr=False)
    """Of those who may look, not act."""
    hosts: frozenset[str] | None = frozenset()
    """Host names besides loopback's, lower case, without port; None answers to every name."""
    authorize: Authorize | None = field(default=None, repr=False)
    """Asked where no token was given: lets a host application use its own sessions."""

    def role_of(self, token: object, headers: Mapping[str, str]) -> Role | None:
        """Return the role a token or the request's headers earn; None refuses."""
        if isinstance(token, str) and token:
            if self.token is not None and _same(token, self.token):
                return Role.OPERATOR
            if self.viewer_token is not None and _same(token, self.viewer_token):
                return Role.VIEWER
        if self.authorize is not None:
            return self.authorize(headers)
        return Role.OPERATOR if self.token is None else None

    def host_allowed(self, host: str | None) -> bool:
        """Return whether a ``Host`` header names this hub."""
        if self.hosts is None:
            return True
        name = hostname_of(host or "")
        return name is not None and (name in LOOPBACK_NAMES or name in self.hosts)

    @staticmethod
    def site_allowed(headers: Mapping[str, str]) -> bool:
        """Return whether a request without an Origin header comes from a page of ours, as far as the browser says.

        Images, scripts and forms of another site send none, but browsers add ``Sec-Fetch-Site`` (W3C Fetch Metadata)
        on loopback and over https. Where there is an Origin, that decides.
        """
        return "origin" in headers or headers.get("sec-fetch-site") not in {"cross-site", "same-site"}

    def origin_allowed(self, origin: str | None, host: str | None) -> bool:
        """Return whether a page of ``origin`` may speak to us; no Origin header means that it is no page of another
        site.
        """
        if origin is None:
            return True
        parts = _origin_parts(origin)
        if parts is None:
            return False
        scheme, name, port = parts
        here = _host_parts(host or "", scheme)
        if here == (name, port):
            return True
        # A proxy that puts its own name for us into Host leaves the public one in Origin.
        return self.hosts is not None and name in self.hosts


def bearer(headers: Mapping[str, str]) -> str | None:
    """Return the token of an ``Authorization: Bearer`` header."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def is_loopback(host: str) -> bool:
    """Return whether an address to listen on can be reached from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_address(text: str) -> bool:
    """Return whether a text is an IP address, without brackets."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def hostname_of(host: str) -> str | None:
    """Return the name of a ``Host`` header in lower case, without port and brackets; None for what is none."""
    parts = _host_parts(host, "http")
    return None if parts is None else parts[0]


def _host_parts(host: str, scheme: str) -> tuple[str, int] | None:
    if not host or any(character in host for character in "/\\@?# \t"):
        return None
    return _authority(f"{scheme}://{host}")


def _origin_parts(origin: str) -> tuple[str, str, int] | None:
    scheme, mark, rest = origin.partition("://")
    if not mark or scheme not in {"http", "https"} or any(character in rest for character in "/\\@?# \t"):
        return None
    parts = _authority(origin)
    return None if parts is None else (scheme, *parts)


def _authority(url: str) -> tuple[str, int] | None:
    try:
        parts = urlsplit(url)
        name, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not name:
        return None
    return name.lower().rstrip("."), port or (443 if parts.scheme == "https" else 80)


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode("utf-8", "surrogatepass"))
