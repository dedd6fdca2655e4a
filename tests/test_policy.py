"""The decision after a failure: a table of histories and verdicts, and what must hold for all of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from recovery.classify import status_verdict
from recovery.history import History
from recovery.policy import Decision, GiveUp, Park, Retry, RetryPolicy, backoff, decide
from recovery.taxonomy import machine, network, origin
from recovery.verdict import Action, Condition, Verdict

NOW = 1_700_000_000.0
NAMED = [
    value for module in (machine, network, origin) for value in vars(module).values() if isinstance(value, Verdict)
]


def lived(*verdicts: Verdict, progressed: bool = False, started_at: float = NOW) -> History:
    """Return the history after these failures; ``progressed`` is about the last."""
    history = History(started_at=started_at)
    for number, verdict in enumerate(verdicts, 1):
        history = history.after_failure(verdict, progressed=progressed and number == len(verdicts))
    return history


def after(
    *verdicts: Verdict, draw: float = 1.0, policy: RetryPolicy | None = None, now: float = NOW, progressed: bool = False
) -> Decision:
    """Return what follows the last of these failures. A draw of 1.0 (just out of range) shows the longest wait."""
    return decide(policy or RetryPolicy(), lived(*verdicts, progressed=progressed), verdicts[-1], now=now, draw=draw)


def delay(decision: Decision) -> float:
    """Return the wait before the retry that the decision must be."""
    assert isinstance(decision, Retry)
    return decision.delay_s


T, K, D = network.TIMEOUT, network.CONNECTION, network.DISCONNECTED

# ---- the meters ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ((T,), Retry),
        ((T, K, T), Retry),
        ((T, K, T, K), GiveUp),
        ((T, T, T, T), GiveUp),
        ((machine.UNKNOWN,), Retry),
        ((machine.UNKNOWN, machine.UNKNOWN), GiveUp),
        ((machine.UNKNOWN, T, machine.UNKNOWN), Retry),
        ((machine.UNKNOWN, T, machine.UNKNOWN, T), GiveUp),
        ((machine.TRANSIENT_FILE,) * 5, Retry),
        ((machine.TRANSIENT_FILE,) * 6, GiveUp),
        ((T, T, T, machine.TRANSIENT_FILE), Retry),
        ((T, T, T, machine.TRANSIENT_FILE, T), GiveUp),
        ((origin.CHANGED,), Retry),
        ((origin.CHANGED, origin.CHANGED), GiveUp),
        ((origin.CHANGED, T, origin.CHANGED), GiveUp),
        ((origin.AUTH,), Retry),
        ((origin.AUTH, T, origin.AUTH), GiveUp),
        ((machine.DIGEST, machine.DIGEST), Retry),
        ((machine.DIGEST, machine.DIGEST, machine.DIGEST), GiveUp),
        ((machine.STORE_BUSY,) * 3, Retry),
        ((machine.STORE_FAILED,), Retry),
        ((machine.STORE_FAILED,) * 2, GiveUp),
        ((machine.STORE_CORRUPT,), GiveUp),
        ((origin.THROTTLED,) * 49, Retry),
        ((origin.THROTTLED,) * 50, GiveUp),
        ((T, T, T, *((origin.THROTTLED,) * 20)), Retry),
        ((machine.DISK_FULL,) * 1000, Park),
        ((*((machine.DISK_FULL,) * 1000), T), Retry),
        ((machine.PERMISSION,), GiveUp),
        ((origin.NOT_FOUND,), GiveUp),
        ((machine.CONTROL,), GiveUp),
        ((machine.LOST_RACE,), GiveUp),
    ],
    ids=lambda value: (
        value.__name__ if isinstance(value, type) else f"{len(value)}-{'-'.join(v.code for v in value[:5])}"
    ),
)
def test_when_the_trying_ends(failures: tuple[Verdict, ...], expected: type) -> None:
    """Three retries without progress or the verdict's own limit, one restart, one refresh, parking for ever."""
    assert expected is type(after(*failures))


