"""One table: every pool and every kind of body gets the file, through a cut and through a wait that frees the slot."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from msgspec.structs import replace

from recovery import run as run_module
from recovery.celery.decorator import body_of
from recovery.celery.endings import Ending, How, TaskCall
from recovery.celery.runtime import JournalRuntime
from recovery.celery.taskrun import TaskRun
from recovery.loopthread import Visit, process_loop
from recovery.policy import RetryPolicy
from recovery.states import State
from resumable.celery import DownloadFailed, download, resumable_task
from tests import celery_app
from tests.origin import Behaviour, Content, Origin
from tests.workers import Broker, broker, rows, worker

pytestmark = pytest.mark.blocking

SIZE = 3 << 20
POOLS = {"prefork": 2, "threads": 4, "gevent": 4, "solo": 1}
BODIES = {
    "async_body": lambda found: found["size"],
    "sync_body": lambda found: found["size"],
    "plain_body": lambda found: found["size"],
    "resumable.fetch": lambda found: found["size"],
    "resumable.fetch_many": lambda found: found["bytes"],
}


@pytest.fixture(scope="module")
def running_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Run one broker for all of them."""
    with broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def eager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """Use the tests' application in this process, on a state file of this test."""
    monkeypatch.setattr(celery_app, "DIARY", tmp_path / "diary")
    celery_app.app.conf["resumable"] = replace(celery_app.OPTIONS, state=tmp_path / "state.db")
    yield celery_app.app
    celery_app.close()


def arguments(body: str, url: str, dest: Path) -> tuple[Any, ...]:
    """Return what a body is called with."""
    return ([{"url": url, "dest": str(dest)}],) if body == "resumable.fetch_many" else (url, str(dest))


LONG = os.environ.get("RESUMABLE_LONG") == "1"


def refused(origin: Origin, body: str) -> bool:
    """Return whether a body's second request has come."""
    return len(origin.seen(f"/{body}")) >= 2


@pytest.mark.parametrize("pool", [pool for pool in POOLS if LONG or pool != "solo"])
def test_every_body_in_every_pool(pool: str, running_broker: Broker, tmp_path: Path) -> None:
    """Each answer is cut once, then refused with a Retry-After of 6 s, in which other tasks run; each file is right."""
    with Origin() as origin, worker(running_broker.url, tmp_path, pool=pool, concurrency=POOLS[pool]) as running:
        contents = {body: Content(SIZE, seed) for seed, body in enumerate(BODIES)}
        for body, content in contents.items():
            script = [Behaviour(cut_at=1 << 20), Behaviour(status=503, retry_after=6)]
            origin.put(f"/{body}", content, Behaviour(), script=script)
        results = {
            body: running.send(body, *arguments(body, origin.url(f"/{body}"), tmp_path / body)) for body in BODIES
        }
        for body in BODIES:
            # Longer than all their waits together: after the first refusal the others may be let through one by one.
            origin.wait_for(partial(refused, origin, body), 60.0)
        others = [running.send("empty") for _ in range(2 * POOLS[pool])]
        assert all(isinstance(one.get(timeout=10), int) for one in others)
        waiting = [body for body in BODIES if len(origin.seen(f"/{body}")) == 2]
        assert waiting, "every wait was over before the other tasks had run"
        for body, content in contents.items():
            found = results[body].get(timeout=60)
            assert (body, SIZE) == (body, BODIES[body](found))
            assert (body, content.sha256()) == (body, hashlib.sha256((tmp_path / body).read_bytes()).hexdigest())
            assert origin.body_bytes_sent(f"/{body}") <= SIZE + (1 << 20), body


@pytest.mark.parametrize("body", BODIES)
def test_every_body_eagerly(body: str, tmp_path: Path, eager: Celery) -> None:
    """Without a broker, in the process of a test: there is no queue to go back to, so the wait is waited for."""
    content = Content(SIZE, 1)
    with Origin() as origin:
        origin.put("/file", content, script=[Behaviour(cut_at=1 << 20), Behaviour(status=503, retry_after=1)])
        task = eager.tasks[body]
        found = task.apply(args=arguments(body, origin.url("/file"), tmp_path / "file")).get()
        assert BODIES[body](found) == SIZE
        assert content.sha256() == hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()
        direct = task(*arguments(body, origin.url("/file"), tmp_path / "file"))
        assert BODIES[body](direct) == SIZE
        assert origin.body_bytes_sent("/file") <= SIZE + (1 << 20)


