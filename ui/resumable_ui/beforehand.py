"""What the command does while the rest of it is still being loaded: it begins the connections that it will need."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from resumable.preconnect import Preconnect
from resumable_ui.arguments import Arguments

_SEVERAL: Final = 4 << 20
"""A part file of this many bytes says that more of a large file is to come, for which several connections are used."""


def preconnect(arguments: Arguments, environ: Mapping[str, str]) -> Preconnect | None:
    """Begin the connections of a command that is going to ask this server for sure; None where that is not certain."""
    if arguments.command != "get" or len(arguments.urls) != 1 or arguments.lists or os.name != "posix":
        return None
    parts = urlsplit(arguments.urls[0])
    host, scheme = parts.hostname, parts.scheme.lower()
    if host is None or not host.isascii() or _has_proxies(environ):
        return None
    path = os.path.join(arguments.directory or "", arguments.out or posixpath.basename(parts.path))
    local = arguments.no_clobber or (arguments.sha256 is not None and not arguments.restart)
    if local and os.path.lexists(path):
        return None  # it may do as it is
    several = not arguments.restart and _size(path + ".part") >= _SEVERAL
    port = parts.port or (443 if scheme == "https" else 80)
    return Preconnect(host, port, count=arguments.connections if several else 1, tls=scheme == "https")


def _has_proxies(environ: Mapping[str, str]) -> bool:
    """Whether requests may go to a proxy; which ones do is not looked into."""
    return any(environ.get(name) for name in environ if name.lower() in {"http_proxy", "https_proxy", "all_proxy"})


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