def test_progress_fills_the_meter_again_but_not_the_cap_on_attempts() -> None:
    """A large file over a bad line goes on as long as each attempt brings something, until attempt 50."""
    history = History(started_at=NOW)
    policy = RetryPolicy()
    for _ in range(49):
        history = history.after_failure(T, progressed=True)
        assert isinstance(decide(policy, history, T, now=NOW, draw=0.5), Retry)
    history = history.after_failure(T, progressed=True)
    assert decide(policy, history, T, now=NOW, draw=0.5) == GiveUp("50 attempts, the most allowed")


def test_retry_now_after_the_cap_gives_fifty_more() -> None:
    """A fresh budget counts from where the person pressed the button."""
    history = lived(*[T] * 50).fresh_budget(NOW).after_failure(T, progressed=False)
    assert isinstance(decide(RetryPolicy(), history, T, now=NOW, draw=0.5), Retry)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (RetryPolicy(max_no_progress=0), GiveUp("no retries are allowed")),
        (RetryPolicy(max_attempts=0), GiveUp("1 attempts, the most allowed")),
        (RetryPolicy(max_attempts=1), GiveUp("1 attempts, the most allowed")),
        (RetryPolicy(deadline_s=0.0), GiveUp("the next try would come after the deadline of 0 s", out_of_time=True)),
        (RetryPolicy(base=0.0), Retry(0.0, False, "timeout: 1 attempts, 1 failures in a row without progress")),
        (RetryPolicy(cap=0.0), Retry(0.0, False, "timeout: 1 attempts, 1 failures in a row without progress")),
    ],
    ids=["no-progress", "attempts-0", "attempts-1", "deadline", "base", "cap"],
)
def test_zero_is_a_value_and_never_means_unset(policy: RetryPolicy, expected: Decision) -> None:
    """stamina#109, procrastinate and ComfyUI-Launcher read 0 as "the default" or "for ever"."""
    assert expected == after(T, policy=policy)


def test_no_retries_means_none_even_after_progress_and_for_verdicts_with_a_limit() -> None:
    """A person who asks for zero retries gets one attempt; waiting for a condition is not a retry."""
    policy = RetryPolicy(max_no_progress=0)
    assert after(T, policy=policy, progressed=True) == GiveUp("no retries are allowed")
    assert after(machine.TRANSIENT_FILE, policy=policy) == GiveUp("no retries are allowed")
    assert isinstance(after(machine.DISK_FULL, policy=policy), Park)


@pytest.mark.parametrize(
    ("deadline_s", "elapsed", "expected"),
    [(100.0, 98.9, Retry), (100.0, 99.0, GiveUp), (100.0, 5000.0, GiveUp), (None, 1e9, Retry), (100.0, -50.0, Retry)],
    ids=["in time", "the next would be late", "long over", "none", "clock set back"],
)
def test_nobody_waits_for_a_try_that_would_come_after_the_deadline(
    deadline_s: float | None, elapsed: float, expected: type
) -> None:
    """The longest first wait is one second, so at 99 of 100 seconds it is over."""
    assert expected is type(after(T, policy=RetryPolicy(deadline_s=deadline_s), now=NOW + elapsed))


def test_time_parked_moves_the_deadline() -> None:
    """A disk that was full for two days does not use up the day allowed for trying."""
    two_days = 172_800.0
    history = lived(machine.DISK_FULL).after_park(two_days).after_failure(T, progressed=False)
    assert isinstance(decide(RetryPolicy(), history, T, now=NOW + two_days, draw=0.5), Retry)


# ---- waits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ((T,), 1.0),
        ((T, T), 2.0),
        ((T, T, T), 4.0),
        ((D,), 0.1),
        ((D, D), 2.0),
        ((T, D), 0.1),
        ((machine.TRANSIENT_FILE,), 0.1),
        ((machine.TRANSIENT_FILE,) * 5, 1.6),
        ((origin.LOCKED,), 10.0),
        ((origin.LOCKED,) * 3, 40.0),
        ((origin.SERVER_STORAGE,) * 2, 20.0),
        ((origin.THROTTLED,), 1.0),
        ((origin.THROTTLED,) * 4, 8.0),
        ((origin.THROTTLED,) * 30, 60.0),
    ],
    ids=lambda value: str(value) if isinstance(value, float) else f"{len(value)}-{value[-1].code}",
)
def test_the_longest_wait(failures: tuple[Verdict, ...], expected: float) -> None:
    """Doubling from a second to a minute; at once on a new connection; shorter for files, longer for locks."""
    assert expected == pytest.approx(delay(after(*failures, draw=1.0)))


