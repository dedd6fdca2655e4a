"""Which proxy the environment asks for: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY as curl reads them.

Pure. Not aiohttp's ``trust_env``: that also sends netrc credentials to every host on the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Final

from yarl import URL

from resumable.credentials import login_in

_SCHEMES: Final = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, with the ``Proxy-Authorization`` it wants; the URL holds no user info."""

    url: URL
    authorization: str | None = field(default=None, repr=False)


def proxy_for(url: URL, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for ``url``, None for a direct connection; ValueError for one we cannot use (SOCKS, garbage).

    A proxy that cannot be used is an error and never ignored: going direct could be what the proxy is there to prevent.
    """
    setting = _setting(url.scheme, environ)
    if not setting or _bypassed(url, environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
        return None
    try:
        proxy = URL(setting if "://" in setting else f"http://{setting}")
        usable = proxy.scheme in _SCHEMES and bool(proxy.raw_host)
    except ValueError:
        usable = False
    if not usable:
        msg = "the proxy set in the environment is not an http or https address"
        raise ValueError(msg)
    return Proxy(proxy.origin(), login_in(proxy))


def _setting(scheme: str, environ: Mapping[str, str]) -> str:
    names = [f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"]
    # Under CGI a request header ``Proxy:`` becomes HTTP_PROXY (httpoxy, CVE-2016-5385).
    forged = {"HTTP_PROXY"} if "REQUEST_METHOD" in environ else set()
    return next((environ[name].strip() for name in names if name in environ and name not in forged), "")


def _bypassed(url: URL, no_proxy: str) -> bool:
    host = (url.raw_host or "").rstrip(".")
    for entry in no_proxy.replace(",", " ").lower().split():
        name, port = _split_port(entry)
        if port is not None and port != url.port:
            continue
        domain = name.removeprefix("*").removeprefix(".")
        if name == "*" or (domain and f".{host}".endswith(f".{domain}")) or _in_network(host, name):
            return True
    return False


def _split_port(entry: str) -> tuple[str, int | None]:
    name, colon, port = entry.rpartition(":")
    if entry.startswith("[") and "]" in entry:
        name, _, rest = entry[1:].partition("]")
        return name, int(rest[1:]) if rest[1:].isdecimal() else None
    if colon and ":" not in name and port.isdecimal():
        return name, int(port)
    return entry, None


def _in_network(host: str, name: str) -> bool:
    try:
        return ip_address(host) in ip_network(name, strict=False)
    except ValueError:
        return False
