"""The contract of a part file, kept by the one on disk and the one in memory alike."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from resumable.errors import DestinationError, DiskFull, PartFileBusy
from resumable.partfile import DiskPartFile
from resumable.testing import MemoryFolder, MemoryPartFile

Part = DiskPartFile | MemoryPartFile


class Place:
    """Where part files are made, and how to look at what is there without them."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.folder = folder
        self.memory = MemoryFolder() if kind == "memory" else None

    async def open(self, name: str = "model.bin.part") -> Part:
        """Open a part file."""
        path = self.folder / name
        return await DiskPartFile.open(path) if self.memory is None else await self.memory.open(path)

    def files(self) -> dict[str, bytes]:
        """Return every file's content by name."""
        if self.memory is not None:
            return {path.name: bytes(content) for path, content in self.memory.files.items()}
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}

    def put(self, name: str, content: bytes) -> None:
        """Put a file there that somebody else made."""
        if self.memory is not None:
            self.memory.files[self.folder / name] = bytearray(content)
        else:
            (self.folder / name).write_bytes(content)

    def cut(self, name: str, length: int) -> None:
        """Cut a file behind the part file's back."""
        if self.memory is not None:
            del self.memory.files[self.folder / name][length:]
        else:
            os.truncate(self.folder / name, length)

    def remove(self, name: str) -> None:
        """Delete a file behind the part file's back."""
        if self.memory is not None:
            del self.memory.files[self.folder / name]
        else:
            (self.folder / name).unlink()


