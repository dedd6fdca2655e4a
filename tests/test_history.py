"""The three meters: what a failure adds, what progress resets, and what a fresh budget forgets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple, replace

from recovery.history import History
from recovery.taxonomy import machine, network, origin
from recovery.verdict import Action, Category, Verdict

VERDICTS = [
    network.TIMEOUT,
    network.CONNECTION,
    network.DISCONNECTED,
    origin.THROTTLED,
    origin.AUTH,
    origin.CHANGED,
    machine.DISK_FULL,
    machine.DEVICE,
    machine.UNKNOWN,
    machine.PERMISSION,
    machine.STORE_BUSY,
]
failures = st.lists(st.tuples(st.sampled_from(VERDICTS), st.booleans()), max_size=40)


def lived(*events: Verdict | tuple[Verdict, bool]) -> History:
    """Return the history after these failures; a plain verdict made no progress."""
    history = History(started_at=1000.0)
    for event in events:
        verdict, progressed = event if isinstance(event, tuple) else (event, False)
        history = history.after_failure(verdict, progressed=progressed)
    return history


T, K, A, P, R, N = (
    network.TIMEOUT,
    network.CONNECTION,
    origin.THROTTLED,
    machine.DISK_FULL,
    origin.CHANGED,
    origin.AUTH,
)


@pytest.mark.parametrize(
    ("events", "attempts", "no_progress", "run", "counted"),
    [
        ((), 0, 0, 0, 0),
        ((T,), 1, 1, 1, 1),
        ((T, T, T), 3, 3, 3, 3),
        ((T, T, K), 3, 3, 1, 3),
        ((T, T, (T, True)), 3, 0, 1, 3),
        ((T, (T, True), T, T), 4, 2, 3, 4),
        ((A, A, A), 3, 0, 3, 3),
        ((T, A, T), 3, 2, 1, 3),
        ((P, P, P), 3, 0, 3, 0),
        ((T, P, T), 3, 2, 1, 2),
        (((P, True),), 1, 0, 1, 0),
    ],
    ids=[
        "nothing yet",
        "one",
        "three alike",
        "another kind",
        "progress resets",
        "and counts again",
        "waiting on request is no failure",
        "nor does it reset",
        "parking is no attempt",
        "between failures",
        "parked with progress",
    ],
)
def test_what_failures_do_to_the_meters(
    events: tuple[Verdict | tuple[Verdict, bool], ...], attempts: int, no_progress: int, run: int, counted: int
) -> None:
    """Attempts in total, failures without progress, failures of one kind in a row, attempts against the cap."""
    history = lived(*events)
    expected = (attempts, no_progress, run, counted)
    assert expected == (history.attempts, history.no_progress, history.category_run, history.counted)


def test_a_policy_may_count_waits_that_the_server_asks_for() -> None:
    """Then 429 after 429 uses up the retries as any other failure does; parking still uses up none."""
    history = History()
    for verdict in (A, T, P, A):
        history = history.after_failure(verdict, progressed=False, count_waits=True)
    assert (history.attempts, history.no_progress) == (4, 3)
    assert history.after_failure(A, progressed=True, count_waits=True).no_progress == 0


def test_links_may_be_renewed_again_after_progress_but_a_restart_stays_spent() -> None:
    """A signed link that expires every hour is normal; a file that changes every hour would loop for ever."""
    history = lived(R, N)
    assert (history.restarts, history.refreshes) == (1, 1)
    progressed = history.after_failure(T, progressed=True)
    assert (progressed.restarts, progressed.refreshes) == (1, 0)
    again = progressed.after_failure(N, progressed=True)
    assert (again.restarts, again.refreshes) == (1, 1)


def test_retry_now_opens_a_whole_budget_and_keeps_the_number_of_attempts() -> None:
    """gbrain#2974: a manual retry that kept the old meters died in under a second."""
    history = lived(T, T, R, N, P, T).fresh_budget(5000.0)
    assert History(attempts=6, started_at=5000.0, spared=6) == history
    assert (history.counted, history.no_progress) == (0, 0)
    assert history.after_failure(T, progressed=False).counted == 1


@pytest.mark.parametrize(("seconds", "expected"), [(3600.0, 4600.0), (0.0, 1000.0), (-5.0, 1000.0)])
def test_time_spent_parked_does_not_count_toward_the_deadline(seconds: float, expected: float) -> None:
    """The start moves on by the wait; a clock set back moves nothing."""
    assert expected == lived(P).after_park(seconds).started_at


def test_a_failure_changes_nothing_in_the_history_before_it() -> None:
    """Histories are values."""
    history = lived(T)
    before = astuple(history)
    history.after_failure(K, progressed=True)
    assert before == astuple(history)


@given(failures)
def test_the_meters_agree_with_counting_by_hand(events: list[tuple[Verdict, bool]]) -> None:
    """For any sequence of failures the numbers are what a person would count from the list."""
    history = lived(*events)
    uncounted = {Action.PARK, Action.AFTER}
    since_progress: list[Verdict] = []
    run: list[Category] = []
    for verdict, progressed in events:
        since_progress = [] if progressed else [*since_progress, verdict]
        run = [*run, verdict.category] if not progressed and run[-1:] == [verdict.category] else [verdict.category]
    assert len(events) == history.attempts
    assert sum(verdict.action not in uncounted for verdict in since_progress) == history.no_progress
    assert len(run) == history.category_run
    assert sum(verdict.action is Action.RESTART for verdict, _ in events) == history.restarts
    assert sum(verdict.action is not Action.PARK for verdict, _ in events) == history.counted
    assert history.category == (events[-1][0].category if events else None)


@given(failures, st.sampled_from(VERDICTS))
def test_progress_never_makes_a_meter_worse(events: list[tuple[Verdict, bool]], verdict: Verdict) -> None:
    """The same failure with progress leaves every meter at most as full as without."""
    history = lived(*events)
    with_it = history.after_failure(verdict, progressed=True)
    without = history.after_failure(verdict, progressed=False)
    assert with_it.no_progress <= without.no_progress
    assert with_it.category_run <= without.category_run
    assert with_it.refreshes <= without.refreshes
    assert with_it == replace(
        without,
        no_progress=with_it.no_progress,
        category_run=with_it.category_run,
        refreshes=with_it.refreshes,
    )
