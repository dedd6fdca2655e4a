"""What is told of a download while nothing moves."""

from __future__ import annotations

from pathlib import Path

from recovery.states import State
from recovery.testing import FakeClock
from resumable.events import DownloadEvent, DownloadView, EventName
from resumable.model import DownloadRequest
from resumable.session import Session
from resumable.source import Source
from resumable.standing import Standing


def running(clock: FakeClock) -> tuple[Standing, Session, list[EventName | None]]:
    """Return a download that runs, its session, and what is told of it."""
    told: list[EventName | None] = []

    def hear(_: Standing, event: DownloadEvent | None) -> None:
        told.append(None if event is None else event.event)

    standing = Standing(DownloadView(download_id="d", state=State.RUNNING), clock=clock, told=hear)
    request = DownloadRequest(url="http://o.test/f", directory=Path("/d"), filename="f")
    session = Session("d", request, [Source(request.url, {}, None)], "f")
    standing.refresh(session)
    return standing, session, told


async def test_progress_without_news_is_no_event() -> None:
    """A thousand that wait for their first byte are not drawn and stored every second; a sign of life comes often
    enough for nobody to think that the process is silent (ten seconds).
    """
    clock = FakeClock()
    standing, session, told = running(clock)
    for _ in range(9):
        await clock.advance(1.0)
        standing.engine_event(EventName.PROGRESS, "", session)
    assert told == [EventName.PROGRESS] * 3
    session.add_received(1)
    standing.engine_event(EventName.PROGRESS, "", session)
    assert len(told) == 4, "a byte is news"


async def test_a_stall_is_told_until_the_speed_is_nothing() -> None:
    """The speed that is shown falls while nothing comes: that is news, each time."""
    clock = FakeClock()
    standing, session, told = running(clock)
    session.add_received(1 << 20)
    for _ in range(4):
        await clock.advance(1.0)
        standing.engine_event(EventName.PROGRESS, "", session)
    assert told == [EventName.PROGRESS] * 4
    assert 0 < standing.view.speed < 1 << 20


async def test_everything_else_is_told_always() -> None:
    """A warning, a restart: also where the numbers stay as they are."""
    clock = FakeClock()
    standing, session, told = running(clock)
    standing.engine_event(EventName.RESTARTED, "changed", session)
    standing.engine_event(EventName.INTERRUPTED, "cut", session)
    assert told == [EventName.RESTARTED, EventName.INTERRUPTED]


async def test_seconds_count_from_the_first_attempt() -> None:
    """Waiting in line among two thousand files makes no transfer slow; waiting between attempts is part of it."""
    clock = FakeClock()
    standing, _, _ = running(clock)
    standing.begin()
    await clock.advance(18.0)
    standing.attempt_begins(1)
    await clock.advance(2.0)
    assert standing.elapsed == 2.0
    standing.attempt_begins(2)
    await clock.advance(1.0)
    assert standing.elapsed == 3.0
