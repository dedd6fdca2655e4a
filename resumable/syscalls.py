"""System calls that Python does not offer: ``fallocate``, ``sync_file_range``, ``renameat2``, reading the umask.

Not portable, and not silent about it: where the C library lacks a call, OSError(ENOSYS) is raised as an old kernel
would.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Callable
from typing import Any, Final

__all__ = ["fallocate", "rename_new", "start_writeback", "umask"]

_FALLOC_FL_KEEP_SIZE: Final = 1
_RENAME_NOREPLACE: Final = 1
_SYNC_FILE_RANGE_WRITE: Final = 2


def _load(*names: str, arguments: tuple[Any, ...]) -> Callable[..., int]:
    library = ctypes.CDLL(None, use_errno=True)
    for name in names:
        with contextlib.suppress(AttributeError):
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, ctypes.c_int
            return function  # type: ignore[no-any-return]
    return _missing


def _missing(*_: object) -> int:
    ctypes.set_errno(errno.ENOSYS)
    return -1


# fallocate64 where there is one: off_t of plain fallocate has 32 bits on 32-bit glibc.
_fallocate: Final = _load(
    "fallocate64", "fallocate", arguments=(ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
)
_sync_file_range: Final = _load(
    "sync_file_range", arguments=(ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
)
_renameat2: Final = _load(
    "renameat2", arguments=(ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
)


def fallocate(fd: int, length: int) -> None:
    """Allocate blocks for the first ``length`` bytes without changing the file's size (FALLOC_FL_KEEP_SIZE).

    Not ``posix_fallocate``: glibc emulates that by writing to every block where the file system cannot do it. The
    size stays what it is, so that an unfinished file does not look finished (aria2 without its control file), and so
    that FAT, which has no holes, need not write zeros up to the new end.

    Raises OSError: EOPNOTSUPP, ENOSYS, ENOSPC, EDQUOT, EFBIG, ...
    """
    while _fallocate(fd, _FALLOC_FL_KEEP_SIZE, 0, length) != 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


def start_writeback(fd: int, offset: int, length: int) -> None:
    """Have the system begin to bring these bytes to the device, and do not wait for it (SYNC_FILE_RANGE_WRITE).

    A hint: nothing is promised about durability, and what cannot be done is not done. An error of the device is not
    told here and not taken away from the ``fsync`` that follows.
    """
    _sync_file_range(fd, offset, length, _SYNC_FILE_RANGE_WRITE)


def rename_new(directory: int, old: str, new: str) -> None:
    """Rename within one open directory, atomically and never over an existing name (renameat2, RENAME_NOREPLACE).

    Raises OSError: EEXIST where ``new`` exists; ENOSYS, EINVAL or EOPNOTSUPP where system or file system cannot do it.
    """
    if _renameat2(directory, os.fsencode(old), directory, os.fsencode(new), _RENAME_NOREPLACE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), new)


def umask() -> int:
    """Return the process's umask. Blocking."""
    # os.umask() can only be read by setting it, and a file another thread makes in between would be open to everybody.
    # Unbuffered: each call of the system is a chance to lose the interpreter to a busy event loop.
    with contextlib.suppress(OSError, ValueError), open("/proc/self/status", "rb", buffering=0) as status:
        _, found, rest = status.read(256).partition(b"\nUmask:")  # the second line, behind the program's name
        if found:
            return int(rest.split(maxsplit=1)[0], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
