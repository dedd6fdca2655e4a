"""Full disks, limits, devices that fail, and cancellations, on real file systems where there is one for it."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from resumable import partfile, syscalls, writing
from resumable.diskspace import UNKNOWN, free_space
from resumable.errors import DestinationError, DeviceError, DiskFull, LocalError
from resumable.folder import Folder
from resumable.partfile import DiskPartFile
from resumable.ranges import Span
from tests.mounts import mounted, remount

KIB = 1024
MIB = 1024 * KIB


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Yield a file system of 1 MiB."""
    with mounted("tmpfs", tmp_path / "small", "size=1m") as where:
        yield where


def used(path: Path) -> int:
    """Return the bytes a file takes."""
    return path.stat().st_blocks * 512


async def test_a_full_disk_tells_the_amounts_and_can_be_gone_on_with(small: Path) -> None:
    """ENOSPC in a write: nothing was hashed, and once there is room the same write succeeds (E1)."""
    (small / "other").write_bytes(bytes(512 * KIB))
    part = await DiskPartFile.open(small / "x.part")
    digest = hashlib.sha256()
    with pytest.raises(DiskFull, match=r"needs 262\.1 kB, 0 B free") as caught:
        await part.write(0, [bytes(768 * KIB)], digest)
    assert (256 * KIB, 0, str(small / "x.part")) == (caught.value.needed, caught.value.free, caught.value.path)
    assert hashlib.sha256().digest() == digest.digest()
    (small / "other").unlink()
    assert hashlib.sha256(bytes(768 * KIB)).digest() == await part.write(0, [bytes(768 * KIB)], digest)
    await part.close()


