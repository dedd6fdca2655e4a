"""What ``prune`` forgets, and what it must not: a failed download's books are what makes its bytes worth anything."""

from __future__ import annotations

import os
import time

import pytest

from recovery.states import State
from resumable import DownloadError, DownloadManager
from tests.managing import MIB, SLOW, Rig, content, only, received
from tests.origin import Behaviour, Origin

GONE = Behaviour(status=404)
CUT = Behaviour(cut_at=2 * MIB)


async def half_failed(rig: Rig, origin: Origin, manager: DownloadManager) -> int:
    """Fail a download on its way, and return the bytes that it has kept."""
    origin.put("/f", content(), GONE, script=[CUT])
    with pytest.raises(DownloadError):
        await manager.start(origin.url("/f"), directory=rig.folder)
    view = only(await manager.downloads())
    assert view.state is State.FAILED
    assert view.bytes_done >= MIB
    return view.bytes_done


async def test_what_failed_goes_on_after_prune(rig: Rig, origin: Origin) -> None:
    """At the byte where it was, under the name it had: prune takes nothing that a retry needs."""
    async with rig.manager() as manager:
        kept = await half_failed(rig, origin, manager)
        assert await manager.prune(older_than_s=-1) == 0
        origin.behave("/f", Behaviour())
        result = await manager.start(origin.url("/f"), directory=rig.folder)
    assert (result.bytes_resumed, result.path) == (kept, rig.folder / "f")
    assert sorted(path.name for path in rig.folder.iterdir() if path.name.startswith("f")) == ["f"]


async def test_what_failed_and_has_nothing_is_forgotten(rig: Rig, origin: Origin) -> None:
    """Nothing came, or the part file was deleted: nothing is lost with the row."""
    origin.put("/never", content(1), GONE)
    async with rig.manager() as manager:
        with pytest.raises(DownloadError):
            await manager.start(origin.url("/never"), rig.file("never"))
        assert await manager.prune(older_than_s=-1) == 1
        await half_failed(rig, origin, manager)
        os.unlink(rig.part("f"))
        assert await manager.prune(older_than_s=-1) == 1
        assert await manager.downloads() == []


async def test_a_folder_that_is_away_is_no_part_file_that_is_gone(rig: Rig, origin: Origin) -> None:
    """A disk that is not plugged in: its bytes are there when it comes back."""
    folder = rig.folder / "usb"
    folder.mkdir()
    origin.put("/f", content(), GONE, script=[CUT])
    async with rig.manager() as manager:
        with pytest.raises(DownloadError):
            await manager.start(origin.url("/f"), folder / "f.bin")
        folder.rename(rig.folder / "away")
        assert await manager.prune(older_than_s=-1) == 0
        (rig.folder / "away").rename(folder)
        assert await manager.prune(older_than_s=-1) == 0


async def test_what_was_given_up_is_forgotten_and_what_is_paused_is_not(rig: Rig, origin: Origin) -> None:
    """Cancelled on its way with its part file kept: its person has said that it is not wanted."""
    for path in ("/cancelled", "/paused"):
        origin.put(path, content(), SLOW)
    async with rig.manager() as manager:
        cancelled, paused = (manager.start(origin.url(f"/{name}"), rig.file(name)) for name in ("cancelled", "paused"))
        for handle in (cancelled, paused):
            await received(handle, 1)
        await cancelled.cancel()
        await paused.pause()
        assert await manager.prune(older_than_s=-1) == 1
        assert only(await manager.downloads()).download_id == paused.download_id


@pytest.mark.parametrize("keep_bytes", [0, 10_000_000], ids=["too much", "too old"])
async def test_nor_does_the_sweep_of_a_worker_forget_what_failed(keep_bytes: int, rig: Rig, origin: Origin) -> None:
    """It bounds what the journal remembers, by age and by size; of a large file the books alone are over its bound."""
    async with rig.manager() as manager:
        kept = await half_failed(rig, origin, manager)
        assert await manager.journal.prune(time.time() + 1, keep_bytes) == 0
        assert only(await manager.downloads()).bytes_done == kept
