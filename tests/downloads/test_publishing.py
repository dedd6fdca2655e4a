"""What happens while a file gets its name: done is done, whoever pauses, cancels, leaves or joins meanwhile."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from recovery.rowcrc import sealed
from recovery.states import State
from resumable import DigestMismatch, DownloadHandle, EventName, Options, Result
from resumable.partfile import DiskPartFile
from tests.managing import MIB, SLOW, Rig, content, only, received, row, until, whole
from tests.origin import Behaviour, Origin

A = content(2)
WRONG = "0" * 64


class Publication:
    """Every publication of a part file stops half way until it is let on."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()

    async def wait(self) -> None:
        """Return when one has begun."""
        await until(self.begun.is_set, "publishing")

    def let_on(self, after_s: float = 0.0) -> None:
        """Let it come to its end."""
        threading.Timer(after_s, self.go_on.set).start()


@pytest.fixture
def publication(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publication]:
    held = Publication()
    publish = DiskPartFile._publish

    def slowly(part: DiskPartFile, dest: Path, *, replace: bool, length: int | None) -> Path | None:
        held.begun.set()
        assert held.go_on.wait(20)
        return publish(part, dest, replace=replace, length=length)

    monkeypatch.setattr(DiskPartFile, "_publish", slowly)
    yield held
    held.go_on.set()


def check(rig: Rig, handle: DownloadHandle, result: Result) -> None:
    """It is done, for its caller, for its view, and for the store."""
    assert (result.path, result.size, handle.view.state) == (rig.file(), A.size, State.COMPLETE)
    assert whole(A) == rig.file().read_bytes()
    assert row(rig.state, "SELECT state FROM operations") == ("complete",)
    assert row(rig.state, "SELECT count(*) FROM download_files") == (1,)


@pytest.mark.parametrize("wish", ["pause", "cancel", "cancel, delete_part"])
async def test_a_wish_that_comes_too_late(wish: str, rig: Rig, origin: Origin, publication: Publication) -> None:
    """The file is there and recorded: whoever awaits it is given it, and nothing says paused or cancelled."""
    origin.put("/f", A)
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        await publication.wait()
        publication.let_on(0.1)
        if wish == "pause":
            await handle.pause()
        else:
            await handle.cancel(delete_part="delete_part" in wish)
        check(rig, handle, await asyncio.wait_for(handle, 5))
        assert only(await manager.downloads()).state is State.COMPLETE
    async with rig.manager() as manager:
        assert only(await manager.downloads()).state is State.COMPLETE
        assert await manager.recover(states=set(State) - {State.COMPLETE}) == []


async def test_a_process_that_died_behind_its_file(rig: Rig, origin: Origin) -> None:
    """The file and its receipt are there, the operation says it is to be run: whoever asks next puts that right."""
    origin.put("/f", A)
    async with rig.manager() as manager:
        await manager.start(origin.url("/f"), rig.file())
    with sqlite3.connect(rig.state) as conn:
        names = [column[1] for column in conn.execute("PRAGMA table_info(operations)")]
        values = dict(zip(names, conn.execute("SELECT * FROM operations").fetchone(), strict=True))
        values |= {"state": "queued", "deaths": 1}
        cells = sealed(tuple(value for name, value in values.items() if name != "crc"))
        conn.execute(f"INSERT OR REPLACE INTO operations VALUES ({', '.join('?' * len(names))})", cells)
    sent = origin.body_bytes_sent("/f")
    async with rig.manager() as manager:
        assert only(await manager.downloads()).state is State.QUEUED
        assert (await manager.start(origin.url("/f"), rig.file())).size == A.size
        assert only(await manager.downloads()).state is State.COMPLETE
        assert await manager.recover() == []
    assert origin.body_bytes_sent("/f") <= sent + 1


async def test_leaving_the_manager_while_it_is_published(rig: Rig, origin: Origin, publication: Publication) -> None:
    """A quick disk is waited for; the handle has the result."""
    origin.put("/f", A)
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        await publication.wait()
        publication.let_on(0.1)
    check(rig, handle, await asyncio.wait_for(handle, 5))


# -- joining with a digest ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["on the way", "while it is published", "after"])
@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
async def test_a_joiners_digest_is_his_own(
    when: str, right: bool, rig: Rig, origin: Origin, publication: Publication
) -> None:
    """A wrong one fails him and nobody else, and is never passed off as checked; the first caller's file stays."""
    origin.put("/f", A, SLOW if when == "on the way" else Behaviour())
    digest = A.sha256() if right else WRONG
    async with rig.manager() as manager:
        first = manager.start(origin.url("/f"), rig.file())
        await (received(first, MIB // 4) if when == "on the way" else publication.wait())
        joined = manager.start(origin.url("/f"), rig.file(), sha256=digest)
        assert (joined.download_id, joined.done, joined.view) == (first.download_id, False, first.view)
        origin.behave("/f", Behaviour())
        publication.let_on()
        if when == "after":
            await first
        if right:
            result = await joined
            assert (result.sha256, result.verified_by) == (digest, "digest")
        else:
            for _ in range(2):
                with pytest.raises(DigestMismatch):
                    await joined
        result = await first
        assert (result.sha256, result.verified_by) == (None, "etag")
        check(rig, first, result)
    assert sorted(path.name for path in rig.folder.glob("f.bin*")) == ["f.bin"]
    assert row(rig.state, "SELECT sha256, verified_by FROM download_files") == (None, "etag")


async def test_a_joiner_steers_the_one_download(rig: Rig, origin: Origin) -> None:
    """Its buttons are those of the first."""
    origin.put("/f", A, SLOW)
    async with rig.manager() as manager:
        first = manager.start(origin.url("/f"), rig.file())
        joined = manager.start(origin.url("/f"), rig.file(), sha256=A.sha256())
        await received(first, MIB // 4)
        await joined.pause()
        assert (first.held, joined.held, joined.ended, first.view.state) == (True, True, False, State.PAUSED)
        origin.behave("/f", Behaviour())
        joined.retry_now()
        assert (await joined).verified_by == "digest"
        assert repr(joined) == repr(first)


@pytest.mark.parametrize("connections", [1, 4])
async def test_a_part_file_that_another_program_cuts(connections: int, rig: Rig, origin: Origin) -> None:
    """It is long again when all has come, with a hole where bytes were: those are fetched again, and no others."""
    big = content(6)
    origin.put("/f", big, Behaviour(rate=4 * MIB // connections))
    async with rig.manager(options=Options(connections=connections)) as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        await received(handle, 2 * MIB)
        os.truncate(rig.part(), MIB)
        result = await handle
    assert whole(big) == rig.file().read_bytes()
    assert big.size + MIB <= result.bytes_received < 2 * big.size
    assert len(rig.told(EventName.REPAIRED)) == 1
