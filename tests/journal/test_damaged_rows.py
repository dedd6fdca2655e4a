"""A bit that flips on disk makes a row absent: never another decision, and never an error."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recovery.database import Database, Health
from recovery.faults import SQLITE_RAISES
from recovery.history import History
from recovery.journal import JOURNAL, Journal
from recovery.lifecycle import Fenced
from recovery.records import AttemptRecord, Change, Operation
from recovery.rowcrc import intact, row_crc, sealed
from recovery.rows import operations, read_attempts, read_commands
from recovery.siderows import read_gates, read_steps
from recovery.states import State
from recovery.taxonomy import machine, network
from recovery.testing import FakeClock
from tests.supervising import spec

CELLS = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(), st.binary())


@settings(deadline=None)
@given(st.lists(CELLS, min_size=1, max_size=6), st.data())
def test_a_changed_cell_is_found(cells: list[Any], data: st.DataObject) -> None:
    """Whatever a cell becomes, also one of another type that compares equal."""
    row = sealed([0.0 if cell == 0 and isinstance(cell, float) else cell for cell in cells])
    assert intact(row)
    where = data.draw(st.integers(0, len(cells) - 1))
    other = data.draw(CELLS)
    changed = (*row[:where], other, *row[where + 1 :])
    assert intact(changed) == (repr(other) == repr(row[where]))


def test_the_crc_is_the_same_in_every_version() -> None:
    """Files outlive programs: the value of a known row must never change."""
    assert row_crc(("gone with the wind", 1939, None, 2.5, b"x")) == 48262454


@settings(deadline=None)
@given(st.lists(CELLS.filter(lambda cell: not isinstance(cell, str) or cell.isprintable()), min_size=1, max_size=5))
def test_what_sqlite_gives_back_is_intact(cells: list[Any]) -> None:
    """Sealed, stored in typed columns, and read: the CRC still matches."""
    types = {int: "INTEGER", float: "REAL", str: "TEXT", bytes: "BLOB", type(None): "TEXT"}
    cells = [cell + 0.0 if isinstance(cell, float) else cell for cell in cells]
    with contextlib.closing(sqlite3.connect(":memory:")) as conn:
        columns = ", ".join(f"c{n} {types[type(cell)]}" for n, cell in enumerate(cells))
        conn.execute(f"CREATE TABLE t ({columns}, crc INTEGER) STRICT")
        conn.execute(f"INSERT INTO t VALUES (?{', ?' * len(cells)})", sealed(cells))
        assert intact(conn.execute("SELECT * FROM t").fetchone())


async def fill(path: Path) -> None:
    """Make a journal with a few of everything in it."""
    clock = FakeClock()
    async with await Database.open(path, [JOURNAL]) as database:
        journal = Journal(database, clock=clock)
        for number in range(12):
            now = clock.time()
            wanted = spec(f"key {number}", operation_id=f"op{number}", project="p", title="t", args={"n": number})
            row, generation = await journal.begin_and_claim(wanted, owner="one", ttl_s=15.0, now=now)
            assert generation is not None
            verdict = machine.DISK_FULL if number % 2 else network.CONNECTION
            attempt = AttemptRecord(number=1, started_at=now, category=verdict.category, error="E: why")
            await journal.record(
                row.operation_id,
                generation,
                Change(
                    state=State.PARKED if number % 2 else State.WAITING,
                    verdict=verdict,
                    history=History().after_failure(verdict, progressed=False),
                    error="E: why",
                    next_at=now + 60.0,
                    attempt=attempt,
                    progress=(number, 99),
                    now=now,
                ),
            )
            await journal.save_step(row.operation_id, generation, "step", {"n": number})
            await journal.post_command(row.operation_id, "pause", request_id=f"r{number}")
            await journal.change_gate(f"h{number}", lambda _: ({"phase": "open"}, None))


def decisions(conn: sqlite3.Connection) -> dict[str, set[str]]:
    """Return everything the journal would act upon, table by table, each row in a form that compares."""
    rows = list(operations(conn, ""))
    return {
        "operations": {repr(row) for row in rows},
        "attempts": {repr((n, each)) for n in range(12) for each in read_attempts(conn, f"op{n}")},
        "commands": {repr(each) for each in read_commands(conn, "")},
        "steps": {repr((n, each)) for n in range(12) for each in read_steps(conn, f"op{n}").items()},
        "gates": {repr(each) for each in read_gates(conn).items()},
    }


def test_flipped_bits_never_make_another_decision(tmp_path: Path) -> None:
    """200 single bits in the file, one at a time: each row is as it was written, or absent, or SQLite refuses."""
    path = tmp_path / "state.db"
    asyncio.run(fill(path))
    whole = path.read_bytes()
    with contextlib.closing(sqlite3.connect(path)) as conn:
        before = decisions(conn)
    assert {name: len(rows) for name, rows in before.items()} == dict.fromkeys(before, 12)
    draw, used = random.Random(20260106), [offset for offset in range(100, len(whole)) if whole[offset]]
    absent = refused = 0
    for _ in range(4000 if os.environ.get("RESUMABLE_LONG") == "1" else 200):
        flipped = bytearray(whole)
        flipped[draw.choice(used)] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        with contextlib.closing(sqlite3.connect(path)) as conn:
            conn.text_factory = lambda data: str(data, encoding="utf-8", errors="replace")
            try:
                found = decisions(conn)
            except SQLITE_RAISES:
                refused += 1
                continue
        for name, rows in found.items():
            assert rows <= before[name], f"a row of {name} says something nobody wrote"
        absent += found != before
    assert absent > 50, "bits were flipped in rows"
    assert refused < absent


@contextlib.contextmanager
def changed_behind_our_back(path: Path, statement: str) -> Any:
    """Change the file as a flipped bit would, without sealing the row again."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as conn:
        assert conn.execute(statement).rowcount == 1
    yield


