"""The journal's records as table rows and back. A row whose CRC does not match is absent: nothing here ever guesses."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

from recovery.history import History
from recovery.owner import surely_dead
from recovery.records import AttemptRecord, Command, JsonValue, Operation
from recovery.rowcrc import Cell, intact, sealed
from recovery.states import State
from recovery.verdict import Category, Condition, UserAction

__all__ = [
    "damaged_operations",
    "drop_commands",
    "leases_of",
    "load_json",
    "operations",
    "put_attempt",
    "put_command",
    "put_operation",
    "read_attempts",
    "read_commands",
    "read_operation",
    "to_json",
]

_OPERATION = (
    "operation_id, kind, key, project, title, state, history, max_attempts, max_no_progress, category, code, message,"
    " condition, user_actions, error, next_at, deadline_at, owner, lease_until, generation, progress_done,"
    " progress_total, deaths, progress_at_death, rev, created_at, updated_at, args, crc"
)
_ATTEMPT = (
    "operation_id, number, started_at, ended_at, progress_from, progress_to, outcome, category, error, delay_s, crc"
)
_COMMAND = "request_id, operation_id, name, args, posted_at, taken_at, crc"

_PUT_OPERATION = f"INSERT OR REPLACE INTO operations ({_OPERATION}) VALUES (?{', ?' * 28})"  # noqa: S608
_PUT_ATTEMPT = f"INSERT OR REPLACE INTO attempts ({_ATTEMPT}) VALUES (?{', ?' * 10})"  # noqa: S608
_PUT_COMMAND = f"INSERT OR REPLACE INTO commands ({_COMMAND}) VALUES (?{', ?' * 6})"  # noqa: S608
_READ_OPERATION = f"SELECT {_OPERATION} FROM operations WHERE operation_id = ?"  # noqa: S608
_AT_ONCE = 16
_READ_LEASES = f"SELECT {_OPERATION} FROM operations WHERE operation_id IN (?{', ?' * (_AT_ONCE - 1)})"  # noqa: S608
_READ_OPERATIONS = f"SELECT {_OPERATION} FROM operations"  # noqa: S608
_READ_ATTEMPTS = f"SELECT {_ATTEMPT} FROM attempts WHERE operation_id = ? ORDER BY number"  # noqa: S608
_READ_COMMANDS = f"SELECT {_COMMAND} FROM commands"  # noqa: S608

_LONGEST_TEXT = 2_000
_LONGEST_ARGS = 65_536
_CATEGORIES = frozenset(Category)
_CONDITIONS = frozenset(Condition)
_USER_ACTIONS = frozenset(UserAction)
_HISTORY_FIELDS = History.__struct_fields__
_history_values = attrgetter(*_HISTORY_FIELDS)
_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":"), sort_keys=True).encode


def put_operation(conn: sqlite3.Connection, operation: Operation) -> tuple[Cell, ...]:
    """Insert or replace the row and return its cells; raises ValueError when its args are not JSON or too long."""
    cells = sealed(_operation_cells(operation))
    conn.execute(_PUT_OPERATION, cells)
    return cells


def read_operation(
    conn: sqlite3.Connection, operation_id: str, *, known: tuple[Operation, tuple[Cell, ...]] | None = None
) -> Operation | None:
    """Return the row; None when there is none that is intact. ``known`` is a row of this process's own with the cells
    that it was put as: as long as those are what is there, nobody has changed it, and nothing need be made of them.
    """
    row = conn.execute(_READ_OPERATION, (operation_id,)).fetchone()
    if known is not None and row == known[1]:
        return known[0]
    # A damaged index page can lead to another row than the one that was asked for.
    return _operation(row) if row is not None and intact(row) and row[0] == operation_id else None


def leases_of(conn: sqlite3.Connection, operation_ids: Sequence[str]) -> dict[str, tuple[str | None, int]]:
    """Return who has, or had, the lease of each operation that has an intact row, and its generation. For those who ask
    of many: a few statements, and no records.
    """
    found: dict[str, tuple[str | None, int]] = {}
    for first in range(0, len(operation_ids), _AT_ONCE):
        some = list(operation_ids[first : first + _AT_ONCE])
        # Always as many: each number of them would be another statement to compile.
        for row in conn.execute(_READ_LEASES, (*some, *some[-1:] * (_AT_ONCE - len(some)))):
            if intact(row):
                found[row[0]] = (row[17], row[19])
    return found


def operations(conn: sqlite3.Connection, where: str, parameters: Sequence[Cell] = ()) -> Iterator[Operation]:
    """Yield the intact rows that a constant ``where`` (and ORDER BY) selects; the caller re-checks what it relies
    on.
    """
    for row in conn.execute(f"{_READ_OPERATIONS} {where}", parameters):
        if intact(row):
            yield _operation(row)


def damaged_operations(conn: sqlite3.Connection) -> list[str]:
    """Return the ids of the rows that are not intact, as far as they can be read."""
    return [str(row[0]) for row in conn.execute(_READ_OPERATIONS) if not intact(row)]


def put_attempt(conn: sqlite3.Connection, operation_id: str, attempt: AttemptRecord) -> None:
    """Insert or replace the attempt of this number."""
    cells: tuple[Cell, ...] = (
        operation_id,
        attempt.number,
        _real(attempt.started_at),
        _real(attempt.ended_at),
        attempt.progress_from,
        attempt.progress_to,
        _cut_text(attempt.outcome),
        None if attempt.category is None else attempt.category.value,
        None if attempt.error is None else _cut_text(attempt.error),
        _real(attempt.delay_s),
    )
    conn.execute(_PUT_ATTEMPT, sealed(cells))


def read_attempts(conn: sqlite3.Connection, operation_id: str) -> list[AttemptRecord]:
    """Return the intact attempts of an operation, oldest first."""
    return [
        AttemptRecord(
            number=row[1],
            started_at=row[2],
            ended_at=row[3],
            progress_from=row[4],
            progress_to=row[5],
            outcome=row[6],
            category=_category(row[7]),
            error=row[8],
            delay_s=row[9],
        )
        for row in conn.execute(_READ_ATTEMPTS, (operation_id,))
        if intact(row) and row[0] == operation_id
    ]


def put_command(conn: sqlite3.Connection, command: Command, *, taken_at: float | None = None) -> None:
    """Insert or replace the command with this request id; raises ValueError when its args are not JSON or too long."""
    cells: tuple[Cell, ...] = (
        _text(command.request_id),
        _text(command.operation_id),
        _text(command.name),
        to_json(command.args),
        _real(command.posted_at),
        _real(taken_at),
    )
    conn.execute(_PUT_COMMAND, sealed(cells))


def drop_commands(conn: sqlite3.Connection, operation_id: str) -> None:
    """Delete the commands for an operation that nobody has taken."""
    conn.execute("DELETE FROM commands WHERE operation_id = ? AND taken_at IS NULL", (operation_id,))


def read_commands(
    conn: sqlite3.Connection, where: str, parameters: Sequence[Cell] = ()
) -> Iterator[tuple[Command, float | None]]:
    """Yield the intact commands a constant ``where`` selects, each with when it was taken."""
    for row in conn.execute(f"{_READ_COMMANDS} {where}", parameters):
        if intact(row):
            command = Command(
                request_id=row[0], operation_id=row[1], name=row[2], args=load_json(row[3]), posted_at=row[4]
            )
            yield command, row[5]


def to_json(value: JsonValue) -> str:
    """Return the canonical JSON text of a record's args.

    Raises:
        ValueError: it is not JSON (a TypeError of ``json`` included), or longer than 64 KiB.
    """
    try:
        text = _encode(value)
    except TypeError as exc:
        msg = f"args must be JSON values: {exc}"
        raise ValueError(msg) from exc
    if len(text) > _LONGEST_ARGS:
        msg = f"args are {len(text)} characters of JSON, {_LONGEST_ARGS} are allowed"
        raise ValueError(msg)
    return text


def load_json(text: str) -> Any:
    """Return what ``to_json`` was given."""
    return json.loads(text)


def _operation_cells(op: Operation) -> tuple[Cell, ...]:
    category, condition = op.category, op.condition
    return (
        op.operation_id,
        _text(op.kind),
        _text(op.key),
        _text(op.project),
        _cut_text(op.title),
        op.state.value,
        _encode(dict(zip(_HISTORY_FIELDS, _history_values(op.history), strict=True))),
        op.max_attempts,
        op.max_no_progress,
        None if category is None else category.value,
        op.code,
        None if op.message is None else _cut_text(op.message),
        None if condition is None else condition.value,
        " ".join(op.user_actions),
        None if op.error is None else _cut_text(op.error),
        _real(op.next_at),
        _real(op.deadline_at),
        None if op.owner is None else _text(op.owner),
        _real(op.lease_until),
        op.generation,
        op.progress_done,
        op.progress_total,
        op.deaths,
        op.progress_at_death,
        op.rev,
        _real(op.created_at),
        _real(op.updated_at),
        to_json(op.args),
    )


def _operation(row: Sequence[Any]) -> Operation:
    owner, lease_until = row[17], row[18]
    if owner is not None and lease_until is not None and surely_dead(owner):
        lease_until = 0.0  # nobody has to wait for the lease of a process that is known to be dead
    return Operation(
        operation_id=row[0],
        kind=row[1],
        key=row[2],
        project=row[3],
        title=row[4],
        state=State(row[5]),
        history=_history(row[6]),
        max_attempts=row[7],
        max_no_progress=row[8],
        category=_category(row[9]),
        code=row[10],
        message=row[11],
        condition=Condition(row[12]) if row[12] in _CONDITIONS else None,
        user_actions=tuple(UserAction(name) for name in row[13].split() if name in _USER_ACTIONS),
        error=row[14],
        next_at=row[15],
        deadline_at=row[16],
        owner=owner,
        lease_until=lease_until,
        generation=row[19],
        progress_done=row[20],
        progress_total=row[21],
        deaths=row[22],
        progress_at_death=row[23],
        rev=row[24],
        created_at=row[25],
        updated_at=row[26],
        args=json.loads(row[27]),
    )


def _history(text: str) -> History:
    values = {name: value for name, value in json.loads(text).items() if name in _HISTORY_FIELDS}
    values["category"] = _category(values.get("category"))
    return History(**values)


def _text(text: str) -> str:
    # A StrEnum's repr() is not its value's, and file names may hold bytes that are no UTF-8 (lone surrogates).
    # The row must be made of what SQLite will give back, or its CRC would not match when it is read.
    return str(text) if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _category(value: str | None) -> Category | None:
    # A newer program that shares the file may know more of them.
    if value is None:
        return None
    return Category(value) if value in _CATEGORIES else Category.UNKNOWN


def _real(value: float | None) -> float | None:
    return None if value is None else float(value) + 0.0  # + 0.0 turns -0.0, which SQLite does not keep, into 0.0


def _cut_text(text: str) -> str:
    # Short enough to be kept for every attempt.
    return _text(text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…")