async def test_a_full_disk_tells_what_the_whole_file_needs(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the size is known and could not be allocated, the shortage is that of the file and not of one write."""
    monkeypatch.setattr(syscalls, "fallocate", unable)
    part = await DiskPartFile.open(small / "x.part")
    await part.reserve(900 * KIB)
    (small / "other").write_bytes(bytes(600 * KIB))
    with pytest.raises(DiskFull) as caught:
        await part.write(0, [bytes(600 * KIB)], hashlib.sha256())
    assert 900 * KIB - used(small / "x.part") == caught.value.needed
    await part.close()


def unable(_fd: int, _length: int) -> None:
    """Fail like fallocate on NFS 3."""
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


async def test_too_large_a_file_is_refused_before_anything_is_allocated(small: Path) -> None:
    """The message has the amounts in decimal units; a lie about the length costs nothing (S27)."""
    part = await DiskPartFile.open(small / "x.part")
    with pytest.raises(DiskFull, match=r"needs 12\.4 GB, 1 MB free") as caught:
        await part.reserve(12_400_000_000)
    assert (caught.value.needed, caught.value.free) == (12_400_000_000, MIB)
    assert used(small / "x.part") == 0
    with pytest.raises(DiskFull):
        await part.reserve(2**62)
    await part.close()


@pytest.mark.parametrize("room", [2 * MIB, 900 * KIB])
async def test_room_asked_for_while_opening_is_answered_by_the_reserve_that_follows(small: Path, room: int) -> None:
    """Opening succeeds all the same, so that the file has its name; the answer is given once, then asked for anew."""
    (small / "x.part").write_bytes(b"abc")
    part = await DiskPartFile.open(small / "x.part", room=room)
    for _ in range(2):
        if room > MIB:
            with pytest.raises(DiskFull):
                await part.reserve(room)
        else:
            assert [Span(0, 3)] == await part.reserve(room)
            assert used(small / "x.part") == room
    await part.write(3, [b"def"], hashlib.sha256())
    assert [Span(0, 6)] == await part.reserve(6)
    await part.close()


async def test_what_is_allocated_already_is_not_needed_again(small: Path) -> None:
    """A resumed file needs room for its rest only, and reserving twice is harmless."""
    part = await DiskPartFile.open(small / "x.part")
    await part.write(0, [b"x" * (700 * KIB)], hashlib.sha256())
    for _ in range(2):
        await part.reserve(900 * KIB)
    assert ((small / "x.part").stat().st_size, used(small / "x.part")) == (700 * KIB, 900 * KIB)
    with pytest.raises(DiskFull) as caught:
        await part.reserve(1100 * KIB)
    assert (caught.value.needed, caught.value.free) == (200 * KIB, 124 * KIB)
    by_path = await asyncio.to_thread(lambda: (free_space(small), free_space(small / "not" / "there" / "yet")))
    assert by_path == (124 * KIB, 124 * KIB)
    assert await part.free_space() == 124 * KIB
    await part.close()


@pytest.mark.parametrize("alone", [True, False])
async def test_a_failed_allocation_is_given_back(small: Path, monkeypatch: pytest.MonkeyPatch, alone: bool) -> None:
    """A quota can stop fallocate half-way: what it got is freed, unless somebody writes meanwhile."""
    part = await DiskPartFile.open(small / "x.part")
    await part.write(0, [b"x" * (100 * KIB)], hashlib.sha256())
    real = syscalls.fallocate

    def half(fd: int, length: int) -> None:
        real(fd, length // 2)
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(syscalls, "fallocate", half)
    with ThreadPoolExecutor(1) as executor:
        release = threading.Event()
        hop = asyncio.create_task(part._hops.run(lambda: release.wait(60))) if not alone else None
        await asyncio.sleep(0)
        with pytest.raises(DiskFull, match="quota is used up"):
            await part.reserve(800 * KIB)
        release.set()
        if hop is not None:
            await hop
        executor.shutdown()
    assert (100 * KIB if alone else 400 * KIB) == used(small / "x.part")
    digest = hashlib.sha256()
    assert await part.hash_span(0, MIB, digest) == 100 * KIB
    await part.close()


async def test_out_of_inodes_is_a_full_disk_with_room(tmp_path: Path) -> None:
    """ENOSPC with free bytes left does not claim that there are none."""
    with mounted("tmpfs", tmp_path / "few", "size=1m,nr_inodes=2") as where:
        (where / "last").write_bytes(b"")
        with pytest.raises(DiskFull, match="takes no more data"):
            await DiskPartFile.open(where / "x.part")


async def test_a_file_system_that_cannot_allocate_gets_a_hole(tmp_path: Path) -> None:
    """ramfs neither allocates nor tells its size: the file is extended without a write."""
    with mounted("ramfs", tmp_path / "ram") as where:
        part = await DiskPartFile.open(where / "x.part")
        await part.reserve(50 * MIB)
        await part.reserve(10 * MIB)
        assert ((where / "x.part").stat().st_size, await part.free_space()) == (50 * MIB, UNKNOWN)
        await part.close()


async def test_a_failing_allocation_is_told(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other failure of fallocate is the device's."""

    def fallocate(_fd: int, _length: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(syscalls, "fallocate", fallocate)
    part = await DiskPartFile.open(small / "x.part")
    with pytest.raises(DeviceError):
        await part.reserve(KIB)
    await part.close()


LIMITED = """
import asyncio, hashlib, resource, sys
from pathlib import Path
from resumable.errors import DestinationError
from resumable.folder import Folder
from resumable.partfile import DiskPartFile
from resumable.ranges import Span

async def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    part = await DiskPartFile.open(Path(sys.argv[1]))
    for call in (
        part.reserve((1 << 20) + 1),
        part.write(1 << 20, [b"x"], hashlib.sha256()),
        part.truncate((1 << 20) + 1),
    ):
        try:
            await call
        except DestinationError as error:
            print(error)
    await part.reserve(1 << 20)
    await part.close()

asyncio.run(main())
"""


def test_a_file_larger_than_allowed_is_the_destinations_fault(tmp_path: Path) -> None:
    """EFBIG, from the limit of the process or the file system, says what could be the reason."""
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "x.part")]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 3
    assert all("larger than the file system (FAT32: 4.3 GB) or the process limit" in line for line in lines)


@pytest.mark.parametrize("name", ["new.part", "old.part"])
async def test_a_read_only_file_system_is_said_to_be_one(tmp_path: Path, name: str) -> None:
    """EROFS names the file, whether it is there already or not (E4)."""
    with mounted("tmpfs", tmp_path / "disk", "size=1m") as where:
        (where / "old.part").write_bytes(b"kept")
        remount(where, "ro")
        with pytest.raises(DestinationError, match="is on a file system that is read-only"):
            await DiskPartFile.open(where / name)
        assert (where / "old.part").read_bytes() == b"kept"


