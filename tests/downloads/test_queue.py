"""Starting several: slots, priorities, limits of connections and bandwidth, fresh links, mirrors."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from recovery.states import State
from resumable import (
    DestinationError,
    DigestMismatch,
    DownloadError,
    DownloadManager,
    EventName,
    Options,
    RetryPolicy,
    StatusError,
)
from tests.managing import MIB, PATIENT, SLOW, Rig, content, in_state, received, row, until, whole
from tests.origin import Behaviour, Origin


async def test_the_highest_priority_comes_first(rig: Rig, origin: Origin) -> None:
    """With one slot: the one that runs, then by priority, then in the order of asking."""
    origin.put("/first", content(1), Behaviour(rate=2 * MIB))
    for name in ("low", "high", "later"):
        origin.put(f"/{name}", content(1))
    async with rig.manager(max_concurrent=1) as manager:
        first = manager.start(origin.url("/first"), rig.file("first"))
        await received(first, 1)
        others = [
            manager.start(origin.url("/low"), rig.file("low")),
            manager.start(origin.url("/later"), rig.file("later"), priority=5),
            manager.start(origin.url("/high"), rig.file("high"), priority=9),
        ]
        await asyncio.gather(first, *others)
    assert [event.view.filename for event in rig.told(EventName.STARTED)] == ["first", "high", "later", "low"]


async def test_a_list_is_done_in_its_order(rig: Rig, origin: Origin) -> None:
    """Whatever else takes its time before a download begins."""
    origin.put("/f", content(1))
    names = [str(n) for n in range(12)]
    async with rig.manager(max_concurrent=1) as manager:
        await asyncio.gather(*[manager.start(origin.url("/f"), rig.file(name)) for name in names])
    assert names == [event.view.filename for event in rig.told(EventName.STARTED)]


async def test_what_waits_its_turn_is_known_already(rig: Rig, origin: Origin) -> None:
    """A queue of five hundred survives the death of its process: each is in the store before it has a slot."""
    origin.put("/f", content(), SLOW)
    async with rig.manager(max_concurrent=1) as manager:
        first = manager.start(origin.url("/f"), rig.file("0"))
        await received(first, 1)
        for name in ("1", "2", "3"):
            manager.start(origin.url("/f"), rig.file(name))
        await until(lambda: row(rig.state, "SELECT count(*) FROM operations") == (4,), "4 rows")
        states = {view.filename: view.state for view in await manager.downloads()}
    assert states == {"0": State.RUNNING, "1": State.QUEUED, "2": State.QUEUED, "3": State.QUEUED}
    origin.behave("/f", Behaviour())
    async with rig.manager() as manager:
        handles = await manager.recover()
        assert len(await asyncio.gather(*handles)) == 4


async def test_a_download_that_waits_for_its_retry_holds_no_slot(rig: Rig, origin: Origin) -> None:
    """One dead server must not stop the queue."""
    origin.put("/dead", content(1), Behaviour(status=500))
    origin.put("/f", content(1))
    async with rig.manager(max_concurrent=1, policy=PATIENT) as manager:
        dead = manager.start(origin.url("/dead"), rig.file("dead"))
        await in_state(dead, State.WAITING)
        assert (await asyncio.wait_for(manager.start(origin.url("/f"), rig.file()), 10)).size == MIB
        assert dead.view.state is State.WAITING


async def test_a_queued_download_can_be_paused_and_cancelled(rig: Rig, origin: Origin) -> None:
    """It never begins, and the one that was paused can be resumed."""
    origin.put("/f", content(), SLOW)
    async with rig.manager(max_concurrent=1) as manager:
        first = manager.start(origin.url("/f"), rig.file("0"))
        await received(first, 1)
        second, third = (manager.start(origin.url("/f"), rig.file(name)) for name in ("1", "2"))
        await until(lambda: row(rig.state, "SELECT count(*) FROM operations") == (3,), "3 rows")
        await second.pause()
        await third.cancel()
        assert (second.view.state, third.view.state) == (State.PAUSED, State.CANCELLED)
        origin.behave("/f", Behaviour())
        await first
        assert not rig.file("1").exists()
        await second.resume()
        assert (await second).size == content().size


async def test_connections_to_one_host_are_limited(rig: Rig, origin: Origin) -> None:
    """Over all downloads together."""
    origin.put("/f", content(2), Behaviour(rate=2 * MIB))
    async with rig.manager(per_host=2, max_concurrent=4) as manager:
        handles = [manager.start(origin.url("/f"), rig.file(str(n))) for n in range(4)]
        most = 0
        while not all(handle.done for handle in handles):
            most = max(most, origin.open_connections)
            await asyncio.sleep(0.01)
    assert 0 < most <= 2


@pytest.mark.parametrize("scope", ["process", "download"])
async def test_bandwidth_is_limited(scope: str, rig: Rig, origin: Origin) -> None:
    """Of the whole process, or of one download; the limit is kept within a burst of a quarter of a second."""
    origin.put("/f", content(2))
    rate = 2 * MIB
    settings: dict[str, Any] = {"limit_rate": rate} if scope == "process" else {}
    options = Options(limit_rate=rate if scope == "download" else None, checkpoint_interval_s=0.05)
    async with rig.manager(**settings) as manager:
        started = time.monotonic()
        handles = [manager.start(origin.url("/f"), rig.file(str(n)), options=options) for n in range(2)]
        await asyncio.gather(*handles)
        seconds = time.monotonic() - started
    total = 4 * MIB if scope == "process" else 2 * MIB
    assert seconds >= total / rate - 0.3


async def test_a_fresh_link_is_asked_for_when_the_old_one_has_expired(rig: Rig, origin: Origin) -> None:
    """``refresh_url`` is awaited once, nothing is fetched again, and no retry is used up."""
    origin.put("/old", content(), script=[Behaviour(cut_at=2 * MIB)], behaviour=Behaviour(status=403))
    origin.put("/new", content())
    asked = 0

    async def fresh() -> str:
        nonlocal asked
        asked += 1
        return origin.url("/new")

    async with rig.manager(options=Options(connections=1)) as manager:
        result = await manager.start(origin.url("/old"), rig.file(), refresh_url=fresh)
    assert (asked, result.bytes_received) == (1, content().size)
    assert whole(content()) == rig.file().read_bytes()


async def test_a_resolver_that_gives_dead_links_ends_in_a_refusal(rig: Rig, origin: Origin) -> None:
    """Not in a loop."""
    origin.put("/old", content(), Behaviour(status=403))
    asked = 0

    async def dead() -> str:
        nonlocal asked
        asked += 1
        return origin.url("/old")

    async with rig.manager() as manager:
        with pytest.raises(StatusError) as caught:
            await manager.start(origin.url("/old"), rig.file(), refresh_url=dead)
    assert caught.value.status == 403
    assert asked <= 3


async def test_a_mirror_takes_over(rig: Rig, origin: Origin) -> None:
    """Before anything was received, and with a digest also in the middle; the result says that something was odd."""
    origin.put("/dead", content(), script=[Behaviour(cut_at=2 * MIB)], behaviour=Behaviour(status=404))
    origin.put("/mirror", content())
    async with rig.manager(options=Options(connections=1)) as manager:
        result = await manager.start(
            origin.url("/dead"), rig.file(), mirrors=[origin.url("/mirror")], sha256=content().sha256()
        )
    assert (result.sha256, result.verified_by) == (content().sha256(), "digest")
    assert any("going on with" in warning for warning in result.warnings)
    assert origin.body_bytes_sent("/mirror") <= 2 * MIB + MIB // 4


async def test_a_mirror_with_another_file_is_not_mixed_in(rig: Rig, origin: Origin) -> None:
    """Same size, other bytes: the digest is what counts, and nothing gets the final name."""
    origin.put("/f", content(seed=1), script=[Behaviour(cut_at=2 * MIB)], behaviour=Behaviour(status=404))
    origin.put("/mirror", content(seed=2))
    async with rig.manager(options=Options(connections=1)) as manager:
        with pytest.raises(DownloadError) as caught:
            await manager.start(
                origin.url("/f"), rig.file(), mirrors=[origin.url("/mirror")], sha256=content(seed=1).sha256()
            )
    assert isinstance(caught.value, (DigestMismatch, StatusError)), repr(caught.value)
    assert not rig.file().exists()


async def test_asking_for_the_same_destination_again_joins(rig: Rig, origin: Origin) -> None:
    """In one process it is the same handle, and one transfer."""
    origin.put("/f", content(2), Behaviour(rate=4 * MIB))
    async with rig.manager() as manager:
        first = manager.start(origin.url("/f"), rig.file())
        second = manager.start(origin.url("/f"), str(rig.file()))
        assert first is second
        results = await asyncio.gather(first, second)
    assert results[0] == results[1]
    assert origin.body_bytes_sent("/f") == content(2).size


async def test_a_name_comes_from_the_server_when_nobody_gives_one(rig: Rig, origin: Origin) -> None:
    """Below ``directory``; an existing file of that name is never overwritten."""
    origin.put("/f", content(1), Behaviour(headers={"content-disposition": 'attachment; filename="../model.bin"'}))
    rig.file("model.bin").write_bytes(b"mine")
    async with rig.manager() as manager:
        result = await manager.start(origin.url("/f"), directory=rig.folder)
        again = await manager.start(origin.url("/f"), directory=rig.folder)
    assert (result.path, rig.file("model.bin").read_bytes()) == (rig.file("model.1.bin"), b"mine")
    assert (again.path, again.bytes_received) == (result.path, 0)


async def test_a_name_that_somebody_waits_for_is_not_taken(rig: Rig, origin: Origin) -> None:
    """What an origin calls its file must not be overwritten by a later one of the queue, to which that name was given:
    both would be told of success, and one file would be gone.
    """
    origin.put("/f", content(1), Behaviour(headers={"content-disposition": 'attachment; filename="model.bin"'}))
    origin.put("/g", content(1, seed=2))
    async with rig.manager(max_concurrent=1) as manager:
        named_by_origin = manager.start(origin.url("/f"), directory=rig.folder)
        named_by_caller = manager.start(origin.url("/g"), rig.file("model.bin"))
        first, second = await asyncio.gather(named_by_origin, named_by_caller)
        assert (first.path, second.path) == (rig.file("model.1.bin"), rig.file("model.bin"))
        third = await manager.start(origin.url("/f"), directory=rig.folder)
    assert (third.path, first.sha256 == second.sha256) == (first.path, False)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"url": "ftp://host/f"}, ValueError, "give an http:// or https:// URL"),
        ({"url": "host/f"}, ValueError, "no scheme"),
        ({"url": "http:///f"}, ValueError, "names no host"),
        ({"url": "http://host:port/f"}, ValueError, "not a URL"),
        ({"url": "http://host/a b"}, ValueError, "percent-encode"),
        ({"url": "http://h/f", "mirrors": ["file:///etc/passwd"]}, ValueError, "not supported"),
        ({"url": "http://h/f", "sha256": "abc"}, ValueError, "SHA-256"),
        ({"url": "http://h/f", "headers": {"a\r\nb": "c"}}, ValueError, "not a header field"),
        ({"url": "http://h/f", "headers": {"a": "b\r\nc: d"}}, ValueError, "not a header field"),
        ({"url": "http://h/f", "options": Options(connections=0)}, ValueError, "connections must be at least 1"),
        ({"url": "http://h/f", "options": Options(limit_rate=-5)}, ValueError, "limit_rate must be at least 1"),
        ({"url": "http://h/f", "options": Options(stall_timeout_s=0)}, ValueError, "positive number of seconds"),
        ({"url": "http://h/f", "dest": "a\0b"}, DestinationError, "NUL"),
        ({"url": "http://h/f", "dest": ""}, DestinationError, "empty"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_bad_input_is_refused_before_anything_begins(
    arguments: dict[str, Any], error: type[Exception], says: str, rig: Rig
) -> None:
    """In one line that says what is wrong; nothing is written."""
    async with rig.manager() as manager:
        with pytest.raises(error, match=says):
            manager.start(**{"dest": rig.file(), **arguments})
        assert await manager.downloads() == []


@pytest.mark.parametrize("settings", [{"max_concurrent": 0}, {"per_host": 0}, {"limit_rate": 0}, {"limit_rate": -1}])
def test_senseless_settings_are_refused(settings: dict[str, Any]) -> None:
    """When the manager is made, not when the first download hangs."""
    with pytest.raises(ValueError, match="must be at least 1"):
        DownloadManager(**settings)


async def test_a_folder_in_the_way_is_said_so(rig: Rig, origin: Origin) -> None:
    """The download fails with what to do, and is not begun."""
    origin.put("/f", content(1))
    (rig.folder / "taken").mkdir()
    async with rig.manager() as manager:
        with pytest.raises(DestinationError, match="is a folder"):
            await manager.start(origin.url("/f"), rig.folder / "taken")
    assert origin.requests == []


async def test_a_representation_that_is_too_large_is_refused(rig: Rig, origin: Origin) -> None:
    """Before its bytes are fetched."""
    origin.put("/f", content(4))
    async with rig.manager() as manager:
        with pytest.raises(DestinationError, match="allowed"):
            await manager.start(origin.url("/f"), rig.file(), options=Options(max_bytes=MIB))
    assert not rig.file().exists()


async def test_wishes_come_in_order_of_events(rig: Rig, origin: Origin) -> None:
    """Every view is newer than the one before, for each download on its own."""
    for name in ("a", "b"):
        origin.put(f"/{name}", content(2), Behaviour(rate=4 * MIB), script=[Behaviour(cut_at=MIB // 2)])
    async with rig.manager() as manager:
        await asyncio.gather(*(manager.start(origin.url(f"/{name}"), rig.file(name)) for name in ("a", "b")))
    for name in ("a", "b"):
        mine = [event.view for event in rig.events if event.view.filename == name]
        assert all(before.rev < after.rev for before, after in pairwise(mine))
        assert all(before.bytes_done <= after.bytes_done for before, after in pairwise(mine))
        assert {view.bytes_total for view in mine} <= {None, content(2).size}


async def test_no_retries_means_one_try(rig: Rig, origin: Origin) -> None:
    """Zero is a number."""
    origin.put("/f", content(1), Behaviour(status=500))
    async with rig.manager(policy=RetryPolicy(max_no_progress=0)) as manager:
        with pytest.raises(StatusError) as caught:
            await manager.start(origin.url("/f"), rig.file())
    assert (caught.value.attempts, len(origin.requests)) == (1, 1)


async def test_a_name_that_is_no_text(rig: Rig, origin: Origin) -> None:
    """File names are bytes; one that is no UTF-8 is downloaded, resumed and found again like any other."""
    origin.put("/f", content(), SLOW)
    dest = Path(str(rig.folder) + "/caf\udce9.bin")
    async with rig.manager() as manager:
        handle = manager.start(origin.url("/f"), dest)
        await received(handle, 1)
    origin.behave("/f", Behaviour())
    async with rig.manager() as manager:
        (handle,) = await manager.recover()
        assert (await handle).path == dest
        assert [view.dest for view in await manager.downloads()] == [str(dest)]
        assert (await manager.verify(dest)).ok
        assert (await manager.start(origin.url("/f"), dest)).bytes_received == 0
    assert whole(content()) == dest.read_bytes()
