"""Takes a name for a file that its origin names: one that nobody has, whoever asks for it at the same time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from resumable.filename import numbered

__all__ = ["reserve_name"]

_NEW: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC


def reserve_name(directory: Path, suggested: str) -> str:
    """Return ``suggested`` or a numbered form of it that no file has, finished or not, and make its part file: to look
    and then to open would give two downloads one name. Blocking.

    Where no file can be made the name is returned all the same: whoever opens it says why.
    """
    name, n = suggested, 0
    while True:
        if not os.path.lexists(directory / name):
            try:
                os.close(os.open(directory / f"{name}.part", _NEW, 0o600))
            except FileExistsError:
                pass
            except OSError:
                return name
            else:
                return name
        n += 1
        name = numbered(suggested, n)
