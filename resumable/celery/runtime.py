"""What one worker process has for its downloads, and what it looks after; see ``recovery.celery.runtime``."""

from __future__ import annotations

import functools
import logging
import math
import os
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Literal
from weakref import WeakKeyDictionary

from celery import Celery, Task, signals
from msgspec import Struct

from recovery.celery.decorator import HOLD_SLOT_S, Runtimes
from recovery.celery.lifeline import CeleryOutbox, Lifeline, attach
from recovery.celery.reconciler import LOST_S, Nudge, Reconciler, idle_since, reconcile_forever
from recovery.celery.runtime import Runtime, messages_of
from recovery.celery.taskrun import KIND, TaskRun
from recovery.celery.worker import is_celery_control
from recovery.clock import SystemClock
from recovery.database import Database
from recovery.journal import JOURNAL, Journal
from recovery.policy import RetryPolicy
from recovery.records import Operation
from recovery.states import State
from resumable.celery.meta import progress_meta, worth_telling
from resumable.celery.scope import Scope, Users
from resumable.events import DownloadView
from resumable.manager import DownloadManager
from resumable.model import Options
from resumable.rows import COMPANIONS, DOWNLOADS, claimed_ids
from resumable.statefile import default_state_path

__all__ = [
    "RESUME",
    "CeleryProgress",
    "DownloadRuntime",
    "WorkerOptions",
    "options_of",
    "resumed_by_hand",
    "runtimes_of",
    "stranded",
]

log = logging.getLogger("resumable.celery")

RESUME: Final = "resumable.resume"
_BY_HAND_S: Final = 1.0
_TELL_EVERY_S: Final = 0.5
_AFTER_TROUBLE_S: Final = 30.0


class WorkerOptions(Struct, frozen=True, kw_only=True):
    """How an application's downloads run. Times are seconds, rates bytes per second."""

    state: Path | str | None = None
    """State file of this host, on a local disk; None: ``$RESUMABLE_STATE`` or the platform's place."""
    max_concurrent: int = 64
    """Most transfers at once in one process. A prefork child runs one task at a time anyway; this bounds
    ``fetch_many`` and big pools of threads."""
    per_host: int = 16
    limit_rate: int | None = None
    """Of one process."""
    policy: RetryPolicy | None = None
    options: Options | None = None
    hold_slot_s: float = HOLD_SLOT_S
    """A longer wait frees the slot."""
    on_warm_shutdown: Literal["hand_back", "finish"] = "hand_back"
    """What running downloads do when their worker gets SIGTERM: go back to the queue at the byte they are at, or
    hold it up until they are done, as other tasks do."""
    reconcile_every_s: float = 5.0

    @property
    def path(self) -> Path:
        """The state file."""
        return Path(self.state) if self.state is not None else default_state_path(os.environ)


def options_of(app: Celery) -> WorkerOptions:
    """Return what ``configure`` was given for this application."""
    options = app.conf.get("resumable")
    return options if isinstance(options, WorkerOptions) else WorkerOptions()


class DownloadRuntime(Runtime):
    """A ``DownloadManager``, whose journal also has the tasks."""

    def __init__(self, options: WorkerOptions, *, longest_wait_s: float) -> None:
        """Nothing is opened before the first task."""
        super().__init__(options.path, longest_wait_s=longest_wait_s, is_control=is_celery_control)
        self._options = options
        self._users = Users()
        self._manager: DownloadManager

    async def open(self, stack: AsyncExitStack) -> Journal:
        """Open state file and connection pool."""
        given = self._options
        self._manager = await stack.enter_async_context(
            DownloadManager(
                state=given.path,
                max_concurrent=given.max_concurrent,
                per_host=given.per_host,
                limit_rate=given.limit_rate,
                policy=given.policy,
                options=given.options,
                on_event=self._users.on_event,
                longest_wait_s=self.longest_wait_s,
                follow=math.isinf(self.longest_wait_s),
            )
        )
        return self._manager.journal

    def scope(self, run: TaskRun, task: Task | None) -> Scope:
        """Return what the downloads of a running body share."""
        scope = Scope(
            run,
            self._manager,
            self._users,
            clock=SystemClock(),
            hold_slot_s=self.longest_wait_s,
            # Not asked of the task: this is the loop's thread, where Celery knows of no request.
            observer=CeleryProgress(task, run) if task is not None and run.call.message else None,
            loop_thread=self.loop_thread,
        )
        if self._options.on_warm_shutdown == "hand_back":
            run.on_shutdown = scope.hand_back
        return scope


