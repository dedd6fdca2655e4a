"""``@recoverable``: a function whose calls come back: tried again by a policy, in memory, or durably with a journal.

::

    @recoverable(policy=RetryPolicy(max_no_progress=3, base=1.0, cap=60.0))
    async def validate(workflow: Workflow) -> Report: ...

    @recoverable(journal="imports.db", key="import:{name}", fallbacks=[import_from_mirror])
    def import_model(name: str) -> Path: ...

What is tried again: without ``on=`` the classifier judges (``recovery.classify``), so that a refused connection is
retried, a bad argument is not, and a full disk is waited for. With ``on=`` exactly those exception types are retried,
as often as the policy says, and every other exception is raised at once. Control flow (a cancellation, Ctrl-C, a task
queue's own exceptions) is never retried, whatever is asked for.
"""

from __future__ import annotations

import functools
import inspect
import random
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, ParamSpec, TypedDict, TypeVar, Unpack, cast, overload

from recovery.arguments import ArgumentNames, check_template
from recovery.attempt_task import Limit
from recovery.chosen_types import ChosenTypes, Types
from recovery.classify import Classifier, Rule
from recovery.clock import Clock, SystemClock
from recovery.durable_call import DurableCall
from recovery.events import OperationEvent
from recovery.history import History
from recovery.memory_call import (
    MemoryCall,
    at_once,
    go_on,
    go_on_blocking,
    no_coroutine,
    run,
    run_blocking,
    timed,
    worth_a_timer,
)
from recovery.observers import Observers
from recovery.policy import RetryPolicy
from recovery.recipe import Recipe
from recovery.steps import CURRENT, RunningOperation, RunningSyncOperation
from recovery.supervisors import Source, settled, supervisor_for
from recovery.turns import Turns, take_turns

__all__ = ["RecoverableOptions", "recoverable"]

P = ParamSpec("P")
R = TypeVar("R")


class RecoverableOptions(TypedDict, total=False):
    """What ``@recoverable`` takes beside ``fallbacks``; all of it is optional."""

    policy: RetryPolicy
    """How patient to be; the default is ``RetryPolicy()``."""
    on: Types
    """Exception types to retry, and no others; without it the classifier judges."""
    classify: Classifier | Rule | Iterable[Rule]
    """A classifier in place of ours, or rules that are asked before it."""
    journal: Source
    """A path, a Journal, a Supervisor, or a function that returns one (or None: not durable). Needs a ``key``.

    A path is taken from the working directory of the time when the function is decorated.
    """
    key: str | Callable[..., str]
    """What makes a call the same operation as another one, such as ``import:{name}`` or ``{self.id}``: a template of
    the arguments, or a function of them. It is stored and shown: no secrets.
    """
    kind: str
    """What the journal calls the function; by default its module and name. Give one if the function may move."""
    project: str
    """A template; retention and statistics go by project."""
    title: str
    """A template, for people."""
    on_event: Callable[[OperationEvent], None]
    """Hears what a call in memory goes through; a supervisor has its own."""
    clock: Clock
    """For waits of async functions; ``recovery.testing.FakeClock`` in tests."""
    draw: Callable[[], float]
    """Gives the jitter, a number in [0, 1)."""


