"""A file that stands at the destination already: kept, checked, asked about once, or in the way."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from resumable import DestinationError, DigestMismatch, DownloadError, EventName, Options, Result, RetryPolicy
from resumable.ranges import Span
from resumable.rows import FileRow, put_file
from resumable.validators import ETag, Representation
from resumable.verify import VerifyReport, verify_file
from tests.managing import MIB, Rig, content, received, whole
from tests.origin import Behaviour, Origin, Ranges, Validator

CHUNK = 1000
DATA = bytes(range(256)) * 16  # 4,096 bytes: five chunks, the last one short


async def fetched(rig: Rig, origin: Origin, **request: Any) -> Result:
    """Download ``/f`` to its file."""
    async with rig.manager() as manager:
        return await manager.start(origin.url("/f"), rig.file(), **request)


# -- asking again ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("validator", [Validator.STRONG, Validator.WEAK, Validator.DATE])
async def test_an_unchanged_file_costs_one_conditional_request(validator: Validator, rig: Rig, origin: Origin) -> None:
    """No byte of it is fetched again, and the result says so."""
    origin.put("/f", content(1), Behaviour(validator=validator))
    first = await fetched(rig, origin)
    origin.clear()
    second = await fetched(rig, origin)
    assert (second.path, second.bytes_received, second.bytes_resumed) == (first.path, 0, MIB)
    (asked,) = origin.requests
    condition = {"if-none-match", "if-modified-since"} & set(asked.headers)
    assert len(condition) == 1
    assert asked.body_bytes <= 1
    assert rig.told(EventName.COMPLETED)[-1].message == "the file is there, unchanged"


async def test_a_changed_file_is_fetched_again(rig: Rig, origin: Origin) -> None:
    """The new one takes the old one's place."""
    origin.put("/f", content(1))
    await fetched(rig, origin)
    origin.replace("/f", content(1, seed=2))
    again = await fetched(rig, origin)
    assert again.bytes_received == MIB
    assert whole(content(1, seed=2)) == rig.file().read_bytes()


@pytest.mark.parametrize("mib", [0, 2])
async def test_another_size_tells_as_much_as_a_validator(mib: int, rig: Rig, origin: Origin) -> None:
    """The new version comes from a node that states no validator; its 206, or 416 where it is empty, tells the size."""
    origin.put("/f", content(1))
    await fetched(rig, origin)
    origin.put("/f", content(mib, seed=2), Behaviour(validator=Validator.NONE))
    assert (await fetched(rig, origin)).size == mib * MIB
    assert whole(content(mib, seed=2)) == rig.file().read_bytes()


@pytest.mark.parametrize("trouble", [Behaviour(status=500), Behaviour(status=404), "nobody there"])
async def test_an_origin_that_cannot_say_does_not_undo_the_file(
    trouble: Behaviour | str, rig: Rig, origin: Origin
) -> None:
    """What was downloaded and checked is there; the network being away changes nothing about it."""
    origin.put("/f", content(1))
    await fetched(rig, origin)
    if isinstance(trouble, Behaviour):
        origin.behave("/f", trouble)
    else:
        origin.refuse()
    assert (await fetched(rig, origin)).bytes_received == 0


@pytest.mark.parametrize("ranges", [Ranges.HONOURED, Ranges.IGNORED])
@pytest.mark.parametrize("mib", [0, 1, 2])
async def test_without_validators_the_size_is_asked_for(mib: int, ranges: Ranges, rig: Rig, origin: Origin) -> None:
    """The same size is all that can be known; another one is another file, and the old one is not called unchanged."""
    silent = Behaviour(validator=Validator.NONE, ranges=ranges)
    origin.put("/f", content(1), silent)
    await fetched(rig, origin)
    origin.put("/f", content(mib), silent)
    origin.clear()
    assert ((await fetched(rig, origin)).bytes_received > 0) == (mib == 2)
    assert rig.file().stat().st_size == mib * MIB
    assert len(origin.requests) == 1 or mib != 1


