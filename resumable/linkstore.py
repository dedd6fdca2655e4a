"""Keeps the secret half of a download beside the state file: full links and headers, one 0600 file each, in a 0700
folder.

The database has redacted links only, so it can be shown, copied and attached to a bug report. What is kept here is
needed to continue after a restart, and it is deleted with the download or as soon as that is complete
(docs/decisions/0002).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Links:
    """What must not be shown: the link, its mirrors, and the request headers."""

    url: str
    mirrors: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Show nothing."""
        return "<Links>"


class LinkStore:
    """One small file per download; all methods block, so callers run them off the event loop."""

    def __init__(self, folder: Path | None) -> None:
        """Use ``folder`` (made when first needed); None keeps links in memory only."""
        self._folder = folder
        self._memory: dict[str, Links] = {}

    def put(self, download_id: str, links: Links) -> None:
        """Keep the links of a download; a folder that cannot be written leaves them in memory."""
        self._memory[download_id] = links
        if self._folder is None:
            return
        body = json.dumps({"url": links.url, "mirrors": list(links.mirrors), "headers": dict(links.headers)})
        path = self._path(download_id)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(body)
            os.replace(temporary, path)
        except OSError:
            # Degrade, as the state does: this run has the links; the next may have to be given a fresh one.
            return

    def get(self, download_id: str) -> Links | None:
        """Return the links, None where they are not kept (or unreadable)."""
        if self._folder is not None:
            try:
                data = json.loads(self._path(download_id).read_text("utf-8"))
                return Links(
                    str(data["url"]),
                    tuple(map(str, data["mirrors"])),
                    {str(k): str(v) for k, v in data["headers"].items()},
                )
            except (OSError, ValueError, KeyError, AttributeError, TypeError):
                pass
        return self._memory.get(download_id)

    def drop(self, download_id: str) -> None:
        """Forget the links."""
        self._memory.pop(download_id, None)
        if self._folder is not None:
            try:
                self._path(download_id).unlink(missing_ok=True)
            except OSError:
                return

    def drop_all(self, download_ids: Iterable[str]) -> None:
        """Forget the links of several downloads."""
        for download_id in download_ids:
            self.drop(download_id)

    def _path(self, download_id: str) -> Path:
        if self._folder is None:
            raise RuntimeError("links are kept in memory")
        return self._folder / f"{download_id}.json"
