"""The two ends of a supervised operation that its user holds: ``Attempt`` inside the callable, ``Control`` outside.

Neither decides anything: an attempt reports durable progress, a control carries wishes; the supervisor acts on both.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from enum import StrEnum

from recovery.history import History
from recovery.states import State
from recovery.verdict import Verdict

__all__ = ["Attempt", "Control", "Wish"]


class Wish(StrEnum):
    """What a person asked a running operation to do."""

    PAUSE = "pause"
    CANCEL = "cancel"


class Attempt:
    """One try, as its callable sees it. The callable may ignore it; it never needs to know that it is retried."""

    __slots__ = (
        "_lowest",
        "done",
        "fresh",
        "generation",
        "history",
        "in_thread",
        "number",
        "operation_id",
        "total",
        "verdict",
    )

    def __init__(
        self,
        *,
        operation_id: str,
        generation: int,
        history: History,
        verdict: Verdict | None = None,
        fresh: bool = False,
        done: int = 0,
        total: int | None = None,
    ) -> None:
        """``done`` and ``total`` are what earlier attempts left."""
        self.operation_id = operation_id
        self.generation = generation
        """Fencing token: writes made on behalf of this attempt carry it, and fail once another owner has taken over."""
        self.history = history
        """What came before this attempt."""
        self.number = history.attempts + 1
        """Counted over all processes, from 1."""
        self.verdict = verdict
        """Of the failure before this attempt; None for the first one of this process."""
        self.fresh = fresh
        """Do not reuse what the attempt before used (its connection, above all)."""
        self.in_thread = False
        """Set where a thread does the work: it cannot be interrupted, so that its run waits for it, however long, and
        nobody else may have the operation meanwhile."""
        self.done = done
        """Durable units, as last reported."""
        self.total = total
        self._lowest = done

    def __repr__(self) -> str:
        """Show number, operation and progress."""
        return (
            f"<Attempt {self.number} of {self.operation_id}: {self.done}/{'?' if self.total is None else self.total}>"
        )

    def progress(self, done: int, total: int | None = None) -> None:
        """Report how many units are durable now, out of ``total`` where that is known. Cheap; nothing is written.

        Growth since the attempt began (or since the lowest value it reported, when an audit found less than was
        thought) refills the budget of failures without progress.

        Raises:
            TypeError: not whole numbers: a share of the work is ``progress(part, whole)``.
            ValueError: below zero, or more than a row can hold.
        """
        done = _units(done)
        if total is not None:
            self.total = _units(total)
        self.done = done
        self._lowest = min(self._lowest, done)

    @property
    def progressed(self) -> bool:
        """Whether durable work was added in this attempt."""
        return self.done > self._lowest


def _units(number: int) -> int:
    try:
        units = operator.index(number)
    except TypeError:
        msg = f"progress is counted in whole units, such as progress(1, 2) for a half, not {number!r}"
        raise TypeError(msg) from None
    if not 0 <= units < 1 << 63:
        raise ValueError(f"progress is from 0 to 2**63 - 1 units, not {units}")
    return units


class Control:
    """Steers one ``Supervisor.run`` and remembers how it stands. For one run; every method may be called at any time.

    Call it on the event loop's thread; from another one use ``loop.call_soon_threadsafe(control.pause)``.
    """

    __slots__ = ("_retry", "_wake", "requested", "state", "verdict")

    def __init__(self) -> None:
        """Begin without a wish."""
        self.requested: Wish | None = None
        """What was asked for and cannot be taken back: PAUSE may still become CANCEL."""
        self.state: State | None = None
        """Of the operation, as last recorded; None before it began."""
        self.verdict: Verdict | None = None
        """On the newest failure; it stays when the run ends by raising that failure."""
        self._retry = False
        self._wake: Callable[[], None] | None = None

    def __repr__(self) -> str:
        """Show state and wish."""
        return f"<Control state={self.state} requested={self.requested} retry_now={self._retry}>"

    def pause(self) -> None:
        """Stop and keep everything: a running attempt is cancelled and its clean-up awaited.

        The run raises OperationPaused.
        """
        if self.requested is None:
            self.requested = Wish.PAUSE
            self._call()

    def cancel(self) -> None:
        """Stop for good, otherwise like ``pause``. The run raises OperationCancelled."""
        if self.requested is not Wish.CANCEL:
            self.requested = Wish.CANCEL
            self._call()

    def retry_now(self) -> None:
        """End a wait at once and open a fresh budget. Before the run begins it says that a person asked for it.

        Nothing happens while an attempt runs: there is nothing to wait for.
        """
        self._retry = True
        self._call()

    def obey(self, command: str) -> bool:
        """Do what a command from the journal says; False for one that is not for an operation's run."""
        match command:
            case "pause":
                self.pause()
            case "cancel":
                self.cancel()
            case "retry_now":
                self.retry_now()
            case _:
                return False
        return True

    def attach(self, wake: Callable[[], None] | None) -> None:
        """Tell whom to wake; the supervisor does this.

        Raises:
            RuntimeError: another run uses this control now.
        """
        if wake is not None and self._wake is not None:
            raise RuntimeError("a Control steers one run at a time")
        self._wake = wake

    def take_retry(self) -> bool:
        """Return whether ``retry_now`` was asked for since the last call; the supervisor does this."""
        retry, self._retry = self._retry, False
        return retry

    @property
    def wants_retry(self) -> bool:
        """Whether a wait is to end."""
        return self._retry

    def _call(self) -> None:
        if self._wake is not None:
            self._wake()
