"""What a running task was asked, kept on disk so that it can be asked again when the broker has lost it.

Arguments may hold secrets (a signed link, a token), so they do not go into the state file but beside it, one file for
each running task, folder 0700 and file 0600, as the links of downloads do. All methods block: callers run them off the
event loop.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["MessageStore"]

_LONGEST = 1 << 20


class MessageStore:
    """The messages of the tasks that have begun and not ended."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is made when it is first needed."""
        self._folder = folder

    def put(self, task_id: str, message: Mapping[str, Any]) -> bool:
        """Keep a message. False where that cannot be done: not JSON, above 1 MiB, no room; then only the broker has
        it.
        """
        path = self._path(task_id)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            text = json.dumps(message, separators=(",", ":"))
            if len(text) > _LONGEST:
                return False
            if not self._folder.is_dir():
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(temporary, path)
        except (OSError, TypeError, ValueError):
            return False
        return True

    def get(self, task_id: str) -> dict[str, Any] | None:
        """Return a message; None where it is not kept."""
        try:
            message = json.loads(self._path(task_id).read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return message if isinstance(message, dict) else None

    def drop(self, task_id: str) -> None:
        """Forget a message."""
        try:
            self._path(task_id).unlink(missing_ok=True)
        except OSError:
            return

    def _path(self, task_id: str) -> Path:
        # The id comes out of a message: it must not lead out of the folder.
        name = "".join(char if char.isalnum() or char in "-_" else "_" for char in task_id)[:100]
        return self._folder / f"{name}.json"