async def test_a_file_that_was_edited_is_not_taken_for_ours(rig: Rig, origin: Origin) -> None:
    """Its time says so, and it is fetched again."""
    origin.put("/f", content(1))
    await fetched(rig, origin)
    rig.file().write_bytes(b"x" * MIB)
    assert (await fetched(rig, origin)).bytes_received == MIB
    assert whole(content(1)) == rig.file().read_bytes()


async def test_a_file_from_elsewhere_counts_if_it_has_the_digest(rig: Rig, origin: Origin) -> None:
    """Copied from a colleague: nothing is transferred; without the digest nothing would say that it is the file."""
    origin.put("/f", content(1))
    rig.file().write_bytes(whole(content(1)))
    result = await fetched(rig, origin, sha256=content(1).sha256())
    assert (result.bytes_received, result.verified_by, origin.requests) == (0, "digest", [])
    rig.file("g").write_bytes(whole(content(1)))
    async with rig.manager() as manager:
        assert (await manager.start(origin.url("/f"), rig.file("g"))).bytes_received == MIB


async def test_a_file_without_the_digest_is_replaced(rig: Rig, origin: Origin) -> None:
    """By one that has it."""
    origin.put("/f", content(1))
    rig.file().write_bytes(b"something else")
    assert (await fetched(rig, origin, sha256=content(1).sha256())).bytes_received == MIB
    assert whole(content(1)) == rig.file().read_bytes()


@pytest.mark.parametrize("right", [True, False])
async def test_a_file_that_is_kept_is_the_one_that_was_promised(right: bool, rig: Rig, origin: Origin) -> None:
    """Not clobbering is no reason to hand out another file than the digest names; it stays where it is."""
    rig.file().write_bytes(whole(content(1)) if right else b"another")
    promised = {"sha256": content(1).sha256(), "options": Options(no_clobber=True)}
    if right:
        assert (await fetched(rig, origin, **promised)).verified_by == "digest"
    else:
        with pytest.raises(DigestMismatch):
            await fetched(rig, origin, **promised)
        assert rig.file().read_bytes() == b"another"
    assert origin.requests == []


async def test_a_file_that_comes_meanwhile_is_not_clobbered(rig: Rig, origin: Origin) -> None:
    """The download has its bytes, under another name."""
    origin.put("/f", content(2), Behaviour(rate=2 * MIB))
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file(), options=Options(no_clobber=True))
        await received(handle, 1)
        rig.file().write_bytes(b"another")
        result = await handle
    assert (result.path, rig.file().read_bytes()) == (rig.file("f.1.bin"), b"another")
    assert whole(content(2)) == result.path.read_bytes()


async def test_restart_and_no_clobber(rig: Rig, origin: Origin) -> None:
    """The one ignores what is there, the other everything else."""
    origin.put("/f", content(1))
    rig.file().write_bytes(b"mine")
    kept = await fetched(rig, origin, options=Options(no_clobber=True))
    assert (kept.size, kept.verified_by, origin.requests) == (4, "exists", [])
    first = await fetched(rig, origin)
    again = await fetched(rig, origin, options=Options(restart=True))
    assert (first.bytes_received, again.bytes_received) == (MIB, MIB)


async def test_a_restart_counts_its_attempts_anew(rig: Rig, origin: Origin) -> None:
    """What was tried for bytes that are given up is no past of the new ones; asking again without it keeps counting."""
    origin.put("/f", content(1), Behaviour(status=503))
    once = RetryPolicy(max_no_progress=1, base=0.0)
    async with rig.manager(policy=once) as manager:
        with pytest.raises(DownloadError):
            await manager.start(origin.url("/f"), rig.file())
        with pytest.raises(DownloadError) as again:
            await manager.start(origin.url("/f"), rig.file())
    origin.behave("/f", Behaviour())
    async with rig.manager(options=Options(restart=True)) as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        result = await handle
        history = [attempt.number for attempt in await manager.history(handle.download_id)]
        view = await manager.find(handle.download_id)
    assert (again.value.attempts, result.attempts, history) == (4, 1, [1])
    assert (view.attempt, view.attempts, view.breaks) == (1, 1, ())


