"""The application that the tests' workers run (``celery -A tests.celery_app worker``), told by its environment."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from celery import Celery

from recovery.celery import current_run, recoverable_task
from recovery.celery.decorator import runtimes_for
from recovery.policy import RetryPolicy
from recovery.steps import current_operation, current_sync_operation
from resumable import Options
from resumable.celery import WorkerOptions, configure, download, resumable_task
from resumable.celery.runtime import runtimes_of

STATE = Path(os.environ.get("TEST_STATE") or Path(tempfile.mkdtemp()) / "state.db")
DIARY = Path(os.environ.get("TEST_DIARY", os.devnull))

OPTIONS = WorkerOptions(
    state=STATE,
    options=Options(connections=1),
    policy=RetryPolicy(base=0.2, cap=2.0, max_no_progress=20, max_attempts=500),
    reconcile_every_s=1.0,
)

app = Celery("tests", broker=os.environ.get("TEST_BROKER"), backend=os.environ.get("TEST_BACKEND"))
if os.environ.get("TEST_TASKS_FIRST"):  # an application that has tasks of its own before it hears of downloads
    runtimes_for(app, STATE)
configure(app, OPTIONS)
app.conf.update(json.loads(os.environ.get("TEST_CONF", "{}")))


def note(*words: object) -> None:
    """Add a line to the diary that the test reads; one write, so lines of several processes do not mix."""
    with DIARY.open("a") as file:
        file.write(" ".join(map(str, (os.getpid(), *words))) + "\n")


@app.task(name="empty")  # type: ignore[untyped-decorator]
def empty() -> int:
    """Do nothing."""
    return os.getpid()


@app.task(name="nap")  # type: ignore[untyped-decorator]
def nap(seconds: float) -> float:
    """Hold a slot."""
    time.sleep(seconds)
    return time.time()


@resumable_task(app, name="async_body")
async def async_body(url: str, dest: str) -> dict[str, Any]:
    """Await a download."""
    note("begin", dest)
    result = await download(url, dest)
    note("end", dest)
    return {"size": result.size, "resumed": result.bytes_resumed}


@resumable_task(app, name="sync_body")
def sync_body(url: str, dest: str) -> dict[str, Any]:
    """Wait for a download in an ordinary function."""
    note("begin", dest)
    result = download(url, dest).get()
    note("end", dest)
    return {"size": result.size, "resumed": result.bytes_resumed}


@app.task(name="plain_body", acks_late=True, reject_on_worker_lost=True)  # type: ignore[untyped-decorator]
def plain_body(url: str, dest: str) -> dict[str, Any]:
    """Use a download in somebody's own task."""
    note("begin", dest)
    result = download(url, dest).get()
    note("end", dest)
    return {"size": result.size, "resumed": result.bytes_resumed}


@resumable_task(app, name="two_files")
async def two_files(urls: list[str], dests: list[str]) -> list[int]:
    """Download several files at once, one of which may have to wait."""
    note("begin", *dests)
    results = await asyncio.gather(*(download(url, dest) for url, dest in zip(urls, dests, strict=True)))
    note("end", *dests)
    return [result.size for result in results]


@resumable_task(app, name="sleeper")
async def sleeper(name: str, seconds: float) -> str:
    """Take a while without any download."""
    note("begin", name)
    await asyncio.sleep(seconds)
    note("end", name)
    return name


@recoverable_task(app, state=STATE, name="flaky", policy=RetryPolicy(base=0.1, cap=0.2), key=lambda path, _: path)
async def flaky(path: str, failures: int) -> int:
    """Fail a number of times, then succeed; without any download."""
    run = current_run.get()
    assert run is not None
    assert run.attempt is not None
    note("attempt", run.attempt.number)
    if run.attempt.number <= failures:
        raise ConnectionResetError("the service hung up")
    return run.attempt.number


@recoverable_task(app, state=STATE, name="ordinary", policy=RetryPolicy(base=0.1, cap=0.2))
def ordinary(failures: int) -> int:
    """Do the same in an ordinary function, in the task's own thread."""
    run = current_run.get()
    assert run is not None
    assert run.attempt is not None
    note("attempt", run.attempt.number)
    if run.attempt.number <= failures:
        raise ConnectionResetError("the service hung up")
    return run.attempt.number


@resumable_task(app, name="poison")
async def poison() -> None:
    """Kill the process that runs it."""
    note("begin", "poison")
    os.kill(os.getpid(), 9)


@resumable_task(app, name="poison_after")
async def poison_after(url: str, dest: str) -> None:
    """Have a file, then kill the process; slowly enough for the message to be kept."""
    await download(url, dest)
    note("begin", "poison_after")
    await asyncio.sleep(1.0)
    os.kill(os.getpid(), 9)


STEPS: dict[str, Any] = {
    "state": STATE,
    "policy": RetryPolicy(base=0.1, cap=0.2, max_no_progress=1),
    "key": lambda name, _: name,
}


def take_back(name: str) -> None:
    """Undo a step."""
    note("undo", name)


def do_step(name: str, number: int, how: str) -> str:
    """Do a step; the second one kills its process once, or fails for good."""
    note("step", name, number)
    if number == 2 and how == "die" and not (DIARY.parent / f"{name}.died").exists():
        (DIARY.parent / f"{name}.died").touch()
        os.kill(os.getpid(), 9)
    if number == 3 and how == "fail":
        raise ValueError(name)
    return f"{name}-{number}"


@recoverable_task(app, name="async_steps", **STEPS)
async def async_steps(name: str, how: str) -> list[str]:
    """Go through three steps, the first of which is waited for."""
    op = current_operation()
    await asyncio.sleep(0)
    return [await op.step(f"{n}", partial(do_step, name, n, how), undo=take_back) for n in (1, 2, 3)]


@recoverable_task(app, name="sync_steps", **STEPS)
def sync_steps(name: str, how: str) -> list[str]:
    """Do the same in an ordinary function."""
    op = current_sync_operation()
    return [op.step(f"{n}", partial(do_step, name, n, how), undo=take_back) for n in (1, 2, 3)]


def close() -> None:
    """Close what eager tasks have opened in this process."""
    runtimes_of(app).close()
    runtimes_for(app, STATE).close()
    app.conf["resumable"] = OPTIONS
