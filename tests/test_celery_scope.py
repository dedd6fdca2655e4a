"""The downloads of one body while its worker shuts down: each is put down, nothing spins and nothing hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from recovery.celery.endings import SlotFreed, StopReason
from recovery.celery.taskrun import TaskRun
from recovery.loopthread import LoopThread
from recovery.testing import FakeClock
from resumable.celery.scope import Scope, Users
from resumable.errors import DownloadDeferred
from resumable.manager import DownloadManager


class SlowHandle:
    """A download that ends when told to, and is put down when its disk has answered."""

    done = False

    def __init__(self, name: str, disk: asyncio.Event) -> None:
        """Transfer."""
        self.download_id, self._disk = name, disk
        self.ending: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def __await__(self) -> Generator[Any, None, str]:
        """Wait for its end."""
        return asyncio.shield(self.ending).__await__()

    async def stop(self) -> None:
        """Keep what there is."""
        await self._disk.wait()
        self.done = True


class SlowManager:
    """Starts downloads; the disk of the one that is called ``slow`` does not answer before ``disk`` is set."""

    journal = None

    def __init__(self) -> None:
        """Nothing runs."""
        self.disk, self.handles = asyncio.Event(), dict[str, SlowHandle]()
        self.defer_until: float | None = None

    async def finished(self, url: str, dest: object) -> None:
        """Know of nothing."""

    def start(self, url: str, dest: object, *, args: object) -> SlowHandle:
        """Start one."""
        at_once = asyncio.Event()
        at_once.set()
        handle = self.handles[url] = SlowHandle(url, self.disk if url == "slow" else at_once)
        if url == "late" and self.defer_until is not None:
            handle.ending.set_exception(DownloadDeferred(self.defer_until))
        return handle


class Body:
    """A synchronous body, as its scope sees it: what it waits for is led out by SlotFreed."""

    on_shutdown: object = None
    operation_id = "op"
    gives_way = body = attempt = None
    call = SimpleNamespace(at_once=False)
    reason: StopReason | None = None

    def stop(self, reason: StopReason) -> None:
        """Note why."""
        self.reason = reason


class CountingClock(FakeClock):
    """Counts how often somebody goes to sleep."""

    slept = 0

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        self.slept += 1
        await super().sleep(seconds)


def scope_of(manager: SlowManager, body: Body, clock: FakeClock) -> Scope:
    """Return the scope of a body."""
    run, downloads = cast("TaskRun", body), cast("DownloadManager", manager)
    return Scope(run, downloads, Users(), clock=clock, hold_slot_s=60, loop_thread=cast("LoopThread", None))


async def turns(number: int = 50) -> None:
    """Let the event loop turn."""
    for _ in range(number):
        await asyncio.sleep(0)


async def begun(scope: Scope, *urls: str) -> list[asyncio.Task[Any]]:
    """Have the body await some downloads."""
    tasks = [asyncio.create_task(scope.download(url)) for url in urls]
    await turns()
    return tasks


async def shutting_down() -> tuple[SlowManager, Body, CountingClock, asyncio.Task[Any], asyncio.Task[Any]]:
    """Have a worker shut down under a body with two downloads, of which the first waits for its disk."""
    manager, body, clock = SlowManager(), Body(), CountingClock()
    scope = scope_of(manager, body, clock)
    slow, other = await begun(scope, "slow", "one")
    scope.hand_back()
    await turns()
    return manager, body, clock, slow, other


async def test_downloads_that_are_put_down_wait_for_the_last_one_in_peace() -> None:
    """While one disk is slow the others sleep; once it has answered all of them are led out."""
    manager, body, clock = SlowManager(), Body(), CountingClock()
    scope = scope_of(manager, body, clock)
    tasks = await begun(scope, "slow", "one", "two")
    scope.hand_back()
    await turns(1000)
    assert clock.slept <= 2
    assert [task.done() for task in tasks] == [False, False, False]
    manager.disk.set()
    ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert [type(one) for one in ended] == [SlotFreed] * 3
    assert body.reason is StopReason.SHUTDOWN


async def test_the_last_one_is_cancelled_by_its_body() -> None:
    """It comes to no wait of its own, and yet those that wait for it are led out."""
    manager, _, _, slow, other = await shutting_down()
    slow.cancel()
    manager.disk.set()
    await asyncio.wait({slow}, timeout=5)
    assert slow.cancelled()
    with pytest.raises(SlotFreed):
        await asyncio.wait_for(other, 5)


async def test_a_stop_for_another_reason_leads_out_whoever_waits_for_the_last_one() -> None:
    """A limit of time, say: the thread that waits is not left waiting for what nobody sets any more."""
    manager, body, clock, slow, other = await shutting_down()
    body.reason = StopReason.SOFT_LIMIT
    await clock.advance(10)
    with pytest.raises(SlotFreed):
        await asyncio.wait_for(other, 5)
    manager.disk.set()
    with pytest.raises(SlotFreed):
        await asyncio.wait_for(slow, 5)


async def test_a_body_can_be_cancelled_while_its_downloads_are_put_down() -> None:
    """Whoever waits for the last one ends at once."""
    manager, _, _, slow, other = await shutting_down()
    other.cancel()
    await asyncio.wait({other}, timeout=5)
    assert other.cancelled()
    manager.disk.set()
    with pytest.raises(SlotFreed):
        await asyncio.wait_for(slow, 5)


@pytest.mark.parametrize("due_s", [0.5, 30.0], ids=["due while the other is put down", "due long after"])
async def test_a_stop_while_one_waits_for_its_next_attempt(due_s: float) -> None:
    """It makes no further attempt, and is led out with the other."""
    manager, body, clock = SlowManager(), Body(), CountingClock()
    manager.defer_until = clock.time() + due_s
    scope = scope_of(manager, body, clock)
    tasks = await begun(scope, "slow", "late")
    late = manager.handles["late"]
    scope.hand_back()
    await clock.advance(1.0)
    await turns(1000)
    assert clock.slept <= 2
    assert [task.done() for task in tasks] == [False, False]
    manager.disk.set()
    ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert [type(one) for one in ended] == [SlotFreed, SlotFreed]
    assert manager.handles["late"] is late
