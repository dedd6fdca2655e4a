"""The host gate: the table of its steps, one probe at a time, the gentle reopening, and no storm."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from recovery.classify import status_verdict
from recovery.gate import (
    DEFAULTS,
    HOST_ANSWERED,
    HOST_FAILED,
    TRANSITIONS,
    Admit,
    GatePhase,
    GateState,
    HostGateOpen,
    Wait,
    admit,
    failed,
    gate_transition,
    released,
    succeeded,
)
from recovery.history import History
from recovery.policy import Retry, RetryPolicy, decide
from recovery.states import IllegalTransition
from recovery.taxonomy import machine, network, origin
from recovery.verdict import Action, Category, Verdict

NOW = 1_700_000_000.0
DOWN = network.CONNECTION
CLOSED, OPEN, HALF_OPEN, REOPENING = GatePhase

# One line a phase: where a gate may go from there. Written out a second time on purpose.
LEGAL = {CLOSED: {OPEN}, OPEN: {HALF_OPEN}, HALF_OPEN: {OPEN, REOPENING}, REOPENING: {OPEN, CLOSED}}


def opened(*, now: float = NOW, draw: float = 0.0) -> GateState:
    """Return a gate that five failures in a row have just opened."""
    state = GateState()
    for _ in range(DEFAULTS.threshold):
        state = failed(state, DOWN, now, draw)
    assert state.phase is OPEN
    return state


def probing(owner: str = "probe", *, now: float = NOW) -> GateState:
    """Return a gate whose probe was admitted at ``now`` + 5 s."""
    state, answer = admit(opened(now=now), now + 5.0, 0.0, owner)
    assert answer == Admit(probe=True)
    return state


def reopening(*, now: float = NOW) -> GateState:
    """Return a gate whose probe succeeded at ``now`` + 5 s."""
    return succeeded(probing(now=now), now + 5.0, owner="probe")


# ---- the table ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), list(product(GatePhase, GatePhase)), ids=str)
def test_every_pair_of_phases_is_either_in_the_table_or_raises(old: GatePhase, new: GatePhase) -> None:
    """No gate closes without reopening gently, and none opens its probe without having been open."""
    if new in LEGAL[old]:
        assert new is gate_transition(old, new)
    else:
        with pytest.raises(IllegalTransition, match=f"from {old.value} to {new.value}"):
            gate_transition(old, new)


def test_every_phase_has_a_row_and_a_way_out() -> None:
    """resilience4j#903: no phase may be a trap."""
    assert set(GatePhase) == set(TRANSITIONS)
    assert all(TRANSITIONS.values())


def test_no_category_is_both_the_hosts_fault_and_its_answer() -> None:
    """What says nothing about the host (our disk, a bug, a cancellation) is in neither set."""
    assert not HOST_FAILED & HOST_ANSWERED
    silent = set(Category) - HOST_FAILED - HOST_ANSWERED
    assert {Category.CONTROL, Category.DISK_FULL, Category.GATE, Category.UNKNOWN, Category.OFFLINE} <= silent


# ---- opening ------------------------------------------------------------------------------------------------------


def test_a_closed_gate_admits_everyone_and_keeps_no_notes() -> None:
    """The success path returns the very same state: nothing to write."""
    state = GateState()
    assert (state, Admit()) == admit(state, NOW, 0.5, "a")
    assert succeeded(state, NOW, owner="a") is state
    assert state.held_until is None


def test_five_failures_in_a_row_open_the_gate_and_a_success_in_between_does_not() -> None:
    """Four failures, a success, four failures: closed. A fifth in a row: open."""
    state = GateState()
    for _ in range(2):
        for _ in range(4):
            state = failed(state, DOWN, NOW, 0.0)
        assert (state.phase, state.failures) == (CLOSED, 4)
        state = succeeded(state, NOW)
    assert GateState() == state
    state = opened()
    assert (state.failures, state.opened, state.held_until) == (5, 1, NOW + 5.0)


@pytest.mark.parametrize(
    "verdict",
    [origin.NOT_FOUND, origin.AUTH, network.INTERRUPTED, machine.DISK_FULL, machine.CONTROL, machine.UNKNOWN],
    ids=lambda verdict: verdict.code,
)
def test_failures_that_are_not_the_hosts_never_open_the_gate(verdict: Verdict) -> None:
    """A thousand 404s come from a host that answers; a full disk says nothing about it."""
    state = GateState()
    for _ in range(1000):
        state = failed(state, verdict, NOW, 0.0)
    assert GateState() == state


