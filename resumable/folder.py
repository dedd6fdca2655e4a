"""The folder of a part file, held open: names are looked up in the folder itself, not along a path that may change.

Blocking, for hop threads. It knows nothing of part files; errors are plain OSErrors, but for opening it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path
from typing import Final, Self

from resumable import syscalls
from resumable.disk_errors import missing_folder

__all__ = ["Folder", "same_file"]

_FILE: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
_UNSUPPORTED: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK})
_NO_SYNC: Final = frozenset({errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.EOPNOTSUPP})


class Folder:
    """An open directory. ``path`` is how it was named when it was opened."""

    __slots__ = ("_fd", "path")

    def __init__(self, path: Path, fd: int) -> None:
        """Own ``fd``."""
        self.path = path
        self._fd = fd

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the directory; raises DestinationError naming the folder that is missing, or is none."""
        try:
            return cls(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as error:
            raise missing_folder(error, path) from error

    def close(self) -> None:
        """Give the descriptor back."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def still_there(self) -> bool:
        """Whether its path still leads to this directory."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return same_file(os.stat(self.path), os.fstat(self._fd))
        return False

    def stat(self, name: str) -> os.stat_result | None:
        """Return the status of ``name`` itself, not of what a link points to; None where there is none."""
        with contextlib.suppress(FileNotFoundError):
            return os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        return None

    def open_file(self, name: str) -> tuple[int, bool]:
        """Open ``name`` for reading and writing, mode 0600 when it is new; return the descriptor and whether it is new.

        Raises OSError: ELOOP for a symbolic link, EISDIR, ENXIO for a socket, FileNotFoundError when it vanished in
        between.
        """
        try:
            return os.open(name, _FILE | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self._fd), True
        except FileExistsError:
            # O_NONBLOCK: a FIFO or a device put there must not make us wait.
            return os.open(name, _FILE | os.O_NONBLOCK, dir_fd=self._fd), False

    def owner_of_new_files(self) -> int:
        """Return the uid that files made here get: not ours on FAT or root-squashed NFS. Makes and deletes a file."""
        name = f".{secrets.token_hex(8)}.owner"
        fd = os.open(name, _FILE | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self._fd)
        try:
            return os.fstat(fd).st_uid
        finally:
            os.close(fd)
            os.unlink(name, dir_fd=self._fd)

    def replace(self, old: str, new: str) -> None:
        """Rename ``old`` to ``new``, replacing a file or a link of that name, never what the link points to."""
        os.replace(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def rename_new(self, old: str, new: str) -> None:
        """Rename ``old`` to ``new`` unless that name is taken, whatever it is taken by: raises FileExistsError then."""
        try:
            syscalls.rename_new(self._fd, old, new)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self._rename_new_slowly(old, new)

    def _rename_new_slowly(self, old: str, new: str) -> None:
        try:
            # Dying between the two leaves one file with two names; opening the part file sees that.
            os.link(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        else:
            os.unlink(old, dir_fd=self._fd)
            return
        # Neither (exFAT, some FUSE file systems): take the name first, then rename over what is ours. Dying in between
        # leaves an empty file under the name; a look-then-rename could destroy somebody else's.
        os.close(os.open(new, _FILE | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self._fd))
        try:
            self.replace(old, new)
        except BaseException:
            os.unlink(new, dir_fd=self._fd)
            raise

    def remove(self, name: str) -> None:
        """Delete the file ``name``; nothing happens where there is none."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._fd)

    def sync(self) -> None:
        """Make names durable (fsync of the directory), where the file system knows such a thing."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise


def same_file(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether both describe the same inode."""
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
