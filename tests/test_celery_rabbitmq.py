"""The same on RabbitMQ, where it is installed (an optional extra): waits without a slot, kill -9, a warm shutdown."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from recovery.states import State
from tests.origin import Behaviour, Content, Origin
from tests.servers import free_port
from tests.workers import Broker, Worker, broker, rows, until, worker

pytestmark = [pytest.mark.blocking, pytest.mark.campaign]

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
MIB = 1 << 20


def answers(port: int) -> bool:
    """Return whether anybody listens there."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a RabbitMQ of our own, and return where it listens."""
    if not SERVER.exists() or shutil.which("erl") is None:
        pytest.skip("rabbitmq-server is not installed")
    folder, port, names = tmp_path_factory.mktemp("rabbit"), free_port(), str(free_port())
    environment = os.environ | {
        "HOME": str(folder),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_RELAXED_COMMAND_CHECK": "1",
        "ERL_EPMD_PORT": names,
        "RABBITMQ_NODENAME": f"test{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "db"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PLUGINS_EXPAND_DIR": str(folder / "plugins"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled"),
    }
    with (folder / "out").open("wb") as output:
        process = subprocess.Popen([SERVER], env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        until(lambda: answers(port) or process.poll() is not None, timeout_s=90, what="RabbitMQ starts")
        assert process.poll() is None, (folder / "out").read_text()
        yield f"amqp://guest:guest@127.0.0.1:{port}//"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        # Erlang's name server goes on by itself; it was started for this one.
        subprocess.run(["epmd", "-kill"], env=environment, capture_output=True, timeout=20, check=False)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Run what keeps the results."""
    with broker(tmp_path_factory.mktemp("results")) as running:
        yield running


def is_right(file: Path, content: Content) -> bool:
    """Return whether a file is what the origin has."""
    return hashlib.sha256(file.read_bytes()).hexdigest() == content.sha256()


@pytest.mark.timeout(240)
def test_a_cut_a_wait_and_a_kill(rabbit: str, results: Broker, tmp_path: Path) -> None:
    """Each file is cut, refused for a while and gets on; a child dies in the middle; each body runs to its end once."""
    contents = {f"f{number}": Content(2 * MIB, number) for number in range(4)}
    slow = Behaviour(rate=MIB)
    with Origin() as origin, worker(rabbit, tmp_path / "w", backend=results.url) as running:
        for name, content in contents.items():
            script = [Behaviour(cut_at=MIB // 2), Behaviour(status=503, retry_after=3)]
            origin.put(f"/{name}", content, slow, script=script)
        sent = {name: running.send("async_body", origin.url(f"/{name}"), str(tmp_path / name)) for name in contents}
        until(lambda: any(len(origin.seen(f"/{name}")) >= 3 for name in contents), timeout_s=60)
        kill_one(running)
        for name, content in contents.items():
            assert sent[name].get(timeout=90)["resumed"] > 0, name
            assert is_right(tmp_path / name, content), name
        ends = [entry[2] for entry in running.entries("end")]
        assert sorted(ends) == sorted(str(tmp_path / name) for name in contents)
        assert {row.state for row in rows(running.state, "task")} == {State.COMPLETE}


@pytest.mark.timeout(180)
def test_a_warm_shutdown_hands_back(rabbit: str, results: Broker, tmp_path: Path) -> None:
    """The message is in the queue again, and the next worker goes on at the exact byte."""
    content = Content(4 * MIB, 9)
    with Origin() as origin:
        origin.put("/f", content, Behaviour(rate=MIB))
        with worker(rabbit, tmp_path / "w", backend=results.url) as running:
            sent = running.send("async_body", origin.url("/f"), str(tmp_path / "f"))
            until(lambda: origin.body_bytes_sent("/f") > MIB)
            running.signal(signal.SIGTERM)
            running.wait()
            [download] = rows(running.state, "download")
            assert (download.state, download.progress_done > 0) == (State.PAUSED, True)
        with worker(rabbit, tmp_path / "w", backend=results.url, queue=running.queue):
            assert sent.get(timeout=60)["resumed"] == download.progress_done
        assert is_right(tmp_path / "f", content)


def kill_one(running: Worker) -> None:
    """Kill a child that has begun a task."""
    begun = {int(entry[0]) for entry in running.entries("begin")}
    next(child for child in running.children() if child.pid in begun).kill()
