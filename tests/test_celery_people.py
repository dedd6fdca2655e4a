"""What people do while a worker downloads: watch, pause, resume, retry now, cancel; and tasks without any download."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from recovery.states import State
from resumable import DownloadManager
from resumable.celery import DownloadFailed
from tests import celery_app
from tests.origin import Behaviour, Content, Origin
from tests.workers import Worker, broker, rows, until, worker

pytestmark = pytest.mark.blocking

SIZE = 4 << 20


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """Run a broker and a worker."""
    folder = tmp_path_factory.mktemp("people")
    with (
        broker(folder / "broker") as started,
        worker(started.url, folder / "w", concurrency=3, conf={"worker_send_task_events": True}) as made,
    ):
        yield made


def by_hand(running: Worker, act: Callable[[DownloadManager], Awaitable[Any]]) -> Any:
    """Do what the command or the page does: open the state file in another process than the worker's, and act."""

    async def main() -> Any:
        async with DownloadManager(state=running.state) as manager:
            return await act(manager)

    return asyncio.run(main())


def row_of(running: Worker, dest: Path) -> Any:
    """Return a download's row."""
    return next((row for row in rows(running.state, "download") if row.key.endswith(str(dest))), None)


@contextmanager
def listening(running: Worker, heard: list[dict[str, Any]]) -> Iterator[None]:
    """Hear the events ``task-progress``, as Flower does."""
    over = threading.Event()

    def listen() -> None:
        with running.app.connection() as connection:
            receiver = running.app.events.Receiver(connection, handlers={"task-progress": heard.append})
            while not over.is_set():
                with suppress(TimeoutError):
                    receiver.capture(limit=None, timeout=0.3, wakeup=False)

    thread = threading.Thread(target=listen)
    thread.start()
    time.sleep(0.3)
    yield
    over.set()
    thread.join()


