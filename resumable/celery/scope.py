"""The downloads of one running task: they share a slot of the worker, and give it back together.

A download whose next attempt is far away keeps the slot only as long as another one of the same task uses it. When
all of them wait, the task's body is put down: it is cancelled at its ``await`` and run again from its beginning when
the first of them is due. What is finished by then is found finished.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, Protocol, TypeAlias, TypeVar

from recovery.celery.endings import GiveWay, SlotFreed, StopReason
from recovery.celery.taskrun import TaskRun
from recovery.clock import Clock
from recovery.lifecycle import Fenced
from recovery.loopthread import LoopThread
from recovery.owner import surely_dead
from recovery.shield import to_the_end
from recovery.verdict import Action, Category, Verdict
from recovery.waker import Waker
from resumable.errors import DownloadDeferred, DownloadElsewhere, DownloadPaused
from resumable.events import DownloadEvent, DownloadView, EventName
from resumable.handle import DownloadHandle
from resumable.manager import DownloadManager
from resumable.model import Result
from resumable.roster import Found

__all__ = ["Attached", "Observer", "Scope", "Users", "current_scope"]

log = logging.getLogger("resumable.celery")

T = TypeVar("T")

Finished: TypeAlias = Callable[[], Coroutine[Any, Any, Found | None]]
"""Looks whether a download is finished; see ``DownloadManager.finished``."""

_PUT_DOWN_S = 5.0
_AFTER_S = 1.0
_FOLLOW_S = (2.0, 5.0, 10.0, 20.0, 30.0)
"""When to look again whether the download that another task runs is done."""

current_scope: ContextVar[Scope | None] = ContextVar("resumable-celery-scope", default=None)


class Attached(Exception):  # noqa: N818 - names what happened
    """Another task has the download."""

    def __init__(self, download_id: str) -> None:
        """Keep its id."""
        super().__init__(download_id)
        self.download_id = download_id


class Observer(Protocol):
    """Who is told how the downloads of a task get on."""

    def changed(self, views: dict[str, DownloadView]) -> None:
        """Take the newest views, by download id; quick, and never raises."""


class Users:
    """Which tasks of this process use which download, and who hears of it."""

    def __init__(self) -> None:
        """Nobody uses anything."""
        self.counts: Counter[str] = Counter()
        self.scopes: dict[str, set[Scope]] = {}

    def on_event(self, event: DownloadEvent) -> None:
        """Hand an event of the manager to the tasks that wait for its download."""
        for scope in self.scopes.get(event.view.download_id, ()):
            scope.on_event(event)

    def add(self, download_id: str, scope: Scope) -> None:
        """Note one more user."""
        self.counts[download_id] += 1
        self.scopes.setdefault(download_id, set()).add(scope)

    def remove(self, download_id: str, scope: Scope) -> bool:
        """Note one less; return whether it was the last one."""
        self.counts[download_id] -= 1
        if self.counts[download_id] > 0:
            return False
        del self.counts[download_id]
        self.scopes.pop(download_id, set()).discard(scope)
        return True


@dataclass(slots=True, eq=False)
class _Entry:
    """One download that the body waits for. ``next_at``: seconds since the epoch; None while it transfers."""

    next_at: float | None = None


class Scope:
    """Made for each run of a task's body."""

    def __init__(
        self,
        run: TaskRun,
        manager: DownloadManager,
        users: Users,
        *,
        clock: Clock,
        hold_slot_s: float,
        loop_thread: LoopThread,
        observer: Observer | None = None,
    ) -> None:
        """A wait up to ``hold_slot_s`` seconds keeps the slot; ``loop_thread`` is the one the manager lives in."""
        self.run = run
        self.loop_thread = loop_thread
        self._manager = manager
        self._users = users
        self._clock = clock
        self._hold_slot_s = hold_slot_s
        self._journal = manager.journal
        self._observer = observer
        self._entries: set[_Entry] = set()
        self._views: dict[str, DownloadView] = {}
        self._new_bytes: dict[str, int] = {}
        self._urged: set[str] = set()
        self._stopping: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._freed = asyncio.Event()
        run.on_shutdown = self.hand_back

    # -- from outside ------------------------------------------------------------------------------------------------

    def hand_back(self) -> None:
        """Checkpoint and give the slot back as soon as the body waits for nothing but downloads."""
        if not self._stopping.done():
            self._stopping.set_result(None)
        self._review()

    def on_event(self, event: DownloadEvent) -> None:
        """Take news of a download."""
        view = event.view
        self._views[view.download_id] = view
        # A wait counts like a byte: a process that is killed while a body waits in it is no sign of a crash loop. What
        # was on disk before counts nothing, or a body that dies after its downloads would be run for ever.
        new = max(0, min(view.bytes_done - view.bytes_resumed, view.bytes_received))
        former, self._new_bytes[view.download_id] = self._new_bytes.get(view.download_id, 0), new
        waits = event.event in {EventName.WAITING, EventName.PARKED}
        self.run.advance(waits + max(0, new - former), at_once=waits)
        if self._observer is not None:
            self._observer.changed(self._views)

    # -- for bodies --------------------------------------------------------------------------------------------------

    async def download(
        self,
        url: str,
        dest: Any = None,
        *,
        attach: bool = False,
        places: asyncio.Semaphore | None = None,
        **request: Any,
    ) -> Result:
        """Download a file. Raises what ``DownloadManager.start`` and its handle raise, and Attached with ``attach``.

        ``places`` are how many may transfer at once; one that waits for its next attempt takes none.
        """

        async def start() -> DownloadHandle:
            return self._manager.start(url, dest, args={"task": self.run.operation_id}, **request)

        finished = partial(self._manager.finished, url, dest, **request)
        return await self._through(start, attach=attach, places=places, finished=finished)

    async def resume(self, download_id: str) -> Result:
        """Continue a download that the state file knows. Raises LookupError, NeedsLink, and what ``download`` does."""

        async def start() -> DownloadHandle:
            handles = await self._manager.recover([download_id], args={"task": self.run.operation_id})
            if not handles:
                raise LookupError(f"no download {download_id}")
            return handles[0]

        return await self._through(start, attach=True)

    async def finished(self) -> dict[str, Any]:
        """Return what former runs of the body have noted as finished."""
        return await self._journal.steps(self.run.operation_id)

    async def finish(self, name: str, found: dict[str, Any]) -> None:
        """Note that a part of the body need not be done again, and with what result."""
        attempt = self.run.attempt
        if attempt is None:
            return
        try:
            await to_the_end(self._journal.save_step(attempt.operation_id, attempt.generation, name, found))
        except Fenced:
            raise
        except Exception as exc:  # noqa: BLE001 - the edge to the store: without the note the file is looked at again
            log.warning("step-not-recorded", extra={"error": type(exc).__name__})

    async def _through(
        self,
        start: Callable[[], Awaitable[DownloadHandle]],
        *,
        attach: bool,
        places: asyncio.Semaphore | None = None,
        finished: Finished | None = None,
    ) -> Result:
        entry = _Entry()
        self._entries.add(entry)
        try:
            for attempt in itertools.count():
                try:
                    async with places or nullcontext():
                        return await self._found(finished) or await self._transfer(start, attach=attach)
                except DownloadDeferred as deferred:
                    entry.next_at = deferred.next_at
                except DownloadElsewhere as elsewhere:
                    if attach:
                        raise Attached(elsewhere.download_id) from None
                    entry.next_at = await self._elsewhere(elsewhere.download_id, attempt)
                except DownloadPaused:
                    if not self._stopping.done():
                        await self._paused_by_a_person()
                    entry.next_at = self._clock.time()
                await self._wait(entry)
        finally:
            self._entries.discard(entry)
            # Not at once: the body first gets to do something with what it has just been given.
            asyncio.get_running_loop().call_later(_AFTER_S, self._review)
        raise AssertionError  # itertools.count() does not end

    async def _found(self, finished: Finished | None) -> Result | None:
        """Return a download that is finished, which needs neither a handle nor events."""
        if finished is None or self._stopping.done():
            return None
        found = await self._unless_stopping(finished())
        if found is None:
            return None
        result, view = found
        self._views[view.download_id] = view
        return result

    async def _transfer(self, start: Callable[[], Awaitable[DownloadHandle]], *, attach: bool) -> Result:
        if self._stopping.done():
            raise DownloadPaused("the worker is shutting down")
        handle = await start()
        name = handle.download_id
        if self.run.call.at_once and name not in self._urged:
            self._urged.add(name)
            handle.retry_now()  # past the gate of a host that is left alone, too
        if attach and self._users.counts[name]:
            raise Attached(name)
        self._users.add(name, self)
        try:
            return await self._unless_stopping(_result(handle))
        finally:
            last = self._users.remove(name, self)
            if last and not handle.done:
                # Cancelled, or handed back: the handle's own task goes on without us unless it is stopped. Not paused:
                # whoever starts the download next in this process would wait for the handle to be resumed.
                with suppress(TimeoutError):
                    await to_the_end(handle.stop(), within_s=_PUT_DOWN_S)

    async def _unless_stopping(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what ``work`` comes to; raises DownloadPaused, and it is cancelled, on the order to stop."""
        waker = Waker()
        waiting = asyncio.ensure_future(work)
        self._stopping.add_done_callback(waker.wake)
        try:
            await waker.until(waiting, or_else=self._stopping.done)
            if waiting.done():
                return waiting.result()
            raise DownloadPaused("the worker is shutting down")
        finally:
            self._stopping.remove_done_callback(waker.wake)
            if not waiting.done():
                waiting.cancel()
                await asyncio.wait({waiting})

    async def _elsewhere(self, download_id: str, attempt: int) -> float:
        """Return when to look again at a download that somebody else runs."""
        row = await self._journal.get(download_id)
        now = self._clock.time()
        if row is None or not row.leased(now) or (row.owner is not None and surely_dead(row.owner)):
            return now + 0.2  # it has just ended
        return now + _FOLLOW_S[min(attempt, len(_FOLLOW_S) - 1)]

    async def _paused_by_a_person(self) -> NoReturn:
        self.run.stop(StopReason.PERSON)
        await self._until_put_down()

    # -- waiting -----------------------------------------------------------------------------------------------------

    async def _wait(self, entry: _Entry) -> None:
        """Sleep until the entry is due, or never return because the slot is given back."""
        self._review()
        if self.run.gives_way is not None or self.run.reason is not None:
            await self._until_put_down()
        assert entry.next_at is not None
        now = self._clock.time()
        # Once it is to stop nothing is begun: whoever looked again at once would do so until the last one is put down.
        look_at = now + _PUT_DOWN_S if self._stopping.done() else entry.next_at
        sleeping = asyncio.ensure_future(self._clock.sleep(max(0.0, look_at - now)))
        freed = asyncio.ensure_future(self._freed.wait())
        try:
            await asyncio.wait({sleeping, freed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            freed.cancel()
        if self._freed.is_set():
            await self._until_put_down()
        entry.next_at = None

    def _review(self) -> None:
        """Give the slot back when everything the body waits for is far away."""
        times = [entry.next_at for entry in self._entries]
        waits = [at for at in times if at is not None]
        if not waits or len(waits) < len(times) or self.run.gives_way is not None or self.run.reason is not None:
            return
        if self._stopping.done():
            self._freed.set()
            self.run.stop(StopReason.SHUTDOWN)
            return
        first = min(waits)
        wait_s = first - self._clock.time()
        if wait_s <= self._hold_slot_s:
            return
        self._freed.set()
        self.run.give_way(GiveWay(first, wait_s, verdict=self._verdict()))

    def _verdict(self) -> Verdict | None:
        """Return what is waited for, in the words of the first download that says so."""
        error = next((view.error for view in self._views.values() if view.error is not None), None)
        if error is None:
            return None
        return Verdict(category=Category(error.category), action=Action.FAIL, code=error.code, message=error.message)

    async def _until_put_down(self) -> NoReturn:
        """End here: a coroutine is cancelled any moment, a thread is led out."""
        if self.run.body is None:
            raise SlotFreed
        await asyncio.Event().wait()
        raise AssertionError  # nobody sets it


async def _result(handle: DownloadHandle) -> Result:
    return await handle
