"""The stall meter, second by second: silence, the floor, and readers that come late."""

from __future__ import annotations

import pytest

from resumable.stall import StallMeter

# (at second, what happens, bytes received so far); "check" wants the seconds until the next one, None for a stall.
Script = list[tuple[float, str, int, float | None]]


@pytest.mark.parametrize(
    ("timeout", "floor", "script"),
    [
        pytest.param(10, 0, [(0, "wait", 0, 0), (4, "check", 0, 6), (10, "check", 0, None)], id="silence"),
        pytest.param(
            10, 0,
            [(0, "wait", 0, 0), (9, "go on", 1, 0), (9, "wait", 1, 0), (18, "check", 1, 1), (19, "check", 1, None)],
            id="silence counts from the last byte",
        ),
        pytest.param(
            10, 0,
            [(0, "wait", 0, 0), (9, "go on", 1, 0), (9, "wait", 1, 0), (10, "check", 1, 9), (18, "go on", 2, 0),
             (18, "check", 2, 2)],
            id="no floor: a byte now and then is enough",
        ),
        pytest.param(
            10, 100,
            [(0, "wait", 0, 0), (5, "go on", 400, 0), (5, "wait", 400, 0), (10, "check", 999, None)],
            id="below the floor",
        ),
        pytest.param(
            10, 100,
            [(0, "wait", 0, 0), (5, "go on", 400, 0), (5, "wait", 400, 0), (10, "check", 1000, 5)],
            id="at the floor; silence still counts from the wait's begin",
        ),
        pytest.param(
            10, 100,
            [(0, "wait", 0, 0), (1, "go on", 10**6, 0), (1, "wait", 10**6, 0), (10, "check", 10**6, 1),
             (11, "check", 10**6, None)],
            id="a fast beginning does not excuse silence",
        ),
        pytest.param(
            10, 100,
            [(0, "wait", 0, 0), (1, "go on", 1, 0), (1000, "check", 1, 9), (1000, "wait", 1, 0), (1009, "go on", 2, 0),
             (1009, "check", 2, None)],
            id="time not spent waiting does not count",
        ),
        pytest.param(
            10, 100,
            [(0, "wait", 0, 0), (10, "go on", 2000, 0), (10, "check", 2000, 10), (10, "wait", 2000, 0),
             (15, "go on", 2100, 0), (15, "wait", 2100, 0), (20, "check", 2200, None)],
            id="each window stands alone",
        ),
        pytest.param(
            10, 0,
            [(0, "wait", 0, 0), (9, "heard", 1, 0), (18, "check", 1, 1), (18, "heard", 2, 0), (28, "check", 2, None)],
            id="bytes that do not fill the buffer yet are no silence",
        ),
        pytest.param(
            10, 100,
            [(0, "wait", 0, 0), (9, "heard", 999, 0), (10, "check", 999, None)],
            id="but they do not excuse a rate below the floor",
        ),
        pytest.param(10, 0, [(3, "heard", 1, 0), (5, "check", 1, 10)], id="nobody waits for what is heard"),
        pytest.param(10, 0, [(0, "wait", 0, 0), (9.99, "check", 0, 0.2)], id="checks keep a distance"),
        pytest.param(10, 100, [(5, "check", 0, 10)], id="nobody waits, nothing is wrong"),
    ],
)  # fmt: skip
def test_a_stall_is_told_from_a_late_reader(timeout: float, floor: int, script: Script) -> None:
    """Each script is one body's life."""
    meter = StallMeter(timeout, floor)
    for now, what, received, again in script:
        if what == "wait":
            meter.wait(now)
        elif what == "go on":
            meter.go_on(now)
        elif what == "heard":
            meter.heard(now)
        else:
            assert meter.check(now, received) == (None if again is None else pytest.approx(again))
