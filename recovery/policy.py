"""Decides what follows a failed attempt: a pure function that neither sleeps nor raises; acting is the supervisor's.

Three meters run at once, and the first to run out ends the operation: failures in a row without durable progress,
attempts in total, and the deadline. A retry waits a *full-jitter* backoff, the random share taken after the cap (500
clients whose waits all end at the cap come back as one), and never less than the server asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from recovery.history import History
from recovery.taxonomy import network
from recovery.verdict import Action, Category, Condition, Verdict

__all__ = ["DeadlineExceeded", "Decision", "GiveUp", "Park", "Retry", "RetryPolicy", "backoff", "decide"]


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """How patient an operation is. Times are seconds; zero is a value and never means "unset"; None means no limit."""

    max_no_progress: int = 3
    """Retries in a row, after the first try, without durable progress. 0: never retry, whatever was achieved."""
    count_waits: bool = False
    """Whether a try that the server only put off (429, ``Retry-After``) is one of those. Not by default: a server that
    says when to come back is not failing. True for whoever has named a number and means it.
    """
    max_attempts: int = 50
    """Attempts in total, the first included, before a person is asked."""
    deadline_s: float | None = 86_400.0
    """From the first try on; time spent parked does not count. No try begins later, and one that is being made then is
    stopped (DeadlineExceeded). A function that is not async cannot be: it ends at its next step, and a result counts. A
    deadline of a day or more stops no try in memory.
    """
    base: float = 1.0
    """Longest wait before the first retry."""
    factor: float = 2.0
    """How much longer each following wait may be; at least 1."""
    cap: float = 60.0
    """Longest wait of all, unless the server asks for more."""
    attempt_timeout_s: float | None = None
    """For one attempt, which is then cancelled, and again every 5 s until it ends."""
    max_retry_after_s: float = 21_600.0
    """A server that asks for more (urllib3 stops at the same six hours) is given up."""
    persist_above_s: float = 60.0
    """Waits longer than this are kept as a schedule and give the worker free."""

    def __post_init__(self) -> None:
        """Refuse numbers that make no policy; raises ValueError. NaN fails every comparison, hence the ``not``."""
        least: dict[str, tuple[float | None, float]] = {
            "max_no_progress": (self.max_no_progress, 0),
            "max_attempts": (self.max_attempts, 0),
            "deadline_s": (self.deadline_s, 0),
            "base": (self.base, 0),
            "factor": (self.factor, 1),
            "cap": (self.cap, 0),
            "attempt_timeout_s": (self.attempt_timeout_s, 0),
            "max_retry_after_s": (self.max_retry_after_s, 0),
            "persist_above_s": (self.persist_above_s, 0),
        }
        for name, (value, lowest) in least.items():
            if value is not None and not value >= lowest:
                raise ValueError(f"{name} must be at least {lowest}, not {value}")
        if math.isinf(self.base) or math.isinf(self.cap):
            raise ValueError("base and cap must be finite")


class DeadlineExceeded(TimeoutError):  # noqa: N818 - says what happened, as its siblings do
    """The operation's own deadline ran out during an attempt; unlike any other TimeoutError it is not tried again."""

    recovery_hint = network.DEADLINE


class Retry(Struct, frozen=True):
    """Try again after ``delay_s`` seconds, on a new connection if ``fresh``."""

    delay_s: float
    fresh: bool
    reason: str


class Park(Struct, frozen=True):
    """Wait for ``condition``, looking again every ``poll_s`` seconds; uses up no attempt and no deadline."""

    condition: Condition
    poll_s: float
    reason: str


class GiveUp(Struct, frozen=True):
    """No more attempts by itself; ``reason`` says which meter ran out or why trying is pointless."""

    reason: str
    out_of_time: bool = False
    """A wait would be longer than was allowed: what the failure itself does not tell."""


Decision = Retry | Park | GiveUp

_AT_ONCE_S = 0.1
"""Longest wait before the first try on a new connection."""

_PACE: Mapping[Category, float] = MappingProxyType(
    {
        Category.TRANSIENT_FILE: 0.1,  # the other program is usually done in a moment
        Category.STORE_BUSY: 0.1,
        Category.LOCKED: 10.0,  # people hold WebDAV locks, and servers' disks are emptied by people
        Category.SERVER_STORAGE: 10.0,
    }
)
"""Factor on every wait (before the cap) for categories that pass faster or slower than networks do."""

