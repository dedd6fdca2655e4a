"""Between a Celery task's thread and its operation: what an ending means for Celery, and what Celery's interruptions
mean for an operation.

The rules, of which ``answer`` is the table:

* a wait frees the slot: ``retry(countdown=...)``; the time itself is in the journal, so the message may come early
* a copy of a message whose operation runs, or has ended, is acknowledged and nothing else (``Ignore``): its result is
  the other copy's to store
* another message for an operation that runs has its result at once: ``{"attached": operation_id}``
* a soft time limit is the end of a slice: with durable progress in it the task goes to the back of the queue, without
  it the limit is the failure that Celery users know
* ``revoke(terminate=True)`` keeps everything, and nothing goes on by itself
* a warm shutdown hands the message back to the queue
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from celery import Task, states
from celery.backends.base import DisabledBackend
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from msgspec import Struct

from recovery.celery.endings import Ending, How, StopReason, TaskCall
from recovery.celery.runtime import Runtime, messages_of
from recovery.celery.shutdown import shutting_down
from recovery.celery.taskrun import TaskRun
from recovery.loopthread import Visit

__all__ = [
    "NUDGED",
    "TaskPaused",
    "Waiting",
    "is_at_once",
    "is_celery_control",
    "is_first",
    "is_known",
    "longest_countdown",
    "message_of",
    "perform",
    "show_started",
    "stop_reason",
    "waits_here",
]

log = logging.getLogger("recovery.celery")

_GRACE_S: Final = 5.0
_LONGEST_COUNTDOWN_S: Final = 600.0
"""A message with a countdown lies unacknowledged in a worker: brokers take it for lost after a while (Redis after the
visibility timeout, RabbitMQ after 30 minutes). A longer wait is several messages."""
NUDGED: Final = "recovery-nudged"
"""Header of a message that was sent again by us: ``lost``, or ``at-once`` because a person wants it now."""
_ENDLESS: Final = 1 << 30
_BROKER_S: Final = 30.0
_BROKER_LOOK_S: Final = 1.0


class Waiting(Exception):  # noqa: N818 - names the state
    """Shown as the reason of a RETRY: what is waited for, and until when."""


class TaskPaused(Exception):  # noqa: N818 - names the state
    """Somebody paused what an eager task waits for."""


class _NotSent(Exception):  # noqa: N818 - names what happened
    """The broker did not take a message."""


class _Stop(Struct, frozen=True):
    """An exception of the waiting thread, and why it stops the body."""

    error: BaseException
    reason: StopReason


def is_celery_control(exc: BaseException) -> bool:
    """Return whether a body talks to Celery with this exception."""
    return isinstance(exc, (Retry, Ignore, Reject))


def waits_here(task: Task) -> bool:
    """Return whether there is no queue to go back to: called directly, or eager."""
    request = task.request
    return bool(request.called_directly or request.is_eager)


def message_of(task: Task) -> dict[str, Any]:
    """Return how to send the running message again, as plain values; empty where nothing is to be sent."""
    if waits_here(task):
        return {}
    request = task.request
    # The retries so far and the way it came are part of it; a countdown, and that it was sent again, are not.
    message = dict(task.signature_from_request(request, request.args, request.kwargs))
    headers = {name: value for name, value in (request.headers or {}).items() if name != NUDGED}
    return {**message, "options": {**message["options"], "headers": headers or None}}


def is_first(task: Task) -> bool:
    """Return whether the running message has not come before: not sent again by the broker, by a retry, or by us."""
    request = task.request
    again = (request.delivery_info or {}).get("redelivered") or request.retries or (request.headers or {}).get(NUDGED)
    return not again


def is_at_once(task: Task) -> bool:
    """Return whether a person wants the running message's operation to wait no longer."""
    return bool((task.request.headers or {}).get(NUDGED) == "at-once")


def is_known(task: Task) -> bool:
    """Return whether Celery has stored how the running message ended, or nobody wants to know."""
    request = task.request
    if waits_here(task) or request.ignore_result or isinstance(task.backend, DisabledBackend):
        return True
    try:
        return task.AsyncResult(request.id).state in states.READY_STATES
    except Exception:  # noqa: BLE001 - the edge to a result backend that is away: running again is the safe answer,
        # since a body that was done finds everything done
        return False


def show_started(task: Task) -> None:
    """Show that the running message is worked on, where its results are shown."""
    request = task.request
    if waits_here(task) or request.ignore_result:
        return
    _show(task, states.STARTED, {"pid": os.getpid(), "hostname": request.hostname})


