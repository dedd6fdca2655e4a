"""The state file in good health: transactions, shared commits, cancellation, opening and closing."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from recovery.clock import SystemClock
from recovery.database import (
    Database,
    DatabaseClosed,
    Health,
    Schema,
    StoreLimits,
    _close_all_at_exit,
    _forget_after_fork,
    _of_the_parent,
    after_commit,
)
from tests.notes import NOTES, HealthLog, integrity, note, notes, notes_in_file

ROOT = Path(__file__).resolve().parent.parent


async def test_a_write_is_in_the_file_when_it_returns(state_path: Path) -> None:
    """A result is only handed out after COMMIT, so another connection sees it at once."""
    async with await Database.open(state_path, [NOTES]) as database:
        assert await database.write(note("first")) == 1
        assert await asyncio.to_thread(notes_in_file, state_path) == ["first"]
        assert await database.read(notes) == ["first"]
        assert database.health is Health.OK
        assert database.health_reason == ""
        assert database.path == state_path


async def test_file_and_directory_are_private(state_path: Path) -> None:
    """URLs and paths are nobody else's business, not even the lock file's existence in a listable directory."""
    async with await Database.open(state_path, [NOTES]) as database:
        await database.write(note("secret"))
        modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in [state_path.parent, *state_path.parent.iterdir()]}
    assert modes == {
        "state": 0o700,
        "state.db": 0o600,
        "state.db-wal": 0o600,
        "state.db-shm": 0o600,
        "state.db.lock": 0o600,
    }


async def test_a_file_others_can_read_is_made_private(state_path: Path) -> None:
    """A file made by hand, or by an older version, is tightened when it is opened."""
    state_path.parent.mkdir()
    state_path.touch(0o644)
    async with await Database.open(state_path, [NOTES]):
        assert stat.S_IMODE(state_path.stat().st_mode) == 0o600


async def test_closing_leaves_one_file(state_path: Path) -> None:
    """A clean end moves the WAL into the file: copying it alone is then a good backup."""
    async with await Database.open(state_path, [NOTES]) as database:
        await database.write(note("kept"))
    assert sorted(p.name for p in state_path.parent.iterdir()) == ["state.db", "state.db.lock"]
    assert notes_in_file(state_path) == ["kept"]


async def test_closing_commits_what_is_queued(state_path: Path) -> None:
    """Whoever wrote before close() gets a result, not an error."""
    database = await Database.open(state_path, [NOTES])
    writes = [asyncio.ensure_future(database.write(note(str(n)))) for n in range(50)]
    await asyncio.sleep(0)
    await asyncio.gather(database.close(), database.close())
    assert await asyncio.gather(*writes) == list(range(1, 51))
    assert len(notes_in_file(state_path)) == 50


async def test_a_closed_database_says_so(state_path: Path) -> None:
    """Neither writes nor reads may hang on a thread that is gone."""
    database = await Database.open(state_path, [NOTES])
    await database.close()
    await database.close()
    for call in (database.write(note("late")), database.read(notes), database.probe()):
        with pytest.raises(DatabaseClosed):
            await call


async def test_a_database_belongs_to_its_event_loop(state_path: Path) -> None:
    """A future of one loop awaited in another never wakes anybody: refuse at once."""
    async with await Database.open(state_path, [NOTES]) as database:

        def elsewhere() -> None:
            with pytest.raises(RuntimeError, match="another event loop"):
                asyncio.run(database.write(note("lost")))

        await asyncio.to_thread(elsewhere)


async def test_an_exception_rolls_back_its_own_changes_only() -> None:
    """Neighbours in the same group are not concerned, whichever way the group was run."""
    async with await Database.open(None, [NOTES]) as database:
        await _check_isolation(database)


async def test_an_exception_rolls_back_its_own_changes_only_in_a_file(state_path: Path) -> None:
    """The same on disk, where a failed group is rolled back and run again with savepoints."""
    async with await Database.open(state_path, [NOTES]) as database:
        await _check_isolation(database)
        await _check_isolation(database)


async def _check_isolation(database: Database) -> None:
    await database.write(lambda conn: conn.execute("DELETE FROM notes"))

    def broken(conn: sqlite3.Connection) -> None:
        conn.execute("INSERT INTO notes VALUES ('half')")
        raise KeyError("broken")

    results = await asyncio.gather(
        database.write(note("a")),
        database.write(broken),
        database.write(note("b")),
        database.write(lambda conn: conn.execute("INSERT INTO notes VALUES (NULL)")),
        database.write(lambda conn: conn.execute("INSERT INTO nowhere VALUES (1)")),
        database.write(note("c")),
        return_exceptions=True,
    )
    kinds = [result if isinstance(result, int) else type(result) for result in results]
    assert kinds == [1, KeyError, 2, sqlite3.IntegrityError, sqlite3.OperationalError, 3]
    assert await database.read(notes) == ["a", "b", "c"]
    with pytest.raises(KeyError, match="broken"):
        await database.write(broken)
    assert await database.read(notes) == ["a", "b", "c"]
    assert database.health is Health.OK


async def test_what_waits_shares_one_commit(state_path: Path) -> None:
    """100 writers cost a few syncs, not 100."""
    async with await Database.open(state_path, [NOTES]) as database:
        before = database.statistics()["groups"]
        await asyncio.gather(*(database.write(note(str(n))) for n in range(100)))
        assert database.statistics()["groups"] - before <= 3
        assert sorted(await database.read(notes), key=int) == [str(n) for n in range(100)]


async def test_a_group_is_bounded(state_path: Path) -> None:
    """The lock is not held for as long as it takes to write everything that waits."""
    limits = StoreLimits(group=10)
    async with await Database.open(state_path, [NOTES], limits=limits) as database:
        await asyncio.gather(*(database.write(note(str(n))) for n in range(100)))
        assert database.statistics()["groups"] >= 10


async def test_order_is_kept(state_path: Path) -> None:
    """Writes of one caller take effect in the order in which they were made, urgent or not."""
    async with await Database.open(state_path, [NOTES]) as database:
        await asyncio.gather(*(database.write(note(str(n)), urgent=n % 3 == 0) for n in range(60)))
        assert await database.read(notes) == [str(n) for n in range(60)]


@pytest.mark.parametrize("exception", [StopIteration(), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_any_exception_reaches_its_caller(exception: BaseException, state_path: Path) -> None:
    """Even what futures refuse or what would end the thread: nobody waits for ever, and the next write works."""

    def raises(conn: sqlite3.Connection) -> None:
        raise exception

    async with await Database.open(state_path, [NOTES]) as database:
        expected = RuntimeError if isinstance(exception, StopIteration) else type(exception)
        caught: BaseException | None = None
        try:
            await database.write(raises)
        except BaseException as exc:  # noqa: BLE001 - SystemExit and the like are what is tested
            caught = exc
        assert isinstance(caught, expected)
        assert await database.write(note("next")) == 1


@pytest.mark.parametrize("statement", ["COMMIT", "ROLLBACK"])
async def test_a_function_must_not_end_its_transaction(statement: str, state_path: Path) -> None:
    """It would commit its neighbours' half-done work; the caller is told."""
    async with await Database.open(state_path, [NOTES]) as database:
        with pytest.raises(RuntimeError, match="must not end the transaction"):
            await database.write(lambda conn: conn.execute(statement))
        assert await database.write(note("next")) == 1