@pytest.fixture(params=["disk", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return an empty folder."""
    return Place(request.param, tmp_path)


@pytest.fixture
async def part(place: Place) -> AsyncIterator[Part]:
    """Yield an open part file, closed in the end."""
    opened = await place.open()
    yield opened
    await opened.close()


async def test_written_blocks_are_on_disk_and_hashed(place: Place, part: Part) -> None:
    """Blocks land one after the other at the offset, and the returned digest is theirs."""
    digest = hashlib.sha256()
    returned = await part.write(3, [b"ab", b"", b"cde"], digest)
    assert hashlib.sha256(b"abcde").digest() == returned
    assert place.files() == {"model.bin.part": b"\0\0\0abcde"}


async def test_a_digest_goes_on_where_it_was(part: Part) -> None:
    """Two writes through one digest give the digest of both."""
    digest = hashlib.sha256()
    await part.write(0, [b"one"], digest)
    assert hashlib.sha256(b"onetwo").digest() == await part.write(3, [b"two"], digest)


async def test_writing_nothing_changes_nothing(place: Place, part: Part) -> None:
    """No blocks, or only empty ones, are no error."""
    digest = hashlib.sha256(b"x")
    assert hashlib.sha256(b"x").digest() == await part.write(5, [], digest)
    assert hashlib.sha256(b"x").digest() == await part.write(0, [b""], digest)
    assert place.files() == {"model.bin.part": b""}


async def test_spans_written_at_once_do_not_mix(place: Place, part: Part) -> None:
    """Many tasks may write different spans concurrently, each with a digest of its own."""
    blocks = [bytes([n]) * 70_000 for n in range(8)]
    await asyncio.gather(*(part.write(n * 70_000, [block], hashlib.sha256()) for n, block in enumerate(blocks)))
    assert b"".join(blocks) == place.files()["model.bin.part"]


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [(0, 10, b"0123456789"), (3, 4, b"3456"), (8, 10, b"89"), (10, 5, b""), (50, 1, b""), (2, 0, b"")],
)
async def test_a_span_is_hashed_as_far_as_the_file_goes(part: Part, offset: int, length: int, expected: bytes) -> None:
    """The count says how many bytes there were; what is beyond the end is not invented."""
    await part.write(0, [b"0123456789"], hashlib.sha256())
    digest = hashlib.sha256()
    assert len(expected) == await part.hash_span(offset, length, digest)
    assert hashlib.sha256(expected).digest() == digest.digest()


async def test_content_outlives_closing(place: Place) -> None:
    """A part file opened again holds what the former run wrote."""
    first = await place.open()
    await first.write(0, [b"kept"], hashlib.sha256())
    await first.close()
    second = await place.open()
    digest = hashlib.sha256()
    assert await second.hash_span(0, 100, digest) == 4
    assert hashlib.sha256(b"kept").digest() == digest.digest()
    await second.close()


async def test_only_one_may_have_it_open(place: Place, part: Part) -> None:
    """A second opening is refused until the first is closed, also within one process."""
    with pytest.raises(PartFileBusy):
        await place.open()
    await part.close()
    again = await place.open()
    await again.close()


@pytest.mark.parametrize(("length", "expected"), [(0, b""), (4, b"0123"), (10, b"0123456789"), (12, b"0123456789\0\0")])
async def test_truncate_gives_exactly_that_length(place: Place, part: Part, length: int, expected: bytes) -> None:
    """It cuts, leaves alone, or extends by zeros."""
    await part.write(0, [b"0123456789"], hashlib.sha256())
    await part.truncate(length)
    assert {"model.bin.part": expected} == place.files()


async def test_reserving_keeps_the_content(place: Place, part: Part) -> None:
    """Whatever is reserved, more or less than there is, the bytes there stay."""
    await part.write(0, [b"0123456789"], hashlib.sha256())
    for length in (1_000_000, 0, 5, 1_000_000):
        await part.reserve(length)
    assert place.files()["model.bin.part"].startswith(b"0123456789")
    await part.sync()
    assert await part.free_space() > 0


async def test_a_cut_by_another_program_is_told(place: Place, part: Part) -> None:
    """Also where writing has made the file long again; once told, it is the caller's business."""
    await part.write(0, [b"0123456789"], hashlib.sha256())
    assert await part.truncate(8)
    place.cut("model.bin.part", 3)
    await part.write(8, [b"89"], hashlib.sha256())
    assert not await part.truncate(10)
    assert place.files() == {"model.bin.part": b"012\0\0\0\0\089"}
    assert await part.truncate(10)
    place.cut("model.bin.part", 9)
    assert not await part.truncate(10)


async def test_what_a_former_run_wrote_is_cut_as_well(place: Place) -> None:
    """A file is as long as it was when it was opened, at least."""
    place.put("model.bin.part", b"0123456789")
    part = await place.open()
    place.cut("model.bin.part", 3)
    assert not await part.truncate(10)
    await part.close()


async def test_publishing_at_a_length_truncates_first(place: Place, part: Part) -> None:
    """In one call; a file that another program has cut keeps its place, and that is told once."""
    await part.write(0, [b"0123456789"], hashlib.sha256())
    place.cut("model.bin.part", 3)
    assert await part.publish(place.folder / "model.bin", replace=True, length=8) is None
    assert place.files() == {"model.bin.part": b"012\0\0\0\0\0"}
    await part.write(3, [b"3456789"], hashlib.sha256())
    assert place.folder / "model.bin" == await part.publish(place.folder / "model.bin", replace=True, length=8)
    assert place.files() == {"model.bin": b"01234567"}


async def test_a_part_file_that_was_cut_is_not_published(place: Place, part: Part) -> None:
    """Not even where that happens in the last moment."""
    await part.write(0, [b"0123456789"], hashlib.sha256())
    assert await part.truncate(10)
    place.cut("model.bin.part", 3)
    with pytest.raises(DestinationError, match="was cut by another program"):
        await part.publish(place.folder / "model.bin", replace=True)
    assert place.files() == {"model.bin.part": b"012"}


@pytest.mark.parametrize("replace", [True, False])
async def test_publish_gives_the_name(place: Place, part: Part, replace: bool) -> None:
    """The final name appears and the part file's is gone; the part file knows its new path."""
    await part.write(0, [b"whole"], hashlib.sha256())
    dest = place.folder / "model.bin"
    assert dest == await part.publish(dest, replace=replace)
    assert dest == part.path
    assert place.files() == {"model.bin": b"whole"}


async def test_publish_replaces_when_asked(place: Place, part: Part) -> None:
    """With ``replace`` an older file of that name makes way."""
    place.put("model.bin", b"old")
    await part.write(0, [b"new"], hashlib.sha256())
    await part.publish(place.folder / "model.bin", replace=True)
    assert place.files() == {"model.bin": b"new"}


async def test_publish_never_overwrites_otherwise(place: Place, part: Part) -> None:
    """Without ``replace`` the first free numbered name is taken and returned."""
    place.put("model.bin", b"old")
    place.put("model.1.bin", b"older")
    await part.write(0, [b"new"], hashlib.sha256())
    assert place.folder / "model.2.bin" == await part.publish(place.folder / "model.bin", replace=False)
    assert place.files() == {"model.bin": b"old", "model.1.bin": b"older", "model.2.bin": b"new"}


async def test_a_deleted_part_file_is_not_published(place: Place, part: Part) -> None:
    """What was deleted behind our back cannot get a name, and a file that stands there is not touched."""
    place.put("model.bin", b"old")
    place.remove("model.bin.part")
    with pytest.raises(DestinationError):
        await part.publish(place.folder / "model.bin", replace=True)
    with pytest.raises(DestinationError):
        await part.set_aside(place.folder / "model.bin.suspect")
    assert place.files() == {"model.bin": b"old"}


async def test_another_folder_is_a_mistake(place: Place, part: Part) -> None:
    """Publishing and setting aside stay in the part file's folder, so a rename can always do it."""
    elsewhere = place.folder / "sub" / "model.bin"
    with pytest.raises(ValueError, match="not in the folder"):
        await part.publish(elsewhere, replace=True)
    with pytest.raises(ValueError, match="not in the folder"):
        await part.set_aside(elsewhere)


async def test_set_aside_replaces_an_older_one(place: Place, part: Part) -> None:
    """A suspect file keeps its bytes under the other name, in place of the last suspect."""
    place.put("model.bin.suspect", b"older suspect")
    await part.write(0, [b"wrong"], hashlib.sha256())
    await part.set_aside(place.folder / "model.bin.suspect")
    assert place.files() == {"model.bin.suspect": b"wrong"}
    assert place.folder / "model.bin.suspect" == part.path


async def test_the_name_is_free_again_after_publishing(place: Place, part: Part) -> None:
    """A new download of the same destination may begin while the old part file object still lives."""
    await part.publish(place.folder / "model.bin", replace=True)
    other = await place.open()
    await other.write(0, [b"next"], hashlib.sha256())
    await other.close()
    assert place.files() == {"model.bin": b"", "model.bin.part": b"next"}


async def test_abandon_deletes(place: Place, part: Part) -> None:
    """Cancelling for good leaves nothing; a second call is harmless."""
    await part.write(0, [b"unwanted"], hashlib.sha256())
    await part.abandon()
    await part.abandon()
    assert place.files() == {}


@pytest.mark.parametrize("keep_empty", [True, False])
@pytest.mark.parametrize("data", [b"", b"x"], ids=["empty", "a byte"])
async def test_closing_deletes_only_what_is_empty(place: Place, part: Part, data: bytes, keep_empty: bool) -> None:
    """And only where that was asked for; the name is free for the next one at once."""
    if data:
        await part.write(0, [data], hashlib.sha256())
    await part.close(keep_empty=keep_empty)
    assert place.files() == ({"model.bin.part": data} if data or keep_empty else {})
    other = await place.open()
    await other.close()


async def test_closing_deletes_nothing_of_anothers(place: Place, part: Part) -> None:
    """Published, or deleted and made again behind its back: what has the name now stays."""
    await part.publish(place.folder / "model.bin", replace=True)
    await part.close(keep_empty=False)
    again = await place.open()
    place.remove("model.bin.part")
    place.put("model.bin.part", b"of somebody")
    await again.close(keep_empty=False)
    assert place.files() == {"model.bin": b"", "model.bin.part": b"of somebody"}


async def test_abandon_keeps_what_is_published(place: Place, part: Part) -> None:
    """A file that already has its final name is not taken away."""
    await part.publish(place.folder / "model.bin", replace=True)
    await part.abandon()
    assert place.files() == {"model.bin": b""}


async def test_a_closed_part_file_refuses_everything(place: Place, part: Part) -> None:
    """After ``close`` every call is a mistake, but for closing again."""
    await part.close()
    await part.close()
    dest = place.folder / "model.bin"
    for call in (
        part.write(0, [b"x"], hashlib.sha256()),
        part.hash_span(0, 1, hashlib.sha256()),
        part.reserve(1),
        part.truncate(1),
        part.free_space(),
        part.sync(),
        part.publish(dest, replace=True),
        part.set_aside(dest),
    ):
        with pytest.raises(ValueError, match="closed"):
            await call


async def test_memory_raises_the_faults_it_is_given(tmp_path: Path) -> None:
    """A test can make any call of the part file in memory fail, once per fault."""
    part = await MemoryFolder(capacity=10).open(tmp_path / "x.part")
    part.faults["sync"].append(DestinationError("as told"))
    with pytest.raises(DestinationError, match="as told"):
        await part.sync()
    await part.sync()
    assert part.synced == 1
    with pytest.raises(DiskFull, match="needs 11 B, 10 B free"):
        await part.write(0, [bytes(11)], hashlib.sha256())
    with pytest.raises(DiskFull):
        await part.reserve(11)
    assert await part.free_space() == 10
    await part.close()


async def test_what_has_been_written_can_be_told(part: Part) -> None:
    """Everything written lies in the spans, and none goes beyond the end of the file or of what was asked about."""
    assert list(await part.reserve(1 << 20)) == []
    await part.write(0, [b"x" * 5000], hashlib.sha256())
    spans = await part.reserve(1 << 20)
    assert (spans[0].start, spans[-1].stop) == (0, 5000)
    assert (await part.reserve(100))[-1].stop == 100
