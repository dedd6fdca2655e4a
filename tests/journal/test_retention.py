"""How much of the past is kept: by age, by bytes for each project, with everything that belongs to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recovery.database import Database, Schema
from recovery.history import History
from recovery.journal import JOURNAL, AttemptRecord, Journal
from recovery.records import Change, Command, JsonValue
from recovery.rows import put_command
from recovery.siderows import put_step
from recovery.states import State
from recovery.taxonomy import network
from recovery.testing import FakeClock
from tests.supervising import spec

PARTS = Schema("parts", ("CREATE TABLE parts (of TEXT NOT NULL, n INTEGER NOT NULL) STRICT",))
DAY = 86_400.0
LONG = "e" * 300


@pytest.fixture
async def journal(state_path: Path, clock: FakeClock) -> Any:
    """Return a journal that shares its file with another package's table."""
    async with await Database.open(state_path, [JOURNAL, PARTS]) as database:
        yield Journal(database, clock=clock, companions=[("parts", "of")])


def end_in(
    conn: sqlite3.Connection,
    journal: Journal,
    now: float,
    key: str,
    *,
    state: State | None = State.COMPLETE,
    project: str = "p",
    attempts: int = 1,
    args: dict[str, JsonValue] | None = None,
) -> None:
    """Leave an operation behind, with attempts, a step, a command and a companion row; state None leaves it running."""
    wanted = spec(key, operation_id=key, project=project, title=key, args=args or {})
    _, generation = journal.begin_and_claim_in(conn, wanted, "x", owner="one", ttl_s=15.0, now=now)
    assert generation is not None
    for number in range(1, attempts + 1):
        attempt = AttemptRecord(number=number, started_at=now, category=network.DNS.category, error=LONG)
        change = Change(state=State.RUNNING, history=History(attempts=number), attempt=attempt, now=now)
        journal.record_in(conn, key, generation, change)
    if state is not None:
        journal.record_in(conn, key, generation, Change(state=state, now=now, error=LONG))
    put_step(conn, key, "step", {"n": 1}, now)
    conn.execute("INSERT INTO parts VALUES (?, 1)", (key,))
    put_command(conn, Command(request_id=key, operation_id=key, name="retry_now", posted_at=now))


async def end(journal: Journal, clock: FakeClock, key: str, **more: Any) -> None:
    """Leave an operation behind now."""
    await journal.transact(lambda conn: end_in(conn, journal, clock.time(), key, **more))


def left(table: str, column: str = "operation_id") -> Callable[[sqlite3.Connection], list[str]]:
    """Return a read of the ids that a table still has rows of."""
    return lambda conn: sorted({row[0] for row in conn.execute(f"SELECT {column} FROM {table}")})


async def tables(journal: Journal) -> list[list[str]]:
    """Return whose rows are left, table by table."""
    names = [("operations",), ("attempts",), ("steps",), ("commands",), ("parts", "of")]
    return [await journal._database.read(left(*name)) for name in names]


async def test_forgetting_takes_everything_along(journal: Journal, clock: FakeClock) -> None:
    """Rows of all tables, the companions' too; what has not ended, and what there is none of, is left alone."""
    await end(journal, clock, "gone", state=State.FAILED)
    await end(journal, clock, "stays", state=State.CANCELLED)
    await end(journal, clock, "runs", state=None)
    assert await tables(journal) == [["gone", "runs", "stays"]] * 5
    assert await journal.forget(["gone", "runs", "nobody"]) == 1
    assert await tables(journal) == [["runs", "stays"]] * 5
    assert await journal.forget([]) == 0


async def test_pruning_by_age(journal: Journal, clock: FakeClock) -> None:
    """What ended before the time given goes; what has not ended stays however old it is."""
    for key, state in [("old", State.COMPLETE), ("old failed", State.FAILED), ("old live", None)]:
        await end(journal, clock, key, state=state)
    await clock.advance(DAY)
    await end(journal, clock, "new")
    assert await journal.prune(clock.time() - DAY / 2) == 2
    assert {row.key for row in await journal.list()} == {"old live", "new"}
    assert await journal.prune(clock.time() - DAY / 2) == 0


