"""What an operation has been through, reduced to the numbers a decision needs. Pure and immutable; deciding is
``policy.py``.

Three meters: failures in a row without durable progress, attempts in total, and the time since the start. Progress
means *durable and verified* work, never "one byte arrived": a server that drips bytes must not be retried for ever
(huggingface_hub#1784), and a large file must not die of its fourth hiccup (cnpj-data-pipeline#101).
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from recovery.verdict import Action, Category, Verdict

__all__ = ["History"]


class History(Struct, frozen=True):
    """Attempts and failures so far. Times are seconds since the epoch."""

    attempts: int = 0
    """Attempts made in total; only grows."""
    no_progress: int = 0
    """Failures in a row without durable progress. PARK is not counted, and AFTER only where the policy says so: waiting
    on request is no failure.
    """
    started_at: float = 0.0
    """Start of the present budget; the deadline counts from here."""
    category: Category | None = None
    """Of the newest failure."""
    category_run: int = 0
    """Failures of that category in a row, the newest included, since the last durable progress."""
    restarts: int = 0
    """Times everything was given up in the present budget. Progress does not reset it: a file that changes daily
    would loop.
    """
    refreshes: int = 0
    """New links asked for since the last durable progress; links may well expire once an hour."""
    spared: int = 0
    """Attempts the total cap does not count: those of former budgets, and those that ended in PARK or whose verdict
    spares them.
    """

    @property
    def counted(self) -> int:
        """Attempts that count against the policy's cap."""
        return self.attempts - self.spared

    def after_failure(self, verdict: Verdict, *, progressed: bool, count_waits: bool = False) -> History:
        """Return the history with one more failed attempt; ``progressed`` if it made durable progress before it
        failed, ``count_waits`` as in the policy.
        """
        counts = verdict.action is not Action.PARK and (count_waits or verdict.action is not Action.AFTER)
        same = verdict.category is self.category and not progressed
        refreshes = 0 if progressed else self.refreshes
        return replace(
            self,
            attempts=self.attempts + 1,
            no_progress=0 if progressed else self.no_progress + counts,
            category=verdict.category,
            category_run=self.category_run + 1 if same else 1,
            restarts=self.restarts + (verdict.action is Action.RESTART),
            refreshes=refreshes + (verdict.action is Action.REFRESH),
            spared=self.spared + (verdict.spared or verdict.action is Action.PARK),
        )

    def fresh_budget(self, now: float) -> History:
        """Return the history with all meters at zero, as "retry now" wants it; ``attempts`` stays (gbrain#2974)."""
        return History(attempts=self.attempts, started_at=now, spared=self.attempts)

    def after_park(self, seconds: float) -> History:
        """Return the history with the start moved on by the seconds spent parked: waiting for a condition uses up
        no deadline.
        """
        return replace(self, started_at=self.started_at + max(0.0, seconds))
