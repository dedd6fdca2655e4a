"""A state machine over supervisors, journal, crashes and clock: leases are never held twice, attempts are never lost,
states change only by the table, and what is left can always be brought to its end.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from recovery.control import Attempt, Control
from recovery.lifecycle import Fenced
from recovery.policy import DeadlineExceeded
from recovery.records import Operation
from recovery.states import TERMINAL, TRANSITIONS, IllegalTransition, State
from recovery.supervisor import CrashLooping, LeaseHeld, OperationCancelled, OperationPaused
from recovery.testing import FakeClock
from recovery.verdict import Action, Category, Verdict
from tests.supervision.world import Connection, Killed, Process, Table, Try, turns

T = TypeVar("T")

LONG = os.environ.get("RESUMABLE_LONG") == "1"
KEYS = ["a", "b", "c"]
MOST = 3


class LaterError(Exception):
    """A server that asks to wait."""

    recovery_hint = Verdict(
        category=Category.THROTTLED, action=Action.AFTER, code="throttled", message="later", retry_after_s=40.0
    )


FAILURES: list[Callable[[], Exception]] = [
    lambda: ConnectionResetError("reset"),
    lambda: OSError(28, "No space left on device"),
    LaterError,
    lambda: ValueError("hopeless"),
]
ENDINGS = (
    OperationPaused,
    OperationCancelled,
    LeaseHeld,
    Fenced,
    CrashLooping,
    DeadlineExceeded,
    ConnectionResetError,
    OSError,
    LaterError,
    ValueError,
)
picks = st.integers(0, 11)


def changes(old: Operation, new: Operation) -> str:
    """Return what differs."""
    pairs = [(name, getattr(old, name), getattr(new, name)) for name in Operation.__struct_fields__]
    return ", ".join(f"{name}: {before} -> {after}" for name, before, after in pairs if before != after)


def chosen(some: list[T], pick: int) -> T:
    """Return one of them."""
    return some[pick % len(some)]


def within_two_steps(old: State, new: State) -> bool:
    """Return whether the table leads there: one transaction may begin and claim, or record what was swept up."""
    return new is old or new in TRANSITIONS[old] or any(new in TRANSITIONS[between] for between in TRANSITIONS[old])


class Machine(RuleBasedStateMachine):
    """Processes come, go, stall and lose their store; people and servers do what they like."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self._complain)
        self.faults: list[str] = []
        self.before: dict[str, Operation] = {}
        self.now = FakeClock()
        self.processes: list[Process] = []
        self.born = 0
        self.table = Table(self.committed)
        self.returned: dict[str, int] = defaultdict(int)

    def _complain(self, _: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        if not isinstance(context.get("exception"), Killed):
            self.faults.append(str(context))

    def do(self, work: Awaitable[object]) -> None:
        """Run something, let everybody react, and look at what has ended."""

        async def done() -> None:
            await work
            await turns()

        self.loop.run_until_complete(done())
        for process in self.processes:
            for key, (task, _) in list(process.runs.items()):
                if task.done():
                    del process.runs[key]
                    self.ended(process, key, task)

    # -- what must hold -----------------------------------------------------------------------------------------------

    def committed(self, writer: str) -> None:
        """Compare the rows before and after every single transaction."""
        now, rows = self.now.time(), self.table.rows()
        for key, row in rows.items():
            old = self.before.get(key)
            if old is None or old == row:
                continue
            if not within_two_steps(old.state, row.state):
                self.faults.append(f"{key}: {old.state} -> {row.state}")
            if row.generation < old.generation:
                self.faults.append(f"{key}: generation {old.generation} -> {row.generation}")
            if row.history.attempts < old.history.attempts:
                self.faults.append(f"{key}: attempts {old.history.attempts} -> {row.history.attempts}")
            if old.leased(now) and old.owner != writer:
                self.faults.append(f"{key}: leased by {old.owner}, changed by {writer}: {changes(old, row)}")
            same = row.owner is None or row.owner == old.owner or row.generation != old.generation
            if not same and old.state is not State.QUEUED:  # who was swept up may have its own lease back
                self.faults.append(f"{key}: a new owner under an old generation")
        if set(self.before) - set(rows):
            self.faults.append(f"lost: {set(self.before) - set(rows)}")
        self.before = rows

    def ended(self, process: Process, key: str, task: asyncio.Task[object]) -> None:
        """A run has ended in one of the ways it may."""
        if not process.alive:
            task.cancelled() or task.exception()
            return
        error = task.exception()
        if error is not None:
            assert isinstance(error, ENDINGS), repr(error)
        else:
            assert task.result() == "done"
            self.returned[key] += 1

    @invariant()
    def nothing_was_wrong(self) -> None:
        """No commit broke a rule."""
        assert self.faults == []

    @invariant()
    def no_two_run_it(self) -> None:
        """Of the processes that ran all the time with a store, at most one makes an attempt of an operation."""
        running: dict[str, list[str]] = defaultdict(list)
        generations: dict[str, set[tuple[str, int]]] = defaultdict(set)
        for process in self.processes:
            for made in process.tries:
                generations[made.operation_id].add((process.name, made.attempt.generation))
                if not process.doubtful:
                    running[made.operation_id].append(process.name)
        assert {key: names for key, names in running.items() if len(names) > 1} == {}
        for key, holders in generations.items():
            tokens = [token for _, token in holders if token]
            assert len(tokens) == len(set(tokens)), f"{key}: {holders}"

    @invariant()
    def no_attempt_is_lost(self) -> None:
        """What was counted is on record, under its number, and nothing else is."""
        for key, row in self.before.items():
            assert self.table.attempts(key) == list(range(1, row.history.attempts + 1)), key

    @invariant()
    def what_has_ended_is_held_by_nobody(self) -> None:
        """Ended and paused operations have no owner; a result that was returned is in the row, or was asked anew."""
        for key, row in self.before.items():
            if row.state in TERMINAL or row.state is State.PAUSED:
                assert row.owner is None, key

    # -- what may happen ----------------------------------------------------------------------------------------------

    @initialize()
    def the_first_process(self) -> None:
        """Begin."""
        self.spawn()

    @precondition(lambda self: sum(process.alive for process in self.processes) < MOST)
    @rule()
    def spawn(self) -> None:
        """A process starts."""
        self.born += 1
        clock = FakeClock(start=self.now.time())
        self.processes.append(Process(Connection(self.table, f"process {self.born}"), clock))

    def healthy(self) -> list[Process]:
        """Return the processes that run and can use the store."""
        return [process for process in self.processes if process.awake and not process.connection.failing]

    def with_runs(self) -> list[Process]:
        """Return the processes that run and have operations in hand."""
        return [process for process in self.processes if process.awake and process.runs]

    def askable(self) -> list[tuple[Process, str]]:
        """Return which process may ask for which operation."""
        awake = [process for process in self.processes if process.awake]
        return [(process, key) for process in awake for key in KEYS if key not in process.runs]

    def all_tries(self) -> list[Try]:
        """Return the attempts that are being made by processes that run."""
        return [made for process in self.processes if process.awake for made in process.tries if not made.end.done()]

    @precondition(lambda self: self.askable())
    @rule(pick=picks)
    def ask(self, pick: int) -> None:
        """A program asks for an operation."""
        self.do(self._ask(*chosen(self.askable(), pick)))

    async def _ask(self, process: Process, key: str) -> None:
        process.start(key)

    @precondition(lambda self: self.all_tries())
    @rule(pick=picks, gain=st.integers(0, 2))
    def an_attempt_succeeds(self, pick: int, gain: int) -> None:
        """An attempt returns."""
        made = chosen(self.all_tries(), pick)
        made.attempt.progress(made.attempt.done + gain)
        made.end.set_result("done")
        self.do(turns())

    @precondition(lambda self: self.all_tries())
    @rule(pick=picks, gain=st.integers(0, 2), failure=st.sampled_from(FAILURES))
    def an_attempt_fails(self, pick: int, gain: int, failure: Callable[[], Exception]) -> None:
        """An attempt raises."""
        made = chosen(self.all_tries(), pick)
        made.attempt.progress(made.attempt.done + gain)
        made.end.set_exception(failure())
        self.do(turns())

    @precondition(lambda self: self.with_runs())
    @rule(pick=picks, which=picks, wish=st.sampled_from(["pause", "cancel", "retry_now"]))
    def a_person_here(self, pick: int, which: int, wish: str) -> None:
        """A person steers a run of this process."""
        _, control = chosen(list(chosen(self.with_runs(), pick).runs.values()), which)
        getattr(control, wish)()
        self.do(turns())

    @precondition(lambda self: self.before and self.healthy())
    @rule(pick=picks, key=st.sampled_from(KEYS), wish=st.sampled_from(["pause", "cancel", "retry_now"]))
    def a_person_elsewhere(self, pick: int, key: str, wish: str) -> None:
        """A person posts a command from another process."""
        process = chosen(self.healthy(), pick)
        self.do(self._mortal(process, process.journal.post_command(key, wish)))

    @precondition(lambda self: self.before and self.healthy())
    @rule(pick=picks, key=st.sampled_from(KEYS), state=st.sampled_from([State.PAUSED, State.CANCELLED, State.QUEUED]))
    def by_hand(self, pick: int, key: str, state: State) -> None:
        """A person changes what nobody runs."""
        process = chosen(self.healthy(), pick)
        self.do(self._by_hand(process, key, state))

    async def _by_hand(self, process: Process, key: str, state: State) -> None:
        try:
            await self._mortal(process, process.journal.set_idle_state(key, state, now=process.clock.time()))
        except (LookupError, IllegalTransition):
            return

    async def _mortal(self, process: Process, work: Awaitable[object]) -> None:
        try:
            await work
        except Killed:
            assert not process.alive

    @precondition(lambda self: self.before and self.healthy())
    @rule(pick=picks)
    def sweep(self, pick: int) -> None:
        """A sweeper looks."""
        process = chosen(self.healthy(), pick)
        self.do(self._mortal(process, process.sweeper.sweep()))

    @precondition(lambda self: self.before)
    @rule(seconds=st.sampled_from([1, 3, 6, 20, 70]))
    def time_passes(self, seconds: int) -> None:
        """Time passes for everybody who is not stalled."""
        self.do(self._pass(seconds))

    async def _pass(self, seconds: int) -> None:
        for _ in range(seconds):
            await self.now.advance(1.0)
            for process in [one for one in self.processes if one.alive]:
                if process.stalled_s is None:
                    await process.clock.advance(1.0)
                else:
                    process.stalled_s += 1.0

    # -- what goes wrong ----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.with_runs())
    @rule(pick=picks)
    def crash(self, pick: int) -> None:
        """A process is killed while it waits for something."""
        self.do(self._crash(chosen(self.with_runs(), pick)))

    async def _crash(self, process: Process) -> None:
        process.die()

    @precondition(lambda self: any(one.connection.dies_in is None for one in self.with_runs()))
    @rule(pick=picks, writes=st.integers(1, 3), committed=st.booleans())
    def crash_at_a_write(self, pick: int, writes: int, committed: bool) -> None:
        """A process will be killed at one of its next writes, before or after its commit."""
        mortal = [process for process in self.with_runs() if process.connection.dies_in is None]
        connection = chosen(mortal, pick).connection
        connection.dies_in, connection.dies_committed = writes, committed

    @precondition(lambda self: self.with_runs())
    @rule(pick=picks)
    def stall(self, pick: int) -> None:
        """A process does not run any more, for now."""
        process = chosen(self.with_runs(), pick)
        process.stalled_s, process.doubtful = 0.0, True

    @precondition(lambda self: any(process.alive and not process.awake for process in self.processes))
    @rule(pick=picks)
    def wake(self, pick: int) -> None:
        """A stalled process goes on, and has not noticed."""
        stalled = [process for process in self.processes if process.alive and not process.awake]
        self.do(chosen(stalled, pick).wake())

    @precondition(lambda self: self.with_runs())
    @rule(pick=picks, which=picks, seconds=st.sampled_from([1, 7]))
    def stalled_for_too_long(self, pick: int, which: int, seconds: int) -> None:
        """A process stalls, its lease runs out, another one takes over; then it goes on."""
        process = chosen(self.with_runs(), pick)
        key = chosen(list(process.runs), which)
        process.stalled_s, process.doubtful = 0.0, True
        self.do(self._pass(16))
        others = [one for one in self.processes if one.awake and key not in one.runs]
        if others:
            self.do(self._ask(chosen(others, which), key))
        self.do(process.wake())
        self.do(self._pass(seconds))

    @precondition(lambda self: self.with_runs())
    @rule(pick=picks)
    def store_fails(self, pick: int) -> None:
        """A process cannot use the store any more."""
        process = chosen(self.with_runs(), pick)
        process.connection.failing = process.doubtful = True

    @precondition(lambda self: any(process.connection.failing for process in self.processes))
    @rule()
    def store_works(self) -> None:
        """The store can be used again by everybody."""
        for process in self.processes:
            process.connection.failing = False

    # -- the end ------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Everybody dies; a new process brings everything to its end, and no task is left."""
        try:
            if self.processes:
                self.the_last_process()
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()
            self.table.conn.close()

    def the_last_process(self) -> None:
        """Crash whatever is left, wait for the leases to end, and finish what there is."""
        for process in self.processes:
            if process.alive:
                self.do(self._crash(process))
        self.do(self._pass(20))
        last = Process(Connection(self.table, "the last one"), FakeClock(start=self.now.time()))
        self.processes = [last]
        unfinished = [key for key, row in self.before.items() if row.state is not State.COMPLETE]
        for key in unfinished:
            control = Control()
            control.retry_now()  # without waiting for what may be a minute away
            self.do(self._finish(last, key, control))
        self.do(turns())
        assert {key: row.state for key, row in self.before.items()} == dict.fromkeys(self.before, State.COMPLETE)
        self.nothing_was_wrong()
        self.no_attempt_is_lost()
        left = asyncio.all_tasks(self.loop)
        assert left == set()

    async def _finish(self, process: Process, key: str, control: Control) -> None:
        process.start(key, control=control, instead=_succeed)


async def _succeed(_: Attempt) -> str:
    return "done"


Machine.TestCase.settings = settings(
    max_examples=2_000 if LONG else 20,
    stateful_step_count=40 if LONG else 30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.campaign
@pytest.mark.blocking
@pytest.mark.timeout(7200 if LONG else 120)
class TestMachine(Machine.TestCase):  # type: ignore[valid-type, misc]  # Hypothesis makes the class
    """Run the machine."""
