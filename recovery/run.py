"""One supervised operation from its claim to its end: attempt, judge, wait or park, again.

Not public: ``Supervisor.run`` makes one and drives it. The attempt runs in a task of its own, so that it can be stopped
without stopping whoever waits for the result; everything else happens in the caller's task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Generic, NoReturn, TypeVar

from msgspec.structs import replace

from recovery.account import Account
from recovery.admission import Admission
from recovery.attempt_task import AttemptTask, Limit, Outcome
from recovery.classify import Classifier
from recovery.control import Attempt, Control, Wish
from recovery.endings import (
    CrashLooping,
    LeaseHeld,
    OperationCancelled,
    OperationDeferred,
    OperationPaused,
)
from recovery.gate import HostGateOpen
from recovery.lifecycle import CRASH_LOOP, Fenced
from recovery.logbook import Entry, Logbook
from recovery.means import Means
from recovery.policy import GiveUp, Park, Retry, decide
from recovery.records import Operation
from recovery.shield import to_the_end
from recovery.states import State
from recovery.switches import SWITCHES
from recovery.taxonomy import machine
from recovery.taxonomy.network import OFFLINE, may_be_offline
from recovery.verdict import Action, Category, Condition, Verdict
from recovery.waker import Waker
from recovery.watchers import Watcher

__all__ = ["Run"]

T = TypeVar("T")

log = logging.getLogger("recovery.supervisor")

_MOST_DEATHS = 3
_CLEAN_UP_S = 5.0
"""Longest wait for an attempt that is paused or cancelled to put its things in order."""
_LAST_WORDS_S = 0.6
"""The same when the program is being stopped: people press Ctrl-C again after a second."""
_SOON_S = 2.5
"""Looks at a gate that come sooner than this after the last one are not written down."""
_STOP_S = 0.9
"""For all of that and the last write; what takes longer is done, but not waited for."""

_STOPS: Mapping[Wish, tuple[State, type[OperationPaused | OperationCancelled]]] = {
    Wish.PAUSE: (State.PAUSED, OperationPaused),
    Wish.CANCEL: (State.CANCELLED, OperationCancelled),
}


class Run(Generic[T]):
    """Drives one operation. ``book`` is its row, ``control`` what its user steers it with."""

    def __init__(
        self,
        means: Means,
        book: Logbook,
        call: Callable[[Attempt], Awaitable[T]],
        *,
        control: Control,
        admission: Admission,
        on_give_up: Callable[[BaseException], Awaitable[bool]] | None = None,
        classifier: Classifier | None = None,
    ) -> None:
        """Nothing happens yet. ``classifier`` None takes that of ``means``."""
        self.book = book
        self.control = control
        self._means = means
        self._call = call
        self._admission = admission
        self._on_give_up = on_give_up
        self._classifier = classifier or means.classifier
        self._policy = book.spec.policy
        self._account = Account(means, book, control)
        self._fresh = False
        self._urged = False
        self.trial: AttemptTask[T] | None = None
        self._waker = Waker()
        self._claimed = False
        self._lost = False

    # -- from outside -------------------------------------------------------------------------------------------------

    async def drive(self) -> T:
        """Run the operation to its end; see ``Supervisor.run``."""
        self.control.attach(self._waker.wake)
        try:
            return await self._drive()
        except asyncio.CancelledError:
            with suppress(asyncio.CancelledError, TimeoutError, Fenced):
                await to_the_end(self._put_down(), within_s=_STOP_S, let_go=True)
            raise
        finally:
            if self._means.heartbeat is not None:
                self._means.heartbeat.discard(self)
            self._admission.free_slot()
            self.control.attach(None)

    async def renew(self) -> bool:
        """Extend the lease and say how far the attempt has come; False once another owner has the lease."""
        trial = self._account.unrecorded
        progress = None if trial is None else (trial.attempt.done, trial.attempt.total)
        return await self.book.renew(self._means.clock.time(), progress)

    def lose(self) -> None:
        """Learn that another owner has the lease: stop, and write nothing more."""
        self._lost = True
        self._waker.wake()

    # -- the loop -----------------------------------------------------------------------------------------------------

    async def _drive(self) -> T:
        try:
            return await self._repeat()
        except Exception as error:
            # A hook, a rule or a clock that is not ours broke. Nobody goes on with this, so the row must not say so.
            await self._admission.give_back()
            if self._claimed and not self._lost and not self._account.closed:
                await self._account.end(self._account.failed(State.FAILED, error))
            raise

    async def _repeat(self) -> T:
        await self._begin()
        while True:
            await self._get_ready()
            trial = await self._make_attempt()
            error = trial.outcome.error
            if error is None:
                return await self._complete(trial.outcome)
            decision = await self._judge(trial, error)
            if isinstance(decision, Retry):
                await self._wait(self._account.failed(State.WAITING, error, wait_s=decision.delay_s))
            else:
                await self._park(decision, error)

    async def _begin(self) -> None:
        if not self._admission.slot_is_free:
            await self.book.queue()
            self._account.tell()
        await self._admission.take_slot(self._slot_or_stop)
        now = self._means.clock.time()
        if self.control.wants_retry:
            self.book.spec = replace(self.book.spec, by_hand=True)
        if not await self.book.claim(now):
            raise LeaseHeld(self.book.operation)
        self._claimed = True
        if self._means.heartbeat is not None and self.book.generation is not None:
            self._means.heartbeat.add(self)
        operation = self.book.operation
        self._account.history = operation.history
        self._account.tell()
        if not self._take_fresh_budget():
            await self._continue(operation, now)

    async def _continue(self, operation: Operation, now: float) -> None:
        """Take up what a former process left: refuse a crash loop, wait until the time that was set."""
        if operation.deaths >= _MOST_DEATHS:
            await self._account.end(self._account.entry(State.FAILED, verdict=CRASH_LOOP))
            raise CrashLooping(self.book.operation)
        deadline_s = self._policy.deadline_s
        if deadline_s is not None and now >= self._account.history.started_at + deadline_s:
            # It passed while nobody worked on it. The other meters go on, so this cannot repeat for ever.
            self._account.history = replace(self._account.history, started_at=now)
        left = 0.0 if operation.next_at is None else operation.next_at - now
        if left > 0 and operation.condition is None:  # of a condition, an attempt is the quickest test
            # A clock that was set back must not make hours of it.
            wait_s = min(left, self._policy.max_retry_after_s)
            await self._wait(
                self._account.entry(State.WAITING, verdict=_still_due(operation), error=operation.error, wait_s=wait_s)
            )

    async def _get_ready(self) -> None:
        """Return when the next attempt may begin: there is a slot, the host's gate lets us, nobody wants us to stop."""
        while True:
            await self._admission.take_slot(self._slot_or_stop)
            await self._heed()
            until = await self._admission.ask_gate(self._account.attempt_name, asked_for=self._urged)
            if until is None:
                break
            await self._rest(max(0.0, until - self._means.clock.time()))
        self._urged = False
        if self.book.operation.state is not State.RUNNING:
            await self._account.note(self._account.entry(State.RUNNING))
        await self._heed()

    async def _make_attempt(self) -> AttemptTask[T]:
        self.control.take_retry()  # there is no wait to end
        now = self._means.clock.time()
        self.trial = self._account.unrecorded = trial = AttemptTask(
            self._call,
            self._account.new_attempt(fresh=self._fresh),
            limit=Limit.of(self._policy, self._account.history, now),
            started_at=now,
            when_done=self._waker.wake,
        )
        while not trial.done and not self._must_stop():
            await self._waker.sleep()
        await trial.stop(within_s=None if trial.attempt.in_thread else _CLEAN_UP_S)
        self.control.take_retry()  # what came while it was made had no wait to end, and is not for the next one
        return trial

    # -- ends ---------------------------------------------------------------------------------------------------------

    async def _complete(self, outcome: Outcome[T]) -> T:
        await self._admission.succeeded()
        await self._account.end(self._account.entry(State.COMPLETE, made=True))
        value: T = outcome.value  # type: ignore[assignment]  # None is a value like any other
        return value

    async def _judge(self, trial: AttemptTask[T], error: BaseException) -> Retry | Park:
        """Return what follows a failed attempt; raises when nothing does."""
        if self._must_stop():
            await self._heed(error)
        verdict = self._classifier.classify(error)
        if may_be_offline(verdict) and not await self._holds(Condition.NETWORK, error):
            verdict = OFFLINE
        if not isinstance(error, Exception) or verdict.action is Action.PROPAGATE:
            await self._propagate(error, verdict)
        self._account.verdict = self.control.verdict = verdict
        await self._admission.failed(verdict)
        self._account.history = self._account.history.after_failure(
            verdict, progressed=trial.attempt.progressed, count_waits=self._policy.count_waits
        )
        decision = decide(
            self._policy, self._account.history, verdict, now=self._means.clock.time(), draw=self._means.draw()
        )
        if isinstance(decision, GiveUp):
            if self._on_give_up is None or not await self._on_give_up(error):
                await self._fail(error, verdict, decision)
            self._account.refresh_budget()
            decision = Retry(0.0, fresh=True, reason="there is another way")
        self._fresh = isinstance(decision, Retry) and decision.fresh
        return decision

    async def _fail(self, error: BaseException, verdict: Verdict, end: GiveUp) -> NoReturn:
        told = f"{self._means.describe(error)}; given up: {end.reason}" if end.out_of_time else error
        try:
            await self._account.end(self._account.failed(State.FAILED, told))
        except Fenced as fenced:
            # It failed because somebody else has it: the caller should learn that in the words of the attempt.
            if verdict.category is not Category.LOST_RACE:
                raise fenced from error
        raise error

    async def _propagate(self, error: BaseException, verdict: Verdict) -> NoReturn:
        """Raise control flow again, after bounded last writes; the row says paused only if that is what it was."""
        stopped = verdict.category is Category.CONTROL and verdict != machine.STOPPED_INSIDE
        if stopped or not isinstance(error, Exception):
            last = self._account.entry(State.PAUSED, made=True, error=error)
        else:
            self._account.verdict = self.control.verdict = verdict
            last = self._account.failed(State.FAILED, error)
        with suppress(TimeoutError, Fenced):
            await to_the_end(self._leave(last), within_s=_STOP_S, let_go=True)
        self._account.closed = True
        raise error

    async def _leave(self, last: Entry) -> None:
        try:
            await self._account.end(last)
        finally:
            await self._admission.give_back()

    async def _heed(self, error: BaseException | None = None) -> None:
        """Raise what we were asked to end with, if anything."""
        if not self._must_stop():
            return
        await self._admission.give_back()
        if self._lost or self.control.requested is None:
            raise Fenced(self.book.operation.operation_id) from error
        state, ending = _STOPS[self.control.requested]
        error = None if isinstance(error, asyncio.CancelledError) else error
        await self._account.end(self._account.entry(state, made=True, error=error))
        raise ending(self.book.operation) from error

    async def _put_down(self) -> None:
        """Stop the attempt and record where we are: the caller is being cancelled, and has a second."""
        if self.trial is not None:
            await self.trial.stop(within_s=_LAST_WORDS_S)
        await self._admission.give_back()
        if self._account.closed or self._lost or not self.book.touched:
            return
        if self.trial is not None and self.trial.at_work:
            return  # it is running, and says so until its lease runs out or its process ends
        if self._account.last is None:
            self._account.last = self._interrupted()
        # Cancelled while we asked for the lease, we cannot know whether we have it; asking again tells.
        if self.book.generation is not None or await self.book.claim(self._means.clock.time()):
            await self._account.end(self._account.last)

    def _interrupted(self) -> Entry:
        if self._account.unrecorded is not None and self._account.unrecorded.outcome.error is None:
            return self._account.entry(State.COMPLETE, made=True)  # done is done: nobody may do it again
        if self.control.requested is Wish.CANCEL:
            return self._account.entry(State.CANCELLED, made=True)
        # The verdict tells it from a pause that somebody wants: whoever starts what was unfinished takes this up again.
        return replace(self._account.entry(State.PAUSED, made=True), verdict=machine.CONTROL)

    # -- waits --------------------------------------------------------------------------------------------------------

    async def _wait(self, entry: Entry) -> None:
        await self._settle_down(entry)
        await self._sleep(entry.wait_s or 0.0)

    async def _rest(self, wait_s: float) -> None:
        """Wait because the host's gate is shut."""
        operation = self.book.operation
        if operation.state is State.WAITING and operation.category is Category.GATE and wait_s < _SOON_S:
            # The row says so already. Hundreds may be looking once a second; that must not be hundreds of writes.
            self._admission.free_slot()
            await self._sleep(wait_s)
            return
        shut = HostGateOpen(self._admission.host or "", wait_s)
        await self._wait(self._account.entry(State.WAITING, verdict=shut.recovery_hint, error=shut, wait_s=wait_s))

    async def _sleep(self, seconds: float) -> None:
        await self._waker.result(self._means.clock.sleep(SWITCHES.seconds(seconds)), unless=self._must_wake)
        await self._heed()
        self._take_fresh_budget()

    async def _park(self, park: Park, error: BaseException) -> None:
        clock, poll_s = self._means.clock, park.poll_s
        parked_at = clock.monotonic()
        await self._settle_down(self._account.failed(State.PARKED, error, wait_s=poll_s))
        while True:
            await self._waker.result(clock.sleep(SWITCHES.seconds(poll_s)), unless=self._must_wake)
            await self._heed()
            if self._take_fresh_budget():
                return
            if await self._holds(park.condition, error):
                break
        self._account.history = self._account.history.after_park(clock.monotonic() - parked_at)

    async def _holds(self, condition: Condition, error: BaseException) -> bool:
        """Return whether a condition is said to hold; True also where only an attempt can tell."""
        watcher = self._means.watchers.get(condition)
        if watcher is None:
            return True
        try:
            return bool(await self._waker.result(_called(watcher, error), unless=self._must_wake))
        except Exception:  # a stranger's code: a broken watcher must not strand what it watches for
            log.exception("watcher-failed", extra={"condition": condition.value})
            return True

    async def _settle_down(self, entry: Entry) -> None:
        """Record a wait, which takes up no slot; raises OperationDeferred when it is too long to be sat out here."""
        self._admission.free_slot()
        assert entry.wait_s is not None
        if entry.wait_s <= self._means.longest_wait_s:
            await self._account.note(entry)
            return
        await self._account.end(entry)
        raise OperationDeferred(self.book.operation, entry.now + entry.wait_s)

    def _take_fresh_budget(self) -> bool:
        if not self.control.take_retry():
            return False
        self._urged = True
        self._account.refresh_budget()
        return True

    async def _slot_or_stop(self, task: asyncio.Task[Any]) -> None:
        await self._waker.until(task, or_else=self._must_stop)

    def _must_stop(self) -> bool:
        return self._lost or self.control.requested is not None

    def _must_wake(self) -> bool:
        return self._must_stop() or self.control.wants_retry


def _still_due(operation: Operation) -> Verdict:
    """Return the verdict that a former process had come to, as far as its row remembers it."""
    return Verdict(
        category=operation.category or Category.UNKNOWN,
        action=Action.AFTER,
        code=operation.code or "scheduled",
        message=operation.message or "The next try has a set time.",
        user_actions=operation.user_actions,
    )


async def _called(watcher: Watcher, error: BaseException) -> bool:
    return await watcher(error)
