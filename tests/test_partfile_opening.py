"""Opening a part file on disk: what is refused, how the lock behaves, and the races around it."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from resumable.errors import DestinationError, LocalError, PartFileBusy
from resumable.exclusive import open_exclusively
from resumable.folder import Folder
from resumable.partfile import DiskPartFile


def make_symlink(path: Path) -> None:
    """Put a link to a victim there."""
    victim = path.with_name("victim")
    victim.write_bytes(b"precious")
    path.symlink_to(victim)


def make_dangling(path: Path) -> None:
    """Put a link to nowhere there."""
    path.symlink_to(path.with_name("nowhere"))


def make_folder(path: Path) -> None:
    """Put a folder there."""
    path.mkdir()


def make_fifo(path: Path) -> None:
    """Put a FIFO there, whose opening would wait for the other side."""
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    """Put a Unix socket there."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(path))


def make_hard_link(path: Path) -> None:
    """Put a second name of a victim there."""
    victim = path.with_name("victim")
    victim.write_bytes(b"precious")
    os.link(victim, path)


STRANGE = [
    (make_symlink, "is a symbolic link"),
    (make_dangling, "is a symbolic link"),
    (make_folder, "is a folder"),
    (make_fifo, "is not a regular file"),
    (make_socket, "is not a regular file"),
    (make_hard_link, "has a second name"),
]


@pytest.mark.parametrize(("make", "words"), STRANGE, ids=[make.__name__ for make, _ in STRANGE])
async def test_what_is_no_part_file_is_refused(tmp_path: Path, make: Callable[[Path], None], words: str) -> None:
    """Nothing but a regular file with one name is opened, and what it leads to is left alone (S19)."""
    path = tmp_path / "model.bin.part"
    make(path)
    with pytest.raises(DestinationError, match=words):
        await DiskPartFile.open(path)
    victim = tmp_path / "victim"
    assert not victim.exists() or victim.read_bytes() == b"precious"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("make", "errno_"),
    [(make_symlink, errno.ELOOP), (make_folder, errno.EISDIR), (make_socket, errno.ENXIO)],
    ids=["link", "folder", "socket"],
)
async def test_what_is_put_there_after_the_look_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], errno_: int
) -> None:
    """The first look may be outrun; opening itself then refuses."""
    path = tmp_path / "model.bin.part"
    make(path)
    monkeypatch.setattr(Folder, "stat", lambda _self, _name: None)
    with pytest.raises(LocalError) as caught:
        await DiskPartFile.open(path)
    assert isinstance(caught.value.__cause__, OSError)
    assert errno_ == caught.value.__cause__.errno


async def test_a_folder_replaced_by_a_link_is_noticed(tmp_path: Path) -> None:
    """Publishing goes into the folder that was opened, and only while its path still leads there (S16)."""
    folder, evil = tmp_path / "folder", tmp_path / "evil"
    folder.mkdir()
    evil.mkdir()
    (evil / "model.bin").write_bytes(b"precious")
    part = await DiskPartFile.open(folder / "model.bin.part")
    folder.rename(tmp_path / "moved")
    folder.symlink_to(evil)
    with pytest.raises(DestinationError, match="moved or replaced"):
        await part.publish(folder / "model.bin", replace=True)
    folder.unlink()
    with pytest.raises(DestinationError, match="moved or replaced"):
        await part.publish(folder / "model.bin", replace=True)
    await part.close()
    assert (evil / "model.bin").read_bytes() == b"precious"


