"""How long does it take to write state down: one process, eight at once, and a whole durable operation?

    python -m benchmarks.writes [--count 2000] [--seconds 20] [--quick] [--json]

A write is one change of an operation's row, from the call until its commit is on disk (``synchronous=FULL``). Eight
processes make 20 of them a second each, in one file; afterwards every row must be there and SQLite's integrity check
pass. A durable operation is ``Supervisor.run`` of a function that returns at once: its intent with its claim, and its
end. The disk is that of the temporary files (TMPDIR); the same in memory (/dev/shm) tells our share from the disk's.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import Bar, Cell, answer, options, say
from recovery.database import Database
from recovery.journal import JOURNAL, Journal
from recovery.records import Change, OperationSpec
from recovery.states import State
from recovery.supervisor import Attempt, Supervisor

QUESTION = "How long does it take to write state down?"
PROCESSES = 8
PER_SECOND = 20
MEMORY = Path("/dev/shm")


def share(samples: Sequence[float], part: float) -> float:
    """Return the sample below which this part of all lies."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def row(what: str, samples: Sequence[float]) -> dict[str, Cell]:
    """Return the figures of one series of seconds, in milliseconds."""
    figures = {"p50 ms": share(samples, 0.5), "p99 ms": share(samples, 0.99), "max ms": max(samples)}
    return {"what": what, "count": len(samples), **{name: round(value * 1000, 3) for name, value in figures.items()}}


def floor(folder: Path, count: int) -> list[float]:
    """Time what the disk needs at least: 4 KiB appended to a file, and fdatasync."""
    samples = []
    descriptor = os.open(folder / "floor", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for _ in range(count):
            began = time.perf_counter()
            os.write(descriptor, b"x" * 4096)
            os.fdatasync(descriptor)
            samples.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
    return samples


async def one_process(path: Path, count: int) -> list[float]:
    """Time single changes of one operation's row."""
    samples = []
    async with await Database.open(path, [JOURNAL]) as database:
        journal = Journal(database)
        spec = OperationSpec(kind="bench", key="one")
        operation, generation = await journal.begin_and_claim(spec, owner="bench", ttl_s=3600, now=time.time())
        assert generation is not None
        for number in range(count):
            state = State.WAITING if number % 2 else State.RUNNING
            began = time.perf_counter()
            await journal.record(
                operation.operation_id, generation, Change(state=state, progress=(number, count), now=time.time())
            )
            samples.append(time.perf_counter() - began)
    return samples


async def operations(path: Path, count: int) -> list[float]:
    """Time whole durable operations, less than nothing in them."""

    async def nothing(_: Attempt) -> int:
        return 0

    samples = []
    async with await Database.open(path, [JOURNAL]) as database:
        supervisor = Supervisor(Journal(database))
        for number in range(count):
            spec = OperationSpec(kind="bench", key=str(number))
            began = time.perf_counter()
            await supervisor.run(spec, nothing)
            samples.append(time.perf_counter() - began)
    return samples


async def writer(path: Path, name: str, count: int) -> list[float]:
    """Begin operations at a steady rate, with a little irregularity; time each."""
    samples = []
    async with await Database.open(path, [JOURNAL]) as database:
        journal = Journal(database)
        await journal.begin(OperationSpec(kind="bench", key=f"{name} is here"))
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        due = time.perf_counter() + random.random() / PER_SECOND
        for number in range(count):
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            due += (0.5 + random.random()) / PER_SECOND
            began = time.perf_counter()
            await journal.begin(OperationSpec(kind="bench", key=f"{name} {number}"))
            samples.append(time.perf_counter() - began)
        assert database.health.value == "ok", database.health_reason
    return samples


def many_processes(path: Path, seconds: int) -> tuple[list[float], int, str]:
    """Let eight processes write at once; return their samples, how many rows are missing, and the integrity check."""
    count = seconds * PER_SECOND
    code = (
        "import asyncio, json, pathlib, sys; from benchmarks.writes import writer;"
        "print(json.dumps(asyncio.run(writer(pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))))"
    )
    commands = [[sys.executable, "-c", code, str(path), str(number), str(count)] for number in range(PROCESSES)]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for command in commands
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    samples: list[float] = []
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        out, _ = child.communicate()
        if child.returncode:
            msg = f"a writer ended with {child.returncode}"
            raise RuntimeError(msg)
        samples += json.loads(out)
    conn = sqlite3.connect(path)
    try:
        there = conn.execute("SELECT count(*) FROM operations").fetchone()[0]
        check = str(conn.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        conn.close()
    return samples, PROCESSES * (count + 1) - int(there), check


def measure(
    where: Path | None, count: int, seconds: int, suffix: str
) -> tuple[list[dict[str, Cell]], tuple[list[float], list[float], list[float]], int, str]:
    """Measure everything on one disk; return the rows, the series that are judged, lost rows, and the check."""
    with tempfile.TemporaryDirectory(prefix="bench-writes-", dir=where) as name:
        folder = Path(name)
        say(f"the disk by itself{suffix}")
        least = floor(folder, count)
        say(f"one process{suffix}")
        single = asyncio.run(one_process(folder / "one.db", count))
        say(f"durable operations{suffix}")
        whole = asyncio.run(operations(folder / "operations.db", count // 2))
        say(f"{PROCESSES} processes{suffix}")
        many, missing, check = many_processes(folder / "many.db", seconds)
    rows = [
        row(f"4 KiB and fdatasync, without a database{suffix}", least),
        row(f"write, one process{suffix}", single),
        row(f"durable operation (2 writes){suffix}", whole),
        row(f"write, {PROCESSES} processes at {PER_SECOND}/s each{suffix}", many),
    ]
    return rows, (single, whole, many), missing, check


def main() -> int:
    """Run and report."""
    given = options(__doc__, count=(2000, 200), seconds=(20, 2))
    rows = []
    if MEMORY.is_dir():
        rows += measure(MEMORY, given.count, given.seconds, " in memory")[0]
    found, (single, whole, many), missing, check = measure(None, given.count, given.seconds, "")
    rows += found
    return answer(
        "writes",
        QUESTION,
        given,
        rows=rows,
        bars=[
            Bar(name="write, one process, p99", value=_ms(share(single, 0.99)), limit=10, unit="ms"),
            Bar(name=f"write, {PROCESSES} processes, max", value=_ms(max(many)), limit=50, unit="ms"),
            Bar(name="any write, max", value=_ms(max(*single, *many)), limit=100, unit="ms", promise=True),
            Bar(name="durable operation, p99", value=_ms(share(whole, 0.99)), limit=2, unit="ms"),
            Bar(name="rows lost", value=missing, limit=0, unit="rows", promise=True),
            Bar(name="integrity check failed", value=float(check != "ok"), limit=0, unit="files", promise=True),
        ],
        caveats=[
            f"SQLite {sqlite3.sqlite_version}; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
            "maxima are at the mercy of whatever else runs on the machine",
        ],
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


if __name__ == "__main__":
    raise SystemExit(main())
