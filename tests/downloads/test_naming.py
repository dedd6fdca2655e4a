"""Names that origins give: whose part file is taken up, and whose is left alone."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from pathlib import Path

import pytest

from recovery.states import State
from resumable import EventName
from resumable.naming import open_new
from tests.managing import Rig, content, only, received, whole
from tests.origin import Behaviour, Origin

A = content(1)


def names(folder: Path) -> list[str]:
    """Return what there is of the file, but for the state file."""
    return sorted(path.name for path in folder.glob("f*"))


async def test_an_empty_part_file_that_a_kill_has_left_is_taken_up(rig: Rig, origin: Origin) -> None:
    """Killed between making it and writing its name down: the file has its name all the same, nothing is left over."""
    origin.put("/f.bin", A)
    (rig.folder / "f.bin.part").touch(0o600)
    async with rig.manager() as manager:
        result = await manager.start(origin.url("/f.bin"), directory=rig.folder)
    assert (result.path.name, names(rig.folder)) == ("f.bin", ["f.bin"])
    assert whole(A) == result.path.read_bytes()


@pytest.mark.parametrize("why", ["bytes", "lock", "link", "second name", "file"])
async def test_what_may_be_anybodys_is_left_alone(why: str, rig: Rig, origin: Origin) -> None:
    """Bytes in it, somebody at work on it, no plain file, or the file itself is there: this one gets a number."""
    origin.put("/f.bin", A)
    part = rig.folder / "f.bin.part"
    if why == "link":
        part.symlink_to("f-elsewhere")
    else:
        part.touch(0o600)
    if why == "bytes":
        part.write_bytes(b"\0")
    elif why == "second name":
        os.link(part, rig.folder / "f-second")
    elif why == "file":
        (rig.folder / "f.bin").write_bytes(b"mine")
    before = {path.name: path.lstat().st_ino for path in rig.folder.glob("f*")}
    with (part if why == "lock" else rig.folder / "lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        async with rig.manager() as manager:
            result = await manager.start(origin.url("/f.bin"), directory=rig.folder)
    assert result.path.name == "f.1.bin"
    assert {name: (rig.folder / name).lstat().st_ino for name in before} == before
    assert sorted([*before, "f.1.bin"]) == names(rig.folder)


async def test_the_empty_part_file_of_a_paused_download_is_its_own(rig: Rig, origin: Origin) -> None:
    """It has a name and no byte yet; another link's file of the same name does not get in between."""
    origin.put("/a/f.bin", A, script=[Behaviour(stall_at=0)])
    origin.put("/b/f.bin", content(1, 2))
    async with rig.manager() as manager:
        first = manager.start(origin.url("/a/f.bin"), directory=rig.folder)
        async for event in first.events():
            if event.view.filename == "f.bin":
                break
        await first.pause()
        assert (first.view.state, (rig.folder / "f.bin.part").stat().st_size) == (State.PAUSED, 0)
        second = await manager.start(origin.url("/b/f.bin"), directory=rig.folder)
        assert second.path.name == "f.1.bin"
        await first.resume()
        assert (await first).path.name == "f.bin"
    assert whole(A) == (rig.folder / "f.bin").read_bytes()
    assert whole(content(1, 2)) == second.path.read_bytes()


async def test_cancelled_while_it_is_asked_whose_it_is(tmp_path: Path) -> None:
    """The part file stays as it was, and none is made."""
    (tmp_path / "f.bin.part").touch(0o600)
    asked = asyncio.Event()

    async def named(_: Path) -> bool:
        asked.set()
        await asyncio.sleep(60)
        return False

    opening = asyncio.create_task(open_new(tmp_path, "f.bin", named=named))
    await asked.wait()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert names(tmp_path) == ["f.bin.part"]


@pytest.mark.parametrize("mib", [0, 1, 9])
@pytest.mark.parametrize("there", ["the file", "another of its size", "nothing"])
async def test_killed_between_the_name_of_the_file_and_its_receipt(
    mib: int, there: str, rig: Rig, origin: Origin
) -> None:
    """It stands there already: no second one called name.1 beside it. What is not that very file is left alone."""
    body = content(mib)
    origin.put("/f.bin", body)
    async with rig.manager() as manager:
        first = await manager.start(origin.url("/f.bin"), directory=rig.folder)
    with sqlite3.connect(rig.state) as state:  # as it was just before: named, claimed by a process that is dead
        state.execute("DELETE FROM download_files")
        state.execute("DELETE FROM download_views")
        state.execute("DELETE FROM operations")
    state.close()
    if there == "nothing":
        first.path.unlink()
    elif there == "another of its size":
        first.path.write_bytes(bytes(body.size))
    before = first.path.stat().st_ino if there != "nothing" else 0
    async with rig.manager() as manager:
        second = await manager.start(origin.url("/f.bin"), directory=rig.folder)
    assert whole(body) == second.path.read_bytes()
    if there == "another of its size" and mib:
        assert (second.path.name, names(rig.folder)) == ("f.1.bin", ["f.1.bin", "f.bin"])
    else:
        assert (second.path.name, names(rig.folder)) == ("f.bin", ["f.bin"])
        assert there == "nothing" or before == first.path.stat().st_ino
    assert second.size == body.size


NOT_FIRST = {
    "file": "f.bin is there already and stays as it is: this file is called f.1.bin; with -o it would be replaced",
    "part": "f.bin is the name of another download: this file is called f.1.bin",
    "meanwhile": "f.bin has come to be there meanwhile and stays as it is: this file is called f.1.bin",
}


@pytest.mark.parametrize("why", NOT_FIRST)
async def test_why_a_file_has_another_name_is_said(why: str, rig: Rig, origin: Origin) -> None:
    """In one warning, which whoever looks later sees too; the view has the name that the file has."""
    origin.put("/f.bin", A, Behaviour(rate=4 * A.size if why == "meanwhile" else None))
    if why == "file":
        (rig.folder / "f.bin").write_bytes(b"mine")
    elif why == "part":
        (rig.folder / "f.bin.part").write_bytes(b"another's")
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f.bin"), directory=rig.folder)
        if why == "meanwhile":
            await received(handle, 1)
            (rig.folder / "f.bin").write_bytes(b"mine")
        result = await handle
    async with rig.manager() as manager:
        view = only(await manager.downloads())
    assert [event.message for event in rig.told(EventName.WARNING)] == [NOT_FIRST[why]]
    assert (result.path.name, view.filename, view.dest) == ("f.1.bin", "f.1.bin", str(rig.folder / "f.1.bin"))
    assert (result.warnings, view.warnings) == ((NOT_FIRST[why],), (NOT_FIRST[why],))


async def test_a_file_with_its_own_name_is_no_warning(rig: Rig, origin: Origin) -> None:
    """Nor is one that goes on under the number that it has."""
    origin.put("/f.bin", A, Behaviour(rate=2 * A.size))
    (rig.folder / "f.bin").write_bytes(b"mine")
    async with rig.manager() as manager:
        await received(manager.start(origin.url("/f.bin"), directory=rig.folder), 1)
    rig.events.clear()
    async with rig.manager() as manager:
        again, other = await manager.recover(), manager.start(origin.url("/f.bin?v=2"), directory=rig.folder / "..")
        assert [(await handle).path.name for handle in (*again, other)] == ["f.1.bin", "f.bin"]
    assert rig.told(EventName.WARNING) == []
