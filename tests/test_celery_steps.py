"""Steps inside Celery tasks: done once over all deliveries of a task, and taken back when it is given up."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest

from recovery.celery.worker import NUDGED
from tests.workers import Worker, broker, until, worker

pytestmark = pytest.mark.blocking

BODIES = ["async_steps", "sync_steps"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """Run one worker for all."""
    with (
        broker(tmp_path_factory.mktemp("broker")) as running_broker,
        worker(running_broker.url, tmp_path_factory.mktemp("worker")) as started,
    ):
        assert isinstance(started.send("empty").get(timeout=20), int)
        yield started


def diary(running: Worker, word: str, name: str) -> list[str]:
    """Return what the diary says of one task's steps."""
    return [entry[-1] for entry in running.entries(word) if entry[2].startswith(name)]


@pytest.mark.parametrize("body", BODIES)
def test_a_killed_task_goes_on_at_its_step(body: str, running: Worker) -> None:
    """kill -9 in the second step: the first is not done again, the second is."""
    name = f"{body}-die"
    assert running.send(body, name, "die").get(timeout=40) == [f"{name}-{number}" for number in (1, 2, 3)]
    assert diary(running, "step", name) == ["1", "2", "2", "3"]
    assert diary(running, "undo", name) == []


@pytest.mark.parametrize("body", BODIES)
def test_a_task_that_is_given_up_is_taken_back(body: str, running: Worker) -> None:
    """The newest step first; the result is the task's own error."""
    name = f"{body}-fail"
    with pytest.raises(ValueError, match=name):
        running.send(body, name, "fail").get(timeout=40)
    assert diary(running, "step", name) == ["1", "2", "3"]
    assert diary(running, "undo", name) == [f"{name}-2", f"{name}-1"]


def test_copies_of_a_task_that_has_failed(running: Worker) -> None:
    """They come after its end (the broker, or we, sent it again too soon): nothing is done again, its result stays."""
    name, task_id = "copied", str(uuid.uuid4())
    with pytest.raises(ValueError, match=name):
        running.send("async_steps", name, "fail", task_id=task_id).get(timeout=20)
    for _ in range(2):
        running.app.send_task(
            "async_steps", (name, "fail"), queue=running.queue, task_id=task_id, headers={NUDGED: "lost"}
        )
    until(lambda: running.said().count(f"{task_id}] received") == 3)
    time.sleep(1.0)
    assert diary(running, "step", name) == ["1", "2", "3"]
    assert running.app.AsyncResult(task_id).state == "FAILURE"