async def test_a_disk_that_turns_read_only_under_way_is_told(tmp_path: Path) -> None:
    """ext4 that finds itself damaged refuses the next write; what was checkpointed stays readable (E4)."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(16 * MIB)
    made = subprocess.run(["mkfs.ext4", "-q", str(image)], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip("no mkfs.ext4")
    with mounted("ext4", tmp_path / "disk", "loop,errors=remount-ro", source=str(image)) as where:
        part = await DiskPartFile.open(where / "x.part")
        digest = hashlib.sha256()
        await part.write(0, [b"kept"], digest)
        await part.sync()
        break_ext4(where)
        with pytest.raises(LocalError) as caught:
            await part.write(4, [b"lost"], digest)
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno in {errno.EROFS, errno.EIO, errno.ESHUTDOWN}
        assert await part.hash_span(0, 100, hashlib.sha256()) == 4
        with pytest.raises(LocalError):
            await part.publish(where / "x", replace=True)
        await part.close()
        assert (where / "x.part").read_bytes() == b"kept"


def break_ext4(where: Path) -> None:
    """Make the kernel believe that this file system is damaged."""
    device = next(
        line.split()[0] for line in Path("/proc/mounts").read_text().splitlines() if line.split()[1] == str(where)
    )
    (Path("/sys/fs/ext4") / Path(device).name / "trigger_fs_error").write_text("1")


SHORT = [1, 3, 7, 10_000]


@pytest.mark.parametrize("most", SHORT)
@pytest.mark.parametrize("small_block", [0, 64 * KIB])
async def test_short_writes_are_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, small_block: int
) -> None:
    """The system may take fewer bytes than it was given, at any place, and sometimes none for a while (E7)."""
    real, calls = os.pwritev, []

    def short(fd: int, blocks: list[bytes], offset: int) -> int:
        calls.append(offset)
        if len(calls) % 3 == 2:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        assert len(blocks) <= 4
        return real(fd, [b"".join(blocks)[:most]], offset)

    monkeypatch.setattr(partfile, "_SMALL_BLOCK", small_block)
    monkeypatch.setattr(writing, "_MOST_VECTORS", 4)
    monkeypatch.setattr(writing, "_AGAIN_S", 0.0)
    monkeypatch.setattr(os, "pwritev", short)
    blocks = [b"abc", b"defg", b"", b"h", b"ijklmnop", b"q", b"r"]
    part = await DiskPartFile.open(tmp_path / "x.part")
    returned = await part.write(2, blocks, hashlib.sha256())
    await part.close()
    expected = b"".join(blocks)
    assert (b"\0\0" + expected, hashlib.sha256(expected).digest()) == ((tmp_path / "x.part").read_bytes(), returned)


async def test_a_large_block_is_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No call is given more than 256 KiB, small blocks go together, and nothing is lost (decision 23)."""
    real, sizes = os.pwritev, []

    def counted(fd: int, blocks: list[bytes], offset: int) -> int:
        sizes.append(sum(map(len, blocks)))
        return real(fd, blocks, offset)

    monkeypatch.setattr(partfile, "_SMALL_BLOCK", 0)
    monkeypatch.setattr(os, "pwritev", counted)
    blocks = [b"ab", b"c", os.urandom(600 * KIB), b"d", *(os.urandom(100 * KIB) for _ in range(5))]
    part = await DiskPartFile.open(tmp_path / "x.part")
    returned = await part.write(0, blocks, hashlib.sha256())
    await part.close()
    expected = b"".join(blocks)
    assert (expected, hashlib.sha256(expected).digest()) == ((tmp_path / "x.part").read_bytes(), returned)
    assert max(sizes) <= 256 * KIB, sizes


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (errno.EIO, DeviceError),
        (errno.ENODEV, DeviceError),
        (errno.EDQUOT, DiskFull),
        (errno.EFBIG, DestinationError),
        (errno.EAGAIN, LocalError),
        (None, DeviceError),
    ],
)
async def test_a_failed_write_hashes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int | None, kind: type[LocalError]
) -> None:
    """A digest never vouches for bytes the system did not take; a write of nothing does not go on for ever."""

    def pwritev(*_: object) -> int:
        if fault is None:
            return 0
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(writing, "_AGAIN_S", 0.0)
    part = await DiskPartFile.open(tmp_path / "x.part")
    digest = hashlib.sha256()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", pwritev)
        with pytest.raises(kind) as caught:
            await part.write(0, [b"abc"], digest)
    assert kind is type(caught.value)
    assert hashlib.sha256().digest() == digest.digest()
    await part.close()


