"""The tables of a state file: installed once, migrated step by step, and checked against what they should be."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

import pytest

from recovery.journal import JOURNAL
from recovery.rowcrc import sealed
from recovery.schema import (
    APPLICATION_ID,
    DamagedSchema,
    ForeignDatabase,
    NewerSchema,
    Schema,
    file_identity,
    install,
    outdated,
    require_known,
    require_tables,
)

ONE = "CREATE TABLE a (x TEXT) STRICT; CREATE INDEX a_x ON a (x); -- a comment; with a semicolon"
TWO = "ALTER TABLE a ADD COLUMN y TEXT; UPDATE a SET y = 'semi;colon'"
THREE = """
CREATE TRIGGER shout AFTER INSERT ON a BEGIN
  UPDATE a SET y = upper(new.x) WHERE x = new.x;
END;
"""


@pytest.fixture
def conn() -> Iterator[sqlite3.Connection]:
    """Return an empty database."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as opened:
        yield opened


def versions(conn: sqlite3.Connection) -> dict[str, int]:
    """Return the version of every component."""
    return dict(conn.execute("SELECT name, version FROM components"))


def test_installing(conn: sqlite3.Connection) -> None:
    """Marked as ours, with a name of its own; a second time changes nothing."""
    schemas = [JOURNAL, Schema("a", (ONE,))]
    install(conn, schemas)
    assert conn.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert versions(conn) == {"journal": 1, "a": 1}
    identity, changes = file_identity(conn), conn.total_changes
    install(conn, schemas)
    assert (file_identity(conn), conn.total_changes) == (identity, changes)
    require_tables(conn, schemas)
    require_known(conn, schemas)


@pytest.mark.parametrize("start", [0, 1, 2])
def test_migrating_from_any_version(start: int, conn: sqlite3.Connection) -> None:
    """The missing steps are run, in order; rows are kept; statements may hold semicolons and triggers."""
    steps = (ONE, TWO, THREE)
    if start:
        install(conn, [Schema("a", steps[:start])])
        conn.execute("INSERT INTO a (x) VALUES ('old')")
    newest = [Schema("a", steps)]
    assert outdated(conn, newest) is (start > 0)
    install(conn, newest)
    assert outdated(conn, newest) is False
    assert versions(conn) == {"a": 3}
    conn.execute("INSERT INTO a (x) VALUES ('new')")
    found = conn.execute("SELECT x, y FROM a").fetchall()
    old = ["", "old semi;colon", "old None"][start]
    assert [f"{x} {y}" for x, y in found] == [*filter(None, [old]), "new NEW"]


def test_another_component_later(conn: sqlite3.Connection) -> None:
    """A package that joins an existing file; one that is not loaded today keeps its tables."""
    install(conn, [Schema("a", (ONE,))])
    other = Schema("b", ("CREATE TABLE b (x) ",))
    assert outdated(conn, [other]) is False, "there is nothing of it to back up"
    install(conn, [other])
    assert versions(conn) == {"a": 1, "b": 1}
    install(conn, [Schema("a", (ONE,))])


def test_a_migration_that_fails_changes_nothing(conn: sqlite3.Connection) -> None:
    """Not even the steps before it."""
    install(conn, [Schema("a", (ONE,))])
    with pytest.raises(sqlite3.OperationalError, match="no such table: nowhere"):
        install(conn, [Schema("a", (ONE, TWO, "DROP TABLE nowhere"))])
    assert not conn.in_transaction
    assert versions(conn) == {"a": 1}
    assert [row[1] for row in conn.execute("PRAGMA table_info(a)")] == ["x"]


def test_a_migration_that_ends_the_transaction_by_itself(conn: sqlite3.Connection) -> None:
    """As SQLite does on some errors: the first error is the one that is told."""
    script = "CREATE TABLE u (x UNIQUE ON CONFLICT ROLLBACK); INSERT INTO u VALUES (1); INSERT INTO u VALUES (1)"
    with pytest.raises(sqlite3.IntegrityError):
        install(conn, [Schema("a", (ONE, script))])
    assert not conn.in_transaction
    assert conn.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("PRAGMA user_version = 2", NewerSchema),
        ("PRAGMA application_id = 7", ForeignDatabase),
        ("DROP TABLE components", DamagedSchema),
        ("DROP TABLE meta", DamagedSchema),
        ("UPDATE components SET version = 9", DamagedSchema),
        ("UPDATE components SET name = 'b'", DamagedSchema),
    ],
)
def test_what_may_not_be_written_to(change: str, expected: type[Exception], conn: sqlite3.Connection) -> None:
    """Found by looking only, before anything is written."""
    schemas = [Schema("a", (ONE,))]
    install(conn, schemas)
    conn.execute(change)
    for check in (require_known, install):
        with pytest.raises(expected):
            check(conn, schemas)
        assert not conn.in_transaction


