"""Steps and checkpoints inside an operation, in memory: once each, remembered, restored, undone newest first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from recovery import RetryPolicy, current_operation, current_sync_operation, recoverable
from recovery.compensation import UndoUnknown, take_back
from recovery.memory_call import at_once
from recovery.stepbook import StepBook

AT_ONCE = RetryPolicy(base=0.0)
ONCE = RetryPolicy(max_no_progress=0)


class Log(list[str]):
    """What was done, in order."""

    def doing(self, name: str, error: Exception | None = None) -> Callable[[], str]:
        """Return a step that notes its name and returns it in capitals, or fails."""

        def work() -> str:
            self.append(name)
            if error is not None:
                raise error
            return name.upper()

        return work

    def awaiting(self, name: str) -> Callable[[], Awaitable[str]]:
        """Return the same, async."""

        async def work() -> str:
            await asyncio.sleep(0)
            return self.doing(name)()

        return work

    def undoing(self, result: str) -> None:
        """Take a step back."""
        self.append(f"undo {result}")


async def test_a_step_is_done_once_and_remembered_over_attempts() -> None:
    """The second attempt gets the results of the first, and goes on where that stopped."""
    log, seen = Log(), []
    errors = [ConnectionResetError()]

    @recoverable(policy=AT_ONCE)
    async def work() -> list[str]:
        op = current_operation()
        seen.append((op.attempt, dict(op.restored)))
        results = [await op.step("a", log.doing("a")), await op.step("b", log.awaiting("b"))]
        if errors:
            raise errors.pop()
        return [*results, await op.step("c", log.doing("c"))]

    assert await work() == ["A", "B", "C"]
    assert log == ["a", "b", "c"]
    assert seen == [(1, {}), (2, {"a": "A", "b": "B"})]


async def test_a_step_that_failed_is_done_again() -> None:
    """Only what came to its end is remembered."""
    log = Log()
    errors: list[Exception | None] = [ConnectionResetError(), None]

    @recoverable(policy=AT_ONCE)
    async def work() -> None:
        await current_operation().step("a", log.doing("a", errors.pop(0)))

    await work()
    assert log == ["a", "a"]


async def test_a_checkpoint_may_be_moved_and_is_restored() -> None:
    """A cursor: the newest value counts, and only the next attempt sees it in ``restored``."""
    seen: list[object] = []

    @recoverable(policy=AT_ONCE)
    async def work() -> None:
        op = current_operation()
        first = op.restored.get("page", 0)
        seen.append(first)
        for page in range(first, 6):
            if page == 3 and op.attempt == 1:
                raise ConnectionResetError
            await op.checkpoint("page", page + 1)
        assert op.restored.get("page", 0) == first

    await work()
    assert seen == [0, 3]


async def test_in_memory_a_result_may_be_anything() -> None:
    """It is the very object, in every attempt."""
    thing, seen = object(), []

    @recoverable(policy=AT_ONCE)
    async def work() -> None:
        op = current_operation()
        seen.append(await op.step("a", lambda: thing))
        if op.attempt == 1:
            raise ConnectionResetError

    await work()
    assert seen == [thing, thing]


async def test_steps_side_by_side() -> None:
    """In tasks of the operation, too; their context knows it."""
    log = Log()

    async def branch(name: str) -> str:
        return await current_operation().step(name, log.awaiting(name))

    @recoverable(policy=AT_ONCE)
    async def work() -> list[str]:
        done = await asyncio.gather(*(branch(name) for name in "abc"))
        if current_operation().attempt == 1:
            raise ConnectionResetError
        return list(done)

    assert await work() == ["A", "B", "C"]
    assert sorted(log) == ["a", "b", "c"]


async def test_an_operation_inside_another_has_its_own_steps() -> None:
    """And the outer one is the current one again after it."""
    log = Log()

    @recoverable
    async def inner() -> None:
        await current_operation().step("a", log.doing("inner"))

    @recoverable
    async def outer() -> None:
        await current_operation().step("a", log.doing("outer"))
        await inner()
        await current_operation().step("b", log.doing("outer again"))

    await outer()
    assert log == ["outer", "inner", "outer again"]


@pytest.mark.parametrize(("name", "words"), [("", "needs a name"), ("~x", "needs a name"), ("twice", "already")])
async def test_names_that_cannot_work_are_refused(name: str, words: str) -> None:
    """A name used twice in one attempt would skip the second step without a word."""

    @recoverable
    async def work() -> None:
        op = current_operation()
        await op.step(name, lambda: None)
        await op.step(name, lambda: None)

    with pytest.raises(ValueError, match=words):
        await work()


async def test_a_checkpoint_needs_a_name_of_its_own_too() -> None:
    """Names with a tilde are ours."""

    @recoverable
    async def work() -> None:
        await current_operation().checkpoint("~undoing", 1)

    with pytest.raises(ValueError, match="needs a name"):
        await work()


def test_outside_an_operation_there_is_none() -> None:
    """The error says what to do."""
    for ask in (current_operation, current_sync_operation):
        with pytest.raises(RuntimeError, match="call the function through @recoverable"):
            ask()


async def test_each_style_has_its_own_operation() -> None:
    """The wrong one is pointed to the right one."""

    @recoverable
    async def awaiting() -> None:
        current_sync_operation()

    @recoverable
    def blocking() -> None:
        current_operation()

    with pytest.raises(RuntimeError, match=r"use current_operation\(\)"):
        await awaiting()
    with pytest.raises(RuntimeError, match=r"use current_sync_operation\(\)"):
        blocking()


async def test_an_operation_shows_itself() -> None:
    """For logs and debuggers."""

    @recoverable
    async def work() -> list[str]:
        op = current_operation()
        before = repr(op)
        await op.step("a", lambda: None)
        return [before, repr(op)]

    @recoverable
    def blocking() -> str:
        return repr(current_sync_operation())

    nothing_done = "<operation in memory: attempt 1, 0 steps done>"
    assert await work() == [nothing_done, nothing_done.replace("0 steps", "1 steps")]
    assert blocking() == nothing_done


# ---- undo -----------------------------------------------------------------------------------------------------------


def with_undo(log: Log, error: Exception, *, undo: Any = None, **options: Any) -> Callable[..., Any]:
    """Return an operation of three steps, the middle one without undo, that then fails."""

    async def work() -> None:
        op = current_operation()
        await op.step("a", log.doing("a"), undo=log.undoing)
        await op.step("b", log.doing("b"))
        await op.step("c", log.doing("c"), undo=undo or log.undoing)
        await op.step("d", log.doing("d", error), undo=log.undoing)

    decorate: Callable[..., Any] = recoverable(policy=ONCE, **options)
    decorated: Callable[..., Any] = decorate(work)
    return decorated


async def test_given_up_it_takes_back_what_was_done() -> None:
    """The newest first, each with its own result; the step that failed cleans up on its own."""
    log, error = Log(), ValueError("bad")
    with pytest.raises(ValueError, match="bad") as caught:
        await with_undo(log, error)()
    assert caught.value is error
    assert log == ["a", "b", "c", "d", "undo C", "undo A"]


async def test_a_cancellation_takes_nothing_back() -> None:
    """Stopped is not given up: it may go on."""
    log = Log()
    started = asyncio.Event()

    @recoverable
    async def work() -> None:
        await current_operation().step("a", log.doing("a"), undo=log.undoing)
        started.set()
        await asyncio.sleep(3_600)

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["a"]


async def test_another_way_comes_before_undoing() -> None:
    """A fallback finds the steps of the way before it; only when it fails, too, is anything undone."""
    log = Log()

    async def fallback() -> str:
        op = current_operation()
        return await op.step("a", log.doing("again?")) + await op.step("e", log.doing("e"))

    assert await with_undo(log, ValueError(), fallbacks=[fallback])() == "AE"
    assert log == ["a", "b", "c", "d", "e"]


async def test_an_undo_is_tried_again_by_the_same_policy() -> None:
    """What undoes has to do with the same flaky world."""
    log, errors = Log(), [ConnectionResetError(), ConnectionResetError()]

    async def flaky_undo(result: str) -> None:
        await asyncio.sleep(0)
        if errors:
            raise errors.pop()
        log.undoing(result)

    @recoverable(policy=RetryPolicy(max_no_progress=2, base=0.0))
    async def work() -> None:
        await current_operation().step("a", log.doing("a"), undo=flaky_undo)
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - the operation's own
        await work()
    assert log == ["a", "undo A"]


async def test_an_undo_that_fails_stops_the_undoing_and_is_noted(caplog: pytest.LogCaptureFixture) -> None:
    """What came before may depend on it; the error that led here stays the error."""

    def broken(_: str) -> None:
        raise PermissionError(13, "no")

    log, error = Log(), ValueError("bad")
    with pytest.raises(ValueError, match="bad"):
        await with_undo(log, error, undo=broken)()
    assert log == ["a", "b", "c", "d"]
    assert error.__notes__ == [
        "step 'c' could not be taken back, nor what came before it: PermissionError: [Errno 13] no"
    ]
    assert [record.message for record in caplog.records] == ["undo-failed"]


async def test_a_step_whose_undo_is_not_known_stops_the_undoing() -> None:
    """It was done by a former process; what is older is left alone."""
    book, error = StepBook(), ValueError()
    for name in ("a", "b"):
        await book.keep(name, name, undo=True)
    log = Log()
    book.undos["a"] = log.undoing

    async def call(undo: Any, value: Any) -> None:
        undo(value)

    await take_back(book, call, error)
    assert log == []
    assert f"{UndoUnknown.__name__}: how to take back 'b' is not known" in error.__notes__[0]
    assert book.given_up == "ValueError"


# ---- functions that are not async -----------------------------------------------------------------------------------


def test_blocking_functions_have_the_same_steps() -> None:
    """Done once, restored, and undone."""
    log, seen = Log(), []

    @recoverable(policy=RetryPolicy(max_no_progress=1, base=0.0))
    def work() -> None:
        op = current_sync_operation()
        seen.append((op.attempt, dict(op.restored), op.key, op.operation_id))
        assert op.step("a", log.doing("a"), undo=log.undoing) == "A"
        op.checkpoint("cursor", 7)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        work()
    assert log == ["a", "undo A"]
    assert seen[:2] == [(1, {}, "", ""), (2, {"a": "A", "cursor": 7}, "", "")]


def test_an_async_step_of_a_blocking_function_is_a_mistake() -> None:
    """Nobody would await it."""
    log = Log()

    @recoverable
    def work() -> None:
        current_sync_operation().step("a", log.awaiting("a"))

    with pytest.raises(TypeError, match="step 'a' is async, but its operation is not"):
        work()


def test_work_in_memory_never_waits() -> None:
    """A coroutine that does is refused instead of being left half-way."""

    async def waits() -> None:
        await asyncio.sleep(0)

    async def does_not() -> int:
        return 7

    assert at_once(does_not()) == 7
    with pytest.raises(RuntimeError, match="must not wait"):
        at_once(waits())