def test_the_wait_is_a_random_share_of_the_capped_longest() -> None:
    """Full jitter after the cap: half a draw is half the cap, also far beyond it."""
    policy = RetryPolicy(max_no_progress=100, cap=30.0)
    assert delay(after(*[T] * 40, draw=0.5, policy=policy)) == 15.0
    assert delay(after(*[T] * 40, draw=0.0, policy=policy)) == 0.0


def test_only_a_fresh_connection_is_asked_for_as_such() -> None:
    """RETRY_FRESH says so in the decision, at the first and at later tries."""
    fresh = [decision.fresh for decision in (after(D), after(D, D), after(T)) if isinstance(decision, Retry)]
    assert fresh == [True, True, False]


@pytest.mark.parametrize(
    ("retry_after_s", "expected"),
    [(0.0, 1.0), (0.5, 1.0), (30.0, 30.0), (21_600.0, 21_600.0)],
)
def test_the_server_may_ask_for_longer_but_not_for_less(retry_after_s: float, expected: float) -> None:
    """The wait is the longer of the backoff and Retry-After, cap or no cap."""
    assert expected == delay(after(status_verdict(429, retry_after_s)))


def test_a_server_that_asks_for_more_than_six_hours_is_given_up() -> None:
    """The reason names both numbers, so a person can decide."""
    expected = GiveUp("the server asks to wait 21601 s, longer than the 21600 s allowed", out_of_time=True)
    assert expected == after(status_verdict(503, 21_601.0))


def test_a_wait_that_ends_after_the_deadline_is_not_begun() -> None:
    """Retry-After of an hour with ten minutes left ends now, not in an hour."""
    assert isinstance(after(status_verdict(503, 3600.0), policy=RetryPolicy(deadline_s=600.0)), GiveUp)


@pytest.mark.parametrize("failures", [1, 2, 3, 50, 1024, 1025, 10_000])
def test_no_number_of_failures_overflows(failures: int) -> None:
    """stamina#104, Polly#2163: two to the power of 1,024 is no float."""
    history = replace(History(started_at=NOW), attempts=failures, no_progress=failures, category_run=failures)
    assert min(60.0, 2.0 ** min(failures - 1, 10)) == backoff(RetryPolicy(), history, T, 1.0)
    assert backoff(RetryPolicy(base=0.0), history, T, 1.0) == 0.0
    patient = RetryPolicy(max_no_progress=20_000, max_attempts=20_000)
    assert delay(decide(patient, history, T, now=NOW, draw=0.999)) <= 60.0


@pytest.mark.parametrize(
    ("verdict", "condition", "least", "most"),
    [
        (machine.DISK_FULL, Condition.DISK_SPACE, 5.0, 30.0),
        (network.OFFLINE, Condition.NETWORK, 2.0, 30.0),
        (machine.DESCRIPTORS, Condition.DESCRIPTORS, 1.0, 5.0),
        (network.CAPTIVE_PORTAL, Condition.LOGIN, 5.0, 60.0),
    ],
)
def test_parking_looks_again_ever_more_rarely(
    verdict: Verdict, condition: Condition, least: float, most: float
) -> None:
    """The first look comes soon, the hundredth within the bound, the ten thousandth without overflow."""
    polls = []
    for times in (1, 100, 10_000):
        history = replace(History(started_at=NOW), category=verdict.category, category_run=times)
        for draw in (0.0, 1.0):
            decision = decide(RetryPolicy(), history, verdict, now=NOW, draw=draw)
            assert isinstance(decision, Park)
            assert condition is decision.condition
            polls.append(decision.poll_s)
    assert [least, min(most, 2 * least), least, most, least, most] == polls


