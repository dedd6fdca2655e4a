"""cases.md A: the real command against hostile origins; the right file or a loud, classified error, never wrong
bytes.
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.command import Ended, finish, run, start
from tests.origin import Behaviour, Content, End, Framing, Gzip, Origin, Ranges, Validator

MIB = 1 << 20
SIZE = 32 * MIB
CHUNK = 1 * MIB
CONTENT = Content(SIZE, seed=1)
OTHER = Content(SIZE, seed=2)
SHA = CONTENT.sha256()
OTHER_SHA = OTHER.sha256()
IN_SOCKETS = 4 * MIB
"""What the kernel may have taken from the origin on a connection that is then closed; not a refetch, but not
received either.
"""

pytestmark = pytest.mark.blocking


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@dataclass(frozen=True)
class Row:
    """One row of the scoreboard: what the origin does, and the most body bytes it may have to send."""

    name: str
    behaviour: Behaviour
    script: tuple[Behaviour, ...] = ()
    most: int = SIZE + CHUNK
    codes: tuple[int, ...] = (0,)
    sha256: str = SHA
    category: str | None = None


ROWS = [
    Row("plain", Behaviour(), most=SIZE),
    Row("every response is cut at 6 MiB", Behaviour(cut_at=6 * MIB), most=SIZE + CHUNK),
    Row("every response is cut at 14 MiB", Behaviour(cut_at=14 * MIB), most=SIZE + CHUNK),
    Row(
        "ranges are ignored after a good first answer",
        Behaviour(ranges=Ranges.IGNORED),
        (Behaviour(),),
        most=SIZE + CHUNK + 4 * IN_SOCKETS,
    ),
    Row(
        "a 206 has a wrong Content-Range",
        Behaviour(ranges=Ranges.MISLABELLED),
        (Behaviour(),),
        codes=(0, 3, 5),
        most=3 * SIZE,
    ),
    Row(
        "a 206 is for a shifted range", Behaviour(ranges=Ranges.SHIFTED), (Behaviour(),), codes=(0, 3, 5), most=3 * SIZE
    ),
    Row("503 with Retry-After twice", Behaviour(), (Behaviour(status=503, retry_after=1),) * 2, most=SIZE),
    Row("429 with Retry-After twice", Behaviour(), (Behaviour(status=429, retry_after=1),) * 2, most=SIZE),
    Row("a stall on the second request", Behaviour(), (Behaviour(), Behaviour(stall_at=100_000)), most=SIZE + CHUNK),
    Row(
        "a page in place of later ranges",
        Behaviour(html=True),
        (Behaviour(cut_at=5 * MIB),) * 2,
        codes=(3, 4, 5),
        category="captive-portal",
    ),
    Row("a CDN that gzips and then ignores ranges", Behaviour(gzip=Gzip.UNLESS_IDENTITY), most=SIZE),
    Row(
        "chunked and truncated once",
        Behaviour(framing=Framing.CHUNKED),
        (Behaviour(framing=Framing.CHUNKED, cut_at=9 * MIB),),
    ),
    Row(
        "no length, ranges ignored, truncated once",
        Behaviour(framing=Framing.CLOSE, ranges=Ranges.IGNORED),
        (Behaviour(framing=Framing.CLOSE, ranges=Ranges.IGNORED, cut_at=9 * MIB),),
        most=2 * SIZE + 9 * MIB,
    ),
    Row("the 206 has no Content-Range", Behaviour(ranges=Ranges.UNLABELLED), codes=(0, 3, 5), most=2 * SIZE),
    Row("the Content-Range is malformed", Behaviour(ranges=Ranges.MALFORMED), codes=(0, 3, 5), most=2 * SIZE),
    Row("multipart for a single range", Behaviour(ranges=Ranges.MULTIPART), codes=(0, 3, 5), most=2 * SIZE),
    Row("shorter than asked", Behaviour(ranges=Ranges.SHORTER), most=SIZE),
    Row("longer than asked, and says so", Behaviour(ranges=Ranges.LONGER), most=SIZE + 64 * 4096 + IN_SOCKETS),
    Row("longer than announced", Behaviour(ranges=Ranges.OVERRUN), codes=(0, 3, 5), most=2 * SIZE),
    Row("begins before the range asked for", Behaviour(ranges=Ranges.EARLIER), most=SIZE + 64 * 4096),
    Row("every response reset at 6 MiB", Behaviour(cut_at=6 * MIB, cut=End.RST), most=2 * SIZE),
    Row("no validator, cut at 6 MiB", Behaviour(cut_at=6 * MIB, validator=Validator.NONE), most=SIZE + CHUNK),
    Row("weak validator, cut at 6 MiB", Behaviour(cut_at=6 * MIB, validator=Validator.WEAK), most=SIZE + CHUNK),
    Row("date only, cut at 6 MiB", Behaviour(cut_at=6 * MIB, validator=Validator.DATE), most=SIZE + CHUNK),
    Row("the ETag rotates with every answer", Behaviour(validator=Validator.ROTATING), codes=(0, 5), most=3 * SIZE),
    Row("the fifth connection is refused", Behaviour(most_active=2, rate=20 * MIB), most=SIZE),
    Row("no ranges at all", Behaviour(ranges=Ranges.IGNORED), most=SIZE),
    Row("404", Behaviour(status=404), codes=(4,), most=0, category="not-found"),
    Row("403", Behaviour(status=403), codes=(4,), most=0, category="auth"),
    Row("500 for ever", Behaviour(status=500), codes=(3,), most=0, category="server"),
    Row("hang up without an answer, twice", Behaviour(), (Behaviour(hang_up=End.RST),) * 2, most=SIZE),
]


def get(origin: Origin, tmp_path: Path, *more: str, path: str = "/file.bin", timeout_s: float = 60.0) -> Ended:
    return run(*arguments(origin, path), *more, cwd=tmp_path, timeout_s=timeout_s)


def arguments(origin: Origin, path: str = "/file.bin") -> list[str]:
    return ["get", origin.url(path), "-o", "out.bin", "--state", "state.db", "--json", "--stall-timeout", "2"]


def right(tmp_path: Path, sha256: str = SHA) -> bool:
    out = tmp_path / "out.bin"
    return out.exists() and hashlib.sha256(out.read_bytes()).hexdigest() == sha256


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_right_file_or_a_loud_error(row: Row, origin: Origin, tmp_path: Path) -> None:
    """Exit 0 only with the right bytes; otherwise an error with code and category, and nothing under the final name."""
    origin.put("/file.bin", CONTENT, row.behaviour, script=row.script)
    ended = get(origin, tmp_path)
    assert ended.code in row.codes, ended
    if ended.code == 0:
        assert right(tmp_path, row.sha256)
        assert ended.last["event"] == "completed"
        assert ended.last["size"] == SIZE
    else:
        assert not (tmp_path / "out.bin").exists()
        assert ended.last["event"] == "failed"
        assert ended.last["error"]["message"]
        assert row.category in {None, ended.last["error"]["category"]}
    assert "Traceback" not in ended.err
    assert origin.body_bytes_sent("/file.bin") <= row.most, [(s.range, s.status, s.body_bytes) for s in origin.requests]


@pytest.mark.parametrize("if_range", [True, False], ids=["If-Range honoured", "If-Range ignored"])
def test_an_object_replaced_in_mid_transfer_is_never_mixed(if_range: bool, origin: Origin, tmp_path: Path) -> None:
    """Same size, other bytes, other ETag, between two responses: one version or the other, and the reason is told."""
    behaviour = Behaviour(cut_at=3 * MIB, if_range=if_range, rate=60 * MIB)
    origin.put("/file.bin", CONTENT, behaviour)

    def replace() -> None:
        origin.wait_for(lambda: origin.body_bytes_sent("/file.bin") > 8 * MIB)
        origin.replace("/file.bin", OTHER)

    swap = threading.Thread(target=replace)
    swap.start()
    ended = get(origin, tmp_path)
    swap.join()
    assert ended.code in {0, 5}, ended
    if ended.code == 0:
        assert right(tmp_path, OTHER_SHA)
        assert any(line["event"] == "restarted" and "changed" in line["message"] for line in ended.lines)
    else:
        assert ended.last["error"]["category"] == "changed"


def test_a_signed_redirect_that_lives_two_seconds(origin: Origin, tmp_path: Path) -> None:
    """Links expire while responses are cut: the link as given is asked again, no try is used up."""
    target = Behaviour(signed=True, cut_at=3 * MIB, rate=4 * MIB)
    origin.put("/blob", CONTENT, target)
    origin.put("/file.bin", b"", Behaviour(location="/blob", location_ttl_s=2))
    ended = get(origin, tmp_path)
    assert ended.code == 0, ended
    assert right(tmp_path)
    assert ended.last["attempts"] == 1
    assert origin.body_bytes_sent("/blob") <= SIZE + CHUNK


RATE = 4 * MIB
"""Bytes per second of each of the four connections of a download that is killed."""


def interrupted(origin: Origin, tmp_path: Path, kept: int = 16 * MIB) -> None:
    """Kill -9 a download once the origin has sent ``kept`` bytes, which takes a second."""
    origin.put("/file.bin", CONTENT, Behaviour(rate=RATE))
    process = start(*arguments(origin), cwd=tmp_path)
    origin.wait_for(lambda: origin.body_bytes_sent("/file.bin") >= kept)
    process.send_signal(signal.SIGKILL)
    assert finish(process).code == -signal.SIGKILL
    origin.behave("/file.bin", Behaviour())


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
    assert ended.last["bytes_resumed"] + ended.last["bytes_received"] <= SIZE + 4 * CHUNK


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
    os.truncate(part, CHUNK + 17)


def _extend(part: Path) -> None:
    with open(part, "ab") as file:
        file.write(b"junk" * MIB)


def _delete(part: Path) -> None:
    part.unlink()


@pytest.mark.parametrize("damage", [_flip, _zero, _truncate, _extend, _delete], ids=lambda f: f.__name__.strip("_"))
def test_kill_then_damage_then_resume(damage: Callable[[Path], None], origin: Origin, tmp_path: Path) -> None:
    """The part file is damaged between the runs: exactly the damaged chunks are fetched again."""
    interrupted(origin, tmp_path)
    damage(tmp_path / "out.bin.part")
    ended = get(origin, tmp_path)
    assert ended.code == 0, ended
    assert right(tmp_path)
    if damage in {_flip, _zero}:
        assert any(line["event"] == "repaired" and line["message"].startswith("1 ") for line in ended.lines), ended.out
        assert ended.last["bytes_resumed"] > 4 * MIB


def test_kill_then_another_object(origin: Origin, tmp_path: Path) -> None:
    """The object is replaced between the runs (same size): started over, and told why."""
    interrupted(origin, tmp_path)
    origin.replace("/file.bin", OTHER)
    ended = get(origin, tmp_path)
    assert ended.code == 0, ended
    assert right(tmp_path, OTHER_SHA)
    assert any(line["event"] == "restarted" and "etag" in line["message"].lower() for line in ended.lines)


def test_kill_then_the_url_signed_anew(origin: Origin, tmp_path: Path) -> None:
    """Another signature in the query: the same download goes on."""
    interrupted(origin, tmp_path)
    origin.clear()
    ended = run(*arguments(origin, "/file.bin?X-Amz-Signature=new&X-Amz-Expires=60"), cwd=tmp_path)
    assert ended.code == 0, ended
    assert right(tmp_path)
    assert ended.last["bytes_resumed"] > 4 * MIB
    assert "X-Amz-Signature=new" not in ended.out + ended.err


def test_two_processes_one_target(origin: Origin, tmp_path: Path) -> None:
    """One transfers, the other follows it; both end well with the same file."""
    origin.put("/file.bin", CONTENT, Behaviour(rate=8 * MIB))
    processes = [start(*arguments(origin), cwd=tmp_path) for _ in range(2)]
    ends = [finish(process) for process in processes]
    assert [ended.code for ended in ends] == [0, 0], ends
    assert right(tmp_path)
    assert origin.body_bytes_sent("/file.bin") <= SIZE + CHUNK
    assert {SIZE} == {ended.last["size"] for ended in ends}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
@pytest.mark.parametrize("sized", [True, False], ids=["size known", "size unknown"])
def test_disk_full(sized: bool, origin: Origin, tmp_path: Path) -> None:
    """20 of 32 MiB fit: refused early when the size is known, exit 6 with the amounts, nothing under the final name."""
    import subprocess

    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(small)], check=True)
    try:
        behaviour = Behaviour() if sized else Behaviour(ranges=Ranges.IGNORED, framing=Framing.CHUNKED)
        origin.put("/file.bin", CONTENT, behaviour)
        command = ["get", origin.url("/file.bin"), "-o", str(small / "out.bin"), "--state", "state.db", "--json"]
        ended = run(*command, cwd=tmp_path)
        assert ended.code == 6, ended
        assert ended.last["error"]["category"] == "disk-full"
        assert not (small / "out.bin").exists()
        if sized:
            assert origin.body_bytes_sent("/file.bin") <= 4 * MIB
    finally:
        subprocess.run(["umount", str(small)], check=True)
