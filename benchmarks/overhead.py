"""What does a call cost that succeeds: recoverable, tenacity, stamina, backoff, in memory; durable; and what a project?

    python -m benchmarks.overhead [--rounds 15] [--calls 5000] [--durable 1000] [--projects 100] [--quick] [--json]

In memory the contestants are called in turns, each round beginning with another one; what a call of the bare function
costs is in its own row and not taken off. Durable is ``@recoverable(journal=path, key=...)``: intent and end on disk
(``synchronous=FULL``), alone and with a step. A project is 50 operations that ended and one that runs, with history and
steps: resident memory and bytes in the state file, after pruning.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import backoff
import stamina
import tenacity

from benchmarks.memory import _resident
from benchmarks.report import Bar, Cell, answer, options, say
from benchmarks.samples import Samples, interleave, spread
from benchmarks.writes import row, share
from recovery import JOURNAL, Database, Journal, OperationSpec, RetryPolicy, Supervisor, current_operation, recoverable
from recovery.control import Attempt

QUESTION = "What does a call cost that succeeds?"
MB = 1_000_000
STEPS = 9


async def work(number: int) -> int:
    """Be called; the least an async function can do."""
    return number


def blocking_work(number: int) -> int:
    """Be called without async."""
    return number


def decorated(function: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """Return the function as each library makes it: a few tries, exponential waits, the errors of a network."""
    with_tenacity = tenacity.retry(
        stop=tenacity.stop_after_attempt(4),
        wait=tenacity.wait_exponential_jitter(),
        retry=tenacity.retry_if_exception_type(OSError),
    )
    policy = RetryPolicy(attempt_timeout_s=60.0)
    made: dict[str, Callable[..., Any]] = {
        "bare function": function,
        "recoverable": recoverable(function),
        "backoff": backoff.on_exception(backoff.expo, OSError, max_tries=4)(function),
        "stamina": stamina.retry(on=OSError, attempts=4)(function),
        "tenacity": with_tenacity(function),
    }
    if inspect.iscoroutinefunction(function):
        made["recoverable, each attempt timed"] = recoverable(policy=policy)(function)
    return made


def timed(function: Callable[..., Any], calls: int) -> float:
    """Return the microseconds of one call, of so many in a row."""
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__wrapped__", None)):

        async def run() -> float:
            began = time.perf_counter()
            for number in range(calls):
                await function(number)
            return time.perf_counter() - began

        return asyncio.run(run()) / calls * 1e6
    began = time.perf_counter()
    for number in range(calls):
        function(number)
    return (time.perf_counter() - began) / calls * 1e6


def in_memory(rounds: int, calls: int) -> tuple[list[dict[str, Cell]], dict[str, Samples]]:
    """Measure all contestants, async and not."""
    contestants: dict[str, Callable[[], float]] = {}
    for kind, function in (("async", work), ("blocking", blocking_work)):
        for name, made in decorated(function).items():
            contestants[f"{name}, {kind}"] = partial(timed, made, calls)
    for once in contestants.values():
        once()  # nobody pays for the first time
    samples = interleave(contestants, rounds)
    rows: list[dict[str, Cell]] = [
        {"what": each.name, "count": rounds, "µs": round(each.median, 2), "spread": f"{spread(each.values):.0%}"}
        for each in samples.values()
    ]
    return rows, samples


async def durable(path: Path, count: int) -> tuple[list[float], list[float]]:
    """Time durable calls by themselves, and steps inside one each."""

    @recoverable(journal=path, key="{number}")
    async def nothing(number: int) -> int:
        return number

    steps: list[float] = []

    @recoverable(journal=path, key="steps of {number}")
    async def stepping(number: int) -> None:
        for step in range(STEPS):
            began = time.perf_counter()
            await current_operation().step(f"step {step}", lambda: number)
            steps.append(time.perf_counter() - began)

    await nothing(-1)
    samples = []
    for number in range(count):
        began = time.perf_counter()
        await nothing(number)
        samples.append(time.perf_counter() - began)
    for number in range(max(1, count // STEPS)):
        await stepping(number)
    return samples, steps


async def projects(path: Path, count: int) -> dict[str, int]:
    """Return what so many projects take up, in resident bytes and in the file, counted after a first one."""
    async with await Database.open(path, [JOURNAL]) as database:
        journal = Journal(database)
        supervisor = Supervisor(journal)
        held = asyncio.Event()
        running: set[asyncio.Task[Any]] = set()

        async def hold(attempt: Attempt) -> None:
            attempt.progress(1, 2)
            await held.wait()

        async def fill(name: str) -> None:
            @recoverable(journal=supervisor, key=f"{name}/{{number}}", project=name, policy=RetryPolicy(base=0.0))
            async def operation(number: int) -> None:
                op = current_operation()
                await op.step("fetch", lambda: {"path": f"/models/{name}/{number}.safetensors", "size": 6_938_040_682})
                if op.attempt == 1:
                    raise ConnectionResetError("Cannot write to closing transport")

            for number in range(50):
                await operation(number)
            spec = OperationSpec(kind="hold", key=name, project=name, title=f"Import of {name}")
            running.add(asyncio.create_task(supervisor.run(spec, hold)))

        await fill("the first")
        await asyncio.sleep(0.5)
        before, in_file = _resident(), _pages(path)
        for number in range(count):
            await fill(f"project {number}")
        await journal.prune(older_than=0.0)
        await asyncio.sleep(0.5)
        found = {"resident": _resident() - before, "file": _pages(path) - in_file}
        held.set()
        await asyncio.gather(*running)
    return found


def _pages(path: Path) -> int:
    return sum(Path(f"{path}{end}").stat().st_size for end in ("", "-wal") if Path(f"{path}{end}").exists())


def project_cost(count: int) -> dict[str, int]:
    """Measure ``projects`` in a process of its own, whose memory is nobody else's."""
    with tempfile.TemporaryDirectory(prefix="bench-projects-") as folder:
        code = (
            "import asyncio, json, pathlib, sys; from benchmarks.overhead import projects;"
            "print(json.dumps(asyncio.run(projects(pathlib.Path(sys.argv[1]), int(sys.argv[2])))))"
        )
        command = [sys.executable, "-c", code, f"{folder}/state.db", str(count)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found: dict[str, int] = json.loads(done.stdout)
        return found


def durable_cost(count: int) -> tuple[list[float], list[float]]:
    """Measure ``durable`` on the disk of the temporary files."""
    with tempfile.TemporaryDirectory(prefix="bench-overhead-") as folder:
        run: Awaitable[tuple[list[float], list[float]]] = durable(Path(folder) / "state.db", count)
        return asyncio.run(run)  # type: ignore[arg-type]  # it is a coroutine


def main() -> int:
    """Run and report."""
    given = options(__doc__, rounds=(15, 3), calls=(5_000, 500), durable=(1_000, 100), projects=(100, 5))
    rows, samples = in_memory(given.rounds, given.calls)
    say("durable calls")
    calls, steps = durable_cost(given.durable)
    say("projects")
    cost = project_cost(given.projects)
    rows += [row("durable call (2 writes)", calls), row("durable step (1 write)", steps)]
    for name, value in cost.items():
        what = {"resident": "resident memory", "file": "state file"}[name]
        rows.append(
            {"what": f"a project, {what}", "count": given.projects, "kB": round(value / given.projects / 1000, 1)}
        )
    ours, bare = samples["recoverable, async"], samples["bare function, async"]
    blocking = samples["recoverable, blocking"]
    return answer(
        "overhead",
        QUESTION,
        given,
        rows=rows,
        bars=[
            Bar(name="in memory, async, median", value=round(ours.median - bare.median, 2), limit=10, unit="µs"),
            Bar(name="in memory, blocking, median", value=round(blocking.median, 2), limit=10, unit="µs"),
            Bar(name="durable call, p99", value=round(share(calls, 0.99) * 1000, 3), limit=2, unit="ms"),
            Bar(name="any call, max", value=round(max(calls) * 1000, 3), limit=50, unit="ms", promise=True),
            Bar(name="memory of a project", value=round(cost["resident"] / given.projects / MB, 3), limit=1, unit="MB"),
            Bar(
                name="memory of a project, promised",
                value=round(cost["resident"] / given.projects / MB, 3),
                limit=5,
                unit="MB",
                promise=True,
            ),
            Bar(name="state file of a project", value=round(cost["file"] / given.projects / MB, 3), limit=1, unit="MB"),
        ],
        caveats=[
            f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, Python {sys.version.split()[0]}",
            f"tenacity {_version('tenacity')}, stamina {_version('stamina')}, backoff {_version('backoff')}",
            "spread is half the distance of the quartiles by the median",
        ],
        extra={name: list(each.values) for name, each in samples.items()},
    )


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


if __name__ == "__main__":
    raise SystemExit(main())
