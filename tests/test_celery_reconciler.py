"""Who is nudged, when, and how often; on a real journal, with an outbox that only takes notes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from recovery.celery.messages import MessageStore
from recovery.celery.reconciler import DUE_S, LOST_S, LockFile, Nudge, Reconciler
from recovery.celery.taskrun import KIND
from recovery.database import Database
from recovery.journal import JOURNAL, Journal
from recovery.records import Operation, OperationSpec
from recovery.states import State
from recovery.testing import FakeClock
from recovery.verdict import Category
from resumable.celery.runtime import RESUME, resumed_by_hand, stranded


class Notes:
    """An outbox that sends nothing."""

    def __init__(self) -> None:
        """Nothing was sent."""
        self.sent: list[tuple[str, Mapping[str, Any] | None]] = []
        self.ended: set[str] = set()
        self.away = False

    def send(self, nudge: Nudge, message: Mapping[str, Any] | None) -> None:
        """Note it."""
        if self.away:
            raise ConnectionError("no broker")
        self.sent.append((nudge.operation_id, message))

    def has_ended(self, task_id: str) -> bool:
        """Say what the test wants."""
        return task_id in self.ended


class World:
    """A journal, its messages, a clock, and a reconciler over them."""

    def __init__(self, database: Database, clock: FakeClock, folder: Path) -> None:
        """Put them together."""
        self.clock = clock
        self.journal = Journal(database, clock=clock)
        self.messages = MessageStore(folder / "tasks")
        self.outbox = Notes()
        self.reconciler = Reconciler(self.journal, self.messages, self.outbox, clock=clock, more=resumed_by_hand)

    async def begun(self, name: str, *, owner: str = "somebody", kind: str = KIND, **args: Any) -> tuple[str, int]:
        """Begin and claim an operation, with a message kept for a task."""
        spec = OperationSpec(kind=kind, key=name, args={"id": name, **args} if kind == KIND else args)
        row, generation = await self.journal.begin_and_claim(spec, owner=owner, ttl_s=15, now=self.clock.time())
        assert generation is not None
        if kind == KIND:
            await asyncio.to_thread(self.messages.put, name, {"task": "t", "options": {"task_id": name}})
        return row.operation_id, generation

    async def waits(self, name: str, seconds: float) -> str:
        """Begin an operation that waits, with its lease given back."""
        operation_id, generation = await self.begun(name)
        now = self.clock.time()
        await self.journal.release(operation_id, generation, State.WAITING, next_at=now + seconds, now=now)
        return operation_id

    async def sent(self) -> list[str]:
        """Look once and return the operations that were nudged."""
        return [nudge.operation_id for nudge in await self.reconciler.look()]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Open a journal on a fake clock."""
    clock = FakeClock()
    database = await Database.open(tmp_path / "state.db", (JOURNAL,), clock=clock)
    yield World(database, clock, tmp_path)
    await database.close()


async def test_what_is_due_is_sent_after_the_broker_had_its_chance(world: World) -> None:
    """Neither before its time nor while the broker's own message may arrive; then again, ever more rarely."""
    operation_id = await world.waits("w", 60)
    expected = {0.0: [], 61.0: [], 61 + DUE_S + 1: [operation_id]}
    found, at = {}, 0.0
    for moment in expected:
        await world.clock.advance(moment - at)
        at = moment
        found[moment] = await world.sent()
    assert found == expected
    times = []
    for second in range(0, 8_000, 20):
        if await world.sent():
            times.append(second)
        await world.clock.advance(20)
    gaps = [later - earlier for earlier, later in zip([0, *times], times, strict=False)]
    assert gaps[:3] == [120, 240, 480]
    assert gaps == sorted(gaps)


async def test_whose_owner_died_is_sent_soon(world: World) -> None:
    """Its lease runs out, the sweep says so, and a few seconds later its message is sent again."""
    operation_id, _ = await world.begun("dead")
    await world.clock.advance(10)
    assert await world.sent() == []
    await world.clock.advance(6)
    assert await world.sent() == []
    await world.clock.advance(LOST_S + 0.1)
    assert await world.sent() == [operation_id]
    assert world.outbox.sent == [(operation_id, {"task": "t", "options": {"task_id": "dead"}})]


async def test_what_celery_has_ended_is_not_begun_again(world: World) -> None:
    """A hard time limit, a revoke: everybody was told; what there is stays, paused."""
    operation_id, _ = await world.begun("limit")
    world.outbox.ended.add("limit")
    await world.clock.advance(16)
    await world.sent()
    await world.clock.advance(LOST_S + 1)
    assert await world.sent() == []
    row = await world.journal.get(operation_id)
    assert row is not None
    assert row.state is State.PAUSED
    assert await asyncio.to_thread(world.messages.get, "limit") is None


async def test_what_runs_or_is_paused_is_left_alone(world: World) -> None:
    """A live lease, and a person's wish."""
    await world.begun("runs")
    paused, generation = await world.begun("paused")
    await world.journal.release(paused, generation, State.PAUSED, now=world.clock.time())
    await world.clock.advance(14)
    assert await world.sent() == []


