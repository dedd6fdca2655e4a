"""From what a caller says to a checked request, to its stored form, and back. Nothing here touches the network or
the disk.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from resumable.digests import parse_sha256
from resumable.errors import DestinationError
from resumable.filename import PART_SUFFIX
from resumable.identity import identities, link_of, share_link
from resumable.linkstore import Links
from resumable.model import DownloadRequest, Durability, Options
from resumable.redact import has_secret, hides, redact_url
from resumable.rows import DownloadRow, is_text

_UNSAFE: Final = re.compile(r"[\x00-\x20\x7f]")
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def checked_request(
    url: str,
    dest: Path | str | None,
    *,
    directory: Path | str | None = None,
    project: str = "",
    mirrors: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
    sha256: str | None = None,
    options: Options,
) -> DownloadRequest:
    """Return the request; raises ValueError for a bad link, digest, header or number, DestinationError for a bad
    path.
    """
    for link in (url, *mirrors):
        check_url(link)
    for name, value in (headers or {}).items():
        if _TOKEN.fullmatch(name) is None or "\r" in value or "\n" in value or "\0" in value:
            msg = f"not a header field: {name!r}"
            raise ValueError(msg)
    _check_options(options)
    folder, filename = _place(dest, directory)
    return DownloadRequest(
        url=url,
        directory=folder,
        filename=filename,
        mirrors=tuple(mirrors),
        headers=dict(headers or {}),
        sha256=None if sha256 is None else parse_sha256(sha256),
        project=project,
        options=options,
    )


def check_url(url: str) -> None:
    """Raise ValueError, naming what is wrong without showing a secret, unless ``url`` is an http or https link with
    a host.
    """
    if _UNSAFE.search(url):
        raise ValueError("the URL has blanks or control characters in it; percent-encode them")
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        msg = f"not a URL: {redact_url(url)}"
        raise ValueError(msg) from None  # its words quote the link
    if parts.scheme.lower() not in {"http", "https"}:
        what = f"the scheme {parts.scheme!r} is not supported" if parts.scheme else "it has no scheme"
        msg = f"cannot download {redact_url(url)}: {what}; give an http:// or https:// URL"
        raise ValueError(msg)
    if not host:
        msg = f"not a URL: {redact_url(url)} names no host"
        raise ValueError(msg)


def _check_options(options: Options) -> None:
    limits = (
        ("connections", options.connections, 1),
        ("chunk_size", options.chunk_size, 1 << 12),
        ("limit_rate", options.limit_rate, 1),
        ("max_bytes", options.max_bytes, 0),
        ("min_rate", options.min_rate, 0),
    )
    for name, value, least in limits:
        if value is not None and value < least:
            msg = f"{name} must be at least {least}, not {value}"
            raise ValueError(msg)
    for name, seconds in (
        ("checkpoint_interval_s", options.checkpoint_interval_s),
        ("connect_timeout_s", options.connect_timeout_s),
        ("stall_timeout_s", options.stall_timeout_s),
    ):
        if not 0 < seconds < float("inf"):
            msg = f"{name} must be a positive number of seconds, not {seconds}"
            raise ValueError(msg)


def _place(dest: Path | str | None, directory: Path | str | None) -> tuple[Path, str | None]:
    if dest is None:
        return Path(_folder(directory)), None
    text = os.fspath(dest)
    if "\0" in text:
        raise DestinationError("a file name cannot hold a NUL character")
    if not text:
        raise DestinationError("the file name is empty")
    path = os.path.expanduser(text)
    if not os.path.isabs(path):
        path = os.path.join(_folder(directory), path)
    if text.endswith(os.sep):
        return Path(os.path.abspath(path)), None
    path = os.path.abspath(path)
    name = os.path.basename(path)
    if not name:
        raise DestinationError(f"{text} is a folder, not a file name")
    if name.lower().endswith(PART_SUFFIX):
        # Published, it would replace the part file of another download, or be taken for one and written over.
        meant = name[: -len(PART_SUFFIX)] or "another name"
        raise DestinationError(f"{name} is what the unfinished part of a download is called; give {meant}")
    return Path(os.path.dirname(path)), name


def _folder(directory: Path | str | None) -> str:
    return os.path.abspath("." if directory is None else os.path.expanduser(directory))


def key_of(request: DownloadRequest) -> str:
    """Return the key that makes two requests the same download: the destination, or folder and link while the name
    is unknown.

    Parameters that only sign a link are left out, so that a link signed anew continues the same download.
    """
    if request.dest is not None:
        return _text(request.dest)
    return f"{_text(request.directory)}/?{link_of(request.url)}"


def require_same_file(stored: Mapping[str, Any], request: DownloadRequest, download_id: str) -> None:
    """Raise DestinationError unless a stored request, by its links or its digest, is for the same file as ``request``:
    two links into one file would give one of the callers the wrong content.
    """
    digest = stored.get("sha256")
    if request.sha256 is not None and digest == request.sha256:
        return
    if request.sha256 is not None and digest is not None:
        what = f"with another digest, {digest}"
    elif not share_link(stored.get("links", ()), identities(request)):
        what = f"from another link, {stored.get('url')}"
    else:
        return
    raise DestinationError(
        f"{request.dest or request.directory} is being downloaded {what};"
        f" give another file name, or end that one first: resumable cancel {download_id}"
    )


def _text(path: Path) -> str:
    return str(path) if is_text(str(path)) else f"bytes:{os.fsencode(path).hex()}"


def id_of(key: str) -> str:
    """Return the id of the download with this key: the same in every process, so that a second request joins the
    first.
    """
    return "d" + hashlib.sha256(key.encode()).hexdigest()[:10]


def stored_request(request: DownloadRequest, *, priority: int = 0) -> dict[str, Any]:
    """Return what the database keeps: JSON-safe and without secrets."""
    links = (request.url, *request.mirrors)
    shown = [redact_url(link) for link in links]
    secrets = any(hides(one, link) for one, link in zip(shown, links, strict=True)) or bool(request.headers)
    return {
        "url": shown[0],
        "mirrors": shown[1:],
        "links": list(identities(request)),
        "sha256": request.sha256,
        "project": request.project,
        "filename": request.filename,
        "has_secrets": secrets,
        "priority": priority,
        "limit_rate": request.options.limit_rate,
        "max_bytes": request.options.max_bytes,
        "durability": request.options.durability.value,
    }


def request_of(row: DownloadRow, links: Links | None, options: Options) -> DownloadRequest | None:
    """Return the request of a stored download; None where its link was secret and is not kept."""
    stored = row.request
    known = stored.get("links", ())
    if not stored.get("has_secrets"):
        links = None
    elif links is None or (known and _place_of(link_of(links.url)) not in map(_place_of, known)):
        return None  # not kept, or what is kept was asked for before
    if links is None:
        links = Links(str(stored["url"]), tuple(stored.get("mirrors", ())))
    return DownloadRequest(
        url=links.url,
        directory=Path(row.directory),
        filename=stored.get("filename"),
        mirrors=links.mirrors,
        headers=links.headers,
        sha256=stored.get("sha256"),
        project=str(stored.get("project", "")),
        options=replace(
            options,
            limit_rate=options.limit_rate or stored.get("limit_rate"),
            max_bytes=options.max_bytes or stored.get("max_bytes"),
            durability=Durability(stored.get("durability", options.durability)),
        ),
    )


def _place_of(identity: str) -> str:
    return identity.partition("?")[0]


def links_of(request: DownloadRequest) -> Links:
    """Return the secret half of a request."""
    return Links(request.url, request.mirrors, dict(request.headers))


def relinked(row: DownloadRow, links: Links | None, url: str) -> tuple[DownloadRow, Links]:
    """Return a stored download and its secret half with a fresh link; raises ValueError for a bad one.

    Mirrors and headers stay as far as they are still known.
    """
    check_url(url)
    known = links or Links(url)
    fresh = Links(url, known.mirrors, known.headers)
    secret = any(has_secret(link) for link in (url, *fresh.mirrors)) or bool(fresh.headers)
    mirrors = [redact_url(mirror) for mirror in fresh.mirrors]
    same = [link_of(link) for link in (url, *fresh.mirrors)]
    stored = {**row.request, "url": redact_url(url), "mirrors": mirrors, "links": same, "has_secrets": secret}
    # Who gives a fresh link says that the file is the same.
    return replace(row, request=stored, equals=(*row.equals, link_of(url))), fresh
