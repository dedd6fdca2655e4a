"""A file under its final name, opened to be recognised: only a regular file of the right size, and never written to."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from resumable import reading
from resumable.errors import DeviceError
from resumable.finished import FinishedFile

CONTENT = os.urandom(1_500_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file."""
    made = tmp_path / "model.bin"
    made.write_bytes(CONTENT)
    return made


@pytest.mark.parametrize(
    ("offset", "length", "count"),
    [(0, 1_500_000, 1_500_000), (0, 0, 0), (700_001, 600_000, 600_000), (1_400_000, 200_000, 100_000)],
)
async def test_a_span_is_hashed_as_far_as_the_file_goes(
    path: Path, offset: int, length: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over several hops, and to the end of the file at most."""
    monkeypatch.setattr(reading, "_SPAN_PER_HOP", 250_000)
    file = await FinishedFile.open(path, len(CONTENT))
    assert file is not None
    digest = hashlib.sha256()
    assert count == await file.hash_span(offset, length, digest)
    assert hashlib.sha256(CONTENT[offset : offset + count]).digest() == digest.digest()
    await file.close()


@pytest.mark.parametrize("kind", ["missing", "another size", "a folder", "a link", "a pipe", "not ours to read"])
async def test_what_is_not_that_file_is_not_opened(kind: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing hangs on a pipe."""
    length = len(CONTENT)
    if kind == "another size":
        length += 1
    elif kind == "not ours to read":

        def refuse(*_: object) -> int:
            raise PermissionError(errno.EACCES, "no")

        monkeypatch.setattr(os, "open", refuse)
    else:
        path.rename(path.with_name("elsewhere"))
        if kind == "a folder":
            path.mkdir()
        elif kind == "a link":
            path.symlink_to("elsewhere")
        elif kind == "a pipe":
            os.mkfifo(path)
    assert await FinishedFile.open(path, length) is None


async def test_a_file_that_cannot_be_read_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the device's fault."""
    file = await FinishedFile.open(path, len(CONTENT))
    assert file is not None

    def pread(fd: int, count: int, offset: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", pread)
        with pytest.raises(DeviceError):
            await file.hash_span(0, 10, hashlib.sha256())
    await file.close()
