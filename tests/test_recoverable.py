"""``@recoverable`` in memory: what is tried again and what is not, how often, after which wait, and who sees it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import inspect
import logging
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from recovery import (
    AttemptTimedOut,
    Category,
    Classifier,
    DeadlineExceeded,
    OperationEvent,
    RetryPolicy,
    Verdict,
    current_operation,
    recipe_of,
    recoverable,
)
from recovery.observers import observe
from recovery.taxonomy import machine, network
from recovery.testing import FakeClock
from tests.failures import CONTROL_FLOW

FULL_DRAW: Callable[[], float] = lambda: 0.999_999  # noqa: E731
PATIENT = RetryPolicy(max_no_progress=3, base=1.0, factor=2.0, cap=60.0)


class Flaky:
    """Raises what its script says, call after call, and then returns its arguments."""

    def __init__(self, *errors: BaseException) -> None:
        """``errors`` are raised in this order."""
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Be called once more."""
        self.calls += 1
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        return args, kwargs


def made(flaky: Flaky, **options: Any) -> Callable[..., Any]:
    """Return a recoverable function around ``flaky``, on a clock that moves by itself."""
    clock = options.pop("clock", None) or FakeClock(auto=True)

    async def function(*args: Any, **kwargs: Any) -> Any:
        return await flaky(*args, **kwargs)

    decorate: Callable[..., Any] = recoverable(clock=clock, draw=FULL_DRAW, **{"policy": PATIENT, **options})
    decorated: Callable[..., Any] = decorate(function)
    return decorated


async def test_a_call_that_succeeds_is_passed_through() -> None:
    """Arguments in, result out, one call."""
    flaky = Flaky()
    assert await made(flaky)(1, two=2) == ((1,), {"two": 2})
    assert flaky.calls == 1


async def test_what_may_pass_is_tried_again_with_the_same_arguments() -> None:
    """Two failures of the network, then the result; each wait at most twice as long as the one before."""
    clock = FakeClock(auto=True)
    flaky = Flaky(ConnectionResetError(), TimeoutError())
    assert await made(flaky, clock=clock)("a") == (("a",), {})
    assert flaky.calls == 3
    assert clock.monotonic() == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (ConnectionRefusedError(), 4),
        (TimeoutError(), 4),
        (ValueError("bad workflow"), 1),
        (PermissionError(errno.EACCES, "no"), 1),
        (RuntimeError("who knows"), 2),
        (MemoryError(), 2),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_without_on_the_classifier_decides(error: Exception, calls: int) -> None:
    """Three retries for the network, none for a bad argument, one for what nobody knows; the last error is raised."""
    flaky = Flaky(*[error] * 10)
    with pytest.raises(type(error)) as caught:
        await made(flaky)()
    assert (calls, error) == (flaky.calls, caught.value)


@pytest.mark.parametrize(
    ("on", "error", "calls"),
    [
        (ValueError, ValueError(), 4),
        (ValueError, UnicodeError(), 4),
        ((KeyError, ValueError), KeyError("x"), 4),
        (ValueError, ConnectionResetError(), 1),
        (ValueError, ExceptionGroup("two", [ValueError(), UnicodeError()]), 4),
        (ValueError, ExceptionGroup("two", [ValueError(), OSError()]), 1),
        (Exception, RuntimeError(), 4),
    ],
    ids=repr,
)
async def test_with_on_these_types_are_retried_and_no_others(on: Any, error: Exception, calls: int) -> None:
    """As often as the policy says, whatever the classifier thinks of them."""
    flaky = Flaky(*[error] * 10)
    with pytest.raises(type(error)):
        await made(flaky, on=on)()
    assert calls == flaky.calls


async def test_on_keeps_the_wait_a_server_asked_for() -> None:
    """The list says that there is another attempt; when is the server's."""

    class BusyError(Exception):
        status = 429
        retry_after_s = 40.0

    clock = FakeClock(auto=True)
    await made(Flaky(BusyError()), on=BusyError, clock=clock)()
    assert clock.monotonic() == pytest.approx(40.0)


