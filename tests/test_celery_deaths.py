"""Every way a task is interrupted: what Celery says, what the state file says, and that the next run goes on at the
exact byte.
"""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery.exceptions import SoftTimeLimitExceeded, TaskRevokedError, TimeLimitExceeded

from recovery.states import State
from tests.origin import Behaviour, Content, Origin
from tests.workers import FAST_VISIBILITY, Broker, Worker, broker, rows, until, worker

pytestmark = pytest.mark.blocking

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


class Transfer:
    """One slow file, and what became of it."""

    def __init__(self, origin: Origin, dest: Path) -> None:
        """Serve the file."""
        self.origin, self.dest = origin, dest
        self.content = Content(SIZE, 5)
        origin.put("/file", self.content, Behaviour(rate=RATE))
        self.url = origin.url("/file")

    def is_under_way(self, requests: int = 1) -> bool:
        """Return whether so many requests were made and the newest one has sent something."""
        seen = self.origin.seen("/file")
        return len(seen) == requests and seen[-1].body_bytes > CHUNK

    def starts(self) -> list[int]:
        """Return at which byte each request began."""
        ranges = [one.range for one in self.origin.seen("/file")]
        return [0 if one is None else int(one.removeprefix("bytes=").partition("-")[0]) for one in ranges]

    def check(self, *, fetched_twice: int) -> None:
        """Assert that the file is right, and how many bytes were sent more than once at most."""
        assert self.content.sha256() == hashlib.sha256(self.dest.read_bytes()).hexdigest()
        sent = self.origin.body_bytes_sent("/file")
        assert SIZE <= sent <= SIZE + fetched_twice, (sent - SIZE, self.starts())


@contextmanager
def transfer(tmp_path: Path) -> Iterator[Transfer]:
    """Serve a slow file."""
    with Origin() as origin:
        made = Transfer(origin, tmp_path / "file.bin")
        origin.behave("/file", Behaviour(rate=RATE))
        yield made


SOCKET = 1 << 20
"""What lies in the kernel's buffers when a connection is closed: sent by the origin, never read by us."""


def test_soft_limit_is_a_time_slice(running_broker: Broker, tmp_path: Path) -> None:
    """With progress the task goes to the back of the queue and on at the byte it was at, until it is done."""
    with transfer(tmp_path) as file, worker(running_broker.url, tmp_path / "w") as running:
        result = running.send("async_body", file.url, str(file.dest), soft_time_limit=1)
        found = result.get(timeout=30)
        assert found["size"] == SIZE
        assert found["resumed"] > 0
        assert len(file.starts()) >= 2
        assert file.starts() == sorted(file.starts())
        file.check(fetched_twice=SOCKET * (len(file.starts()) - 1))
        [task] = rows(running.state, "task")
        assert task.state is State.COMPLETE


def test_soft_limit_without_progress_is_a_failure(running_broker: Broker, tmp_path: Path) -> None:
    """As Celery users know it: a slice that brings nothing is not followed by another."""
    with transfer(tmp_path) as file, worker(running_broker.url, tmp_path / "w") as running:
        file.origin.behave("/file", Behaviour(stall_at=0))
        result = running.send("async_body", file.url, str(file.dest), soft_time_limit=1)
        with pytest.raises(SoftTimeLimitExceeded):
            result.get(timeout=20)
        [task], [download] = rows(running.state, "task"), rows(running.state, "download")
        assert (task.state, download.state) == (State.PAUSED, State.PAUSED)
        file.origin.behave("/file", Behaviour())
        assert running.send("async_body", file.url, str(file.dest)).get(timeout=20)["size"] == SIZE


@pytest.mark.parametrize("body", ["async_body", "sync_body", "resumable.fetch"])
def test_revoke_terminate_keeps_everything(running_broker: Broker, tmp_path: Path, body: str) -> None:
    """REVOKED for Celery, paused for us; nothing goes on by itself, and asking again goes on at the exact byte."""
    with transfer(tmp_path) as file, worker(running_broker.url, tmp_path / "w") as running:
        result = running.send(body, file.url, str(file.dest))
        file.origin.wait_for(file.is_under_way)
        result.revoke(terminate=True)
        with pytest.raises(TaskRevokedError):
            result.get(timeout=20)
        [download] = until(lambda: [row for row in rows(running.state, "download") if row.state is State.PAUSED])
        [task] = rows(running.state, "task")
        assert task.state is State.PAUSED
        time.sleep(2.5)  # two looks of the reconciler
        assert len(file.starts()) == 1
        assert running.send(body, file.url, str(file.dest)).get(timeout=20)["size"] == SIZE
        assert file.starts() == [0, download.progress_done]
        file.check(fetched_twice=SOCKET)


