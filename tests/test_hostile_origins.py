"""cases.md A: the real command against hostile origins; the right file or a loud, classified error, never wrong
bytes.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.command import finish, run, start
from tests.hostile import CHUNK, CONTENT, IN_SOCKETS, MIB, OTHER, OTHER_SHA, SHA, SIZE, arguments, get, right
from tests.origin import Behaviour, End, Framing, Gzip, Origin, Ranges, Validator

pytestmark = pytest.mark.blocking


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server


@dataclass(frozen=True)
class Row:
    """One row: what the origin does, and what the command may make of it.

    ``twice`` bounds the body bytes received beyond the file's size, ``unread`` those that the origin's kernel took for
    answers that were refused or given up: they cost the network, and nothing else.
    """

    name: str
    behaviour: Behaviour
    script: tuple[Behaviour, ...] = ()
    twice: int = 0
    unread: int = 0
    codes: tuple[int, ...] = (0,)
    category: str | None = None
    options: tuple[str, ...] = ()


ONE = ("-c", "1")
"""One connection: each answer is for all that is missing, so that every cut is met."""
NO_LENGTH = Behaviour(framing=Framing.CLOSE, ranges=Ranges.IGNORED)

ROWS = [
    Row("plain", Behaviour()),
    Row("plain, one connection", Behaviour(), options=ONE),
    Row("every response is cut at 6 MiB", Behaviour(cut_at=6 * MIB), options=ONE),
    Row("every response is cut at 14 MiB", Behaviour(cut_at=14 * MIB), options=ONE),
    Row("every response of four connections is cut at 3 MiB", Behaviour(cut_at=3 * MIB)),
    Row(
        "ranges are ignored after a good first answer",
        Behaviour(ranges=Ranges.IGNORED),
        (Behaviour(),),
        twice=CHUNK,
        unread=4 * IN_SOCKETS,
    ),
    Row(
        "a 206 has a wrong Content-Range",
        Behaviour(ranges=Ranges.MISLABELLED),
        (Behaviour(),),
        twice=CHUNK,
        unread=5 * IN_SOCKETS,
    ),
    Row(
        "a 206 is for a shifted range",
        Behaviour(ranges=Ranges.SHIFTED),
        (Behaviour(),),
        twice=CHUNK,
        unread=5 * IN_SOCKETS,
    ),
    Row("503 with Retry-After twice", Behaviour(), (Behaviour(status=503, retry_after=1),) * 2),
    Row("429 with Retry-After twice", Behaviour(), (Behaviour(status=429, retry_after=1),) * 2),
    Row("a stall on the second request", Behaviour(), (Behaviour(), Behaviour(stall_at=100_000))),
    Row(
        "a page in place of later ranges",
        Behaviour(html=True),
        (Behaviour(cut_at=5 * MIB),) * 2,
        codes=(4,),
        category="captive-portal",
    ),
    Row("a CDN that gzips and then ignores ranges", Behaviour(gzip=Gzip.UNLESS_IDENTITY)),
    Row(
        "chunked and truncated once",
        Behaviour(framing=Framing.CHUNKED),
        (Behaviour(framing=Framing.CHUNKED, cut_at=9 * MIB),),
        options=ONE,
    ),
    Row("no length, truncated once", NO_LENGTH, (replace(NO_LENGTH, cut_at=9 * MIB),), twice=SIZE + 9 * MIB),
    Row("the 206 has no Content-Range", Behaviour(ranges=Ranges.UNLABELLED), unread=IN_SOCKETS),
    Row("the Content-Range is malformed", Behaviour(ranges=Ranges.MALFORMED), unread=IN_SOCKETS),
    Row("multipart for a single range", Behaviour(ranges=Ranges.MULTIPART), unread=IN_SOCKETS),
    Row("shorter than asked", Behaviour(ranges=Ranges.SHORTER)),
    Row("longer than asked, and says so", Behaviour(ranges=Ranges.LONGER), unread=IN_SOCKETS),
    Row("longer than announced", Behaviour(ranges=Ranges.OVERRUN), unread=IN_SOCKETS),
    Row("begins before the range asked for", Behaviour(ranges=Ranges.EARLIER), unread=IN_SOCKETS),
    Row("the total is never said", Behaviour(ranges=Ranges.NO_TOTAL), unread=IN_SOCKETS),
    Row(
        "the total is never said, chunked",
        Behaviour(ranges=Ranges.NO_TOTAL, framing=Framing.CHUNKED),
        unread=IN_SOCKETS,
    ),
    Row(
        "another total in later ranges",
        Behaviour(ranges=Ranges.OTHER_TOTAL),
        (Behaviour(),),
        twice=CHUNK,
        unread=4 * IN_SOCKETS,
        codes=(5,),
        category="changed",
    ),
    Row("compressed though asked not to", Behaviour(gzip=Gzip.ALWAYS), codes=(3,), category="protocol"),
    Row(
        "the bytes of a range are from elsewhere, and a digest is known",
        Behaviour(ranges=Ranges.LIAR),
        (Behaviour(),),
        twice=SIZE,
        options=("--sha256", SHA),
    ),
    Row(
        "one byte was damaged on the way, and a digest is known",
        Behaviour(),
        (Behaviour(), Behaviour(flip_at=2 * MIB)),
        twice=SIZE,
        options=("--sha256", SHA),
    ),
    Row(
        "every reading is damaged, and a digest is known",
        Behaviour(flip_at=2 * MIB),
        twice=SIZE,
        codes=(5,),
        category="final-digest",
        options=("--sha256", SHA),
    ),
    Row("416 to every range", Behaviour(ranges=Ranges.UNSATISFIABLE)),
    Row("416 to every range, without a size", Behaviour(ranges=Ranges.UNSATISFIABLE_BARE)),
    Row("every response is reset at 6 MiB", Behaviour(cut_at=6 * MIB, cut=End.RST), unread=6 * IN_SOCKETS, options=ONE),
    Row("no validator, cut at 6 MiB", Behaviour(cut_at=6 * MIB, validator=Validator.NONE), twice=CHUNK),
    Row("weak validator, cut at 6 MiB", Behaviour(cut_at=6 * MIB, validator=Validator.WEAK), options=ONE),
    Row("date only, cut at 6 MiB", Behaviour(cut_at=6 * MIB, validator=Validator.DATE), options=ONE),
    Row(
        "the ETag rotates with every answer",
        Behaviour(validator=Validator.ROTATING),
        twice=CHUNK,
        unread=4 * IN_SOCKETS,
    ),
    Row("the third connection is refused", Behaviour(most_active=2, rate=20 * MIB)),
    Row("no ranges at all", Behaviour(ranges=Ranges.IGNORED)),
    Row("404", Behaviour(status=404), codes=(4,), category="not-found"),
    Row("403", Behaviour(status=403), codes=(4,), category="auth"),
    Row("500 for ever", Behaviour(status=500), codes=(3,), category="server"),
    Row("hang up without an answer, twice", Behaviour(), (Behaviour(hang_up=End.RST),) * 2),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_right_file_or_a_loud_error(row: Row, origin: Origin, tmp_path: Path) -> None:
    """Exit 0 only with the right bytes, next to none of them twice; otherwise an error with code and category, and
    nothing under the final name.
    """
    origin.put("/file.bin", CONTENT, row.behaviour, script=row.script)
    ended = get(origin, tmp_path, *row.options)
    assert ended.code in row.codes, ended
    if ended.code == 0:
        assert right(tmp_path)
        assert ended.last["event"] == "completed"
        assert ended.last["size"] == SIZE
        assert SIZE <= ended.last["bytes_received"] <= SIZE + row.twice
    else:
        assert not (tmp_path / "out.bin").exists()
        assert ended.last["event"] == "failed"
        assert ended.last["error"]["message"]
        assert row.category == ended.last["error"]["category"]
    assert "Traceback" not in ended.err
    assert {"GET"} == {one.method for one in origin.requests}  # signed links forbid HEAD, and its length may be another
    seen = [(one.range, one.status, one.body_bytes) for one in origin.requests]
    assert origin.body_bytes_sent("/file.bin") <= SIZE + row.twice + row.unread, seen


@pytest.mark.parametrize("if_range", [True, False], ids=["If-Range honoured", "If-Range ignored"])
@pytest.mark.parametrize("validator", [Validator.STRONG, Validator.DATE, Validator.NONE])
def test_an_object_replaced_in_mid_transfer_is_never_mixed(
    if_range: bool, validator: Validator, origin: Origin, tmp_path: Path
) -> None:
    """Same size, other bytes, between two responses: one version or the other, and the reason is told."""
    origin.put("/file.bin", CONTENT, Behaviour(cut_at=3 * MIB, if_range=if_range, rate=20 * MIB, validator=validator))

    def replaced() -> None:
        origin.wait_for(lambda: origin.body_bytes_sent("/file.bin") > 8 * MIB)
        origin.replace("/file.bin", OTHER)

    swap = threading.Thread(target=replaced)
    swap.start()
    ended = get(origin, tmp_path)
    swap.join()
    assert ended.code == 0, ended
    assert right(tmp_path, OTHER_SHA)
    assert any(line["event"] == "restarted" and "changed" in line["message"] for line in ended.lines)


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