@pytest.mark.parametrize("on", [(), (ValueError, 3), "ValueError", int, []], ids=str)
def test_on_takes_exception_types_only(on: Any) -> None:
    """A mistake is told when the function is decorated."""
    with pytest.raises(TypeError, match="on= takes exception types"):
        made(Flaky(), on=on)


@pytest.mark.parametrize("row", CONTROL_FLOW, ids=lambda row: row.name)
async def test_control_flow_is_never_retried(row: Any) -> None:
    """Not by ``on=BaseException`` either (tenacity#529): it passes through as it is, without fallbacks."""
    for options in ({}, {"on": BaseException}):
        flaky, other = Flaky(row.exc), Flaky()
        if isinstance(row.exc, StopIteration | StopAsyncIteration | GeneratorExit | KeyboardInterrupt | SystemExit):
            continue  # Python itself lets these out of a coroutine in another way
        with pytest.raises(type(row.exc)) as caught:
            await made(flaky, fallbacks=[other], **options)()
        assert (row.exc, 1, 0) == (caught.value, flaky.calls, other.calls)


async def test_a_cancellation_ends_a_wait_between_attempts() -> None:
    """Cancelled while it waits, the call ends as a cancelled task, and nothing is tried any more."""
    clock = FakeClock()
    flaky = Flaky(*[ConnectionResetError()] * 5)
    task = asyncio.create_task(made(flaky, clock=clock)())
    await clock.until_sleeping()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await clock.advance(1_000)
    assert flaky.calls == 1


@pytest.mark.parametrize(
    ("given", "calls"),
    [
        (lambda exc: network.TIMEOUT if isinstance(exc, ValueError) else None, 4),
        ([lambda _: None, lambda _: network.TIMEOUT], 4),
        (Classifier([lambda _: machine.VALIDATION]), 1),
        (Classifier(), 1),
    ],
    ids=["rule", "rules", "classifier", "plain classifier"],
)
async def test_rules_of_the_user_are_asked_first(given: Any, calls: int) -> None:
    """One rule, several, or a classifier of one's own."""
    flaky = Flaky(*[ValueError()] * 10)
    with pytest.raises(ValueError):  # noqa: PT011 - the script's own
        await made(flaky, classify=given)()
    assert calls == flaky.calls


@pytest.mark.parametrize(
    ("policy", "calls"),
    [
        (RetryPolicy(max_no_progress=0), 1),
        (RetryPolicy(max_no_progress=1, base=0.0), 2),
        (RetryPolicy(max_no_progress=100, max_attempts=7, base=0.0), 7),
        (RetryPolicy(max_no_progress=100, base=4.0, factor=1.0, deadline_s=10.0), 3),
    ],
    ids=["none", "one", "total", "deadline"],
)
async def test_each_meter_of_the_policy_ends_a_call(policy: RetryPolicy, calls: int) -> None:
    """Zero is a value (backoffs that took it for "unset" retried three times)."""
    flaky = Flaky(*[ConnectionResetError()] * 10)
    with pytest.raises(ConnectionResetError):
        await made(flaky, policy=policy)()
    assert calls == flaky.calls


async def test_durable_progress_refills_the_budget() -> None:
    """Six failures, each after one more step: no three of them in a row are without progress."""
    calls = 0

    @recoverable(policy=RetryPolicy(max_no_progress=1, base=0.0), clock=FakeClock(auto=True))
    async def import_all() -> int:
        nonlocal calls
        calls += 1
        for number in range(6):
            await current_operation().step(f"step {number}", lambda: None)
            if number >= len(current_operation().restored):
                raise ConnectionResetError
        return calls

    assert await import_all() == 7


async def test_one_attempt_may_be_limited() -> None:
    """It is cancelled in its wait, tried again, and in the end says which limit it was."""
    policy = RetryPolicy(max_no_progress=1, base=0.0, attempt_timeout_s=0.01)
    calls = 0

    @recoverable(policy=policy)
    async def hangs() -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(3_600)

    with pytest.raises(AttemptTimedOut, match=r"longer than 0\.01 s"):
        await hangs()
    assert calls == 2


async def test_the_deadline_ends_an_attempt_too() -> None:
    """A function that hangs does not hang beyond the operation's deadline."""

    @recoverable(policy=RetryPolicy(deadline_s=0.01))
    async def hangs() -> None:
        await asyncio.sleep(3_600)

    with pytest.raises(DeadlineExceeded):
        await hangs()


