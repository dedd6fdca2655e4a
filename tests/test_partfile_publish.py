"""Giving a file its final name: modes, what is never replaced, file systems that can do less, and races."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from resumable import publication, syscalls
from resumable.errors import DestinationError, DeviceError, LocalError
from resumable.folder import Folder
from resumable.partfile import DiskPartFile


def failing(code: int) -> Callable[..., None]:
    """Return a function that fails like a system call."""

    def call(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return call


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
async def test_the_final_mode_is_what_the_umask_allows(tmp_path: Path, mask: int, expected: int) -> None:
    """A finished file has the mode of a file made by ``open`` (S21), and the umask itself is not touched."""
    before = os.umask(mask)
    try:
        part = await DiskPartFile.open(tmp_path / "x.part")
        path = await part.publish(tmp_path / "x", replace=False)
        await part.close()
        assert path is not None
        assert (expected, mask) == (stat.S_IMODE(path.stat().st_mode), syscalls.umask())
    finally:
        os.umask(before)


def test_the_umask_is_known_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel does not tell, it is found out by setting it for a moment."""
    expected = syscalls.umask()
    monkeypatch.setattr(syscalls, "open", failing(errno.ENOENT), raising=False)
    assert expected == syscalls.umask()
    monkeypatch.setattr(syscalls, "open", lambda *_, **__: io.BytesIO(b"Name:\tpython\n"), raising=False)
    assert expected == syscalls.umask()


async def test_a_file_system_without_modes_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT answers EPERM to fchmod, when opening as when publishing."""
    (tmp_path / "x.part").write_bytes(b"")
    monkeypatch.setattr(os, "fchmod", failing(errno.EPERM))
    part = await DiskPartFile.open(tmp_path / "x.part")
    assert tmp_path / "x" == await part.publish(tmp_path / "x", replace=True)
    await part.close()


@pytest.mark.parametrize("replace", [True, False])
async def test_a_link_at_the_destination_is_never_followed(tmp_path: Path, replace: bool) -> None:
    """The link is replaced, or left alone; what it points to is safe in any case."""
    victim, dest = tmp_path / "victim", tmp_path / "x"
    victim.write_bytes(b"precious")
    dest.symlink_to(victim)
    part = await DiskPartFile.open(tmp_path / "x.part")
    path = await part.publish(dest, replace=replace)
    await part.close()
    assert victim.read_bytes() == b"precious"
    assert (not replace, tmp_path / ("x" if replace else "x.1")) == (dest.is_symlink(), path)


@pytest.mark.parametrize(("make", "words"), [(Path.mkdir, "is a folder"), (os.mkfifo, "is not a regular file")])
async def test_what_is_no_file_is_not_replaced(tmp_path: Path, make: Callable[[Path], None], words: str) -> None:
    """A folder or a device (root's /dev/null) stays, and the part file is kept."""
    dest = tmp_path / "x"
    make(dest)
    part = await DiskPartFile.open(tmp_path / "x.part")
    for call in (part.publish(dest, replace=True), part.set_aside(dest)):
        with pytest.raises(DestinationError, match=words):
            await call
    assert {"x", "x.part"} == {entry.name for entry in tmp_path.iterdir()}
    assert tmp_path / "x.1" == await part.publish(dest, replace=False)
    await part.close()


async def test_a_folder_that_comes_after_the_look_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rename itself refuses what the look could not see yet."""
    (tmp_path / "x").mkdir()
    part = await DiskPartFile.open(tmp_path / "x.part")
    real = Folder.stat
    monkeypatch.setattr(Folder, "stat", lambda self, name: None if name == "x" else real(self, name))
    with pytest.raises(DestinationError, match="is a folder"):
        await part.publish(tmp_path / "x", replace=True)
    await part.close()


@pytest.mark.parametrize("replace", [True, False])
async def test_a_name_that_is_too_long_keeps_the_part_file(tmp_path: Path, replace: bool) -> None:
    """The system's refusal names the file, and what was fetched stays where it is."""
    part = await DiskPartFile.open(tmp_path / "x.part")
    with pytest.raises(DestinationError, match="too long"):
        await part.publish(tmp_path / ("x" * 300), replace=replace)
    await part.close()
    assert (tmp_path / "x.part").exists()


NO_RENAME = [
    (errno.EINVAL, None),
    (errno.ENOSYS, None),
    (errno.EINVAL, errno.EPERM),
    (errno.EOPNOTSUPP, errno.EOPNOTSUPP),
]


@pytest.mark.parametrize(("rename", "link"), NO_RENAME)
async def test_a_file_system_that_can_do_less_overwrites_nothing_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rename: int, link: int | None
) -> None:
    """Without RENAME_NOREPLACE a hard link does it, without hard links a name taken beforehand."""
    monkeypatch.setattr(syscalls, "rename_new", failing(rename))
    if link is not None:
        monkeypatch.setattr(os, "link", failing(link))
    (tmp_path / "x").write_bytes(b"old")
    part = await DiskPartFile.open(tmp_path / "x.part")
    assert tmp_path / "x.1" == await part.publish(tmp_path / "x", replace=False)
    await part.close()
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == {"x": b"old", "x.1": b""}
    assert (tmp_path / "x.1").stat().st_nlink == 1


