"""Gives a file its final name: over what stands there, or under a free name beside it. Never over a folder or a device.

Blocking. Durability is the caller's: data synced before, the folder after.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

from resumable.disk_errors import local_error
from resumable.errors import DestinationError
from resumable.filename import numbered
from resumable.folder import Folder

__all__ = ["move_over", "move_to_free_name"]

_MOST_NAMES: Final = 10_000


def move_over(folder: Folder, name: str, dest: Path) -> Path:
    """Rename ``name`` to ``dest``, replacing a file or a symbolic link (the link itself); return ``dest``.

    Raises DestinationError where something else stands there, or the system refuses.
    """
    status = folder.stat(dest.name)
    if status is not None and stat.S_ISDIR(status.st_mode):
        raise DestinationError(f"{dest} is a folder")
    if status is not None and not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode):
        # Root downloading to /dev/null would otherwise replace it.
        raise DestinationError(f"{dest} is not a regular file and is not replaced")
    try:
        folder.replace(name, dest.name)
    except OSError as error:
        raise local_error(error, dest) from error
    return dest


def move_to_free_name(folder: Folder, name: str, dest: Path) -> Path:
    """Rename ``name`` to ``dest``, or to the first of ``dest.1.ext``, ``dest.2.ext``, ... that is free; return which.

    Raises DestinationError when none is, or the system refuses.
    """
    for n in range(_MOST_NAMES):
        path = dest if n == 0 else dest.with_name(numbered(dest.name, n))
        try:
            folder.rename_new(name, path.name)
        except FileExistsError:
            continue
        except OSError as error:
            raise local_error(error, path) from error
        return path
    raise DestinationError(f"{dest} and {_MOST_NAMES - 1} numbered names beside it are taken")