async def test_the_third_death_is_told_to_the_caller(world: World) -> None:
    """The sweep fails it as a crash loop; its message is sent once more, so that a worker can say so."""
    for owner in ("a", "b", "c"):
        operation_id, _ = await world.begun("poison", owner=owner)
        await world.clock.advance(16)
        if owner != "c":
            await world.journal.transact(lambda _: None)
    assert await world.sent() == [operation_id]
    row = await world.journal.get(operation_id)
    assert row is not None
    assert (row.state, row.code) == (State.FAILED, "crash-loop")


def test_a_person_resumes_a_download() -> None:
    """A table: the task that waits for it is nudged at once; where there is none any more, a new one continues it."""
    task = Operation(operation_id="t1", kind=KIND, key="k", state=State.WAITING, next_at=500.0, args={"id": "id-1"})
    by_hand = Operation(
        operation_id="d1", kind="download", key="/x", state=State.QUEUED, updated_at=100.0, args={"task": "t1"}
    )

    def told(task_id: str | None) -> Nudge:
        return Nudge("d1", 100.0, task_id, at_once=True, task=RESUME, kwargs={"download_id": "d1"})

    cases: list[tuple[str, list[Operation], list[Nudge]]] = [
        ("waits", [task, by_hand], [told("id-1")]),
        ("task has ended", [by_hand], [told(None)]),
        ("just now", [task, replace(by_hand, updated_at=101.5)], []),
        ("the task runs", [replace(task, owner="o", lease_until=200.0), by_hand], []),
        ("swept up, not by hand", [task, replace(by_hand, deaths=1)], []),
        ("of the command line", [task, replace(by_hand, args={})], []),
        ("runs", [task, replace(by_hand, state=State.RUNNING, owner="o", lease_until=200.0)], []),
    ]
    for name, rows, expected in cases:
        assert (name, expected) == (name, resumed_by_hand(rows, 102.0))


def test_a_download_whose_task_is_over_is_in_no_queue() -> None:
    """A table: what the sweep has queued is paused unless a task will run it."""
    task = Operation(operation_id="t1", kind=KIND, key="k", state=State.WAITING, args={"id": "id-1"})
    swept = Operation(
        operation_id="d1",
        kind="download",
        key="/x",
        state=State.QUEUED,
        updated_at=100.0,
        category=Category.GATE,
        args={"task": "t1"},
    )
    cases: list[tuple[str, list[Operation], list[str]]] = [
        ("its task goes on", [task, swept], []),
        ("its task runs", [replace(task, state=State.RUNNING, owner="o", lease_until=200.0), swept], []),
        ("its task was stopped", [replace(task, state=State.PAUSED), swept], ["d1"]),
        ("its task has ended", [swept], ["d1"]),
        ("after a death", [replace(swept, category=None, deaths=1)], ["d1"]),
        ("just now", [replace(swept, updated_at=109.0)], []),
        ("by hand", [replace(swept, category=None)], []),
        ("of the command line", [replace(swept, args={})], []),
        ("runs", [replace(swept, state=State.RUNNING, owner="o", lease_until=200.0)], []),
        ("paused", [replace(swept, state=State.PAUSED)], []),
    ]
    for name, rows, expected in cases:
        assert (name, expected) == (name, stranded(rows, 110.0))


async def test_what_has_ended_holds_up_no_other(world: World) -> None:
    """Three condemned at once, one of which Celery has ended itself: the callers of the others are told all the same,
    also when the broker is away at first, and when the process that looks is another one by then.
    """
    names = ["one", "two", "three"]
    for owner in ("a", "b", "c"):
        ids = [(await world.begun(name, owner=owner))[0] for name in names]
        await world.clock.advance(16)
    world.outbox.ended.add("one")
    world.outbox.away = True
    assert await world.sent() == []
    world.outbox.away = False
    again = Reconciler(world.journal, world.messages, world.outbox, clock=world.clock)
    assert {nudge.operation_id for nudge in await again.look()} == set(ids[1:])
    assert await again.look() == []
    assert {row.state for row in await world.journal.list()} == {State.FAILED}
    assert await asyncio.to_thread(world.messages.get, "one") is None


def test_one_process_has_the_lock(tmp_path: Path) -> None:
    """Another one gets it as soon as the first lets go."""
    first, second = LockFile(tmp_path / "lock"), LockFile(tmp_path / "lock")
    assert [first.take(), first.take(), second.take()] == [True, True, False]
    first.release()
    assert second.take()
    second.release()


def test_messages_are_private_and_harmless(tmp_path: Path) -> None:
    """Readable by their owner alone, never outside of their folder, and nothing but JSON."""
    store = MessageStore(tmp_path / "tasks")
    assert store.put("../../up", {"args": ["https://x/?sig=secret"]})
    assert store.get("../../up") == {"args": ["https://x/?sig=secret"]}
    [path] = (tmp_path / "tasks").iterdir()
    assert (path.stat().st_mode & 0o777, (tmp_path / "tasks").stat().st_mode & 0o777) == (0o600, 0o700)
    assert not store.put("not-json", {"args": [object()]})
    assert not store.put("too-long", {"args": ["x" * (1 << 20)]})
    path.write_text("[1]")
    assert store.get("../../up") is None
    store.drop("../../up")
    store.drop("../../up")
    assert list((tmp_path / "tasks").iterdir()) == []
