"""The loop thread: one loop for all calls of a process, clean-up that is waited for, and a new one after a fork."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from recovery.loopthread import CallerSide, LoopThread, PerProcess

pytestmark = pytest.mark.blocking


@pytest.fixture
def loop_thread() -> Iterator[LoopThread]:
    """Make one and close it."""
    made = LoopThread("test loop")
    yield made
    made.close()


class Alarm(BaseException):
    """Raised by a signal handler, as Celery's time limits are."""


@pytest.fixture
def alarm() -> Iterator[None]:
    """Have SIGALRM raise Alarm in this thread."""

    def ring(*_: object) -> None:
        raise Alarm

    former = signal.signal(signal.SIGALRM, ring)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, former)


def test_all_calls_share_one_loop(loop_thread: LoopThread) -> None:
    """What is bound to a loop (a session, a lock) works in the second call as in the first."""

    async def which() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert loop_thread.run(which) is loop_thread.run(which) is loop_thread.loop


@pytest.mark.parametrize("error", [ValueError("x"), TimeoutError("x"), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_whatever_a_coroutine_raises_is_raised_in_the_caller(loop_thread: LoopThread, error: BaseException) -> None:
    """Also what would end an event loop; it goes on for everybody else."""

    async def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        loop_thread.run(fail)
    assert loop_thread.run(lambda: asyncio.sleep(0, "still here")) == "still here"


@pytest.mark.usefixtures("alarm")
def test_an_interruption_waits_for_the_clean_up(loop_thread: LoopThread) -> None:
    """A time limit in the waiting thread cancels the coroutine; its ``finally`` has run before the limit is seen."""
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            seen.append("cancelled")
            await asyncio.sleep(0.2)
            seen.append("cleaned up")

    signal.setitimer(signal.ITIMER_REAL, 0.2)
    with pytest.raises(Alarm):
        loop_thread.run(work)
    assert seen == ["cancelled", "cleaned up"]


@pytest.mark.usefixtures("alarm")
def test_clean_up_is_not_waited_for_for_ever(loop_thread: LoopThread) -> None:
    """A coroutine that ignores its cancellation costs the grace time, no more."""

    async def stubborn() -> None:
        for _ in range(30):
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                continue

    signal.setitimer(signal.ITIMER_REAL, 0.1)
    began = time.monotonic()
    with pytest.raises(Alarm):
        loop_thread.run(stubborn, grace_s=0.5)
    assert time.monotonic() - began < 2


def test_functions_run_in_the_waiting_thread(loop_thread: LoopThread) -> None:
    """Results and exceptions come back, and what is posted runs before the end is told."""
    here, posted = threading.get_ident(), []

    async def visit(side: CallerSide) -> tuple[int, str]:
        side.post(lambda: posted.append(threading.get_ident()))
        found = await side.call(threading.get_ident)
        with pytest.raises(ZeroDivisionError):
            await side.call(lambda: 1 // 0)
        with pytest.raises(SystemExit):
            await side.call(lambda: exec("raise SystemExit"))
        return found, threading.current_thread().name

    assert loop_thread.start(visit).result() == (here, "test loop")
    assert posted == [here]


def test_a_call_from_the_loop_itself_is_refused(loop_thread: LoopThread) -> None:
    """It would wait for itself."""

    async def nested() -> None:
        loop_thread.run(lambda: asyncio.sleep(0))

    with pytest.raises(RuntimeError, match="own thread"):
        loop_thread.run(nested)


def test_many_threads_at_once(loop_thread: LoopThread) -> None:
    """Each has its own answer."""
    answers: dict[int, int] = {}

    def ask(number: int) -> None:
        answers[number] = loop_thread.run(lambda: asyncio.sleep(0.05, number))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: number for number in range(20)}


def test_closing_cancels_what_runs() -> None:
    """And may be done twice."""
    loop_thread = LoopThread()
    ended = threading.Event()

    async def work(_: CallerSide) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    visit = loop_thread.start(work)
    loop_thread.run(lambda: asyncio.sleep(0.05))
    loop_thread.close()
    loop_thread.close()
    assert ended.is_set()
    assert visit.done


def test_a_fork_makes_its_own() -> None:
    """The child of a process that has one does not use the dead copy, and the parent keeps its own."""
    each: PerProcess[LoopThread] = PerProcess(LoopThread)
    parent = each.get()
    assert each.get() is parent
    child = os.fork()
    if child == 0:
        code = 1
        try:
            fresh = not each.made and each.get() is not parent
            alive = each.get().run(lambda: asyncio.sleep(0, "alive")) == "alive"
            parent.close()  # not ours: nothing happens
            code = 0 if fresh and alive else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert parent.run(lambda: asyncio.sleep(0, "here")) == "here"
    taken = each.take()
    assert taken is parent
    assert each.take() is None
    parent.close()
