"""One run of a task's body as a durable operation: claimed, kept alive, put down, and how it ended.

A Celery message is only a nudge: "run this operation if you can have it". Whether it may run, how often it failed and
when it is due stands in the journal, so a message that comes twice, late or never changes nothing but the time. Nothing
here knows Celery: ``worker.py`` turns an ending into what a Celery worker understands.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from recovery.celery.endings import Ending, GiveWay, How, Judged, StopReason, TaskCall, TaskFailed
from recovery.celery.keeping import KEEP_AFTER_S, Keeping
from recovery.celery.messages import MessageStore
from recovery.celery.tasksteps import TaskSteps
from recovery.classify import Classifier
from recovery.clock import Clock
from recovery.control import Attempt, Control
from recovery.endings import (
    CrashLooping,
    LeaseHeld,
    OperationCancelled,
    OperationDeferred,
    OperationEnded,
    OperationPaused,
)
from recovery.journal import Journal
from recovery.lifecycle import CRASH_LOOP, Fenced
from recovery.loopthread import CallerSide
from recovery.policy import RetryPolicy
from recovery.records import Operation, OperationSpec
from recovery.states import ACTIVE, TERMINAL, State
from recovery.supervisor import Supervisor
from recovery.verdict import Action, Verdict

__all__ = [
    "KIND",
    "LEASE_S",
    "NO_RETRIES",
    "TaskRun",
    "TaskRunner",
    "current_run",
]

log = logging.getLogger("recovery.celery")

KIND: Final = "task"
"""Of the operations that stand for Celery messages."""

LEASE_S: Final = 15.0
_TELL_S: Final = 0.5
"""How often progress is written into the row: a task that is killed again and again but gets on is no crash loop."""

_CLEAN_UP_S: Final = 5.0
"""For a body that is led out to put its things in order."""

NO_RETRIES: Final = RetryPolicy(max_no_progress=1, max_attempts=1 << 30, deadline_s=None, base=0.0, cap=0.0)
"""Of bodies that recover by themselves: their failures end the task, and a wait is exactly as long as they say."""

current_run: ContextVar[TaskRun | None] = ContextVar("recovery-task-run", default=None)


class TaskRun:
    """A task that runs, as its body sees it; to be used in the event loop."""

    def __init__(self, call: TaskCall) -> None:
        """Nothing happens yet; this may be called in any thread."""
        self.call = call
        self.side: CallerSide
        """The task's own thread."""
        self.control = Control()
        self.attempt: Attempt | None = None
        self.reason: StopReason | None = None
        self.steps: TaskSteps
        """What the body has done so far, over all its attempts."""
        self.body: asyncio.Task[Any] | None = None
        """An asynchronous body; None for one that runs in the task's thread."""
        self.gives_way: GiveWay | None = None
        """Set before the body is led out (cancelled, or by SlotFreed) because it has nothing to do for a while."""
        self.interruption: BaseException | None = None
        """What was raised in the task's thread while a synchronous body ran there."""
        self.on_shutdown: Callable[[], None] | None = None
        """Called when the worker begins to shut down warmly; None: it finishes, as Celery promises."""
        self.shown = False
        """Whether more than STARTED has been shown of it."""
        self._journal: Journal
        self._clock: Clock
        self._tell_at = 0.0
        self._telling: asyncio.Task[None] | None = None

    def attach(self, side: CallerSide, journal: Journal, clock: Clock) -> None:
        """Say where it runs; the runner does this."""
        self.side, self._journal, self._clock = side, journal, clock
        self._tell_at = clock.monotonic() + KEEP_AFTER_S  # what ends at once needs none of it

    @property
    def operation_id(self) -> str:
        """The id of the task's own operation, empty before its first attempt."""
        return "" if self.attempt is None else self.attempt.operation_id

    @property
    def progressed(self) -> bool:
        """Whether durable work was added in this attempt."""
        return self.attempt is not None and self.attempt.progressed

    def give_way(self, way: GiveWay) -> None:
        """Lead an asynchronous body out at its ``await``; a synchronous one has to raise SlotFreed after this."""
        self.gives_way = way
        self._lead_out()

    def _lead_out(self) -> None:
        """Cancel the body, and again where that was lost: its downloads wait for nothing but its end by now. What it
        awaits may be a library that uses ``asyncio.wait_for``, which before Python 3.12 returns a result in place of a
        cancellation that comes with it (python/cpython#86296).
        """
        if self.body is not None and not self.body.done():
            self.body.cancel()
            asyncio.get_running_loop().call_later(_CLEAN_UP_S, self._lead_out)

    def stop(self, reason: StopReason) -> None:
        """Put the body down and record why; the first reason counts."""
        if self.reason is None:
            self.reason = reason
        self.control.pause()

    def progress(self, done: int, total: int | None) -> None:
        """Report durable units; written into the row twice a second, and the last of them within half of one."""
        if self.attempt is None or (done, total) == (self.attempt.done, self.attempt.total):
            return  # no news, which must not delay the next
        self.attempt.progress(done, total)
        if self._telling is None or self._telling.done():
            self._telling = asyncio.get_running_loop().create_task(self._tell(self.attempt))

    def advance(self, units: int, *, at_once: bool = False) -> None:
        """Report that so many more durable units are there than were, in former runs of the body too; ``at_once`` for
        what is rare, and counts most: should the process die in the next moment, that is no sign of a crash loop.
        """
        if self.attempt is None or units <= 0:
            return
        if at_once:
            self._tell_at = 0.0
            self.end()  # the one that waits for its time
        self.progress(self.attempt.done + units, None)

    def end(self) -> None:
        """Tell nothing more: the journal hears of the end by itself."""
        if self._telling is not None:
            self._telling.cancel()

    async def _tell(self, attempt: Attempt) -> None:
        now = self._clock.monotonic()
        await self._clock.sleep(self._tell_at - now)
        self._tell_at = max(now, self._tell_at) + _TELL_S
        try:
            await self._journal.renew(
                attempt.operation_id,
                attempt.generation,
                ttl_s=LEASE_S,
                now=self._clock.time(),
                progress=(attempt.done, attempt.total),
            )
        except Exception as exc:  # noqa: BLE001 - the edge: whatever ails the store, the task goes on
            log.warning("progress-not-recorded", extra={"error": type(exc).__name__})