@pytest.mark.parametrize("name", ["f.bin.part", "F.BIN.PART"])
async def test_no_file_is_called_like_a_part_file(name: str, rig: Rig, origin: Origin) -> None:
    """It would replace what another download has, or be written over by one as its own."""
    origin.put("/f", content(1))
    rig.part().write_bytes(b"kept")
    async with rig.manager() as manager:
        with pytest.raises(DestinationError, match="unfinished part of a download"):
            manager.start(origin.url("/f"), rig.file(name))
    assert rig.part().read_bytes() == b"kept"


async def test_what_is_no_file_is_not_replaced(rig: Rig, origin: Origin) -> None:
    """A pipe, a folder, or something below a file."""
    origin.put("/f", content(1))
    os.mkfifo(rig.file("pipe"))
    (rig.folder / "folder").mkdir()
    async with rig.manager() as manager:
        with pytest.raises(DestinationError, match="not a regular file"):
            await manager.start(origin.url("/f"), rig.file("pipe"))
        with pytest.raises(DestinationError, match="is a folder"):
            await manager.start(origin.url("/f"), rig.file("folder"))
        with pytest.raises(DestinationError, match="cannot look at"):
            await manager.start(origin.url("/f"), rig.folder / ("x" * 300))
        rig.file("file").write_bytes(b"")
        with pytest.raises(DestinationError):
            await manager.start(origin.url("/f"), rig.folder / "file" / "below")
    assert origin.requests == []


# -- verifying ---------------------------------------------------------------------------------------------------------


def receipt(path: Path) -> FileRow:
    """Return what a download of DATA would have left."""
    chunks = [DATA[start : start + CHUNK] for start in range(0, len(DATA), CHUNK)]
    return FileRow(
        download_id="d1",
        path=path,
        size=len(DATA),
        mtime_ns=None,
        sha256=None,
        chunk_size=CHUNK,
        digests=b"".join(hashlib.sha256(chunk).digest() for chunk in chunks),
        verified_by="etag",
        representation=Representation(etag=ETag('"1"', weak=False), complete_length=len(DATA)),
        bytes_received=len(DATA),
        finished_at=1.0,
    )


def flipped(*offsets: int) -> bytes:
    """Return DATA with some bytes inverted."""
    data = bytearray(DATA)
    for offset in offsets:
        data[offset] ^= 0xFF
    return bytes(data)


DAMAGE = [
    (DATA, ()),
    (flipped(0), (Span(0, 1000),)),
    (flipped(1500, 2999), (Span(1000, 3000),)),
    (flipped(999, 4095), (Span(0, 1000), Span(4000, 4096))),
    (DATA[:3500], (Span(3000, 4096),)),
    (DATA[:3000], (Span(3000, 4096),)),
    (b"", (Span(0, 4096),)),
    (DATA + b"more", (Span(4000, 4096), Span(4096, 4100))),
]


@pytest.mark.parametrize(("data", "damaged"), DAMAGE, ids=range(len(DAMAGE)))
async def test_damage_is_located_chunk_by_chunk(data: bytes, damaged: tuple[Span, ...], tmp_path: Path) -> None:
    """Neighbouring chunks are one span; what is too short or too long is damage."""
    path = tmp_path / "f"
    path.write_bytes(data)
    report = await verify_file(path, receipt(path), sha256=None)
    expected = VerifyReport(
        path=path,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        ok=not damaged,
        damaged=damaged,
        source="receipt",
    )
    assert expected == report