async def test_pruning_by_size_is_by_project(journal: Journal, clock: FakeClock) -> None:
    """Of each project the oldest that ended go first; another project's fill counts for itself."""
    for number in range(6):
        await end(journal, clock, f"a{number}", project="a")
        await clock.advance(1.0)
    await end(journal, clock, "b", project="b")
    one = 2_500  # about what each of them takes
    pruned = await journal.prune(0.0, keep_per_project_bytes=3 * one)
    assert {row.key for row in await journal.list(project="b")} == {"b"}
    kept = {row.key for row in await journal.list(project="a")}
    assert kept == {f"a{number}" for number in range(pruned, 6)}
    assert 2 <= len(kept) <= 4


async def test_live_operations_are_kept_whatever_they_take(journal: Journal, clock: FakeClock) -> None:
    """Bounded means that the past gives way, never the present."""
    await end(journal, clock, "live", state=None, args={"text": "x" * 20_000})
    await end(journal, clock, "done")
    assert await journal.prune(0.0, keep_per_project_bytes=10_000) == 1
    assert [row.key for row in await journal.list()] == ["live"]


@pytest.mark.parametrize("text", ["x", "模"], ids=["ascii", "three bytes a character"])
async def test_a_project_takes_up_less_than_a_megabyte(
    text: str, journal: Journal, clock: FakeClock, tmp_path: Path
) -> None:
    """Measured as a file with nothing else in it: after pruning, with the default bound."""

    def fill(conn: sqlite3.Connection) -> None:
        for number in range(180):
            more: Any = {"state": State.FAILED, "attempts": 20, "args": {"text": text * 300}}
            end_in(conn, journal, clock.time() + number, f"{text * 60}{number}", **more)

    await journal.transact(fill)
    before = await size(journal, tmp_path / "before.db")
    assert before > 1_500_000
    assert await journal.prune(0.0) > 10
    after = await size(journal, tmp_path / "after.db")
    assert 600_000 <= after <= 1_000_000, "and the bound is made use of"


async def size(journal: Journal, copy: Path) -> int:
    """Return how large the file is without its free pages."""
    file = journal._database._store.file
    assert file is not None
    await journal._database._thread.run(lambda: file.conn.execute("VACUUM INTO ?", (str(copy),)))
    return copy.stat().st_size


async def test_what_nobody_touched_for_a_day_goes(journal: Journal, clock: FakeClock) -> None:
    """Commands nobody took, those that were taken, and gates."""
    await journal.post_command("a", "pause", request_id="old")
    await journal.change_gate("old", lambda _: ({"n": 1}, None))
    await clock.advance(DAY / 2)
    await journal.post_command("b", "pause", request_id="taken")
    await journal.take_commands(["b"])
    await journal.change_gate("new", lambda _: ({"n": 1}, None))
    await clock.advance(DAY / 2 + 1.0)
    await journal.prune(0.0)
    assert list(await journal.gates()) == ["new"]
    assert not await journal.post_command("b", "pause", request_id="taken"), "still known"
    assert await journal.post_command("a", "pause", request_id="old"), "forgotten"


async def test_what_has_lost_its_operation_goes_in_the_end(journal: Journal, clock: FakeClock) -> None:
    """Attempts and steps of a row that was damaged: kept for a while, for an owner that lives puts its row back."""
    await end(journal, clock, "a", state=State.FAILED)
    await journal.transact(lambda conn: conn.execute("DELETE FROM operations"))
    await journal.prune(clock.time() - DAY)
    assert (await tables(journal))[1:3] == [["a"], ["a"]]
    await journal.prune(clock.time() + 1.0)
    assert (await tables(journal))[1:3] == [[], []]


async def test_much_is_forgotten_in_small_steps(journal: Journal, clock: FakeClock) -> None:
    """Nobody else waits for the lock as long as it takes to forget everything."""

    def many(conn: sqlite3.Connection) -> None:
        for number in range(250):
            row = journal.begin_in(conn, spec(str(number), operation_id=str(number)), "x", clock.time())
            taken = journal.claim_in(conn, row.operation_id, owner="one", ttl_s=15.0, now=clock.time())
            assert taken is not None
            journal.record_in(conn, row.operation_id, taken.generation, Change(state=State.FAILED, now=clock.time()))

    await journal.transact(many)
    before = journal._database.statistics()["groups"]
    assert await journal.prune(clock.time() + 1.0) == 250
    assert journal._database.statistics()["groups"] - before == 4
    assert await journal.list() == []
