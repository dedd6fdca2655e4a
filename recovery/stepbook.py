"""What the steps of one operation returned, kept for its next attempt: in memory, and in the journal if it has one.

It keeps and hands out; the steps are run by ``steps``, taken back by ``compensation``. Trouble with the store is no
trouble of the operation: what could not be saved is saved with the next step that can.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

from msgspec import Struct

from recovery.control import Attempt
from recovery.logbook import StoreEdge
from recovery.plainjson import plain
from recovery.records import JsonValue
from recovery.rows import to_json
from recovery.shield import to_the_end

__all__ = ["Done", "JournalStepBook", "StepBook", "StepStore", "Undo"]

log = logging.getLogger("recovery.steps")

Undo: TypeAlias = Callable[[Any], Awaitable[object] | object]
"""Takes what the step returned and takes it back; called at least once, so a second call must do no harm."""

_UNDOING = "~undoing"
_ALTERNATIVE = "~alternative"


@runtime_checkable
class StepStore(Protocol):
    """What steps ask of a journal: of ``recovery.journal.Journal``, or ``recovery.testing.MemoryJournal``."""

    async def steps(self, operation_id: str) -> dict[str, Any]:
        """Return what was saved, by name."""

    async def save_step(
        self,
        operation_id: str,
        generation: int,
        name: str,
        data: JsonValue,
        *,
        progress: tuple[int, int | None] | None = None,
    ) -> None:
        """Insert or replace; raises Fenced when the generation is stale."""

    async def forget_steps(
        self,
        operation_id: str,
        generation: int,
        names: Collection[str] | None = None,
        *,
        progress: tuple[int, int | None] | None = None,
    ) -> None:
        """Delete these, or all; raises Fenced when the generation is stale."""


class Done(Struct, frozen=True):
    """A step that was done, or a checkpoint."""

    value: Any
    number: int
    """Counts the steps of an operation in the order in which they were done first."""
    undo: bool
    """Whether there is something to take back."""


class StepBook:
    """The steps of one operation in memory; values are the very objects that the steps returned."""

    def __init__(self) -> None:
        """Nothing was done yet."""
        self.done: dict[str, Done] = {}
        self.undos: dict[str, Undo] = {}
        """How to take back what was done, as far as it is known in this process."""
        self.given_up: str | None = None
        """Why it was given up; from then on nothing new is done, and what was done is taken back."""
        self.alternative = 0
        """Which of the ways to do it is being tried."""
        self.attempt: Attempt | None = None
        """A supervisor's, whose meter of progress counts what is done."""

    async def begin(self, attempt: Attempt) -> None:
        """Get ready for a supervisor's next attempt."""
        self.attempt = attempt

    async def keep(self, name: str, value: Any, *, undo: bool) -> bool:
        """Remember what a step returned; return whether that is news.

        Raises:
            NotPlain, ValueError: the value cannot be stored; it is remembered in this process all the same.
        """
        before = self.done.get(name)
        number = 1 + max((each.number for each in self.done.values()), default=0) if before is None else before.number
        self.done[name] = Done(value, number, undo)
        news = before is None or before.value != value
        if news:
            self._count()
        return news

    async def forget(self, name: str) -> None:
        """Forget a step that was taken back."""
        self.done.pop(name, None)
        self.undos.pop(name, None)
        self._count()

    async def give_up(self, reason: str | None) -> None:
        """Note that everything is to be taken back, or (None) that it has been."""
        self.given_up = reason

    async def turn_to(self, alternative: int) -> None:
        """Note which way is tried from now on."""
        self.alternative = alternative

    def _count(self) -> None:
        if self.attempt is not None:
            self.attempt.progress(self.attempt.done + 1)

    @property
    def knows_every_undo(self) -> bool:
        """Whether the code has come to the line that says how, for all that has to be taken back."""
        return all(name in self.undos for name in self.to_undo)

    @property
    def to_undo(self) -> list[str]:
        """What has to be taken back, the newest first."""
        newest_first = sorted(self.done, key=lambda name: self.done[name].number, reverse=True)
        return [name for name in newest_first if self.done[name].undo]


class JournalStepBook(StepBook):
    """The same, durable. What is kept is what JSON makes of it, so that a resumed program sees what this one saw."""

    def __init__(self, store: StepStore, edge: StoreEdge) -> None:
        """``edge`` turns trouble with the store into news about it."""
        super().__init__()
        self._store = store
        self._edge = edge
        self._loaded = False
        self._unsaved: dict[str, JsonValue | None] = {}
        """Rows that the journal has not taken yet; None is one to be deleted."""

    async def begin(self, attempt: Attempt) -> None:
        """Read what former processes left; tried again with every attempt until it could be read."""
        await super().begin(attempt)
        if attempt.generation == 1:
            self._loaded = True  # nobody has had it before
        if self._loaded:
            return
        rows = await self._edge.ask(self._store.steps(attempt.operation_id))
        if rows is not None:
            self._loaded = True
            self._take_in(rows)

    async def keep(self, name: str, value: Any, *, undo: bool) -> bool:
        """See ``StepBook.keep``."""
        news = await super().keep(name, value, undo=undo)
        done = self.done[name]
        data = plain(value)
        row: JsonValue = {"data": data, "n": done.number, "undo": undo}
        to_json(row)  # too long is said now, and not by the store, whose trouble is nobody's error
        self.done[name] = Done(data, done.number, undo)
        await self._write(name, row)
        return news

    async def forget(self, name: str) -> None:
        """See ``StepBook.forget``."""
        await super().forget(name)
        await self._write(name, None)

    async def give_up(self, reason: str | None) -> None:
        """See ``StepBook.give_up``."""
        await super().give_up(reason)
        await self._write(_UNDOING, None if reason is None else {"data": reason})

    async def turn_to(self, alternative: int) -> None:
        """See ``StepBook.turn_to``."""
        await super().turn_to(alternative)
        await self._write(_ALTERNATIVE, {"data": alternative})

    async def _write(self, name: str, row: JsonValue | None) -> None:
        self._unsaved.pop(name, None)
        self._unsaved[name] = row
        # Shielded: what was done is done, also when its operation is paused in this moment.
        await to_the_end(self._flush())

    async def _flush(self) -> None:
        attempt = self.attempt
        if attempt is None or attempt.generation == 0:
            return  # the lease could not be taken in the journal; the next attempt may have it
        while self._unsaved:
            name, row = next(iter(self._unsaved.items()))
            if not await self._edge.ask(self._send(attempt, name, row)):
                return
            if self._unsaved.get(name) is row:
                del self._unsaved[name]

    async def _send(self, attempt: Attempt, name: str, row: JsonValue | None) -> bool:
        operation_id, generation = attempt.operation_id, attempt.generation
        progress = (attempt.done, attempt.total)
        if row is None:
            await self._store.forget_steps(operation_id, generation, [name], progress=progress)
        else:
            await self._store.save_step(operation_id, generation, name, row, progress=progress)
        return True

    def _take_in(self, rows: Mapping[str, Any]) -> None:
        for name, row in rows.items():
            if not isinstance(row, Mapping) or "data" not in row:
                log.warning("step-unreadable", extra={"step": name})
            elif name == _UNDOING:
                self.given_up = self.given_up or str(row["data"])
            elif name == _ALTERNATIVE:
                self.alternative = max(self.alternative, int(row["data"]))
            elif name not in self.done and name not in self._unsaved:
                self.done[name] = Done(row["data"], int(row.get("n", 0)), bool(row.get("undo")))
