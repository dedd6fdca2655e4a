"""A part file without a disk, for tests of what uses one; public as ``resumable.testing``.

It keeps the contract of ``DiskPartFile`` (the same suite runs over both), but knows neither threads nor power cuts.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from resumable.diskspace import disk_full
from resumable.errors import DestinationError, LocalError, PartFileBusy
from resumable.filename import numbered
from resumable.ports import Digester, Sink
from resumable.ranges import Span

__all__ = ["MemoryFinishedFile", "MemoryFolder", "MemoryPartFile"]


@dataclass(slots=True, eq=False)
class MemoryFolder:
    """A disk of its own: files by path, of which part files are some. ``capacity`` in bytes, None without limit."""

    capacity: int | None = None
    files: dict[Path, bytearray] = field(default_factory=dict)
    locked: set[Path] = field(default_factory=set)

    @property
    def free(self) -> int:
        """Bytes that still fit."""
        used = sum(map(len, self.files.values()))
        return 2**63 - 1 if self.capacity is None else max(0, self.capacity - used)

    async def open(self, path: Path) -> MemoryPartFile:
        """Open the part file at ``path``, making it where there is none. Raises PartFileBusy."""
        await asyncio.sleep(0)
        if path in self.locked:
            raise PartFileBusy(f"{path} is in use by another download or process")
        self.locked.add(path)
        self.files.setdefault(path, bytearray())
        return MemoryPartFile(self, path)

    async def open_finished(self, path: Path, length: int) -> MemoryFinishedFile | None:
        """Open a file under its final name; None where there is none of this length."""
        await asyncio.sleep(0)
        content = self.files.get(path)
        return None if content is None or len(content) != length else MemoryFinishedFile(content)


class MemoryFinishedFile:
    """A finished file in a ``MemoryFolder``."""

    def __init__(self, content: bytearray) -> None:
        """Read ``content``."""
        self._content = content

    async def hash_span(self, offset: int, length: int, digest: Sink) -> int:
        """Hash what there is of the span; return how many bytes that were."""
        await asyncio.sleep(0)
        data = bytes(self._content[offset : offset + length])
        digest.update(data)
        return len(data)

    async def close(self) -> None:
        """Nothing is open."""
        await asyncio.sleep(0)


class MemoryPartFile:
    """An open part file in a ``MemoryFolder``. ``faults`` maps a method's name to what its next calls raise."""

    def __init__(self, folder: MemoryFolder, path: Path) -> None:
        """Take over what ``MemoryFolder.open`` has opened."""
        self.folder = folder
        self.path = path
        self.faults: defaultdict[str, list[LocalError]] = defaultdict(list)
        self.synced = 0
        """How often ``sync`` succeeded."""
        self._lock = path
        self._published = False
        self._closed = False
        self._reach = len(self.content)
        self._cut = False

    @property
    def content(self) -> bytearray:
        """The bytes now, to look at and to damage."""
        return self.folder.files[self.path]

    async def write(self, offset: int, blocks: Sequence[bytes | memoryview], digest: Digester) -> bytes:
        """Write and hash; raises DiskFull at the folder's capacity."""
        await self._called("write")
        data = b"".join(blocks)
        self._look_for_cut()
        if data:
            self._grow(offset + len(data))
            self.content[offset : offset + len(data)] = data
            self._reach = max(self._reach, offset + len(data))
        digest.update(data)
        return digest.digest()

    async def hash_span(self, offset: int, length: int, digest: Sink) -> int:
        """Hash what there is of the span; return how many bytes that were."""
        await self._called("hash_span")
        data = bytes(self.content[offset : offset + length])
        digest.update(data)
        return len(data)

    async def reserve(self, length: int) -> list[Span]:
        """Raise DiskFull unless ``length`` bytes fit; return one span, for memory knows no holes."""
        await self._called("reserve")
        self._refuse_too_much(length)
        end = min(length, len(self.content))
        return [Span(0, end)] if end else []

    async def truncate(self, length: int) -> bool:
        """Cut or extend to ``length`` bytes; False where a test has cut it since it was opened or truncated."""
        await self._called("truncate")
        return self._truncate(length)

    def _truncate(self, length: int) -> bool:
        self._look_for_cut()
        self._grow(length)
        del self.content[length:]
        was_cut, self._cut, self._reach = self._cut, False, length
        return not was_cut

    async def free_space(self) -> int:
        """Return the bytes that still fit."""
        await self._called("free_space")
        return self.folder.free

    async def sync(self) -> None:
        """Count the call."""
        await self._called("sync")
        self.synced += 1

    async def publish(self, dest: Path, *, replace: bool, length: int | None = None) -> Path | None:
        """Move to ``dest``, or to a free numbered name beside it, and close; None where ``truncate`` says False."""
        self._refuse_other_folder(dest)
        await self._called("publish")
        self._refuse_deleted()
        if length is not None and not self._truncate(length):
            return None
        self._look_for_cut()
        if self._cut:
            raise DestinationError(f"{self.path} was cut by another program")
        path, n = dest, 0
        while not replace and path in self.folder.files:
            n += 1
            path = dest.with_name(numbered(dest.name, n))
        self._move(path)
        self._published = True
        await self.close()
        return path

    async def set_aside(self, path: Path) -> None:
        """Move to ``path``, replacing what is there."""
        self._refuse_other_folder(path)
        await self._called("set_aside")
        self._refuse_deleted()
        self._move(path)

    async def close(self, *, keep_empty: bool = True) -> None:
        """Give up the lock."""
        await asyncio.sleep(0)
        if not self._closed:
            if not keep_empty and not self._published and not self.folder.files.get(self.path, b"x"):
                del self.folder.files[self.path]
            self._closed = True
            self.folder.locked.discard(self._lock)

    async def abandon(self) -> None:
        """Delete, unless published, and close."""
        await asyncio.sleep(0)
        if not self._closed and not self._published:
            self.folder.files.pop(self.path, None)
        await self.close()

    async def _called(self, method: str) -> None:
        if self._closed:
            raise ValueError("the part file is closed")
        await asyncio.sleep(0)
        if self.faults[method]:
            raise self.faults[method].pop(0)

    def _look_for_cut(self) -> None:
        self._cut = self._cut or len(self.content) < self._reach

    def _grow(self, length: int) -> None:
        self._refuse_too_much(length)
        missing = length - len(self.content)
        if missing > 0:
            self.content.extend(bytes(missing))

    def _refuse_too_much(self, length: int) -> None:
        missing = length - len(self.content)
        if missing > self.folder.free:
            raise disk_full(self.path, needed=missing, free=self.folder.free)

    def _move(self, path: Path) -> None:
        self.folder.files[path] = self.folder.files.pop(self.path)
        self.path = path
        # A part file made anew under the old name is another file, with a lock of its own.
        self.folder.locked.discard(self._lock)
        self._lock = path
        self.folder.locked.add(path)

    def _refuse_other_folder(self, path: Path) -> None:
        if path.parent != self.path.parent:
            msg = f"{path} is not in the folder of {self.path}"
            raise ValueError(msg)

    def _refuse_deleted(self) -> None:
        if self.path not in self.folder.files:
            raise DestinationError(f"{self.path} was deleted or replaced by another program")
