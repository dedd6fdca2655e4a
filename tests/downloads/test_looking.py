"""Before a download runs: it is written down, it looks at what is there, and gives way to whoever wants to stop it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

import resumable.verify
from recovery.states import State
from resumable import (
    DestinationError,
    DownloadCancelled,
    DownloadHandle,
    DownloadPaused,
    EventName,
    Options,
    StatusError,
)
from tests.managing import MIB, SLOW, Rig, content, only, received, row, until, whole
from tests.origin import Behaviour, Origin

A = content(2)
UNLIKE = "1" * 64


class Hashing:
    """Reading a file that is there stops before its end until it is let on."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()

    async def wait(self) -> None:
        """Return when a file is being read."""
        await until(self.begun.is_set, "hashing")


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hashing]:
    """Each hop reads 4 KiB and takes a while, as on a slow disk: a file of a MiB takes a minute."""
    held = Hashing()
    update = resumable.verify._Reading.update

    def slowly(reading: resumable.verify._Reading, block: memoryview) -> None:
        held.begun.set()
        held.go_on.wait(0.2)
        update(reading, block)

    monkeypatch.setattr(resumable.verify._Reading, "update", slowly)
    monkeypatch.setattr(resumable.verify, "_PER_HOP", 4096)
    yield held
    held.go_on.set()


async def stopped(handle: DownloadHandle, wish: str) -> None:
    """Stop it and see that it takes no longer than a hop or two."""
    async with asyncio.timeout(3):
        await getattr(handle, wish)()
    assert handle.view.state is (State.PAUSED if wish == "pause" else State.CANCELLED)


# -- giving way --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wish", ["pause", "cancel"])
async def test_hashing_what_is_there_gives_way(wish: str, rig: Rig, origin: Origin, hashing: Hashing) -> None:
    """Also for the download behind it, and both are recorded as what they are."""
    origin.put("/f", A)
    rig.file().write_bytes(bytes(MIB))
    async with rig.manager(max_concurrent=1) as manager:
        hashed = manager.start(origin.url("/f"), rig.file(), sha256=UNLIKE)
        behind = manager.start(origin.url("/f"), rig.file("g"))
        await hashing.wait()
        await stopped(behind, wish)
        await stopped(hashed, wish)
        assert {view.state for view in await manager.downloads()} == {hashed.view.state}
        if wish == "cancel":
            with pytest.raises(DownloadCancelled):
                await behind
    assert origin.requests == []


async def test_leaving_while_what_is_there_is_hashed(rig: Rig, origin: Origin, hashing: Hashing) -> None:
    """At once, and the next process continues it: it was written down before the long look."""
    origin.put("/f", A)
    rig.file().write_bytes(bytes(MIB))
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file(), sha256=A.sha256())
        await hashing.wait()
        async with asyncio.timeout(3):
            await manager.__aexit__(None, None, None)
        with pytest.raises(DownloadPaused):
            await handle
    assert (handle.view.state, row(rig.state, "SELECT state FROM operations")) == (State.PAUSED, ("paused",))
    hashing.go_on.set()
    async with rig.manager() as manager:
        (again,) = await manager.recover()
        assert again.download_id == handle.download_id
        assert (await again).sha256 == A.sha256()


async def test_verifying_a_file_gives_way(rig: Rig, hashing: Hashing) -> None:
    """``resumable verify`` and Ctrl-C."""
    rig.file().write_bytes(bytes(MIB))
    async with rig.manager() as manager:
        verifying = asyncio.create_task(manager.verify(rig.file(), sha256=UNLIKE))
        await hashing.wait()
        verifying.cancel()
        async with asyncio.timeout(3):
            with pytest.raises(asyncio.CancelledError):
                await verifying


async def test_whoever_follows_takes_no_place(rig: Rig, origin: Origin) -> None:
    """With one place, a download that another process runs does not hold up one that could run here."""
    origin.put("/f", content(), SLOW)
    origin.put("/g", A)
    async with rig.manager(on_event=None) as owner, rig.manager(max_concurrent=1) as other:
        handle = owner.start(origin.url("/f"), rig.file())
        await received(handle, 1)
        followed = other.start(origin.url("/f"), rig.file())
        await rig.until(EventName.WARNING)
        assert (await asyncio.wait_for(other.start(origin.url("/g"), rig.file("g")), 5)).size == A.size
        assert not followed.done
        await handle.cancel()


# -- written down ------------------------------------------------------------------------------------------------------


