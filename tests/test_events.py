"""Event records: what goes over the wire is JSON, complete, and says the same as the record."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from recovery.events import GateEvent, HealthEvent, OperationEvent
from recovery.gate import GatePhase
from recovery.states import State
from recovery.taxonomy import machine, network
from recovery.verdict import UserAction, Verdict
from resumable.events import DownloadView, ErrorView

FULL = OperationEvent(
    operation_id="k3v9",
    kind="download",
    key="/data/model.bin",
    project="sdxl",
    state=State.PARKED,
    previous=State.RUNNING,
    attempt=7,
    max_attempts=50,
    no_progress=1,
    delay_s=5.0,
    next_retry_at=1_700_000_005.0,
    verdict=machine.DISK_FULL,
    error="OSError: [Errno 28]",
    ts=1_700_000_000.0,
    rev=12,
)
BARE = OperationEvent(operation_id="k3v9", kind="call", key="x", state=State.QUEUED, ts=1.0)


def test_a_full_operation_event_on_the_wire() -> None:
    """Every field is there, enums are plain words, the verdict is a dict."""
    expected = {
        "operation_id": "k3v9",
        "kind": "download",
        "key": "/data/model.bin",
        "project": "sdxl",
        "state": "parked",
        "previous": "running",
        "attempt": 7,
        "max_attempts": 50,
        "no_progress": 1,
        "delay_s": 5.0,
        "next_retry_at": 1_700_000_005.0,
        "verdict": {
            "category": "disk-full",
            "action": "park",
            "code": "disk-full",
            "message": machine.DISK_FULL.message,
            "retry_after_s": None,
            "limit": None,
            "condition": "disk_space",
            "user_actions": ["free_space", "choose_folder", "retry_now", "cancel"],
            "spared": False,
        },
        "error": "OSError: [Errno 28]",
        "ts": 1_700_000_000.0,
        "rev": 12,
    }
    assert expected == FULL.to_wire()


def test_what_is_unknown_is_null_on_the_wire() -> None:
    """A first event has no previous state, no verdict and no delay."""
    wire = BARE.to_wire()
    assert [wire[name] for name in ("previous", "verdict", "delay_s", "next_retry_at", "error")] == [None] * 5


@pytest.mark.parametrize(
    "record",
    [
        FULL,
        BARE,
        HealthEvent(health="degraded", reason="the disk is full", ts=2.0),
        GateEvent(host="cdn.example", state=GatePhase.OPEN, until=9.0, failures=5, ts=2.0),
        GateEvent(host="cdn.example", state=GatePhase.CLOSED, until=None, failures=0, ts=2.0),
        network.TIMEOUT,
    ],
    ids=["full", "bare", "health", "gate-open", "gate-closed", "verdict"],
)
def test_the_wire_form_is_json_and_has_exactly_the_fields(
    record: OperationEvent | HealthEvent | GateEvent | Verdict,
) -> None:
    """What a browser parses equals what was sent, field for field, without NaN or Infinity."""
    wire = record.to_wire()
    assert wire == json.loads(json.dumps(wire, allow_nan=False))
    assert list(record.__struct_fields__) == list(wire)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            HealthEvent(health="memory_only", reason="read-only disk", ts=2.0),
            {"health": "memory_only", "reason": "read-only disk", "ts": 2.0},
        ),
        (
            GateEvent(host="cdn.example", state=GatePhase.HALF_OPEN, until=9.0, failures=5, ts=2.0),
            {"host": "cdn.example", "state": "half_open", "until": 9.0, "failures": 5, "ts": 2.0},
        ),
    ],
    ids=["health", "gate"],
)
def test_small_events_on_the_wire(event: HealthEvent | GateEvent, expected: dict[str, Any]) -> None:
    """Enums arrive as their words."""
    assert expected == event.to_wire()
    assert {str, float, int} >= {type(value) for value in event.to_wire().values()}


def test_events_cannot_be_changed_after_they_happened() -> None:
    """A receiver cannot alter what the next one sees."""
    with pytest.raises(AttributeError, match="immutable"):
        FULL.rev = 13  # type: ignore[misc]


VIEW = DownloadView(
    download_id="d1",
    filename="model.bin",
    state=State.WAITING,
    bytes_done=5,
    bytes_total=9,
    breaks=(3, 5),
    retry_at=1_700_000_005.5,
    error=ErrorView(code="reset", category="network", message="the connection broke", retryable=True),
    actions=(UserAction.RETRY_NOW, UserAction.CANCEL),
    warnings=("odd",),
)


@pytest.mark.parametrize("name", ["model.bin", "modèle \N{SNOWMAN}.bin", "no UTF-8: \udcff.bin"])
def test_a_view_as_json_is_its_wire_form(name: str) -> None:
    """Plain lists, words and numbers, whichever way it is written; and the view can be made from it again."""
    view = replace(VIEW, filename=name)
    wire = view.to_wire()
    assert wire == json.loads(view.to_json())
    assert list(wire) == list(DownloadView.__struct_fields__)
    assert (wire["state"], wire["breaks"], wire["actions"]) == ("waiting", [3, 5], ["retry_now", "cancel"])
    assert {str, int, float, bool, list, dict, type(None)} >= {type(value) for value in wire.values()}
    assert wire["error"] == {
        "code": "reset",
        "category": "network",
        "message": "the connection broke",
        "detail": "",
        "retryable": True,
    }
    assert view == DownloadView.from_wire(wire)
