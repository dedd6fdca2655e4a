"""A small table of notes, for tests that need some rows and do not care which."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from recovery.database import Database, Health, Schema
from recovery.events import HealthEvent

NOTES = Schema("notes", ("CREATE TABLE notes (text TEXT NOT NULL) STRICT;",))


def note(text: str) -> Callable[[sqlite3.Connection], int]:
    """Return a write function that adds a note; it returns how many there are now."""

    def write(conn: sqlite3.Connection) -> int:
        conn.execute("INSERT INTO notes VALUES (?)", (text,))
        return int(conn.execute("SELECT count(*) FROM notes").fetchone()[0])

    return write


def notes(conn: sqlite3.Connection) -> list[str]:
    """Return all notes in the order in which they were added."""
    return [row[0] for row in conn.execute("SELECT text FROM notes ORDER BY rowid")]


def notes_in_file(path: Path) -> list[str]:
    """Return the notes a stranger sees in the file."""
    conn = sqlite3.connect(path)
    try:
        return notes(conn)
    finally:
        conn.close()


def integrity(path: Path) -> str:
    """Return what SQLite's full check says."""
    conn = sqlite3.connect(path)
    try:
        return str(conn.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        conn.close()


class HealthLog(list[HealthEvent]):
    """An ``on_health`` that remembers."""

    def __call__(self, event: HealthEvent) -> None:
        self.append(event)

    @property
    def healths(self) -> list[str]:
        """The healths heard of, in order."""
        return [str(event.health) for event in self]


__all__ = ["NOTES", "Database", "Health", "HealthLog", "integrity", "note", "notes", "notes_in_file"]
