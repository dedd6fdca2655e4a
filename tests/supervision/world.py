"""Several processes over one journal in one event loop: they crash, stall, and lose their store, and time passes.

The rows are real SQLite rows changed by the real journal; only threads and the file are left out, so that what happens
is the same every time. It drives and observes; what must hold is in ``test_machine.py``.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from recovery.control import Attempt, Control
from recovery.journal import JOURNAL, Journal
from recovery.policy import RetryPolicy
from recovery.records import Operation, OperationSpec
from recovery.rows import operations, read_attempts
from recovery.schema import install
from recovery.supervisor import Supervisor
from recovery.sweeper import Sweeper
from recovery.testing import FakeClock
from recovery.work import StoreConnection

T = TypeVar("T")

LEASE_S = 15.0
POLICY = RetryPolicy(base=2.0, max_no_progress=2, max_attempts=8, deadline_s=900.0)
TURNS = 40


class Killed(BaseException):
    """What a dead process meets when it wants to write."""


class Table:
    """The state file: rows, and whoever wants to see every commit."""

    def __init__(self, on_commit: Callable[[str], None]) -> None:
        """``on_commit`` is told whose commit it was."""
        self.conn = sqlite3.connect(":memory:", factory=StoreConnection, isolation_level=None)
        install(self.conn, [JOURNAL])
        self.on_commit = on_commit

    def rows(self) -> dict[str, Operation]:
        """Return all operations by id."""
        return {row.operation_id: row for row in operations(self.conn, "")}

    def attempts(self, operation_id: str) -> list[int]:
        """Return the numbers of the attempts on record."""
        return [one.number for one in read_attempts(self.conn, operation_id)]


class Connection:
    """What a journal needs of a ``Database``, on the table that all processes share."""

    def __init__(self, table: Table, name: str) -> None:
        self.table = table
        self.name = name
        self.restores: list[Callable[[sqlite3.Connection], None]] = []
        self.dead = False
        self.failing = False
        self.dies_in: int | None = None
        """Writes until it dies."""
        self.dies_committed = False
        self.on_death: Callable[[], None] = lambda: None

    def add_restore(self, restore: Callable[[sqlite3.Connection], None]) -> None:
        """See ``Database.add_restore``."""
        self.restores.append(restore)

    async def write(self, fn: Callable[[sqlite3.Connection], T], *, urgent: bool = True) -> T:
        """See ``Database.write``."""
        await self._turn()
        last = self._counted()
        if last and not self.dies_committed:
            self._die()
        conn = self.table.conn
        conn.restores = self.restores
        conn.execute("BEGIN")
        try:
            value = fn(conn)
        except BaseException:
            conn.on_commit.clear()
            conn.execute("ROLLBACK")
            raise
        conn.execute("COMMIT")
        conn.run_committed()
        self.table.on_commit(self.name)
        if last:
            self._die()
        return value

    async def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """See ``Database.read``."""
        await self._turn()
        return fn(self.table.conn)

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        if self.dead:
            raise Killed
        if self.failing:
            raise sqlite3.OperationalError("disk I/O error")

    def _counted(self) -> bool:
        if self.dies_in is None:
            return False
        self.dies_in -= 1
        return self.dies_in <= 0

    def _die(self) -> None:
        self.dead = True
        self.on_death()
        raise Killed


@dataclass(eq=False)
class Try:
    """An attempt that is being made; it ends when ``end`` is set."""

    process: Process
    attempt: Attempt
    end: asyncio.Future[object]

    @property
    def operation_id(self) -> str:
        """Which operation."""
        return self.attempt.operation_id


@dataclass(eq=False)
class Process:
    """A process: a supervisor, a sweeper, a clock, and the runs it has in hand."""

    connection: Connection
    clock: FakeClock
    journal: Journal = field(init=False)
    supervisor: Supervisor = field(init=False)
    sweeper: Sweeper = field(init=False)
    runs: dict[str, tuple[asyncio.Task[object], Control]] = field(default_factory=dict)
    tries: list[Try] = field(default_factory=list)
    stalled_s: float | None = None
    """How long it has not run; None while it runs."""
    doubtful: bool = False
    """Whether it was stalled or without its store while it held leases, so that others may have taken them."""

    def __post_init__(self) -> None:
        """Start."""
        self.journal = Journal(self.connection, clock=self.clock)  # type: ignore[arg-type]
        self.supervisor = Supervisor(
            self.journal, clock=self.clock, draw=lambda: 0.5, owner=self.name, lease_ttl_s=LEASE_S, watchers={}
        )
        self.sweeper = Sweeper(self.journal, clock=self.clock, owner=self.name)
        self.connection.on_death = self.die

    @property
    def name(self) -> str:
        """Whose leases these are."""
        return self.connection.name

    @property
    def alive(self) -> bool:
        """Whether it can run."""
        return not self.connection.dead

    @property
    def awake(self) -> bool:
        """Whether it runs now."""
        return self.alive and self.stalled_s is None

    def start(
        self, key: str, *, control: Control | None = None, instead: Callable[[Attempt], Any] | None = None
    ) -> None:
        """Ask for an operation."""
        control = control or Control()
        call = instead or self.attempt
        spec = OperationSpec(kind="test", key=key, operation_id=key, policy=POLICY)
        self.runs[key] = (asyncio.ensure_future(self.supervisor.run(spec, call, control=control)), control)

    async def attempt(self, attempt: Attempt) -> object:
        """Make an attempt that ends as the test wants."""
        made = Try(self, attempt, asyncio.get_running_loop().create_future())
        self.tries.append(made)
        try:
            return await made.end
        finally:
            self.tries.remove(made)

    def die(self) -> None:
        """Stop for good, between two instructions: nothing is written any more."""
        self.connection.dead = True
        self.tries.clear()
        loop = asyncio.get_running_loop()
        for task, _ in self.runs.values():
            loop.call_soon(task.cancel)

    async def wake(self) -> None:
        """Go on after a stall, as a laptop does whose lid is opened: only the wall clock has moved."""
        assert self.stalled_s is not None
        self.clock.jump(self.stalled_s)
        self.stalled_s = None
        await turns()


async def turns(count: int = TURNS) -> None:
    """Let everybody run until they wait."""
    for _ in range(count):
        await asyncio.sleep(0)