@overload
def recoverable(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def recoverable(
    *, fallbacks: Sequence[Callable[P, R]], **options: Unpack[RecoverableOptions]
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


@overload
def recoverable(**options: Unpack[RecoverableOptions]) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def recoverable(
    function: Callable[..., Any] | None = None,
    /,
    *,
    fallbacks: Sequence[Callable[..., Any]] = (),
    **options: Unpack[RecoverableOptions],
) -> Any:
    """Make a function's calls recoverable: ``@recoverable`` or ``@recoverable(...)``, see ``RecoverableOptions``.

    ``fallbacks`` are other ways to the same result, called with the same arguments, each with a budget of its own, when
    the way before is given up. Steps and checkpoints inside: ``recovery.current_operation()``. When every way is given
    up, the steps that have an ``undo`` are taken back, and the last exception is raised.

    In memory nothing is stored, and a call that succeeds costs microseconds. With a journal a call writes its intent
    and its end, its state survives the process, and calling it again with the same key goes on where it stopped. A
    journal that fails never fails the call: it goes on in memory and says so.

    A function that is not async blocks its thread while it waits. It cannot be interrupted: ``attempt_timeout_s`` is
    refused, and a pause or a cancellation reaches it at its next step. Of a method, ``self`` may be named in templates;
    with ``classmethod`` and ``staticmethod``, those come first.

    Raises:
        TypeError: it is not a plain function; an option that there is not, or of the wrong type.
        ValueError: an option that makes no sense: a template that names no argument, a journal without a key, ...
    """
    if function is None:
        return lambda decorated: _decorated(decorated, fallbacks, options)
    return _decorated(function, fallbacks, options)


def _decorated(
    function: Callable[..., Any], fallbacks: Sequence[Callable[..., Any]], options: RecoverableOptions
) -> Callable[..., Any]:
    _require_function(function)
    is_async = _is_async(function)
    _require_options(options, fallbacks, is_async=is_async)
    source = options.get("journal")
    recipe = _recipe(function, fallbacks, options, None if source is None else settled(source))
    if not is_async and recipe.policy.attempt_timeout_s is not None:
        raise ValueError("attempt_timeout_s needs an async function: a thread cannot be interrupted")
    if recipe.journal is not None and recipe.key is None:
        raise ValueError("journal= needs key=, which says which calls are the same operation")
    if recipe.journal is not None and "kind" not in options and _shares_its_name(function):
        raise ValueError(f"journal= needs kind= here: {recipe.kind!r} is the name of more than one function")
    wrapper: Any = _in_memory(recipe) if is_async else _in_memory_blocking(recipe)
    if recipe.journal is not None:
        make_durable = _durable if is_async else _durable_blocking
        wrapper = make_durable(recipe, recipe.journal, wrapper)
    functools.update_wrapper(wrapper, function)
    wrapper.__recovery__ = recipe
    return cast("Callable[..., Any]", wrapper)


def _require_function(function: object) -> None:
    if isinstance(function, classmethod | staticmethod):
        msg = f"put @{type(function).__name__} above @recoverable"
        raise TypeError(msg)
    if not callable(function) or inspect.isclass(function):
        msg = f"@recoverable takes a function, not {function!r}"
        raise TypeError(msg)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError("a generator cannot be called again in its middle: make its caller recoverable")


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _require_options(options: RecoverableOptions, fallbacks: object, *, is_async: bool) -> None:
    known = RecoverableOptions.__annotations__
    for name in options:
        if name not in known:
            msg = f"@recoverable takes no {name!r}; what it takes is fallbacks, {', '.join(known)}"
            raise TypeError(msg)
    policy = options.get("policy")
    if policy is not None and not isinstance(policy, RetryPolicy):
        msg = f"policy= takes a RetryPolicy, not {policy!r}"
        raise TypeError(msg)
    if not isinstance(fallbacks, Sequence) or not all(callable(each) for each in fallbacks):
        msg = f"fallbacks= takes a list of functions, not {fallbacks!r}"
        raise TypeError(msg)
    if not is_async and any(_is_async(each) for each in fallbacks):
        raise TypeError("a function that is not async cannot fall back on one that is")


def _shares_its_name(function: Callable[..., Any]) -> bool:
    # The journal takes calls of the same kind and key for the same operation.
    return isinstance(function, partial) or getattr(function, "__name__", "") == "<lambda>"


def _recipe(
    function: Callable[..., Any],
    fallbacks: Sequence[Callable[..., Any]],
    options: RecoverableOptions,
    source: Source | None,
) -> Recipe:
    arguments = ArgumentNames(function)
    key, project, title = options.get("key"), options.get("project", ""), options.get("title", "")
    for template in (key, project or None, title or None):
        if isinstance(template, str):
            check_template(template, arguments)
    classifier = _classifier(options.get("classify"))
    types = options.get("on")
    return Recipe(
        ways=(function, *fallbacks),
        policy=options.get("policy") or RetryPolicy(),
        classifier=classifier if types is None else ChosenTypes(types, classifier),
        clock=options.get("clock") or SystemClock(),
        draw=options.get("draw") or random.random,
        kind=options.get("kind")
        or f"{function.__module__}.{getattr(function, '__qualname__', type(function).__name__)}",
        key=key,
        project=project,
        title=title,
        arguments=arguments,
        journal=source,
        on_event=options.get("on_event"),
    )


def _classifier(given: Classifier | Rule | Iterable[Rule] | None) -> Classifier:
    if given is None:
        return Classifier()
    if isinstance(given, Classifier):
        return given
    return Classifier([given]) if callable(given) else Classifier(given)


# The wrappers. A call that succeeds at once is what all of this is measured by: these lines and no others run then.


def _in_memory(recipe: Recipe) -> Callable[..., Any]:
    function = recipe.ways[0]
    monotonic = _monotonic(recipe)
    always_whole = recipe.on_event is not None
    first_limit = Limit.of(recipe.policy, History(), 0.0) if worth_a_timer(recipe) else None

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        if always_whole or Observers.current:
            return await run(recipe, args, kwargs)
        operation = RunningOperation()
        started_at = monotonic()
        token = CURRENT.set(operation)
        try:
            if first_limit is not None:
                return await timed(first_limit, function(*args, **kwargs))
            return await function(*args, **kwargs)
        except Exception as exc:  # noqa: BLE001 - the classifier judges it
            error = exc
        finally:
            CURRENT.reset(token)
        try:
            return await go_on(MemoryCall(recipe, args, kwargs, operation=operation, started_at=started_at), error)
        finally:
            del error  # its traceback holds this frame

    return wrapper


def _in_memory_blocking(recipe: Recipe) -> Callable[..., Any]:
    function = recipe.ways[0]
    monotonic = _monotonic(recipe)
    always_whole = recipe.on_event is not None

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if always_whole or Observers.current:
            return run_blocking(recipe, args, kwargs)
        operation = RunningOperation()
        started_at = monotonic()
        token = CURRENT.set(RunningSyncOperation(operation, at_once))
        try:
            return no_coroutine(function(*args, **kwargs))
        except Exception as exc:  # noqa: BLE001 - the classifier judges it
            error = exc
        finally:
            CURRENT.reset(token)
        try:
            return go_on_blocking(MemoryCall(recipe, args, kwargs, operation=operation, started_at=started_at), error)
        finally:
            del error  # its traceback holds this frame

    return wrapper


def _monotonic(recipe: Recipe) -> Callable[[], float]:
    return time.monotonic if type(recipe.clock) is SystemClock else recipe.clock.monotonic  # one call less


def _durable(recipe: Recipe, source: Source, in_memory: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        supervisor = await supervisor_for(source)
        if supervisor is None:
            return await in_memory(*args, **kwargs)
        return await DurableCall(recipe, args, kwargs, supervisor).run()

    return wrapper


def _durable_blocking(recipe: Recipe, source: Source, in_memory: Callable[..., Any]) -> Callable[..., Any]:
    async def operate(args: tuple[Any, ...], kwargs: dict[str, Any], turns: Turns) -> Any:
        supervisor = await supervisor_for(source)
        if supervisor is None:
            return await turns.call(partial(in_memory, *args, **kwargs))
        return await DurableCall(recipe, args, kwargs, supervisor, turns).run()

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return take_turns(partial(operate, args, kwargs))

    return wrapper
