"""Ledger, speed, limits, mailbox, look-ahead: the small parts around the engine."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from recovery.testing import FakeClock
from resumable.concurrency import AdaptiveLimit
from resumable.errors import Interrupted
from resumable.events import DownloadEvent, DownloadView, EventName
from resumable.ledger import Ledger
from resumable.lookahead import Lookahead
from resumable.mailbox import Mailbox
from resumable.model import Checkpoint
from resumable.plan import ChunkGrid
from resumable.speed import SpeedMeter, seconds_left
from resumable.testing import ScriptedTransport
from resumable.throttle import RateLimit, combined
from tests.fetching import WAYS, ask

DIGEST = hashlib.sha256(b"x").digest()


def test_durable_counts_only_what_was_committed_or_audited() -> None:
    """Written is not durable; committed and audited are; damage takes it back."""
    ledger = Ledger(ChunkGrid(25, 10), {2: Checkpoint(2, 5, DIGEST)})
    ledger.wrote(0, 10, DIGEST)
    assert ledger.durable == 0
    dirty = ledger.take_dirty()
    ledger.committed(dirty)
    assert ledger.durable == 10
    ledger.audited(Checkpoint(2, 5, DIGEST), None)
    assert (ledger.durable, ledger.resumed) == (15, 5)
    ledger.damaged(0)
    assert ledger.durable == 5
    assert not ledger.complete


def test_a_failed_commit_is_tried_again_with_the_newest_claim() -> None:
    """redo keeps a newer claim that came meanwhile."""
    ledger = Ledger(ChunkGrid(10, 10), {})
    ledger.wrote(0, 3, b"a")
    failed = ledger.take_dirty()
    ledger.wrote(0, 7, b"b")
    ledger.redo(failed)
    assert [Checkpoint(0, 7, b"b")] == ledger.take_dirty()
    assert ledger.take_dirty() == []


def test_a_partial_claim_continues_with_its_digester() -> None:
    """The audit hands back what it read, so that the chunk goes on at the exact byte."""
    ledger = Ledger(ChunkGrid(10, 10), {0: Checkpoint(0, 4, DIGEST)})
    digester = hashlib.sha256(b"abcd")
    ledger.audited(Checkpoint(0, 4, digester.digest()), digester)
    assert ledger.prefixes() == {0: 4}
    extent = ledger.plan.take(connections=1)
    assert extent is not None
    assert extent.cursor == 4


def test_speed_is_that_of_the_wire_in_the_window() -> None:
    """Bytes kept from before never count; old samples leave the window."""
    meter = SpeedMeter()
    assert meter.rate(0.0, 0) == 0.0
    for tenth in range(101):
        meter.sample(tenth / 10, tenth * 100)
    assert pytest.approx(meter.rate(10.0, 10_000)) == 1000.0
    for tenth in range(101, 161):
        meter.sample(tenth / 10, 10_000)
    assert pytest.approx(meter.rate(16.0, 10_000)) == 0.0


@pytest.mark.parametrize(
    ("remaining", "rate", "waiting", "expected"),
    [(None, 5.0, 0.0, None), (10, 0.0, 0.0, None), (10, 5.0, 0.0, 2.0), (10, 5.0, 3.0, 5.0), (0, 5.0, 0.0, 0.0)],
)
def test_time_left_is_unknown_rather_than_wrong(
    remaining: int | None, rate: float, waiting: float, expected: float | None
) -> None:
    """The wait for the next attempt is part of it."""
    assert expected == seconds_left(remaining, rate, waiting_s=waiting)


def test_connections_fall_with_failures_and_grow_with_successes() -> None:
    """After as many failures as connections nothing is handed out; a throttling answer lowers the ceiling for good."""
    limit = AdaptiveLimit(4)
    limit.failed(running=3, status=503)
    assert (limit.limit, limit.most) == (3, 3)
    limit.failed(running=2)
    assert (limit.limit, limit.most) == (2, 3)
    limit.succeeded()
    limit.succeeded()
    assert limit.limit == 3
    limit.failed(running=0)
    assert limit.limit == 0


async def test_a_rate_limit_spreads_bytes_over_time() -> None:
    """Two takers together get the rate, not twice the rate."""
    clock = FakeClock(auto=True)
    limit = RateLimit(1000, clock)
    started = clock.monotonic()

    async def take() -> None:
        for _ in range(10):
            await limit.take(500)

    await asyncio.gather(take(), take())
    assert 9.5 <= clock.monotonic() - started <= 10.5
    assert combined(None, None) is None
    both = combined(limit, RateLimit(100, clock))
    assert both is not None
    before = clock.monotonic()
    await both(1000)
    assert clock.monotonic() - before >= 9.0
    with pytest.raises(ValueError, match="more than 0"):
        RateLimit(0, clock)


def _event(name: EventName, done: int = 0) -> DownloadEvent:
    return DownloadEvent(event=name, view=DownloadView(download_id="d1", bytes_done=done))


async def test_a_slow_reader_gets_every_state_and_only_the_newest_progress() -> None:
    """Progress is replaced by newer progress; states are all there; closing ends it once all is read."""
    mailbox = Mailbox()
    for done in range(5):
        mailbox.put(_event(EventName.PROGRESS, done))
    mailbox.put(_event(EventName.WAITING))
    for done in range(5, 9):
        mailbox.put(_event(EventName.PROGRESS, done))
    mailbox.put(_event(EventName.COMPLETED, 9))
    mailbox.close()
    got = [(event.event, event.view.bytes_done) async for event in mailbox.read()]
    expected = [(EventName.PROGRESS, 4), (EventName.WAITING, 0), (EventName.PROGRESS, 8), (EventName.COMPLETED, 9)]
    assert expected == got


async def test_a_reader_that_sleeps_misses_progress_and_no_state() -> None:
    """Progress of long ago goes first; only beyond ten thousand states are the oldest of them forgotten."""
    mailbox = Mailbox()
    for number in range(9_000):
        mailbox.put(_event(EventName.WAITING if number % 2 else EventName.PROGRESS, number))
    mailbox.close()
    got = [event.view.bytes_done async for event in mailbox.read()]
    assert list(range(1, 9_000, 2)) == [number for number in got if number % 2]
    assert list(range(7_000, 9_000, 2)) == [number for number in got if number % 2 == 0]
    assert sorted(got) == got
    flooded = Mailbox()
    for number in range(25_000):
        flooded.put(_event(EventName.WAITING, number))
        flooded.put(_event(EventName.PROGRESS if number % 2 else EventName.INTERRUPTED, number))
    flooded.close()
    kept = [(event.event, event.view.bytes_done) async for event in flooded.read()]
    assert list(range(15_000, 25_000)) == [number for name, number in kept if name is EventName.WAITING]
    assert len(kept) == 11_000


async def test_a_closed_mailbox_ends_the_loop() -> None:
    """Readers do not hang when a download ends without a word."""
    mailbox = Mailbox()
    reader = asyncio.create_task(anext(mailbox.read(), None))
    await asyncio.sleep(0)
    mailbox.close()
    assert await reader is None


@pytest.mark.parametrize("way", ["read", "read_into"])
async def test_lookahead_takes_exactly_and_gives_the_rest(way: str) -> None:
    """What was read beyond the taken bytes comes first afterwards, in either way of reading."""
    transport = ScriptedTransport(b"abcdefghi", block_size=4)
    async with transport.fetch(ask("http://origin.test/")) as response:
        ahead = Lookahead(response)
        assert (await ahead.take(0), await ahead.take(5)) == (b"", b"abcde")
        rest = [await WAYS[way](ahead) for _ in range(3)]
        assert rest == [b"fgh", b"i", b""]
    async with transport.fetch(ask("http://origin.test/")) as response:
        with pytest.raises(Interrupted):
            await Lookahead(response).take(10)
