"""Views in the database: what the owner of a download knows of it, for every other process to read.

A view is a description, not a claim: nothing is decided by it, and one that is lost or late costs a stale number. It is
written by whoever has the lease (or by anybody while nobody has); what a former owner still wants to say is dropped.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from recovery.rowcrc import Cell, intact, sealed
from recovery.rows import leases_of
from resumable.events import DownloadView

__all__ = ["ViewRow", "newest_seq", "put_views", "read_view", "views", "written_ids", "written_since"]

_COLUMNS: Final = "download_id, seq, generation, written_at, view, crc"
_PUT: Final = "INSERT OR REPLACE INTO download_views VALUES (?, ?, ?, ?, ?, ?)"
_decoder = msgspec.json.Decoder(DownloadView)


class ViewRow(Struct, frozen=True):
    """A stored view, the operation's generation when it was written, and when that was (epoch seconds)."""

    view: DownloadView
    generation: int
    written_at: float


def put_views(conn: sqlite3.Connection, views: Sequence[tuple[DownloadView, int]], now: float) -> None:
    """Write views, each with the generation of the lease it was seen under (0: under none of its own).

    One that is not its owner's to write, because another process has the download by now, is left out.
    """
    # Of the clock as well as of the newest row: a number whose row was forgotten must not be given out again.
    seq = max(newest_seq(conn) + 1, int(now * 1000))
    leases = leases_of(conn, [view.download_id for view, _ in views])
    rows: list[tuple[Cell, ...]] = []
    for view, generation in views:
        owner, current = leases.get(view.download_id, (None, None))
        if current is None or owner not in {None, view.owner} or generation not in {0, current}:
            continue
        rows.append(sealed((view.download_id, seq + len(rows), current, float(now), view.to_json())))
    conn.executemany(_PUT, rows)


def newest_seq(conn: sqlite3.Connection) -> int:
    """Return the number of the newest write; 0 before the first."""
    return int(conn.execute("SELECT max(seq) FROM download_views").fetchone()[0] or 0)


def read_view(conn: sqlite3.Connection, download_id: str) -> ViewRow | None:
    """Return the view of one download, None where there is none that is intact."""
    query = f"SELECT {_COLUMNS} FROM download_views WHERE download_id = ?"  # noqa: S608
    return next(
        (row for row in _rows(conn.execute(query, (download_id,))) if row.view.download_id == download_id), None
    )


def views(conn: sqlite3.Connection) -> Iterator[ViewRow]:
    """Yield every intact view."""
    yield from _rows(conn.execute(f"SELECT {_COLUMNS} FROM download_views"))  # noqa: S608


def written_ids(conn: sqlite3.Connection, seq: int) -> set[str]:
    """Return the ids of the views that were written after ``seq``."""
    return {row[0] for row in conn.execute("SELECT download_id FROM download_views WHERE seq > ?", (seq,))}


def written_since(conn: sqlite3.Connection, seq: int, but: Collection[str] = ()) -> dict[str, ViewRow | None]:
    """Return the views that were written after ``seq``, ``but`` for these, by id; None for one that is not intact."""
    query = f"SELECT {_COLUMNS} FROM download_views WHERE seq > ?"  # noqa: S608
    return {cells[0]: next(_rows([cells]), None) for cells in conn.execute(query, (seq,)) if cells[0] not in but}


def _rows(found: Iterable[Sequence[Any]]) -> Iterator[ViewRow]:
    for cells in found:
        if intact(cells):
            try:
                yield ViewRow(_view(cells[4]), cells[2], cells[3])
            except (ValueError, TypeError, KeyError):
                continue  # of another version of this program: as good as absent


def _view(text: str) -> DownloadView:
    try:
        return _decoder.decode(text)
    except msgspec.DecodeError:  # a file name that is no UTF-8 is written as lone surrogates, which it refuses
        return DownloadView.from_wire(json.loads(text))
