"""A full disk: refused early where the size is known, parked where it is to wait, and never a wrong file."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from pathlib import Path

import pytest

from recovery.states import State
from resumable import DiskFull, Options
from tests.command import finish, run, start
from tests.managing import MIB, Rig, content, in_state, only, received, whole
from tests.mounts import mounted, remount
from tests.origin import Behaviour, Framing, Origin

pytestmark = pytest.mark.blocking

AMOUNTS = re.compile(r"needs [\d.]+ [kMG]B, [\d.]+ [kMG]?B free", re.IGNORECASE)


async def test_no_room_is_said_before_anything_is_fetched(rig: Rig, origin: Origin) -> None:
    """Told not to wait, it fails with both amounts; of the file at most the first extent was on its way."""
    origin.put("/f", content(20))
    with mounted("tmpfs", rig.folder / "disk", "size=8m") as disk:
        async with rig.manager() as manager:
            with pytest.raises(DiskFull, match=AMOUNTS) as caught:
                await manager.start(origin.url("/f"), disk / "f.bin", options=Options(wait_for_space=False))
            error = caught.value
            assert error.needed > 19 * MIB
            assert 0 < error.free <= 8 * MIB
            assert error.verdict is not None
            assert "free_space" in error.verdict.user_actions
            view = only(await manager.downloads())
            assert view.error is not None
            assert (view.state, view.error.category) == (State.FAILED, "disk-full")
            assert AMOUNTS.search(view.error.message), view.error.message
        assert not (disk / "f.bin").exists()
    assert origin.body_bytes_sent("/f") <= 5 * MIB


async def test_it_parks_until_there_is_room(rig: Rig, origin: Origin) -> None:
    """With the amounts in its reason, without using up retries; it goes on by itself when space returns."""
    origin.put("/f", content(12))
    with mounted("tmpfs", rig.folder / "disk", "size=8m") as disk:
        async with rig.manager() as manager:
            handle = manager.start(origin.url("/f"), disk / "f.bin")
            await in_state(handle, State.PARKED)
            view = handle.view
            assert view.error is not None
            assert AMOUNTS.search(view.error.message), view.error.message
            assert (view.no_progress, view.actions[0].value) == (0, "free_space")
            await asyncio.sleep(0.2)
            assert handle.view.state is State.PARKED
            remount(disk, "size=64m")
            handle.retry_now()
            result = await asyncio.wait_for(handle, 20)
        assert whole(content(12)) == result.path.read_bytes()


async def test_space_that_returns_is_noticed(rig: Rig, origin: Origin) -> None:
    """Nobody has to press a button."""
    origin.put("/f", content(12))
    with mounted("tmpfs", rig.folder / "disk", "size=8m") as disk:
        async with rig.manager() as manager:
            handle = manager.start(origin.url("/f"), disk / "f.bin")
            await in_state(handle, State.PARKED)
            remount(disk, "size=64m")
            assert (await asyncio.wait_for(handle, 60)).size == 12 * MIB


async def test_the_disk_fills_up_on_the_way(rig: Rig, origin: Origin) -> None:
    """A body whose length nobody states cannot be reserved: it parks, and comes when there is room."""
    origin.put("/f", content(12), Behaviour(framing=Framing.CHUNKED))
    with mounted("tmpfs", rig.folder / "disk", "size=8m") as disk:
        async with rig.manager() as manager:
            handle = manager.start(origin.url("/f"), disk / "f.bin", sha256=content(12).sha256())
            await in_state(handle, State.PARKED)
            assert not (disk / "f.bin").exists()
            remount(disk, "size=64m")
            handle.retry_now()
            result = await asyncio.wait_for(handle, 30)
        assert (result.size, result.verified_by) == (12 * MIB, "digest")


async def test_somebody_else_fills_the_disk_of_a_paused_download(rig: Rig, origin: Origin) -> None:
    """Its bytes are its own: what it has reserved, it keeps."""
    origin.put("/f", content(6), Behaviour(rate=2 * MIB))
    with mounted("tmpfs", rig.folder / "disk", "size=8m") as disk:
        async with rig.manager() as manager:
            handle = manager.start(origin.url("/f"), disk / "f.bin")
            await received(handle, MIB)
            await handle.pause()
            fill(disk / "filler")
            await handle.resume()
            assert (await asyncio.wait_for(handle, 30)).size == 6 * MIB


def fill(path: Path) -> None:
    """Write until there is no space left."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(MIB))


def test_the_command_stops_and_says_what_to_free(tmp_path: Path, origin: Origin) -> None:
    """Exit 6 after one line with both amounts and how to go on; with space it continues."""
    origin.put("/f", content(12))
    with mounted("tmpfs", tmp_path / "disk", "size=8m") as disk:
        words: list[str | Path] = ["get", origin.url("/f"), "-o", disk / "f.bin", "--state", tmp_path / "state.db"]
        ended = run(*words, cwd=tmp_path)
        assert (ended.code, ended.out) == (6, ""), ended
        assert AMOUNTS.search(ended.err), ended.err
        assert "resumable retry" in ended.err
        remount(disk, "size=64m")
        again = run(*words, cwd=tmp_path)
        assert (again.code, again.out) == (0, f"{disk / 'f.bin'}\n"), again


def test_the_command_waits_when_told_to(tmp_path: Path, origin: Origin) -> None:
    """``--wait``: it says what it waits for, and `status` in another terminal does, too."""
    origin.put("/f", content(12))
    state = tmp_path / "state.db"
    with mounted("tmpfs", tmp_path / "disk", "size=8m") as disk:
        process = start("get", origin.url("/f"), "-o", disk / "f.bin", "--state", state, "--wait", cwd=tmp_path)
        try:
            status = ""
            for _ in range(100):
                status = run("status", "--state", state, cwd=tmp_path).out
                if "parked" in status:
                    break
            assert "parked" in status
            assert AMOUNTS.search(status), status
        finally:
            remount(disk, "size=64m")
        ended = finish(process, 60)
        assert ended.code == 0, ended
        assert AMOUNTS.search(ended.err), ended.err
