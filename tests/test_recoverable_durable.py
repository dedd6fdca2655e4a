"""``@recoverable`` with a journal: one row per key, steps that outlive the process, a store that may fail."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from recovery import (
    AttemptTimedOut,
    Fenced,
    GaveUp,
    Journal,
    LeaseHeld,
    OperationEvent,
    OperationPaused,
    RetryPolicy,
    State,
    Supervisor,
    current_operation,
    recoverable,
)
from recovery.database import Database
from recovery.journal import JOURNAL
from recovery.observers import observe
from recovery.supervisors import close_state_files, supervisor_for
from recovery.testing import FakeClock, MemoryJournal
from tests.supervising import eventually

AT_ONCE = RetryPolicy(base=0.0)
ONCE = RetryPolicy(max_no_progress=0)


class Importer:
    """An import in steps, with everything its tests want to vary."""

    def __init__(self, journal: object, *, errors: list[Exception] | None = None, **options: Any) -> None:
        """``errors`` are raised by one attempt each, after step b."""
        self.log: list[str] = []
        self.restored: list[dict[str, Any]] = []
        self.errors = errors or []
        self.undo: Callable[[str], object] | None = None
        decorate: Callable[..., Any] = recoverable(
            **{"journal": journal, "key": "import:{name}", "kind": "import", "policy": AT_ONCE, **options}
        )
        self.run: Callable[..., Coroutine[Any, Any, Any]] = decorate(self._body)

    def did(self, what: str) -> str:
        """Note a deed and return its result."""
        self.log.append(what)
        return what.upper()

    async def _body(self, name: str, *, token: str = "") -> str:
        op = current_operation()
        self.restored.append(dict(op.restored))
        await op.step("a", lambda: self.did("a"), undo=self.undo)
        await op.step("b", lambda: self.did("b"), undo=self.undo)
        if self.errors:
            raise self.errors.pop(0)
        await op.step("c", lambda: self.did("c"), undo=self.undo)
        return f"{name}{token and ' with a token'}"


@pytest.fixture
def memory() -> MemoryJournal:
    """Return a journal that is as deterministic as its tests."""
    return MemoryJournal(clock=FakeClock())


async def row_of(journal: Any, key: str = "import:flux") -> Any:
    """Return the operation's row."""
    row = await journal.find("import", key)
    assert row is not None
    return row


async def test_one_row_says_what_it_was_and_how_it_ended(memory: MemoryJournal) -> None:
    """Key, project, title and arguments by their templates; secrets blanked out; nothing but two writes."""
    importer = Importer(memory, project="of {name}", title="Import {name} with {token}")
    assert await importer.run("flux", token="t0psecret") == "flux with a token"
    row = await row_of(memory)
    assert (row.key, row.project, row.state) == ("import:flux", "of flux", State.COMPLETE)
    assert row.args == {"name": "flux", "token": "***", "~": ["token"]}
    assert memory.writes == ["claim", "step", "step", "step", "complete"]


async def test_without_steps_a_call_writes_its_intent_and_its_end(memory: MemoryJournal) -> None:
    """Nothing is written, or read, in between."""

    @recoverable(journal=memory, key="x")
    async def nothing() -> None:
        return None

    await nothing()
    assert memory.writes == ["claim", "complete"]


async def test_attempts_share_what_was_done(memory: MemoryJournal) -> None:
    """As in memory."""
    importer = Importer(memory, errors=[ConnectionResetError()])
    assert await importer.run("flux") == "flux"
    assert importer.log == ["a", "b", "c"]
    assert importer.restored == [{}, {"a": "A", "b": "B"}]


async def test_each_key_is_an_operation_of_its_own(memory: MemoryJournal) -> None:
    """Two at once, and the same one twice at once is refused."""
    importer = Importer(memory)
    assert [*await asyncio.gather(importer.run("flux"), importer.run("sdxl"))] == ["flux", "sdxl"]
    both = await asyncio.gather(importer.run("one"), importer.run("one"), return_exceptions=True)
    assert [type(each) for each in both] == [str, LeaseHeld]


async def test_a_failed_operation_goes_on_where_it_stopped_when_it_is_called_again(memory: MemoryJournal) -> None:
    """In another process, too: here, another supervisor."""
    with pytest.raises(ValueError, match="bad"):
        await Importer(Supervisor(memory), errors=[ValueError("bad")]).run("flux")
    assert (await row_of(memory)).state is State.FAILED
    again = Importer(Supervisor(memory))
    assert await again.run("flux") == "flux"
    assert (again.log, again.restored) == (["c"], [{"a": "A", "b": "B"}])


