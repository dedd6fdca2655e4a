"""The gate before a host: a circuit breaker with one leased probe and a gradual reopening. Pure; keeping the states (in
a table all processes share) and acting on the answers is the supervisor's business.

::

    CLOSED ──threshold failures in a row, or the host asks to wait──► OPEN ◄──────────┐
      ▲                                                                │              │ the probe failed
      │                                              its time has come │              │ or was given back
      │ nobody was held back                                           ▼              │
      └──── and nothing failed for a while ──── REOPENING ◄──── HALF_OPEN ────────────┘
                                                    └── threshold failures, or asked to wait ──► OPEN

Law: every change of phase goes through ``TRANSITIONS``; any other raises IllegalTransition and changes nothing.
HALF_OPEN admits one probe, which holds a lease: when it neither succeeds nor fails nor is given back in time, the next
caller may probe (resilience4j#903, OmniRoute#13836: a probe that never settled shut a host out for days). REOPENING
admits at a rate that grows by a little and is halved by failure (AIMD), because 500 clients let through at once would
fell the host again.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from msgspec import Struct
from msgspec.structs import replace

from recovery.states import IllegalTransition
from recovery.taxonomy import machine
from recovery.verdict import Category, Verdict

__all__ = [
    "HOST_ANSWERED",
    "HOST_FAILED",
    "TRANSITIONS",
    "Admit",
    "GatePhase",
    "GateSettings",
    "GateState",
    "HostGateOpen",
    "Wait",
    "admit",
    "failed",
    "gate_transition",
    "released",
    "succeeded",
]


class GatePhase(StrEnum):
    """Where a gate stands."""

    CLOSED = "closed"  # as with an electric breaker: closed lets everything through
    OPEN = "open"
    HALF_OPEN = "half_open"
    REOPENING = "reopening"


TRANSITIONS: Mapping[GatePhase, frozenset[GatePhase]] = MappingProxyType(
    {
        GatePhase.CLOSED: frozenset({GatePhase.OPEN}),
        GatePhase.OPEN: frozenset({GatePhase.HALF_OPEN}),
        GatePhase.HALF_OPEN: frozenset({GatePhase.OPEN, GatePhase.REOPENING}),
        GatePhase.REOPENING: frozenset({GatePhase.OPEN, GatePhase.CLOSED}),
    }
)

HOST_FAILED = frozenset(
    {
        Category.TIMEOUT,
        Category.CONNECTION,
        Category.DNS,
        Category.TLS_TRANSIENT,
        Category.PROXY,
        Category.SERVER,
        Category.SERVER_STORAGE,
        Category.THROTTLED,
    }
)
"""Failures that say the host, or the way to it, is in trouble."""

HOST_ANSWERED = frozenset(
    {
        Category.INTERRUPTED,
        Category.TLS_PERMANENT,
        Category.BAD_REQUEST,
        Category.AUTH,
        Category.PAYMENT,
        Category.NOT_FOUND,
        Category.GONE,
        Category.CONFLICT,
        Category.LOCKED,
        Category.CHANGED,
        Category.RANGES,
        Category.PROTOCOL,
        Category.NEEDS_LINK,
        Category.DIGEST,
        Category.FINAL_DIGEST,
        Category.REMOTE_DATA,
    }
)
"""Failures in which the host answered: for the gate, successes. What is in neither set says nothing about the host."""


class GateSettings(Struct, frozen=True, kw_only=True):
    """How a gate behaves. Times are seconds, rates requests per second."""

    threshold: int = 5
    """Failures in a row that open it."""
    probe_base_s: float = 5.0
    """Shortest time before a probe."""
    probe_cap_s: float = 15.0
    """Longest time before a probe, unless the host asks for more."""
    probe_lease_s: float = 30.0
    """A probe not heard of for so long is given up."""
    start_rate: float = 1.0
    """Admitted after a successful probe; also the least rate while reopening."""
    increase: float = 1.0
    """Added to the rate for each second's worth of successes."""
    decrease: float = 0.5
    """Factor on the rate after a failure, at most once a second."""
    spread_s: float = 1.0
    """Those told to wait come back spread over so long."""
    quiet_s: float = 10.0
    """It closes when for so long nothing failed and nobody was held back."""
    max_hold_s: float = 21_600.0
    """Longest time it stays open because the host asked; a longer wait is the policy's to refuse."""


DEFAULTS = GateSettings()