class CeleryProgress:
    """Shows a task's downloads as its state PROGRESS: at most twice a second, and only what can be seen."""

    def __init__(self, task: Task, run: TaskRun) -> None:
        """``run.side`` is where Celery may be called: its request lives in that thread."""
        self._task = task
        self._task_id = run.call.task_id
        self._run = run
        self._shown: dict[str, Any] = {}
        self._not_before = time.monotonic() + _TELL_EVERY_S  # what ends at once needs no progress
        self._pending = False

    def changed(self, views: dict[str, DownloadView]) -> None:
        """Take the newest views."""
        if self._pending or time.monotonic() < self._not_before:
            return
        meta = progress_meta(views)
        if not worth_telling(self._shown, meta):
            return
        self._shown, self._pending, self._run.shown = meta, True, True
        self._not_before = time.monotonic() + _TELL_EVERY_S
        self._run.side.post(functools.partial(self._show, meta))

    def _show(self, meta: dict[str, Any]) -> None:
        try:
            self._task.update_state(task_id=self._task_id, state="PROGRESS", meta=meta)
            if self._task.app.conf.worker_send_task_events:  # Flower listens
                self._task.send_event("task-progress", retry=False, **meta["progress"])
        except Exception as exc:  # noqa: BLE001 - the edge to a result backend or broker that may be away
            self._not_before = time.monotonic() + _AFTER_TROUBLE_S
            log.warning("progress-not-shown", extra={"error": type(exc).__name__})
        finally:
            self._pending = False


_known: WeakKeyDictionary[Celery, dict[WorkerOptions, Runtimes]] = WeakKeyDictionary()


def runtimes_of(app: Celery) -> Runtimes:
    """Return what the downloads of an application share in this process; its workers look after it from now on."""
    options = options_of(app)
    known = _known.setdefault(app, {})
    runtimes = known.get(options)
    if runtimes is None:
        runtimes = known[options] = Runtimes(
            lambda longest: DownloadRuntime(options, longest_wait_s=longest), hold_slot_s=options.hold_slot_s
        )
        _look_after(app, options, runtimes)
    return runtimes


def _look_after(app: Celery, options: WorkerOptions, runtimes: Runtimes) -> None:
    path = options.path

    def make(journal: Journal) -> Reconciler:
        return Reconciler(
            journal,
            messages_of(path),
            CeleryOutbox(app),
            every_s=options.reconcile_every_s,
            more=resumed_by_hand,
            stranded=stranded,
        )

    async def look() -> None:
        await reconcile_forever(path, functools.partial(_open_journal, path), make, every_s=options.reconcile_every_s)

    lock = path.with_name(path.name + ".reconciler")
    name = str(path.absolute())
    attach(Lifeline(app=app, name=name, lock=lambda: lock, look=look, close=runtimes.close, widest=True))


async def _open_journal(path: Path, stack: AsyncExitStack) -> Journal:
    database = await Database.open(path, (JOURNAL, DOWNLOADS))
    stack.push_async_callback(database.close)
    return Journal(database, companions=COMPANIONS, needed=claimed_ids)


def resumed_by_hand(rows: Iterable[Operation], now: float) -> list[Nudge]:
    """Return what to send for downloads that a person has resumed or wants retried now, and that no task has in hand.

    The task that waits for it, where there is one, is nudged before its time; else a new task continues the download.
    """
    every = list(rows)
    tasks = {row.operation_id: row for row in every if row.kind == KIND}
    found = []
    for row in every:
        if not _is_queued_here(row) or not _by_hand(row):
            continue
        since = idle_since(row, now)
        task = tasks.get(str(row.args["task"]))
        if since is None or now - since < _BY_HAND_S or (task is not None and task.leased(now)):
            continue
        task_id = None if task is None else task.args.get("id")
        found.append(
            Nudge(
                row.operation_id,
                since,
                task_id if isinstance(task_id, str) else None,
                at_once=True,
                task=RESUME,
                kwargs={"download_id": row.operation_id},
            )
        )
    return found


def stranded(rows: Iterable[Operation], now: float) -> list[str]:
    """Return the downloads that the sweep has made eligible but whose task has ended or was stopped meanwhile: a hard
    time limit, a crash loop. Nobody runs them any more, so they must not say that they are in a queue.
    """
    every = list(rows)
    at_work = {row.operation_id for row in every if row.kind == KIND and row.state is not State.PAUSED}
    found = []
    for row in every:
        if not _is_queued_here(row) or _by_hand(row) or row.args["task"] in at_work:
            continue
        since = idle_since(row, now)
        if since is not None and now - since >= LOST_S:
            found.append(row.operation_id)
    return found


def _is_queued_here(row: Operation) -> bool:
    """Return whether this is a download of a task that nobody runs at the moment."""
    return row.kind == "download" and row.state is State.QUEUED and "task" in row.args


def _by_hand(row: Operation) -> bool:
    """Return whether a person has queued it: what the sweep queues keeps its verdict, or counts a death."""
    return row.category is None and row.deaths == 0


def _worker_begins(sender: Any = None, **_: Any) -> None:
    """Look after every worker that has our tasks, also one whose application was not told so in any other way."""
    app = getattr(sender, "app", None)
    if app is not None:
        runtimes_of(app)


signals.worker_init.connect(_worker_begins, weak=False, dispatch_uid="resumable.celery")
