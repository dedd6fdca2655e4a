"""Thread hops: where they run, what becomes of them on cancellation, and executors that come and go."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from resumable import hops
from resumable.hops import Hops, io_executor, shutdown_io_executor
from resumable.settling import until_done


def test_the_executor_is_one_per_process_and_named() -> None:
    """Everybody gets the same one, its threads say whose they are, and it comes back after a shutdown."""
    first = io_executor()
    assert first is io_executor()
    assert first.submit(threading.current_thread).result().name.startswith("resumable-io")
    shutdown_io_executor()
    shutdown_io_executor()
    second = io_executor()
    assert second is not first
    assert second.submit(lambda: 1).result() == 1


@pytest.mark.parametrize("affinity", [True, False])
def test_waiting_threads_are_added_to_those_for_the_processors(monkeypatch: pytest.MonkeyPatch, affinity: bool) -> None:
    """Hashing fills the processors this process may use; the others wait for the disk."""
    if affinity:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2})
    else:
        monkeypatch.delattr(os, "sched_getaffinity")
        monkeypatch.setattr(os, "cpu_count", lambda: 3)
    shutdown_io_executor()
    assert io_executor()._max_workers == 9
    shutdown_io_executor()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_gets_an_executor_of_its_own() -> None:
    """A child has none of its parent's threads; even the lock, held at the moment of the fork, is a new one."""
    parents = io_executor()
    assert parents.submit(lambda: 1).result() == 1
    with hops._process.lock:
        pid = os.fork()
        if pid == 0:  # pragma: no cover  # the child's lines are not seen
            signal.alarm(30)
            mine = io_executor()
            os._exit(0 if mine is not parents and mine.submit(lambda: 7).result() == 7 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert parents is io_executor()


async def test_results_and_exceptions_come_back() -> None:
    """A hop is a function call, only elsewhere."""
    hop = Hops()
    assert threading.current_thread() is not await hop.run(threading.current_thread)
    with pytest.raises(ZeroDivisionError):
        await hop.run(lambda: 1 / 0)
    await asyncio.sleep(0)
    assert hop.flying == 0


async def test_a_hop_dropped_by_its_executor_is_not_a_cancellation() -> None:
    """Nobody cancelled us, so it must not look as if somebody had."""
    executor = ThreadPoolExecutor(1)
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go.wait(60)

    executor.submit(hold)
    await asyncio.to_thread(held.wait, 60)
    hop = Hops(executor)
    running = asyncio.create_task(hop.run(lambda: None))
    await asyncio.sleep(0)
    executor.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(RuntimeError, match="was shut down"):
        await running
    go.set()


@pytest.mark.parametrize("fails", [True, False])
async def test_what_nobody_gets_is_undone(fails: bool) -> None:
    """A result that comes after its caller was cancelled is given to ``undo``; an exception then is of no interest."""
    hop = Hops()
    begun, go = threading.Event(), threading.Event()
    undone: list[str] = []

    def work() -> str:
        begun.set()
        go.wait(60)
        if fails:
            raise OSError("nobody hears of this")
        return "opened"

    running = asyncio.create_task(hop.run(work, undo=undone.append))
    await asyncio.to_thread(begun.wait, 60)
    running.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ([] if fails else ["opened"]) == undone


async def test_waiting_until_done_outlives_cancellations() -> None:
    """The cancellation is handed back, not raised and not lost."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(until_done(future))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    future.set_result(1)
    assert isinstance(await waiting, asyncio.CancelledError)
    assert None is await until_done(future)
    assert None is await until_done()