class GateState(Struct, frozen=True, kw_only=True):
    """One host's gate: a row of scalars. Times are seconds since the epoch."""

    phase: GatePhase = GatePhase.CLOSED
    failures: int = 0
    """In a row, of ``HOST_FAILED``."""
    opened: int = 0
    """Times in a row it opened without closing in between."""
    until: float = 0.0
    """OPEN: when a probe may go. HALF_OPEN: when the probe's lease ends. REOPENING: when the next may go."""
    probe_owner: str | None = None
    """Who holds the probe; one name for each attempt, not for each process."""
    rate: float = 0.0
    """Requests per second admitted while reopening."""
    eased_at: float = 0.0
    """When the rate last fell, or reopening began."""
    held_at: float = 0.0
    """When a caller was last told to wait while reopening."""
    since: float = 0.0
    """When the phase began; a present before that tells that the clock was set back."""

    @property
    def held_until(self) -> float | None:
        """When the next request may be tried, for people; None when requests go through."""
        return self.until if self.phase in {GatePhase.OPEN, GatePhase.HALF_OPEN} else None


class Admit(Struct, frozen=True):
    """Go. A ``probe`` must report ``succeeded``, ``failed`` or, when cancelled, ``released`` under its owner's name."""

    probe: bool = False


class Wait(Struct, frozen=True):
    """Ask again at ``until`` (seconds since the epoch), not before."""

    until: float


class HostGateOpen(Exception):  # noqa: N818 - says what happened, as its siblings do
    """Raised in place of a request that is not admitted now; declares itself as AFTER, so it uses up no attempt."""

    def __init__(self, host: str, wait_s: float) -> None:
        """Keep the host and the seconds to wait."""
        super().__init__(host, wait_s)
        self.host = host
        self.wait_s = max(0.0, wait_s)

    def __str__(self) -> str:
        """Return who is left alone, and for how long."""
        return f"{self.host} is left alone for another {self.wait_s:.1f} s"

    @property
    def recovery_hint(self) -> Verdict:
        """The verdict on this exception."""
        return replace(machine.GATE, retry_after_s=self.wait_s)


def gate_transition(old: GatePhase, new: GatePhase) -> GatePhase:
    """Return ``new`` if a gate may go there from ``old``; raises IllegalTransition."""
    if new not in TRANSITIONS[old]:
        raise IllegalTransition(old, new)
    return new


def admit(
    state: GateState,
    now: float,
    draw: float,
    owner: str,
    *,
    asked_for: bool = False,
    settings: GateSettings = DEFAULTS,
) -> tuple[GateState, Admit | Wait]:
    """Ask to make one request; return the state to keep (the same object if nothing changed) and the answer.

    ``draw`` is a random number in [0, 1), ``owner`` a name of this attempt. ``asked_for``: a person wants it now. That
    makes the next probe of it, so that the gate learns what comes of it; there is one probe, however many ask.
    """
    state = _on_this_clock(state, now)
    back_at = max(now, state.until) + settings.spread_s * draw
    match state.phase:
        case GatePhase.CLOSED:
            return state, Admit()
        case GatePhase.OPEN:
            early = now < state.until and not asked_for
            return (state, Wait(back_at)) if early else _probe(state, now, owner, settings)
        case GatePhase.HALF_OPEN:
            if now >= state.until:
                return _lease(state, now, owner, settings), Admit(probe=True)
            # The probe may settle at any moment: look again soon, not when its lease ends.
            return state, Wait(min(state.until, now + settings.spread_s * (0.5 + draw)))
        case _:  # REOPENING
            return _admit_gradually(state, now, back_at, settings)


def _probe(state: GateState, now: float, owner: str, settings: GateSettings) -> tuple[GateState, Admit]:
    half_open = replace(state, phase=gate_transition(state.phase, GatePhase.HALF_OPEN), since=now)
    return _lease(half_open, now, owner, settings), Admit(probe=True)


def _lease(state: GateState, now: float, owner: str, settings: GateSettings) -> GateState:
    return replace(state, probe_owner=owner, until=now + settings.probe_lease_s)


def _admit_gradually(
    state: GateState, now: float, back_at: float, settings: GateSettings
) -> tuple[GateState, Admit | Wait]:
    if now - max(state.eased_at, state.held_at) >= settings.quiet_s:
        return GateState(phase=gate_transition(state.phase, GatePhase.CLOSED)), Admit()
    if now >= state.until:
        return replace(state, until=now + 1.0 / state.rate), Admit()
    # Noted to the second only: the state is a row in a file, and this happens often.
    noted = state if now - state.held_at < 1.0 else replace(state, held_at=now)
    return noted, Wait(back_at)


