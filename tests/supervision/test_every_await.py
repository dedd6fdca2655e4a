"""Stopped at every await there is, enumerated: the row is true, the lease is free, and no task is left."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from recovery import run as run_module
from recovery.control import Attempt, Control
from recovery.gate import GatePhase, GateSettings
from recovery.hostgates import JournalGates
from recovery.policy import RetryPolicy
from recovery.states import State
from recovery.supervisor import OperationCancelled, OperationDeferred, OperationPaused, Supervisor
from recovery.testing import FakeClock
from recovery.verdict import Condition
from tests.stepping import Moment, Stepper
from tests.supervising import AT_ONCE, RESET, AnyJournal, journal_of, spec

HOST = "https://example.org"
NO_DESCRIPTOR = OSError(errno.EMFILE, "Too many open files")
"""Parks, for a second."""
STOPPED = {State.PAUSED, State.CANCELLED}


@dataclass
class Work:
    """An operation that goes through everything: it fails, waits, is parked, comes further, cleans up, and ends."""

    ends_with: Exception | None = None
    tries: int = 0
    began: int = 0
    cleaned: int = 0
    results: list[str] = field(default_factory=list)

    async def __call__(self, attempt: Attempt) -> str:
        """Do one attempt."""
        await self._try(attempt)
        self.results.append("done")  # with nothing to wait for between this and the end
        return "done"

    async def _try(self, attempt: Attempt) -> None:
        self.tries += 1
        self.began += 1
        try:
            await asyncio.sleep(0)
            attempt.progress(self.tries, 10)
            await asyncio.sleep(0)
            if self.tries == 1:
                raise RESET
            if self.tries == 2:
                raise NO_DESCRIPTOR
            if self.ends_with is not None:
                raise self.ends_with
        finally:
            self.cleaned += 1
            await asyncio.sleep(0)


@dataclass
class Scene:
    """A supervisor with everything that can suspend it: a gate, a slot, a watcher, a hook."""

    journal: AnyJournal
    clock: FakeClock
    longest_wait_s: float = 1e9
    busy: bool = False
    looks: int = 0

    def __post_init__(self) -> None:
        """Make the supervisor; the gate of the host is open, with a probe due."""
        self.gates = JournalGates(
            self.journal, clock=self.clock, draw=lambda: 0.0, settings=GateSettings(threshold=1, probe_base_s=1.0)
        )
        self.supervisor = Supervisor(
            self.journal,
            clock=self.clock,
            draw=lambda: 0.0,
            gates=self.gates,
            max_concurrent=1,
            watchers={Condition.DESCRIPTORS: self.look},
            longest_wait_s=self.longest_wait_s,
        )

    async def look(self, _: BaseException) -> bool:
        """There is room at the second look."""
        self.looks += 1
        await asyncio.sleep(0)
        return self.looks % 2 == 0

    async def give_up(self, _: BaseException) -> bool:
        """Undo something."""
        await asyncio.sleep(0)
        return False


@pytest.fixture
async def journal(request: pytest.FixtureRequest, state_path: Path) -> AsyncIterator[AnyJournal]:
    """Run the test over both journals."""
    async with journal_of(request.param, state_path, FakeClock()) as journal:
        await journal.find("test", "nothing")  # starts the thread that reads
        yield journal


SCENES: list[tuple[str, Exception | None, float, int]] = [
    ("it succeeds", None, 1e9, 40),
    ("it fails", ValueError("hopeless"), 1e9, 40),
    ("it is deferred", None, 0.5, 6),
]
"""What happens, and how many suspensions there are at least."""

WAYS = ["the caller is cancelled", "a person pauses", "a person cancels"]
EVERY = [(way, moment) for way in WAYS for moment in Moment]
SOME = EVERY if os.environ.get("RESUMABLE_LONG") == "1" else [EVERY[0], EVERY[3]]
"""Over the file by default, which takes a hundred times as long as over the journal in memory."""
KINDS = [("memory", *each) for each in EVERY] + [("file", *each) for each in SOME]


@pytest.mark.parametrize(("journal", "way", "moment"), KINDS, indirect=["journal"])
@pytest.mark.parametrize(("_name", "ends_with", "longest_wait_s", "least"), SCENES)
async def test_stopped_at_every_await(
    journal: AnyJournal,
    _name: str,
    ends_with: Exception | None,
    longest_wait_s: float,
    least: int,
    way: str,
    moment: Moment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For n = 1, 2, 3, ... until the operation ends before its n-th suspension: stop it there, look, and go on."""
    monkeypatch.setattr(run_module, "_STOP_S", 60.0)  # real time: a busy machine may need longer for its last write
    at, points = 0, 0
    while True:
        at += 1
        scene = Scene(journal, FakeClock(auto=True), longest_wait_s=longest_wait_s)
        if not await stopped_at(scene, Work(ends_with), at, moment, way):
            break
        points += 1
    assert points >= least


