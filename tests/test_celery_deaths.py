"""Every way a task is interrupted: what Celery says, what the state file says, and that the next run goes on at the
exact byte.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from celery.exceptions import SoftTimeLimitExceeded, TaskRevokedError, TimeLimitExceeded
from celery.result import AsyncResult

from recovery.endings import CrashLooping
from recovery.states import State
from resumable.probe import PROBE
from tests.origin import Behaviour, Content, Origin
from tests.workers import FAST_VISIBILITY, Broker, Worker, broker, rows, until, worker

pytestmark = pytest.mark.blocking

LONG = os.environ.get("RESUMABLE_LONG") == "1"
LONG_ONLY = pytest.mark.skipif(not LONG, reason="takes a minute; RESUMABLE_LONG=1")

SIZE = 6 << 20
RATE = 3 << 20
CHUNK = 1 << 20
TICK = RATE // 2
"""What may come in between two checkpoints, with room for a busy machine (design.md section 4: 250 ms)."""


@pytest.fixture(scope="module")
def running_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Run one broker for those who do not restart it."""
    with broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def steady(running_broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """Run one worker for those whose worker outlives them."""
    with worker(running_broker.url, tmp_path_factory.mktemp("steady")) as running:
        assert isinstance(running.send("empty").get(timeout=20), int)
        yield running


class Transfer:
    """One slow file, and what became of it."""

    def __init__(self, origin: Origin, dest: Path) -> None:
        """Serve the file."""
        self.origin, self.dest = origin, dest
        self.content = Content(SIZE, 5)
        origin.put("/file", self.content, Behaviour(rate=RATE))
        self.url = origin.url("/file")

    def is_under_way(self) -> bool:
        """Return whether a chunk has been sent, and part of the next."""
        return any(one.body_bytes > CHUNK for one in self.origin.seen("/file"))

    def starts(self) -> list[int]:
        """Return at which byte each request began."""
        ranges = [one.range for one in self.origin.seen("/file")]
        return [0 if one is None else int(one.removeprefix("bytes=").partition("-")[0]) for one in ranges]

    def resumed_at(self) -> int:
        """Return the first byte that was asked for after the first request. The chunk that was begun is read again
        before its end is asked for, so that is not always the second request.
        """
        return min(self.starts()[1:])

    def check(self, *, fetched_twice: int) -> None:
        """Assert that the file is right, and how many bytes were sent more than once at most."""
        assert self.content.sha256() == hashlib.sha256(self.dest.read_bytes()).hexdigest()
        sent = self.origin.body_bytes_sent("/file")
        assert SIZE <= sent <= SIZE + fetched_twice, (sent - SIZE, self.starts())

    def row(self, running: Worker) -> Any:
        """Return the download's row."""
        return next(row for row in rows(running.state, "download") if row.key.endswith(str(self.dest)))


@contextmanager
def transfer(tmp_path: Path) -> Iterator[Transfer]:
    """Serve a slow file."""
    with Origin() as origin:
        yield Transfer(origin, tmp_path / "file.bin")


def task_row(running: Worker, result: AsyncResult) -> Any:
    """Return the row of a message."""
    return next(row for row in rows(running.state, "task") if row.args["id"] == result.id)


SOCKET = 1 << 20
"""What lies in the kernel's buffers when a connection is closed: sent by the origin, never read by us."""


def test_soft_limit_is_a_time_slice(steady: Worker, tmp_path: Path) -> None:
    """With progress the task goes to the back of the queue and on at the byte it was at, until it is done."""
    with transfer(tmp_path) as file:
        file.origin.behave("/file", Behaviour(rate=SIZE // 5))
        result = steady.send("async_body", file.url, str(file.dest), soft_time_limit=2)
        found = result.get(timeout=30)
        assert (found["size"], found["resumed"] > 0) == (SIZE, True)
        slices = [entry for entry in steady.entries("begin") if entry[2] == str(file.dest)]
        assert len(slices) >= 2
        assert steady.said().count(f"{result.id}] retry") == len(slices) - 1
        file.check(fetched_twice=SOCKET * len(file.starts()))
        assert task_row(steady, result).state is State.COMPLETE


def test_soft_limit_without_progress_is_a_failure(steady: Worker, tmp_path: Path) -> None:
    """As Celery users know it: a slice that brings nothing is not followed by another."""
    with transfer(tmp_path) as file:
        file.origin.behave("/file", Behaviour(stall_at=0))
        result = steady.send("async_body", file.url, str(file.dest), soft_time_limit=1)
        with pytest.raises(SoftTimeLimitExceeded):
            result.get(timeout=20)
        assert (task_row(steady, result).state, file.row(steady).state) == (State.PAUSED, State.PAUSED)
        file.origin.behave("/file", Behaviour())
        assert steady.send("async_body", file.url, str(file.dest)).get(timeout=20)["size"] == SIZE


@pytest.mark.parametrize("body", ["async_body", "sync_body", "resumable.fetch"])
def test_revoke_terminate_keeps_everything(steady: Worker, tmp_path: Path, body: str) -> None:
    """REVOKED for Celery, paused for us; nothing goes on by itself, and asking again goes on at the exact byte."""
    with transfer(tmp_path) as file:
        result = steady.send(body, file.url, str(file.dest))
        file.origin.wait_for(file.is_under_way)
        result.revoke(terminate=True)
        with pytest.raises(TaskRevokedError):
            result.get(timeout=20)
        until(lambda: file.row(steady).state is State.PAUSED)
        until(lambda: task_row(steady, result).state is State.PAUSED)
        kept, requests = file.row(steady).progress_done, len(file.starts())
        time.sleep(1.5)  # a look of the reconciler
        assert len(file.starts()) == requests
        assert steady.send(body, file.url, str(file.dest)).get(timeout=20)["size"] == SIZE
        assert file.resumed_at() + PROBE == kept > PROBE
        file.check(fetched_twice=SOCKET)


def test_hard_limit_kills(steady: Worker, tmp_path: Path) -> None:
    """FAILURE for Celery, so it is not run again behind Celery's back; asking again loses at most a tick."""
    with transfer(tmp_path) as file:
        file.origin.behave("/file", Behaviour(rate=SIZE // 6))
        result = steady.send("async_body", file.url, str(file.dest), time_limit=2)
        with pytest.raises(TimeLimitExceeded):
            result.get(timeout=20)
        until(lambda: task_row(steady, result).state is State.PAUSED, timeout_s=30)
        until(lambda: file.row(steady).state is State.PAUSED, timeout_s=30)
        assert len(file.starts()) == 1
        file.origin.behave("/file", Behaviour())
        assert steady.send("async_body", file.url, str(file.dest)).get(timeout=20)["resumed"] > 0
        file.check(fetched_twice=SOCKET + TICK)


def test_kill_of_a_child(steady: Worker, tmp_path: Path) -> None:
    """kill -9: the message comes again at once, under the same id, and the result is there."""
    with transfer(tmp_path) as file:
        result = steady.send("async_body", file.url, str(file.dest))
        file.origin.wait_for(file.is_under_way)
        pid = next(int(entry[0]) for entry in steady.entries("begin") if entry[2] == str(file.dest))
        next(one for one in steady.children() if one.pid == pid).kill()
        assert result.get(timeout=30)["resumed"] > 0
        assert len([entry for entry in steady.entries("end") if entry[2] == str(file.dest)]) == 1
        file.check(fetched_twice=SOCKET + TICK)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT], ids=["warm", "cold"])
def test_shutdown_hands_back(running_broker: Broker, tmp_path: Path, number: int) -> None:
    """The worker ends within seconds, the message is in the queue, and the next worker goes on at the exact byte."""
    with transfer(tmp_path) as file:
        with worker(running_broker.url, tmp_path / "w") as running:
            result = running.send("async_body", file.url, str(file.dest))
            file.origin.wait_for(file.is_under_way)
            running.signal(number)
            began = time.monotonic()
            running.wait()
            assert time.monotonic() - began < 15
            [download] = rows(running.state, "download")
            assert download.state is State.PAUSED
            assert not file.dest.exists()
        with worker(running_broker.url, tmp_path / "w", queue=running.queue):
            assert result.get(timeout=30)["resumed"] == download.progress_done
        assert file.resumed_at() + PROBE == download.progress_done
        file.check(fetched_twice=SOCKET)


def test_power_cut_of_a_worker(running_broker: Broker, tmp_path: Path) -> None:
    """All its processes die at once, and the broker has forgotten everything: the next worker on this state file finds
    the task and sends it again itself, under its old id.
    """
    with transfer(tmp_path) as file:
        with worker(running_broker.url, tmp_path / "w") as running:
            result = running.send("async_body", file.url, str(file.dest))
            file.origin.wait_for(file.is_under_way)
            time.sleep(0.5)  # its message is kept by now
            running.kill()
            redis.Redis(port=running_broker.port).flushall()
        with worker(running_broker.url, tmp_path / "w", queue=running.queue):
            assert result.get(timeout=40)["resumed"] > 0
        file.check(fetched_twice=SOCKET + TICK)


def test_visibility_timeout_does_not_run_twice(running_broker: Broker, tmp_path: Path) -> None:
    """The broker hands the message to a second worker after 3 s; a task of 6 s (long form: 30 s) runs once, and its
    result counts.
    """
    seconds = 30 if LONG else 6
    conf = {"broker_transport_options": FAST_VISIBILITY}
    with (
        transfer(tmp_path) as file,
        worker(running_broker.url, tmp_path / "w", conf=conf, concurrency=1) as first,
        worker(running_broker.url, tmp_path / "w", conf=conf, queue=first.queue, concurrency=1) as second,
    ):
        file.origin.behave("/file", Behaviour(rate=SIZE // seconds))
        results = [
            first.send("sleeper", "nap", float(seconds)),
            first.send("async_body", file.url, str(file.dest)),
        ]
        assert [results[0].get(timeout=80), results[1].get(timeout=80)["size"]] == ["nap", SIZE]
        again = first.said().count("received") + second.said().count("received")
        assert again > 2, "the broker has not handed anything out again: nothing was tested"
        assert len(first.entries("begin")) == 2
        assert len(first.entries("end")) == 2
        file.check(fetched_twice=0)


def test_the_same_file_twice(steady: Worker, tmp_path: Path) -> None:
    """The second message has its answer at once, with the id of the download; one transfer is made."""
    with transfer(tmp_path) as file:
        result = steady.send("resumable.fetch", file.url, str(file.dest))
        file.origin.wait_for(file.is_under_way)
        second = steady.send("resumable.fetch", file.url, str(file.dest)).get(timeout=10)
        assert not result.ready()
        assert second == {"attached": result.get(timeout=20)["download_id"]}
        file.check(fetched_twice=0)


def test_a_body_that_needs_the_same_file(steady: Worker, tmp_path: Path) -> None:
    """It waits without a slot until the other task has the file, and has it then."""
    with transfer(tmp_path) as file:
        first = steady.send("resumable.fetch", file.url, str(file.dest))
        file.origin.wait_for(file.is_under_way)
        second = steady.send("async_body", file.url, str(file.dest))
        assert isinstance(steady.send("empty").get(timeout=10), int)
        assert first.get(timeout=20)["size"] == second.get(timeout=30)["size"] == SIZE
        file.check(fetched_twice=1)  # a look whether the origin still has that file asks for its first byte


def test_broker_restart(tmp_path: Path) -> None:
    """The broker goes away for a while with all tasks under way: they go on, and every result arrives."""
    with broker(tmp_path / "broker") as running_broker, Origin() as origin:
        names = [f"f{i}" for i in range(4)]
        contents = {name: Content(SIZE, i) for i, name in enumerate(names)}
        for name in names:
            origin.put(f"/{name}", contents[name], Behaviour(rate=SIZE // 5))
        with worker(running_broker.url, tmp_path / "w") as running:
            results = [running.send("resumable.fetch", origin.url(f"/{name}"), str(tmp_path / name)) for name in names]
            origin.wait_for(lambda: len({one.path for one in origin.requests}) >= 2)
            time.sleep(1)
            running_broker.restart(down_s=2)
            for result, name in zip(results, names, strict=True):
                until(result_is_there(running, result.id), timeout_s=60, what=name)
                assert contents[name].sha256() == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
                assert origin.body_bytes_sent(f"/{name}") == SIZE


@pytest.mark.parametrize("down_s", [8, pytest.param(40, marks=LONG_ONLY)])
@pytest.mark.timeout(200)
def test_a_wait_begins_while_the_broker_is_away(tmp_path: Path, down_s: int) -> None:
    """The message that would end it cannot be sent: it is sent when the broker is back, or out of what is kept."""
    with broker(tmp_path / "broker") as running_broker, Origin() as origin:
        content = Content(SIZE, 1)
        cut = Behaviour(rate=SIZE // 3, cut_at=SIZE // 2)
        origin.put("/file", content, script=[cut, Behaviour(status=503, retry_after=4)])
        # One child: kombu 5.7 ends a worker with a free slot when Redis goes away (AttributeError in Channel.close).
        with worker(running_broker.url, tmp_path / "w", concurrency=1) as running:
            result = running.send("resumable.fetch", origin.url("/file"), str(tmp_path / "file"))
            origin.wait_for(lambda: origin.body_bytes_sent("/file") > 0)
            time.sleep(0.5)
            running_broker.restart(down_s=down_s)
            assert len(origin.seen("/file")) == 2, "the wait has not begun meanwhile: nothing was tested"
            until(result_is_there(running, result.id), timeout_s=80)
            assert content.sha256() == hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()
            assert task_row(running, result).state is State.COMPLETE
            kept = running.state.with_name(running.state.name + ".tasks")
            until(lambda: not list(kept.glob("*")))


def result_is_there(running: Worker, task_id: str) -> Callable[[], bool]:
    """Return a question about a result, for a client whose connection may have gone with the broker."""

    def ask() -> bool:
        try:
            return bool(running.app.AsyncResult(task_id).state == "SUCCESS")
        except Exception:  # noqa: BLE001 - whatever a client raises whose server is away
            return False

    return ask


def test_poison_is_quarantined(steady: Worker) -> None:
    """A task that kills its process each time is given up after three deaths, and its caller is told."""
    result = steady.send("poison")
    with pytest.raises(CrashLooping, match="was not run again") as caught:
        result.get(timeout=40)
    assert len([entry for entry in steady.entries("begin") if entry[2] == "poison"]) == 3
    row = task_row(steady, result)
    assert (row.state, row.code) == (State.FAILED, "crash-loop")
    assert caught.value.operation.operation_id == row.operation_id


def test_what_is_found_finished_is_no_progress(steady: Worker, tmp_path: Path) -> None:
    """A body that dies behind its downloads is given up as well; its message, which may hold secrets, is not kept."""
    with transfer(tmp_path) as file:
        file.origin.behave("/file", Behaviour())
        result = steady.send("poison_after", file.url, str(file.dest))
        with pytest.raises(Exception, match="was not run again"):
            result.get(timeout=60)
        # The first life had its download as progress, and died after it like the others.
        assert len([entry for entry in steady.entries("begin") if entry[2] == "poison_after"]) in {3, 4}
        assert task_row(steady, result).code == "crash-loop"
        kept = steady.state.with_name(steady.state.name + ".tasks")
        until(lambda: not any(result.id in path.name for path in kept.iterdir()))


def test_deaths_in_a_wait_are_no_crash_loop(steady: Worker, tmp_path: Path) -> None:
    """kill -9 again and again while the body only waits for the server: it has its file in the end."""
    with transfer(tmp_path) as file:
        file.origin.behave("/file", Behaviour(status=503, retry_after=1))
        result = steady.send("resumable.fetch", file.url, str(file.dest))
        generation = 0
        for _ in range(4):
            running = until(partial(runs_since, steady, result, generation), timeout_s=30)
            generation = running.generation
            until(lambda: any(row.state is State.WAITING for row in rows(steady.state, "download")))
            time.sleep(0.7)
            for child in steady.children():
                child.kill()
        file.origin.behave("/file", Behaviour())
        assert result.get(timeout=40)["size"] == SIZE


def runs_since(running: Worker, result: AsyncResult, generation: int) -> Any:
    """Return the row of a message that runs under a newer generation than this one; None while it does not."""
    found = [row for row in rows(running.state, "task") if row.args["id"] == result.id]
    return next((row for row in found if row.state is State.RUNNING and row.generation > generation), None)