def succeeded(state: GateState, now: float, *, owner: str = "", settings: GateSettings = DEFAULTS) -> GateState:
    """Note that the host answered ``owner``'s request. A straggler's success while the gate is open changes nothing."""
    match state.phase:
        case GatePhase.CLOSED:
            return state if state.failures == 0 else replace(state, failures=0)
        case GatePhase.HALF_OPEN if owner == state.probe_owner:
            rate = max(settings.start_rate, state.rate)
            return replace(
                state,
                phase=gate_transition(state.phase, GatePhase.REOPENING),
                failures=0,
                probe_owner=None,
                rate=rate,
                until=now + 1.0 / rate,
                eased_at=now,
                held_at=now,
                since=now,
            )
        case GatePhase.REOPENING:
            # rate successes make a second's worth, and together they add ``increase``
            return replace(state, failures=0, rate=state.rate + settings.increase / state.rate)
        case _:
            return state


def failed(
    state: GateState, verdict: Verdict, now: float, draw: float, *, owner: str = "", settings: GateSettings = DEFAULTS
) -> GateState:
    """Note that ``owner``'s request failed; the verdict says whether that is the host's doing."""
    if verdict.category in HOST_ANSWERED:
        return succeeded(state, now, owner=owner, settings=settings)
    if verdict.category not in HOST_FAILED:
        return released(state, now, owner=owner)
    failures = state.failures + 1
    if verdict.retry_after_s:  # a wait of zero is no wait: an ordinary failure
        hold = min(verdict.retry_after_s, settings.max_hold_s)
        return _asked_to_wait(state, failures, now, now + hold + settings.spread_s * draw, settings)
    match state.phase:
        case GatePhase.CLOSED | GatePhase.REOPENING if failures >= settings.threshold:
            return _open(state, failures, now, draw, settings)
        case GatePhase.CLOSED:
            return replace(state, failures=failures)
        case GatePhase.HALF_OPEN if owner == state.probe_owner:
            return replace(_open(state, failures, now, draw, settings), rate=0.0)
        case GatePhase.REOPENING:
            eased = replace(state, failures=failures)
            # Failures come in flocks, one event each; halve once for the flock, as TCP does once a round trip.
            return eased if now - state.eased_at < 1.0 else _ease(eased, now, settings)
        case _:
            return state


def released(state: GateState, now: float, *, owner: str) -> GateState:
    """Give an admission back unused (cancelled, or failed for a reason of our own); a probe becomes free at once."""
    if state.phase is GatePhase.HALF_OPEN and owner == state.probe_owner:
        return replace(
            state, phase=gate_transition(state.phase, GatePhase.OPEN), probe_owner=None, until=now, since=now
        )
    return state


def _open(state: GateState, failures: int, now: float, draw: float, settings: GateSettings) -> GateState:
    widest = min(settings.probe_cap_s, settings.probe_base_s * 2.0 ** min(state.opened + 1, 10))
    hold = settings.probe_base_s + max(0.0, widest - settings.probe_base_s) * draw
    return _hold(state, failures, now, now + hold, settings)


def _asked_to_wait(state: GateState, failures: int, now: float, until: float, settings: GateSettings) -> GateState:
    """Open because the host said for how long; while open already, only a longer wait counts."""
    if state.phase is GatePhase.OPEN:
        return replace(state, until=max(state.until, until))
    return _hold(state, failures, now, until, settings)


def _hold(state: GateState, failures: int, now: float, until: float, settings: GateSettings) -> GateState:
    return replace(
        state,
        phase=gate_transition(state.phase, GatePhase.OPEN),
        failures=failures,
        opened=state.opened + 1,
        until=until,
        probe_owner=None,
        # a host that only asked for a pause while reopening goes on at half the rate, not from the beginning
        rate=state.rate * settings.decrease,
        since=now,
    )


def _ease(state: GateState, now: float, settings: GateSettings) -> GateState:
    rate = max(settings.start_rate, state.rate * settings.decrease)
    return replace(state, rate=rate, until=now + 1.0 / rate, eased_at=now)


def _on_this_clock(state: GateState, now: float) -> GateState:
    """Return the state with its times moved along with a clock that was set back, so that nobody waits for the past."""
    back = state.since - now
    if back <= 0:
        return state
    return replace(
        state, until=state.until - back, eased_at=state.eased_at - back, held_at=state.held_at - back, since=now
    )