async def test_what_was_started_and_left_at_once_is_kept(rig: Rig, origin: Origin) -> None:
    """ "What it has is kept" is true of what never began: the next manager continues all of it."""
    origin.put("/f", A)
    headers = {"Authorization": "Bearer x"}
    async with rig.manager(max_concurrent=1) as manager:
        handles = [manager.start(origin.url("/f"), rig.file(name), headers=headers) for name in "abc"]
    for handle in handles:
        with pytest.raises(DownloadPaused):
            await handle
        assert handle.view.state is State.PAUSED
    async with rig.manager() as manager:
        assert {(view.state, view.stale) for view in await manager.downloads()} == {(State.PAUSED, False)}
        again = await manager.recover()
        assert {handle.download_id for handle in again} == {handle.download_id for handle in handles}
        await asyncio.gather(*again)
    assert origin.requests[-1].headers["authorization"] == "Bearer x"


async def test_what_is_refused_is_not_written_down(rig: Rig, origin: Origin) -> None:
    """A folder in the way: nothing is left to be continued."""
    rig.file().mkdir()
    async with rig.manager() as manager:
        with pytest.raises(DestinationError, match="is a folder"):
            await manager.start(origin.url("/f?sig=1"), rig.file())
        assert await manager.downloads() == []
    assert row(rig.state, "SELECT count(*) FROM downloads") == (0,)
    assert list((rig.folder / "state.db.links").iterdir()) == []


async def test_what_had_failed_is_asked_for_again_and_left_at_once(rig: Rig, origin: Origin) -> None:
    """Whoever asked for it again is not forgotten."""
    origin.put("/f", A, Behaviour(status=404))
    async with rig.manager() as manager:
        with pytest.raises(StatusError):
            await manager.start(origin.url("/f"), rig.file())
    async with rig.manager() as manager:
        manager.start(origin.url("/f"), rig.file())
    origin.behave("/f", Behaviour())
    async with rig.manager() as manager:
        (again,) = await manager.recover()
        assert (await again).size == A.size


# -- found -------------------------------------------------------------------------------------------------------------


async def test_what_had_failed_and_is_found_is_complete(rig: Rig, origin: Origin) -> None:
    """Somebody put the file there: the store no longer says that it has failed."""
    origin.put("/f", A, Behaviour(status=404))
    async with rig.manager() as manager:
        with pytest.raises(StatusError):
            await manager.start(origin.url("/f?k=1"), rig.file(), sha256=A.sha256())
        assert only(await manager.downloads()).state is State.FAILED
        rig.file().write_bytes(whole(A))
        result = await manager.start(origin.url("/f?k=1"), rig.file(), sha256=A.sha256())
        here = only(await manager.downloads())
    async with rig.manager() as manager:
        there = only(await manager.downloads())
        assert await manager.recover() == []
    assert (result.bytes_received, here.state, there.state, there.error) == (0, State.COMPLETE, State.COMPLETE, None)
    assert (there.bytes_done, there.bytes_total, there.sha256) == (A.size, A.size, A.sha256())
    assert list((rig.folder / "state.db.links").iterdir()) == [], "its links have served"


@pytest.mark.parametrize("how", ["digest", "exists"])
async def test_what_nobody_knew_and_is_found_is_complete(how: str, rig: Rig, origin: Origin) -> None:
    """It was asked for and it is there, so it is listed as what it is."""
    rig.file().write_bytes(whole(A))
    request = {"sha256": A.sha256()} if how == "digest" else {"options": Options(no_clobber=True)}
    async with rig.manager() as manager:
        assert (await manager.start(origin.url("/f"), rig.file(), **request)).verified_by == how
        assert only(await manager.downloads()).state is State.COMPLETE


async def test_asking_for_what_is_complete_writes_nothing(rig: Rig, origin: Origin) -> None:
    """It stays as it was recorded, whenever the process that asks is killed."""
    origin.put("/f", A)
    async with rig.manager() as manager:
        await manager.start(origin.url("/f"), rig.file())
        before = row(rig.state, "SELECT state, rev, generation, updated_at FROM operations")
        await manager.start(origin.url("/f"), rig.file())
    assert before == row(rig.state, "SELECT state, rev, generation, updated_at FROM operations")


# -- names -------------------------------------------------------------------------------------------------------------


async def test_two_files_of_one_name_into_one_folder(rig: Rig, origin: Origin) -> None:
    """At once, in one process and in two: each gets a name of its own, as if they had come one after the other."""
    for path, seed in (("/a/config.bin", 1), ("/b/config.bin", 2), ("/c/config.bin", 3)):
        origin.put(path, content(1, seed), Behaviour(rate=MIB))
    async with rig.manager() as one, rig.manager(on_event=None) as two:
        handles = [one.start(origin.url(f"/{path}/config.bin"), directory=rig.folder) for path in "ab"]
        handles.append(two.start(origin.url("/c/config.bin"), directory=rig.folder))
        results = await asyncio.gather(*handles)
    names = [result.path.name for result in results]
    assert sorted(names) == ["config.1.bin", "config.2.bin", "config.bin"]
    for seed, result in enumerate(results, 1):
        assert whole(content(1, seed)) == result.path.read_bytes()
    assert sorted(path.name for path in rig.folder.glob("config*")) == sorted(names)
