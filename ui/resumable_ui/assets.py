"""The page's files, read once. Content types are from our own table: the registry of a Windows machine, and many a
``/etc/mime.types``, calls JavaScript text/plain, and then no module loads (cpython#88141, panel#4721).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from msgspec import Struct

from resumable_ui.httpmessage import HttpAnswer

CONTENT_TYPES: Final[Mapping[str, str]] = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
    "png": "image/png",
    "ico": "image/x-icon",
    "woff2": "font/woff2",
    "txt": "text/plain; charset=utf-8",
    "md": "text/plain; charset=utf-8",
}


class Asset(Struct, frozen=True):
    """One file."""

    body: bytes
    content_type: str
    etag: str


class Assets:
    """All files below ``static/``, by path; what is not there at the start is never served."""

    def __init__(self, found: Mapping[str, Asset]) -> None:
        """Use ``load``."""
        self._found = dict(found)

    @classmethod
    def load(cls) -> Assets:
        """Read them all; blocking, a few hundred KB at most."""
        return cls(dict(_walk(files("resumable_ui").joinpath("static"), "")))

    def __contains__(self, path: str) -> bool:
        """Return whether there is a file of this name."""
        return path in self._found

    @property
    def paths(self) -> list[str]:
        """The names, sorted."""
        return sorted(self._found)

    def answer(self, path: str, if_none_match: str = "") -> HttpAnswer | None:
        """Return the file (304 where the client has it), None where there is none."""
        asset = self._found.get(path)
        if asset is None:
            return None
        headers = {"Cache-Control": "no-cache", "ETag": asset.etag}
        if asset.etag in {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}:
            return HttpAnswer(status=304, content_type=asset.content_type, headers=headers)
        return HttpAnswer(body=asset.body, content_type=asset.content_type, headers=headers)


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, Asset]]:
    found: list[tuple[str, Asset]] = []
    for entry in folder.iterdir():
        if entry.name.startswith((".", "__")):
            continue
        if entry.is_dir():
            found += _walk(entry, f"{prefix}{entry.name}/")
            continue
        content_type = CONTENT_TYPES.get(entry.name.rpartition(".")[2].lower())
        if content_type is not None:
            body = entry.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
            found.append((f"{prefix}{entry.name}", Asset(body, content_type, etag)))
    return found
