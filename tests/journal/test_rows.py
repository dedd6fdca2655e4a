"""Records as table rows and back: what is written is what is read, whatever people and other versions put into it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from recovery.history import History
from recovery.journal import JOURNAL
from recovery.owner import new_owner
from recovery.records import AttemptRecord, Command, Operation
from recovery.revs import keep_rev, newest_rev
from recovery.rowcrc import sealed
from recovery.rows import (
    load_json,
    operations,
    put_attempt,
    put_command,
    put_operation,
    read_attempts,
    read_commands,
    read_operation,
    to_json,
)
from recovery.schema import install
from recovery.siderows import move_steps, put_step, read_steps
from recovery.states import State
from recovery.verdict import Category, Condition, UserAction

TEXT = st.text(max_size=20)
REAL = st.floats(-1e12, 1e12)
COUNT = st.integers(0, 2**53)
MAYBE = st.one_of(st.none(), REAL)
JSON = st.dictionaries(TEXT, st.one_of(st.none(), st.booleans(), COUNT, TEXT, st.lists(TEXT, max_size=2)), max_size=3)
HISTORIES = st.builds(
    History, attempts=COUNT, no_progress=COUNT, started_at=REAL, category=st.none() | st.sampled_from(Category),
    category_run=COUNT, restarts=COUNT, refreshes=COUNT, spared=COUNT,
)  # fmt: skip
OPERATIONS = st.builds(
    Operation, operation_id=TEXT, kind=TEXT, key=TEXT, project=TEXT, title=TEXT, state=st.sampled_from(State),
    history=HISTORIES, max_attempts=COUNT, max_no_progress=COUNT, category=st.none() | st.sampled_from(Category),
    code=st.none() | TEXT, message=st.none() | TEXT, condition=st.none() | st.sampled_from(Condition),
    user_actions=st.lists(st.sampled_from(UserAction), max_size=3).map(tuple), error=st.none() | TEXT, next_at=MAYBE,
    deadline_at=MAYBE, owner=st.none() | TEXT, lease_until=MAYBE, generation=COUNT, progress_done=COUNT,
    progress_total=st.none() | COUNT, deaths=COUNT, progress_at_death=COUNT, rev=COUNT, created_at=REAL,
    updated_at=REAL, args=JSON,
)  # fmt: skip

ATTEMPTS = st.builds(
    AttemptRecord, number=COUNT, started_at=REAL, ended_at=MAYBE, progress_from=COUNT, progress_to=COUNT, outcome=TEXT,
    category=st.none() | st.sampled_from(Category), error=st.none() | TEXT, delay_s=MAYBE,
)  # fmt: skip
FEW = settings(max_examples=40, deadline=None)


@contextlib.contextmanager
def tables() -> Iterator[sqlite3.Connection]:
    """Open a database in memory with the journal's tables."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        install(conn, [JOURNAL])
        yield conn


@pytest.fixture
def conn() -> Iterator[sqlite3.Connection]:
    """Return such a database."""
    with tables() as opened:
        yield opened


@FEW
@given(OPERATIONS)
def test_an_operation_comes_back(operation: Operation) -> None:
    """Every field, of every value."""
    with tables() as conn:
        put_operation(conn, operation)
        assert read_operation(conn, operation.operation_id) == operation
        assert list(operations(conn, "")) == [operation]


@FEW
@given(ATTEMPTS)
def test_an_attempt_comes_back(attempt: AttemptRecord) -> None:
    """Every field, of every value."""
    with tables() as conn:
        put_attempt(conn, "a", attempt)
        assert read_attempts(conn, "a") == [attempt]


@FEW
@given(TEXT, TEXT, TEXT, JSON, REAL, MAYBE)
def test_a_command_comes_back(request: str, of: str, name: str, args: Any, at: float, taken: float | None) -> None:
    """With when it was taken."""
    command = Command(request_id=request, operation_id=of, name=name, args=args, posted_at=at)
    with tables() as conn:
        put_command(conn, command, taken_at=taken)
        assert list(read_commands(conn, "")) == [(command, taken)]


class Kind(StrEnum):
    """Names that are more than strings."""

    ONE = "one"


ROW = Operation(operation_id="a", kind="k", key="key")


def test_what_sqlite_would_change_is_changed_before(conn: sqlite3.Connection) -> None:
    """Or the row would look damaged: enums, whole numbers for real ones, minus zero, bytes that are no UTF-8."""
    odd: Any = {"kind": Kind.ONE, "created_at": 5, "updated_at": -0.0, "key": "caf\udce9.bin", "owner": "\ud800"}
    put_operation(conn, replace(ROW, **odd))
    found = read_operation(conn, "a")
    assert found is not None
    assert (type(found.kind), found.kind, type(found.created_at)) == (str, "one", float)
    assert (str(found.updated_at), found.key, found.owner) == ("0.0", "caf\\udce9.bin", "\\ud800")


