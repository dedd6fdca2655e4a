"""How much of the past the journal keeps: ended operations by age, and by bytes for each project. Live ones always
stay.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Container, Sequence

from recovery.records import Operation
from recovery.revs import keep_rev, newest_rev
from recovery.rows import operations, read_operation
from recovery.states import TERMINAL, State

__all__ = ["doomed_in", "forget_in", "sweep_out_in"]

log = logging.getLogger(__name__)

_COMMAND_LIFE_S = 86_400.0
_GATE_LIFE_S = 86_400.0
_TABLES = tuple((table, "operation_id") for table in ("operations", "attempts", "commands", "steps"))
# What a row takes up beside its texts.
_ROW_BYTES = {"operations": 300, "attempts": 60}
_OTHER_ROW_BYTES = 40
_TEXTS = {
    "operations": ("key", "title", "project", "args", "history", "message", "error"),
    "attempts": ("error",),
    "commands": ("request_id", "args"),
    "steps": ("name", "data"),
}
# Entries in indexes: numbers, and texts once more.
_INDEX_BYTES = {"operations": 120, "commands": 20}
_INDEXED = {
    "operations": ("operation_id", "operation_id", "operation_id", "key"),
    "commands": ("operation_id", "request_id"),
}
# A large row keeps its beginning and puts the rest on pages of its own (sqlite.org/fileformat2.html, 1.6); of the other
# pages about a fifth stays empty.
_ON_PAGES = "index_size * 1.2 + CASE WHEN size <= 1000 THEN size * 1.2 ELSE 489 + 4096 * ((size + 3602) / 4092) END"


def forget_in(conn: sqlite3.Connection, operation_ids: Collection[str], companions: Sequence[tuple[str, str]]) -> int:
    """Delete ended operations with their rows in all tables, ours and the companions'; return how many."""
    ended = [
        row.operation_id
        for operation_id in operation_ids
        for row in operations(conn, "WHERE operation_id = ?", (operation_id,))
        if row.operation_id == operation_id and row.state in TERMINAL
    ]
    newest = newest_rev(conn)
    for table, column in (*_TABLES, *companions):
        query = f'DELETE FROM "{table}" WHERE "{column}" = ?'  # noqa: S608 - names of the program's own tables
        conn.executemany(query, [(operation_id,) for operation_id in ended])
    if newest_rev(conn) < newest:
        keep_rev(conn, newest)
    return len(ended)


def doomed_in(
    conn: sqlite3.Connection,
    older_than: float,
    keep_bytes: int,
    companions: Sequence[tuple[str, str]],
    needed: Container[str] = (),
) -> list[str]:
    """Return the ended operations that are to be forgotten, see ``Journal.prune``; none that has failed and is
    ``needed``. Reads only: it may take a while.
    """
    sizes = _sizes(conn, companions)
    ended: list[Operation] = []
    used: dict[str, int] = defaultdict(int)
    for row in operations(conn, ""):
        if row.state in TERMINAL and not (row.state is State.FAILED and row.operation_id in needed):
            ended.append(row)
        else:
            used[row.project] += sizes[row.operation_id]
    doomed = []
    for row in sorted(ended, key=lambda row: (row.updated_at, row.rev), reverse=True):
        total = used[row.project] + sizes[row.operation_id]
        if row.updated_at < older_than or total > keep_bytes:
            doomed.append(row.operation_id)
        else:
            used[row.project] = total
    return doomed


def sweep_out_in(conn: sqlite3.Connection, damaged: Collection[str], older_than: float, now: float) -> None:
    """Delete operations whose rows are damaged, what has lost its operation, and commands and gates that nobody has
    touched for a day.
    """
    lost = [operation_id for operation_id in damaged if read_operation(conn, operation_id) is None]
    if lost:
        log.warning("%d operations were damaged on disk and are forgotten: %s", len(lost), ", ".join(lost))
        newest = newest_rev(conn)
        conn.executemany("DELETE FROM operations WHERE operation_id = ?", [(operation_id,) for operation_id in lost])
        keep_rev(conn, newest)
    # What belonged to them stays for a while: an owner that lives puts its row back.
    for table, time in (("attempts", "started_at"), ("steps", "saved_at")):
        conn.execute(
            f"DELETE FROM {table} WHERE {time} < ? AND operation_id NOT IN (SELECT operation_id FROM operations)",  # noqa: S608
            (older_than,),
        )
    conn.execute("DELETE FROM commands WHERE coalesce(taken_at, posted_at) < ?", (now - _COMMAND_LIFE_S,))
    conn.execute("DELETE FROM gates WHERE updated_at < ?", (now - _GATE_LIFE_S,))


def _sizes(conn: sqlite3.Connection, companions: Sequence[tuple[str, str]]) -> dict[str, int]:
    sizes: dict[str, int] = defaultdict(int)
    for table, column in (*_TABLES, *companions):
        size = _sum(_ROW_BYTES.get(table, _OTHER_ROW_BYTES), (column, *_TEXTS.get(table, ())))
        index_size = _sum(_INDEX_BYTES.get(table, 0), _INDEXED.get(table, ()))
        rows = f'SELECT "{column}" AS id, {size} AS size, {index_size} AS index_size FROM "{table}"'  # noqa: S608
        for operation_id, total in conn.execute(f"SELECT id, sum({_ON_PAGES}) FROM ({rows}) GROUP BY id"):  # noqa: S608
            sizes[operation_id] += int(total)
    return sizes


def _sum(least: int, texts: Sequence[str]) -> str:
    # Bytes, not characters.
    return " + ".join([str(least), *(f'coalesce(length(CAST("{text}" AS BLOB)), 0)' for text in texts)])
