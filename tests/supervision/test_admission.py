"""What stands before an attempt: the gate of its host, and a slot."""

from __future__ import annotations

import asyncio

import pytest

from recovery.classify import Classifier
from recovery.control import Attempt, Control
from recovery.gate import Admit, GateSettings, Wait
from recovery.hostgates import MemoryGates
from recovery.policy import RetryPolicy
from recovery.slots import Slots
from recovery.states import State
from recovery.supervisor import (
    OperationCancelled,
    OperationPaused,
    Supervisor,
)
from recovery.taxonomy.network import CONNECTION
from recovery.taxonomy.statuses import status_verdict
from recovery.testing import FakeClock, MemoryJournal
from recovery.verdict import Category, Verdict
from tests.supervising import (
    RESET,
    AnyJournal,
    Held,
    Recorder,
    Script,
    ServerSaysLaterError,
    eventually,
    row_of,
    spec,
    turns,
)

STORM = status_verdict(503, 600.0)
"""Opens a gate at once, for ten minutes."""


async def test_the_gate_of_the_host_is_asked_and_told(clock: FakeClock, events: Recorder) -> None:
    """Behind a gate that opened, an operation waits without using up attempts; its success is told to the gate."""
    gates = MemoryGates(clock=clock, draw=lambda: 0.0, settings=GateSettings(threshold=2))
    supervisor = Supervisor(clock=clock, draw=lambda: 0.0, gates=gates, on_event=events)
    policy = RetryPolicy(base=0.0, max_no_progress=2)
    task = asyncio.create_task(supervisor.run(spec(policy=policy), Script(RESET, RESET, "up"), host="example.org"))
    await clock.until_sleeping()
    assert events.steps == ["running", "waiting", "running", "waiting", "waiting"]
    assert events[-1].verdict is not None
    assert (events[-1].verdict.category, events[-1].attempt) == (Category.GATE, 2)
    assert isinstance(await gates.admit("example.org", "another"), Wait)
    await clock.advance(60)
    assert await task == "up"
    assert (await gates.state("example.org")).failures == 0


async def test_who_wants_it_tried_now_is_let_through_a_closed_gate_once(clock: FakeClock, events: Recorder) -> None:
    """Also where the server asked for two minutes: a person knows better, or learns it. The gate stays closed."""
    gates = MemoryGates(clock=clock, draw=lambda: 0.0)
    supervisor = Supervisor(clock=clock, draw=lambda: 0.0, gates=gates, on_event=events)
    control, attempts = Control(), Script(ServerSaysLaterError(120), ServerSaysLaterError(120), "up")
    task = asyncio.create_task(supervisor.run(spec(), attempts, control=control, host="example.org"))
    await clock.until_sleeping()
    assert events.steps == ["running", "waiting"]
    control.retry_now()
    await eventually(lambda: events.steps == ["running", "waiting", "running", "waiting"])
    assert isinstance(await gates.admit("example.org", "another"), Wait)
    control.retry_now()
    assert await task == "up"
    assert (await gates.state("example.org")).held_until is None  # what a person has found out is for all


async def test_a_stopped_attempt_gives_its_admission_back(clock: FakeClock) -> None:
    """A probe that is paused does not keep the host closed for the rest of its lease."""
    gates = MemoryGates(clock=clock, draw=lambda: 0.0, settings=GateSettings(threshold=1))
    supervisor = Supervisor(clock=clock, draw=lambda: 0.0, gates=gates)
    with pytest.raises(ConnectionResetError):
        await supervisor.run(spec(policy=RetryPolicy(max_no_progress=0)), Script(RESET), host="example.org")
    clock.jump(60)
    control, held = Control(), Held()
    task = asyncio.create_task(supervisor.run(spec(), held, control=control, host="example.org"))
    await held.started.wait()
    assert (await gates.state("example.org")).probe_owner is not None
    control.pause()
    with pytest.raises(OperationPaused):
        await task
    assert (await gates.state("example.org")).probe_owner is None


class OddEndError(BaseException):
    """Ends an attempt as control flow does."""


class Broken(Classifier):
    """Breaks where the supervisor wants an error judged."""

    def classify(self, exc: BaseException) -> Verdict:
        """See ``Classifier.classify``."""
        raise RuntimeError("a broken classifier") from exc


@pytest.mark.parametrize("ending", ["control flow", "control flow, fenced", "a hook"])
async def test_a_probe_that_ends_in_another_way_is_given_back(clock: FakeClock, ending: str) -> None:
    """Control flow, or code of the user's that broke: nobody will report on that probe, and others need not wait."""
    journal, gates = MemoryJournal(clock=clock), MemoryGates(clock=clock, draw=lambda: 0.0)
    await gates.failed("example.org", "x", STORM)
    classifier = Broken() if ending == "a hook" else None
    supervisor = Supervisor(journal, clock=clock, draw=lambda: 0.0, gates=gates, classifier=classifier)

    async def attempt(attempt: Attempt) -> None:
        assert (await gates.state("example.org")).probe_owner is not None
        if ending == "a hook":
            raise ValueError
        if ending == "control flow, fenced":
            clock.jump(60)
            await journal.begin_and_claim(spec(), owner="another", ttl_s=15, now=clock.time())
        raise OddEndError

    control = Control()
    control.retry_now()
    with pytest.raises((OddEndError, RuntimeError)):
        await supervisor.run(spec(), attempt, control=control, host="example.org")
    assert (await gates.state("example.org")).probe_owner is None


