"""A state file that is damaged, newer, read-only, full or gone: the download goes on. And what is left in the end."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from recovery.database import Database, Health
from recovery.events import HealthEvent
from recovery.journal import JOURNAL
from recovery.states import State
from resumable import DownloadHandle, DownloadManager, StatusError
from resumable.rows import DOWNLOADS
from tests.managing import MIB, SLOW, Rig, content, in_state, only, open_files, received, until, whole
from tests.mounts import mounted, remount
from tests.origin import Behaviour, Origin

pytestmark = pytest.mark.blocking


def garbage(path: Path) -> None:
    path.write_bytes(b"this was a database once" * 400)


def newer(path: Path) -> None:
    ours(path, "PRAGMA user_version = 9999")


def ours(path: Path, change: str) -> None:
    """Make a state file of ours and change it."""
    asyncio.run(_opened_once(path))
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute(change)
    conn.close()


async def _opened_once(path: Path) -> None:
    async with await Database.open(path, (JOURNAL, DOWNLOADS)):
        pass


def foreign(path: Path) -> None:
    conn = sqlite3.connect(path)
    conn.execute("PRAGMA application_id = 7")
    conn.execute("CREATE TABLE somebody_elses (x)")
    conn.commit()
    conn.close()


def a_folder(path: Path) -> None:
    path.mkdir()


def below_a_file(path: Path) -> None:
    path.parent.write_text("no folder")


BROKEN = [
    (garbage, "state.db", "damaged|set aside"),
    (newer, "state.db", "newer"),
    (foreign, "state.db", "another program"),
    (a_folder, "state.db", ""),
    (below_a_file, "state/state.db", ""),
]


@pytest.mark.parametrize(("spoil", "name", "says"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
async def test_a_download_goes_on_whatever_ails_the_state_file(
    spoil: Any, name: str, says: str, rig: Rig, origin: Origin
) -> None:
    """The file is right, the reason is told, and what is not ours is left as it was."""
    origin.put("/f", content(1))
    state = rig.folder / name
    await asyncio.to_thread(spoil, state)
    before = state.read_bytes() if state.is_file() else None
    heard: list[HealthEvent] = []
    async with rig.manager(state=state, on_health=heard.append) as manager:
        assert manager.health_reason
        handle = manager.start(origin.url("/f"), rig.file())
        assert (await handle).size == MIB
        assert only(await manager.downloads()).state is State.COMPLETE
        if says:
            assert any(word in manager.health_reason for word in says.split("|")), manager.health_reason
    assert whole(content(1)) == rig.file().read_bytes()
    assert heard
    if spoil in {newer, foreign}:
        assert before == state.read_bytes()
    if spoil is garbage:
        assert [path for path in rig.folder.iterdir() if path.name.startswith("state.db.") and "corrupt" in path.name]


async def test_the_state_file_cannot_be_written_and_then_it_can(rig: Rig, origin: Origin) -> None:
    """Mid-flight: nothing stops, the handle ends well, and what happened meanwhile is caught up with."""
    origin.put("/f", content(), SLOW)
    heard: list[HealthEvent] = []
    real, view = rig.folder / "real", rig.folder / "view"
    real.mkdir()
    await _opened_once(real / "state.db")
    with mounted("none", view, "bind", source=str(real)):
        remount(view, "ro,bind")
        async with rig.manager(state=view / "state.db", on_health=heard.append) as manager:
            assert (manager.health, "read-only" in manager.health_reason) == (Health.DEGRADED, True)
            handle = manager.start(origin.url("/f"), rig.file())
            await received(handle, MIB)
            assert only(await manager.downloads()) == handle.view
            remount(view, "rw,bind")
            await until(lambda: manager.health is Health.OK, "ok again", 30)
            await handle.pause()
    origin.behave("/f", Behaviour())
    async with rig.manager(state=real / "state.db") as manager:
        assert only(await manager.downloads()) == handle.view
        (again,) = await manager.recover([handle.download_id])
        assert (await again).bytes_resumed == handle.view.bytes_done
    assert [str(event.health) for event in heard] == ["degraded", "ok"]
    assert whole(content()) == rig.file().read_bytes()


async def test_the_disk_of_the_state_file_is_full(rig: Rig, origin: Origin) -> None:
    """The download itself is elsewhere and does not care."""
    origin.put("/f", content(2), Behaviour(rate=2 * MIB))
    with mounted("tmpfs", rig.folder / "disk", "size=1m") as disk:
        async with rig.manager(state=disk / "state.db") as manager:
            handle = manager.start(origin.url("/f"), rig.file())
            await received(handle, 1)
            filler = disk / "filler"
            with pytest.raises(OSError, match="No space"):
                fill(filler)
            await handle
            assert only(await manager.downloads()).state is State.COMPLETE
            filler.unlink()
    assert whole(content(2)) == rig.file().read_bytes()


def fill(path: Path) -> None:
    """Write until there is no space left."""
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


async def test_the_state_file_is_deleted_under_a_running_download(rig: Rig, origin: Origin) -> None:
    """It is written again from what is known, and the download can be continued."""
    origin.put("/f", content(), SLOW)
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        await received(handle, MIB // 2)
        for path in rig.folder.glob("state.db*"):
            if path.is_file():
                path.unlink()
        await received(handle, MIB)
        await handle.pause()
        kept = handle.view.bytes_done
    origin.behave("/f", Behaviour())
    async with rig.manager() as manager:
        assert only(await manager.downloads()).state is State.PAUSED
        (handle,) = await manager.recover([handle.download_id])
        result = await handle
    assert result.bytes_resumed == kept
    assert whole(content()) == rig.file().read_bytes()


async def test_a_view_that_rots_costs_numbers_only(rig: Rig, origin: Origin) -> None:
    """The rows behind it know the state, the bytes and the receipt."""
    origin.put("/f", content(), SLOW)
    origin.put("/done", content(1))
    async with rig.manager() as manager:
        await manager.start(origin.url("/done"), rig.file("done"))
        handle = manager.start(origin.url("/f"), rig.file())
        await received(handle, MIB)
        await handle.pause()
    conn = sqlite3.connect(rig.state)
    conn.execute("UPDATE download_views SET view = replace(view, '1', '2')")
    conn.commit()
    conn.close()
    async with rig.manager() as manager:
        views = {view.filename: view for view in await manager.downloads()}
        done, paused = views["done"], views["f.bin"]
        assert (done.state, done.bytes_done, done.verified_by) == (State.COMPLETE, MIB, "etag")
        assert (paused.state, paused.bytes_done, paused.bytes_total) == (
            State.PAUSED,
            handle.view.bytes_done,
            content().size,
        )
        origin.behave("/f", Behaviour())
        (again,) = await manager.recover([handle.download_id])
        assert (await again).bytes_resumed == handle.view.bytes_done


# -- what is left over -------------------------------------------------------------------------------------------------


async def test_a_failure_nobody_awaits_is_not_lost_and_not_loud(
    rig: Rig, origin: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    """It is in the store with its reason; asyncio does not complain about an exception never retrieved."""
    origin.put("/f", content(1), Behaviour(status=404))
    async with rig.manager() as manager:
        handle: DownloadHandle | None = manager.start(origin.url("/f"), rig.file())
        assert handle is not None
        await in_state(handle, State.FAILED)
        download_id = handle.download_id
        handle = None
        await until(lambda: manager.handle(download_id) is None, "it is forgotten")
        gc.collect()
        view = await manager.find(download_id)
        assert view.error is not None
        assert (view.state, view.error.code, view.error.retryable) == (State.FAILED, "not-found", False)
    assert "never retrieved" not in caplog.text


async def test_nothing_is_left_open_and_nothing_runs_on(rig: Rig, origin: Origin) -> None:
    """After every way to end there are as many files, tasks and threads as before."""
    origin.put("/f", content(2), Behaviour(rate=4 * MIB))
    origin.put("/dead", content(1), Behaviour(status=404))
    origin.put("/slow", content(), SLOW)

    async def all_endings() -> None:
        async with rig.manager() as manager:
            handles = [manager.start(origin.url("/f"), rig.file(str(n))) for n in range(3)]
            paused = manager.start(origin.url("/slow"), rig.file("paused"))
            cancelled = manager.start(origin.url("/slow"), rig.file("cancelled"))
            dead = manager.start(origin.url("/dead"), rig.file("dead"))
            await received(handles[0], MIB // 2)
            await paused.pause()
            await cancelled.cancel(delete_part=True)
            with pytest.raises(StatusError):
                await dead
            await handles[1]
            manager.start(origin.url("/slow"), rig.file("left"))
            assert len(database_threads()) == 2

    await all_endings()  # what is made once for the process, such as threads of pools, is made now
    files, tasks = open_files(), asyncio.all_tasks()
    for _ in range(3):
        await all_endings()
    gc.collect()
    assert files == open_files()
    assert tasks == asyncio.all_tasks()
    assert database_threads() == []


def database_threads() -> list[threading.Thread]:
    """Return the threads that hold a connection to a state file."""
    return [thread for thread in threading.enumerate() if "_connection_worker" in repr(getattr(thread, "_target", ""))]


async def test_leaving_the_manager_while_it_is_cancelled_still_closes_it(rig: Rig, origin: Origin) -> None:
    """A task group that gives up must not leave a lock or a lease behind."""
    origin.put("/f", content(), SLOW)
    before = open_files()

    async def use() -> None:
        async with rig.manager() as manager:
            handle = manager.start(origin.url("/f"), rig.file())
            await received(handle, MIB // 2)
            rig.events.clear()
            await handle

    task = asyncio.create_task(use())
    await until(lambda: rig.events and not rig.names[0].startswith("queued"), "running")
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()  # impatience
    with pytest.raises(asyncio.CancelledError):
        await task
    assert before == open_files()
    origin.behave("/f", Behaviour())
    async with rig.manager() as manager:
        view = only(await manager.downloads())
        assert (view.state, view.stale) == (State.PAUSED, False)
        (handle,) = await manager.recover()
        assert (await handle).bytes_resumed > 0


async def test_a_manager_that_cannot_be_opened_leaves_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state file is closed again when what comes after it fails."""
    before = open_files()

    def broken(**settings: Any) -> Any:
        raise ZeroDivisionError(settings)

    monkeypatch.setattr("resumable.manager.AiohttpTransport", broken)
    with pytest.raises(ZeroDivisionError):
        async with rig.manager():
            raise AssertionError
    assert before == open_files()