READS: dict[str, tuple[str, Callable[[Journal], Any], Any]] = {
    "get": ("UPDATE operations SET title = 'x'", lambda journal: journal.get("op"), None),
    "list": ("UPDATE operations SET state = 'queued'", lambda journal: journal.list(), []),
    "find": ("UPDATE operations SET progress_done = 7", lambda journal: journal.find("test", "k"), None),
    "due": ("UPDATE operations SET next_at = 1", lambda journal: journal.due(1e12), []),
    "changes": ("UPDATE operations SET rev = 99", lambda journal: journal.changed_since(0), []),
    "attempts": ("UPDATE attempts SET error = NULL", lambda journal: journal.attempts("op"), []),
    "steps": ("UPDATE steps SET data = '2'", lambda journal: journal.steps("op"), {}),
    "gates": ("UPDATE gates SET state = '{}'", lambda journal: journal.gates(), {}),
    "a gate": ("UPDATE gates SET state = '{}'", lambda journal: journal.change_gate("h", lambda old: (old, old)), None),
    "commands": ("UPDATE commands SET name = 'cancel'", lambda journal: journal.take_commands(["op"]), []),
}  # fmt: skip


@pytest.mark.parametrize(("statement", "read", "expected"), READS.values(), ids=list(READS))
async def test_a_damaged_row_is_absent(
    statement: str, read: Callable[[Journal], Any], expected: Any, state_path: Path
) -> None:
    """In every question that can be asked."""
    async with await Database.open(state_path, [JOURNAL]) as database:
        before = Journal(database)
        _, generation = await before.begin_and_claim(spec("k", operation_id="op"), owner="one", ttl_s=0.0, now=0.0)
        assert generation is not None
        attempt = AttemptRecord(number=1, started_at=0.0, error="e")
        await before.record("op", generation, Change(state=State.WAITING, next_at=2.0, attempt=attempt, now=0.0))
        await before.save_step("op", generation, "s", 1)
        await before.change_gate("h", lambda _: ({"phase": "open"}, None))
        await before.post_command("op", "pause")
        assert await read(before) != expected
    async with await Database.open(state_path, [JOURNAL]) as database:
        with changed_behind_our_back(state_path, statement):
            assert await read(Journal(database)) == expected
        assert database.health is Health.OK