# ---- for all ------------------------------------------------------------------------------------------------------

policies = st.builds(
    RetryPolicy,
    max_no_progress=st.integers(0, 100),
    max_attempts=st.integers(0, 20_000),
    deadline_s=st.none() | st.floats(0, 1e7),
    base=st.floats(0, 1e6),
    factor=st.floats(1, 1e6),
    cap=st.floats(0, 1e6),
    max_retry_after_s=st.floats(0, 1e7),
)
histories = st.builds(
    History,
    attempts=st.integers(1, 20_000),
    no_progress=st.integers(0, 20_000),
    started_at=st.floats(0, 2e9),
    category_run=st.integers(1, 20_000),
    restarts=st.integers(0, 5),
    refreshes=st.integers(0, 5),
)
draws = st.floats(0, 1, exclude_max=True)
asked = st.none() | st.floats(0, 1e9)
verdicts = st.builds(lambda verdict, seconds: replace(verdict, retry_after_s=seconds), st.sampled_from(NAMED), asked)


@given(policies, histories, verdicts, st.floats(0, 2e9), draws)
def test_a_decision_keeps_every_promise(
    policy: RetryPolicy, history: History, verdict: Verdict, now: float, draw: float
) -> None:
    """Never raises; a retry is within cap, Retry-After and deadline; ASK, FAIL and control flow are never retried."""
    decision = decide(policy, history, verdict, now=now, draw=draw)
    if isinstance(decision, Retry):
        floor = verdict.retry_after_s or 0.0
        assert floor <= decision.delay_s <= max(policy.cap, floor)
        assert floor <= policy.max_retry_after_s
        assert verdict.action not in {Action.ASK, Action.FAIL, Action.PROPAGATE, Action.PARK}
        assert policy.max_no_progress > 0
        assert history.counted < policy.max_attempts
        assert policy.deadline_s is None or now + decision.delay_s < history.started_at + policy.deadline_s
    else:
        assert (verdict.action is Action.PARK) == isinstance(decision, Park)
    assert decision.reason


@given(policies, histories, verdicts, draws)
def test_one_more_failure_never_shortens_the_longest_wait(
    policy: RetryPolicy, history: History, verdict: Verdict, draw: float
) -> None:
    """The ceiling of the backoff grows with the failures until the cap, and the draw takes a share of it."""
    later = replace(history, no_progress=history.no_progress + 1, category_run=history.category_run + 1)
    assert backoff(policy, history, verdict, 1.0) <= backoff(policy, later, verdict, 1.0) <= policy.cap
    assert 0.0 <= backoff(policy, history, verdict, draw) <= backoff(policy, history, verdict, 1.0)


@given(histories, verdicts, st.floats(0, 2e9), draws)
def test_a_more_patient_policy_never_gives_up_earlier(
    history: History, verdict: Verdict, now: float, draw: float
) -> None:
    """Raising every number of the policy cannot turn a retry into a giving up."""
    strict = decide(RetryPolicy(), history, verdict, now=now, draw=draw)
    patient = decide(
        RetryPolicy(max_no_progress=1000, max_attempts=100_000, deadline_s=None, max_retry_after_s=1e9),
        history,
        verdict,
        now=now,
        draw=draw,
    )
    assert not (isinstance(strict, Retry) and isinstance(patient, GiveUp))


@pytest.mark.parametrize(
    "numbers",
    [
        {"max_no_progress": -1},
        {"max_attempts": -1},
        {"deadline_s": -0.1},
        {"base": -1.0},
        {"base": math.nan},
        {"base": math.inf},
        {"factor": 0.5},
        {"cap": math.inf},
        {"cap": math.nan},
        {"attempt_timeout_s": -1.0},
        {"max_retry_after_s": -1.0},
        {"persist_above_s": -1.0},
    ],
    ids=str,
)
def test_numbers_that_make_no_policy_are_refused(numbers: dict[str, Any]) -> None:
    """ValueError where the policy is made, naming the field."""
    with pytest.raises(ValueError, match=next(iter(numbers))):
        RetryPolicy(**numbers)
