"""One attempt in a task of its own: limited in time, stoppable, and never a surprise to whoever waits for it.

Not a judge: what the attempt raised is handed on as it is, only our own limits are told apart from everybody else's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from msgspec import Struct

from recovery.control import Attempt
from recovery.endings import AttemptTimedOut
from recovery.history import History
from recovery.policy import DeadlineExceeded, RetryPolicy
from recovery.records import AttemptRecord
from recovery.states import State
from recovery.verdict import Verdict

__all__ = ["AttemptTask", "Insistence", "Limit", "Outcome"]

T = TypeVar("T")

log = logging.getLogger("recovery.supervisor")

_AGAIN_S = 5.0
"""For the clean-up of an attempt that took too long, before it is cancelled again."""
_left_behind: set[asyncio.Task[Any]] = set()
"""Attempts that did not end when told to; kept so that they are not collected while they run."""


class Limit(Struct, frozen=True):
    """How many seconds an attempt may take, and what is raised when they are over."""

    seconds: float
    error: Callable[[], TimeoutError]

    @classmethod
    def of(cls, policy: RetryPolicy, history: History, now: float) -> Limit | None:
        """Return the tighter of the policy's limits on one attempt and on all of them; ``now`` in epoch seconds."""
        timeout_s, deadline_s = policy.attempt_timeout_s, policy.deadline_s
        if deadline_s is not None:
            left = max(0.0, history.started_at + deadline_s - now)
            if timeout_s is None or left < timeout_s:
                return cls(left, lambda: DeadlineExceeded(f"not done within {deadline_s:g} s"))
        return None if timeout_s is None else cls(timeout_s, lambda: AttemptTimedOut(timeout_s))


class Insistence:
    """Within ``asyncio.timeout(seconds)``: cancels again, every 5 s, an attempt that outlives that.

    A cancellation can be swallowed by the attempt, or lost: ``asyncio.wait_for`` before Python 3.12 loses one that
    comes in the moment in which what it waits for is done (cpython#86296). Nobody would cancel a second time.
    """

    __slots__ = ("_cuts", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        """Of the running task, from now on."""
        self._cuts = 0
        self._task = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(seconds + _AGAIN_S, self._cut)

    def _cut(self) -> None:
        assert self._task is not None
        self._cuts += 1
        self._task.cancel()
        self._timer = asyncio.get_running_loop().call_later(_AGAIN_S, self._cut)

    def __enter__(self) -> None:
        """Nothing more is to be done."""

    def __exit__(self, *_: object) -> None:
        """Take back what ``asyncio.timeout`` would take for somebody else's cancellation."""
        self._timer.cancel()
        for _cut in range(self._cuts):
            assert self._task is not None
            self._task.uncancel()


class Outcome(Struct, Generic[T], frozen=True):
    """How an attempt ended. Without ``error`` the value counts, None included."""

    value: T | None = None
    error: BaseException | None = None


class AttemptTask(Generic[T]):
    """Runs ``call(attempt)``. ``started_at`` is seconds since the epoch."""

    def __init__(
        self,
        call: Callable[[Attempt], Awaitable[T]],
        attempt: Attempt,
        *,
        limit: Limit | None,
        started_at: float,
        when_done: Callable[[object], None],
    ) -> None:
        """Start the task; ``when_done`` is called when it has ended."""
        self.attempt = attempt
        self.started_at = started_at
        self.progress_from = attempt.done
        self.began = False
        """Whether the callable was called at all; one that is stopped before that was no attempt."""
        self._task = asyncio.get_running_loop().create_task(self._run(call, limit))
        self._task.add_done_callback(when_done)

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._task.done()

    def when_done(self, call: Callable[[object], object]) -> None:
        """Have ``call`` called when it has ended."""
        self._task.add_done_callback(call)

    async def _run(self, call: Callable[[Attempt], Awaitable[T]], limit: Limit | None) -> Outcome[T]:
        self.began = True
        return await _guarded(call, self.attempt, limit)

    async def stop(self, *, within_s: float | None) -> None:
        """Cancel it and wait for its clean-up, not longer than ``within_s`` seconds of real time (None: no limit)."""
        if self._task.done():
            return
        self._task.cancel()
        await asyncio.wait((self._task,), timeout=within_s)
        if not self._task.done():
            log.error("attempt-ignores-cancellation", extra={"operation_id": self.attempt.operation_id})
            _left_behind.add(self._task)
            self._task.add_done_callback(_left_behind.discard)
            self._task.cancel()

    def record(
        self, state: State, *, ended_at: float, verdict: Verdict | None, error: str | None, delay_s: float | None
    ) -> AttemptRecord:
        """Return what the journal keeps of it; ``state`` is the one it led to."""
        return AttemptRecord(
            number=self.attempt.number,
            started_at=self.started_at,
            ended_at=ended_at,
            progress_from=self.progress_from,
            progress_to=self.attempt.done,
            outcome=state.value,
            category=None if verdict is None else verdict.category,
            error=error,
            delay_s=delay_s,
        )

    @property
    def at_work(self) -> bool:
        """Whether a thread is still at work on it."""
        return self.attempt.in_thread and not self._task.done()

    @property
    def outcome(self) -> Outcome[T]:
        """How it ended; one that was left behind, or cancelled before its first step, ended by cancellation."""
        if not self._task.done() or self._task.cancelled():
            return Outcome(error=asyncio.CancelledError())
        return self._task.result()


async def _guarded(call: Callable[[Attempt], Awaitable[T]], attempt: Attempt, limit: Limit | None) -> Outcome[T]:
    try:
        if limit is None:
            return Outcome(value=await call(attempt))
        async with asyncio.timeout(limit.seconds) as scope:
            with Insistence(limit.seconds):
                return Outcome(value=await call(attempt))
    except TimeoutError as exc:
        if limit is None or not scope.expired():
            return Outcome(error=exc)  # the attempt's own timeouts are its own business
        return Outcome(error=_late(limit, exc))
    except BaseException as exc:  # noqa: BLE001 - the edge of the attempt's task: a KeyboardInterrupt that left a task
        # would stop the event loop before the row says "paused"; the run raises it when it does.
        if limit is not None and scope.expired() and isinstance(exc.__cause__, asyncio.CancelledError):
            return Outcome(error=_late(limit, exc))
        return Outcome(error=exc)


def _late(limit: Limit, exc: BaseException) -> TimeoutError:
    late = limit.error()
    late.__cause__ = exc
    return late