def test_hard_limit_kills(running_broker: Broker, tmp_path: Path) -> None:
    """FAILURE for Celery, so it is not run again behind Celery's back; asking again loses at most a tick."""
    with transfer(tmp_path) as file, worker(running_broker.url, tmp_path / "w") as running:
        result = running.send("async_body", file.url, str(file.dest), time_limit=1)
        with pytest.raises(TimeLimitExceeded):
            result.get(timeout=20)
        until(lambda: [row for row in rows(running.state, "task") if row.state is State.PAUSED], timeout_s=30)
        assert len(file.starts()) == 1
        assert running.send("async_body", file.url, str(file.dest)).get(timeout=20)["resumed"] > 0
        file.check(fetched_twice=SOCKET + TICK)


def test_kill_of_a_child(running_broker: Broker, tmp_path: Path) -> None:
    """kill -9: the message comes again at once, under the same id, and the result is there."""
    with transfer(tmp_path) as file, worker(running_broker.url, tmp_path / "w") as running:
        result = running.send("async_body", file.url, str(file.dest))
        file.origin.wait_for(file.is_under_way)
        [[pid, *_]] = running.entries("begin")
        child = next(one for one in running.children() if one.pid == int(pid))
        child.kill()
        assert result.get(timeout=30)["resumed"] > 0
        assert len(running.entries("end")) == 1
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
        assert file.starts() == [0, download.progress_done]
        file.check(fetched_twice=SOCKET)


def test_power_cut_of_a_worker(running_broker: Broker, tmp_path: Path) -> None:
    """All its processes die at once; the next worker on this state file finds the task and sends it again itself, long
    before the visibility timeout of an hour.
    """
    with transfer(tmp_path) as file:
        with worker(running_broker.url, tmp_path / "w") as running:
            result = running.send("async_body", file.url, str(file.dest))
            file.origin.wait_for(file.is_under_way)
            time.sleep(0.5)  # its message is kept by now
            running.kill()
        with worker(running_broker.url, tmp_path / "w", queue=running.queue):
            assert result.get(timeout=40)["resumed"] > 0
        file.check(fetched_twice=SOCKET + TICK)


def test_visibility_timeout_does_not_run_twice(running_broker: Broker, tmp_path: Path) -> None:
    """The broker hands the message to a second worker after 3 s; the task of 8 s runs once, and its result counts."""
    conf = {"broker_transport_options": FAST_VISIBILITY}
    with (
        transfer(tmp_path) as file,
        worker(running_broker.url, tmp_path / "w", conf=conf, concurrency=1) as first,
        worker(running_broker.url, tmp_path / "w", conf=conf, queue=first.queue, concurrency=1) as second,
    ):
        file.origin.behave("/file", Behaviour(rate=SIZE // 8))
        results = [
            first.send("sleeper", "nap", 8.0),
            first.send("async_body", file.url, str(file.dest)),
        ]
        assert [results[0].get(timeout=40), results[1].get(timeout=40)["size"]] == ["nap", SIZE]
        again = first.said().count("received") + second.said().count("received")
        assert again > 2, "the broker has not handed anything out again: nothing was tested"
        assert len(first.entries("begin")) == 2
        assert len(first.entries("end")) == 2
        file.check(fetched_twice=0)


def test_the_same_file_twice(running_broker: Broker, tmp_path: Path) -> None:
    """The second message has its answer at once, with the id of the download; one transfer is made."""
    with transfer(tmp_path) as file, worker(running_broker.url, tmp_path / "w") as running:
        result = running.send("resumable.fetch", file.url, str(file.dest))
        file.origin.wait_for(file.is_under_way)
        second = running.send("resumable.fetch", file.url, str(file.dest)).get(timeout=10)
        assert not result.ready()
        found = result.get(timeout=20)
        assert second == {"attached": found["download_id"]}
        # A body that needs the result waits for the other one's, without a slot.
        file.check(fetched_twice=0)


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


def result_is_there(running: Worker, task_id: str):
    """Return a question about a result, for a client whose connection may have gone with the broker."""

    def ask() -> bool:
        try:
            return bool(running.app.AsyncResult(task_id).state == "SUCCESS")
        except Exception:
            return False

    return ask


def test_poison_is_quarantined(running_broker: Broker, tmp_path: Path) -> None:
    """A task that kills its process each time is given up after three deaths, and its caller is told."""
    with worker(running_broker.url, tmp_path / "w") as running:
        result = running.send("poison")
        with pytest.raises(Exception, match=r"poison|CrashLooping|was not run again"):
            result.get(timeout=40)
        assert len(running.entries("begin")) == 3
        [task] = rows(running.state, "task")
        assert (task.state, task.code) == (State.FAILED, "crash-loop")