async def test_a_replaced_part_file_is_not_published(tmp_path: Path) -> None:
    """Another file under the part file's name is somebody else's: neither published nor deleted."""
    path = tmp_path / "model.bin.part"
    part = await DiskPartFile.open(path)
    path.unlink()
    path.write_bytes(b"somebody else's")
    with pytest.raises(DestinationError, match="deleted or replaced"):
        await part.publish(tmp_path / "model.bin", replace=True)
    await part.abandon()
    assert path.read_bytes() == b"somebody else's"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("missing/deeper/x.part", "the folder {}/missing does not exist"),
        ("file/x.part", "{}/file is not a folder"),
        ("file/deeper/x.part", "{}/file is not a folder"),
        ("n" * 300 + ".part", "the file name is too long"),
        ("n" * 300 + "/x.part", "the folder .* does not exist|too long"),
    ],
    ids=["missing", "file", "below-file", "long", "long-folder"],
)
async def test_the_folder_to_blame_is_named(tmp_path: Path, path: str, words: str) -> None:
    """A missing folder is not made; the message says which one on the way is missing, or is none."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DestinationError, match=words.format(tmp_path)):
        await DiskPartFile.open(tmp_path / path)


async def test_an_unfinished_file_is_private(tmp_path: Path) -> None:
    """Mode 0600 whatever the umask, also when a former run died after widening it."""
    path = tmp_path / "x.part"
    path.write_bytes(b"left")
    path.chmod(0o664)
    for name in ("x.part", "new.part"):
        part = await DiskPartFile.open(tmp_path / name)
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        await part.close()


async def test_another_users_file_is_refused(tmp_path: Path) -> None:
    """A part file that somebody else put there is not trusted (S19)."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    path = tmp_path / "x.part"
    path.write_bytes(b"")
    os.chown(path, 12345, -1)
    with pytest.raises(DestinationError, match=r"another user \(uid 12345\)"):
        await DiskPartFile.open(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.part"]


async def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding out whose files are made there can fail too."""
    (tmp_path / "x.part").write_bytes(b"")

    def refuse(_self: Folder) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Folder, "owner_of_new_files", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(DestinationError, match="no permission"):
        await DiskPartFile.open(tmp_path / "x.part")


async def test_where_every_file_has_one_owner_that_owner_is_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On FAT and root-squashed NFS new files are not ours by number either, so such a file is continued."""
    (tmp_path / "x.part").write_bytes(b"")
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    part = await DiskPartFile.open(tmp_path / "x.part")
    await part.close()


HOLDER = """
import asyncio, sys
from pathlib import Path
from resumable.partfile import DiskPartFile

async def hold():
    part = await DiskPartFile.open(Path(sys.argv[1]))
    print("held", flush=True)
    sys.stdin.readline()
    await part.close()

asyncio.run(hold())
"""


async def test_two_processes_do_not_share_a_part_file(tmp_path: Path) -> None:
    """The second process is told that it is busy, until the first one ends or dies."""
    path = tmp_path / "x.part"

    async def holder() -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", HOLDER, str(path)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"held\n"
        return process

    polite = await holder()
    with pytest.raises(PartFileBusy, match="in use"):
        await DiskPartFile.open(path)
    await polite.communicate(b"\n")
    assert polite.returncode == 0
    killed = await holder()
    with pytest.raises(PartFileBusy):
        await DiskPartFile.open(path)
    killed.kill()
    await killed.communicate()
    part = await DiskPartFile.open(path)
    await part.close()


async def test_closing_unlocks_although_a_fork_still_has_the_descriptor(tmp_path: Path) -> None:
    """A child that inherited the descriptor does not keep the part file locked."""
    path = tmp_path / "x.part"
    part = await DiskPartFile.open(path)
    inherited = os.dup(part._fd)
    await part.close()
    again = await DiskPartFile.open(path)
    await again.close()
    os.close(inherited)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
async def test_without_flock_the_lease_decides_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A file system that has no locks is no reason not to download."""

    def flock(_fd: int, _how: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    part = await DiskPartFile.open(tmp_path / "x.part")
    await part.close()


async def test_a_lock_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other failure of flock is told and leaves no descriptor open."""

    def flock(_fd: int, how: int) -> None:
        if how & fcntl.LOCK_EX:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(LocalError, match="the disk failed"):
        await DiskPartFile.open(tmp_path / "x.part")
    assert before == len(os.listdir("/proc/self/fd"))


async def test_a_file_published_while_we_waited_for_nothing_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking the owner may publish: then the locked inode is the final file, and we begin anew."""
    path, dest = tmp_path / "x.part", tmp_path / "x"
    path.write_bytes(b"whole")
    real = fcntl.flock

    def publishing(fd: int, how: int) -> None:
        if path.exists() and not dest.exists():
            path.rename(dest)
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", publishing)
    part = await DiskPartFile.open(path)
    await part.write(0, [b"new"], hashlib.sha256())
    await part.close()
    assert (dest.read_bytes(), path.read_bytes()) == (b"whole", b"new")


def test_a_file_that_vanishes_between_two_looks_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner may delete it between our failed creation and our opening."""
    folder = Folder.open(tmp_path)
    real, calls = Folder.open_file, []

    def vanishing(self: Folder, name: str) -> tuple[int, bool]:
        calls.append(name)
        if len(calls) == 1:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return real(self, name)

    monkeypatch.setattr(Folder, "open_file", vanishing)
    fd, new = open_exclusively(folder, "x.part")
    assert (new, len(calls)) == (True, 2)
    os.close(fd)
    folder.close()


def test_a_folder_that_vanishes_is_said_to_be_missing(tmp_path: Path) -> None:
    """A folder deleted after it was opened does not make us try for ever."""
    gone = tmp_path / "gone"
    gone.mkdir()
    folder = Folder.open(gone)
    gone.rmdir()
    with pytest.raises(DestinationError, match="is gone"):
        open_exclusively(folder, "x.part")
    folder.close()
    folder.close()


def test_a_name_that_never_stands_still_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that replaces the file each time we look does not make us try for ever either."""
    folder = Folder.open(tmp_path)
    real = fcntl.flock

    def replacing(fd: int, how: int) -> None:
        (tmp_path / "x.part").unlink()
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", replacing)
    with pytest.raises(PartFileBusy, match="again and again"):
        open_exclusively(folder, "x.part")
    folder.close()


@pytest.mark.parametrize("final", ["model.tar.gz", "model.1.tar.gz", "model.7.tar.gz"])
async def test_a_publication_by_link_that_died_in_between_is_finished(tmp_path: Path, final: str) -> None:
    """One file under both names is complete: the part file's name goes, the final one stays as it is."""
    path = tmp_path / "model.tar.gz.part"
    path.write_bytes(b"whole")
    os.link(path, tmp_path / final)
    part = await DiskPartFile.open(path)
    digest = hashlib.sha256()
    assert await part.hash_span(0, 100, digest) == 0
    await part.close()
    assert (tmp_path / final).read_bytes() == b"whole"


async def test_opening_when_cancelled_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled opening gives back descriptor and lock, although its thread ran on."""
    path = tmp_path / "x.part"
    loop = asyncio.get_running_loop()
    begun, go = asyncio.Event(), asyncio.Event()
    real = fcntl.flock

    def slow(fd: int, how: int) -> None:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go.wait(), loop).result(30)
        real(fd, how)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", slow)
        opening = asyncio.create_task(DiskPartFile.open(path))
        await begun.wait()
        opening.cancel()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await opening
    part = await DiskPartFile.open(path)
    await part.close()


async def test_what_is_not_closed_is_given_back_with_a_warning(tmp_path: Path) -> None:
    """Forgetting to close is a mistake that is told, but it keeps neither lock nor descriptor."""
    path = tmp_path / "x.part"
    part = await DiskPartFile.open(path)
    while sys.getrefcount(part) > 2:
        await asyncio.sleep(0)  # the thread that has opened it is about to let go of it
    with pytest.warns(ResourceWarning, match="was not closed"):
        del part
    again = await DiskPartFile.open(path)
    await again.close()


async def test_a_given_executor_runs_the_hops(tmp_path: Path) -> None:
    """The caller may say where the blocking happens."""
    with ThreadPoolExecutor(1, thread_name_prefix="mine") as executor:
        part = await DiskPartFile.open(tmp_path / "x.part", executor=executor)
        assert len(executor._threads) == 1
        await part.close()