async def stopped_at(scene: Scene, work: Work, at: int, moment: Moment, way: str) -> bool:
    """Stop the operation at one suspension and check what is left; False if it had ended before."""
    key, control = f"{way} {moment} {at} {scene.longest_wait_s} {work.ends_with}", Control()
    before = asyncio.all_tasks()

    def interrupt() -> None:
        ways: dict[str, Callable[[], object]] = dict(
            zip(WAYS, (task.cancel, control.pause, control.cancel), strict=True)
        )
        ways[way]()

    with Stepper(at, moment, interrupt) as stepper:
        task = asyncio.create_task(
            scene.supervisor.run(spec(key, policy=AT_ONCE), work, control=control, host=HOST, on_give_up=scene.give_up)
        )
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
    where = f"{key}: {outcome!r}"
    # no task left
    for _ in range(3):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() - before == set(), where
    # nobody holds anything
    row = await scene.journal.find("test", key)
    assert scene.supervisor.statistics() == {}, where
    assert scene.supervisor._slots is not None
    assert scene.supervisor._slots._free == 1, where
    gate = await scene.gates.state(HOST)
    assert gate.phase is not GatePhase.HALF_OPEN, where
    # every attempt that began has cleaned up
    assert work.began == work.cleaned, where
    if not stepper.interrupted:
        assert row is not None
        return False
    if row is None:
        assert way == "the caller is cancelled", where
        assert work.tries == 0, where
        return True
    assert not row.leased(scene.clock.time()), where
    assert row.owner is None or row.state in {State.WAITING, State.PARKED}, where
    expect(row.state, outcome, work, way, where)
    await continues(scene, key, row.operation_id, work, where)
    return True


def expect(state: State, outcome: object, work: Work, way: str, where: str) -> None:
    """The row says what happened: done is done, failed is failed, and anything else is as it was asked to be."""
    if work.results:
        assert state is State.COMPLETE, where
    elif isinstance(outcome, ValueError) or state is State.FAILED:
        assert (state, work.tries) == (State.FAILED, 3), where
    elif isinstance(outcome, OperationDeferred) or state in {State.WAITING, State.PARKED}:
        assert state in {State.WAITING, State.PARKED}, where
        assert isinstance(outcome, OperationDeferred | asyncio.CancelledError), where
    elif way == "a person cancels":
        assert state is State.CANCELLED, where
        assert isinstance(outcome, OperationCancelled), where
    else:
        assert state is State.PAUSED, where
        assert isinstance(outcome, OperationPaused | asyncio.CancelledError), where
    if way == "the caller is cancelled":
        assert isinstance(outcome, asyncio.CancelledError) or state not in STOPPED, where


async def continues(scene: Scene, key: str, operation_id: str, work: Work, where: str) -> None:
    """Somebody else can go on at once, with every attempt counted."""
    other = Supervisor(scene.journal, clock=scene.clock, watchers={})
    tries = work.tries

    async def rest(attempt: Attempt) -> int:
        return attempt.number

    number = await other.run(spec(key, operation_id=operation_id, policy=RetryPolicy(base=0.0)), rest)
    assert number == tries + 1, where