class TaskRunner:
    """Runs bodies in one event loop on one journal."""

    def __init__(
        self,
        journal: Journal,
        supervisor: Supervisor,
        messages: MessageStore,
        *,
        clock: Clock,
        classifier: Classifier,
        is_control: Callable[[BaseException], bool],
    ) -> None:
        """``is_control`` knows the exceptions with which a body talks to Celery, which are no failures."""
        self._journal = journal
        self._supervisor = supervisor
        self._messages = messages
        self._clock = clock
        self._classifier = classifier
        self._is_control = is_control
        self.running: set[TaskRun] = set()

    async def run(self, run: TaskRun, side: CallerSide, body: Callable[[TaskRun], Awaitable[Any]]) -> Ending:
        """Run a body to its end, or to the point where it is put down. Raises only what is a fault of our own."""
        call = run.call
        run.attach(side, self._journal, self._clock)
        key = f"{call.name}:{call.key or call.task_id}"
        former = None if call.first else await self._journal.find(KIND, key)
        if former is not None and former.args.get("id") != call.task_id:
            former = None
        over = None if call.first else await self._over(call, former, side)
        if over is not None:
            if over.operation_id:  # else there is a newer message, which is kept
                await asyncio.to_thread(self._messages.drop, call.task_id)
            return over
        spec = OperationSpec(
            kind=KIND,
            key=key,
            title=call.name,
            # Its own in every process, and begun anew by its first message alone.
            operation_id=_operation_id(call.task_id, key),
            again=None if call.first else _again(former),
            policy=call.policy or NO_RETRIES,
            args={"task": call.name, "id": call.task_id},
        )
        if call.in_thread:
            side.post(call.show_started)
        keeping = Keeping(run, self._messages) if call.message else None
        if call.at_once:
            run.control.retry_now()
        self.running.add(run)
        token = current_run.set(run)
        try:
            ending = await self._supervised(run, spec, body)
        finally:
            current_run.reset(token)
            self.running.discard(run)
            run.end()
        if ending.how is How.PAUSED:
            ending = await self._put_down(run, ending)
        if keeping is not None:
            await self._settle_message(call, ending, keeping)
        return ending

    async def _over(self, call: TaskCall, former: Operation | None, side: CallerSide) -> Ending | None:
        """Return how a message ends that a newer one replaces or whose operation, ``former``, has ended; None: it is to
        run.
        """
        kept = await asyncio.to_thread(self._messages.get, call.task_id) if call.message else None
        if kept is not None and _number(kept) > _number(call.message):
            return Ending(how=How.DUPLICATE)  # this one has put its task off before: there is a newer one
        if former is None or former.state not in TERMINAL:
            return None
        if await side.call(call.is_known):
            return Ending(how=How.DUPLICATE, operation_id=former.operation_id)
        if former.state is State.CANCELLED:
            return Ending(how=How.CANCELLED, error=OperationCancelled(former), operation_id=former.operation_id)
        if former.state is State.FAILED:
            error = CrashLooping(former) if former.code == CRASH_LOOP.code else TaskFailed.of(former)
            return Ending(how=How.FAILED, error=error, operation_id=former.operation_id)
        return None  # what it returned is known to nobody: it is done again, and finds everything done

    async def _settle_message(self, call: TaskCall, ending: Ending, keeping: Keeping) -> None:
        kept = await keeping.end()
        if ending.how in _ENDED or ending.reason is StopReason.INTERRUPTED:
            if kept or not call.first:  # else there is none
                await asyncio.to_thread(self._messages.drop, call.task_id)
        elif ending.how in _UNFINISHED:
            sent_anew = ending.how is How.DEFERRED or ending.reason is StopReason.SOFT_LIMIT
            message = _next(call.message) if sent_anew else call.message
            await asyncio.to_thread(self._messages.put, call.task_id, message)

    async def _supervised(self, run: TaskRun, spec: OperationSpec, body: Callable[[TaskRun], Awaitable[Any]]) -> Ending:
        supervisor = self._supervisor
        run.steps = TaskSteps(run, supervisor, self._classifier, spec.key)

        async def attempt(attempt: Attempt) -> Any:
            run.attempt = attempt
            try:
                return await run.steps.attempt(attempt, [partial(body, run)])
            except GiveWay:
                raise
            except Exception as exc:  # the edge to the body: whatever it raises is judged here, by its own rules
                verdict = None if self._is_control(exc) else self._verdict(run.call, exc)
                if verdict is None:
                    raise
                raise Judged(verdict) from exc

        try:
            value = await supervisor.run(spec, attempt, control=run.control, on_give_up=run.steps.take_back)
        except OperationEnded as ended:
            return _ended(run, ended)
        except Fenced as fenced:
            return Ending(how=How.LOST, operation_id=fenced.operation_id)
        except Judged as judged:
            return Ending(how=How.FAILED, error=judged.__cause__, operation_id=run.operation_id)
        except asyncio.CancelledError:
            return Ending(how=How.PAUSED, operation_id=run.operation_id)
        except Exception as exc:  # noqa: BLE001 - the edge: it is raised again in the task's own thread
            return Ending(how=How.FAILED, error=exc, operation_id=run.operation_id)
        return Ending(how=How.DONE, value=value, operation_id=run.operation_id)

    def _verdict(self, call: TaskCall, exc: Exception) -> Verdict | None:
        """Return what is to be said of a failure in place of the supervisor's classifier, None: nothing."""
        if call.policy is None:
            verdict = self._classifier.classify(exc)
            return replace(verdict, action=Action.FAIL, retry_after_s=None, condition=None, limit=None)
        return None if call.classify is None else call.classify(exc)

    async def _put_down(self, run: TaskRun, ending: Ending) -> Ending:
        """Make it eligible again, unless it was stopped for good or somebody has to act first."""
        goes_on = run.reason is StopReason.SHUTDOWN or (run.reason is StopReason.SOFT_LIMIT and run.progressed)
        if goes_on:
            try:
                await self._journal.hand_back(ending.operation_id, now=self._clock.time())
            except Exception:  # the edge: the broker still has the message
                log.exception("not-queued-again", extra={"operation_id": ending.operation_id})
        return replace(ending, how=How.QUEUED if goes_on else How.PAUSED, reason=run.reason)


