"""The part file on a disk: positional writes, hashed in the same thread hop; preallocation; the final name at last.

It neither knows which bytes are good (the checkpoints do) nor what a whole file is: it does what it is told, durably.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from resumable import syscalls
from resumable.allocation import allocate, allocated, written_spans
from resumable.disk_errors import blamed, local_error
from resumable.diskspace import free_bytes
from resumable.errors import DestinationError, DeviceError, DiskFull, LocalError
from resumable.exclusive import open_exclusively, unlock
from resumable.folder import Folder, same_file
from resumable.hops import Hops
from resumable.imprint import Imprint
from resumable.ports import Digester, Sink
from resumable.publication import move_over, move_to_free_name
from resumable.ranges import Span
from resumable.reading import hash_span
from resumable.settling import until_done
from resumable.writing import write_all

__all__ = ["DiskPartFile"]

T = TypeVar("T")

_SMALL_BLOCK: Final = 64 * 1024
"""Below this the blocks of a hop are joined: an ``update`` and an iovec each cost more than copying (by 10 %)."""
_WRITEBACK_WINDOW: Final = 8 << 20
"""A window that is written whole goes to the device at once, so that little is left to wait for before the rename:
1.2 s of fsync after 1 GiB become 0.1 s."""


class DiskPartFile:
    """An open, locked part file. Any number of tasks may write different spans at once; each call is one thread hop.

    A cancelled call has ended when it raises: a hop that had begun was completed (written *and* fed to the digest),
    one that had not was dropped. Every method raises LocalError as ``local_error`` maps what the system says, and
    ValueError after ``close``.
    """

    def __init__(self, folder: Folder, name: str, fd: int, hops: Hops, *, new: bool) -> None:
        """Take over what ``open`` has opened."""
        self._fd = fd
        self._folder = folder
        self.path = folder.path / name
        self._hops = hops
        self._writing = threading.Lock()
        self._name_synced = not new
        self._length = 0
        self._imprint = Imprint()
        self._early: tuple[int, list[Span] | LocalError] | None = None
        """What became of the room that was asked for when it was opened."""
        self._doubt: str | None = None
        self._published = False
        self._ending: asyncio.Future[None] | None = None

    def __del__(self) -> None:
        """Give back what was not closed, and say so."""
        if self._fd >= 0:
            try:
                warnings.warn(f"part file {self.path} was not closed", ResourceWarning, source=self, stacklevel=2)
            finally:
                self._release(delete=False)

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        executor: Executor | None = None,
        choose: Callable[[], Path] | None = None,
        room: int | None = None,
    ) -> DiskPartFile:
        """Open the part file at ``path``, making it with mode 0600 where there is none, and lock it (flock).

        ``executor`` runs the hops; None takes the process's own. ``choose``, called in the hop, makes a part file under
        a name that nobody has, which is opened in place of ``path``. ``room`` bytes are reserved in the same hop, and
        the ``reserve`` that follows says what came of it.

        Raises:
            PartFileBusy: another process or another download of this one has it open. DestinationError: its folder is
            missing; or there is a symbolic link, a folder, a file with a second name or of
                another user.
        """
        hops = Hops(executor)

        def work() -> DiskPartFile:
            chosen = path if choose is None else choose()
            folder = Folder.open(chosen.parent)
            try:
                fd, new = open_exclusively(folder, chosen.name)
            except BaseException:
                folder.close()
                raise
            part = cls(folder, chosen.name, fd, hops, new=new or choose is not None)
            part._imprint.take(fd, reach=os.fstat(fd).st_size)  # blocking, so not in __init__
            if room is not None:
                part._reserve_early(room)
            return part

        return await hops.run(partial(blamed, path, work), undo=_give_back)

    # -- bytes ---------------------------------------------------------------------------------------------------------

    async def write(self, offset: int, blocks: Sequence[bytes | memoryview], digest: Digester) -> bytes:
        """Write the blocks one after the other at ``offset``, feed them to ``digest`` and return its digest so far.

        When it raises a LocalError, ``digest`` has been fed nothing, and what is on disk from ``offset`` on is not
        known.

        Raises DiskFull, DestinationError (the file would be too large), DeviceError.
        """
        return await self._hop(partial(self._write, offset, blocks, digest))

    def _write(self, offset: int, blocks: Sequence[bytes | memoryview], digest: Digester) -> bytes:
        length = sum(map(len, blocks))
        if len(blocks) > 1 and length < len(blocks) * _SMALL_BLOCK:
            blocks = (b"".join(blocks),)
        # All is written before any is hashed: a digest never vouches for what the system did not take.
        # One at a time, as the kernel has it anyway: there the others would spin for it (a tenth of all CPU time).
        with self._writing:
            self._imprint.look(self._fd)
            try:
                write_all(self._fd, offset, blocks, partial(self._write_failed, offset + length))
                self._imprint.reach = max(self._imprint.reach, offset + length)
            finally:
                self._imprint.take(self._fd)
        first, last = offset // _WRITEBACK_WINDOW, (offset + length) // _WRITEBACK_WINDOW
        if first < last:
            syscalls.start_writeback(self._fd, first * _WRITEBACK_WINDOW, (last - first) * _WRITEBACK_WINDOW)
        for block in blocks:
            digest.update(block)
        return digest.digest()

    def _write_failed(self, stop: int, offset: int, error: OSError) -> LocalError:
        return local_error(error, self.path, needed=max(stop - offset, self._length - allocated(self._fd)))

    async def hash_span(self, offset: int, length: int, digest: Sink) -> int:
        """Feed up to ``length`` bytes from the disk to ``digest``; return how many there were before the file's end.

        Raises DeviceError.
        """
        return await hash_span(self._hop, self._fd, offset, length, digest)

    # -- room ----------------------------------------------------------------------------------------------------------

    async def reserve(self, length: int) -> list[Span]:
        """Make sure that a file of ``length`` bytes fits: allocate its blocks, where that can be done without a write.
        Return the spans of the first ``length`` bytes that somebody has written before.

        The size of the file stays what it is, or becomes ``length`` where nothing can be allocated. What is allocated
        already does not count as needed. Not while writes are under way.

        Raises DiskFull with the amounts; DestinationError when the file system holds no file of that size; DeviceError.
        """
        early, self._early = self._early, None
        if early is None or early[0] != length:
            return await self._hop(partial(self._reserve, length, alone=self._hops.flying == 0))
        self._require_open()
        if isinstance(early[1], list):
            return early[1]
        raise early[1]

    def _reserve_early(self, length: int) -> None:
        try:
            self._early = length, self._reserve(length, alone=True)
        except OSError as error:
            self._early = length, local_error(error, self.path)
        except LocalError as error:
            self._early = length, error

    def _reserve(self, length: int, *, alone: bool) -> list[Span]:
        self._length = length
        written = written_spans(self._fd, length)
        with self._writing:
            self._imprint.look(self._fd)
            try:
                allocate(self._fd, self.path, length, alone=alone)
            finally:
                self._imprint.take(self._fd)
        return written

    async def truncate(self, length: int) -> bool:
        """Cut or extend the file to exactly ``length`` bytes; False where another program has cut it since it was
        opened or truncated, or seems to have written to it or made holes in it: what was written may be gone. Not
        while writes are under way.

        Raises DestinationError where that is too large.
        """
        return await self._hop(partial(self._truncate, length))

    def _truncate(self, length: int) -> bool:
        imprint = self._imprint
        imprint.look(self._fd)
        spans = written_spans(self._fd, length) if 0 < length <= imprint.reach else None
        # Told once: a file system may keep zeros as holes (ZFS), and they stay.
        holes = spans not in (None, [Span(0, length)], imprint.spans)
        os.ftruncate(self._fd, length)
        told = imprint.cut or imprint.changed or holes
        self._imprint = Imprint(spans)
        self._imprint.take(self._fd, reach=length)
        return not told

    async def free_space(self) -> int:
        """Return the bytes free on its file system."""
        return await self._hop(lambda: free_bytes(os.fstatvfs(self._fd)))

    # -- durability ----------------------------------------------------------------------------------------------------

    async def sync(self) -> None:
        """Bring the data to the device (fdatasync), and once the file's name.

        Raises DeviceError, and from then on always: after a failed sync the kernel may have dropped the data, and the
        next one would say all is well. Close the file, open it again and audit it. DiskFull where promised space was
        not there.
        """
        await self._hop(partial(self._sync, os.fdatasync, name=True))

    def _sync(self, sync: Callable[[int], None], *, name: bool) -> None:
        if self._doubt is not None:
            raise DeviceError(f"an earlier sync failed, so what was written is not trusted: {self._doubt}")
        try:
            sync(self._fd)
            if name and not self._name_synced:
                self._folder.sync()
                self._name_synced = True
        except OSError as error:
            failure = _failed_sync(error, self.path)
            self._doubt = str(failure)
            with contextlib.suppress(OSError):
                # What is read from now on comes from the device, so that an audit sees what was lost.
                os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
            raise failure from error

    # -- names ---------------------------------------------------------------------------------------------------------

    async def publish(self, dest: Path, *, replace: bool, length: int | None = None) -> Path | None:
        """Bring the data to the device, rename to ``dest`` in the same folder, make the name durable; return the path.

        The mode becomes what the umask allows. With ``replace`` a file or link of that name is replaced; without,
        nothing is ever overwritten, and ``name.1.ext``, ``name.2.ext``, ... are tried. Lock and descriptor are released
        with it: a published file is not written any more. After a cancellation, ``path`` tells whether it was renamed.

        With ``length`` it is truncated to that first, in the same hop; where ``truncate`` would say False, None is
        returned and nothing else is done.

        Raises DestinationError (a folder or a device in place of the file, the part file taken away), DeviceError.
        """
        self._refuse_other_folder(dest)
        return await self._hop(partial(self._publish, dest, replace=replace, length=length))

    def _publish(self, dest: Path, *, replace: bool, length: int | None) -> Path | None:
        self._refuse_replaced()
        if length is not None and not self._truncate(length):
            return None
        self._imprint.look(self._fd)
        if self._imprint.cut:
            raise DestinationError(f"{self.path} was cut by another program")
        with contextlib.suppress(PermissionError):  # FAT has no modes
            os.fchmod(self._fd, 0o666 & ~syscalls.umask())
        self._sync(os.fsync, name=False)
        move = move_over if replace else move_to_free_name
        self.path = move(self._folder, self.path.name, dest)
        self._published = True
        self._folder.sync()
        self._release(delete=False)
        return self.path

    async def set_aside(self, path: Path) -> None:
        """Rename the part file to ``path`` in the same folder, replacing an older one; it keeps its mode and its lock.

        Raises DestinationError.
        """
        self._refuse_other_folder(path)
        await self._hop(partial(self._set_aside, path))

    def _set_aside(self, path: Path) -> None:
        self._refuse_replaced()
        self.path = move_over(self._folder, self.path.name, path)
        self._folder.sync()

    def _refuse_other_folder(self, path: Path) -> None:
        if path.parent != self.path.parent:
            msg = f"{path} is not in the folder of {self.path}"
            raise ValueError(msg)

    def _refuse_replaced(self) -> None:
        if not self._folder.still_there():
            raise DestinationError(f"the folder {self._folder.path} was moved or replaced")
        there = self._folder.stat(self.path.name)
        if there is None or not same_file(there, os.fstat(self._fd)):
            raise DestinationError(f"{self.path} was deleted or replaced by another program")

    # -- the end -------------------------------------------------------------------------------------------------------

    async def close(self, *, keep_empty: bool = True) -> None:
        """Wait for the hops under way, then release lock and descriptor; the file stays, but for one without a byte
        where not ``keep_empty``. May be called again.
        """
        await self._end(delete=False, keep_empty=keep_empty)

    async def abandon(self) -> None:
        """Close and delete the part file while still holding its lock; a file already published stays."""
        await self._end(delete=True)

    async def _end(self, *, delete: bool, keep_empty: bool = True) -> None:
        if self._fd < 0 and not self._hops.flying:
            return
        if self._ending is None:
            release = partial(blamed, self.path, partial(self._release, delete=delete, keep_empty=keep_empty))
            self._ending = asyncio.ensure_future(self._hops.finish(release))
        held_back = await until_done(self._ending)
        if held_back is not None:
            raise held_back from (None if self._ending.cancelled() else self._ending.exception())
        self._ending.result()

    def _release(self, *, delete: bool, keep_empty: bool = True) -> None:
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            if delete:
                self._remove(fd)
            elif not keep_empty:
                with contextlib.suppress(OSError):  # left behind, it does no harm
                    if os.fstat(fd).st_size == 0:
                        self._remove(fd)
        finally:
            unlock(fd)
            with contextlib.suppress(OSError):  # NFS reports late writes here; the audit finds what they lost
                os.close(fd)
            self._folder.close()

    def _remove(self, fd: int) -> None:
        there = None if self._published else self._folder.stat(self.path.name)
        if there is not None and same_file(there, os.fstat(fd)):
            self._folder.remove(self.path.name)

    def _require_open(self) -> None:
        if self._ending is not None or self._fd < 0:
            raise ValueError("the part file is closed")

    async def _hop(self, work: Callable[[], T]) -> T:
        self._require_open()
        self._early = None
        return await self._hops.run(partial(blamed, self.path, work))


def _give_back(part: DiskPartFile) -> None:
    part._release(delete=False)  # noqa: SLF001  # opened for a caller who was cancelled meanwhile


def _failed_sync(error: OSError, path: Path) -> LocalError:
    failure = local_error(error, path)
    if isinstance(failure, (DeviceError, DiskFull)):
        return failure
    return DeviceError(f"what was written to {path} did not reach the disk: {error.strerror}")
