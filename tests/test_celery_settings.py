"""The recommended settings, and the plain warning about each setting that loses work."""

from __future__ import annotations

import logging
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, signals

from recovery.celery import RECOMMENDED, WorkerSettings, configure, dangers
from recovery.celery.lifeline import Lifeline, attach
from recovery.celery.worker import longest_countdown

GOOD = RECOMMENDED.to_celery()

TABLE: list[tuple[str, dict[str, Any], list[str]]] = [
    ("the recommended ones", {}, []),
    ("acknowledged early", {"task_acks_late": False}, ["task_acks_late is off"]),
    ("acknowledged when a child dies", {"task_reject_on_worker_lost": False}, ["task_reject_on_worker_lost is off"]),
    ("never said", {"task_acks_late": None, "task_reject_on_worker_lost": None}, ["task_acks_late is off"]),
    ("hoarded", {"worker_prefetch_multiplier": 4}, ["worker_prefetch_multiplier is 4"]),
    ("given out twice", {"broker_transport_options": {"visibility_timeout": 60}}, ["visibility_timeout is 60 s"]),
    ("no such thing with RabbitMQ", {"broker_transport_options": {}}, []),
    ("stopped with the broker", {"worker_cancel_long_running_tasks_on_connection_loss": True}, ["loss of the broker"]),
]


@pytest.mark.parametrize(("changes", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_what_is_dangerous(changes: dict[str, Any], expected: list[str]) -> None:
    """One sentence for each, which names the setting."""
    found = dangers({**GOOD, **changes})
    assert len(found) == len(expected)
    assert [words for words, sentence in zip(expected, found, strict=True) if words not in sentence] == []


def test_an_application_is_configured() -> None:
    """Ours are set, its own transport options stay, and then nothing is dangerous."""
    app = Celery("x", broker="redis://nowhere", set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": "x", "visibility_timeout": 5}
    assert len(dangers(app.conf)) >= 3
    configure(app, WorkerSettings(visibility_timeout_s=7_200))
    assert dangers(app.conf) == []
    assert app.conf.broker_transport_options == {"global_keyprefix": "x", "visibility_timeout": 7_200}
    assert (app.conf.task_acks_late, app.conf.worker_prefetch_multiplier) == (True, 1)


def test_a_worker_says_so_at_its_start(caplog: pytest.LogCaptureFixture) -> None:
    """As a warning, once, before it takes a task."""
    import resumable.celery  # noqa: F401 - looks after every worker from its import on

    class Starting:
        app = Celery("y", broker="redis://nowhere", set_as_current=False)

    with caplog.at_level(logging.WARNING, logger="recovery.celery"):
        signals.worker_init.send(sender=Starting)
        first = list(caplog.messages)
        signals.worker_init.send(sender=Starting)
    expected = dangers(Starting.app.conf)
    assert len(expected) == 2
    assert sorted(set(first) & set(expected)) == sorted(expected) or sorted(expected) == sorted(
        set(caplog.messages) & set(expected)
    )


def test_tasks_and_downloads_on_one_state_file(tmp_path: Path) -> None:
    """What both have opened is closed at the end of the process, in whichever order they came."""
    for first, second in ((True, False), (False, True)):
        app = Celery("z", set_as_current=False)
        closed: list[bool] = []

        async def look() -> None:
            """Find nothing."""

        for widest in (first, second):
            attach(
                Lifeline(
                    app=app,
                    name="state.db",
                    lock=lambda: tmp_path / "lock",
                    look=look,
                    close=partial(closed.append, widest),
                    widest=widest,
                )
            )
        signals.worker_process_shutdown.send(sender=None)
        assert closed == [first, second]


@pytest.mark.parametrize(
    ("options", "expected"), [({}, 600.0), ({"visibility_timeout": 3_600}, 600.0), ({"visibility_timeout": 8}, 2.0)]
)
def test_no_message_lies_longer_in_a_worker_than_its_broker_bears(options: dict[str, Any], expected: float) -> None:
    """A longer wait is several messages."""
    assert longest_countdown({"broker_transport_options": options}) == expected


@pytest.mark.parametrize("number", range(2))
def test_the_blocks_of_the_page_run(number: int) -> None:
    """Imports, options and names are those of this version, and each block defines a task."""
    page = (Path(__file__).resolve().parent.parent / "docs" / "celery.md").read_text("utf-8")
    source = re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)[number]
    shown: dict[str, Any] = {"__name__": "a_page"}
    exec(compile(source, "docs/celery.md", "exec"), shown)
    task = shown["import_model" if number == 0 else "ship"]
    assert (task.acks_late, task.reject_on_worker_lost, task.max_retries) == (True, True, None)
    links = re.findall(r"\]\(([^)#:]+)\)", page)
    assert [link for link in links if not (Path(__file__).resolve().parent.parent / "docs" / link).exists()] == []
