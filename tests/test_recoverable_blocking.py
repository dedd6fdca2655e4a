"""``@recoverable`` on functions that are not async: in memory, and durable through an event loop in the background."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from recovery import (
    JOURNAL,
    Database,
    DeadlineExceeded,
    GaveUp,
    Journal,
    LeaseHeld,
    OperationPaused,
    RetryPolicy,
    State,
    Supervisor,
    current_sync_operation,
    recoverable,
)
from recovery import run as run_module
from recovery.loopthread import CallerSide, process_loop
from recovery.recipe import Recipe
from recovery.supervisors import close_state_files
from recovery.testing import MemoryJournal
from recovery.turns import Turns

AT_ONCE = RetryPolicy(base=0.0)
ONCE = RetryPolicy(max_no_progress=0)
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def journal() -> MemoryJournal:
    """Return a journal in memory that is used from the background loop only."""
    return MemoryJournal()


@pytest.fixture(autouse=True, scope="module")
def nothing_stays_open() -> Iterator[None]:
    """Close what was opened in the process's own loop, which ends with the process only."""
    yield
    in_background(close_state_files)


def in_background(ask: Callable[[], Any]) -> Any:
    """Await something in the loop in which blocking functions are supervised."""
    return asyncio.run_coroutine_threadsafe(ask(), process_loop.get().loop).result(timeout=10)


# ---- in memory ------------------------------------------------------------------------------------------------------


def test_a_blocking_function_is_tried_again() -> None:
    """In its caller's thread."""
    threads, errors = [], [ConnectionResetError(), TimeoutError()]

    @recoverable(policy=AT_ONCE)
    def work(name: str) -> str:
        threads.append(threading.current_thread())
        if errors:
            raise errors.pop()
        return name

    assert work("flux") == "flux"
    assert threads == [threading.current_thread()] * 3


def test_a_blocking_function_really_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the drawn share of the backoff."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    errors = [ConnectionResetError(), ConnectionResetError()]

    @recoverable(policy=RetryPolicy(base=4.0), draw=lambda: 0.5)
    def work() -> None:
        if errors:
            raise errors.pop()

    work()
    assert slept == [2.0, 4.0]


def test_fallbacks_and_the_last_error_of_a_blocking_function() -> None:
    """In order, with the same arguments."""

    def cache(name: str) -> str:
        return f"{name} from the cache"

    @recoverable(policy=ONCE, fallbacks=[cache])
    def fetch(name: str) -> str:
        raise ConnectionResetError(name)

    assert fetch("flux") == "flux from the cache"


def test_control_flow_passes_through_a_blocking_function() -> None:
    """Ctrl-C is Ctrl-C, and a cancelled future is no failure."""
    calls = 0

    @recoverable(on=BaseException)
    def work(error: BaseException) -> None:
        nonlocal calls
        calls += 1
        raise error

    for error in (KeyboardInterrupt(), SystemExit(1), concurrent.futures.CancelledError()):
        with pytest.raises(type(error)):
            work(error)
    assert calls == 3


def test_a_function_that_hides_that_it_is_async_is_told_apart() -> None:
    """A lambda around a coroutine function: nothing would await it, and no failure would be seen."""

    async def hidden() -> None:
        await asyncio.sleep(0)

    for options in ({}, {"on_event": lambda _: None}, {"journal": MemoryJournal(), "key": "x", "kind": "k"}):
        decorate: Any = recoverable(**options)
        with pytest.raises(TypeError, match="decorate the async function itself"):
            decorate(lambda: hidden())()


def test_errors_of_undo_and_later_attempts_are_those_of_the_last(journal: MemoryJournal) -> None:
    """In memory, too: an undo that is judged hopeless ends the undoing, and the operation's own error is raised."""
    error = ConnectionResetError()

    def undo(_: object) -> None:
        raise PermissionError(13, "no")

    @recoverable(policy=RetryPolicy(max_no_progress=1, base=0.0))
    def work() -> None:
        current_sync_operation().step("a", lambda: "A", undo=undo)
        raise error

    with pytest.raises(ConnectionResetError) as caught:
        work()
    assert caught.value is error
    assert error.__notes__ == [
        "step 'a' could not be taken back, nor what came before it: PermissionError: [Errno 13] no"
    ]