def test_an_answer_breaks_a_run_of_failures_and_our_own_trouble_does_not() -> None:
    """A 404 after four timeouts proves the host alive; a full disk proves nothing."""
    four = GateState(failures=4)
    assert failed(four, origin.NOT_FOUND, NOW, 0.0).failures == 0
    assert failed(four, machine.DISK_FULL, NOW, 0.0) is four


@pytest.mark.parametrize(
    ("draw", "opened_before", "hold"),
    [(0.0, 0, 5.0), (0.999, 0, 10.0), (0.0, 5, 5.0), (0.999, 1, 15.0), (0.999, 10_000, 15.0)],
)
def test_the_probe_comes_after_five_to_fifteen_seconds(draw: float, opened_before: int, hold: float) -> None:
    """At most one request in five seconds while a host is down; the window grows and is bounded."""
    state = failed(GateState(failures=4, opened=opened_before), DOWN, NOW, draw)
    assert hold == pytest.approx(state.until - NOW, abs=0.02)


@pytest.mark.parametrize(
    ("state", "expected"),
    [(GateState(), NOW + 60.0), (reopening(now=NOW - 5.0), NOW + 60.0), (probing(now=NOW - 5.0), NOW + 60.0)],
    ids=["closed", "reopening", "half open"],
)
def test_one_retry_after_is_enough_to_hold_everybody(state: GateState, expected: float) -> None:
    """A host that says when to come back is believed at once, by all."""
    held = failed(state, status_verdict(429, 60.0), NOW, 0.0, owner="any")
    assert (held.phase, held.until, held.probe_owner) == (OPEN, expected, None)


def test_while_open_only_a_longer_retry_after_counts() -> None:
    """The stragglers' answers may lengthen the hold, never shorten it; their plain failures change nothing."""
    state = opened()
    longer = failed(state, status_verdict(503, 60.0), NOW, 0.0)
    assert longer.until == NOW + 60.0
    assert failed(longer, status_verdict(503, 1.0), NOW, 0.0) == longer
    assert failed(longer, DOWN, NOW, 0.0) is longer
    assert succeeded(longer, NOW, owner="straggler") is longer


def test_a_retry_after_of_zero_is_an_ordinary_failure_and_an_absurd_one_is_bounded() -> None:
    """No wait is no hold; a year is six hours, after which a probe asks again."""
    assert GateState(failures=1) == failed(GateState(), status_verdict(429, 0.0), NOW, 0.0)
    assert failed(GateState(), status_verdict(429, 3e7), NOW, 0.0).until == NOW + 21_600.0


# ---- the probe ----------------------------------------------------------------------------------------------------


def test_before_its_time_nobody_passes_an_open_gate_and_all_are_spread() -> None:
    """Those who wait are told different times, so that they do not come back as one."""
    state = opened()
    answers = [admit(state, NOW + 1.0, draw, "a") for draw in (0.0, 0.25, 0.75)]
    assert [(state, Wait(NOW + 5.0 + spread)) for spread in (0.0, 0.25, 0.75)] == answers


def test_exactly_one_probe_is_admitted() -> None:
    """Of a hundred callers at the same moment one gets through; asking again does not help, not even the same owner."""
    state = opened()
    admitted = 0
    for caller in range(100):
        state, answer = admit(state, NOW + 5.0, 0.5, f"caller {caller % 50}")
        admitted += isinstance(answer, Admit)
    assert (admitted, state.probe_owner, state.held_until) == (1, "caller 0", NOW + 35.0)


def test_those_who_wait_for_a_probe_look_again_soon() -> None:
    """The probe may settle in milliseconds: nobody waits for the end of its lease, and nobody beyond it."""
    state = probing()
    assert admit(state, NOW + 6.0, 0.0, "b")[1] == Wait(NOW + 6.5)
    assert admit(state, NOW + 34.9, 0.9, "b")[1] == Wait(NOW + 35.0)