async def test_reads_see_one_snapshot(state_path: Path) -> None:
    """A report that runs two queries does not see a write in between."""
    async with await Database.open(state_path, [NOTES]) as database:
        await database.write(note("one"))
        between, go_on = threading.Event(), threading.Event()

        def report(conn: sqlite3.Connection) -> tuple[list[str], list[str]]:
            first = notes(conn)
            between.set()
            assert go_on.wait(10)
            return first, notes(conn)

        reading = asyncio.ensure_future(database.read(report))
        await asyncio.to_thread(between.wait, 10)
        assert await database.write(note("two")) == 2
        go_on.set()
        assert await reading == (["one"], ["one"])
        assert await database.read(notes) == ["one", "two"]


async def test_a_reader_cannot_write(state_path: Path) -> None:
    """A read function that writes is a mistake, and says so even when it is run by the writer."""
    async with await Database.open(state_path, [NOTES]) as database:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await database.read(note("sneaked in"))
        assert await database.read(notes) == []
        assert database.health is Health.OK


async def test_what_a_reader_raises_is_raised(state_path: Path) -> None:
    """Both the reader's own exceptions and bad SQL."""
    async with await Database.open(state_path, [NOTES]) as database:
        with pytest.raises(ZeroDivisionError):
            await database.read(lambda conn: 1 // 0)
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            await database.read(lambda conn: conn.execute("SELECT * FROM nowhere").fetchall())


async def test_first_reads_may_come_together(state_path: Path) -> None:
    """The reader is opened once, also when its first caller is cancelled meanwhile."""
    async with await Database.open(state_path, [NOTES]) as database:
        await database.write(note("x"))
        reads = [asyncio.ensure_future(database.read(notes)) for _ in range(10)]
        await asyncio.sleep(0)
        reads[0].cancel()
        results = await asyncio.gather(*reads, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [["x"]] * 9


async def test_in_memory(tmp_path: Path) -> None:
    """Without a path nothing is written, and that is no fault."""
    health = HealthLog()
    async with await Database.open(None, [NOTES], on_health=health) as database:
        assert await database.write(note("gone tomorrow")) == 1
        assert await database.read(notes) == ["gone tomorrow"]
        assert (database.health, database.path) == (Health.OK, None)
        assert await database.probe() is Health.OK
    assert health == []
    assert list(tmp_path.iterdir()) == []


async def test_after_commit_follows_the_commit(state_path: Path) -> None:
    """What a rolled back function wanted to follow its commit does not happen."""
    done: list[str] = []

    def write(name: str, *, fails: bool) -> None:
        def work(conn: sqlite3.Connection) -> None:
            note(name)(conn)
            after_commit(conn, lambda: done.append(name))
            if fails:
                raise ValueError(name)

        writes.append(database.write(work))

    for path in (state_path, None):
        done.clear()
        writes: list[object] = []
        async with await Database.open(path, [NOTES]) as database:
            write("good", fails=False)
            write("bad", fails=True)
            write("better", fails=False)
            await asyncio.gather(*writes, return_exceptions=True)  # type: ignore[call-overload]
        assert done == ["good", "better"]


async def test_cancelled_writers_leave_no_transaction_open(state_path: Path) -> None:
    """Cancelled at any moment, a write is whole or absent, and the next one is not disturbed (aiosqlite's hazard A)."""

    def two(number: int) -> Callable[[sqlite3.Connection], None]:
        def work(conn: sqlite3.Connection) -> None:
            conn.execute("INSERT INTO notes VALUES (?)", (f"{number}-1",))
            conn.execute("INSERT INTO notes VALUES (?)", (f"{number}-2",))

        return work

    async with await Database.open(state_path, [NOTES]) as database:
        for turns in range(60):
            writes = [asyncio.ensure_future(database.write(two(turns * 10 + n))) for n in range(5)]
            for _ in range(turns % 12):
                await asyncio.sleep(0)
            if turns % 3 == 0:
                await asyncio.to_thread(lambda: None)
            for write in writes[::2]:
                write.cancel()
            await asyncio.gather(*writes, return_exceptions=True)
        await database.write(note("last"))
        found = await database.read(notes)
        assert found[-1] == "last"
        halves = {name.split("-")[0] for name in found[:-1]}
        assert sorted(found[:-1]) == sorted(f"{half}-{n}" for half in halves for n in (1, 2))
        assert {str(t * 10 + n) for t in range(60) for n in (1, 3)} <= halves, "those nobody cancelled are all there"


def assert_threads_end() -> None:
    """Wait for every database thread to end: it answers its last caller before it is gone itself.

    What other tests of the process have started stays: the loop thread (``recovery.loopthread``), the engine's threads
    (``resumable.hops``).
    """
    for thread in threading.enumerate():
        if thread is threading.main_thread() or thread.name.startswith(
            ("asyncio_", "pytest_timeout", "recovery", "resumable-io")
        ):
            continue
        thread.join(10.0)
        assert not thread.is_alive(), thread


async def test_cancelling_open_leaves_nothing_behind(state_path: Path) -> None:
    """Cancelled at each of its steps, open() ends with the file closed and the thread gone."""
    for turns in range(0, 40, 3):
        opening = asyncio.ensure_future(Database.open(state_path, [NOTES]))
        for _ in range(turns):
            await asyncio.sleep(0.0002)
        opening.cancel()
        try:
            database = await opening
        except asyncio.CancelledError:
            pass
        else:
            await database.close()
        await asyncio.to_thread(assert_threads_end)


async def test_cancelling_close_still_closes(state_path: Path) -> None:
    """The caller's cancellation is raised, after the file is closed."""
    database = await Database.open(state_path, [NOTES])
    await database.write(note("kept"))
    closing = asyncio.ensure_future(database.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert not state_path.with_name("state.db-wal").exists()
    assert notes_in_file(state_path) == ["kept"]


@pytest.mark.blocking
def test_a_loop_that_ends_closes_the_database(state_path: Path) -> None:
    """asyncio.run() cancels what is left: the database then closes itself, and commits what was queued."""

    async def forgets() -> None:
        database = await Database.open(state_path, [NOTES])
        await database.write(note("written"))
        asyncio.ensure_future(database.write(note("queued")))  # noqa: RUF006
        await asyncio.sleep(0)

    asyncio.run(forgets())
    assert_threads_end()
    assert notes_in_file(state_path)[:1] == ["written"]
    assert not state_path.with_name("state.db-wal").exists()


async def test_checkpoints_keep_the_wal_small(state_path: Path) -> None:
    """The WAL is emptied after some commits, and altogether when nothing happens."""
    limits = StoreLimits(checkpoint_commits=10, idle_s=0.05)
    async with await Database.open(state_path, [NOTES], limits=limits) as database:
        for n in range(35):
            await database.write(note(str(n)))
        assert database.statistics()["checkpoints"] >= 3
        wal = state_path.with_name("state.db-wal")
        for _ in range(200):
            if wal.stat().st_size == 0:
                break
            await asyncio.sleep(0.02)
        assert wal.stat().st_size == 0
        assert len(await asyncio.to_thread(notes_in_file, state_path)) == 35


async def test_a_large_transaction_is_checkpointed(state_path: Path) -> None:
    """Size counts, too, not only the number of commits."""
    limits = StoreLimits(checkpoint_bytes=100_000)
    async with await Database.open(state_path, [NOTES], limits=limits) as database:
        await database.write(note("x" * 200_000))
        await database.write(note("y"))
        await database.write(note("z"))  # results are handed out before the checkpoint
        assert database.statistics()["checkpoints"] == 1


async def test_a_checkpoint_waits_for_no_reader(state_path: Path) -> None:
    """It holds the lock of all writers: what a long report keeps from being checkpointed is left for the next time."""
    limits = StoreLimits(wait_s=1.0)
    async with (
        await Database.open(state_path, [NOTES], limits=limits) as one,
        await Database.open(state_path, [NOTES], limits=limits) as two,
    ):
        await one.write(note("x"))
        began, go_on = threading.Event(), threading.Event()

        def report(conn: sqlite3.Connection) -> int:
            count = len(notes(conn))
            began.set()
            assert go_on.wait(30)
            return count

        reading = asyncio.ensure_future(one.read(report))
        await asyncio.to_thread(began.wait, 30)
        await two.write(note("y"))
        file = two._store.file
        assert file is not None
        for _ in range(3):
            checkpoint = two._thread.run(lambda: file.checkpoint(truncate=True, wait_s=1.0))
            await asyncio.gather(checkpoint, one.write(note("z")))
        assert state_path.with_name("state.db-wal").stat().st_size > 0
        assert (one.health, two.health) == (Health.OK, Health.OK)
        go_on.set()
        assert await reading == 1
        await two._thread.run(lambda: file.checkpoint(truncate=True, wait_s=1.0))
        assert state_path.with_name("state.db-wal").stat().st_size == 0


async def test_two_databases_on_one_file(state_path: Path) -> None:
    """In one process as in two: every write of both is there, none fails."""
    async with (
        await Database.open(state_path, [NOTES]) as one,
        await Database.open(state_path, [NOTES]) as two,
    ):
        await asyncio.gather(*(db.write(note(f"{n}")) for n in range(50) for db in (one, two)))
        assert len(await one.read(notes)) == 100
        assert (one.health, two.health) == (Health.OK, Health.OK)
    assert integrity(state_path) == "ok"


async def test_a_link_and_its_target_are_one_file(state_path: Path, tmp_path: Path) -> None:
    """Two names for one file must share one lock."""
    link = tmp_path / "link.db"
    link.symlink_to(state_path)
    async with await Database.open(state_path, [NOTES]), await Database.open(link, [NOTES]) as database:
        assert database.path == state_path.resolve()


async def test_components_share_the_file(state_path: Path) -> None:
    """Another package's tables live beside ours, in the same transactions."""
    marks = Schema("marks", ("CREATE TABLE marks (name TEXT) STRICT; CREATE INDEX m ON marks (name); -- ours; too",))
    async with await Database.open(state_path, [NOTES, marks]) as database:
        await database.write(lambda conn: (note("n")(conn), conn.execute("INSERT INTO marks VALUES ('m')"))[0])
    async with await Database.open(state_path, [NOTES]) as database:
        assert await database.read(notes) == ["n"]
    async with await Database.open(state_path, [marks]) as database:
        assert await database.read(lambda c: c.execute("SELECT name FROM marks").fetchall()) == [("m",)]
        assert database.health is Health.OK


async def test_migrations_run_once_and_leave_a_backup(state_path: Path) -> None:
    """An older file is brought up to date in one transaction; what it was is kept beside it."""
    async with await Database.open(state_path, [NOTES]) as database:
        await database.write(note("old"))
    second = "ALTER TABLE notes ADD COLUMN stars INTEGER NOT NULL DEFAULT 5; UPDATE notes SET text = text || '!'"
    newer = Schema("notes", (*NOTES.migrations, second))
    for _ in range(2):
        async with await Database.open(state_path, [newer]) as database:
            rows = await database.read(lambda c: c.execute("SELECT * FROM notes").fetchall())
            assert rows == [("old!", 5)]
            assert database.health is Health.OK
    backup = state_path.with_name("state.db.before-migration")
    assert notes_in_file(backup) == ["old"]
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    newest = Schema("notes", (*newer.migrations, "CREATE TABLE third (x)"))
    async with await Database.open(state_path, [newest]):
        pass
    assert notes_in_file(backup) == ["old!"]


async def test_a_failing_migration_changes_nothing(state_path: Path) -> None:
    """A mistake in a schema is an error of its author: the database does not open, and the file is as before."""
    async with await Database.open(state_path, [NOTES]) as database:
        await database.write(note("old"))
    wrong = Schema("notes", (*NOTES.migrations, "DELETE FROM notes; CREATE TABLE oops (;"))
    with pytest.raises(sqlite3.OperationalError, match="syntax error"):
        await Database.open(state_path, [wrong])
    with pytest.raises(sqlite3.OperationalError, match="syntax error"):
        await Database.open(None, [wrong])
    assert notes_in_file(state_path) == ["old"]


async def test_statistics_are_json_safe(state_path: Path) -> None:
    """They go to a page as they are."""
    async with await Database.open(state_path, [NOTES]) as database:
        await database.write(note("x"))
        numbers = database.statistics()
    assert numbers["writes"] == 1
    assert numbers["wal"] is True
    assert all(isinstance(value, str | int | bool | None) for value in numbers.values())


async def test_health_is_told_in_the_loop_and_stamped(state_path: Path) -> None:
    """Observers touch user interfaces: they are called in the event loop's thread."""
    state_path.parent.mkdir()
    state_path.write_text("not a database" * 100)
    heard: list[tuple[int, float]] = []
    clock = SystemClock()
    async with await Database.open(
        state_path, [NOTES], on_health=lambda event: heard.append((threading.get_ident(), event.ts)), clock=clock
    ):
        await asyncio.sleep(0)
    assert {ident for ident, _ in heard} == {threading.get_ident()}
    assert all(abs(ts - clock.time()) < 60 for _, ts in heard)
    assert len(heard) == 2


@pytest.mark.blocking
async def test_a_fork_cannot_use_its_parents_database(state_path: Path) -> None:
    """SQLite must not be carried across a fork: the child is told, and cannot harm the parent's file."""
    async with await Database.open(state_path, [NOTES]) as database:
        await database.write(note("parent"))
        child = os.fork()
        if child == 0:
            code = 1
            try:
                database.write(note("child")).send(None)
            except DatabaseClosed:
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert await database.write(note("parent again")) == 2
    assert integrity(state_path) == "ok"


def test_a_child_of_a_fork_leaves_the_file_alone(state_path: Path) -> None:
    """What a child does about its parent's database: it closes its copy of the lock, and forgets the rest."""

    async def work() -> None:
        async with await Database.open(state_path, [NOTES]) as database:
            await database.write(note("parent"))
            database.leave_to_parent()
            assert await database.write(note("still")) == 2, "the lock file is opened again by the next write"
            _of_the_parent.remove(database)

    asyncio.run(work())
    assert notes_in_file(state_path) == ["parent", "still"]


PROGRAM = """
import asyncio, sys
from pathlib import Path
from recovery.database import Database, after_commit
from tests.notes import NOTES, note

async def main():
    database = await Database.open(Path(sys.argv[1]), [NOTES])
    await database.write(note("written"))
    if sys.argv[2] == "queued":
        asyncio.ensure_future(database.write(note("queued")))
        await asyncio.sleep(0)
    return database

loop = asyncio.new_event_loop()
database = loop.run_until_complete(main())
if sys.argv[2] == "closed loop":
    loop.close()
"""


@pytest.mark.parametrize("how", ["idle", "queued", "closed loop"])
def test_a_program_that_closes_nothing(how: str, state_path: Path) -> None:
    """It ends all the same, without hanging in a thread, and what was acknowledged or queued is in the file."""
    program = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(state_path), how]
    done = subprocess.run(program, cwd=ROOT, timeout=60, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert notes_in_file(state_path) == ["written", *(["queued"] if how == "queued" else [])]
    assert not state_path.with_name("state.db-wal").exists()


@pytest.mark.blocking
def test_closing_at_exit(state_path: Path) -> None:
    """The same within this process: the event loop stands still, and the thread does what is left to do."""
    loop = asyncio.new_event_loop()
    database = loop.run_until_complete(Database.open(state_path, [NOTES]))
    writing = loop.create_task(database.write(note("queued")))
    loop.run_until_complete(asyncio.sleep(0))
    _close_all_at_exit()
    assert notes_in_file(state_path) == ["queued"]
    assert not state_path.with_name("state.db-wal").exists()
    loop.run_until_complete(database.close())
    assert loop.run_until_complete(writing) == 1
    database.close_at_exit()
    loop.close()


@pytest.mark.blocking
@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 60])
def test_a_loop_that_ends_while_it_is_opened(turns: int, state_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C at the very start: no thread is left, none speaks to a loop that is closed, and the file is closed."""

    async def hasty() -> None:
        asyncio.ensure_future(Database.open(state_path, [NOTES]))  # noqa: RUF006
        for _ in range(turns):
            await asyncio.sleep(0)

    asyncio.run(hasty())
    assert_threads_end()
    assert not state_path.with_name("state.db-wal").exists()
    assert capfd.readouterr().err == ""


@pytest.mark.blocking
def test_a_loop_that_ends_while_the_reader_is_opened(state_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The same for the second connection."""

    async def hasty() -> None:
        database = await Database.open(state_path, [NOTES])
        await database.write(note("kept"))
        asyncio.ensure_future(database.read(notes))  # noqa: RUF006
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(hasty())
    assert_threads_end()
    assert notes_in_file(state_path) == ["kept"]
    assert not state_path.with_name("state.db-wal").exists()
    assert capfd.readouterr().err == ""


async def test_another_process_is_told(state_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a fork, seen from the child: every call says so, and closing leaves the parent's file alone."""
    async with await Database.open(state_path, [NOTES]) as database:
        await database.write(note("parent"))
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 1)
            for call in (database.write(note("child")), database.read(notes), database.probe()):
                with pytest.raises(DatabaseClosed, match="before a fork"):
                    await call
            await database.close()
            database.close_at_exit()
        assert await database.write(note("still open")) == 2


def test_forking_leaves_databases_in_memory_behind() -> None:
    """They have no lock to close."""

    async def work() -> None:
        async with await Database.open(None, [NOTES]) as database:
            _forget_after_fork()
            assert database in _of_the_parent
            _of_the_parent.remove(database)
            assert await database.write(note("x")) == 1

    asyncio.run(work())


async def test_a_mistake_of_ours_hangs_nobody(
    state_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Should the thread's own work ever raise, the database gives up loudly; whoever waits or comes later is told."""
    database = await Database.open(state_path, [NOTES], limits=StoreLimits(group=1))
    monkeypatch.setattr(database._store, "maintain", lambda **_: 1 // 0)
    results = await asyncio.gather(*(database.write(note(str(n))) for n in range(3)), return_exceptions=True)
    assert results[0] == 1
    assert {type(result) for result in results[1:]} <= {int, DatabaseClosed}
    with pytest.raises(DatabaseClosed):
        await database.write(note("late"))
    await database.close()
    assert "the database gives up" in caplog.text
    monkeypatch.undo()
