"""The log of one restore point: what it is about to change, synced before each change, so that a crash can be undone.

Blocking, and not a public interface: ``recovery.restore`` calls it in threads. Nothing here knows what the files mean.

The file is ``.restore-<hash>.log``, one record per line, ``<crc32 in hex> <JSON>``. Every line is on disk before what
it announces is done; a torn last line therefore announces something that has not happened.

=============  =====================================================================================================
record         meaning
=============  =====================================================================================================
``begin``      ``id``; ``paths``, absolute. Always the first line.
``change``     path ``index`` is about to change: ``seq`` names its kept version, ``previous`` and ``staged`` are
               ``[device, inode]`` of what is there now and of what comes (null: nothing).
``commit``     the new versions count. What is left to do is to delete kept versions.
``undone``     every path is back at its previous version. What is left to do is to delete staged versions.
=============  =====================================================================================================

Undo moves published versions aside and deletes nothing until ``undone`` is on disk: until then every inode recorded
here is in use, so none of the numbers can belong to somebody else's file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec import Struct

__all__ = ["RestoreLog", "RestoreLogDamaged", "RestorePointBusy", "Settled", "log_path"]

_NO_LINKS = frozenset({errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})

Identity = tuple[int, int]


class RestorePointBusy(Exception):  # noqa: N818 - names what happened
    """Another process, or another task of this one, has a restore point on the same paths open."""


class RestoreLogDamaged(Exception):  # noqa: N818 - names what happened
    """A line of the log other than its last is unreadable; nothing was touched, a person must look at the files."""


class Settled(Struct, frozen=True, kw_only=True):
    """What was done about a restore point that a dead process left behind."""

    log: Path
    committed: bool
    """True: the new versions count, leftovers were deleted. False: every path is back at its previous version."""
    paths: tuple[Path, ...]
    displaced: tuple[Path, ...] = ()
    """Files somebody else had put in place of ours meanwhile; set aside under these names, never overwritten."""


class _Change(Struct, frozen=True):
    index: int
    seq: int
    previous: Identity | None
    staged: Identity | None


@dataclass(slots=True)
class RestoreLog:
    """An open, locked log. Every method is safe to run again after a crash in the middle of it."""

    file: Path
    descriptor: int
    paths: tuple[Path, ...] = ()
    identifier: str = ""
    changes: list[_Change] = field(default_factory=list)
    end: str | None = None
    length: int = 0
    """Bytes of good lines; whatever follows them announced something that did not happen."""

    @classmethod
    def open(cls, file: Path, *, create: bool) -> RestoreLog | None:
        """Lock and read the log; None when there is none and ``create`` is False.

        Raises:
            RestorePointBusy: its owner is alive.
            RestoreLogDamaged: a line before the last does not have its checksum.
            PermissionError: it belongs to another user.
        """
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
        while True:
            try:
                descriptor = os.open(file, flags, 0o600)
            except FileNotFoundError:
                if create:
                    raise
                return None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                there = os.fstat(descriptor)
                _refuse_foreign(file, there)
                if _same(there, _look(file)):
                    log = cls(file, descriptor)
                    log._read()
                    return log
            except BlockingIOError:
                os.close(descriptor)
                msg = f"a restore point on these paths is in use ({file})"
                raise RestorePointBusy(msg) from None
            except BaseException:
                os.close(descriptor)
                raise
            # Its owner finished and deleted the file between our open and our lock: what we hold has no name any more.
            os.close(descriptor)

    def begin(self, identifier: str, paths: Sequence[Path]) -> None:
        """Start an empty log for ``paths``."""
        self.identifier, self.paths, self.changes, self.end, self.length = identifier, tuple(paths), [], None, 0
        self._append({"type": "begin", "id": identifier, "paths": [str(path) for path in paths]})
        _sync_directory(self.file.parent)

    def staged(self, index: int) -> Path:
        """Return where the new version of path ``index`` is written: beside it, so that a rename publishes it."""
        return self.paths[index].parent / f".restore-{self.identifier}-{index}.new"

    def kept(self, index: int, seq: int) -> Path:
        """Return where the version that change ``seq`` replaces is kept."""
        return self.paths[index].parent / f".restore-{self.identifier}-{index}-{seq}.kept"

    def aside(self, index: int, seq: int) -> Path:
        """Return where undo moves the version that change ``seq`` had published."""
        return self.paths[index].parent / f".restore-{self.identifier}-{index}-{seq}.undone"

    def replace(self, index: int) -> None:
        """Sync the staged version, keep the previous one, and rename: the path has one of the two at every moment.

        Directories cannot be exchanged in one step; a crash in between leaves no directory, and undo brings it back.

        Raises:
            FileNotFoundError: nothing is staged for this path.
        """
        staged = self.staged(index)
        _sync_tree(staged)
        self._change(index, _identity(os.lstat(staged)))
        os.rename(staged, self.paths[index])
        _sync_directory(staged.parent)

    def remove(self, index: int) -> None:
        """Take the path away and keep what was there; nothing to do where nothing is."""
        self._change(index, None)
        _sync_directory(self.paths[index].parent)

    def commit(self) -> None:
        """Make the new versions count, then delete the kept ones and the log."""
        if self.end is None:
            self._finish("commit")
        self._clean()

    def undo(self) -> tuple[Path, ...]:
        """Bring every path back to its previous version, newest change first; return what had to be set aside."""
        displaced: list[Path] = []
        if self.end is None:
            for change in reversed(self.changes):
                displaced += self._undo(change)
            for directory in self._directories():
                _sync_directory(directory)
            self._finish("undone")
        self._clean()
        return tuple(displaced)

    def settle(self) -> Settled | None:
        """Finish what a dead process began: forward from ``commit`` on, else back. None when nothing had begun."""
        if not self.identifier:
            self._clean()
            return None
        committed, paths = self.end == "commit", self.paths
        displaced: tuple[Path, ...] = ()
        if committed:
            self.commit()
        else:
            displaced = self.undo()
        return Settled(log=self.file, committed=committed, paths=paths, displaced=displaced)

    def close(self) -> None:
        """Release the lock; idempotent."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _change(self, index: int, staged: Identity | None) -> None:
        path = self.paths[index]
        there = _look(path)
        change = _Change(index, len(self.changes), None if there is None else _identity(there), staged)
        self._append(
            {"type": "change", "index": index, "seq": change.seq, "previous": change.previous, "staged": change.staged}
        )
        self.changes.append(change)
        if there is not None:
            self._keep(path, self.kept(index, change.seq), there, link=staged is not None)

    @staticmethod
    def _keep(path: Path, kept: Path, there: os.stat_result, *, link: bool) -> None:
        # A second name instead of a move: readers of a file never find it missing. Not every file system has links.
        if link and stat.S_ISREG(there.st_mode):
            try:
                os.link(path, kept)
            except OSError as exc:
                if exc.errno not in _NO_LINKS:
                    raise
            else:
                return
        os.rename(path, kept)

    def _undo(self, change: _Change) -> list[Path]:
        path, kept = self.paths[change.index], self.kept(change.index, change.seq)
        there, previous = _look(path), _look(kept)
        if previous is not None and _same(there, previous):
            # The second name exists, the rename did not happen: rename(2) between two names of one file does nothing.
            os.unlink(kept)
            return []
        displaced: list[Path] = []
        if there is not None and change.staged == _identity(there):
            aside = self.aside(change.index, change.seq)
            if not _same(_look(aside), there):
                self._keep(path, aside, there, link=previous is not None and stat.S_ISREG(previous.st_mode))
        elif there is not None and previous is not None:
            displaced.append(path.parent / f"{path.name}.displaced-{self.identifier}-{change.seq}")
            os.rename(path, displaced[0])
        if previous is not None:
            os.rename(kept, path)
        return displaced

    def _finish(self, end: str) -> None:
        self._append({"type": end})
        self.end = end

    def _clean(self) -> None:
        for change in self.changes:
            _delete(self.kept(change.index, change.seq))
            _delete(self.aside(change.index, change.seq))
        for index in range(len(self.paths)):
            _delete(self.staged(index))
        for directory in self._directories():
            _sync_directory(directory)
        with contextlib.suppress(FileNotFoundError):  # somebody tidied up; what it said is done
            os.unlink(self.file)
        _sync_directory(self.file.parent)
        self.identifier, self.paths, self.changes, self.end = "", (), [], None

    def _directories(self) -> list[Path]:
        return sorted({path.parent for path in self.paths})

    def _append(self, record: dict[str, Any]) -> None:
        body = json.dumps(record, separators=(",", ":"))
        line = f"{zlib.crc32(body.encode()):08x} {body}\n".encode()
        # What an append that failed (a full disk) left behind the last good line must not become part of the next one.
        os.ftruncate(self.descriptor, self.length)
        done = 0
        while done < len(line):
            done += os.pwrite(self.descriptor, line[done:], self.length + done)
        os.fsync(self.descriptor)
        self.length += len(line)

    def _read(self) -> None:
        size, whole = os.fstat(self.descriptor).st_size, b""
        while len(whole) < size:
            whole += os.pread(self.descriptor, size - len(whole), len(whole))
        lines = whole.split(b"\n")
        for number, line in enumerate(lines[:-1]):
            record = _parse(line)
            if record is None:
                if number < len(lines) - 2:
                    msg = f"line {number + 1} of {self.file} is unreadable; nothing was changed"
                    raise RestoreLogDamaged(msg)
                break
            self._apply(record)
            self.length += len(line) + 1

    def _apply(self, record: dict[str, Any]) -> None:
        if record["type"] == "begin":
            self.identifier, self.paths = record["id"], tuple(Path(path) for path in record["paths"])
        elif record["type"] == "change":
            previous, staged = (
                None if pair is None else (pair[0], pair[1]) for pair in (record["previous"], record["staged"])
            )
            self.changes.append(_Change(record["index"], record["seq"], previous, staged))
        else:
            self.end = record["type"]