def test_a_newer_component(conn: sqlite3.Connection) -> None:
    """It says which, and what is known here."""
    install(conn, [Schema("a", (ONE, TWO))])
    with pytest.raises(NewerSchema, match="its a tables have version 2, this program knows 1"):
        require_known(conn, [Schema("a", (ONE,))])
    require_known(conn, [Schema("b", ("CREATE TABLE b (x)",))])


def test_an_empty_database_is_nobodys(conn: sqlite3.Connection) -> None:
    """So it may become ours; one with a single table is somebody's."""
    require_known(conn, [JOURNAL])
    assert outdated(conn, [JOURNAL]) is False
    conn.execute("CREATE TABLE photos (x)")
    with pytest.raises(ForeignDatabase):
        require_known(conn, [JOURNAL])


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE a",
        "DROP INDEX a_x",
        "ALTER TABLE a ADD COLUMN z TEXT",
        "ALTER TABLE a RENAME COLUMN x TO w",
        "DELETE FROM meta",
        "UPDATE meta SET value = 'x'",
    ],
)
def test_tables_that_are_not_as_they_were_made(change: str, conn: sqlite3.Connection) -> None:
    """Only damage does that: nobody else writes here, and versions are counted."""
    schemas = [Schema("a", (ONE,))]
    install(conn, schemas)
    conn.execute(change)
    with pytest.raises(DamagedSchema):
        require_tables(conn, schemas)


def test_the_journals_first_version_is_never_edited() -> None:
    """A published migration stays as it is: files made by it are out there. Add another one instead."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        install(conn, [JOURNAL])
        columns = {
            table: [row[1] for row in conn.execute(f"PRAGMA table_info({table})")]
            for table in ("operations", "attempts", "commands", "gates", "steps")
        }
    assert {table: len(names) for table, names in columns.items()} == {
        "operations": 29, "attempts": 11, "commands": 7, "gates": 4, "steps": 5,
    }  # fmt: skip
    assert all(names[-1] == "crc" for names in columns.values())


def test_every_column_of_the_journal_says_why_it_exists() -> None:
    """Documented where it is declared."""
    [script] = JOURNAL.migrations
    columns = [line for line in script.splitlines() if line.startswith("  ") and "PRIMARY KEY (" not in line]
    assert len(columns) == 29 + 11 + 7 + 4 + 5
    silent = {line.split()[0] for line in columns if "--" not in line}
    assert silent == {"crc"}, "the one that is the same in every table"


def test_better_comments_do_no_harm(conn: sqlite3.Connection) -> None:
    """SQLite keeps them with the table: an edited one must not make everybody's file look damaged."""
    install(conn, [Schema("a", ("CREATE TABLE a (  -- what for\n  x TEXT DEFAULT '--  y' /* long\n ago */\n)",))])
    require_tables(conn, [Schema("a", ("CREATE TABLE a ( x TEXT DEFAULT '--  y' -- better\n )",))])
    with pytest.raises(DamagedSchema):
        require_tables(conn, [Schema("a", ("CREATE TABLE a ( x TEXT DEFAULT '-- y' )",))])


def test_an_identity_is_random() -> None:
    """Whoever follows a file sees that another one has taken its place."""
    found = set()
    for _ in range(2):
        with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
            install(conn, [])
            found.add(file_identity(conn))
    assert len(found) == 2


def test_a_version_row_that_was_sealed_again_counts() -> None:
    """The check is of damage, not of forgery."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        install(conn, [Schema("a", (ONE,))])
        conn.execute("INSERT OR REPLACE INTO components VALUES (?, ?, ?)", sealed(("a", 5)))
        with pytest.raises(NewerSchema):
            require_known(conn, [Schema("a", (ONE,))])