async def test_a_timeout_of_the_functions_own_is_not_ours() -> None:
    """It stays the TimeoutError that was raised."""
    error = TimeoutError("mine")

    @recoverable(policy=RetryPolicy(max_no_progress=0, attempt_timeout_s=60.0))
    async def gives_up() -> None:
        raise error

    with pytest.raises(TimeoutError) as caught:
        await gives_up()
    assert caught.value is error


async def test_what_parks_waits_until_an_attempt_succeeds() -> None:
    """A full disk uses up no attempts and no deadline, however long it stays full."""
    clock = FakeClock(auto=True)
    flaky = Flaky(*[OSError(errno.ENOSPC, "full")] * 40)
    await made(flaky, clock=clock, policy=RetryPolicy(max_no_progress=1, max_attempts=2))()
    assert flaky.calls == 41
    assert clock.monotonic() > 400


async def test_fallbacks_are_tried_in_order_with_the_same_arguments() -> None:
    """Each has a budget of its own; whoever succeeds gives the result."""
    first, second, third = Flaky(*[ConnectionResetError()] * 4), Flaky(ValueError()), Flaky()
    assert await made(first, fallbacks=[second, third])(7, b=8) == ((7,), {"b": 8})
    assert (first.calls, second.calls, third.calls) == (4, 1, 1)


async def test_when_every_way_fails_the_last_error_is_raised() -> None:
    """The one before says in a note what was tried after it."""
    first, last = ConnectionResetError("origin"), ValueError("mirror")

    async def mirror() -> None:
        raise last

    with pytest.raises(ValueError, match="mirror") as caught:
        await made(Flaky(*[first] * 4), fallbacks=[mirror])()
    assert caught.value is last
    assert first.__notes__ == [
        "given up (4 failures in a row without progress); then mirror was tried",
    ]


async def test_a_fallback_of_an_async_function_need_not_be_async() -> None:
    """A value at hand is a good last resort."""
    assert await made(Flaky(ValueError()), fallbacks=[lambda: "from the cache"])() == "from the cache"


class Importer:
    """Methods are functions like any other."""

    def __init__(self) -> None:
        self.errors = [ConnectionResetError()]

    @recoverable(policy=RetryPolicy(base=0.0))
    async def fetch(self, name: str, *, times: int = 1) -> str:
        """Fetch."""
        if self.errors:
            raise self.errors.pop()
        return name * times

    @classmethod
    @recoverable
    async def of_class(cls) -> str:
        """Belong to the class."""
        return cls.__name__

    @staticmethod
    @recoverable
    async def of_nobody() -> str:
        """Belong to nobody."""
        return "static"


async def test_methods_of_all_kinds() -> None:
    """``self`` arrives, and each instance has its own budget."""
    importer = Importer()
    assert await importer.fetch("ab", times=2) == "abab"
    assert (await Importer.of_class(), await importer.of_nobody()) == ("Importer", "static")


def test_a_decorated_function_still_looks_like_itself() -> None:
    """Name, docstring, signature, and being async."""
    function = Importer.fetch
    assert (function.__name__, function.__doc__) == ("fetch", "Fetch.")
    assert str(inspect.signature(function)) == "(self, name: 'str', *, times: 'int' = 1) -> 'str'"
    assert inspect.iscoroutinefunction(function)
    assert recipe_of(function).kind == "tests.test_recoverable.Importer.fetch"


def generator() -> Any:
    yield 1


async def async_generator() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (classmethod(lambda cls: cls), "put @classmethod above @recoverable"),
        (staticmethod(lambda: 1), "put @staticmethod above @recoverable"),
        (generator, "a generator cannot be called again in its middle"),
        (async_generator, "a generator cannot be called again in its middle"),
        (int, "takes a function"),
        (3, "takes a function"),
    ],
    ids=["classmethod", "staticmethod", "generator", "asynchronous generator", "class", "number"],
)
def test_what_cannot_be_called_again_is_refused(wrong: Any, words: str) -> None:
    """When it is decorated, with the remedy."""
    with pytest.raises(TypeError, match=words):
        recoverable(wrong)


