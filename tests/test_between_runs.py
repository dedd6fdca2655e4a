"""cases.md A: what happens to a killed download before its next run: damage, another object, another link, ranges that
begin to lie.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.command import Ended, environment, run
from tests.hostile import (
    CHUNK,
    CONTENT,
    MIB,
    OTHER,
    OTHER_SHA,
    RATE,
    SHA,
    SIZE,
    arguments,
    claims,
    get,
    interrupted,
    right,
)
from tests.origin import Behaviour, Origin, Ranges, Validator

pytestmark = pytest.mark.blocking


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


def test_kill_and_resume(origin: Origin, tmp_path: Path) -> None:
    """kill -9 in mid-flight: the next run fetches what is missing, and again at most what came since the last tick.

    A tick is 250 ms; a second of traffic is allowed, because the machine may be busy. The campaign measures it.
    """
    interrupted(origin, tmp_path)
    before = origin.body_bytes_sent("/file.bin")
    origin.clear()
    ended = get(origin, tmp_path)
    assert ended.code == 0, ended
    assert right(tmp_path)
    assert ended.last["bytes_resumed"] > 4 * MIB
    assert before + origin.body_bytes_sent("/file.bin") <= SIZE + 4 * RATE
    assert ended.last["bytes_resumed"] + ended.last["bytes_received"] == SIZE


def _leave(part: Path) -> None:
    assert part.exists()


def _flip(part: Path) -> None:
    with open(part, "r+b") as file:
        file.seek(CHUNK + 4096)
        block = file.read(4096)
        file.seek(CHUNK + 4096)
        file.write(bytes(255 - byte for byte in block))


def _zero(part: Path) -> None:
    with open(part, "r+b") as file:
        file.seek(CHUNK)
        file.write(bytes(CHUNK))


def _truncate(part: Path) -> None:
    os.truncate(part, 2 * CHUNK + 17)


def _extend(part: Path) -> None:
    with open(part, "ab") as file:
        file.write(b"junk" * MIB)


def _delete(part: Path) -> None:
    part.unlink()


def true_claims(folder: Path) -> tuple[int, int]:
    """Return how many bytes of the claims the part file still holds, and how many claims it does not."""
    part, good, damaged = folder / "out.bin.part", 0, 0
    data = part.read_bytes() if part.exists() else b""
    for index, (length, digest) in claims(folder / "state.db").items():
        start = index * CHUNK
        if hashlib.sha256(data[start : start + length]).digest() == digest:
            good += length
        else:
            damaged += 1
    return good, damaged


@pytest.mark.parametrize(
    "damage", [_leave, _flip, _zero, _truncate, _extend, _delete], ids=lambda f: f.__name__.strip("_")
)
def test_exactly_the_damaged_chunks_are_fetched_again(
    damage: Callable[[Path], None], origin: Origin, tmp_path: Path
) -> None:
    """Each chunk that the disk still holds is resumed, each one it does not is fetched, and the number is told."""
    interrupted(origin, tmp_path)
    damage(tmp_path / "out.bin.part")
    good, damaged = true_claims(tmp_path)
    ended = get(origin, tmp_path)
    assert ended.code == 0, ended
    assert right(tmp_path)
    assert (good, SIZE - good) == (ended.last["bytes_resumed"], ended.last["bytes_received"])
    repaired = [line["message"].partition(" ")[0] for line in ended.lines if line["event"] == "repaired"]
    assert repaired == ([str(damaged)] if damaged else [])


def reasons(ended: Ended, tmp_path: Path) -> tuple[list[str], str]:
    """Return why it was begun again, by the events, and by ``status`` afterwards."""
    told = [line["message"] for line in ended.lines if line["event"] == "restarted"]
    status = run("status", "--state", "state.db", "--json", cwd=tmp_path)
    return told, status.lines[0]["restarted"]


@pytest.mark.parametrize(
    ("validator", "reason"),
    [
        (Validator.STRONG, "changed: etag"),
        (Validator.WEAK, "changed: etag W/"),
        (Validator.DATE, "changed: last-modified"),
        (Validator.NONE, "changed: the bytes beside the gap differ"),
    ],
)
@pytest.mark.parametrize("if_range", [True, False], ids=["If-Range honoured", "If-Range ignored"])
def test_another_object_of_the_same_size(
    validator: Validator, reason: str, if_range: bool, origin: Origin, tmp_path: Path
) -> None:
    """Started over, never mixed; the event, the log and ``status`` say why."""
    interrupted(origin, tmp_path, Behaviour(validator=validator, if_range=if_range))
    origin.replace("/file.bin", OTHER)
    ended = get(origin, tmp_path)
    assert ended.code == 0, ended
    assert right(tmp_path, OTHER_SHA)
    events, status = reasons(ended, tmp_path)
    assert [status] == events
    assert status.startswith(reason)
    assert f"begins again from byte zero: {status}" in ended.err


def test_ranges_that_begin_to_lie(origin: Origin, tmp_path: Path) -> None:
    """The ranges hold bytes from elsewhere, correctly labelled: the first one that goes on from kept bytes gives it
    away.
    """
    interrupted(origin, tmp_path)
    origin.behave("/file.bin", Behaviour(ranges=Ranges.LIAR))
    ended = get(origin, tmp_path)
    assert ended.code == 0, ended
    assert right(tmp_path)
    assert any(line["event"] == "restarted" and "ranges" in line["message"] for line in ended.lines)


def test_the_url_signed_anew(origin: Origin, tmp_path: Path) -> None:
    """Another signature in the query: the same download goes on."""
    interrupted(origin, tmp_path)
    ended = run(*arguments(origin, "/file.bin?X-Amz-Signature=new&X-Amz-Expires=60"), cwd=tmp_path)
    assert ended.code == 0, ended
    assert right(tmp_path)
    assert ended.last["bytes_resumed"] > 4 * MIB
    assert "X-Amz-Signature=new" not in ended.out + ended.err


def test_the_state_file_is_lost(origin: Origin, tmp_path: Path) -> None:
    """With a digest the part file is taken over and proved; nothing that is there is fetched but what is half there."""
    interrupted(origin, tmp_path)
    for path in tmp_path.glob("state.db*"):
        path.unlink()
    ended = get(origin, tmp_path, "--sha256", SHA)
    assert ended.code == 0, ended
    assert right(tmp_path)
    assert ended.last["bytes_resumed"] > 4 * MIB
    assert ended.last["bytes_resumed"] + ended.last["bytes_received"] == SIZE


DIES = """
import os, sys
from resumable.checkpoints import SqliteCheckpoints
async def die(*_): os._exit(77)
SqliteCheckpoints.finish = die
from resumable.__main__ import main
main()
"""


def test_it_died_between_the_final_name_and_its_receipt(origin: Origin, tmp_path: Path) -> None:
    """The next run finds the file by its chunks, and fetches not a byte."""
    origin.put("/file.bin", CONTENT, Behaviour(rate=20 * MIB))
    died = subprocess.run(
        [sys.executable, "-c", DIES, *arguments(origin)], cwd=tmp_path, env=environment(), timeout=60, check=False
    )
    assert (died.returncode, right(tmp_path)) == (77, True)
    origin.clear()
    ended = get(origin, tmp_path)
    assert ended.code == 0, ended
    assert right(tmp_path)
    assert origin.body_bytes_sent() == 0
    assert not (tmp_path / "out.bin.part").exists()
