"""A dead origin, several downloads, and the gate they share: few requests while it is down, all done afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import pytest

from recovery.policy import RetryPolicy
from recovery.states import State
from recovery.testing import FakeClock
from resumable.handle import DownloadHandle
from resumable.manager import DownloadManager
from resumable.source import Source
from tests.mounts import mounted
from tests.origin import Behaviour, Content, Origin

MANY = 12
SIZE = 300_000
PATIENT = RetryPolicy(max_no_progress=20)
DOWN = Behaviour(status=503, body=b"down")


async def pass_time(clock: FakeClock, seconds: float, *, until: Awaitable[object] | None = None) -> None:
    """Let virtual time pass in steps that give sockets, threads and the database their real time."""
    waited = None if until is None else asyncio.ensure_future(until)
    for _ in range(round(seconds * 4)):
        if waited is not None and waited.done():
            return
        await clock.advance(0.25)
        await asyncio.sleep(0.004)


async def test_a_dead_origin_is_left_alone_and_then_all_are_done(tmp_path: Path, state_path: Path) -> None:
    """Twelve downloads of an origin that is down for a minute: each would use up its tries; behind the gate one asks at
    a time, every few seconds, and all are complete after it is up.
    """
    clock, names = FakeClock(), [f"/{number}" for number in range(MANY)]
    with Origin() as origin:
        for number, name in enumerate(names):
            origin.put(name, Content(SIZE, seed=number), DOWN)
        async with DownloadManager(state=state_path, max_concurrent=MANY, clock=clock, policy=PATIENT) as manager:
            handles = [manager.start(origin.url(name), tmp_path / name[1:]) for name in names]
            await pass_time(clock, 60)
            assert all(not handle._task.done() for handle in handles)
            assert 5 <= len(origin.requests) <= MANY + 12  # as many as were under way, then one in five seconds at most
            codes = {handle.view.error.code for handle in handles if handle.view.error is not None}
            assert "host-resting" in codes
            for name in names:
                origin.behave(name, Behaviour())
            done = asyncio.gather(*handles)
            await pass_time(clock, 60, until=done)
            results = await asyncio.wait_for(done, 30)
        assert [result.size for result in results] == [SIZE] * MANY
        assert [(tmp_path / name[1:]).read_bytes() for name in names] == [
            Content(SIZE, seed=number).read(0, SIZE) for number in range(MANY)
        ]


async def test_the_gate_outlives_the_process(tmp_path: Path, state_path: Path) -> None:
    """A second manager on the same state file, as after a restart, leaves a dead origin alone from the start."""
    clock = FakeClock()
    with Origin() as origin:
        for number in range(MANY):
            origin.put(f"/{number}", Content(SIZE, seed=number), DOWN)
        for first in (0, 6):
            async with DownloadManager(state=state_path, max_concurrent=6, clock=clock) as manager:
                for number in range(first, first + 6):
                    manager.start(origin.url(f"/{number}"), tmp_path / str(number))
                before = len(origin.requests)
                await pass_time(clock, 4)
                asked = len(origin.requests) - before
        assert before >= 5
        assert asked <= 2


async def test_one_that_is_tried_once_asks_no_gate(tmp_path: Path, state_path: Path) -> None:
    """Without retries every download makes its one request and fails of it, however many did before."""
    with Origin() as origin:
        origin.put("/down", Content(SIZE), DOWN)
        policy = RetryPolicy(max_no_progress=0)
        async with DownloadManager(state=state_path, policy=policy) as manager:
            handles = [manager.start(origin.url("/down"), tmp_path / str(number)) for number in range(8)]
            await asyncio.gather(*handles, return_exceptions=True)
            assert {handle.view.state for handle in handles} == {State.FAILED}
        assert len(origin.requests) == 8


async def test_a_download_waits_for_the_space_it_needs(tmp_path: Path, state_path: Path) -> None:
    """On a disk too small for the file the download is parked; once there is room for all of it, it goes on by itself;
    room for half of it is not enough to ask the origin again.
    """
    clock, size = FakeClock(), 20 << 20
    with Origin() as origin, mounted("tmpfs", tmp_path / "disk", "size=40m") as disk:
        origin.put("/model", Content(size))
        ballast = [disk / "first", disk / "second"]
        for path in ballast:
            path.write_bytes(bytes(13 << 20))
        async with DownloadManager(state=state_path, clock=clock) as manager:
            handle = manager.start(origin.url("/model"), disk / "model")
            await parked(clock, handle)
            asked = len(origin.requests)
            await pass_time(clock, 60)
            assert handle.view.state is State.PARKED
            assert len(origin.requests) == asked
            await asyncio.to_thread(ballast.pop().unlink)
            await pass_time(clock, 60)
            result = await asyncio.wait_for(asyncio.shield(handle._task), 30)
            assert (result.size, result.attempts) == (size, 2)
            row = await manager._journal.get(handle.download_id)
            assert row is not None
            assert row.history.counted == 1


async def parked(clock: FakeClock, handle: DownloadHandle) -> None:
    """Let time pass until the download is parked."""
    for _ in range(400):
        if handle.view.state is State.PARKED:
            return
        await pass_time(clock, 0.25)
    pytest.fail(f"never parked: {handle.view}")


ORIGINS = [
    ("https://Example.org/a?token=x", "https://example.org:443"),
    ("http://user:word@example.org:8080/a", "http://example.org:8080"),
    ("http://[::1]/", "http://::1:80"),
    ("http://example.org:eighty/", "http://example.org:"),
    ("no link", "://:"),
]


@pytest.mark.parametrize(("url", "origin"), ORIGINS)
def test_an_origin_is_scheme_host_and_port(url: str, origin: str) -> None:
    """Two links of one origin share its gate, and its name holds no secret."""
    assert origin == Source(url, {}).origin