def test_a_blocking_function_has_no_time_limit() -> None:
    """A thread cannot be interrupted, and a limit that does nothing would be a lie."""
    with pytest.raises(ValueError, match="attempt_timeout_s needs an async function"):
        recoverable(policy=RetryPolicy(attempt_timeout_s=1.0))(lambda: None)


def test_those_who_watch_see_blocking_functions_too() -> None:
    """From the first attempt on."""
    events: list[Any] = []
    errors = [ConnectionResetError()]

    @recoverable(policy=AT_ONCE, on_event=events.append)
    def work() -> None:
        if errors:
            raise errors.pop()

    work()
    assert [event.state.value for event in events] == ["running", "waiting", "running", "complete"]


# ---- durable --------------------------------------------------------------------------------------------------------


def test_a_durable_blocking_function_runs_in_its_callers_thread(journal: MemoryJournal) -> None:
    """Attempt by attempt, with steps; the row says how it went."""
    threads: set[threading.Thread] = set()
    restored: list[dict[str, Any]] = []

    @recoverable(journal=journal, key="import:{name}", kind="import", policy=AT_ONCE)
    def work(name: str) -> str:
        threads.add(threading.current_thread())
        op = current_sync_operation()
        restored.append(dict(op.restored))
        op.step("a", lambda: 1)
        op.checkpoint("cursor", {"page": 2})
        if op.attempt == 1:
            raise ConnectionResetError
        return f"{name} {op.key} {op.attempt}"

    assert work("flux") == "flux import:flux 2"
    assert threads == {threading.current_thread()}
    assert restored == [{}, {"a": 1, "cursor": {"page": 2}}]
    row = in_background(lambda: journal.find("import", "import:flux"))
    assert (row.state, row.progress_done) == (State.COMPLETE, 2)


def test_undo_of_a_durable_blocking_function_runs_there_too(journal: MemoryJournal) -> None:
    """And is tried again by its policy."""
    undone: list[tuple[threading.Thread, object]] = []
    errors = [ConnectionResetError()]

    def undo(result: object) -> None:
        if errors:
            raise errors.pop()
        undone.append((threading.current_thread(), result))

    @recoverable(journal=journal, key="x", policy=AT_ONCE)
    def work() -> None:
        current_sync_operation().step("a", lambda: "A", undo=undo)
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - the operation's own
        work()
    assert undone == [(threading.current_thread(), "A")]


def test_threads_have_their_own_operations(journal: MemoryJournal) -> None:
    """Five at once; the same key twice at once is refused."""
    both_in = threading.Barrier(2)

    @recoverable(journal=journal, key="{name}")
    def work(name: str) -> str:
        if name == "held":
            both_in.wait(10)
            both_in.wait(10)
        return f"{name} in {threading.current_thread().name}"

    with concurrent.futures.ThreadPoolExecutor(5, thread_name_prefix="t") as pool:
        assert len(set(pool.map(work, "abcde"))) == 5
        held = pool.submit(work, "held")
        both_in.wait(10)
        with pytest.raises(LeaseHeld):
            work("held")
        both_in.wait(10)
        assert held.result(10).startswith("held")


def test_a_pause_reaches_a_blocking_function_at_its_next_step(journal: MemoryJournal) -> None:
    """It cannot be interrupted, but it can be asked; what it did is kept."""
    supervisor = Supervisor(journal)
    seen: list[str] = []

    @recoverable(journal=supervisor, key="x", kind="import")
    def work() -> str:
        op = current_sync_operation()
        op.step("a", lambda: 1)
        if not seen:
            seen.append("first")
            asyncio.run_coroutine_threadsafe(supervisor.close(), process_loop.get().loop)
            for number in range(10_000):
                time.sleep(0.001)
                op.checkpoint("waiting", number)
        return f"restored {op.restored['a']}"

    with pytest.raises(OperationPaused):
        work()
    assert in_background(lambda: journal.find("import", "x")).state is State.PAUSED
    assert work() == "restored 1"