async def test_what_is_complete_is_done_again_from_the_start(memory: MemoryJournal) -> None:
    """A call is a call: nobody gets yesterday's result."""
    importer = Importer(memory)
    await importer.run("flux")
    await importer.run("flux")
    assert importer.log == ["a", "b", "c"] * 2


async def test_a_cancelled_call_is_paused_and_goes_on(memory: MemoryJournal) -> None:
    """Ctrl-C keeps everything; the step that was being saved is saved."""
    started = asyncio.Event()

    @recoverable(journal=memory, key="x", kind="import")
    async def work() -> str:
        op = current_operation()
        await op.step("a", lambda: 7)
        if not started.is_set():
            started.set()
            await asyncio.sleep(3_600)
        return f"restored {dict(op.restored)}"

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await row_of(memory, "x")).state is State.PAUSED
    assert await work() == "restored {'a': 7}"


async def test_what_cannot_be_stored_is_told_with_its_place(memory: MemoryJournal) -> None:
    """A step's value must be the same after a restart; the step itself is undone, for it was done."""
    undone: list[object] = []

    @recoverable(journal=memory, key="x", kind="import", policy=ONCE)
    async def work() -> None:
        await current_operation().step("a", lambda: {"pair": (1, 2)}, undo=undone.append)

    with pytest.raises(ValueError, match=r"what 'a' leaves cannot be stored: value\['pair'\] is a tuple"):
        await work()
    assert undone == [{"pair": (1, 2)}]


async def test_a_long_value_is_refused_by_the_step_and_not_by_the_store(memory: MemoryJournal) -> None:
    """The store's trouble is nobody's error, so this must be said before."""

    @recoverable(journal=memory, key="x")
    async def work() -> None:
        await current_operation().checkpoint("a", "x" * 70_000)

    with pytest.raises(ValueError, match="what 'a' leaves cannot be stored: args are 70"):
        await work()


async def test_a_resumed_program_sees_copies(memory: MemoryJournal) -> None:
    """What the body does to a step's result later changes no record of it."""
    seen: list[object] = []

    @recoverable(journal=memory, key="x", policy=AT_ONCE)
    async def work() -> None:
        op = current_operation()
        files: list[str] = await op.step("a", lambda: ["one"])
        seen.append(list(files))
        files.append("two")
        if op.attempt == 1:
            raise ConnectionResetError

    await work()
    assert seen == [["one"], ["one"]]


# ---- other ways, and taking back ------------------------------------------------------------------------------------


async def test_a_fallback_is_tried_with_the_same_steps(memory: MemoryJournal) -> None:
    """And while it runs, the journal knows which way is being tried."""

    async def mirror(name: str) -> str:
        op = current_operation()
        kept = await memory.steps(op.operation_id)
        return f"{name} from the mirror, {await op.step('a', lambda: 'again?')}, way {kept['~alternative']['data']}"

    importer = Importer(memory, errors=[ValueError()], fallbacks=[mirror])
    assert await importer.run("flux") == "flux from the mirror, A, way 1"


async def test_a_restarted_program_goes_on_with_the_way_it_was_on(memory: MemoryJournal) -> None:
    """The way before it was given up already."""
    tried: list[str] = []
    hanging = asyncio.Event()

    async def mirror(name: str) -> str:
        tried.append("mirror")
        if not hanging.is_set():
            hanging.set()
            await asyncio.sleep(3_600)
        return name

    first = Importer(Supervisor(memory), errors=[ValueError()], fallbacks=[mirror])
    task = asyncio.create_task(first.run("flux"))
    await hanging.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    second = Importer(Supervisor(memory), fallbacks=[mirror])
    assert await second.run("flux") == "flux"
    assert (tried, second.log) == (["mirror", "mirror"], [])


async def test_when_every_way_has_failed_the_next_call_begins_with_the_first(memory: MemoryJournal) -> None:
    """A person who calls again wants the best way."""

    async def mirror(name: str) -> str:
        raise LookupError(name)

    with pytest.raises(LookupError):
        await Importer(memory, errors=[ValueError()], fallbacks=[mirror]).run("flux")
    again = Importer(memory, fallbacks=[mirror])
    assert await again.run("flux") == "flux"
    assert again.log == ["c"]


