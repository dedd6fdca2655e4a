"""Interrupting an asyncio program at every one of its suspensions: counted, not sampled.

Every task that is made while a ``Stepper`` is installed is driven by hand. At the n-th time that any of them suspends,
the interruption is made: either at once, while what is awaited is still pending, or in the moment in which that is done
and the task has not been told yet. Both are places where ``await`` raises CancelledError.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from enum import StrEnum
from types import TracebackType
from typing import Any, Self


class Moment(StrEnum):
    """When the interruption comes."""

    PENDING = "while it waits"
    DONE = "when what it waits for is done"


class Stepper:
    """Interrupts at suspension number ``at``, counted from 1 over all tasks made meanwhile; one for one run."""

    def __init__(self, at: int, moment: Moment, interrupt: Callable[[], object]) -> None:
        """``interrupt`` is called once, in the event loop."""
        self.suspensions = 0
        self.interrupted = False
        self._at = at
        self._moment = moment
        self._interrupt = interrupt

    def __enter__(self) -> Self:
        """Drive every new task of the running loop."""
        asyncio.get_running_loop().set_task_factory(self._make)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave tasks alone again."""
        asyncio.get_running_loop().set_task_factory(None)

    def _make(
        self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any], **more: Any
    ) -> asyncio.Task[Any]:
        assert asyncio.iscoroutine(coro)
        more.setdefault("name", getattr(coro, "__qualname__", "?"))
        return asyncio.Task(_Driven(self, coro), loop=loop, **more)

    def suspended(self, on: object) -> None:
        """Count a suspension, and interrupt if it is the one."""
        self.suspensions += 1
        if self.suspensions != self._at:
            return
        if self._moment is Moment.DONE and isinstance(on, asyncio.Future):
            on.add_done_callback(lambda _: self._act())  # before the task's own callback, which comes after us
        else:
            asyncio.get_running_loop().call_soon(self._act)

    def _act(self) -> None:
        if not self.interrupted:
            self.interrupted = True
            self._interrupt()


class _Driven(Coroutine[Any, Any, Any]):
    """A coroutine that tells the stepper of each suspension of another one."""

    def __init__(self, stepper: Stepper, coro: Coroutine[Any, Any, Any]) -> None:
        self._stepper = stepper
        self._coro = coro

    def __await__(self) -> Generator[Any, Any, Any]:
        raise NotImplementedError("only tasks drive it")

    def send(self, value: Any) -> Any:
        on = self._coro.send(value)
        self._stepper.suspended(on)
        return on

    def throw(self, *exc: Any) -> Any:
        on = self._coro.throw(*exc)
        self._stepper.suspended(on)
        return on

    def close(self) -> None:
        self._coro.close()
