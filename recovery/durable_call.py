"""One call of a recoverable function with a journal: what a supervisor runs, and what it does when it is given up.

Made for each call. Whoever runs operations in another way (a task queue that may not sleep) makes one itself and hands
``spec``, ``attempt``, ``give_up`` and the classifier to its own supervisor.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from recovery.control import Attempt, Control
from recovery.memory_call import no_coroutine, run, run_blocking
from recovery.recipe import Recipe
from recovery.stepbook import Undo
from recovery.stepped import Stepped
from recovery.steps import CURRENT, RunningSyncOperation
from recovery.supervisor import Supervisor
from recovery.turns import Turns

__all__ = ["DurableCall"]


class DurableCall:
    """``turns`` None: the function is async, and everything happens in the event loop."""

    def __init__(
        self,
        recipe: Recipe,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        supervisor: Supervisor,
        turns: Turns | None = None,
    ) -> None:
        """Name the operation; nothing runs yet.

        Raises:
            TypeError, ValueError: the arguments do not fit the function, or make no key.
        """
        self.spec = recipe.spec(args, kwargs)
        self._recipe = recipe
        self._args = args
        self._kwargs = kwargs
        self._supervisor = supervisor
        self._turns = turns
        self._stepped = Stepped(self.spec.key, supervisor.journal, supervisor.edge, self._call_undo)
        self._ways = [partial(self._call, way) for way in recipe.ways]

    async def run(self, control: Control | None = None) -> Any:
        """Run it to its end; see ``Supervisor.run``."""
        return await self._supervisor.run(
            self.spec, self.attempt, control=control, classifier=self._recipe.classifier, on_give_up=self.give_up
        )

    async def attempt(self, attempt: Attempt) -> Any:
        """Make one attempt.

        Raises:
            GaveUp: a former process had given it up; what is left to be taken back is, next.
        """
        attempt.in_thread = self._turns is not None
        return await self._stepped.attempt(attempt, self._ways)

    async def give_up(self, error: BaseException) -> bool:
        """Turn to the next way and return True, or take back what was done and return False."""
        book = self._stepped.book
        way = book.alternative
        if book.given_up is None and self._recipe.has_way_after(way, self._recipe.classifier.classify(error)):
            await book.turn_to(way + 1)
            return True
        return await self._stepped.take_back(error)

    async def _call(self, way: Callable[..., Any]) -> Any:
        if self._turns is not None:
            return await self._turns.call(partial(self._call_here, way, self._turns))
        token = CURRENT.set(self._stepped.operation)
        try:
            result = way(*self._args, **self._kwargs)
            return await result if inspect.isawaitable(result) else result
        finally:
            CURRENT.reset(token)

    def _call_here(self, way: Callable[..., Any], turns: Turns) -> Any:
        token = CURRENT.set(RunningSyncOperation(self._stepped.operation, turns.wait_for))
        try:
            return no_coroutine(way(*self._args, **self._kwargs))
        finally:
            CURRENT.reset(token)

    async def _call_undo(self, undo: Undo, value: Any) -> object:
        recipe = self._recipe.for_undo(undo)
        if self._turns is None:
            return await run(recipe, (value,), {})
        return await self._turns.call(partial(run_blocking, recipe, (value,), {}))