async def test_damaged_operations_are_counted_and_pruned(
    state_path: Path, journal: Journal, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """They are not hidden: the statistics count them, and the log names what is forgotten for good."""
    await journal.begin(spec("a", operation_id="a"), now=clock.time())
    newest = await journal.begin(spec("b", operation_id="b"), now=clock.time())
    with changed_behind_our_back(state_path, "UPDATE operations SET title = 'x' WHERE operation_id = 'b'"):
        assert (await journal.statistics()).damaged == 1
        assert await journal.prune(older_than=0.0) == 0
    assert (await journal.statistics()).damaged == 0
    assert "1 operations were damaged on disk and are forgotten: b" in caplog.text
    assert (await journal.begin(spec("c"), now=clock.time())).rev > newest.rev


async def claimed(journal: Journal, clock: FakeClock) -> tuple[Operation, int]:
    """Begin and claim an operation."""
    row, generation = await journal.begin_and_claim(spec(operation_id="a"), owner="me", ttl_s=15.0, now=clock.time())
    assert generation is not None
    return row, generation


DAMAGE = "UPDATE operations SET owner = 'you', generation = 9 WHERE operation_id = 'a'"


async def test_an_owner_puts_its_damaged_row_back(state_path: Path, journal: Journal, clock: FakeClock) -> None:
    """It knows what it holds: the write that finds the row damaged is not lost, and nobody is fenced."""
    row, generation = await claimed(journal, clock)
    with changed_behind_our_back(state_path, DAMAGE):
        assert await journal.renew("a", generation, ttl_s=15.0, now=clock.time(), progress=(5, 9))
    found = await journal.get("a")
    assert found is not None
    assert (found.owner, found.generation, found.progress_done) == ("me", generation, 5)
    with changed_behind_our_back(state_path, DAMAGE):
        await journal.save_step("a", generation, "step", 1)
    with changed_behind_our_back(state_path, DAMAGE):
        done = await journal.record("a", generation, Change(state=State.COMPLETE, now=clock.time()))
    assert (done.state, done.progress_done, done.operation_id) == (State.COMPLETE, 5, row.operation_id)


async def test_putting_a_row_back_does_not_take_back_its_neighbours(
    state_path: Path, journal: Journal, database: Database, clock: FakeClock
) -> None:
    """In one group, another operation's newest change is not yet known to be committed; it must not be undone."""
    _, generation = await claimed(journal, clock)
    other, others = await journal.begin_and_claim(spec("b"), owner="me", ttl_s=15.0, now=clock.time())
    assert others is not None
    with changed_behind_our_back(state_path, DAMAGE):

        def both(conn: sqlite3.Connection) -> None:
            again, _ = journal.begin_and_claim_in(conn, spec("b"), "fresh", owner="me", ttl_s=15.0, now=clock.time())
            assert again.generation == others + 1
            journal.renew_in(conn, "a", generation, ttl_s=15.0, now=clock.time())

        await database.write(both)
    found = await journal.get(other.operation_id)
    assert found is not None
    assert found.generation == others + 1


async def test_a_damaged_row_nobody_holds_fences(state_path: Path, journal: Journal, clock: FakeClock) -> None:
    """A process that is not its owner cannot know what was in it."""
    _, generation = await claimed(journal, clock)
    async with await Database.open(state_path, [JOURNAL]) as database:
        with changed_behind_our_back(state_path, DAMAGE), pytest.raises(Fenced, match="gone"):
            await Journal(database).record("a", generation, Change(state=State.COMPLETE, now=clock.time()))
