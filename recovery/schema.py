"""What tables the state file must have: named components with numbered migrations, installed and checked in one place.

A package that keeps rows beside ours declares a ``Schema`` of its own and hands it to ``Database.open`` with the
others; their tables then share the file and the transactions. This module knows nothing of files, threads or what
the rows mean.

``PRAGMA user_version`` is the version of the frame (the tables ``components`` and ``meta``); each component counts
its own migrations in ``components``. ``PRAGMA application_id`` marks the file as ours, so that nobody else's
database is ever touched.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from pkgutil import get_data

from msgspec import Struct

from recovery.rowcrc import intact, sealed

__all__ = [
    "APPLICATION_ID",
    "DamagedSchema",
    "ForeignDatabase",
    "NewerSchema",
    "Schema",
    "file_identity",
    "install",
    "outdated",
    "require_known",
    "require_tables",
]

APPLICATION_ID = 0x5265_446C  # "ReDl"
FRAME_VERSION = 1

_FRAME = """
CREATE TABLE components (
  name    TEXT NOT NULL PRIMARY KEY,  -- whose tables
  version INTEGER NOT NULL,           -- how many of its migrations have been applied
  crc     INTEGER NOT NULL            -- a flipped bit here would hide or repeat a migration
) STRICT, WITHOUT ROWID;
CREATE TABLE meta (
  name  TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL,
  crc   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""
_COMMENT_OR_SPACE = r"""(?s)(?P<kept>'[^']*'|"[^"]*")|(?:--[^\n]*|/\*.*?\*/|\s)+"""
_FRAME_TABLES = frozenset({"components", "meta"})


class Schema(Struct, frozen=True):
    """The tables of one component. Version n is what the first n migrations make; a published migration is never
    edited.

    Each migration is one or more SQL statements. They run inside one transaction with those of the other
    components, so they must not contain BEGIN, COMMIT, VACUUM or PRAGMA. Table names carry the component's own
    prefix, except the journal's.
    """

    component: str
    migrations: tuple[str, ...]

    @classmethod
    def of(cls, component: str, package: str) -> Schema:
        """Return the schema whose one migration is ``schema.sql`` in ``package``, wherever that is imported from."""
        # importlib.resources would load zipfile and tempfile for it, and cost five times as much.
        text = get_data(package, "schema.sql")
        assert text is not None  # every loader of files can
        return cls(component, (text.decode(),))


class NewerSchema(Exception):  # noqa: N818 - names what happened
    """The file was written by a newer version of this program; it must not be touched."""


class ForeignDatabase(Exception):  # noqa: N818 - names what happened
    """The file is a sound SQLite database, but not one of ours; it must not be touched."""


class DamagedSchema(Exception):  # noqa: N818 - names what happened
    """The tables are not what their recorded versions say: the file is damaged."""


def require_known(conn: sqlite3.Connection, schemas: Sequence[Schema]) -> None:
    """Check, reading only, that this program may write to the database. An empty database passes.

    Raises:
        NewerSchema, ForeignDatabase, DamagedSchema: as their names say.
        sqlite3.DatabaseError: SQLite cannot read it.
    """
    application_id = _pragma(conn, "application_id")
    frame = _pragma(conn, "user_version")
    tables = {str(row[0]) for row in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if application_id != APPLICATION_ID:
        if application_id or frame or tables:
            msg = "it is a database of another program"
            raise ForeignDatabase(msg)
        return
    if frame > FRAME_VERSION:
        msg = f"its format is {frame}, this program knows {FRAME_VERSION}"
        raise NewerSchema(msg)
    if not tables >= _FRAME_TABLES:
        msg = "the tables that say what it is are missing"
        raise DamagedSchema(msg)
    versions = _versions(conn)
    for schema in schemas:
        version = versions.get(schema.component, 0)
        if version > len(schema.migrations):
            msg = f"its {schema.component} tables have version {version}, this program knows {len(schema.migrations)}"
            raise NewerSchema(msg)


def outdated(conn: sqlite3.Connection, schemas: Sequence[Schema]) -> bool:
    """Return whether tables with rows in them are about to be migrated, which is worth a backup first."""
    if _pragma(conn, "application_id") != APPLICATION_ID:
        return False
    versions = _versions(conn)
    return any(0 < versions.get(schema.component, 0) < len(schema.migrations) for schema in schemas)


def install(conn: sqlite3.Connection, schemas: Sequence[Schema]) -> None:
    """Bring the database to the newest version of every component and check that it has exactly their tables.

    Runs in one transaction of its own; a failure leaves everything as it was. ``conn`` must be in autocommit mode.

    Raises:
        NewerSchema, ForeignDatabase, DamagedSchema: nothing was changed.
    """
    conn.execute("BEGIN IMMEDIATE")
    try:
        require_known(conn, schemas)
        if _pragma(conn, "application_id") != APPLICATION_ID:
            _run(conn, _FRAME)
            conn.execute("INSERT INTO meta VALUES (?, ?, ?)", sealed(("identity", secrets.token_hex(8))))
            conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            conn.execute(f"PRAGMA user_version = {FRAME_VERSION}")
        versions = _versions(conn)
        for schema in schemas:
            done = versions.get(schema.component, 0)
            for migration in schema.migrations[done:]:
                _run(conn, migration)
            if done < len(schema.migrations):
                row = sealed((schema.component, len(schema.migrations)))
                conn.execute("INSERT OR REPLACE INTO components VALUES (?, ?, ?)", row)
        require_tables(conn, schemas)
    except BaseException:
        if conn.in_transaction:  # SQLite ends the transaction by itself on some errors
            conn.execute("ROLLBACK")
        raise
    conn.execute("COMMIT")


def file_identity(conn: sqlite3.Connection) -> str:
    """Return the random name this database was given when it was created; a rebuilt file has another one."""
    row = conn.execute("SELECT name, value, crc FROM meta WHERE name = 'identity'").fetchone()
    if row is None or not intact(row):
        msg = "the row that identifies the file is damaged"
        raise DamagedSchema(msg)
    return str(row[1])


def require_tables(conn: sqlite3.Connection, schemas: Sequence[Schema]) -> None:
    """Check that every table and index is as our migrations make it; more tables than ours are no fault.

    Raises:
        DamagedSchema: the file must not be used.
        sqlite3.DatabaseError: SQLite cannot read it.
    """
    file_identity(conn)
    actual = _definitions(conn)
    for name, sql in _expected(tuple(schemas)).items():
        found = actual.get(name)
        # Nearly always they are the same to the letter; to take comments out is a fifth of the time of an opening.
        if found != sql and (found is None or _without_comments(found) != _without_comments(sql)):
            msg = f"table or index {name} is not as it was created"
            raise DamagedSchema(msg)


@lru_cache(maxsize=32)
def _expected(schemas: tuple[Schema, ...]) -> dict[str, str]:
    with_tables = sqlite3.connect(":memory:", isolation_level=None)
    try:
        with_tables.execute("BEGIN")  # once for all of them: half the time
        _run(with_tables, _FRAME)
        for schema in schemas:
            for migration in schema.migrations:
                _run(with_tables, migration)
        return _definitions(with_tables)
    finally:
        with_tables.close()


def _definitions(conn: sqlite3.Connection) -> dict[str, str]:
    # Indexes that SQLite makes by itself have no SQL.
    found = conn.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
    return {str(name): str(sql) for name, sql in found}


def _without_comments(sql: str) -> str:
    """SQLite keeps comments: a better one must not make everybody's file look damaged."""
    return re.sub(_COMMENT_OR_SPACE, lambda found: found["kept"] or " ", sql).strip()


def _versions(conn: sqlite3.Connection) -> dict[str, int]:
    versions: dict[str, int] = {}
    for row in conn.execute("SELECT name, version, crc FROM components"):
        if not intact(row):
            msg = "the row with a component's version is damaged"
            raise DamagedSchema(msg)
        versions[row[0]] = row[1]
    return versions


def _pragma(conn: sqlite3.Connection, name: str) -> int:
    return int(conn.execute(f"PRAGMA {name}").fetchone()[0])


def _run(conn: sqlite3.Connection, script: str) -> None:
    # Not executescript(): it commits the transaction it finds.
    statement = ""
    for piece in script.split(";"):
        statement += piece + ";"
        if sqlite3.complete_statement(statement):  # False while a string, a comment or a trigger is open
            if statement.strip() != ";":
                conn.execute(statement)
            statement = ""