def test_outside_of_any_task(tmp_path: Path, eager: Celery) -> None:
    """A script that uses the same function has its file too."""
    eager.set_current()
    with Origin() as origin:
        origin.put("/file", Content(SIZE, 1))
        assert download(origin.url("/file"), tmp_path / "file").get().size == SIZE


def test_a_failure_is_the_same_on_both_ends(tmp_path: Path, eager: Celery) -> None:
    """A result backend makes the exception again of its arguments: words and facts are still there."""
    with Origin() as origin:
        result = eager.tasks["resumable.fetch"].apply(args=(origin.url("/nothing"), str(tmp_path / "file")))
        with pytest.raises(DownloadFailed) as caught:
            result.get()
        again = DownloadFailed(*json.loads(json.dumps(caught.value.args)))
        assert (str(again), again.info) == (str(caught.value), caught.value.info)
        assert (again.code, again.info["retryable"]) == ("not-found", False)


def test_await_where_there_is_no_body(eager: Celery) -> None:
    """The mistake is named, and what to do instead."""
    with pytest.raises(RuntimeError, match=r"\.get\(\)"):
        asyncio.run(_awaited())


def test_get_in_an_asynchronous_body(eager: Celery, tmp_path: Path) -> None:
    """It would stop the loop it waits for; it is refused instead."""

    @resumable_task(eager, name="mistaken")
    async def mistaken() -> int:
        return download("http://127.0.0.1:1/", tmp_path / "x").get().size

    with pytest.raises(RuntimeError, match="await the coroutine"):
        mistaken.apply().get()


def test_a_thread_that_was_paused_keeps_its_operation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be interrupted: until its body has returned nobody else may run it, and what it returned counts."""
    monkeypatch.setattr(run_module, "_CLEAN_UP_S", 0.01)
    state = tmp_path / "state.db"
    runtime = JournalRuntime(state, longest_wait_s=2.0, is_control=lambda _: False)
    run = TaskRun(TaskCall(name="job", task_id="T", policy=RetryPolicy()))
    seen: list[tuple[State, bool]] = []

    def body() -> str:
        process_loop.get().loop.call_soon_threadsafe(run.control.pause)
        time.sleep(0.3)
        seen.extend((row.state, row.leased(time.time())) for row in rows(state, "task"))
        return "value"

    try:
        ending = runtime.start(run, body_of(body, (), {})).result()
    finally:
        runtime.close()
    assert seen == [(State.RUNNING, True)]
    assert (ending.how, ending.value) == (How.DONE, "value")
    assert [row.state for row in rows(state, "task")] == [State.COMPLETE]


def test_a_second_message_for_the_same_key_changes_nothing_of_the_first(tmp_path: Path) -> None:
    """It is told that it is attached; the row still names the first message, which is the one to be sent again."""
    state, begun, go = tmp_path / "state.db", threading.Event(), threading.Event()
    one, two = (JournalRuntime(state, longest_wait_s=2.0, is_control=lambda _: False) for _ in range(2))

    def start(runtime: JournalRuntime, task_id: str) -> Visit[Ending]:
        async def body(run: TaskRun) -> str:
            begun.set()
            await asyncio.to_thread(go.wait, 20)
            return run.call.task_id

        call = TaskCall(name="ship", task_id=task_id, key="order 1", policy=RetryPolicy())
        return runtime.start(TaskRun(call), body)

    try:
        first = start(one, "T1")
        assert begun.wait(20)
        assert start(two, "T2").result().how is How.ATTACHED
        assert [row.args["id"] for row in rows(state, "task")] == ["T1"]
        assert start(two, "T1").result().how is How.DUPLICATE, "a copy of the first"
        go.set()
        assert first.result().value == "T1"
    finally:
        go.set()
        one.close()
        two.close()


async def _awaited() -> None:
    await download("http://127.0.0.1:1/", "x")
