"""One call of a recoverable function without a journal: try, wait, try again, another way, undo.

The success path that everybody takes is not here, it is in ``decorator``: a call that succeeds at once and that nobody
watches makes none of these objects. Two thin drivers, one that awaits and one that blocks, share what is decided.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Coroutine, Mapping
from types import CoroutineType
from typing import Any, TypeVar

from recovery.attempt_task import Insistence, Limit
from recovery.budget import Budget
from recovery.compensation import take_back
from recovery.memory_events import MemoryEvents, watched
from recovery.notes import note_on
from recovery.policy import GiveUp, Park, Retry
from recovery.recipe import Recipe
from recovery.redaction import describe
from recovery.states import State
from recovery.steps import CURRENT, RunningOperation, RunningSyncOperation, Undo
from recovery.switches import SWITCHES

__all__ = [
    "MemoryCall",
    "at_once",
    "go_on",
    "go_on_blocking",
    "no_coroutine",
    "run",
    "run_blocking",
    "timed",
    "worth_a_timer",
]

T = TypeVar("T")

log = logging.getLogger("recovery.decorator")

_UNTIMED_S = 86_400.0


def worth_a_timer(recipe: Recipe) -> bool:
    """Return whether every attempt needs a timer.

    One costs ten times the rest of a call, so for a deadline of a day or more, which is the default, it is enough to
    look at the time between attempts.
    """
    policy = recipe.policy
    return policy.attempt_timeout_s is not None or (policy.deadline_s is not None and policy.deadline_s < _UNTIMED_S)


class MemoryCall:
    """One call and what is left of its budget. ``started_at`` is when it began, on the recipe's monotonic clock."""

    def __init__(
        self,
        recipe: Recipe,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        operation: RunningOperation | None = None,
        started_at: float | None = None,
    ) -> None:
        """With ``operation`` the first attempt has been made already, as that operation."""
        self.recipe = recipe
        self.operation = operation or RunningOperation()
        begun = recipe.clock.monotonic() if started_at is None else started_at
        self._args = args
        self._kwargs = kwargs
        self._way = 0
        self._budget = Budget(recipe.policy, recipe.classifier, recipe.clock, recipe.draw, begun)
        self._events = MemoryEvents(recipe, args, kwargs) if watched(recipe) else None

    def invoke(self) -> Any:
        """Call the way that is being tried."""
        self._tell(State.RUNNING)
        return self.recipe.ways[self._way](*self._args, **self._kwargs)

    def succeeded(self, value: T) -> T:
        """Hand the result on."""
        self._tell(State.COMPLETE)
        return value

    def limit(self) -> Limit | None:
        """Return how long the next attempt may take."""
        return self._budget.limit() if worth_a_timer(self.recipe) else None

    def after(self, error: Exception) -> float | None:
        """Return how many seconds to wait before the next attempt; None when the operation is given up.

        Raises:
            Exception: ``error``, where it is control flow.
        """
        decision = self._budget.judge(error, progressed=self.operation.progressed)
        if decision is None:
            self._tell(State.PAUSED, error=error)
            raise error
        verdict = self._budget.verdict
        assert verdict is not None
        if isinstance(decision, GiveUp) and self.recipe.has_way_after(self._way, verdict):
            self._way += 1
            self._budget.refill()
            note_on(error, f"given up ({decision.reason}); then {_name(self.recipe.ways[self._way])} was tried")
            decision = Retry(0.0, fresh=True, reason="there is another way")
        if isinstance(decision, GiveUp):
            self._log("given-up", error, reason=decision.reason)
            return None
        parks = isinstance(decision, Park)
        seconds = decision.poll_s if isinstance(decision, Park) else decision.delay_s
        if parks:
            self._budget.after_park(seconds)
        self._log("retry-scheduled", error, delay_s=seconds)
        self._tell(State.PARKED if parks else State.WAITING, delay_s=seconds, error=error)
        self.operation.begin_attempt(self.operation.attempt + 1)
        return SWITCHES.seconds(seconds)

    def ended(self, error: Exception) -> None:
        """Say that there will be no other attempt."""
        self._tell(State.FAILED, error=error)

    def _tell(self, state: State, *, delay_s: float | None = None, error: Exception | None = None) -> None:
        if self._events is not None:
            self._events.tell(state, self._budget, self.operation.attempt, delay_s=delay_s, error=error)

    def _log(self, event: str, error: Exception, **facts: Any) -> None:
        if not log.isEnabledFor(logging.INFO):
            return
        verdict = self._budget.verdict
        code = None if verdict is None else verdict.code
        known = {"kind": self.recipe.kind, "attempt": self.operation.attempt, "code": code, "error": describe(error)}
        log.info(event, extra={**known, **facts})


