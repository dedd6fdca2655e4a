"""Many files through a worker whose children are killed; many waits that hold no slot; two hosts on one broker."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from celery.result import AsyncResult

from recovery.states import State
from tests.origin import Behaviour, Content, End, Origin, Seen
from tests.workers import Broker, Worker, broker, rows, until, worker

pytestmark = [pytest.mark.blocking, pytest.mark.campaign]

LONG = os.environ.get("RESUMABLE_LONG") == "1"
KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture(scope="module")
def running_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Run one broker for all of them."""
    with broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


def overlaps(seen: Sequence[Seen]) -> list[tuple[float, float]]:
    """Return by how much requests for one file overlapped, each with when. A killed client's request ends when the
    origin's next write fails: that is no transfer any more.
    """
    ordered = sorted(seen, key=lambda one: one.at)
    return [
        (before.ended_at - after.at, after.at)
        for before, after in pairwise(ordered)
        if before.ended_at is not None and before.ended_at - after.at > 0.3
    ]


@pytest.mark.timeout(900)
def test_files_through_children_that_die(running_broker: Broker, tmp_path: Path) -> None:
    """Cuts, refusals, and kill -9 of a child every few seconds: right files, one transfer of each at a time, and what
    is fetched twice stays within a tick and the socket's buffers per death.
    """
    files, size, every_s, rate = (100, 4 * MIB, 3.0, 2 * MIB) if LONG else (12, MIB, 1.0, MIB)
    tick = rate // 2
    chance = random.Random(7)
    contents = {f"f{number}": Content(size, number) for number in range(files)}
    with Origin() as origin, worker(running_broker.url, tmp_path / "w", concurrency=4) as running:
        cuts = 0
        for name, content in contents.items():
            script = [Behaviour(rate=rate)]
            if chance.random() < 0.5:
                script.insert(0, Behaviour(rate=rate, cut_at=chance.randrange(64 * KIB, size), cut=End.FIN))
                cuts += 1
            if chance.random() < 0.3:
                script.insert(0, Behaviour(status=503, retry_after=1))
            origin.put(f"/{name}", content, Behaviour(rate=rate), script=script)
        results = {
            name: running.send("resumable.fetch", origin.url(f"/{name}"), str(tmp_path / name)) for name in contents
        }
        deaths = 0
        began = next_kill = time.monotonic()
        while not all((tmp_path / name).exists() for name in contents):
            missing = [name for name in contents if not (tmp_path / name).exists()]
            assert time.monotonic() - began < (600 if LONG else 90), what_became_of(running, results, missing)
            time.sleep(0.05)
            busy = {entry.pid for entry in running.children()}
            if time.monotonic() - next_kill > every_s and busy and origin.open_connections:
                next_kill = time.monotonic()
                child = chance.choice(running.children())
                child.kill()
                deaths += 1
        found = {name: result.get(timeout=60) for name, result in results.items()}
        took = time.monotonic() - began
    wrong = [name for name in contents if digest(tmp_path / name) != contents[name].sha256()]
    twice = {name: origin.body_bytes_sent(f"/{name}") - size for name in contents}
    double = {name: overlaps(origin.seen(f"/{name}")) for name in contents}
    print(
        f"{files} files of {size // KIB} KiB, {deaths} deaths, {cuts} cuts, {took:.0f} s;"
        f" fetched twice: {sum(twice.values()) // KIB} KiB in all, {max(twice.values()) // KIB} KiB at most of one file"
    )
    assert wrong == []
    assert {name: [] for name in contents} == double
    assert {name: one["size"] for name, one in found.items()} == dict.fromkeys(contents, size)
    assert deaths >= (10 if LONG else 2)
    assert sum(twice.values()) <= deaths * (tick + MIB) + files  # and the looks at finished files: a byte each
    assert min(twice.values()) >= 0
    states = {row.state for row in rows(running.state, "download")} | {row.state for row in rows(running.state, "task")}
    assert states == {State.COMPLETE}


