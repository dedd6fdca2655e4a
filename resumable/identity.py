"""Which links are the same one: what signs a link does not identify it. Pure; no secret is in what it returns."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from resumable.model import DownloadRequest

__all__ = ["identities", "link_of", "share_link"]

_SIGNED_BY_NAME: Final = re.compile(r"x-(?:amz|goog)-.+|x-oss-(?:signature.*|date|expires|credential)", re.IGNORECASE)
"""Parameters that only signing adds, whatever else is in the link: AWS and Google version 4, Aliyun."""
_SIGNED_BY_KEY: Final = frozenset({"key-pair-id", "awsaccesskeyid", "googleaccessid", "ossaccesskeyid"})
"""With one of these and ``Signature``, a link is signed as CloudFront or version 2 of those three do it."""
_SIGNED_WITH_KEY: Final = _SIGNED_BY_KEY | {"expires", "signature", "policy"}
_SIGNED_BY_AZURE: Final = frozenset(
    {"sig", "se", "sv", "sp", "sr", "st", "spr", "sip", "ss", "srt", "skoid", "sktid", "skt", "ske", "sks", "skv"}
)
"""A shared access signature; only with ``sig`` beside ``se`` or ``sv`` are such short names known to be one."""


@lru_cache(maxsize=64)  # of one download it is asked half a dozen times, within a moment
def link_of(url: str) -> str:
    """Return what identifies a link without its secrets: two links signed at different times are the same one.

    Left out is only what is known to sign. A ``token`` may be all that tells two files apart (share links).
    """
    parts = urlsplit(url)
    given = parse_qsl(parts.query, keep_blank_values=True)
    signing = _signing({name.lower() for name, _ in given})
    query = [(k, v) for k, v in given if k.lower() not in signing and _SIGNED_BY_NAME.fullmatch(k) is None]
    # Hashed: what identifies may still be secret.
    identity = hashlib.sha256(urlencode(query).encode()).hexdigest()[:16] if query else ""
    return f"{parts.scheme}://{parts.hostname}:{parts.port or ''}{parts.path}?{identity}"


def _signing(names: set[str]) -> frozenset[str]:
    """Return which parameters sign a link that has these ``names``, in lower case; they are told by their company."""
    signing: frozenset[str] = frozenset()
    if "signature" in names and names & _SIGNED_BY_KEY and names & {"expires", "policy"}:
        signing |= _SIGNED_WITH_KEY
    if "sig" in names and names & {"se", "sv"}:
        signing |= _SIGNED_BY_AZURE
    return signing


def identities(request: DownloadRequest) -> tuple[str, ...]:
    """Return what identifies the links of a request, the first one's first."""
    return tuple(link_of(link) for link in (request.url, *request.mirrors))


def share_link(known: Iterable[str], other: Iterable[str]) -> bool:
    """Return whether two sets of link identities have one in common; one that was never recorded agrees with any."""
    one = set(known)
    return not one or not one.isdisjoint(other)