def perform(
    task: Task,
    runtime: Runtime,
    call: TaskCall,
    body: Callable[[TaskRun], Awaitable[Any]],
    *,
    failure: Callable[[BaseException], BaseException] = lambda exc: exc,
) -> Any:
    """Run ``body`` as the operation of the running message and return what the task returns.

    Raises what Celery is to see: ``Retry``, ``Ignore``, ``Reject``, the body's failure (through ``failure``), or what
    was raised in this thread (time limits, a revoke).
    """
    run = TaskRun(call)
    visit = runtime.start(run, body)
    stop: _Stop | None = None
    try:
        ending = visit.result()
    except BaseException as exc:  # the edge to the task's thread: a time limit, a signal or a revoke puts the body down
        if visit.done:
            raise  # a fault of our own, not an interruption
        stop = _Stop(exc, stop_reason(exc))
        ending = _put_down(run, visit, stop)
    if stop is None and run.interruption is not None:
        stop = _Stop(run.interruption, stop_reason(run.interruption))
    try:
        return _answer(task, ending, stop, failure)
    except _NotSent as lost:
        # Neither is the message that was to take this one's place in the broker, nor can this one be given back to it
        # for sure. What is kept beside the journal is sent when it is due.
        messages_of(runtime.state).put(call.task_id, call.message)
        raise Reject(str(lost.__cause__), requeue=True) from lost


def stop_reason(exc: BaseException) -> StopReason:
    """Return why a body is put down when this was raised in its task's thread."""
    if isinstance(exc, SoftTimeLimitExceeded):
        return StopReason.SOFT_LIMIT
    return StopReason.SHUTDOWN if shutting_down() else StopReason.INTERRUPTED


def _put_down(run: TaskRun, visit: Visit[Ending], stop: _Stop) -> Ending:
    """Stop the body, and wait a few seconds for its last checkpoint."""
    visit.tell(lambda: run.stop(stop.reason))
    try:
        settled = visit.settle(within_s=_GRACE_S)
    except BaseException:  # noqa: BLE001 - a second signal: at once, then, with the first
        log.warning("not-put-down", extra={"reason": stop.reason.value})
        raise stop.error from None
    if not settled or visit.error is not None:
        return Ending(how=How.PAUSED, reason=stop.reason)
    return visit.result()


def _answer(task: Task, ending: Ending, stop: _Stop | None, failure: Callable[[BaseException], BaseException]) -> Any:
    match ending.how:
        case How.DONE if stop is None or stop.reason is StopReason.SOFT_LIMIT:
            return ending.value
        case How.QUEUED if stop is not None and stop.reason is StopReason.SOFT_LIMIT and not waits_here(task):
            raise _retry(task, time.time(), Waiting("its time slice is over; it goes on"))
        case _ if stop is not None:
            raise stop.error
        case How.ATTACHED:
            return {"attached": ending.operation_id}
        case How.DEFERRED:
            raise _retry_at(task, ending)
        case How.QUEUED:
            raise Reject("handed back by a worker that shuts down", requeue=True)
        case How.PAUSED if not waits_here(task):
            _show(task, "PAUSED", {"operation_id": ending.operation_id})
            raise Ignore
        case How.PAUSED:
            raise TaskPaused(ending.operation_id)
        case How.CANCELLED if not waits_here(task):
            _show(task, states.REVOKED, {"operation_id": ending.operation_id})
            raise Ignore
        case How.DUPLICATE | How.LOST:
            raise Ignore
    assert ending.error is not None
    raise failure(ending.error)


def _retry_at(task: Task, ending: Ending) -> BaseException:
    until = time.strftime("%H:%M:%S", time.localtime(ending.next_at))
    operation = getattr(ending.error, "operation", None)
    why = getattr(operation, "message", None) or "waits"
    return _retry(task, ending.next_at, Waiting(f"{why} Next try at {until}."))


def _retry(task: Task, next_at: float, why: Waiting) -> BaseException:
    """Send the message that takes the running one's place; return what tells Celery so.

    While the broker is away no other task wants the slot, so it is held for a while, until the broker is back.

    Raises:
        _NotSent: it has not come back.
    """
    headers = {name: value for name, value in (task.request.headers or {}).items() if name != NUDGED}
    give_up_at = time.monotonic() + _BROKER_S
    while True:
        countdown = min(max(0.0, next_at - time.time()), longest_countdown(task.app.conf))
        try:
            retry: BaseException = task.retry(
                countdown=countdown, max_retries=_ENDLESS, throw=False, exc=why, headers=headers or None
            )
        except Reject as exc:  # says no more than that it could not be sent
            if time.monotonic() >= give_up_at or shutting_down():
                raise _NotSent from exc
            time.sleep(_BROKER_LOOK_S)
        else:
            return retry


def longest_countdown(conf: Any) -> float:
    """Return how many seconds a message may lie in a worker before its broker could take it for lost."""
    visibility = (conf.get("broker_transport_options") or {}).get("visibility_timeout")
    return _LONGEST_COUNTDOWN_S if visibility is None else min(_LONGEST_COUNTDOWN_S, visibility / 4)


def _show(task: Task, state: str, meta: dict[str, Any]) -> None:
    try:
        task.update_state(state=state, meta=meta)
    except Exception as exc:  # noqa: BLE001 - the edge to a result backend that may be away: the journal has the truth
        log.warning("state-not-shown", extra={"error": type(exc).__name__})