def test_progress_can_be_seen(running: Worker, tmp_path: Path) -> None:
    """The task's state in the result backend: rising numbers, the fields of ``progress_update``, two a second."""
    heard: list[dict[str, Any]] = []
    with Origin() as origin, listening(running, heard):
        origin.put("/file", Content(SIZE, 1), Behaviour(rate=SIZE // 4))
        result = running.send("resumable.fetch", origin.url("/file"), str(tmp_path / "file"), project="p")
        seen: list[dict[str, Any]] = []

        def look() -> bool:
            meta = result.backend.get_task_meta(result.id)
            state, info = meta["status"], meta["result"]
            if state == "PROGRESS" and isinstance(info, dict) and info not in seen:
                seen.append(info)
            return bool(state == "SUCCESS")

        until(look)
    assert [event["uuid"] for event in heard] == [result.id] * len(heard)
    assert 2 <= len(heard) <= 10
    done = [info["progress"]["bytes_done"] for info in seen]
    assert 2 <= len(done) <= 10
    assert done == sorted(done)
    last = seen[-1]
    assert (last["project_id"], last["progress"]["bytes_total"], last["progress"]["total"]) == ("p", SIZE, 1)
    assert 0 < last["progress"]["progress"] <= 100
    assert [one["filename"] for one in last["downloads"]] == ["file"]


def test_pause_and_resume_by_hand(running: Worker, tmp_path: Path) -> None:
    """Paused: the slot is free and the task's state says so. Resumed: the same task goes on, and its caller has the
    result.
    """
    dest, content = tmp_path / "file", Content(SIZE, 2)
    with Origin() as origin:
        origin.put("/file", content, Behaviour(rate=SIZE // 5))
        result = running.send("async_body", origin.url("/file"), str(dest))
        origin.wait_for(lambda: origin.body_bytes_sent("/file") > SIZE // 4)
        download_id = row_of(running, dest).operation_id
        by_hand(running, lambda manager: manager.pause(download_id))
        until(lambda: result.state == "PAUSED")
        until(lambda: row_of(running, dest).state is State.PAUSED)
        requests = len(origin.requests)
        by_hand(running, lambda manager: manager.retry(download_id))
        assert result.get(timeout=30)["resumed"] > 0
        assert len(origin.requests) > requests
        assert content.sha256() == hashlib.sha256(dest.read_bytes()).hexdigest()


def test_retry_now_ends_a_wait(running: Worker, tmp_path: Path) -> None:
    """The server asked for ten minutes; a person knows better, and the task does not wait for them."""
    dest = tmp_path / "file"
    with Origin() as origin:
        origin.put("/file", Content(SIZE, 3), script=[Behaviour(status=429, retry_after=600)])
        result = running.send("resumable.fetch", origin.url("/file"), str(dest))
        until(lambda: (row := row_of(running, dest)) is not None and row.state is State.WAITING)
        until(lambda: result.state == "RETRY")
        by_hand(running, lambda manager: manager.retry(row_of(running, dest).operation_id))
        assert result.get(timeout=30)["size"] == SIZE


def test_retry_of_what_has_failed(running: Worker, tmp_path: Path) -> None:
    """Its task is over and has told its caller; the download is continued by a task of its own."""
    dest = tmp_path / "file"
    with Origin() as origin:
        origin.put("/file", b"", Behaviour(status=404))
        with pytest.raises(Exception, match="answered 404"):
            running.send("resumable.fetch", origin.url("/file"), str(dest)).get(timeout=20)
        origin.put("/file", Content(SIZE, 4))
        by_hand(running, lambda manager: manager.retry(row_of(running, dest).operation_id))
        until(dest.exists)
        until(lambda: row_of(running, dest).state is State.COMPLETE)
        assert "resumable.resume" in running.said()


def test_retry_in_an_application_that_had_tasks_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks and downloads on one state file: whichever was there first, the downloads are looked after."""
    monkeypatch.setenv("TEST_TASKS_FIRST", "1")
    with broker(tmp_path / "broker") as started, worker(started.url, tmp_path / "w") as running:
        test_retry_of_what_has_failed(running, tmp_path)


def test_cancel_by_hand(running: Worker, tmp_path: Path) -> None:
    """The caller is told, and nothing goes on."""
    dest = tmp_path / "file"
    with Origin() as origin:
        origin.put("/file", Content(SIZE, 5), Behaviour(rate=SIZE // 10))
        result = running.send("resumable.fetch", origin.url("/file"), str(dest))
        origin.wait_for(lambda: origin.body_bytes_sent("/file") > SIZE // 8)
        by_hand(running, lambda manager: manager.cancel(row_of(running, dest).operation_id))
        with pytest.raises(Exception, match="cancelled"):
            result.get(timeout=20)
        assert row_of(running, dest).state is State.CANCELLED


def test_one_waits_while_the_other_downloads(running: Worker, tmp_path: Path) -> None:
    """A body with two files keeps its slot while one of them transfers, and the other's wait ends meanwhile."""
    with Origin() as slow, Origin() as busy:
        slow.put("/file", Content(SIZE, 6), Behaviour(rate=SIZE // 5))
        busy.put("/file", Content(SIZE, 7), script=[Behaviour(status=503, retry_after=3)])
        urls, dests = [slow.url("/file"), busy.url("/file")], [str(tmp_path / "slow"), str(tmp_path / "busy")]
        result = running.send("two_files", urls, dests)
        assert result.get(timeout=30) == [SIZE, SIZE]
        assert len([entry for entry in running.entries("begin") if entry[2] == dests[0]]) == 1


def test_a_project_with_a_file_that_fails(running: Worker, tmp_path: Path) -> None:
    """One result for all of them; the failure of one touches no other, also over a wait that ends the first run."""
    with Origin() as origin:
        origin.put("/good", Content(SIZE, 8))
        origin.put("/late", Content(SIZE, 9), script=[Behaviour(status=503, retry_after=4)])
        origin.put("/gone", b"", Behaviour(status=410))
        files = [{"url": origin.url(f"/{name}"), "dest": str(tmp_path / name)} for name in ("good", "gone", "late")]
        found = running.send("resumable.fetch_many", files, project="p").get(timeout=40)
        assert (found["project"], found["complete"], found["failed"], found["bytes"]) == ("p", 2, 1, 2 * SIZE)
        assert [one.get("size") for one in found["files"]] == [SIZE, None, SIZE]
        assert found["files"][1]["error"]["code"] == "gone"
        assert len(origin.seen("/gone")) == 1
        assert len(origin.seen("/good")) == 1


@pytest.mark.parametrize("task", ["flaky", "ordinary"])
def test_tasks_without_downloads(running: Worker, task: str, tmp_path: Path) -> None:
    """They fail twice, wait, and succeed; each attempt is counted over all runs."""
    arguments = (str(tmp_path), 2) if task == "flaky" else (2,)
    assert running.send(task, *arguments).get(timeout=20) == 3


@pytest.mark.parametrize("task", ["flaky", "ordinary"])
def test_tasks_without_downloads_eagerly(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in the process of a test; and what fails for good raises its own last exception."""
    monkeypatch.setattr(celery_app, "DIARY", tmp_path / "diary")
    app: Celery = celery_app.app
    arguments = (lambda failures: (f"{tmp_path}-{failures}", failures)) if task == "flaky" else (lambda f: (f,))
    try:
        assert app.tasks[task].apply(args=arguments(2)).get() == 3
        with pytest.raises(ConnectionResetError, match="hung up"):
            app.tasks[task].apply(args=arguments(99)).get()
    finally:
        celery_app.close()


def test_a_secret_link_is_in_no_row_and_no_log(running: Worker, tmp_path: Path) -> None:
    """Neither in the state file nor in what a failure says; while it is needed it lies in a private file."""
    with Origin() as origin:
        origin.put("/file", b"", Behaviour(status=403))
        url = origin.url("/file", login="user:hunter2") + "?sig=abcdefghij0123456789"
        with pytest.raises(Exception, match="answered 403") as caught:
            running.send("resumable.fetch", url, str(tmp_path / "file")).get(timeout=20)
    said = str(caught.value) + repr(caught.value.args)
    stored = b"".join(path.read_bytes() for path in running.state.parent.glob("state.db*") if path.is_file())
    for secret in ("hunter2", "abcdefghij0123456789"):
        assert secret not in said
        assert secret.encode() not in stored
    assert isinstance(DownloadFailed(*caught.value.args), Exception)