def what_became_of(running: Worker, results: Mapping[str, AsyncResult], names: Sequence[str]) -> list[str]:
    """Return what broker and state file say of some files, for whoever has to find out why they are not there."""
    found = []
    for name in names:
        found.append(f"{name}: {results[name].state}")
        for row in [*rows(running.state, "task"), *rows(running.state, "download")]:
            if row.args.get("id") == results[name].id or row.key.endswith(f"/{name}"):
                found.append(f"  {row.kind} {row.state.value} {row.code} deaths {row.deaths} next {row.next_at}")
                found.append(f"  done {row.progress_done} at death {row.progress_at_death} updated {row.updated_at}")
    return [*found, f"now {time.time()}"]


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.timeout(300 if LONG else 120)
def test_fifty_waits_hold_no_slot(running_broker: Broker, tmp_path: Path) -> None:
    """While all of them wait for a Retry-After of 60 s (short form: 15 s), other tasks run in every slot at once."""
    waits_s, slots = (60, 4) if LONG else (15, 4)
    names = [f"f{number}" for number in range(50)]
    with Origin() as origin, worker(running_broker.url, tmp_path / "w", concurrency=slots) as running:
        for number, name in enumerate(names):
            origin.put(f"/{name}", Content(64 * KIB, number), Behaviour(status=503, retry_after=waits_s))
        results = [running.send("resumable.fetch", origin.url(f"/{name}"), str(tmp_path / name)) for name in names]

        def waiting() -> int:
            return sum(row.state is State.WAITING for row in rows(running.state, "task"))

        # Few of them ask at all: the others learn from the host's gate that there is no use.
        until(lambda: waiting() == 50, timeout_s=60)
        asked = len(origin.requests)
        naps = [running.send("nap", 0.5) for _ in range(3 * slots)]
        ends = [nap.get(timeout=40) for nap in naps]
        at_once = max(sum(end - 0.5 <= moment < end for end in ends) for moment in [end - 0.01 for end in ends])
        assert (at_once, waiting(), len(origin.requests)) == (slots, 50, asked)
        for name in names:
            origin.behave(f"/{name}", Behaviour())
        assert [result.get(timeout=waits_s + 90)["size"] for result in results] == [64 * KIB] * 50
        assert asked <= 10


@pytest.fixture(scope="module")
def hosts(running_broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Worker, Worker]]:
    """Run two workers that share nothing but the broker."""
    folder = tmp_path_factory.mktemp("hosts")
    with worker(running_broker.url, folder / "red") as red, worker(running_broker.url, folder / "blue") as blue:
        yield red, blue


def test_two_hosts(hosts: tuple[Worker, Worker], tmp_path: Path) -> None:
    """A state file and a queue for each host: each one's downloads are its own, and its files are on its disk."""
    red, blue = hosts
    with Origin() as origin:
        origin.put("/file", Content(MIB, 3), script=[Behaviour(status=503, retry_after=3)])
        places = {red: tmp_path / "red", blue: tmp_path / "blue"}
        results = [host.send("resumable.fetch", origin.url("/file"), str(dest)) for host, dest in places.items()]
        assert [result.get(timeout=30)["path"] for result in results] == [str(dest) for dest in places.values()]
        for host, dest in places.items():
            [row] = rows(host.state, "download")
            assert row.key.endswith(str(dest))
            assert [task.state for task in rows(host.state, "task")] == [State.COMPLETE]
            assert digest(dest) == Content(MIB, 3).sha256()


def test_two_hosts_and_one_place_on_a_shared_disk(hosts: tuple[Worker, Worker], tmp_path: Path) -> None:
    """Neither knows of the other's state file, but the lock on the part file lets one write only: the other one fails
    and says why, and once the file is there and its digest is given, it is found there.
    """
    red, blue = hosts
    with Origin() as origin:
        content = Content(6 * MIB, 3)
        origin.put("/file", content, Behaviour(rate=MIB))
        dest, given = tmp_path / "shared.bin", {"sha256": content.sha256()}
        first = red.send("resumable.fetch", origin.url("/file"), str(dest), **given)
        origin.wait_for(lambda: origin.body_bytes_sent("/file") > MIB // 2)
        second = blue.send("resumable.fetch", origin.url("/file"), str(dest), **given)
        with pytest.raises(Exception, match="in use by another download or process"):
            second.get(timeout=30)
        assert first.get(timeout=30)["size"] == content.size
        requests = len(origin.requests)
        again = blue.send("resumable.fetch", origin.url("/file"), str(dest), **given).get(timeout=30)
        assert (again["size"], again["bytes_received"]) == (content.size, 0)
        assert digest(dest) == content.sha256()
        assert len(origin.requests) == requests
