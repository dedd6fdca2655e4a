"""The hub with a real Socket.IO client, real downloads and a real state file: what is shown, and what can be done."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from recovery.states import State
from resumable.events import DownloadView
from resumable.manager import DownloadManager
from resumable_ui.hub import Hub
from tests.hubs import served
from tests.origin import Behaviour, Content, Origin

MIB = 1 << 20
SMALL = Content(3 * MIB, seed=21)

pytestmark = pytest.mark.blocking


@pytest.fixture
def origin() -> Iterator[Origin]:
    """Return an origin with a file that comes at once, and one that takes its time."""
    with Origin() as server:
        server.put("/small.bin", SMALL)
        server.put("/slow.bin", Content(8 * MIB, seed=22), Behaviour(rate=2 * MIB))
        yield server


async def test_a_download_is_added_shown_and_finished(tmp_path: Path, origin: Origin) -> None:
    """From the form to the finished file, with the page's view of it at each step."""
    async with served(tmp_path) as hub:
        page = await hub.watcher("all")
        form = {"request_id": "1", "url": origin.url("/small.bin"), "directory": "models", "sha256": SMALL.sha256()}
        added = await page.call("add_download", form)
        assert (added["ok"], added["request_id"], added["state"]) == (True, "1", "queued")
        name = added["download_id"]
        await page.until(lambda: page.sees(name)["state"] == "complete")
        download = page.sees(name)
        assert (tmp_path / "models" / "small.bin").read_bytes() == SMALL.read(0, SMALL.size)
        assert ("completed", SMALL.size, SMALL.size) == (
            download["status"],
            download["bytes_done"],
            download["bytes_total"],
        )
        (hello,) = page.of("connected")
        assert (hello["data"], hello["v"], hello["role"]) == ("Connected to progress tracking", 1, "operator")


async def test_pause_and_resume_act_and_are_seen(tmp_path: Path, origin: Origin) -> None:
    """Buttons of the page; the acknowledgement tells the new state, the event follows."""
    async with served(tmp_path) as hub:
        page = await hub.watcher("all")
        name = (await page.call("add_download", {"url": origin.url("/slow.bin")}))["download_id"]
        await page.until(lambda: page.sees(name)["bytes_done"] > 0, "it runs")
        paused = await page.act(name, "pause")
        assert (paused["ok"], paused["state"]) == (True, "paused")
        await page.until(lambda: page.sees(name)["state"] == "paused")
        kept = page.sees(name)["bytes_done"]
        assert kept > 0
        assert page.sees(name)["actions"] == ["resume", "cancel"]
        resumed = await page.act(name, "resume")
        assert resumed["ok"], resumed
        await page.until(lambda: page.sees(name)["bytes_done"] > kept, "it goes on")
        refused = await page.act(name, "resume")
        assert (refused["ok"], refused["error"]["code"]) == (False, "not_allowed")
        cancelled = await page.act(name, "cancel", args={"delete_part": True})
        assert (cancelled["ok"], cancelled["state"]) == (True, "cancelled")
        assert not list(tmp_path.rglob("*.part"))
        # It stays: who cancelled the wrong one begins it again, and its history can be read (docs/decisions/0018).
        await page.until(lambda: page.sees(name)["state"] == "cancelled")
        await page.until(lambda: page.sees(name)["bytes_done"] == 0, "nothing of it is on disk")
        assert page.sees(name)["actions"] == ["retry_now"]
        assert page.of("download_removed") == []
        assert await hub.manager.prune(older_than_s=-1) == 1
        await page.until(lambda: name not in page.downloads)
        assert [(one["download_id"], one["reason"]) for one in page.of("download_removed")] == [(name, "pruned")]


async def test_the_same_request_twice_is_done_once(tmp_path: Path, origin: Origin) -> None:
    """A click sent again after a reconnect, also while the first one is still at work."""
    async with served(tmp_path) as hub:
        page = await hub.watcher("all")
        form = {"request_id": "once", "url": origin.url("/slow.bin")}
        one, two = await asyncio.gather(page.call("add_download", form), page.call("add_download", form))
        three = await page.call("add_download", form)
        assert one == two == three
        await page.until(lambda: page.sees(one["download_id"])["state"] == "running")
        assert len(await hub.manager.downloads()) == 1


async def test_a_request_id_that_another_request_had_is_refused(tmp_path: Path, origin: Origin) -> None:
    """Two clients that count from 1: the second must not be told what was done for the first."""
    async with served(tmp_path) as hub:
        one, two = await hub.watcher("all"), await hub.watcher("all")
        added = [
            await one.call("add_download", {"url": origin.url(f"/slow.bin?{n}"), "filename": f"{n}"}) for n in "12"
        ]
        first, second = (answer["download_id"] for answer in added)
        assert (await one.act(first, "pause", "1"))["state"] == "paused"
        refused = await two.act(second, "pause", "1")
        assert (refused["ok"], refused["error"]["code"], refused["request_id"]) == (False, "conflict", "1")
        assert (await two.act(second, "pause", "2"))["state"] == "paused"
        status, answer = await hub.http("POST", f"/api/downloads/{second}/resume", body={"request_id": "2"})
        assert (status, answer["error"]["code"]) == (409, "conflict")
        assert (await one.act(first, "pause", "1"))["ok"], "and the same one is still the same"


async def test_a_hub_that_could_not_start_starts_later(tmp_path: Path) -> None:
    """An ASGI application may be asked for the page before its manager is open; the fault is not for ever."""
    manager = DownloadManager(state=tmp_path / "state.db")
    hub = Hub(manager, root=tmp_path)
    with pytest.raises(Exception, match=r"open|closed|enter"):
        await hub.start()
    async with manager:
        await hub.start()
        await hub.stop()


async def test_a_hub_that_begins_again_knows_nothing_from_before(tmp_path: Path) -> None:
    """What was forgotten while it was away must not come back."""
    async with DownloadManager(state=tmp_path / "state.db") as manager:
        hub = Hub(manager, root=tmp_path)
        await hub.start()
        hub.show(DownloadView(download_id="d1", state=State.COMPLETE, rev=1))
        before = hub._board.epoch
        assert list(hub._board.ids) == ["d1"]
        await hub.stop()
        await hub.start()
        assert list(hub._board.ids) == []
        assert hub._board.epoch != before
        await hub.stop()
