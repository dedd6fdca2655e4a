"""Watchers: what parked work waits for is looked at for real, and clears for real."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from recovery.supervisor import Supervisor
from recovery.testing import FakeClock
from recovery.verdict import Condition
from recovery.watchers import has_descriptors, has_network, has_room, standard_watchers
from tests.mounts import mounted
from tests.supervising import AT_ONCE, Recorder, Script, eventually, spec

ROOT = Path(__file__).resolve().parents[2]
UNREACHABLE = OSError(errno.ENETUNREACH, "Network is unreachable")
NO_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


# --- a disk ---


async def test_parked_by_a_full_disk_until_there_is_room(tmp_path: Path) -> None:
    """A real ENOSPC parks; as soon as something is deleted, the write is made, and no attempt was counted."""
    with mounted("tmpfs", tmp_path / "disk", "size=32m") as disk:
        ballast, events = disk / "ballast", Recorder()
        ballast.write_bytes(bytes(30 << 20))

        async def write(_: object) -> str:
            with await asyncio.to_thread(open, disk / "model", "wb") as file:
                try:
                    await asyncio.to_thread(file.write, bytes(8 << 20))
                    await asyncio.to_thread(file.flush)
                except OSError as exc:
                    raise OSError(exc.errno, exc.strerror, str(disk / "model")) from exc
            return "written"

        supervisor = Supervisor(clock=FakeClock(auto=True), on_event=events)
        task = asyncio.create_task(supervisor.run(spec(policy=AT_ONCE), write))
        await eventually(lambda: events.steps[-1:] == ["parked"])
        await asyncio.sleep(0.05)
        assert not task.done()
        await asyncio.to_thread(ballast.unlink)
        assert await task == "written"
    assert events.steps == ["running", "parked", "running", "complete"]
    assert events[1].verdict is not None
    assert events[1].verdict.condition is Condition.DISK_SPACE
    assert [event.no_progress for event in events] == [0, 0, 0, 0]


async def test_room_is_looked_for_where_the_file_is(tmp_path: Path) -> None:
    """The file system of the exception's file counts, whether or not the file exists; without one nobody can tell."""
    with mounted("tmpfs", tmp_path / "disk", "size=24m") as disk:
        full = [
            OSError(errno.ENOSPC, "full", str(disk / "no folder" / "file")),
            OSError(errno.EDQUOT, "full", os.fsencode(disk)),
        ]
        assert [await has_room(error) for error in full] == [True, True]
        (disk / "ballast").write_bytes(bytes(9 << 20))
        assert [await has_room(error) for error in full] == [False, False]
    assert await has_room(OSError(errno.ENOSPC, "full"))
    assert await has_room(OSError(errno.ENOSPC, "full", "gone/entirely"))


# --- file descriptors ---


async def test_descriptors_are_tried_and_given_back() -> None:
    """With no descriptor to spare the watcher says so, with some it does, and it keeps none."""
    before = len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert await has_descriptors()
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + 3, hard))
    try:
        assert not await has_descriptors()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert await has_descriptors()
    assert len(os.listdir("/proc/self/fd")) == before


REFUSALS = [(errno.ENETUNREACH, False), (errno.EADDRNOTAVAIL, False), (errno.EMFILE, True), (None, True)]


@pytest.mark.parametrize(("number", "expected"), REFUSALS)
async def test_only_a_missing_route_is_no_network(
    monkeypatch: pytest.MonkeyPatch, number: int | None, expected: bool
) -> None:
    """A look that fails for another reason sees nothing, and strands nobody."""

    class Probe(socket.socket):
        def connect(self, _: object) -> None:
            if number is not None:
                raise OSError(number, "no")

    monkeypatch.setattr(socket, "socket", Probe)
    assert await has_network() is expected


async def test_parked_without_descriptors_until_some_are_closed() -> None:
    """EMFILE parks too, and ends without an attempt counted."""
    events = Recorder()
    supervisor = Supervisor(clock=FakeClock(auto=True), on_event=events)
    script = Script(OSError(errno.EMFILE, "Too many open files"), "opened")
    assert await supervisor.run(spec(policy=AT_ONCE), script) == "opened"
    assert events.steps == ["running", "parked", "running", "complete"]


# --- a network ---

NETWORK = [
    ("a network that is not there", UNREACHABLE, False, "offline"),
    ("a name that nobody can look up", NO_NAME, False, "offline"),
    ("one network that is not there, ours is", UNREACHABLE, True, "network-unreachable"),
    ("a mistyped name", NO_NAME, True, "name-not-found"),
    ("a server that refuses", ConnectionRefusedError(), False, "connection-lost"),
]


@pytest.mark.parametrize(("_name", "error", "up", "code"), NETWORK)
async def test_offline_is_told_from_a_server_that_is_not_there(
    _name: str, error: Exception, up: bool, code: str
) -> None:
    """What could be the computer's own network is, when there is no way out of it: then it is parked, not counted."""
    events, asked = Recorder(), []

    async def watcher(seen: BaseException) -> bool:
        asked.append(seen)
        return up or len(asked) > 3

    supervisor = Supervisor(clock=FakeClock(auto=True), on_event=events, watchers={Condition.NETWORK: watcher})
    assert await supervisor.run(spec(policy=AT_ONCE), Script(error, "there")) == "there"
    assert events[1].verdict is not None
    assert events[1].verdict.code == code
    if code == "offline":
        assert (asked, events[1].no_progress) == ([error] * 4, 0)


IN_A_NETWORK_OF_ITS_OWN = """
import asyncio, socket, subprocess
from recovery.policy import RetryPolicy
from recovery.records import OperationSpec
from recovery.supervisor import Supervisor
from recovery.watchers import has_network

def ip(*words):
    subprocess.run(["ip", *words], check=True)

async def attempt(_):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
        there.connect(("198.51.100.7", 9))
    return "went out"

async def main():
    print(await has_network())
    states = []
    def told(event):
        states.append(event.state.value if event.verdict is None else event.verdict.code)
        if event.state.value == "parked":
            ip("link", "set", "lo", "up")
            ip("route", "add", "default", "dev", "lo")
    supervisor = Supervisor(on_event=told, draw=lambda: 0.0)
    spec = OperationSpec(kind="test", key="x", policy=RetryPolicy(max_no_progress=1))
    print(await supervisor.run(spec, attempt))
    print(*states)
    print(await has_network())

asyncio.run(main())
"""


def test_a_computer_without_network_that_gets_one(tmp_path: Path) -> None:
    """In a network namespace without routes a real ENETUNREACH parks; a default route wakes the work."""
    script = tmp_path / "alone.py"
    script.write_text(IN_A_NETWORK_OF_ITS_OWN)
    probe = subprocess.run(["sh", "-c", "unshare -n ip link"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        if os.environ.get("CI") == "true" and os.geteuid() == 0:
            pytest.fail(f"no network namespaces: {probe.stderr}")
        pytest.skip(f"no network namespaces: {probe.stderr.strip()}")
    command = ["unshare", "-n", sys.executable, str(script)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=30, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.stdout.split("\n")[:4] == ["False", "went out", "running offline running complete", "True"], done.stderr


def test_the_standard_ones_are_there() -> None:
    """A supervisor that is told nothing watches what can be watched."""
    assert set(standard_watchers()) == {Condition.DISK_SPACE, Condition.NETWORK, Condition.DESCRIPTORS}
