"""Another program changes the part file while it is being written: that is noticed before the final name is given."""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resumable import EventName
from resumable.partfile import DiskPartFile
from tests.managing import MIB, Rig, content, until, whole
from tests.origin import Behaviour, Origin

DATA = bytes(range(256)) * 512
HALF = len(DATA) // 2
TICK_S = 0.02
"""More than a tick of the file system's clock before Linux 6.13, which is what the test has to wait for."""


def punched(path: Path) -> None:
    """Make a hole of a page, without changing the size."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(path, "r+b") as file:
        keep_size_punch_hole = 0x01 | 0x02
        if libc.fallocate(file.fileno(), keep_size_punch_hole, ctypes.c_long(4096), ctypes.c_long(4096)):
            pytest.skip(f"no holes can be made here: {os.strerror(ctypes.get_errno())}")


def cut_and_extended(path: Path) -> None:
    """Cut it, and make it as long as it was."""
    size = path.stat().st_size
    os.truncate(path, 100)
    os.truncate(path, size)


def overwritten(path: Path) -> None:
    """Copy another file over it, and give that one's time to it."""
    with open(path, "r+b") as file:
        file.write(b"z" * path.stat().st_size)
    os.utime(path, (1_000_000_000, 1_000_000_000))


def written(path: Path) -> None:
    """Write a few bytes into it."""
    with open(path, "r+b") as file:
        file.seek(5000)
        file.write(b"\xff" * 100)


CHANGES: list[Callable[[Path], None]] = [punched, cut_and_extended, overwritten, written]


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Yield a folder on the disk, and one on a file system in memory where there is one."""
    if request.param == "disk":
        yield tmp_path
        return
    if not Path("/dev/shm").is_dir():
        pytest.skip("there is no /dev/shm")
    made = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("then_written", [False, True], ids=["last", "before a write"])
@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_is_told_once(change: Callable[[Path], None], then_written: bool, folder: Path) -> None:
    """Also where a write of ours follows it; our own writes, and what is reserved, are none."""
    part = await DiskPartFile.open(folder / "f.part")
    digest = hashlib.sha256()
    await part.reserve(len(DATA))
    await part.write(HALF, [DATA[HALF:]], digest)
    await part.write(0, [DATA[:HALF]], digest)
    await part.sync()
    assert await part.truncate(len(DATA))
    await asyncio.sleep(TICK_S)
    change(part.path)
    if then_written:
        await part.write(HALF, [DATA[HALF:]], digest)
    assert not await part.truncate(len(DATA))
    assert await part.truncate(len(DATA))
    await part.write(0, [DATA], digest)
    assert await part.truncate(len(DATA))
    await part.close()


@pytest.mark.parametrize("promised", [False, True], ids=["no digest", "digest"])
@pytest.mark.parametrize("change", [punched, cut_and_extended])
async def test_what_was_changed_is_fetched_again(
    change: Callable[[Path], None], promised: bool, tmp_path: Path
) -> None:
    """In mid-download, with and without a digest that would have been computed before the change."""
    rig, made = Rig(tmp_path), content(4, 1)
    sha256 = hashlib.sha256(whole(made)).hexdigest() if promised else None
    with Origin() as origin:
        origin.put("/f", made, Behaviour(rate=2 * MIB))
        async with rig.manager() as manager:
            handle = manager.start(origin.url("/f"), rig.file(), sha256=sha256)
            await until(lambda: handle.view.bytes_done >= 2 * MIB)
            change(rig.part())
            origin.behave("/f", Behaviour())
            await handle
    assert rig.file().read_bytes() == whole(made)
    assert rig.told(EventName.REPAIRED)


@pytest.mark.parametrize("size", [1000, 3 * MIB])
async def test_a_file_system_that_keeps_zeros_as_holes(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ZFS does: the file is read once more, and published."""
    rig = Rig(tmp_path)
    monkeypatch.setattr("resumable.partfile.written_spans", lambda *_: [])
    with Origin() as origin:
        origin.put("/f", bytes(size))
        async with asyncio.timeout(30), rig.manager() as manager:
            await manager.start(origin.url("/f"), rig.file())
    assert rig.file().read_bytes() == bytes(size)
