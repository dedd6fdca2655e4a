"""The patience that is left for one call in memory: the same meters and the same decisions as a supervisor's.

It judges and counts; waiting is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable

from recovery.attempt_task import Limit
from recovery.classify import Classifier
from recovery.clock import Clock
from recovery.history import History
from recovery.policy import Decision, RetryPolicy, decide
from recovery.switches import SWITCHES
from recovery.verdict import Action, Verdict

__all__ = ["Budget"]


class Budget:
    """Of one call; ``started_at`` is when it began, on the monotonic clock."""

    __slots__ = ("_classifier", "_clock", "_draw", "history", "policy", "verdict")

    def __init__(
        self, policy: RetryPolicy, classifier: Classifier, clock: Clock, draw: Callable[[], float], started_at: float
    ) -> None:
        """Nothing has failed yet."""
        self.policy = SWITCHES.policy(policy)
        self._classifier = classifier
        self._clock = clock
        self._draw = draw
        # The monotonic clock stands in for the date: nothing of this outlives the process.
        self.history = History(started_at=started_at)
        self.verdict: Verdict | None = None
        """On the newest failure."""

    def judge(self, error: BaseException, *, progressed: bool) -> Decision | None:
        """Count a failed attempt and return what follows; None when it is control flow, to be raised as it is."""
        verdict = self._classifier.classify(error)
        if verdict.action is Action.PROPAGATE:
            return None
        self.verdict = verdict
        self.history = self.history.after_failure(verdict, progressed=progressed, count_waits=self.policy.count_waits)
        return decide(self.policy, self.history, verdict, now=self._clock.monotonic(), draw=self._draw())

    def refill(self) -> None:
        """Open a fresh budget: there is another way."""
        self.history = self.history.fresh_budget(self._clock.monotonic())

    def after_park(self, seconds: float) -> None:
        """Leave the seconds spent parked out of the deadline."""
        self.history = self.history.after_park(seconds)

    def limit(self) -> Limit | None:
        """Return how long the next attempt may take."""
        return Limit.of(self.policy, self.history, self._clock.monotonic())
