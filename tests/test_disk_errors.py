"""What the system says about a disk, in our classes and words; amounts of room; calls that the C library may lack."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from resumable import disk_errors, syscalls
from resumable.disk_errors import local_error, missing_folder
from resumable.diskspace import UNKNOWN, disk_full, free_bytes, free_space, readable_size
from resumable.errors import DestinationError, DeviceError, DiskFull, LocalError

ERRNOS = [
    ("ENOSPC", DiskFull, "free space|takes no more"),
    ("EDQUOT", DiskFull, "the disk quota is used up for /x/y"),
    ("EFBIG", DestinationError, "FAT32"),
    ("EACCES", DestinationError, "no permission for /x/y"),
    ("EPERM", DestinationError, "does not allow"),
    ("EROFS", DestinationError, "read-only"),
    ("ENOENT", DestinationError, "/x/y is gone"),
    ("ENOTDIR", DestinationError, "is not a folder"),
    ("EISDIR", DestinationError, "/x/y is a folder"),
    ("ENAMETOOLONG", DestinationError, "too long"),
    ("ELOOP", DestinationError, "symbolic link"),
    ("EINVAL", DestinationError, "perhaps for its name"),
    ("EIO", DeviceError, "the disk failed at /x/y: Input/output error"),
    ("ENXIO", DeviceError, "the disk failed"),
    ("ENODEV", DeviceError, "the disk failed"),
    ("ESTALE", DeviceError, "the disk failed"),
    ("ENOTCONN", DeviceError, "the disk failed"),
    ("EMFILE", LocalError, "Too many open files"),
    ("ENOMEM", LocalError, "Cannot allocate memory"),
]


@pytest.mark.parametrize(("name", "kind", "words"), ERRNOS, ids=[row[0] for row in ERRNOS])
def test_every_errno_has_its_class_and_words(name: str, kind: type[LocalError], words: str) -> None:
    """The class says whose fault it is, the words name the file; the system's own text is not looked at."""
    code = getattr(errno, name)
    error = local_error(OSError(code, "text that nobody may look at"), Path("/x/y"))
    assert kind is type(error)
    with pytest.raises(kind, match=words):
        raise error


def test_an_error_without_a_number_keeps_its_text() -> None:
    """Some libraries raise OSError with a sentence only."""
    assert str(local_error(OSError("only words"), Path("/x"))) == "cannot use /x: only words"


def test_a_full_disk_that_cannot_be_asked_is_full_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failing to find out how full it is must not hide that it is."""

    def free(_path: Path) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(disk_errors, "free_space", free)
    error = local_error(OSError(errno.ENOSPC, ""), Path("/x"), needed=2000)
    assert isinstance(error, DiskFull)
    assert (
        *(str(error), error.needed),
        error.free,
    ) == ("the file system of /x takes no more data: needs 2 kB", 2000, UNKNOWN)


SIZES = [
    (0, "0 B"),
    (999, "999 B"),
    (1000, "1 kB"),
    (12_449, "12.4 kB"),
    (999_949, "999.9 kB"),
    (999_950, "1 MB"),
    (12_400_000_000, "12.4 GB"),
    (3_100_000_000_000, "3.1 TB"),
    (10**15, "1 PB"),
    (2**63 - 1, "9.2 EB"),
    (10**22, "10000 EB"),
]


@pytest.mark.parametrize(("count", "expected"), SIZES)
def test_sizes_are_decimal(count: int, expected: str) -> None:
    """As disks are sold and as file managers count; never 1000.0 of a unit."""
    assert expected == readable_size(count)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"f_blocks": 0, "f_bavail": 0, "f_frsize": 4096, "f_bsize": 4096}, UNKNOWN),
        ({"f_blocks": 10, "f_bavail": 3, "f_frsize": 512, "f_bsize": 4096}, 1536),
        ({"f_blocks": 10, "f_bavail": 3, "f_frsize": 0, "f_bsize": 4096}, 12288),
    ],
    ids=["unknown", "fragments", "no-fragments"],
)
def test_free_bytes_count_in_fragments(fields: dict[str, int], expected: int) -> None:
    """f_frsize is the unit of statvfs; a file system of zero blocks says nothing."""
    assert expected == free_bytes(SimpleNamespace(**fields))  # type: ignore[arg-type]


def test_a_folder_that_is_there_after_all_is_blamed_itself(tmp_path: Path) -> None:
    """Somebody made it between our attempt and our look; the attempt has failed all the same."""
    error = missing_folder(OSError(errno.ENOENT, ""), tmp_path)
    assert str(error) == f"{tmp_path} is gone"


def test_free_space_of_nowhere_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not even the root answers there is no number to give."""

    def statvfs(_path: Path) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(os, "statvfs", statvfs)
    with pytest.raises(FileNotFoundError):
        free_space(Path("/a/b"))


def test_the_words_fit_the_amounts() -> None:
    """Too little, enough by the numbers, or a quota: each is said differently."""
    path = Path("/x")
    assert str(disk_full(path, needed=2000, free=1000)) == "not enough free space for /x: needs 2 kB, 1 kB free"
    assert (
        str(disk_full(path, needed=1000, free=2000))
        == "the file system of /x takes no more data: needs 1 kB, 2 kB free"
    )


LACKING = {
    "fallocate": lambda: syscalls.fallocate(0, 1),
    "renameat2": lambda: syscalls.rename_new(0, "a", "b"),
}


@pytest.mark.parametrize("name", LACKING)
def test_a_call_the_library_lacks_fails_like_an_old_kernel(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """ENOSYS is what the fallbacks look for."""
    missing = syscalls._load("no_such_call_in_libc", arguments=())
    monkeypatch.setattr(syscalls, "_fallocate", missing)
    monkeypatch.setattr(syscalls, "_renameat2", missing)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSYS)) as caught:
        LACKING[name]()
    assert caught.value.errno == errno.ENOSYS


def test_an_interrupted_allocation_is_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal is no reason to give up."""
    answers = [errno.EINTR, errno.EINTR, 0]

    def fallocate(*_: object) -> int:
        code = answers.pop(0)
        ctypes.set_errno(code)
        return -1 if code else 0

    monkeypatch.setattr(syscalls, "_fallocate", fallocate)
    syscalls.fallocate(0, 1)
    assert answers == []
