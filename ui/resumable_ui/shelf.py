"""Where downloads asked for from outside may go: below one folder, whatever the client writes."""

from __future__ import annotations

import os
from pathlib import Path

from resumable.filename import safe_name
from resumable_ui.refusals import Code, Refused


class Shelf:
    """One folder and all below it. Its methods look at the disk: run them off the event loop."""

    def __init__(self, root: Path) -> None:
        """``root`` need not exist yet."""
        self.root = Path(os.path.abspath(root))

    def place(self, directory: str, filename: str | None) -> tuple[Path, str | None]:
        """Return the folder (made if need be) and the file name for a new download.

        ``directory`` is relative to the root, or absolute and below it. Raises Refused for anything that would end up
        elsewhere: ``..``, links that lead out, names that are paths.
        """
        name = _checked_name(filename)
        if "\0" in directory or len(directory) > 4096:
            raise Refused(Code.BAD_REQUEST, "the folder's name is not one")
        folder = Path(os.path.normpath(os.path.join(self.root, directory)))
        root = os.path.realpath(self.root)
        self._require_below(os.path.normpath(self.root), str(folder), directory)
        self._require_below(root, os.path.realpath(folder), directory)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Refused(
                Code.NOT_ALLOWED, f"the folder cannot be made: {error.strerror or type(error).__name__}"
            ) from None
        return folder, name

    @staticmethod
    def _require_below(root: str, path: str, asked: str) -> None:
        if path != root and not path.startswith(root.rstrip(os.sep) + os.sep):
            shown = asked if len(asked) <= 100 else asked[:97] + "..."
            raise Refused(Code.FORBIDDEN, f"{shown!r} is outside of the folder this hub serves")


def _checked_name(filename: str | None) -> str | None:
    if filename is None or filename == "":
        return None
    if safe_name(filename) != filename:
        raise Refused(Code.FORBIDDEN, f"{filename[:100]!r} is not a plain file name")
    return filename
