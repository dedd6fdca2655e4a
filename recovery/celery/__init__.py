"""Celery tasks as durable operations: they wait without a slot, come back after any death, and never run twice.

::

    @recoverable_task(app, key=lambda order: order)
    async def ship(order: str) -> str: ...

    configure(app)          # the settings with which nothing is lost

The only part of this library that imports Celery (see docs/decisions); everything else works without it.
"""

from __future__ import annotations

from recovery.celery.decorator import configure, recoverable_task
from recovery.celery.endings import GiveWay, StopReason, TaskFailed
from recovery.celery.settings import RECOMMENDED, TASK_OPTIONS, WorkerSettings, dangers
from recovery.celery.taskrun import TaskRun, current_run
from recovery.celery.worker import TaskPaused, Waiting

__all__ = [
    "RECOMMENDED",
    "TASK_OPTIONS",
    "GiveWay",
    "StopReason",
    "TaskFailed",
    "TaskPaused",
    "TaskRun",
    "Waiting",
    "WorkerSettings",
    "configure",
    "current_run",
    "dangers",
    "recoverable_task",
]
