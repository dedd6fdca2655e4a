"""Which bytes of a file somebody has written, as far as the file system can tell."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from resumable.allocation import allocate, allocated, written_spans
from resumable.ranges import Span

MIB = 1 << 20


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """Yield the descriptor of an empty file."""
    fd = os.open(tmp_path / "x.part", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def test_what_was_only_allocated_was_not_written(file: int, tmp_path: Path) -> None:
    """Two pieces with a hole between, behind them space that was only reserved."""
    os.pwrite(file, b"x" * MIB, 0)
    os.pwrite(file, b"y" * MIB, 8 * MIB)
    allocate(file, tmp_path / "x.part", 32 * MIB, alone=True)
    os.fsync(file)
    assert [Span(0, MIB), Span(8 * MIB, 9 * MIB)] == written_spans(file, 32 * MIB)
    assert [Span(0, MIB), Span(8 * MIB, 8 * MIB + 5)] == written_spans(file, 8 * MIB + 5)
    assert allocated(file) >= 32 * MIB


@pytest.mark.parametrize("size", [0, 5 * MIB], ids=["empty", "one hole"])
def test_where_nothing_was_written_there_is_nothing(file: int, size: int) -> None:
    """A file may be long and hold nothing."""
    os.ftruncate(file, size)
    assert written_spans(file, 32 * MIB) == []


def test_a_file_system_without_holes_calls_everything_written(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the whole digest has to find out."""
    os.pwrite(file, b"x" * MIB, 0)

    def lseek(fd: int, offset: int, how: int) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "lseek", lseek)
    assert [Span(0, MIB)] == written_spans(file, 32 * MIB)


def test_a_device_that_fails_is_told(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO is no hole."""
    os.pwrite(file, b"x", 0)

    def lseek(fd: int, offset: int, how: int) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "lseek", lseek)
    with pytest.raises(OSError, match="Input/output"):
        written_spans(file, 32 * MIB)
