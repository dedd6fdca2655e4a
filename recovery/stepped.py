"""One operation with its steps, whoever makes its attempts: what was done before, what is new, what to take back.

``@recoverable`` makes one for each durable call; task queues make one for each run of a task.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any, TypeGuard, cast

from recovery.compensation import GaveUp, take_back
from recovery.control import Attempt
from recovery.logbook import JournalPort, StoreEdge
from recovery.stepbook import JournalStepBook, StepBook, StepStore, Undo
from recovery.steps import NothingNew, RunningOperation

__all__ = ["Stepped", "Way"]

Way = Callable[[], Awaitable[Any]]
"""Calls the body, with ``recovery.steps.CURRENT`` set to the operation."""


class Stepped:
    """``operation`` is what the body sees of it."""

    def __init__(
        self,
        key: str,
        journal: JournalPort | None,
        edge: StoreEdge,
        call_undo: Callable[[Undo, Any], Awaitable[object]],
    ) -> None:
        """Nothing is read yet. ``edge`` is the one through which the supervisor asks the journal."""
        self.book = JournalStepBook(journal, edge) if _keeps_steps(journal) else StepBook()
        self.operation = RunningOperation("", key, self.book)
        self._call_undo = call_undo

    async def attempt(self, attempt: Attempt, ways: Sequence[Way]) -> Any:
        """Make one attempt, by the way that is being tried.

        Raises:
            GaveUp: a former process had given it up; what is left to be taken back is, by ``take_back``.
        """
        await self.book.begin(attempt)
        self.operation.operation_id = attempt.operation_id
        self.operation.begin_attempt(attempt.number)
        last = min(self.book.alternative, len(ways) - 1)
        if self.book.given_up is None:
            return await ways[last]()
        for way in ways[: last + 1]:
            if not self.book.knows_every_undo:
                await self._learn_undos(way)
        raise GaveUp(self.book.given_up)

    async def take_back(self, error: BaseException) -> bool:
        """Take back what was done, and return False: there is no other way. For ``Supervisor.run(on_give_up=...)``."""
        await take_back(self.book, self._call_undo, error)
        return False

    async def _learn_undos(self, way: Way) -> None:
        try:
            await way()
        except NothingNew:
            self.operation.begin_attempt(self.operation.attempt)


@lru_cache(maxsize=32)
def _of_kind(kind: Hashable) -> bool:
    return issubclass(cast("type", kind), StepStore)


def _keeps_steps(journal: JournalPort | None) -> TypeGuard[StepStore]:
    # To look for a protocol's methods one by one takes longer than all else that a durable call does before it begins.
    return _of_kind(cast("Hashable", type(journal)))
