"""What a worker does besides running tasks: it checks its settings, looks for what was lost, and closes what it opened.

All of it hangs on Celery's signals. The main process of a prefork worker opens nothing, because it forks: the looking
is done by whichever child gets the lock.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from celery import Celery, signals, states
from celery.concurrency.prefork import TaskPool as PreforkPool
from msgspec import Struct

from recovery.celery.reconciler import LockFile, Nudge
from recovery.celery.settings import dangers
from recovery.celery.shutdown import announce
from recovery.celery.worker import NUDGED
from recovery.loopthread import PerProcess, process_loop

__all__ = ["CeleryOutbox", "Lifeline", "attach"]

log = logging.getLogger("recovery.celery")

_GRACE_S = 5.0


class CeleryOutbox:
    """Sends through an application; see ``reconciler.Outbox``."""

    def __init__(self, app: Celery) -> None:
        """Nothing is connected yet."""
        self._app = app

    def send(self, nudge: Nudge, message: Mapping[str, Any] | None) -> None:
        """Send the message again under its old id, or a new one."""
        if message is not None:
            again = self._app.signature(dict(message))
            headers = {**(again.options.get("headers") or {}), NUDGED: "at-once" if nudge.at_once else "lost"}
            again.apply_async(countdown=None, eta=None, retry=False, headers=headers)
        else:
            queue = next(iter(self._app.amqp.queues.consume_from), None)  # this worker's own: the state is here
            self._app.send_task(nudge.task, kwargs=dict(nudge.kwargs), queue=queue, retry=False)

    def has_ended(self, task_id: str) -> bool:
        """Ask the result backend; one that is disabled or away knows of no end."""
        try:
            state = self._app.AsyncResult(task_id).state
        except Exception:  # noqa: BLE001 - the edge to a backend that may be away or disabled
            return False
        return state in states.READY_STATES


class Lifeline(Struct, frozen=True, kw_only=True):
    """What the signals of one application need to know."""

    app: Celery
    name: str
    lock: Callable[[], Path]
    """The lock file of the state file this worker uses."""
    look: Callable[[], Coroutine[Any, Any, None]]
    """Looks for lost work until it is cancelled."""
    close: Callable[[], None]
    """Closes what tasks have opened in this process."""
    widest: bool = False
    """Whether this one looks after more than tasks: of several on one state file it is the one that looks."""


class _Standby:
    """A daemon thread that waits for the lock and then looks."""

    def __init__(self, lifeline: Lifeline, every_s: float = 5.0) -> None:
        self._lifeline = lifeline
        self._every_s = every_s
        self._over = threading.Event()
        self._ended = threading.Event()
        self._lock = LockFile(lifeline.lock())
        self._looking: concurrent.futures.Future[None] | None = None
        threading.Thread(target=self._run, name="recovery standby", daemon=True).start()

    def _run(self) -> None:
        while not self._taken():
            if self._over.wait(self._every_s):
                return
        self._looking = asyncio.run_coroutine_threadsafe(self._look(), process_loop.get().loop)

    async def _look(self) -> None:
        try:
            await self._lifeline.look()
        except Exception:  # the edge of its thread: tasks go on without
            log.exception("reconciler-ended")
        finally:
            self._ended.set()

    def _taken(self) -> bool:
        try:
            return self._lock.take()
        except OSError:
            return False  # no such folder yet

    def close(self) -> None:
        self._over.set()
        if self._looking is not None:
            self._looking.cancel()
            self._ended.wait(_GRACE_S)  # a cancelled future says so at once; its clean-up takes a moment
        self._lock.release()


_attached: WeakKeyDictionary[Celery, dict[str, list[Lifeline]]] = WeakKeyDictionary()


def attach(lifeline: Lifeline) -> None:
    """Connect to Celery's signals. Of those with the same application and name one looks, and all are closed."""
    together = _attached.setdefault(lifeline.app, {}).setdefault(lifeline.name, [])
    together.append(lifeline)
    if len(together) == 1:
        _connect(lifeline.app, lifeline.name, together)


def _connect(app: Celery, name: str, together: Sequence[Lifeline]) -> None:
    standby = PerProcess(lambda: _Standby(max(together, key=lambda one: one.widest)))

    def check(**_: Any) -> None:
        for sentence in dangers(app.conf):
            log.warning(sentence)

    def shutting_down(**_: Any) -> None:
        announce()

    def child_begins(**_: Any) -> None:
        standby.get()

    def worker_ready(sender: Any = None, **_: Any) -> None:
        if not isinstance(getattr(sender, "pool", None), PreforkPool):
            standby.get()

    def ends(**_: Any) -> None:
        taken = standby.take()
        if taken is not None:
            taken.close()
        for lifeline in together:
            lifeline.close()

    uid = f"recovery:{id(app)}:{name}"
    signals.worker_init.connect(check, weak=False, dispatch_uid=uid)
    signals.worker_shutting_down.connect(shutting_down, weak=False, dispatch_uid=uid)
    signals.worker_process_init.connect(child_begins, weak=False, dispatch_uid=uid)
    signals.worker_ready.connect(worker_ready, weak=False, dispatch_uid=uid)
    signals.worker_process_shutdown.connect(ends, weak=False, dispatch_uid=uid)
    signals.worker_shutdown.connect(ends, weak=False, dispatch_uid=uid)