async def test_undo_leaves_nothing_in_the_journal(memory: MemoryJournal) -> None:
    """Newest first; each is forgotten when it is taken back."""
    importer = Importer(memory, errors=[ValueError()])
    importer.undo = lambda result: importer.log.append(f"undo {result}")
    with pytest.raises(ValueError):  # noqa: PT011 - the importer's own
        await importer.run("flux")
    assert importer.log == ["a", "b", "undo B", "undo A"]
    assert await memory.steps((await row_of(memory)).operation_id) == {}


async def interrupted_undo(memory: MemoryJournal) -> None:
    """Leave an operation of steps a and b behind that was given up, and whose owner died before the first undo."""
    started = asyncio.Event()

    async def hangs(_: str) -> None:
        started.set()
        await asyncio.sleep(3_600)

    importer = Importer(Supervisor(memory), errors=[ValueError("bad")])
    importer.undo = hangs
    task = asyncio.create_task(importer.run("flux"))
    await started.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_an_undo_that_was_interrupted_is_finished_by_the_next_call(memory: MemoryJournal) -> None:
    """No step is done; the reason is still known; the call after that starts over."""
    await interrupted_undo(memory)
    importer = Importer(Supervisor(memory))
    importer.undo = lambda result: importer.log.append(f"undo {result}")
    with pytest.raises(GaveUp, match="given up earlier: ValueError: bad") as caught:
        await importer.run("flux")
    assert (importer.log, caught.value.reason) == (["undo B", "undo A"], "ValueError: bad")
    assert (await row_of(memory)).state is State.FAILED
    await importer.run("flux")
    assert importer.log[2:] == ["a", "b", "c"]


async def test_a_body_that_fails_before_it_tells_its_undos_is_tried_again(memory: MemoryJournal) -> None:
    """Its failure is judged like any other; what stays unknown is said, and stays in the journal."""
    await interrupted_undo(memory)
    tries = 0

    @recoverable(
        journal=Supervisor(memory), key="import:{name}", kind="import", policy=RetryPolicy(max_no_progress=1, base=0)
    )
    async def changed(name: str) -> None:
        nonlocal tries
        tries += 1
        raise ConnectionResetError(name)

    with pytest.raises(ConnectionResetError) as caught:
        await changed("flux")
    assert tries == 2
    assert (caught.value.__notes__) == [
        "step 'b' could not be taken back, nor what came before it: UndoUnknown: how to take back 'b' is not known"
    ]
    assert {"a", "b", "~undoing"} == set(await memory.steps((await row_of(memory)).operation_id))


async def test_a_checkpoint_is_no_step_to_be_taken_while_undoing(memory: MemoryJournal) -> None:
    """The body ends at the first thing that would be new, whatever catches exceptions around it."""
    await interrupted_undo(memory)
    undone: list[str] = []

    @recoverable(journal=Supervisor(memory), key="import:{name}", kind="import")
    async def changed(name: str) -> None:
        op = current_operation()
        with suppress(Exception):
            await op.step("b", lambda: name, undo=undone.append)
            await op.checkpoint("new")
            undone.append("went on")
        undone.append("went on")

    with pytest.raises(GaveUp) as caught:
        await changed("flux")
    assert undone == ["B"]
    assert "how to take back 'a' is not known" in caught.value.__notes__[0]


# ---- the journal ----------------------------------------------------------------------------------------------------


async def test_a_path_is_opened_when_it_is_needed_and_once(state_path: Path) -> None:
    """Many calls, one database; relative to the home directory where it says so."""
    importer = Importer(state_path)
    await asyncio.gather(*(importer.run(f"model {number}") for number in range(5)))
    first, second = await supervisor_for(str(state_path)), await supervisor_for(state_path)
    assert first is second
    assert first is not None
    assert isinstance(first.journal, Journal)
    assert len(await first.journal.list({State.COMPLETE})) == 5
    await close_state_files()
    assert await importer.run("after") == "after"
    assert first is not await supervisor_for(state_path)