async def test_a_handle_is_forgotten_when_it_has_ended(rig: Rig, origin: Origin) -> None:
    """A manager that lives for weeks does not grow with every download."""
    origin.put("/f", content(1))
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), rig.file())
        assert manager.handle(handle.download_id) is handle
        await handle
        await asyncio.sleep(0)
        assert manager.handle(handle.download_id) is None
        assert manager._roster._handles == {}


def test_the_default_state_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Named by the environment, else in the user's state directory."""
    monkeypatch.setenv("RESUMABLE_STATE", str(tmp_path / "named.db"))
    assert DownloadManager()._path == tmp_path / "named.db"
    monkeypatch.delenv("RESUMABLE_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert DownloadManager()._path == tmp_path / "resumable" / "state.db"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert DownloadManager()._path == Path(os.path.expanduser("~/.local/state/resumable/state.db"))


async def test_a_manager_that_is_not_open_says_so(rig: Rig, origin: Origin) -> None:
    """Before it is opened, after it was closed, and while it closes: in words, and nothing is begun."""
    origin.put("/f", content(1))
    manager = rig.manager()
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"DownloadManager is not open .*async with"):
            manager.start(origin.url("/f"), rig.file())
        with pytest.raises(RuntimeError, match="not open"):
            await manager.downloads()
        with pytest.raises(RuntimeError, match="not open"):
            assert manager.health
        async with manager:
            handle = manager.start(origin.url("/f"), rig.file())
            await handle
    handle.view  # noqa: B018 - what is known stays known
    async with manager:
        failed = manager.start(origin.url("/gone"), rig.file("gone"))
        with pytest.raises(StatusError):
            await failed
    with pytest.raises(RuntimeError, match="closed"):
        failed.retry_now()
    with pytest.raises(RuntimeError, match="closed"):
        await failed.resume()
