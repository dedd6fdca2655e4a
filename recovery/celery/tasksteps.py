"""The steps of a task: ``recovery.current_operation()`` in an async body, ``current_sync_operation()`` in any other."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from functools import partial
from typing import TYPE_CHECKING, Any

from recovery.classify import Classifier
from recovery.memory_call import run as call_awaiting
from recovery.memory_call import run_blocking
from recovery.policy import RetryPolicy
from recovery.recipe import plain_recipe
from recovery.stepbook import Undo
from recovery.stepped import Stepped
from recovery.steps import RunningSyncOperation
from recovery.supervisor import Supervisor

if TYPE_CHECKING:
    from recovery.celery.taskrun import TaskRun

__all__ = ["TaskSteps"]


class TaskSteps(Stepped):
    """Of one run; made in the event loop."""

    def __init__(self, run: TaskRun, supervisor: Supervisor, classifier: Classifier, key: str) -> None:
        """Nothing was done yet, as far as is known."""
        super().__init__(key, supervisor.journal, supervisor.edge, self._undo)
        self._run = run
        self._classifier = classifier
        self._loop = asyncio.get_running_loop()
        self.in_thread = RunningSyncOperation(self.operation, self._wait_for)
        """The operation for a body that runs in the task's own thread."""

    def _wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        """Keep what a step returned; raises CancelledError where the body, which cannot be interrupted, is to stop."""
        if self._run.control.requested is not None:
            work.close()
            raise CancelledError
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _undo(self, undo: Undo, value: Any) -> object:
        run = self._run
        recipe = plain_recipe(undo, run.call.name, run.call.policy or RetryPolicy(), self._classifier)
        if run.body is not None:
            return await call_awaiting(recipe, (value,), {})
        return await run.side.call(partial(run_blocking, recipe, (value,), {}))