async def test_a_function_may_name_the_journal(memory: MemoryJournal) -> None:
    """At every call, async or not; None means that this call is in memory."""
    supervisor = Supervisor(memory)
    for give in (partial(lambda given: given, memory), partial(lambda given: given, supervisor)):
        assert await Importer(give).run("flux") == "flux"

    async def later() -> MemoryJournal:
        await asyncio.sleep(0)
        return memory

    assert await Importer(later).run("flux") == "flux"
    memory.writes.clear()
    assert await Importer(lambda: None).run("flux") == "flux"
    assert memory.writes == []


async def test_one_journal_has_one_supervisor(memory: MemoryJournal) -> None:
    """Or the same key in two functions would be claimed by two owners."""
    first = await supervisor_for(memory)
    assert first is await supervisor_for(memory)
    assert first is not await supervisor_for(MemoryJournal())


async def test_what_is_no_journal_is_refused() -> None:
    """With what it may be."""
    with pytest.raises(TypeError, match="journal= takes a Journal, a Supervisor, a path, or a function"):
        await Importer(7).run("flux")


async def test_a_path_that_cannot_be_opened_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One failure to open is not remembered for ever."""
    real = Database.open
    failures = [RuntimeError("not now")]

    async def flaky(*args: Any, **kwargs: Any) -> Database:
        if failures:
            raise failures.pop()
        return await real(*args, **kwargs)

    monkeypatch.setattr(Database, "open", flaky)
    with pytest.raises(RuntimeError, match="not now"):
        await Importer(tmp_path / "x.db").run("flux")
    assert await Importer(tmp_path / "x.db").run("flux") == "flux"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"journal": "x.db"}, "journal= needs key="),
        ({"journal": "x.db", "key": ""}, "an empty key"),
        ({"key": "{nothing}"}, "names 'nothing'"),
        ({"project": "{nothing}"}, "names 'nothing'"),
        ({"title": "{nothing}"}, "names 'nothing'"),
    ],
    ids=str,
)
def test_options_that_cannot_work_are_refused_when_they_are_written(options: Any, words: str) -> None:
    """And not at the first failure, in production."""

    async def work(name: str) -> None: ...

    decorate: Callable[..., Any] = recoverable(**options)
    with pytest.raises(ValueError, match=words):
        decorate(work)


@pytest.mark.parametrize("key", ["", None, 7])
async def test_a_key_function_returns_a_text(memory: MemoryJournal, key: object) -> None:
    """Anything else is a mistake, told before anything runs."""
    importer = Importer(memory, key=lambda _: key)
    with pytest.raises(ValueError, match="must be a text that is not empty"):
        await importer.run("flux")
    assert importer.log == []


async def test_a_key_function_gets_the_arguments(memory: MemoryJournal) -> None:
    """All of them, as they came."""
    await Importer(memory, key=lambda name, **_: f"k-{name}").run("flux", token="x")
    assert (await row_of(memory, "k-flux")).state is State.COMPLETE


# ---- a store that fails ---------------------------------------------------------------------------------------------


async def test_a_store_that_fails_never_fails_the_call(memory: MemoryJournal) -> None:
    """Nothing can be written from the start: the steps are kept in memory, over attempts."""
    memory.fail_with = sqlite3.OperationalError("disk I/O error")
    importer = Importer(memory, errors=[ConnectionResetError()])
    assert await importer.run("flux") == "flux"
    assert importer.log == ["a", "b", "c"]


async def test_what_the_store_did_not_take_is_saved_later(memory: MemoryJournal) -> None:
    """A step done while the store was away is in the journal with the next one."""

    @recoverable(journal=memory, key="x", kind="import", policy=ONCE)
    async def work() -> None:
        op = current_operation()
        memory.fail_with = OSError(28, "full")
        await op.step("a", lambda: 1)
        memory.fail_with = None
        await op.step("b", lambda: 2)
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - the operation's own
        await work()
    kept = await memory.steps((await row_of(memory, "x")).operation_id)
    assert {name: row["data"] for name, row in kept.items()} == {"a": 1, "b": 2}


async def test_what_was_done_before_is_read_as_soon_as_it_can_be(memory: MemoryJournal) -> None:
    """The store is away when a former process's steps are asked for: the next attempt asks again."""
    with pytest.raises(ValueError):  # noqa: PT011 - the importer's own
        await Importer(memory, errors=[ValueError()]).run("flux")
    real, away = memory.steps, [OSError(5, "I/O")]

    async def flaky(operation_id: str) -> dict[str, Any]:
        if away:
            raise away.pop()
        return await real(operation_id)

    memory.steps = flaky  # type: ignore[method-assign]
    importer = Importer(memory, errors=[ConnectionResetError()])
    assert await importer.run("flux") == "flux"
    assert importer.restored == [{}, {"a": "A", "b": "B"}]
    assert importer.log == ["a", "b", "c"]