@pytest.mark.parametrize("broken", ["rename", "link", "replace"])
async def test_other_failures_of_renaming_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """A failing disk is not taken for a missing ability, and no empty file is left under the name."""
    monkeypatch.setattr(syscalls, "rename_new", failing(errno.EIO if broken == "rename" else errno.EINVAL))
    monkeypatch.setattr(os, "link", failing(errno.EIO if broken == "link" else errno.EPERM))
    if broken == "replace":
        monkeypatch.setattr(os, "replace", failing(errno.EIO))
    part = await DiskPartFile.open(tmp_path / "x.part")
    with pytest.raises(DeviceError):
        await part.publish(tmp_path / "x", replace=False)
    await part.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.part"]


async def test_numbered_names_end_somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder full of them is an error and not a loop without end."""
    monkeypatch.setattr(publication, "_MOST_NAMES", 3)
    for name in ("x", "x.1", "x.2"):
        (tmp_path / name).write_bytes(b"")
    part = await DiskPartFile.open(tmp_path / "x.part")
    with pytest.raises(DestinationError, match="2 numbered names"):
        await part.publish(tmp_path / "x", replace=False)
    await part.close()


async def test_publishers_that_race_for_one_name_all_keep_their_bytes(tmp_path: Path) -> None:
    """Twenty part files published under one name at once become twenty files, each with its own bytes."""

    async def one(n: int) -> Path:
        part = await DiskPartFile.open(tmp_path / f"{n}.part")
        os.pwrite(part._fd, str(n).encode(), 0)
        path = await part.publish(tmp_path / "x.bin", replace=False)
        await part.close()
        assert path is not None
        return path

    paths = await asyncio.gather(*(one(n) for n in range(20)))
    assert [str(n) for n in range(20)] == [path.read_text() for path in paths]
    assert 20 == len(set(paths)) == len(list(tmp_path.iterdir()))


def fail_sync_of_folders(monkeypatch: pytest.MonkeyPatch, code: int) -> list[str]:
    """Make fsync of a directory fail; return the list that will tell what was synced."""
    synced: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"
        synced.append(kind)
        if kind == "folder":
            raise OSError(code, os.strerror(code))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    return synced


async def test_the_name_is_synced_after_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File first, folder when it has its name; a file system that cannot sync folders (EINVAL) is no obstacle."""
    (tmp_path / "x.part").write_bytes(b"")
    synced = fail_sync_of_folders(monkeypatch, errno.EINVAL)
    part = await DiskPartFile.open(tmp_path / "x.part")
    await part.publish(tmp_path / "x", replace=True)
    await part.close()
    assert synced == ["file", "folder"]


async def test_a_name_that_may_not_be_durable_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has its name then, and ``path`` says so; the caller asks again and finds it finished."""
    (tmp_path / "x.part").write_bytes(b"")
    fail_sync_of_folders(monkeypatch, errno.EIO)
    part = await DiskPartFile.open(tmp_path / "x.part")
    with pytest.raises(DeviceError):
        await part.publish(tmp_path / "x", replace=True)
    assert tmp_path / "x" == part.path
    await part.abandon()
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


async def test_the_first_sync_makes_a_new_name_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data without a name is lost in a power cut, so the folder is synced once for a file that is new."""
    synced = fail_sync_of_folders(monkeypatch, errno.EINVAL)
    part = await DiskPartFile.open(tmp_path / "x.part")
    await part.sync()
    await part.sync()
    await part.close()
    assert synced == ["folder"]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS])
async def test_a_failed_sync_is_never_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """The next sync would say all is well (measured, E6): nothing of the kind is tried until the file is reopened."""
    part = await DiskPartFile.open(tmp_path / "x.part")
    dropped: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing(code))
        patch.setattr(os, "posix_fadvise", lambda _fd, _offset, _length, advice: dropped.append(advice))
        with pytest.raises(LocalError) as caught:
            await part.sync()
    assert ("disk-full" if code == errno.ENOSPC else "device") == caught.value.code
    assert dropped == [os.POSIX_FADV_DONTNEED]
    with pytest.raises(DeviceError, match="an earlier sync failed"):
        await part.sync()
    with pytest.raises(DeviceError, match="an earlier sync failed"):
        await part.publish(tmp_path / "x", replace=True)
    await part.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.part"]
    again = await DiskPartFile.open(tmp_path / "x.part")
    await again.publish(tmp_path / "x", replace=True)
    await again.close()