async def test_an_unreadable_span_is_the_devices_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO when reading keeps the errno for whoever wants it."""

    def pread(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    part = await DiskPartFile.open(tmp_path / "x.part")
    monkeypatch.setattr(os, "pread", pread)
    with pytest.raises(DeviceError) as caught:
        await part.hash_span(0, 1, hashlib.sha256())
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EIO
    await part.close()


class Gate:
    """Holds the only thread of an executor until it is opened."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._opened, self._entered = threading.Event(), threading.Event()
        executor.submit(self._hold)

    def _hold(self) -> None:
        self._entered.set()
        assert self._opened.wait(60)

    def open(self) -> None:
        """Let the thread go."""
        self._opened.set()


@pytest.fixture
def one_thread() -> Iterator[ThreadPoolExecutor]:
    """Yield an executor with one thread, so that order is known."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


async def turns(count: int = 10) -> None:
    """Let every other task run until it waits."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_cancelled_write_that_has_not_begun_never_happens(
    tmp_path: Path, one_thread: ThreadPoolExecutor
) -> None:
    """It is withdrawn: neither disk nor digest knows of it, and nothing is waited for."""
    part = await DiskPartFile.open(tmp_path / "x.part", executor=one_thread)
    gate, digest = Gate(one_thread), hashlib.sha256()
    writing = asyncio.create_task(part.write(0, [b"abc"], digest))
    await turns()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    gate.open()
    await part.close()
    assert (b"", hashlib.sha256().digest()) == ((tmp_path / "x.part").read_bytes(), digest.digest())


async def test_a_cancelled_write_that_has_begun_is_completed_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is cancelled, it ends when the thread has ended; bytes and digest then agree."""
    part = await DiskPartFile.open(tmp_path / "x.part")
    begun, go, real = threading.Event(), threading.Event(), os.pwritev

    def slow(fd: int, blocks: list[bytes], offset: int) -> int:
        begun.set()
        assert go.wait(60)
        return real(fd, blocks, offset)

    monkeypatch.setattr(os, "pwritev", slow)
    digest = hashlib.sha256()
    writing = asyncio.create_task(part.write(0, [b"abc"], digest))
    await asyncio.to_thread(begun.wait, 60)
    for _ in range(3):
        writing.cancel()
        await turns()
    assert not writing.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert (b"abc", hashlib.sha256(b"abc").digest()) == ((tmp_path / "x.part").read_bytes(), digest.digest())
    await part.close()


async def test_closing_waits_for_what_is_under_way(tmp_path: Path, one_thread: ThreadPoolExecutor) -> None:
    """No thread writes into a descriptor that was closed; closing is not cut short by a cancellation either."""
    part = await DiskPartFile.open(tmp_path / "x.part", executor=one_thread)
    gate = Gate(one_thread)
    writing = asyncio.create_task(part.write(0, [b"abc"], hashlib.sha256()))
    await turns()
    closing = asyncio.create_task(part.close())
    waiting = asyncio.create_task(part.close())
    await turns()
    closing.cancel()
    await turns()
    assert (closing.done(), waiting.done()) == (False, False)
    gate.open()
    assert hashlib.sha256(b"abc").digest() == await writing
    with pytest.raises(asyncio.CancelledError):
        await closing
    await waiting
    again = await DiskPartFile.open(tmp_path / "x.part")
    await again.close()


async def test_closing_works_without_an_executor(tmp_path: Path) -> None:
    """An executor that was shut down too early is told as such, and the descriptor is given back all the same."""
    executor = ThreadPoolExecutor(1)
    part = await DiskPartFile.open(tmp_path / "x.part", executor=executor)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        await part.sync()
    await part.close()
    again = await DiskPartFile.open(tmp_path / "x.part")
    await again.close()


async def test_a_part_file_that_cannot_be_deleted_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Abandoning tells why the file is still there, and releases it."""
    part = await DiskPartFile.open(tmp_path / "x.part")

    def remove(_self: object, _name: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Folder, "remove", remove)
    with pytest.raises(DestinationError, match="read-only"):
        await part.abandon()
    again = await DiskPartFile.open(tmp_path / "x.part")
    await again.close()