def test_texts_are_cut(conn: sqlite3.Connection) -> None:
    """A message of a megabyte is not kept for every attempt."""
    put_operation(conn, replace(ROW, title="t" * 5000, message="m" * 5000, error="e" * 2000))
    found = read_operation(conn, "a")
    assert found is not None
    assert found.message is not None
    assert (len(found.title), len(found.message), found.error) == (2000, 2000, "e" * 2000)
    assert found.title == "t" * 1999 + "…"


def test_what_a_newer_version_writes_is_read(conn: sqlite3.Connection) -> None:
    """Of the same tables, with words that are not known here: it shares the file, and its rows are no damage."""
    put_operation(
        conn, replace(ROW, category=Category.DNS, condition=Condition.LOGIN, user_actions=(UserAction.RESUME,))
    )
    columns = [row[1] for row in conn.execute("PRAGMA table_info(operations)")]
    row = dict(zip(columns, conn.execute("SELECT * FROM operations").fetchone(), strict=True))
    row |= {"category": "aliens", "condition": "full_moon", "user_actions": "pray resume"}
    row["history"] = '{"attempts":2,"moods":1,"category":"aliens"}'
    del row["crc"]
    conn.execute(f"REPLACE INTO operations VALUES (?{', ?' * 28})", sealed(list(row.values())))
    found = read_operation(conn, "a")
    assert found is not None
    assert (found.category, found.condition, found.user_actions) == (Category.UNKNOWN, None, (UserAction.RESUME,))
    assert found.history == History(attempts=2, category=Category.UNKNOWN)


def test_the_lease_of_the_dead_is_over(conn: sqlite3.Connection) -> None:
    """Nobody waits for a process that is known to have ended."""
    machine, pid, started, random = new_owner().split(".")
    dead = f"{machine}.{pid}.{int(started) - 1}.{random}"
    for name, owner in [("live", new_owner()), ("dead", dead), ("strange", "somebody")]:
        put_operation(conn, replace(ROW, operation_id=name, owner=owner, lease_until=99.0))
    found = {row.operation_id: row.leased(50.0) for row in operations(conn, "")}
    assert found == {"live": True, "dead": False, "strange": True}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"x": {1}}, "args must be JSON values"),
        ({"x": object()}, "args must be JSON values"),
        ({"x": float("inf")}, "JSON"),
        ("x" * 65_535, "args are 65537 characters of JSON, 65536 are allowed"),
    ],
    ids=["set", "object", "infinity", "long"],
)
def test_what_is_no_json(value: Any, message: str) -> None:
    """Always a ValueError that says what is wrong."""
    with pytest.raises(ValueError, match=message):
        to_json(value)
    assert load_json(to_json("x" * 65_534)) == "x" * 65_534


def test_json_is_canonical() -> None:
    """The same value is the same text, so that an unchanged row is recognised."""
    assert to_json({"b": 1, "a": [1, 2]}) == to_json({"a": [1, 2], "b": 1}) == '{"a":[1,2],"b":1}'


def test_steps_are_given_to_another_operation(conn: sqlite3.Connection) -> None:
    """What that has saved itself stays; a damaged one is left behind."""
    for of, name, data in [("old", "a", 1), ("old", "b", 2), ("old", "c", 3), ("new", "b", 20)]:
        put_step(conn, of, name, data, 1.0)
    conn.execute("UPDATE steps SET data = '9' WHERE name = 'c'")
    move_steps(conn, "old", "new")
    assert read_steps(conn, "new") == {"a": 1, "b": 20}
    assert conn.execute("SELECT count(*) FROM steps WHERE operation_id = 'old'").fetchone() == (0,)


def test_a_known_row_is_known_only_as_long_as_nobody_has_changed_it(conn: sqlite3.Connection) -> None:
    """Neither another process's write nor a damaged cell goes by unseen."""
    known = (ROW, put_operation(conn, ROW))
    assert read_operation(conn, "a", known=known) is ROW
    others = replace(ROW, generation=ROW.generation + 1)
    put_operation(conn, others)
    assert read_operation(conn, "a", known=known) == others
    put_operation(conn, ROW)
    conn.execute("UPDATE operations SET generation = generation + 8 WHERE operation_id = 'a'")
    assert read_operation(conn, "a", known=known) is None


def test_the_newest_rev(conn: sqlite3.Connection) -> None:
    """Of the rows and of those forgotten; a number that only damage can have made is not believed."""
    assert newest_rev(conn) == 0
    put_operation(conn, replace(ROW, rev=7))
    assert newest_rev(conn) == 7
    keep_rev(conn, 9)
    assert newest_rev(conn) == 9
    put_operation(conn, replace(ROW, operation_id="b", rev=11))
    assert newest_rev(conn) == 11
    conn.execute("UPDATE operations SET rev = rev + (1 << 60) WHERE operation_id = 'b'")
    assert newest_rev(conn, otherwise=10) == 10
    conn.execute("UPDATE meta SET value = '99' WHERE name = 'forgotten_rev'")
    assert newest_rev(conn, otherwise=10) == 10
