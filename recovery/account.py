"""What a run has to say of its operation: its history, its newest verdict, the attempt nobody has recorded yet, and the
entries that are made of them.

It writes through the logbook and tells the observers; it decides nothing.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from recovery.attempt_task import AttemptTask
from recovery.control import Attempt, Control
from recovery.history import History
from recovery.lifecycle import Fenced
from recovery.logbook import Entry, Logbook
from recovery.means import Means
from recovery.states import State
from recovery.verdict import Verdict

__all__ = ["Account"]


class Account:
    """The account of one run. ``book`` is the operation's row."""

    def __init__(self, means: Means, book: Logbook, control: Control) -> None:
        """Nothing has happened yet."""
        self.book = book
        self.history = History()
        self.verdict: Verdict | None = None
        """On the newest failure in this process."""
        self.unrecorded: AttemptTask[Any] | None = None
        """The attempt that is being made, or that ended without its record being made."""
        self.last: Entry | None = None
        """The entry that ends the run, once that is known; noted again if a cancellation interrupts it."""
        self.closed = False
        """Whether the run is over for the row: nothing more is to be written."""
        self._means = means
        self._control = control

    def new_attempt(self, *, fresh: bool) -> Attempt:
        """Return the next attempt, as its callable sees it."""
        operation = self.book.operation
        return Attempt(
            operation_id=operation.operation_id,
            generation=self.book.generation or 0,
            history=self.history,
            verdict=self.verdict,
            fresh=fresh,
            done=operation.progress_done,
            total=operation.progress_total,
        )

    @property
    def attempt_name(self) -> str:
        """A name for the next attempt that no other attempt of any operation has; it begins with the process's own."""
        return f"{self.book.operation.owner or ''}/{self.book.operation.operation_id}/{self.history.attempts + 1}"

    def refresh_budget(self) -> None:
        """Open a fresh budget, as of now."""
        self.history = self.history.fresh_budget(self._means.clock.time())

    # -- entries ------------------------------------------------------------------------------------------------------

    def failed(self, state: State, error: BaseException | str, *, wait_s: float | None = None) -> Entry:
        """Return the entry for a failed attempt and what follows it."""
        return self.entry(state, made=True, verdict=self.verdict, error=error, wait_s=wait_s)

    def entry(
        self,
        state: State,
        *,
        made: bool = False,
        verdict: Verdict | None = None,
        error: BaseException | str | None = None,
        wait_s: float | None = None,
    ) -> Entry:
        """Return the entry for a change; with ``made`` it also records the attempt that was being made, if any."""
        now = self._means.clock.time()
        text = self._means.describe(error) if isinstance(error, BaseException) else error
        trial, record, progress = self.unrecorded, None, None
        if made and trial is not None and trial.began:
            self.unrecorded = None
            number = trial.attempt.number
            record = trial.record(state, ended_at=now, verdict=verdict, error=text, delay_s=wait_s)
            progress = (trial.attempt.done, trial.attempt.total)
            if number > self.history.attempts:  # one that failed has been counted already
                spared = self.history.spared + (state is not State.COMPLETE)
                self.history = replace(self.history, attempts=number, spared=spared)
        return Entry(
            state=state,
            now=now,
            history=self.history,
            verdict=verdict,
            error=text,
            wait_s=wait_s,
            attempt=record,
            progress=progress,
        )

    # -- writing ------------------------------------------------------------------------------------------------------

    async def note(self, entry: Entry) -> None:
        """Record a change and tell it; raises Fenced, after which there is nothing more to be written."""
        previous = self.book.operation.state
        try:
            await self.book.note(entry)
        except Fenced:
            self.closed = True
            raise
        self._means.tell(self._control, self.book, previous, entry)

    async def end(self, entry: Entry) -> None:
        """Record the last change of the run, after which the lease is free whatever the change is."""
        self.last = entry
        await self.note(entry)
        if entry.wait_s is not None:
            await self.book.release(entry.now)  # somebody else, some time, makes the next attempt
        self.closed = True

    def tell(self) -> None:
        """Tell how the operation stands at the beginning."""
        self._means.tell(self._control, self.book, None, None)