def test_a_person_is_the_next_probe_and_the_only_one() -> None:
    """Whoever presses "Retry now" may know that the host is back, and the gate learns it from that."""
    state, answer = admit(opened(), NOW + 1.0, 0.0, "person", asked_for=True)
    assert (answer, state.phase, state.probe_owner) == (Admit(probe=True), HALF_OPEN, "person")
    assert succeeded(state, NOW + 2.0, owner="person").phase is REOPENING
    assert admit(state, NOW + 1.0, 0.0, "another", asked_for=True)[1] == Wait(NOW + 1.5)
    assert admit(opened(), NOW + 1.0, 0.0, "nobody")[1] == Wait(opened().until)


def test_a_probe_that_is_not_heard_of_again_expires() -> None:
    """OmniRoute#13836: after the lease the next caller probes, and the lost one's late word counts no more."""
    state, answer = admit(probing("lost"), NOW + 35.0, 0.0, "next")
    assert (answer, state.probe_owner, state.until) == (Admit(probe=True), "next", NOW + 65.0)
    assert succeeded(state, NOW + 36.0, owner="lost") is state
    assert failed(state, DOWN, NOW + 36.0, 0.0, owner="lost") is state
    assert succeeded(state, NOW + 36.0, owner="next").phase is REOPENING


def test_a_probe_that_fails_opens_the_gate_again_for_longer() -> None:
    """The window of the second wait reaches the cap."""
    state = failed(probing(), DOWN, NOW + 6.0, 0.999, owner="probe")
    assert (state.phase, state.opened, state.probe_owner) == (OPEN, 2, None)
    assert state.until == pytest.approx(NOW + 6.0 + 15.0, abs=0.02)


def test_a_probe_that_is_answered_with_a_refusal_has_found_the_host_alive() -> None:
    """A 404 to the probe reopens the gate: the host works, the link does not."""
    assert failed(probing(), origin.NOT_FOUND, NOW + 6.0, 0.0, owner="probe").phase is REOPENING


@pytest.mark.parametrize("verdict", [machine.CONTROL, machine.DISK_FULL, machine.UNKNOWN], ids=lambda v: v.code)
def test_a_probe_given_back_is_free_at_once(verdict: Verdict) -> None:
    """A cancelled caller, or one whose own disk was full, must not keep the others waiting (resilience4j#935)."""
    state = failed(probing(), verdict, NOW + 6.0, 0.0, owner="probe")
    assert state == released(probing(), NOW + 6.0, owner="probe")
    assert admit(state, NOW + 6.0, 0.0, "next")[1] == Admit(probe=True)


@pytest.mark.parametrize("state", [GateState(), opened(), probing("another"), reopening()], ids=lambda s: s.phase.value)
def test_giving_back_what_one_does_not_hold_changes_nothing(state: GateState) -> None:
    """Only the owner of the probe can return it."""
    assert released(state, NOW + 6.0, owner="probe") is state


# ---- reopening ----------------------------------------------------------------------------------------------------


def test_reopening_admits_at_its_rate() -> None:
    """After the probe, one request a second; in between callers wait, spread over a second."""
    state = reopening()
    assert (state.rate, state.failures, state.held_until) == (1.0, 0, None)
    assert admit(state, NOW + 5.5, 0.25, "a")[1] == Wait(NOW + 6.25)
    state, answer = admit(state, NOW + 6.0, 0.0, "a")
    assert answer == Admit()
    assert admit(state, NOW + 6.5, 0.0, "b")[1] == Wait(NOW + 7.0)


def test_the_rate_grows_by_one_a_second_however_many_succeed() -> None:
    """Additive: at ten a second it takes ten successes to reach eleven."""
    state = replace(reopening(), rate=10.0)
    for _ in range(10):
        state = succeeded(state, NOW + 7.0)
    assert state.rate == pytest.approx(11.0, abs=0.05)


def test_a_failure_halves_the_rate_once_for_its_flock() -> None:
    """Multiplicative, at most once a second and never below the start; five in a row open the gate."""
    state = replace(reopening(), rate=10.0)
    state = failed(state, DOWN, NOW + 5.5, 0.0)
    assert (state.rate, state.failures) == (10.0, 1)  # within a second of reopening
    state = failed(state, DOWN, NOW + 6.0, 0.0)
    assert (state.rate, state.until) == (5.0, NOW + 6.2)
    state = failed(state, DOWN, NOW + 6.5, 0.0)
    assert (state.rate, state.failures) == (5.0, 3)
    assert failed(replace(state, rate=1.0), DOWN, NOW + 8.0, 0.0).rate == 1.0
    state = failed(failed(state, DOWN, NOW + 6.6, 0.0), DOWN, NOW + 6.7, 0.0)
    assert (state.phase, state.opened) == (OPEN, 2)


