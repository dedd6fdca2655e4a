"""What a former process left of a recoverable function's calls: found in the journal, and called again.

Only calls whose arguments were stored whole can be made again by themselves: those with a secret, or with an object
that is no JSON, are returned as they are, for whoever can supply it. Nothing here runs twice at once: each call claims
its operation like any other.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any

from msgspec import Struct

from recovery.arguments import LEFT_OUT
from recovery.clock import SystemClock
from recovery.journal import Journal
from recovery.recipe import Recipe, recipe_of
from recovery.records import Operation
from recovery.states import State
from recovery.supervisors import supervisor_for

__all__ = ["Resumed", "resume_unfinished", "unfinished"]

_LEFT = frozenset({State.QUEUED, State.RUNNING, State.WAITING, State.PARKED, State.VERIFYING})


class Resumed(Struct, frozen=True):
    """What came of one operation that was left unfinished."""

    operation: Operation
    """Its row as it was found."""
    value: Any = None
    error: BaseException | None = None
    called: bool = True
    """False: its arguments were not stored whole, so somebody else has to call the function; nothing was done."""


async def unfinished(function: Callable[..., Any], *, paused: bool = False) -> list[Operation]:
    """Return the function's operations that have not ended and that nobody runs, oldest first.

    ``paused`` includes those that were paused, by a person or because their program was stopped.

    Raises:
        TypeError: the function is not recoverable, or has no journal in a state file.
    """
    recipe = recipe_of(function)
    journal = await _journal_of(recipe)
    states: Collection[State] = _LEFT | {State.PAUSED} if paused else _LEFT
    now = SystemClock().time()
    found = await journal.list(states, kind=recipe.kind)
    return [row for row in reversed(found) if not row.leased(now)]


async def resume_unfinished(function: Callable[..., Any], *, paused: bool = False, at_once: int = 4) -> list[Resumed]:
    """Call the function again for each of ``unfinished``, at most so many at once; return what came of them.

    A failure of one touches no other and is in its ``error``. A function that is not async is called in threads. Of a
    method, give the bound one. Call it when a program starts, before or while new work comes.

    Raises:
        TypeError: as ``unfinished``.
        ValueError: ``at_once`` is below 1.
    """
    if at_once < 1:
        raise ValueError("at_once must be at least 1")
    slots = asyncio.Semaphore(at_once)

    async def resume(row: Operation) -> Resumed:
        if LEFT_OUT in row.args:
            return Resumed(row, called=False)
        async with slots:
            try:
                return Resumed(row, value=await _call(function, row))
            except Exception as exc:  # noqa: BLE001 - handed to the caller, who asked for all of them
                return Resumed(row, error=exc)

    return list(await asyncio.gather(*(resume(row) for row in await unfinished(function, paused=paused))))


async def _call(function: Callable[..., Any], row: Operation) -> Any:
    signature = inspect.signature(function)
    named, more = OrderedDict[str, Any](), dict(row.args)
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        if name in more:
            value: Any = more.pop(name)
            named[name] = tuple(value) if parameter.kind is inspect.Parameter.VAR_POSITIONAL else value
    bound = inspect.BoundArguments(signature, named)
    if inspect.iscoroutinefunction(function):
        return await function(*bound.args, **bound.kwargs, **more)
    return await asyncio.to_thread(function, *bound.args, **bound.kwargs, **more)


async def _journal_of(recipe: Recipe) -> Journal:
    supervisor = None if recipe.journal is None else await supervisor_for(recipe.journal)
    journal = None if supervisor is None else supervisor.journal
    if not isinstance(journal, Journal):
        msg = f"{recipe.kind} has no journal in a state file"
        raise TypeError(msg)
    return journal
