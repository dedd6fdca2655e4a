"""When news go out and to whom: the feed, the queues of slow clients, rooms and rates. Pure, but for the alarm."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resumable_ui.alarm import Alarm
from resumable_ui.clients import (
    CAUGHT_UP_BELOW,
    DROP_ABOVE,
    DROP_ABOVE_BYTES,
    DROP_AT_LOOK,
    DROP_AT_ONCE_BYTES,
    MOST_ROOMS,
    SKIP_ABOVE,
    SKIP_ABOVE_BYTES,
    Bucket,
    Client,
    Flow,
    Turn,
    checked_rooms,
)
from resumable_ui.feed import Feed


def test_progress_waits_for_its_turn_and_a_change_of_state_does_not() -> None:
    """The newest is enough, ten times a second."""
    feed = Feed(max_hz=10)
    feed.put("a", urgent=False)
    assert list(feed.take(0.0)) == ["a"]
    feed.put("a", urgent=False)
    feed.put("a", urgent=False)
    assert list(feed.take(0.05)) == []
    feed.put("b", urgent=True)
    assert list(feed.take(0.06, urgent_only=True)) == ["b"]
    assert list(feed.take(0.1)) == ["a"]
    assert feed.idle


def test_news_stay_urgent_until_they_are_sent() -> None:
    """Progress that follows a change of state must not put it off."""
    feed = Feed()
    feed.put("a", urgent=True)
    feed.put("a", urgent=False)
    assert feed.take(0.0, urgent_only=True) == {"a": True}
    feed.put("a", urgent=True)
    feed.put("b", urgent=False)
    assert feed.take(1.0) == {"a": True, "b": False}
    feed.put("a", urgent=False)
    feed.forget("a")
    assert list(feed.take(9.0)) == []


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.001, 0.3), st.booleans()), max_size=60))
def test_no_key_is_sent_too_often_and_none_is_forgotten(steps: list[tuple[float, bool]]) -> None:
    """Whatever comes when: progress not within 70 ms of what went before, and always a last one."""
    feed = Feed(max_hz=10)
    now, sent, waiting = 0.0, float("-inf"), False
    for wait, urgent in steps:
        feed.put("k", urgent=urgent)
        waiting = True
        now += wait
        if feed.take(now):
            assert urgent or now - sent >= 0.0699
            sent, waiting = now, False
    due = feed.due_in(now)
    assert (due is not None) == waiting
    assert due is None or due <= 0.1
    assert bool(feed.take(now + 0.11)) == waiting


@settings(deadline=None)
@given(st.lists(st.floats(0.0, 0.05), min_size=50, max_size=200))
def test_the_rate_over_time_is_kept(waits: list[float]) -> None:
    """Coming early is made up for: ten a second, whatever the rhythm of the news."""
    feed = Feed(max_hz=10)
    now, count = 0.0, 0
    for wait in waits:
        now += wait
        feed.put("k", urgent=False)
        count += len(feed.take(now))
    assert count <= now * 10 + 2


def test_a_flood_of_states_does_not_put_progress_off() -> None:
    """A hundred changes in a moment, and the next number comes when it would have come."""
    feed = Feed(max_hz=10)
    for _ in range(100):
        feed.put("k", urgent=True)
        feed.take(1.0, urgent_only=True)
    feed.put("k", urgent=False)
    assert list(feed.take(1.14)) == ["k"]


def test_a_feed_keeps_nothing_of_what_is_over() -> None:
    """A worker that gets a file a second for a month must not grow by each; what is due later is not forgotten."""
    feed = Feed(max_hz=10)
    for number in range(10_000):
        feed.put(f"d{number}", urgent=number % 2 == 0)
        assert list(feed.take(float(number))) == [f"d{number}"]
    feed.put("d9999", urgent=False)
    assert list(feed.take(9999.05)) == []
    assert len(feed._next_at) < 2_000


async def test_an_alarm_rings_once_at_the_earliest_moment() -> None:
    """Whoever asks; later wishes are for whoever is rung to ask again. A moment that has passed is now."""
    loop, rung = asyncio.get_running_loop(), list[float]()
    alarm = Alarm(lambda: rung.append(loop.time()))
    now = loop.time()
    alarm.at(now + 60)
    alarm.at(now + 0.01)
    alarm.at(now + 0.02)
    await asyncio.sleep(0.05)
    assert [now + 0.0099 <= at for at in rung] == [True]
    alarm.at(now)
    assert len(rung) == 1, "never before the loop's next turn"
    await asyncio.sleep(0.01)
    assert len(rung) == 2
    alarm.at(loop.time())
    alarm.off()
    await asyncio.sleep(0.01)
    assert len(rung) == 2


FLOWS = [
    # skipping before, packets, bytes, lossy -> turn, skipping after
    (False, 0, 0, True, Turn.SEND, False),
    (False, SKIP_ABOVE, SKIP_ABOVE_BYTES, True, Turn.SEND, False),
    (False, SKIP_ABOVE + 1, 0, True, Turn.SKIP, True),
    (False, 3, SKIP_ABOVE_BYTES + 1, True, Turn.SKIP, True),
    (False, SKIP_ABOVE + 1, SKIP_ABOVE_BYTES + 1, False, Turn.SEND, False),
    (True, CAUGHT_UP_BELOW, 0, True, Turn.SKIP, True),
    (True, CAUGHT_UP_BELOW, 0, False, Turn.SEND, True),
    (True, CAUGHT_UP_BELOW - 1, 0, True, Turn.SNAPSHOT, False),
    (True, CAUGHT_UP_BELOW - 1, 0, False, Turn.SNAPSHOT, False),
    (True, 1, SKIP_ABOVE_BYTES + 1, True, Turn.SKIP, True),
    (False, DROP_ABOVE + 1, 0, False, Turn.SEND, False),
    (True, DROP_ABOVE + 1, 0, True, Turn.SKIP, True),
    (False, 9, DROP_AT_ONCE_BYTES, False, Turn.SEND, False),
    (False, 9, DROP_AT_ONCE_BYTES + 1, False, Turn.DROP, False),
    (True, 9, DROP_AT_ONCE_BYTES + 1, True, Turn.DROP, True),
]


@pytest.mark.parametrize(("skipping", "packets", "size", "lossy", "turn", "after"), FLOWS)
def test_a_slow_client_misses_progress_and_never_a_state(
    skipping: bool, packets: int, size: int, lossy: bool, turn: Turn, after: bool
) -> None:
    """The limits of the contract, each on both sides."""
    flow = Flow(skipping)
    assert (flow.turn(packets, size, lossy=lossy), flow.skipping) == (turn, after)


SHORT = (DROP_ABOVE, DROP_ABOVE_BYTES)
MANY, LARGE = (DROP_ABOVE + 1, 0), (9, DROP_ABOVE_BYTES + 1)
LOOKS = [
    # queues found, one a tick -> whether it reads, by the last of them
    ([SHORT] * 9, True),
    ([MANY], True),
    ([LARGE], True),
    ([MANY] * (DROP_AT_LOOK - 1), True),
    ([MANY] * DROP_AT_LOOK, False),
    ([LARGE] * DROP_AT_LOOK, False),
    ([MANY, SHORT] * 9 + [LARGE], True),
    ([SHORT] * 9 + [LARGE, MANY] * DROP_AT_LOOK, False),
]


@pytest.mark.parametrize(("queues", "reads"), LOOKS)
def test_a_client_is_judged_once_it_has_had_time_to_read(queues: list[tuple[int, int]], reads: bool) -> None:
    """A burst is ours; what is still there two ticks later is its."""
    flow = Flow()
    assert [flow.look(*queue) for queue in queues][-1] == reads


ROOMS = [
    (["all"], {"all"}),
    (["recovery", "project:a b", "download:d1"], {"recovery", "project:a b", "download:d1"}),
    (["project:"], {"project:"}),
    ([], set()),
    (["everything"], None),
    (["project:a\nb"], None),
    ("all", None),
    (None, None),
    ([1], None),
    ([["all"]], None),
    (["download:x"] * 300, None),
    (["download:" + "x" * 300], None),
]


@pytest.mark.parametrize(("asked", "rooms"), ROOMS)
def test_rooms_are_checked(asked: object, rooms: set[str] | None) -> None:
    """A client names what there is to watch, and not without end."""
    assert checked_rooms(asked) == rooms


def test_who_sees_what() -> None:
    """News concern whoever watches all, the project or the download."""
    for rooms, sees, recovery in (
        ({"all"}, True, True),
        ({"project:p"}, True, True),
        ({"download:d"}, True, True),
        ({"recovery"}, False, True),
        ({"project:q", "download:e"}, False, False),
        (set[str](), False, False),
    ):
        client = Client("s", rooms=set(rooms))
        assert (client.sees("d", "p"), client.sees_recovery("d", "p")) == (sees, recovery)


def test_rooms_are_limited_in_all() -> None:
    """Not a call at a time only; what is refused changes nothing."""
    client = Client("s")
    assert client.join(f"download:{n}" for n in range(MOST_ROOMS))
    assert client.join(["download:0"])
    assert not client.join(["download:x"])
    assert len(client.rooms) == MOST_ROOMS


def test_a_bucket_allows_a_burst_and_then_its_rate() -> None:
    """And fills no further than the burst."""
    bucket = Bucket(burst=3, rate=2)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(0.5), bucket.take(0.5)] == [True, False]
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
