"""Whatever happens to the state file in the middle of an operation: it succeeds, the health says what is wrong, and
afterwards the file knows everything, or what it has lost was said.

Real faults of a real file, one at a time; only time is virtual.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from recovery.control import Attempt
from recovery.database import Database, Health, Schema, StoreLimits
from recovery.journal import JOURNAL, Journal
from recovery.owner import new_owner
from recovery.records import AttemptRecord, Operation
from recovery.states import State
from recovery.supervisor import Supervisor
from recovery.testing import FakeClock
from tests.mounts import mounted
from tests.notes import HealthLog, integrity
from tests.supervising import RESET, spec

Cure = Callable[[], None]
LIMITS = StoreLimits(wait_s=0.05, check_s=0.0)


def cured() -> None:
    """Cure what cures itself."""


@dataclass
class Scene:
    """A state file in use."""

    path: Path
    database: Database
    clock: FakeClock
    undo: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    async def on_connection(self, *statements: str) -> None:
        """Run statements on the writing connection, outside of any transaction."""

        def run() -> None:
            file = self.database._store.file
            assert file is not None
            for statement in statements:
                file.conn.execute(statement)

        await self.database._thread.run(run)

    async def in_thread(self, work: Callable[..., Any], *args: Any) -> Any:
        """Do something to the file behind the program's back."""
        return await asyncio.to_thread(work, *args)


async def full(scene: Scene) -> Cure:
    """SQLITE_FULL: not one byte is left on the disk."""
    ballast = scene.path.parent / "ballast"

    def fill() -> None:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as out:
            while True:
                out.write(b"x" * 1024)

    await scene.in_thread(fill)
    return ballast.unlink


async def disk_errors(scene: Scene) -> Cure:
    """SQLITE_IOERR: no write of this process gets through."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))

    def cure() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    scene.undo.callback(cure)
    return cure


async def read_only(scene: Scene) -> Cure:
    """SQLITE_READONLY: as after the kernel has remounted a file system with errors."""
    await scene.on_connection("PRAGMA query_only = ON")
    return cured


async def corrupt(scene: Scene) -> Cure:
    """SQLITE_CORRUPT: noise in place of every page but the first."""
    await scene.on_connection("PRAGMA wal_checkpoint(TRUNCATE)")

    def damage() -> None:
        size = scene.path.stat().st_size
        with scene.path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * (size - 4096))

    await scene.in_thread(damage)
    await scene.on_connection("PRAGMA shrink_memory")
    return cured


async def not_a_database(scene: Scene) -> Cure:
    """SQLITE_NOTADB: somebody's text in place of the whole file."""
    await scene.on_connection("PRAGMA wal_checkpoint(TRUNCATE)")
    await scene.in_thread(scene.path.write_bytes, b"this is no database, but a text " * 300)
    await scene.on_connection("PRAGMA shrink_memory")
    return cured


async def locked_by_sqlite(scene: Scene) -> Cure:
    """SQLITE_BUSY: another program sits in a transaction for half a minute."""

    def lock() -> sqlite3.Connection:
        conn = sqlite3.connect(scene.path, isolation_level=None, check_same_thread=False)
        conn.execute("BEGIN EXCLUSIVE")
        return conn

    conn: sqlite3.Connection = await scene.in_thread(lock)
    return conn.close


