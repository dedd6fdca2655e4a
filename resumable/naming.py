"""Takes a name for a file that its origin names: one that nobody has, whoever asks for it at the same time; and opens
its part file.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable, Container
from pathlib import Path
from typing import Final

from resumable.errors import LocalError, PartFileBusy
from resumable.filename import numbered
from resumable.partfile import DiskPartFile

__all__ = ["open_new"]

_MOST_RACES: Final = 20
_NEW: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC


async def open_new(
    directory: Path,
    suggested: str,
    promised: Container[Path] = (),
    *,
    room: int | None = None,
    named: Callable[[Path], Awaitable[bool]] | None = None,
) -> DiskPartFile:
    """Open the part file of ``suggested``, or of a numbered form of it that nobody has, in one thread hop. What another
    one opens in the moment in which it is made is left to it, and so is a path that is ``promised`` to somebody.
    ``room`` is what ``DiskPartFile.open`` takes; ``named`` says whether a download goes by a path.

    Raises as ``DiskPartFile.open``.
    """

    path, part_path = directory / suggested, directory / f"{suggested}.part"
    may_ask = named is not None and path not in promised

    def choose() -> Path:
        if may_ask and _is_empty(part_path, path):
            raise _LeftBehind
        return directory / f"{_reserve_name(directory, suggested, promised)}.part"

    for _ in range(_MOST_RACES):
        try:
            return await DiskPartFile.open(part_path, choose=choose, room=room)
        except _LeftBehind:
            may_ask = False
            found = None if named is None or await named(path) else await _taken_up(part_path, path, room)
            if found is not None:
                return found
        except PartFileBusy as error:
            busy = error
    raise busy


class _LeftBehind(Exception):  # noqa: N818 - names what is there
    """An empty part file of the name that is wanted."""


async def _taken_up(part_path: Path, path: Path, room: int | None) -> DiskPartFile | None:
    """Return the part file of ``path`` that a process has made which was killed before it wrote the name down; None
    where it is somebody's. Left alone, the file would be called ``name.1``, beside an empty part file for ever.
    """
    try:
        found = await DiskPartFile.open(part_path, choose=lambda: part_path, room=room)
    except LocalError:
        return None  # somebody is at work on it, or it is no file of ours
    try:
        if await asyncio.to_thread(_is_empty, part_path, path):  # now that nobody else can write to it
            return found
    except BaseException:
        await found.close()
        raise
    await found.close()
    return None


def _is_empty(part_path: Path, path: Path) -> bool:
    try:
        found = os.lstat(part_path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == 0 and not os.path.lexists(path)


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