def log_path(paths: Sequence[Path], directory: Path | None = None) -> Path:
    """Return the log's place for these absolute paths: the same paths in any order always meet at the same log."""
    digest = hashlib.sha256("\0".join(sorted(map(str, paths))).encode()).hexdigest()[:16]
    return (directory or paths[0].parent) / f".restore-{digest}.log"


def _refuse_foreign(file: Path, there: os.stat_result) -> None:
    # In a directory that others can write to, somebody else's log would make us rename and delete what he names.
    if there.st_uid != os.geteuid():
        msg = f"{file} belongs to another user; what it says is not followed"
        raise PermissionError(msg)


def _parse(line: bytes) -> dict[str, Any] | None:
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    record: dict[str, Any] = json.loads(body)
    return record


def _look(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _identity(there: os.stat_result) -> Identity:
    return there.st_dev, there.st_ino


def _same(one: os.stat_result | None, other: os.stat_result | None) -> bool:
    return one is not None and other is not None and _identity(one) == _identity(other)


def _delete(path: Path) -> None:
    there = _look(path)
    if there is None:
        return
    if stat.S_ISDIR(there.st_mode):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _sync_tree(path: Path) -> None:
    mode = os.lstat(path).st_mode
    if stat.S_ISDIR(mode):
        for entry in sorted(path.iterdir()):
            _sync_tree(entry)
        _sync_directory(path)
    elif stat.S_ISREG(mode):
        _sync(path, os.O_RDONLY)


def _sync_directory(path: Path) -> None:
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