async def locked_by_one_of_us(scene: Scene) -> Cure:
    """Our own lock: a process of ours that was stopped in a commit."""

    def lock() -> int:
        descriptor = os.open(f"{scene.path}.lock", os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor

    descriptor: int = await scene.in_thread(lock)
    return lambda: os.close(descriptor)


async def deleted(scene: Scene) -> Cure:
    """rm state.db*."""

    def remove() -> None:
        for path in scene.path.parent.glob("state.db*"):
            path.unlink()

    await scene.in_thread(remove)
    return cured


async def directory_gone(scene: Scene) -> Cure:
    """rm -r of the directory it is in."""
    await scene.in_thread(shutil.rmtree, scene.path.parent)
    return cured


async def replaced(scene: Scene) -> Cure:
    """A copy of another journal moved into its place."""
    other = scene.path.with_name("other.db")
    async with await Database.open(other, [JOURNAL]):
        pass
    await scene.in_thread(os.replace, other, scene.path)
    return cured


async def migrated(scene: Scene) -> Cure:
    """A newer version of the program has changed the tables meanwhile."""
    newer = Schema("journal", (*JOURNAL.migrations, "ALTER TABLE operations ADD COLUMN mood TEXT"))
    async with await Database.open(scene.path, [newer]):
        pass
    return cured


@dataclass(frozen=True, kw_only=True)
class Case:
    """A fault, what the health says of it, and what is in the file in the end."""

    fault: Callable[[Scene], Any]
    words: str
    degraded: bool = True
    """Whether it lasts until it is cured; the others are mended at once."""
    states: tuple[State | None, ...] = (State.COMPLETE, State.COMPLETE)
    """Of the operation before and the one that met the fault; None: not in the file."""
    loss: str | None = None


CASES = {
    "full": Case(fault=full, words="is full"),
    "io error": Case(fault=disk_errors, words="reports errors"),
    "read-only": Case(fault=read_only, words="is read-only"),
    "corrupt": Case(
        fault=corrupt,
        words="was damaged",
        degraded=False,
        states=(None, State.COMPLETE),
        loss="recorded before is lost",
    ),
    "not a database": Case(
        fault=not_a_database,
        words="was damaged",
        degraded=False,
        states=(None, State.COMPLETE),
        loss="recorded before is lost",
    ),
    "locked by sqlite": Case(fault=locked_by_sqlite, words="locked for too long"),
    "locked by us": Case(fault=locked_by_one_of_us, words="locked for too long"),
    "deleted": Case(fault=deleted, words="was deleted", degraded=False),
    "directory gone": Case(fault=directory_gone, words="was deleted", degraded=False),
    "replaced": Case(
        fault=replaced,
        words="deleted or replaced",
        degraded=False,
        states=(None, State.COMPLETE),
        loss="recorded before is lost",
    ),
    "newer schema": Case(
        fault=migrated, words="newer version", states=(State.COMPLETE, State.RUNNING), loss="will be lost"
    ),
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Return where the state file goes: on a small disk of its own, so that it can be filled."""
    with mounted("tmpfs", tmp_path / "disk", "size=4m") as disk:
        yield disk / "state" / "state.db"


@pytest.mark.parametrize("when", ["before", "during", "after"])
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
async def test_an_operation_succeeds_whatever_happens_to_the_store(case: Case, when: str, place: Path) -> None:
    """The fault comes before the claim, between two attempts, or before the last write of the operation."""
    clock, health = FakeClock(), HealthLog()
    database = await Database.open(place, [JOURNAL], on_health=health, clock=clock, limits=LIMITS)
    scene = Scene(place, database, clock)
    try:
        cure = await _run(case, when, scene, health)
        if case.degraded:
            assert database.health is Health.DEGRADED
            assert case.words in database.health_reason
            assert str(place) in database.health_reason
            cure()
            await clock.advance(30.0)
            await database.probe()
        assert health.healths[0] == "degraded"
        assert case.words in health[0].reason
        if case.loss is None:
            assert (database.health, database.statistics()["lost"]) == (Health.OK, 0)
        else:
            assert any(case.loss in event.reason for event in health)
    finally:
        scene.undo.close()
        await database.close()
    await _check_file(case, when, place)


async def _run(case: Case, when: str, scene: Scene, health: HealthLog) -> Cure:
    """Run one operation in good health, then one that meets the fault."""
    journal = Journal(scene.database, clock=scene.clock)
    supervisor = Supervisor(journal, clock=scene.clock, draw=lambda: 0.0, owner=new_owner())
    assert await supervisor.run(spec("first", operation_id="first"), _at_once) == "done"
    assert health == []
    cures: list[Cure] = []

    async def attempt(attempt: Attempt) -> str:
        attempt.progress(attempt.number, 3)
        if (when, attempt.number) in {("during", 1), ("after", 3)}:
            cures.append(await case.fault(scene))
        if attempt.number < 3:
            raise RESET
        return "done"

    if when == "before":
        cures.append(await case.fault(scene))
    assert await supervisor.run(spec("second", operation_id="second"), attempt) == "done"
    assert supervisor.statistics() == {}
    [cure] = cures
    return cure


async def _at_once(_: Attempt) -> str:
    return "done"


async def _check_file(case: Case, when: str, path: Path) -> None:
    """Look at what a program that starts now finds."""
    newest = Schema("journal", (*JOURNAL.migrations, "ALTER TABLE operations ADD COLUMN mood TEXT"))
    schema = newest if case.fault is migrated else JOURNAL
    async with await Database.open(path, [schema]) as database:
        assert (database.health, database.health_reason) == (Health.OK, "")
        journal = Journal(database)
        found = {name: await journal.get(name) for name in ("first", "second")}
        attempts = await journal.attempts("second")
    assert await asyncio.to_thread(integrity, path) == "ok"
    if case.fault is migrated and when == "before":
        assert found["second"] is None
        return
    assert tuple(None if row is None else row.state for row in found.values()) == case.states
    second = found["second"]
    assert second is not None
    if second.state is State.COMPLETE:
        _check_history(case, when, second, attempts)


def _check_history(case: Case, when: str, second: Operation, attempts: list[AttemptRecord]) -> None:
    assert (second.history.attempts, second.progress_done, second.progress_total, second.owner) == (3, 3, 3, None)
    numbers = [attempt.number for attempt in attempts]
    # Of a file that is lost, only what this process holds is written again: rows, but not the past attempts.
    known = {"before": [1, 2, 3], "during": [1, 2, 3], "after": [3]}[when] if case.loss else [1, 2, 3]
    assert numbers == known