def test_only_recoverable_functions_have_a_recipe() -> None:
    """A plain one is told apart."""
    with pytest.raises(TypeError, match="not a recoverable function"):
        recipe_of(generator)


async def test_a_call_that_does_not_fit_is_told_as_python_does() -> None:
    """A TypeError of the caller is no failure of the network."""
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'name'"):
        await Importer().fetch()  # type: ignore[call-arg]


# ---- what observers see ---------------------------------------------------------------------------------------------


def shape(event: OperationEvent) -> tuple[Any, ...]:
    """Return what a test compares of an event."""
    return event.state.value, event.attempt, event.no_progress, event.delay_s, event.verdict and event.verdict.category


async def test_events_tell_the_whole_story() -> None:
    """From the first attempt to the end, with the wait, the category and both counters."""
    events: list[OperationEvent] = []
    flaky = Flaky(ConnectionResetError())
    await made(flaky, on_event=events.append, key="{args[0]}", project="of {args[0]}")("flux")
    assert [shape(event) for event in events] == [
        ("running", 1, 0, None, None),
        ("waiting", 1, 1, pytest.approx(1.0, abs=0.01), Category.CONNECTION),
        ("running", 2, 1, None, None),
        ("complete", 2, 1, None, None),
    ]
    assert {("flux", "of flux", "tests.test_recoverable.made.<locals>.function", 50)} == {
        (event.key, event.project, event.kind, event.max_attempts) for event in events
    }
    assert [event.previous and event.previous.value for event in events] == [None, "running", "waiting", "running"]
    assert [event.rev for event in events] == [1, 2, 3, 4]
    assert len({event.operation_id for event in events}) == 1
    assert events[1].next_retry_at == pytest.approx(events[1].ts + 1.0, abs=0.01)
    assert events[1].error == "ConnectionResetError"


@pytest.mark.parametrize(
    ("error", "states"),
    [
        (ValueError(), ["running", "failed"]),
        (OSError(errno.ENOSPC, "full"), ["running", "parked", "running", "complete"]),
        (asyncio.InvalidStateError(), ["running", "failed"]),
    ],
    ids=["failed", "parked", "bug"],
)
async def test_each_end_is_told(error: Exception, states: list[str]) -> None:
    """Also to those who watch everything in the process."""
    events: list[Any] = []
    stop = observe(events.append)
    try:
        with pytest.raises(type(error)) if states[-1] == "failed" else pytest.MonkeyPatch.context():
            await made(Flaky(error))()
    finally:
        stop()
    await made(Flaky())()
    assert states == [event.state.value for event in events]


async def test_an_observer_that_raises_is_logged_and_the_call_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever watches must not disturb."""

    def broken(event: object) -> None:
        raise ZeroDivisionError

    stop = observe(broken)
    try:
        await made(Flaky(), on_event=broken, key="{args[0]}")()  # the key does not fit either
    finally:
        stop()
    assert {"observer-failed"} == {record.message for record in caplog.records}


async def test_retries_are_logged_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    """One line for each wait, one when it is given up; the error is redacted."""
    caplog.set_level(logging.INFO, "recovery")
    error = ConnectionResetError("https://user:hush@host/?token=hush")
    with pytest.raises(ConnectionResetError):
        await made(Flaky(error, error), policy=RetryPolicy(max_no_progress=1, base=0.0))()
    assert [record.message for record in caplog.records] == ["retry-scheduled", "given-up"]
    assert "hush" not in str([vars(record) for record in caplog.records]).replace(repr(error), "")
    assert vars(caplog.records[0])["code"] == "connection-lost"


async def test_a_failed_call_leaves_nothing_behind() -> None:
    """No cycle keeps the arguments alive until the collector comes by."""

    class Big:
        pass

    big = Big()
    gone = weakref.ref(big)
    gc.disable()
    try:
        for errors in ([ValueError()], [ConnectionResetError(), ValueError()]):
            with contextlib.suppress(ValueError):
                await made(Flaky(*errors))(big)
        del big, errors
        assert gone() is None
    finally:
        gc.enable()


def test_a_verdict_of_ones_own() -> None:
    """The type is public: rules are written against it."""
    assert Verdict.__module__ == "recovery.verdict"
