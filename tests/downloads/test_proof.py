"""Bytes of two versions are never joined, whatever an origin says of them or leaves unsaid (docs/decisions/0008)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import pytest

from recovery.policy import RetryPolicy
from resumable import DownloadError, DownloadManager, EventName, Options, Result
from tests.managing import MIB, Rig, content, until, whole
from tests.origin import Behaviour, FixedContent, Framing, Origin, Ranges, Validator, http_date

A = whole(content(9, 1))
B = A[: 3 * MIB] + whole(content(9, 2))[3 * MIB :]
"""As long as ``A``, and the same for the first 3 MiB."""
SILENT: dict[str, str | None] = {"ETag": None, "Last-Modified": None}
DATED: dict[str, str | None] = {"Last-Modified": http_date(-100_000)}
TWO = Options(connections=2, checkpoint_interval_s=0.05)
ONCE = RetryPolicy(max_no_progress=0)
QUICKLY_OVER = RetryPolicy(max_no_progress=1, base=0.01, cap=0.02)


def of_b(**more: object) -> Behaviour:
    """Return the behaviour of a node that has version ``B``."""
    return Behaviour(content=FixedContent(B), **more)  # type: ignore[arg-type]


async def fetched(rig: Rig, origin: Origin, *, sha256: str | None = None, **settings: object) -> Result:
    async with rig.manager(**{"options": TWO, **settings}) as manager:
        return await manager.start(origin.url("/f"), rig.file(), sha256=sha256)


async def damaged(rig: Rig, origin: Origin, chunks: list[int], behaviour: Behaviour) -> None:
    """Leave a whole part file of ``A`` that a former run could not publish, and damage these chunks of it."""
    origin.put("/f", A, replace(behaviour, rate=16 * MIB))  # it must not be done before the folder stands in its way
    manager: DownloadManager
    async with rig.manager(policy=ONCE, options=TWO) as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        await until(lambda: handle.view.bytes_done > 0 or handle.done)
        rig.file().mkdir()
        with pytest.raises(DownloadError):
            await handle
    rig.file().rmdir()
    with open(rig.part(), "r+b") as part:
        for index in chunks:
            part.seek(index * MIB + 5000)
            part.write(b"\xff" * 4096)
    origin.behave("/f", behaviour)
    origin.clear()


@dataclass(frozen=True)
class Row:
    """What the first answers are, and all later ones; of which version the file may be, and what may prove it."""

    name: str
    first: tuple[Behaviour, ...]
    then: Behaviour
    verified_by: str


CUT = Behaviour(cut_at=2 * MIB + 5, rate=8 * MIB)
ROWS = [
    Row("206 without validators, If-Range ignored", (Behaviour(),), of_b(headers=SILENT, if_range=False), "length"),
    Row("200 without validators", (Behaviour(),), of_b(headers=SILENT, ranges=Ranges.IGNORED), "length"),
    Row(
        "a gap in the middle, then a 200 without validators",
        (Behaviour(), CUT, Behaviour()),
        of_b(headers=SILENT, ranges=Ranges.IGNORED, rate=2 * MIB),
        "length",
    ),
    Row(
        "a gap in the middle, then another tag, date and size preserved",
        (Behaviour(headers=DATED), Behaviour(headers=DATED, cut_at=2 * MIB, rate=8 * MIB), Behaviour(headers=DATED)),
        of_b(headers=DATED, if_range=False),
        "length",
    ),
    Row(
        "no validator at all, ranges ignored later",
        (Behaviour(validator=Validator.NONE, cut_at=2 * MIB), Behaviour(status=503)),
        of_b(validator=Validator.NONE, ranges=Ranges.IGNORED),
        "overlap",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_the_file_is_of_one_version(row: Row, rig: Rig, origin: Origin) -> None:
    """Another version of the same size comes from some answer on: the file is that version, and nothing claims more."""
    origin.put("/f", A, row.then, script=row.first)
    result = await fetched(rig, origin)
    assert result.path.read_bytes() == B
    assert result.verified_by == row.verified_by


@pytest.mark.parametrize("ranges", [Ranges.HONOURED, Ranges.IGNORED])
@pytest.mark.parametrize("chunks", [[0], [4], [8], [0, 1, 5]], ids=str)
@pytest.mark.parametrize("other", [A, B], ids=["same", "replaced"])
async def test_a_gap_is_proved_on_both_sides(
    other: bytes, chunks: list[int], ranges: Ranges, rig: Rig, origin: Origin
) -> None:
    """Chunks of a former run are damaged and nothing names the version: what closes a gap fits what is around it.

    The same file costs the damaged chunks, and 64 KiB on each side of a gap.
    """
    if other is B and chunks == [0]:
        other = whole(content(9, 2))
    await damaged(rig, origin, chunks, Behaviour(validator=Validator.NONE))
    origin.put("/f", other, Behaviour(validator=Validator.NONE, ranges=ranges))
    result = await fetched(rig, origin)
    assert result.path.read_bytes() == other
    if ranges is Ranges.HONOURED:
        assert (EventName.RESTARTED in rig.names) == (other != A)
    if ranges is Ranges.HONOURED and other == A:
        assert result.bytes_received <= len(chunks) * (MIB + 2 * 64 * 1024)


async def test_a_whole_body_is_compared_to_the_last_kept_byte(rig: Rig, origin: Origin) -> None:
    """The missing chunk came long ago when this body shows, in the last chunk, that it is of another version."""
    await damaged(rig, origin, [1], Behaviour(validator=Validator.NONE))
    other = A[:MIB] + B[8 * MIB :] + A[2 * MIB : 8 * MIB] + B[8 * MIB :]
    origin.put("/f", other, Behaviour(validator=Validator.NONE, ranges=Ranges.IGNORED, rate=8 * MIB))
    result = await fetched(rig, origin)
    assert result.path.read_bytes() == other


async def test_what_is_written_before_the_proof_is_not_claimed(rig: Rig, origin: Origin) -> None:
    """Killed between the gap and what proves it, a process leaves no claim on what it wrote there."""
    await damaged(rig, origin, [4], Behaviour(validator=Validator.NONE))
    # The gap comes whole, of another version; the connection stalls before the byte that would give it away.
    other = A[: 4 * MIB] + bytes(MIB) + B[5 * MIB :]
    stalls = Behaviour(validator=Validator.NONE, stall_at=MIB + 64 * 1024)
    origin.put("/f", other, stalls)
    async with rig.manager(options=TWO) as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        await until(lambda: handle.view.bytes_received >= MIB)
        await handle.pause()
        assert handle.view.bytes_done <= 8 * MIB
    origin.release()
    origin.put("/f", A, Behaviour(validator=Validator.NONE))
    result = await fetched(rig, origin)
    assert result.path.read_bytes() == A


async def test_a_node_that_names_no_version_costs_a_request(rig: Rig, origin: Origin) -> None:
    """Every third answer is without validators: it is asked for again, nothing is begun again, the tag proves all."""
    origin.put("/f", A, script=[Behaviour(), Behaviour(headers=SILENT), Behaviour(cut_at=MIB)] * 3)
    result = await fetched(rig, origin, options=Options(connections=1))
    assert result.path.read_bytes() == A
    assert (result.verified_by, result.bytes_received) == ("etag", len(A))
    assert EventName.RESTARTED not in rig.names


@pytest.mark.parametrize("connections", [1, 4])
async def test_an_origin_that_ceases_to_name_the_version_is_resumed_all_the_same(
    connections: int, rig: Rig, origin: Origin
) -> None:
    """The first answer came from its origin, the others from a cache that leaves the tag out, and all of them break.

    What came with the tag is given up, once; from then on every break is resumed, proved by the bytes before it.
    """
    silent = Behaviour(headers=SILENT, cut_at=2 * MIB)
    origin.put("/f", A, silent, script=[Behaviour(cut_at=MIB)])
    result = await fetched(rig, origin, options=Options(connections=connections))
    assert result.path.read_bytes() == A
    assert result.verified_by == "overlap"
    assert result.bytes_received <= len(A) + MIB + 6 * 64 * 1024
    assert len(rig.told(EventName.RESTARTED)) == 1


@pytest.mark.parametrize("silent", [True, False], ids=["no validators", "other tag"])
async def test_with_a_digest_nothing_is_given_up_in_doubt(silent: bool, rig: Rig, origin: Origin) -> None:
    """The whole digest proves what is kept."""
    later = Behaviour(headers=SILENT) if silent else Behaviour(headers=DATED, etag='"node-2"')
    first = Behaviour(headers=DATED, cut_at=5 * MIB)
    origin.put("/f", A, later, script=[first])
    result = await fetched(rig, origin, sha256=hashlib.sha256(A).hexdigest(), options=Options(connections=1))
    assert (result.path.read_bytes() == A, result.verified_by) == (True, "digest")
    assert result.bytes_received <= len(A) + 2 * 64 * 1024
    assert EventName.RESTARTED not in rig.names
    assert "comparing bytes instead" in result.warnings[0]


async def test_a_body_that_goes_on_behind_its_label_is_not_written_there(rig: Rig, origin: Origin) -> None:
    """Content-Range says one mebibyte, the chunked body holds three: the label counts, and the fault is told."""
    headers = {"ETag": f'"s1-{len(A):x}"', "Content-Range": f"bytes {MIB}-{2 * MIB - 1}/{len(A)}"}
    body = A[MIB : 2 * MIB] + b"\xee" * (2 * MIB)
    longer = Behaviour(status=206, body=body, framing=Framing.CHUNKED, headers=headers)
    origin.put("/f", content(9, 1), script=[Behaviour(), longer])
    result = await fetched(rig, origin, options=Options(connections=2, max_range=3 * MIB))
    assert result.path.read_bytes() == A
    assert any("too-long" in event.message for event in rig.told(EventName.INTERRUPTED))


EMPTY = Behaviour(
    status=206,
    framing=Framing.CHUNKED,
    headers={"ETag": f'"s1-{len(A):x}"', "Content-Range": f"bytes {MIB}-{len(A) - 1}/{len(A)}"},
)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (Behaviour(cut_at=MIB), EMPTY),
        (Behaviour(cut_at=MIB), Behaviour(framing=Framing.CLOSE, cut_at=0)),
        (
            Behaviour(ranges=Ranges.IGNORED, cut_at=MIB),
            Behaviour(ranges=Ranges.IGNORED, framing=Framing.CLOSE, cut_at=0),
        ),
    ],
    ids=["206 and chunked", "206 until the connection closes", "200 until the connection closes"],
)
async def test_bodies_that_end_at_once_are_failures(
    first: Behaviour, then: Behaviour, rig: Rig, origin: Origin
) -> None:
    """Empty although they say what they hold: each is booked as a broken connection, and the tries are used up."""
    origin.put("/f", content(9, 1), then, script=[first])
    with pytest.raises(DownloadError) as caught:
        await fetched(rig, origin, policy=QUICKLY_OVER, options=Options(connections=1))
    assert caught.value.code == "interrupted"
    assert len(origin.seen("/f")) <= 12


async def test_what_the_date_alone_has_confirmed_is_not_put_down_to_the_tag(rig: Rig, origin: Origin) -> None:
    """Later answers leave the tag out and repeat the date: they are the same version by the date, which is named."""
    origin.put("/f", A, Behaviour(headers={**DATED, "ETag": None}), script=[Behaviour(headers=DATED)])
    result = await fetched(rig, origin)
    assert result.path.read_bytes() == A
    assert result.verified_by == "last-modified"
    assert result.bytes_received == len(A)