_ENDED = frozenset({How.DONE, How.FAILED, How.CANCELLED, How.ATTACHED})
_UNFINISHED = frozenset({How.DEFERRED, How.QUEUED, How.PAUSED})


def _operation_id(task_id: str, key: str) -> str:
    digest = hashlib.sha256(f"{task_id} {key}".encode()).digest()  # a message may stand for several operations
    return base64.b32encode(digest[:10]).decode().lower()


def _again(former: Operation | None) -> int:
    """Return the generation in which a copy of the message may begin the operation anew: the one in which it had
    stopped when we looked. One that ran then may have ended since, with its result on the way.
    """
    return -1 if former is None or former.state in ACTIVE else former.generation


def _number(message: Mapping[str, Any]) -> int:
    """Return how often the task has been put off before this message of it was sent."""
    return int((message.get("options") or {}).get("retries") or 0)


def _next(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the message that takes this one's place."""
    return {**message, "options": {**(message.get("options") or {}), "retries": _number(message) + 1}}


def _ended(run: TaskRun, ended: OperationEnded) -> Ending:
    operation: Operation = ended.operation
    operation_id = operation.operation_id
    match ended:
        case LeaseHeld():
            same = operation.args.get("id") == run.call.task_id
            return Ending(how=How.DUPLICATE if same else How.ATTACHED, operation_id=operation_id)
        case OperationDeferred():
            return Ending(how=How.DEFERRED, error=ended, operation_id=operation_id, next_at=ended.next_at)
        case OperationPaused():
            return Ending(how=How.PAUSED, operation_id=operation_id)
        case OperationCancelled():
            return Ending(how=How.CANCELLED, error=ended, operation_id=operation_id)
        case _:  # crash loop
            return Ending(how=How.FAILED, error=ended, operation_id=operation_id)