# -- async ------------------------------------------------------------------------------------------------------------


async def run(recipe: Recipe, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Make a whole call of an async function (or of an undo, async or not)."""
    call = MemoryCall(recipe, args, kwargs)
    try:
        return call.succeeded(await _once(call))
    except Exception as exc:  # noqa: BLE001 - the classifier judges it
        error = exc
    try:
        return await go_on(call, error)
    finally:
        del error  # its traceback holds this frame


async def go_on(call: MemoryCall, error: Exception) -> Any:
    """Make what attempts are left after ``error``; raises the last one's when the operation is given up."""

    async def undo_later(undo: Undo, value: Any) -> object:
        return await run(call.recipe.for_undo(undo), (value,), {})

    try:
        while True:
            seconds = call.after(error)
            if seconds is None:
                break
            await call.recipe.clock.sleep(seconds)
            try:
                return call.succeeded(await _once(call))
            except Exception as exc:  # noqa: BLE001 - the classifier judges it
                error = exc
        if call.operation.has_steps:
            await take_back(call.operation.book, undo_later, error)
        call.ended(error)
        raise error
    finally:
        del error  # its traceback holds this frame


async def _once(call: MemoryCall) -> Any:
    limit = call.limit()
    token = CURRENT.set(call.operation)
    try:
        return await (_awaited(call) if limit is None else timed(limit, _awaited(call)))
    finally:
        CURRENT.reset(token)


async def timed(limit: Limit, attempt: Awaitable[T]) -> T:
    """Make one attempt within its limit; the attempt's own timeouts stay what they are."""
    try:
        async with asyncio.timeout(limit.seconds) as scope:
            with Insistence(limit.seconds):
                return await attempt
    except TimeoutError as exc:
        if not scope.expired():
            raise
        raise limit.error() from exc


async def _awaited(call: MemoryCall) -> Any:
    result = call.invoke()
    return await result if inspect.isawaitable(result) else result


# -- blocking ---------------------------------------------------------------------------------------------------------


def run_blocking(recipe: Recipe, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Make a whole call of a function that is not async, or of its undo."""
    call = MemoryCall(recipe, args, kwargs)
    try:
        return call.succeeded(_once_blocking(call))
    except Exception as exc:  # noqa: BLE001 - the classifier judges it
        error = exc
    try:
        return go_on_blocking(call, error)
    finally:
        del error  # its traceback holds this frame


def go_on_blocking(call: MemoryCall, error: Exception) -> Any:
    """Make what attempts are left after ``error``; raises the last one's when the operation is given up."""

    async def undo_here(undo: Undo, value: Any) -> object:
        return run_blocking(call.recipe.for_undo(undo), (value,), {})

    try:
        while True:
            seconds = call.after(error)
            if seconds is None:
                break
            time.sleep(seconds)
            try:
                return call.succeeded(_once_blocking(call))
            except Exception as exc:  # noqa: BLE001 - the classifier judges it
                error = exc
        if call.operation.has_steps:
            at_once(take_back(call.operation.book, undo_here, error))
        call.ended(error)
        raise error
    finally:
        del error  # its traceback holds this frame


def _once_blocking(call: MemoryCall) -> Any:
    token = CURRENT.set(RunningSyncOperation(call.operation, at_once))
    try:
        return no_coroutine(call.invoke())
    finally:
        CURRENT.reset(token)


def no_coroutine(result: Any) -> Any:
    """Return what a function that is not async returned, unless it is async after all, behind a lambda perhaps.

    Raises:
        TypeError: it is a coroutine: nobody would await it, and its failures would be nobody's.
    """
    if type(result) is CoroutineType:
        result.close()
        raise TypeError("a function that is not async returned a coroutine: decorate the async function itself")
    return result


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that has nothing to wait for: what is kept in memory."""
    try:
        work.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    work.close()
    msg = "work in memory must not wait"
    raise RuntimeError(msg)


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", function))
