"""What waits to be written, handed to the database thread a group at a time, and the answers on their way back.

It wakes the thread for what is to be done when nothing happens, too: probing a file that could not be used, emptying
the WAL. It opens and closes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

from recovery.clock import Clock
from recovery.sqlitethread import SqliteThread
from recovery.statefile import StoreLimits
from recovery.store import Store
from recovery.work import Work, hand_out

__all__ = ["WriteQueue"]

_SOONEST_S = 0.05


class WriteQueue:
    """The functions that callers of one event loop wait for."""

    def __init__(
        self,
        thread: SqliteThread,
        store: Store,
        *,
        clock: Clock,
        limits: StoreLimits,
        fail: Callable[[Exception], None],
    ) -> None:
        """``fail`` is told, in the event loop, when the thread's own work raises: a mistake of ours."""
        self._loop = asyncio.get_running_loop()
        self._thread = thread
        self._store = store
        self._clock = clock
        self._limits = limits
        self._fail = fail
        self._pending: deque[Work] = deque()
        self._done: deque[list[Work]] = deque()
        """Groups whose callers have not been told yet; the thread adds to it."""
        self._busy = False
        """Whether the thread has been given something that it has not reported back from."""
        self._busy_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    # --- in the event loop --------------------------------------------------------------------------------------------

    def add(self, work: Work) -> None:
        """Let the work be done; its future gets the result."""
        self._pending.append(work)
        # No task in between, and one callback when all is done: every turn of the event loop more is a wait for both.
        if not self._busy:
            self._busy = True
            self._thread.post(self._drain)

    def set_timer(self) -> None:
        """See to it that the thread is woken when the file is to be probed, or the WAL to be emptied."""
        due = self._due()
        if due is None or self._stopped:
            return
        if self._timer is not None:
            if self._timer.when() <= due:
                return  # it will look again when it rings
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._ring)

    def stop(self) -> None:
        """Set no timer any more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def answer(self) -> None:
        """Tell the callers of everything that is done."""
        while self._done:
            hand_out(self._done.popleft())

    def refuse(self, exc: Exception) -> None:
        """Tell whoever still waits that nothing comes any more."""
        for work in self._pending:
            if work.future is not None and not work.future.done():
                work.future.set_exception(exc)

    def _due(self) -> float | None:
        store = self._store
        if store.probe_at is not None:
            return self._loop.time() + max(_SOONEST_S, store.probe_at - self._clock.monotonic())
        idle = store.file is not None and store.file.unchecked > 0
        return self._busy_at + self._limits.idle_s if idle else None

    def _ring(self) -> None:
        rung, self._timer = self._loop.time(), None
        if self._busy:
            return  # it is set again when the thread reports; one set now would be in the past, and ring at every turn
        due = self._due()
        if due is None or (self._store.probe_at is None and due > rung):
            self.set_timer()
        else:
            self._busy = True
            self._thread.post(self._tend)

    def _report(self, mistake: Exception | None) -> None:
        self.answer()
        self._busy = False
        self._busy_at = self._loop.time()
        if mistake is not None:
            self._fail(mistake)
        elif self._pending:
            self._busy = True
            self._thread.post(self._drain)
        else:
            self.set_timer()

    # --- in the database thread ---------------------------------------------------------------------------------------

    def write_pending(self) -> None:
        """Do all that waits."""
        while works := self._take():
            try:
                self._store.write(works)
            except BaseException as exc:  # noqa: BLE001 - the edge of the thread: a caller must never wait for ever
                for work in works:
                    work.error = exc
            self._done.append(works)
            if self._pending or self._store.maintenance_due:
                self._in_loop(self.answer)
                self._store.maintain()

    def _take(self) -> list[Work]:
        works: list[Work] = []
        while self._pending and len(works) < self._limits.group:
            work = self._pending.popleft()
            if work.future is None or not work.future.cancelled():
                works.append(work)
        return works

    def _drain(self) -> None:
        self._reporting(self.write_pending)

    def _tend(self) -> None:
        self._reporting(self._store.tend)

    def _reporting(self, work: Callable[[], None]) -> None:
        mistake = None
        try:
            work()
        except Exception as exc:  # noqa: BLE001 - the edge of the thread: our own mistake must not be silence
            mistake = exc
        self._in_loop(self._report, mistake)

    def _in_loop(self, callback: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is waiting any more
            self._loop.call_soon_threadsafe(callback, *args)
