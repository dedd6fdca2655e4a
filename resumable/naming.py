"""Takes a name for a file that its origin names: one that nobody has, whoever asks for it at the same time; and opens
its part file.
"""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path
from typing import Final

from resumable.errors import PartFileBusy
from resumable.filename import numbered
from resumable.partfile import DiskPartFile

__all__ = ["open_new"]

_MOST_RACES: Final = 20
_NEW: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC


async def open_new(
    directory: Path, suggested: str, promised: Container[Path] = (), *, room: int | None = None
) -> DiskPartFile:
    """Open the part file of ``suggested``, or of a numbered form of it that nobody has, in one thread hop. What another
    one opens in the moment in which it is made is left to it, and so is a path that is ``promised`` to somebody.
    ``room`` is what ``DiskPartFile.open`` takes.

    Raises as ``DiskPartFile.open``.
    """

    def choose() -> Path:
        return directory / f"{_reserve_name(directory, suggested, promised)}.part"

    for _ in range(_MOST_RACES):
        try:
            return await DiskPartFile.open(directory / f"{suggested}.part", choose=choose, room=room)
        except PartFileBusy as error:
            busy = error
    raise busy


def _reserve_name(directory: Path, suggested: str, promised: Container[Path]) -> str:
    """Return ``suggested`` or a numbered form of it that no file has, finished or not, and make its part file: to look
    and then to open would give two downloads one name. Blocking.

    Where no file can be made the name is returned all the same: whoever opens it says why.
    """
    name, n = suggested, 0
    while True:
        if directory / name not in promised and not os.path.lexists(directory / name):
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
