"""Restore points: change several files as one step, and have the previous versions back if the step fails half-way.

::

    async with restore_point([config, model]) as point:
        write(point.stage(config))          # a new version beside the old one; nobody sees it yet
        await point.publish(config)         # the new version is in place, the old one is kept
        await check_that_it_works()         # raises, is cancelled, or the machine dies: the old version comes back
        write(point.stage(model))           # what is staged when the block ends is published then

Not a backup and not a transaction log for arbitrary writes: only what was staged or removed through the point is put
back; a file that is changed in place is changed. After a crash the next ``restore_point`` on the same paths, or
``settle_restore_points`` on the directory, rolls back (or, past the commit, finishes) what was left; running that twice
is harmless. Restore points on equal paths exclude each other; points whose paths merely overlap are not kept apart.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from recovery.restore_log import RestoreLog, RestoreLogDamaged, RestorePointBusy, Settled, log_path
from recovery.shield import to_the_end

__all__ = [
    "RestoreLogDamaged",
    "RestorePoint",
    "RestorePointBusy",
    "Settled",
    "restore_point",
    "settle_restore_points",
]

T = TypeVar("T")


class RestorePoint:
    """An ``async with`` block in which the given paths change together or not at all. Made by ``restore_point``."""

    def __init__(self, paths: Sequence[Path], *, log_directory: Path | None) -> None:
        self._given = self._paths = tuple(paths)
        self._log_directory = log_directory
        self._log: RestoreLog | None = None
        self.settled: Settled | None = None
        """What a dead process had left on these paths and was put right on entering; None when there was nothing."""

    def __repr__(self) -> str:
        state = "closed" if self._log is None else f"open, {len(self._log.changes)} changes"
        return f"<RestorePoint {', '.join(path.name for path in self._paths)}: {state}>"

    async def __aenter__(self) -> Self:
        """Lock the paths, put right what a dead process left on them, and begin.

        Raises:
            RestorePointBusy: the same paths are in another restore point right now.
            RestoreLogDamaged: what a dead process left cannot be read; nothing was touched.
            ValueError: two of the paths are one file, by two names of its directory.
        """
        try:
            await _in_thread(self._open)
        except asyncio.CancelledError:
            # The thread came to its end although we were cancelled, and __aexit__ will not be called.
            await self._leave(RestoreLog.undo)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Publish what is staged and commit; after any exception bring every previous version back instead."""
        if kind is not None:
            await self._leave(RestoreLog.undo)
            return
        try:
            await _in_thread(self._publish_staged)
        except BaseException:
            await self._leave(RestoreLog.undo)
            raise
        await self._leave(RestoreLog.commit)

    def stage(self, path: Path | str) -> Path:
        """Return where to write the new version of ``path``: a name in the same directory that does not exist yet.

        Write a file or make a directory there. The same name is returned until it is published.

        Raises:
            ValueError: ``path`` is not one of the restore point's paths.
        """
        return self._active().staged(self._index(path))

    async def publish(self, path: Path | str) -> None:
        """Put the staged version in place now: fsync, rename, fsync of the directory; the previous version is kept.

        A file is never missing while that happens; a directory is, for the time between two renames.

        Raises:
            ValueError: ``path`` is not one of the restore point's paths.
            FileNotFoundError: nothing is staged for it.
        """
        await _in_thread(self._active().replace, self._index(path))

    async def remove(self, path: Path | str) -> None:
        """Take ``path`` away now; what was there is kept until the block ends well.

        Raises:
            ValueError: ``path`` is not one of the restore point's paths.
        """
        await _in_thread(self._active().remove, self._index(path))

    def _open(self) -> None:
        self._paths = tuple(map(_resolved, self._given))
        _require_different(self._paths)
        file = log_path(self._paths, self._log_directory)
        while True:
            log = RestoreLog.open(file, create=True)
            assert log is not None
            if not log.identifier:
                break
            try:
                self.settled = log.settle()
            finally:
                log.close()
        try:
            log.begin(secrets.token_hex(4), self._paths)
            self._log = log
        finally:
            if self._log is None:
                log.close()

    def _publish_staged(self) -> None:
        log = self._active()
        for index in range(len(self._paths)):
            if os.path.lexists(log.staged(index)):
                log.replace(index)

    async def _leave(self, how: Callable[[RestoreLog], object]) -> None:
        log = self._log
        if log is None:
            return
        try:
            await _in_thread(how, log)
        finally:
            self._log = None
            log.close()

    def _active(self) -> RestoreLog:
        if self._log is None:
            msg = "the restore point is not open: use it inside its 'async with' block"
            raise RuntimeError(msg)
        return self._log

    def _index(self, path: Path | str) -> int:
        whole = Path(path).absolute()
        if whole in self._given:
            return self._given.index(whole)
        return [os.path.normpath(each) for each in self._given].index(os.path.normpath(whole))


def restore_point(paths: Iterable[Path | str], *, log_directory: Path | str | None = None) -> RestorePoint:
    """Return the restore point on ``paths`` (files or directories, present or not; their directories must exist).

    ``log_directory`` is where its log is kept while it is open: by default the directory of the first path. The same
    paths need the same place, or what a crash left is not found.

    Raises:
        ValueError: no path, or a path twice.
    """
    absolute = [Path(path).absolute() for path in paths]
    _require_different(absolute)
    return RestorePoint(absolute, log_directory=None if log_directory is None else Path(log_directory).absolute())


async def settle_restore_points(directory: Path | str) -> list[Settled]:
    """Put right every restore point whose log is in ``directory`` and whose owner is dead; those in use are left alone.

    Raises:
        RestoreLogDamaged: a log cannot be read; the ones before it (by name) are settled, it is untouched.
    """
    return await _in_thread(_settle_directory, Path(directory))


def _settle_directory(directory: Path) -> list[Settled]:
    settled: list[Settled] = []
    for file in sorted(directory.absolute().glob(".restore-*.log")):
        try:
            log = RestoreLog.open(file, create=False)
        except RestorePointBusy:
            continue
        if log is None:
            continue
        try:
            done = log.settle()
        finally:
            log.close()
        if done is not None:
            settled.append(done)
    return settled


def _require_different(paths: Sequence[Path]) -> None:
    if not paths or len(set(paths)) != len(paths):
        msg = "a restore point needs one path or more, each once"
        raise ValueError(msg)


def _resolved(path: Path) -> Path:
    """Return the file as the system finds it: "link/../x" is not "x", and a file has one log by all names of its
    directory. The last component stays: it may be a symbolic link that is itself to be replaced.
    """
    if path.name == "..":
        return Path(os.path.realpath(path))
    return Path(os.path.realpath(path.parent), path.name)


async def _in_thread(work: Callable[..., T], *args: object) -> T:
    # A thread cannot be interrupted: whoever is cancelled waits for it, or the undo would race with what it undoes.
    return await to_the_end(asyncio.to_thread(work, *args))