@pytest.mark.parametrize("ending", ["returns", "fails"])
def test_a_blocking_function_that_was_paused_is_nobody_elses_until_it_ends(
    journal: MemoryJournal, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """However long that takes: the row says running, its lease is renewed, and a result that comes is recorded."""
    monkeypatch.setattr(run_module, "_CLEAN_UP_S", 0.01)
    supervisor = Supervisor(journal, lease_ttl_s=0.15)
    seen: list[tuple[State, bool]] = []

    def look() -> None:
        row = in_background(lambda: journal.find("import", "x"))
        seen.append((row.state, row.leased(time.time())))

    @recoverable(journal=supervisor, key="x", kind="import", policy=AT_ONCE)
    def work() -> str:
        if not seen:
            asyncio.run_coroutine_threadsafe(supervisor.close(), process_loop.get().loop)
            for _ in range(4):
                time.sleep(0.1)
                look()
        if ending == "fails":
            raise ConnectionResetError
        return "done"

    if ending == "returns":
        assert work() == "done"
    else:
        with pytest.raises(OperationPaused):
            work()
    assert seen == [(State.RUNNING, True)] * 4
    row = in_background(lambda: journal.find("import", "x"))
    assert (row.state, row.owner) == (State.COMPLETE if ending == "returns" else State.PAUSED, None)
    (record,) = in_background(lambda: journal.attempts(row.operation_id))
    assert record.error == (None if ending == "returns" else "ConnectionResetError")


async def test_what_was_stopped_before_its_turn_does_not_begin() -> None:
    """The thread may be busy with something else; when it comes to the function, nobody wants that any more."""
    side, called = CallerSide(asyncio.get_running_loop()), []
    task = asyncio.create_task(Turns(side).call(lambda: called.append("late")))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    turn = side.inbox.get_nowait()
    assert turn is not None
    turn()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert called == []


@pytest.mark.parametrize("steps", [True, False])
def test_the_deadline_of_a_blocking_function(journal: MemoryJournal, steps: bool) -> None:
    """It ends at the next step, since it cannot be interrupted; without one its result is there, and counts."""

    @recoverable(journal=journal, key="x", kind="import", policy=RetryPolicy(deadline_s=0.1))
    def work() -> str:
        time.sleep(0.3)
        if steps:
            current_sync_operation().step("late", lambda: 1)
        return "late"

    if steps:
        with pytest.raises(DeadlineExceeded):
            work()
    else:
        assert work() == "late"
    row = in_background(lambda: journal.find("import", "x"))
    assert (row.state, row.code) == ((State.FAILED, "deadline") if steps else (State.COMPLETE, None))


def test_ctrl_c_inside_a_durable_blocking_function_pauses_it(journal: MemoryJournal) -> None:
    """The row says paused, the exception is Ctrl-C's, and the background loop lives."""

    @recoverable(journal=journal, key="x", kind="import")
    def work() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert in_background(lambda: journal.find("import", "x")).state is State.PAUSED


def test_ctrl_c_between_attempts_pauses_it(journal: MemoryJournal) -> None:
    """The thread waits for nothing but its turn; a real signal arrives there."""
    main = threading.main_thread().ident
    assert main is not None

    @recoverable(journal=journal, key="x", kind="import", policy=RetryPolicy(base=3_600.0), draw=lambda: 0.9)
    def work() -> None:
        threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()
        raise ConnectionResetError

    with pytest.raises(KeyboardInterrupt):
        work()
    assert in_background(lambda: journal.find("import", "x")).state is State.PAUSED


@pytest.mark.blocking
async def test_in_an_event_loop_it_is_refused(journal: MemoryJournal) -> None:
    """It would stand still until the operation has ended."""

    @recoverable(journal=journal, key="x")
    def work() -> int:
        return 7

    with pytest.raises(RuntimeError, match=r"call it with asyncio\.to_thread"):
        work()
    assert await asyncio.to_thread(work) == 7


def test_a_callable_source_that_says_none_runs_in_memory() -> None:
    """In the caller's thread, as always."""

    @recoverable(journal=lambda: None, key="x")
    def work() -> threading.Thread:
        return threading.current_thread()

    assert work() is threading.current_thread()


def test_a_state_file_of_a_blocking_function(state_path: Path) -> None:
    """Opened in the background; another process, and another loop, read what it left."""

    @recoverable(journal=state_path, key="x", kind="import", policy=ONCE)
    def work() -> None:
        current_sync_operation().step("a", lambda: 1)
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - the operation's own
        work()

    async def look() -> tuple[State, set[str]]:
        async with await Database.open(state_path, [JOURNAL]) as database:
            journal = Journal(database)
            row = await journal.find("import", "x")
            assert row is not None
            return row.state, set(await journal.steps(row.operation_id))

    assert asyncio.run(look()) == (State.FAILED, {"a"})


def test_given_up_before_it_only_takes_back(journal: MemoryJournal) -> None:
    """As for async functions; the body ends at the first line that would do something new."""
    undone: list[object] = []

    class DiedError(BaseException):
        pass

    def dies(_: object) -> None:
        raise DiedError

    def made(undo: Callable[[object], object]) -> Callable[[], None]:
        @recoverable(journal=Supervisor(journal), key="x", kind="import", policy=ONCE)
        def work() -> None:
            op = current_sync_operation()
            op.step("a", lambda: "A", undo=undo)
            op.step("new", lambda: undone.append("new"))
            raise ValueError("bad")

        return work

    with pytest.raises(DiedError):
        made(dies)()
    in_background(lambda: expire(journal))
    with pytest.raises(GaveUp, match="ValueError: bad"):
        made(undone.append)()
    assert undone == ["new", "A"]


async def expire(journal: MemoryJournal) -> None:
    """Let the lease of the dead owner run out."""
    row = await journal.find("import", "x")
    assert row is not None
    await journal.renew(row.operation_id, row.generation, ttl_s=0.0, now=0.0)


def test_a_forked_child_makes_a_loop_of_its_own(tmp_path: Path) -> None:
    """The parent's thread does not exist there."""
    program = tmp_path / "forks.py"
    program.write_text(
        textwrap.dedent(
            """
            import os, sys, warnings
            from recovery import recoverable

            # From Python 3.12 on it warns of every fork beside a thread, such as our loop's.
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

            @recoverable(journal=sys.argv[1], key="{name}")
            def work(name):
                return name

            assert work("parent") == "parent"
            child = os.fork()
            if child == 0:
                os._exit(0 if work("child") == "child" else 1)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), work("again"))
            """
        ),
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "s.db")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("0 again\n", "")


def test_under_gevent_it_runs_more_than_once(tmp_path: Path) -> None:
    """There all greenlets share one thread of the system, to which asyncio's running loop belongs; a call from within
    that loop's own greenlet is refused all the same.
    """
    program = tmp_path / "greenlets.py"
    program.write_text(
        textwrap.dedent(
            """
            from gevent import monkey; monkey.patch_all()
            import asyncio, sys, gevent
            from recovery import recoverable
            from recovery.loopthread import process_loop

            @recoverable(journal=sys.argv[1], key="{name}")
            def work(name):
                return name

            print(work("first"), work("second"), *(each.get() for each in [gevent.spawn(work, n) for n in "abc"]))

            async def inside():
                return work("inside")

            try:
                asyncio.run_coroutine_threadsafe(inside(), process_loop.get().loop).result(10)
            except RuntimeError as exc:
                print(exc)
            """
        ),
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "s.db")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    refused = "this is the event loop's own thread: await the coroutine instead"
    assert (done.stdout, done.stderr) == (f"first second a b c\n{refused}\n", "")


def test_the_recipe_names_lambdas_and_callable_objects() -> None:
    """Whatever is callable has some name for the journal."""

    class Works:
        def __call__(self) -> int:
            return 7

    decorated: Any = recoverable(Works())
    recipe = decorated.__recovery__
    assert isinstance(recipe, Recipe)
    assert (decorated(), recipe.kind) == (7, "tests.test_recoverable_blocking.Works")