def test_a_host_that_asks_for_a_pause_goes_on_at_half_its_rate() -> None:
    """Only a host that fails its probe begins again at one a second."""
    paused = failed(replace(reopening(), rate=16.0), status_verdict(429, 2.0), NOW + 9.0, 0.0)
    probed, _ = admit(paused, NOW + 11.0, 0.0, "p")
    assert succeeded(probed, NOW + 11.0, owner="p").rate == 8.0
    failed_probe = failed(probed, DOWN, NOW + 11.0, 0.0, owner="p")
    again, _ = admit(failed_probe, NOW + 30.0, 0.0, "p")
    assert succeeded(again, NOW + 30.0, owner="p").rate == 1.0


def test_the_gate_closes_when_nothing_failed_and_nobody_was_held_for_a_while() -> None:
    """Ten quiet seconds; a caller that had to wait, or a failure, begins them anew."""
    state = reopening()  # at NOW + 5
    assert admit(state, NOW + 15.0, 0.0, "a") == (GateState(), Admit())
    busy, _ = admit(state, NOW + 6.0, 0.0, "a")
    held, answer = admit(busy, NOW + 6.5, 0.0, "b")
    assert (type(answer), held.held_at) == (Wait, NOW + 6.5)
    assert admit(held, NOW + 16.4, 0.0, "c")[0].phase is REOPENING
    assert admit(held, NOW + 16.5, 0.0, "c")[0].phase is CLOSED
    eased = failed(state, DOWN, NOW + 14.0, 0.0)
    assert admit(eased, NOW + 15.0, 0.0, "a")[0].phase is REOPENING


def test_being_held_is_noted_once_a_second() -> None:
    """The state is a row in a file: a thousand waiting callers must not write it a thousand times."""
    state, _ = admit(reopening(), NOW + 6.0, 0.0, "a")
    first, _ = admit(state, NOW + 6.1, 0.0, "b")
    assert first.held_at == NOW + 6.1
    assert admit(first, NOW + 6.9, 0.0, "c")[0] is first


# ---- clocks and exceptions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "wait"),
    [(opened(), 5.0), (probing(), 0.5), (reopening(), 1.0)],
    ids=lambda value: value.phase.value if isinstance(value, GateState) else str(value),
)
def test_a_clock_set_back_makes_nobody_wait_for_the_past(state: GateState, wait: float) -> None:
    """An hour back, right after the phase began: the wait is what it was."""
    now = state.since - 3600.0
    moved, answer = admit(state, now, 0.0, "a")
    assert isinstance(answer, Wait)
    assert wait == pytest.approx(answer.until - now)
    assert moved.since == now


def test_a_request_that_is_held_declares_itself_as_a_wait() -> None:
    """HostGateOpen uses up no attempt and comes back when the gate says."""
    exc = HostGateOpen("cdn.example", 7.25)
    assert (
        exc.recovery_hint.category,
        exc.recovery_hint.action,
        exc.recovery_hint.retry_after_s,
    ) == (Category.GATE, Action.AFTER, 7.25)
    assert str(exc) == "cdn.example is left alone for another 7.2 s"
    assert HostGateOpen("cdn.example", -1.0).recovery_hint.retry_after_s == 0.0


# ---- for all ------------------------------------------------------------------------------------------------------

VERDICTS = [DOWN, network.TIMEOUT, origin.NOT_FOUND, machine.CONTROL, status_verdict(429, 3.0), origin.SERVER_ERROR]
steps = st.lists(
    st.tuples(
        st.sampled_from(["admit", "succeed", "fail", "release"]),
        st.floats(0, 40),
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(VERDICTS),
    ),
    max_size=60,
)