async def test_rows_that_say_nothing_are_passed_over(memory: MemoryJournal, caplog: pytest.LogCaptureFixture) -> None:
    """Of another program, or of the future."""
    with pytest.raises(ValueError):  # noqa: PT011 - the importer's own
        await Importer(memory, errors=[ValueError()]).run("flux")
    row = await row_of(memory)
    memory._steps[row.operation_id]["a"] = "nonsense"
    importer = Importer(memory)
    await importer.run("flux")
    assert importer.log == ["a", "c"]
    assert "step-unreadable" in [record.message for record in caplog.records]


async def test_a_closed_database_is_no_error_of_the_call(state_path: Path) -> None:
    """It goes on in memory, and whoever watches hears of it."""
    events: list[Any] = []
    stop = observe(events.append)
    database = await Database.open(state_path, [JOURNAL])
    journal = Journal(database)
    await database.close()
    try:
        assert await Importer(journal, errors=[ConnectionResetError()]).run("flux") == "flux"
    finally:
        stop()
    assert "degraded" in [event.health for event in events if not isinstance(event, OperationEvent)]
    assert "complete" in [event.state.value for event in events if isinstance(event, OperationEvent)]


async def test_who_lost_the_lease_learns_it_at_the_next_step(memory: MemoryJournal) -> None:
    """And its work ends there: another owner has taken over."""
    done: list[str] = []

    @recoverable(journal=memory, key="x", kind="import")
    async def work() -> None:
        op = current_operation()
        row = await row_of(memory, "x")
        memory._put(replace(row, generation=99))
        await op.step("a", lambda: done.append("a"))
        done.append("went on")

    with pytest.raises(Fenced):
        await work()
    assert done == ["a"]


async def test_without_a_store_for_steps_they_are_kept_in_memory() -> None:
    """A supervisor without a journal is a supervisor all the same, and steps count as progress for it."""
    importer = Importer(
        Supervisor(), errors=[ConnectionResetError()] * 3, policy=RetryPolicy(max_no_progress=2, base=0.0)
    )
    assert await importer.run("flux") == "flux"
    assert importer.log == ["a", "b", "c"]


async def test_limits_and_commands_of_a_supervisor_hold(memory: MemoryJournal) -> None:
    """An attempt's time limit, and a pause that another process posts to the journal."""

    @recoverable(journal=memory, key="x", kind="import", policy=RetryPolicy(max_no_progress=0, attempt_timeout_s=0.01))
    async def hangs() -> None:
        await asyncio.sleep(3_600)

    with pytest.raises(AttemptTimedOut):
        await hangs()

    @recoverable(journal=memory, key="y", kind="import")
    async def long() -> None:
        await memory.post_command(current_operation().operation_id, "pause")
        await asyncio.sleep(3_600)

    with pytest.raises(OperationPaused):
        await long()


async def test_the_classifier_of_the_function_judges(memory: MemoryJournal) -> None:
    """``on=`` and rules are the function's, whatever supervisor runs it."""
    importer = Importer(memory, errors=[KeyError("x")], on=KeyError)
    assert await importer.run("flux") == "flux"


async def test_steps_are_logged_nowhere_by_value(memory: MemoryJournal, caplog: pytest.LogCaptureFixture) -> None:
    """Results may be anything; they are for the journal only."""
    caplog.set_level(logging.DEBUG, "recovery")

    @recoverable(journal=memory, key="x")
    async def work() -> None:
        await current_operation().step("a", lambda: "hush")

    await work()
    assert "hush" not in caplog.text


async def test_a_pruned_operation_takes_its_steps_along(state_path: Path) -> None:
    """They are rows of the operation like its attempts."""
    async with await Database.open(state_path, [JOURNAL]) as database:
        journal = Journal(database)
        for name in ("flux", "sdxl"):
            with pytest.raises(ValueError):  # noqa: PT011 - the importer's own
                await Importer(journal, errors=[ValueError()]).run(name)
        row = await row_of(journal)
        assert await journal.forget([row.operation_id]) == 1
        assert await journal.steps(row.operation_id) == {}
        await eventually(lambda: journal.find("import", "import:sdxl"))
