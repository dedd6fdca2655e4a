"""``@recoverable_task``: a function, async or not, as a Celery task that is a durable operation."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import inspect
import math
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from celery import Celery, Task
from celery.exceptions import SoftTimeLimitExceeded

from recovery.celery.endings import SlotFreed, TaskCall
from recovery.celery.lifeline import CeleryOutbox, Lifeline, attach
from recovery.celery.reconciler import Reconciler, reconcile_forever
from recovery.celery.runtime import JournalRuntime, Runtime, messages_of, open_journal
from recovery.celery.settings import RECOMMENDED, TASK_OPTIONS, WorkerSettings
from recovery.celery.taskrun import TaskRun
from recovery.celery.worker import (
    is_at_once,
    is_celery_control,
    is_first,
    is_known,
    message_of,
    perform,
    show_started,
    stop_reason,
    waits_here,
)
from recovery.journal import Journal
from recovery.loopthread import PerProcess
from recovery.policy import RetryPolicy
from recovery.steps import CURRENT, NothingNew
from recovery.verdict import Rule

__all__ = ["HOLD_SLOT_S", "Runtimes", "body_of", "call_of", "configure", "recoverable_task", "runtimes_for"]

HOLD_SLOT_S = 2.0
"""A wait up to this long is shorter than a way through the broker is worth."""


class Runtimes:
    """The runtimes of one process for one state file: one for a worker's tasks, one for eager and direct calls."""

    def __init__(self, make: Callable[[float], Runtime], *, hold_slot_s: float = HOLD_SLOT_S) -> None:
        """``make`` is given how long a task may wait in its slot, in seconds."""
        self._worker = PerProcess(lambda: make(hold_slot_s))
        self._eager = PerProcess(lambda: make(math.inf))

    def of(self, task: Task) -> Runtime:
        """Return the runtime for the running task."""
        return self._eager.get() if waits_here(task) else self._worker.get()

    @property
    def worker(self) -> Runtime:
        """The one whose tasks have a queue to go back to."""
        return self._worker.get()

    @property
    def eager(self) -> Runtime:
        """The one whose tasks wait where they are."""
        return self._eager.get()

    def close(self) -> None:
        """Close those of this process."""
        for each in (self._worker, self._eager):
            runtime = each.take()
            if runtime is not None:
                runtime.close()


def configure(app: Celery, settings: WorkerSettings = RECOMMENDED) -> None:
    """Give the application the settings with which no long task is lost; what it has set itself is overwritten.

    Its own transport options stay beside ours.
    """
    for name, value in settings.to_celery().items():
        app.conf[name] = {**(app.conf.get(name) or {}), **value} if isinstance(value, dict) else value


def body_of(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Callable[[TaskRun], Awaitable[Any]]:
    """Return the body of a task: a coroutine function runs in the event loop, any other in the task's own thread."""
    if inspect.iscoroutinefunction(fn):

        async def body(run: TaskRun) -> Any:
            token = CURRENT.set(run.steps.operation)
            run.body = asyncio.get_running_loop().create_task(fn(*args, **kwargs))
            CURRENT.reset(token)
            try:
                return await run.body
            except asyncio.CancelledError:
                if run.gives_way is not None:
                    raise run.gives_way from None
                raise

        return body

    async def sync_body(run: TaskRun) -> Any:
        context = contextvars.copy_context()
        context.run(CURRENT.set, run.steps.in_thread)
        if run.attempt is not None:
            run.attempt.in_thread = True
        try:
            return await run.side.see_through(functools.partial(_call_in_thread, run, context, fn, args, kwargs))
        except concurrent.futures.CancelledError:
            if run.gives_way is not None:
                raise run.gives_way from None
            if run.interruption is not None:
                run.stop(stop_reason(run.interruption))
            if run.reason is None:
                raise
            return await asyncio.Event().wait()  # the supervisor cancels it

    return sync_body


def _call_in_thread(
    run: TaskRun, context: contextvars.Context, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Raises CancelledError of ``concurrent.futures`` where the body was led out or interrupted."""
    try:
        return context.run(fn, *args, **kwargs)
    except SlotFreed:
        raise concurrent.futures.CancelledError from None
    except NothingNew:
        raise
    except SoftTimeLimitExceeded as exc:
        run.interruption = exc
    except Exception:
        raise
    except BaseException as exc:  # noqa: BLE001 - on its way to end the process: the journal is told first
        run.interruption = exc
    raise concurrent.futures.CancelledError


def call_of(
    task: Task,
    *,
    key: str | None = None,
    policy: RetryPolicy | None = None,
    classify: Rule | None = None,
    again: bool = False,
    in_thread: bool = False,
) -> TaskCall:
    """Return the running message as plain values; with ``again`` its body may run again after it has ended.
    ``in_thread``: the body is no coroutine function.
    """
    direct = waits_here(task) or not task.request.id
    return TaskCall(
        name=task.name,
        task_id=f"direct-{os.urandom(8).hex()}" if direct else task.request.id,
        key=key,
        policy=policy,
        classify=classify,
        message=message_of(task),
        is_known=functools.partial(is_known, task),
        show_started=functools.partial(show_started, task),
        in_thread=in_thread,
        first=again or is_first(task),
        at_once=is_at_once(task),
    )


def recoverable_task(
    app: Celery,
    *,
    state: Path | str,
    key: Callable[..., str] | None = None,
    policy: RetryPolicy | None = None,
    classify: Rule | None = None,
    reconcile_every_s: float = 5.0,
    **options: Any,
) -> Callable[[Callable[..., Any]], Task]:
    """Make a function a Celery task whose runs are operations of the journal in ``state`` (a local file).

    ``key`` is given the arguments and says what makes two messages the same operation (a second one that comes while
    the first runs returns ``{"attached": operation_id}``); without it each message is its own. ``policy`` and
    ``classify`` decide what follows a failure; waits free the slot. ``options`` are Celery's.

    The body may be run again from its beginning, after a wait or a death; what must not be done twice belongs into a
    step (``recovery.current_operation``).
    """
    runtimes = runtimes_for(app, Path(state), every_s=reconcile_every_s)

    def decorate(fn: Callable[..., Any]) -> Task:
        @functools.wraps(fn)
        def run(self: Task, *args: Any, **kwargs: Any) -> Any:
            name = None if key is None else key(*args, **kwargs)
            in_thread = not inspect.iscoroutinefunction(fn)
            call = call_of(self, key=name, policy=policy or RetryPolicy(), classify=classify, in_thread=in_thread)
            return perform(self, runtimes.of(self), call, body_of(fn, args, kwargs))

        return app.task(run, bind=True, **{**TASK_OPTIONS, **options})

    return decorate


_known: WeakKeyDictionary[Celery, dict[Path, Runtimes]] = WeakKeyDictionary()


def runtimes_for(app: Celery, path: Path, *, every_s: float = 5.0) -> Runtimes:
    """Return what the tasks of an application share on one journal, and have its workers look after it."""
    known = _known.setdefault(app, {})
    if path in known:
        return known[path]
    runtimes = known[path] = Runtimes(
        lambda longest: JournalRuntime(path, longest_wait_s=longest, is_control=is_celery_control)
    )

    def make(journal: Journal) -> Reconciler:
        return Reconciler(journal, messages_of(path), CeleryOutbox(app), every_s=every_s)

    async def look() -> None:
        await reconcile_forever(path, functools.partial(open_journal, path), make, every_s=every_s)

    lock = path.with_name(path.name + ".reconciler")
    attach(Lifeline(app=app, name=str(path.absolute()), lock=lambda: lock, look=look, close=runtimes.close))
    return runtimes