@pytest.mark.parametrize("piece", [1, 700, 999, 1000, 1001, 4096, 9000])
async def test_pieces_of_any_size_give_the_same_digests(
    piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk may end in the middle of what was read at once, and begin there."""
    monkeypatch.setattr("resumable.verify._PER_HOP", piece)
    path = tmp_path / "f"
    path.write_bytes(flipped(1500, 2999))
    report = await verify_file(path, receipt(path), sha256=None)
    expected = (hashlib.sha256(flipped(1500, 2999)).hexdigest(), (Span(1000, 3000),))
    assert (report.sha256, report.damaged) == expected


async def test_a_reading_that_is_cancelled_leaves_no_thread_and_no_file_open(tmp_path: Path) -> None:
    """A person presses Ctrl-C while 40 GB are verified: the piece under way is all that is waited for."""
    path = tmp_path / "f"
    path.write_bytes(b"")
    os.truncate(path, 1 << 40)
    reading = asyncio.create_task(verify_file(path, None, sha256="0" * 64))
    while not any(is_open(path)):
        await asyncio.sleep(0.01)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not any(is_open(path))


def is_open(path: Path) -> list[bool]:
    """Say of each descriptor of this process whether it is of this file."""
    return [os.path.realpath(one) == str(path) for one in Path("/proc/self/fd").iterdir()]


async def test_a_digest_of_the_callers_decides(tmp_path: Path) -> None:
    """With and without a receipt; the receipt still says where the damage is."""
    path = tmp_path / "f"
    path.write_bytes(DATA)
    digest = hashlib.sha256(DATA).hexdigest()
    assert (await verify_file(path, None, sha256=f"sha256:{digest}")).ok
    wrong = await verify_file(path, receipt(path), sha256="0" * 64)
    assert (wrong.ok, wrong.damaged, wrong.source) == (False, (), "caller")
    path.write_bytes(flipped(0))
    assert (await verify_file(path, receipt(path), sha256=digest)).damaged == (Span(0, 1000),)


async def test_nothing_to_compare_with_and_nothing_to_read(tmp_path: Path) -> None:
    """Each is said in one sentence."""
    path, other = tmp_path / "f", tmp_path / "other"
    other.write_bytes(b"")
    with pytest.raises(LookupError, match="give --sha256"):
        await verify_file(other, None, sha256=None)
    with pytest.raises(ValueError, match="SHA-256"):
        await verify_file(path, None, sha256="12")
    with pytest.raises(DestinationError, match="no such file"):
        await verify_file(path, None, sha256=None)
    with pytest.raises(DestinationError, match="cannot read"):
        await verify_file(path, receipt(path), sha256=None)


async def test_the_newest_receipt_of_a_path_counts(rig: Rig, origin: Origin) -> None:
    """Two downloads have had this file name, one after the other."""
    origin.put("/f", content(1))
    async with rig.manager() as manager:
        await manager.start(origin.url("/f"), rig.file())
        old = await manager._store.receipt_for(rig.file())
        assert old is not None

        older = replace(old, download_id="d0", finished_at=old.finished_at - 100, size=7)
        await manager._database.write(lambda conn: put_file(conn, older))
        assert (await manager.verify(rig.file())).ok


async def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """Reading a FIFO that nobody writes to would never end."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with pytest.raises(DestinationError, match="not a regular file"):
        await verify_file(path, None, sha256="0" * 64)


async def test_a_download_that_is_begun_again_after_its_end_counts_anew(rig: Rig, origin: Origin) -> None:
    """The file was deleted: what was tried for the former one is no past of this one, and its cap no bound of it.

    Found there, nothing is begun, and what is told of how it came stays.
    """
    origin.put("/f", content(), script=[Behaviour(status=503)])
    first, again = RetryPolicy(base=0.0, cap=0.0), RetryPolicy(max_attempts=2, base=0.0, cap=0.0)
    async with rig.manager(policy=first) as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        assert (await handle).attempts == 2
        found = manager.start(origin.url("/f"), rig.file())
        await found
        assert (found.view.attempts, len(await manager.history(handle.download_id))) == (2, 2)
    rig.file().unlink()
    rig.events.clear()
    async with rig.manager(policy=again) as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        result = await handle
        history = [attempt.number for attempt in await manager.history(handle.download_id)]
        view = await manager.find(handle.download_id)
    assert (result.attempts, history) == (1, [1])
    assert (view.attempt, view.attempts, view.retries, view.breaks, view.warnings) == (1, 1, 0, (), ())
    started = [event.view for event in rig.told(EventName.STARTED)]
    assert {(view.attempt, view.attempts, view.retries) for view in started} == {(1, 1, 0)}