@given(steps)
def test_whatever_happens_there_is_one_probe_and_always_a_way_forward(
    script: list[tuple[str, float, float, str, Verdict]],
) -> None:
    """No sequence raises, no second probe passes while a lease runs, and waiting never exceeds the longest hold."""
    state, now, lease_until = GateState(), NOW, 0.0
    for step, seconds, draw, owner, verdict in script:
        now += seconds
        before = state
        if step == "admit":
            state, answer = admit(state, now, draw, owner)
            if isinstance(answer, Wait):
                assert now <= answer.until <= now + DEFAULTS.probe_lease_s + DEFAULTS.spread_s
            elif answer.probe:
                assert before.phase is not HALF_OPEN or now >= lease_until
                lease_until = state.until
        elif step == "succeed":
            state = succeeded(state, now, owner=owner)
        elif step == "fail":
            state = failed(state, verdict, now, draw, owner=owner)
        else:
            state = released(state, now, owner=owner)
        assert (state.phase is HALF_OPEN) == (state.probe_owner is not None)
        assert state.phase is not REOPENING or state.rate >= DEFAULTS.start_rate
        assert state.failures >= 0
    # Left alone for a minute, some caller gets through.
    assert isinstance(admit(state, now + 60.0, 0.0, "late")[1], Admit)


# ---- the storm ----------------------------------------------------------------------------------------------------

OUTAGE_S = 120.0
CAPACITY = 20
CLIENTS = 500


@dataclass
class Origin:
    """A host that is down for two minutes and then serves twenty requests a second, refusing the rest."""

    requests: list[float] = field(default_factory=list)
    served: Counter[int] = field(default_factory=Counter)

    def request(self, now: float) -> Verdict | None:
        """Return the verdict on the failure, None for success."""
        self.requests.append(now)
        if now < OUTAGE_S:
            return network.CONNECTION
        self.served[int(now)] += 1
        return None if self.served[int(now)] <= CAPACITY else origin.SERVER_UNAVAILABLE

    def storm(self) -> tuple[int, int]:
        """Return the requests during the outage and the most in any second after it."""
        after = Counter(int(moment) for moment in self.requests if moment >= OUTAGE_S)
        return sum(moment < OUTAGE_S for moment in self.requests), max(after.values())


def simulate(host: Origin, policy: RetryPolicy, *, gated: bool, jitter: bool, seed: int) -> tuple[int, float]:
    """Let 500 clients of one host fail and retry in virtual time; return how many got through and when the last did."""
    rng = random.Random(seed)
    state = GateState()
    histories = dict.fromkeys(range(CLIENTS), History())
    queue = [(0.0, client, client) for client in range(CLIENTS)]
    order, done, last = CLIENTS, 0, 0.0
    while queue:
        now, _, client = heapq.heappop(queue)
        order += 1
        if gated:
            state, answer = admit(state, now, rng.random(), str(client))
            if isinstance(answer, Wait):
                heapq.heappush(queue, (answer.until, order, client))
                continue
        verdict = host.request(now)
        if verdict is None:
            state = succeeded(state, now, owner=str(client))
            done, last = done + 1, now
            continue
        state = failed(state, verdict, now, rng.random(), owner=str(client))
        histories[client] = histories[client].after_failure(verdict, progressed=False)
        decision = decide(policy, histories[client], verdict, now=now, draw=rng.random() if jitter else 1.0)
        if isinstance(decision, Retry):
            heapq.heappush(queue, (now + decision.delay_s, order, client))
    return done, last - OUTAGE_S


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_five_hundred_clients_of_a_dead_host_do_not_make_a_storm(seed: int) -> None:
    """At most 50 requests in two minutes of outage, 30 a second after it; all get through, on three retries each."""
    host = Origin()
    done, drained_s = simulate(host, RetryPolicy(), gated=True, jitter=True, seed=seed)
    during, peak = host.storm()
    assert done == CLIENTS
    assert during <= 50
    assert peak <= 30
    assert drained_s <= 60.0


def test_without_a_gate_they_do() -> None:
    """Plain exponential backoff without end: thousands of requests, and all 500 at once when the host is back."""
    patient = RetryPolicy(max_no_progress=10_000, max_attempts=10_000, deadline_s=None, cap=30.0)
    host = Origin()
    done, drained_s = simulate(host, patient, gated=False, jitter=False, seed=1)
    assert (done, host.storm()) == (CLIENTS, (4000, 500))
    assert drained_s > 600.0


def test_without_a_gate_three_retries_are_used_up_in_seconds() -> None:
    """The gate is what makes "three retries" a promise a user can live with: without it nobody survives the outage."""
    assert simulate(Origin(), RetryPolicy(), gated=False, jitter=True, seed=1)[0] == 0
