"""Reads a login from the user's netrc file. Who may be told it is decided in ``credentials``."""

from __future__ import annotations

import logging
import netrc
from collections.abc import Mapping
from pathlib import Path

from resumable.credentials import basic

_log = logging.getLogger(__name__)


def netrc_authorization(host: str, environ: Mapping[str, str]) -> str | None:
    """Return what the netrc file says for ``host``, None where it says nothing. Blocking: reads a file.

    Only a ``machine`` entry counts: a ``default`` one would hand a login to any host a link names (CVE-2025-0167).
    """
    named = environ.get("NETRC")
    path = Path(named) if named else Path.home() / ".netrc"
    try:
        login = netrc.netrc(str(path)).hosts.get(host) if host != "default" else None
    except FileNotFoundError:
        return None
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError) as error:
        # The parser quotes the token it choked on, which may be the password: name the kind of trouble only.
        _log.warning("the netrc file %s cannot be used: %s", path, type(error).__name__)
        return None
    if login is None:
        return None
    user, account, password = login
    return basic(user or account or "", password or "")