_POLL_S: Mapping[Condition, tuple[float, float]] = MappingProxyType(
    {
        Condition.DISK_SPACE: (5.0, 30.0),
        Condition.NETWORK: (2.0, 30.0),
        Condition.DESCRIPTORS: (1.0, 5.0),
        Condition.LOGIN: (5.0, 60.0),
    }
)
"""Shortest and longest time between two looks at a condition."""


def decide(policy: RetryPolicy, history: History, verdict: Verdict, *, now: float, draw: float) -> Decision:
    """Return what follows the failure that ``verdict`` judges and ``history`` already includes.

    ``now`` is seconds since the epoch, ``draw`` a random number in [0, 1).
    """
    if verdict.condition is not None:
        return Park(verdict.condition, _poll(verdict.condition, history.category_run, draw), verdict.code)
    refusal = _hopeless(verdict) or _used_up(policy, history, verdict) or _over_budget(history, verdict)
    if refusal is not None:
        return GiveUp(refusal)
    asked = verdict.retry_after_s
    if asked is not None and asked > policy.max_retry_after_s:
        reason = f"the server asks to wait {asked:.0f} s, longer than the {policy.max_retry_after_s:.0f} s allowed"
        return GiveUp(reason, out_of_time=True)
    delay = max(backoff(policy, history, verdict, draw), 0.0 if asked is None else asked)
    if policy.deadline_s is not None and now + delay >= history.started_at + policy.deadline_s:
        return GiveUp(f"the next try would come after the deadline of {policy.deadline_s:.0f} s", out_of_time=True)
    reason = f"{verdict.code}: {history.attempts} attempts, {history.no_progress} failures in a row without progress"
    return Retry(delay, verdict.action is Action.RETRY_FRESH, reason)


def backoff(policy: RetryPolicy, history: History, verdict: Verdict, draw: float) -> float:
    """Return the seconds to wait, the server's wishes aside: ``draw`` times the capped exponential."""
    # AFTER does not count as a failure without progress, so its waits grow with its own run.
    failures = history.category_run if verdict.action is Action.AFTER else history.no_progress
    first = policy.base * _PACE.get(verdict.category, 1.0)
    try:
        longest = min(policy.cap, first * policy.factor ** max(0, failures - 1))
    except OverflowError:  # from attempt 1,025 on (stamina#104)
        longest = policy.cap if first > 0 else 0.0
    if verdict.action is Action.RETRY_FRESH and history.category_run <= 1:
        longest = min(longest, _AT_ONCE_S)
    return longest * draw


def _hopeless(verdict: Verdict) -> str | None:
    """Return why no attempt could help, None if one could."""
    if verdict.action is Action.ASK:
        return "a person has to act first"
    if verdict.action in {Action.FAIL, Action.PROPAGATE}:
        return "trying again would not help"
    return None


def _used_up(policy: RetryPolicy, history: History, verdict: Verdict) -> str | None:
    """Return which of the policy's meters ran out, None if none did."""
    if policy.max_no_progress == 0:
        return "no retries are allowed"
    # A limit above the policy's number raises it; one below is enforced for its own category in _over_budget.
    if history.no_progress > max(policy.max_no_progress, verdict.limit or 0):
        return f"{history.no_progress} failures in a row without progress"
    if history.counted >= policy.max_attempts:
        return f"{history.counted} attempts, the most allowed"
    return None


def _over_budget(history: History, verdict: Verdict) -> str | None:
    """Return which of the verdict's own budgets ran out, None if none did."""
    once = 1 if verdict.limit is None else verdict.limit
    if verdict.action is Action.RESTART:
        return f"restarted {once} time(s) already" if history.restarts > once else None
    if verdict.action is Action.REFRESH:
        return f"a new link was tried {once} time(s) already" if history.refreshes > once else None
    if verdict.limit is not None and history.category_run > verdict.limit:
        return f"retried {verdict.limit} time(s) for this reason, the most that makes sense"
    return None


def _poll(condition: Condition, run: int, draw: float) -> float:
    shortest, longest = _POLL_S[condition]
    widest = min(longest, shortest * 2.0 ** min(run, 10))
    return shortest + (widest - shortest) * draw