async def test_a_person_who_retries_waits_for_another_ones_probe(clock: FakeClock) -> None:
    """There is one, however many ask: five hundred who press the button must not be a storm. It is soon over."""
    gates = MemoryGates(clock=clock, draw=lambda: 0.0)
    await gates.failed("example.org", "x", STORM)
    supervisor = Supervisor(clock=clock, draw=lambda: 0.0, gates=gates)
    held, script, controls = Held(), Script("second"), (Control(), Control())
    for control in controls:
        control.retry_now()
    first = asyncio.create_task(supervisor.run(spec("first"), held, control=controls[0], host="example.org"))
    await held.started.wait()
    second = asyncio.create_task(supervisor.run(spec("second"), script, control=controls[1], host="example.org"))
    await clock.advance(10)
    assert (script.seen, second.done()) == ([], False)
    held.go.set()
    assert await first == "done"
    await clock.advance(3)
    assert await second == "second"


async def test_only_so_many_attempts_at_once(journal: AnyJournal, clock: FakeClock, events: Recorder) -> None:
    """The bulkhead holds back further operations as queued; who waits for a retry does not take up a place."""
    supervisor = Supervisor(journal, clock=clock, on_event=events, max_concurrent=1)
    first, second = Held(), Held()
    tasks = [
        asyncio.create_task(supervisor.run(spec("waits"), Script(ServerSaysLaterError(600)))),
        asyncio.create_task(supervisor.run(spec("first"), first)),
        asyncio.create_task(supervisor.run(spec("second"), second)),
    ]
    await first.started.wait()
    await eventually(lambda: supervisor.statistics() == {"waiting": 1, "running": 1, "queued": 1})
    assert (await row_of(journal, "second")).state is State.QUEUED
    assert not second.started.is_set()
    first.go.set()
    await second.started.wait()
    second.go.set()
    assert [await task for task in tasks[1:]] == ["done", "done"]
    await supervisor.close()
    assert isinstance(tasks[0].exception(), OperationPaused)


async def test_stopped_while_it_queues(journal: AnyJournal, clock: FakeClock) -> None:
    """A queued operation can be cancelled, and the place it never had goes to the next one."""
    supervisor = Supervisor(journal, clock=clock, max_concurrent=1)
    held, control = Held(), Control()
    task = asyncio.create_task(supervisor.run(spec("first"), held))
    await held.started.wait()
    queued = asyncio.create_task(supervisor.run(spec("queued"), Script("never"), control=control))
    next_one = asyncio.create_task(supervisor.run(spec("next"), Script("next")))
    await eventually(lambda: supervisor.statistics() == {"running": 1, "queued": 2})
    control.cancel()
    with pytest.raises(OperationCancelled):
        await queued
    assert (await row_of(journal, "queued")).state is State.CANCELLED
    held.go.set()
    assert [await task, await next_one] == ["done", "next"]


async def test_the_highest_priority_comes_first(clock: FakeClock) -> None:
    """Of those that wait for a place the highest priority gets it, then who asked first; who gave up takes nothing."""
    supervisor, order = Supervisor(clock=clock, max_concurrent=1), []

    async def attempt(attempt: Attempt) -> None:
        order.append(attempt.operation_id)

    def start(name: str, priority: int) -> asyncio.Task[None]:
        return asyncio.create_task(supervisor.run(spec(name, operation_id=name), attempt, priority=priority))

    held = Held()
    holder = asyncio.create_task(supervisor.run(spec("holder"), held))
    await held.started.wait()
    waiting = [start("low", 0), start("first", 5), start("gone", 9), start("second", 5)]
    await turns()
    waiting[2].cancel()
    await turns()
    held.go.set()
    assert await holder == "done"
    await asyncio.gather(*waiting, return_exceptions=True)
    assert order == ["first", "second", "low"]


async def test_a_slot_handed_to_one_that_turns_away_is_passed_on() -> None:
    """Cancelled in the very moment of its turn: the slot is not lost."""
    slots = Slots(1)
    await slots.acquire()
    waiter = asyncio.create_task(slots.acquire())
    await turns(2)
    slots.release()
    assert not slots.at_once
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    assert slots.at_once
    with pytest.raises(ValueError, match="at least one"):
        Slots(0)


async def test_looking_at_a_gate_again_and_again_writes_nothing(clock: FakeClock) -> None:
    """While another one's probe is under way the gate is looked at once a second; the row says so once."""
    journal, gates = MemoryJournal(clock=clock), MemoryGates(clock=clock, draw=lambda: 0.5)
    for number in range(5):
        await gates.failed("example.org", str(number), CONNECTION)
    clock.jump(60)
    assert await gates.admit("example.org", "the probe") == Admit(probe=True)
    supervisor = Supervisor(journal, clock=clock, gates=gates)
    task = asyncio.create_task(supervisor.run(spec(), Script("up"), host="example.org"))
    await clock.until_sleeping(2)
    await clock.advance(20)
    assert [write for write in journal.writes if write != "renew"] == ["claim", "waiting"]
    await gates.succeeded("example.org", "the probe")
    await clock.advance(10)
    assert await task == "up"
