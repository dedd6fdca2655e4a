"""What a hub knows: what counts as news, in which order, and what a snapshot holds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from recovery.history import History
from recovery.records import Operation
from recovery.states import State
from recovery.verdict import Category, UserAction
from resumable.events import DownloadView, ErrorView
from resumable_ui.board import FINISHED_SHOWN, Board, Change, difference
from resumable_ui.wire import ACTION_NAMES, STATUS, download_wire, episode_of, gate_wire, operation_wire, status_in

VIEW = DownloadView(
    download_id="d1",
    project_id="p",
    filename="a.bin",
    url="http://h/a.bin?sig=***",
    state=State.RUNNING,
    bytes_done=100,
    bytes_total=1000,
    attempt=1,
    attempts=1,
    rev=10,
    created_at=1.0,
)


def board(*views: DownloadView) -> Board:
    """Return a board with these views."""
    made = Board(epoch="e", rev=1)
    for view in views:
        made.offer(view)
    return made


def in_json(made: Board, download_id: str) -> Any:
    """Return what the board says of a download in JSON, read."""
    ((name, project, text),) = made.progress_jsons([download_id])
    item = json.loads(text)
    assert (name, project) == (download_id, item["project_id"])
    return item


DIFFERENCES: list[tuple[dict[str, Any], Change]] = [
    ({}, Change.NONE),
    ({"updated_at": 99.0, "elapsed": 5.0, "eta": 3.0, "rev": 11}, Change.NONE),
    ({"bytes_done": 200}, Change.PROGRESS),
    ({"speed": 5.0}, Change.PROGRESS),
    ({"bytes_received": 7}, Change.PROGRESS),
    ({"breaks": (7,)}, Change.STATE),
    ({"warnings": ("odd",)}, Change.STATE),
    ({"state": State.WAITING}, Change.STATE),
    ({"attempt": 2}, Change.STATE),
    ({"retry_at": 8.0}, Change.STATE),
    ({"error": ErrorView(code="x", category="y", message="z")}, Change.STATE),
    ({"actions": (UserAction.PAUSE,)}, Change.STATE),
    ({"stale": True}, Change.STATE),
    ({"bytes_total": None}, Change.STATE),
    ({"filename": "b.bin"}, Change.STATE),
    ({"restarted": "changed"}, Change.STATE),
    ({"attempts": 2}, Change.STATE),
    ({"retries": 1}, Change.STATE),
    ({"max_attempts": 9}, Change.STATE),
    ({"max_no_progress": 9}, Change.STATE),
    ({"retry_delay": 3.0}, Change.STATE),
    ({"verified_by": "digest"}, Change.STATE),
]


@pytest.mark.parametrize(("changes", "expected"), DIFFERENCES, ids=lambda value: str(value)[:40])
def test_what_is_news(changes: dict[str, Any], expected: Change) -> None:
    """Moving numbers wait for their turn; anything a person must see does not; clocks alone are no news."""
    assert difference(VIEW, replace(VIEW, **changes)) is expected


def test_older_news_are_dropped() -> None:
    """Redis may be faster than the state file, and then the file tells an older tale."""
    known = replace(VIEW, rev=20, bytes_done=500)
    assert difference(known, replace(known, rev=19, bytes_done=400)) is Change.NONE
    assert difference(known, replace(known, rev=19, state=State.WAITING)) is Change.NONE
    assert difference(known, replace(known, rev=20, bytes_done=600)) is Change.PROGRESS


def test_rev_only_grows() -> None:
    """Whatever the sources count: a client that drops what is not newer must not drop the truth."""
    made = board(VIEW)
    revs = [made.rev("d1")]
    for rev, done in ((500, 200), (500, 300), (501, 400), (501, 500)):
        made.offer(replace(VIEW, rev=rev, bytes_done=done))
        revs.append(made.rev("d1"))
    assert revs == sorted(set(revs))
    assert revs[1] == 500


def test_a_project_has_the_sum_of_its_downloads() -> None:
    """As they come, change, move to other projects and go."""
    made = board(VIEW, replace(VIEW, download_id="d2", bytes_done=0, bytes_total=None))
    assert made.project("p")["bytes_done"] == 100
    assert (made.project("p")["bytes_total"], made.project("p")["unknown_sizes"]) == (1000, 1)
    made.offer(replace(VIEW, bytes_done=1000, state=State.COMPLETE))
    made.offer(replace(VIEW, download_id="d2", bytes_done=500, bytes_total=1000))
    project = made.project("p")
    assert (project["progress"], project["stage"], project["downloads"]) == (75.0, "downloading", 2)
    assert project["states"] == {"completed": 1, "downloading": 1}
    made.offer(replace(VIEW, download_id="d2", state=State.CANCELLED))
    assert (made.project("p")["progress"], made.project("p")["stage"]) == (100.0, "completed")
    assert made.remove("d2")
    assert not made.remove("d2")
    assert made.project("p")["stage"] == "completed"
    made.remove("d1")
    assert made.snapshot(["all"], 1.0)["projects"] == []


def test_moving_bytes_add_up_as_if_counted_anew() -> None:
    """A project's total is the sum of its downloads after any number of events, whatever they were."""
    made = board(VIEW, replace(VIEW, download_id="d2"), replace(VIEW, download_id="d3", bytes_total=None))
    changes: list[dict[str, Any]] = [
        {"bytes_done": 300},
        {"bytes_done": 250, "restarted": "changed"},
        {"bytes_done": 700},
        {"bytes_done": 800, "bytes_total": 1200},
        {"state": State.CANCELLED},
        {"bytes_done": 900},
        {"state": State.RUNNING, "bytes_done": 10},
    ]
    for name in ("d1", "d2", "d3"):
        view = made.view(name)
        assert view is not None
        for change in changes:
            view = replace(view, **change)
            made.offer(view)
            anew = board(*made.views())
            assert made.project("p") == anew.project("p"), (name, change)


def test_an_empty_file_that_is_complete_is_all_of_it() -> None:
    """Nothing of nothing: 100 percent once it is there, of the file and of its project."""
    made = board(replace(VIEW, bytes_done=0, bytes_total=0))
    assert made.project("p")["progress"] == 0.0
    made.offer(replace(VIEW, bytes_done=0, bytes_total=0, state=State.COMPLETE))
    item = made.progress("d1")
    assert item is not None
    assert (item["progress"]["progress"], item["progress"]["file_progress"]) == (100.0, 100.0)
    assert made.project("p")["progress"] == 100.0
    assert in_json(made, "d1") == item
    made.offer(replace(VIEW, bytes_done=0, bytes_total=0, state=State.CANCELLED))
    assert (made.project("p")["progress"], made.project("p")["stage"]) == (0.0, "cancelled")


def test_progress_has_the_shape_that_front_ends_listen_for() -> None:
    """Totals of the project, numbers of this file, and the whole download."""
    made = board(VIEW, replace(VIEW, download_id="d2", bytes_done=1000, state=State.COMPLETE))
    item = made.progress("d1")
    assert item is not None
    progress = item["progress"]
    assert item["project_id"] == "p"
    assert (progress["stage"], progress["progress"]) == ("downloading", 55.0)
    assert (progress["current_file"], progress["file_progress"]) == ("a.bin", 10.0)
    assert (progress["current"], progress["total"]) == (100, 1000)
    assert {**progress, **download_wire(VIEW, rev=made.rev("d1"))} == progress
    assert made.progress("nothing") is None
    assert made.progress_jsons(["nothing"]) == []


def test_the_fast_json_says_the_same() -> None:
    """Whatever changed last, and however often it is asked for."""
    view = replace(VIEW, error=ErrorView(code="c", category="x", message='"quoted"\n'), filename="é \u2028.bin")
    made = board(view)
    for changes in (
        {},
        {"bytes_done": 200, "speed": float("inf")},
        {"bytes_done": 300, "elapsed": 2.5},
        {"state": State.COMPLETE, "bytes_done": 1000, "error": None},
        {"project_id": "q", "warnings": ("w",)},
        {"bytes_total": None, "state": State.RUNNING},
        {"bytes_done": 1500},
    ):
        view = replace(view, **changes)
        made.offer(view)
        for _ in range(2):
            assert in_json(made, "d1") == made.progress("d1")


@pytest.mark.parametrize("name", sorted(set(DownloadView.__struct_fields__) - {"download_id", "rev"}))
def test_no_field_of_a_view_stays_old_in_the_fast_json(name: str) -> None:
    """What stands still is encoded once: whatever changes beside the bytes must not be shown as it was."""
    error = ErrorView(code="c", category="x", message="m")
    odd: dict[str, Any] = {"state": State.PARKED, "error": error, "actions": (UserAction.PAUSE,), "breaks": (5,)}
    odd |= {"warnings": ("w",), "can_resume": True, "stale": True, "retry_at": 5.0, "retry_delay": 3.0, "eta": 4.0}
    value = odd.get(name, getattr(VIEW, name))
    if name not in odd:
        value = value + 7 if isinstance(value, (int, float)) else f"{value}7"
    made = board(VIEW)
    in_json(made, "d1")
    made.offer(replace(VIEW, **{"bytes_done": 200, "rev": 11, name: value}))
    assert in_json(made, "d1") == made.progress("d1")


def test_a_hundred_percent_is_all_of_it() -> None:
    """Two megabytes of forty gigabytes are missing: front ends take 100 for done."""
    made = board(replace(VIEW, bytes_done=39_998_000_000, bytes_total=40_000_000_000))
    item = in_json(made, "d1")["progress"]
    assert (item["file_progress"], item["progress"]) == (99.99, 99.99)


def test_a_snapshot_holds_what_its_rooms_watch() -> None:
    """All of it, one project, or one download."""
    made = board(VIEW, replace(VIEW, download_id="d2", project_id="q", created_at=2.0))
    for rooms, expected in (
        (["all"], ["d2", "d1"]),
        (["recovery"], ["d2", "d1"]),
        (["project:q"], ["d2"]),
        (["download:d1"], ["d1"]),
        (["download:d1", "project:q"], ["d2", "d1"]),
        (["project:none"], []),
        ([], []),
    ):
        snapshot = made.snapshot(rooms, 7.0)
        assert [download["download_id"] for download in snapshot["downloads"]] == expected, rooms
        assert (snapshot["epoch"], snapshot["ts"], snapshot["left_out"]) == ("e", 7.0, 0)
        json.dumps(snapshot, allow_nan=False)


def test_a_snapshot_does_not_grow_with_the_past() -> None:
    """The newest ended ones are in it; unfinished and failed ones always."""
    done = replace(VIEW, state=State.COMPLETE)
    ended = [replace(done, download_id=f"c{n}", created_at=float(n)) for n in range(FINISHED_SHOWN + 50)]
    old = replace(VIEW, download_id="old", state=State.FAILED, created_at=0.5)
    snapshot = board(*ended, old).snapshot(["all"], 1.0)
    ids = {download["download_id"] for download in snapshot["downloads"]}
    assert (len(ids), snapshot["left_out"]) == (FINISHED_SHOWN + 1, 50)
    assert {"old", f"c{FINISHED_SHOWN + 49}"} <= ids
    assert "c0" not in ids


def test_an_operation_is_told_when_it_changes() -> None:
    """Not for every write of its row."""
    row = Operation(operation_id="o1", kind="import", key="k", state=State.RUNNING, rev=1, created_at=1.0)
    made = board()
    assert made.offer_operation(row)
    assert not made.offer_operation(row)
    assert not made.offer_operation(replace(row, rev=2, progress_done=5))
    failed = replace(row, rev=3, state=State.WAITING, next_at=9.0)
    assert made.offer_operation(failed)
    assert [found["state"] for found in made.operations()] == ["waiting"]
    assert made.completed("o1") is None
    assert made.offer_operation(replace(row, rev=4, state=State.COMPLETE, updated_at=6.0))
    assert made.operations() == []
    done = made.completed("o1")
    assert done is not None
    assert (done["success"], done["final_state"], done["duration"]) == (True, "complete", 5.0)


def test_gates_are_told_when_they_change() -> None:
    """Also when they are forgotten."""
    made = board()
    opened = {"phase": "open", "failures": 5, "until": 30.0}
    assert made.offer_gates({"h": opened}) == ["h"]
    assert made.offer_gates({"h": {**opened, "held_at": 3.0}}) == []
    assert made.gate("h", 10.0) == {
        "operation_type": "host",
        "host": "h",
        "state": "OPEN",
        "phase": "open",
        "timeout_remaining": 20.0,
        "failures": 5,
    }
    assert [found["host"] for found in made.gates(10.0)] == ["h"]
    assert made.offer_gates({}) == ["h"]
    assert made.gate("h", 10.0)["state"] == "CLOSED"
    assert gate_wire("h", {"phase": "reopening"}, 0.0)["state"] == "HALF_OPEN"


# -- the wire ----------------------------------------------------------------------------------------------------------


def test_a_download_on_the_wire_is_its_view_and_a_few_words_more() -> None:
    """Every field of the view, unchanged, and what legacy clients and the banner read."""
    view = replace(
        VIEW,
        error=ErrorView(code="c", category="timeout", message="m", detail="d", retryable=True),
        actions=(UserAction.RETRY_NOW, UserAction.CANCEL),
        breaks=(1, 2),
        can_resume=True,
    )
    wire = download_wire(view)
    beside = {"operation_id", "status", "resumable", "episode"}
    assert {name: value for name, value in wire.items() if name not in beside} == view.to_wire()
    assert (wire["operation_id"], wire["status"], wire["resumable"]) == ("d1", "downloading", True)


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_numbers_that_json_does_not_have_are_null(number: float) -> None:
    """A browser's JSON.parse fails on the whole message otherwise."""
    wire = download_wire(replace(VIEW, speed=number, eta=number))
    assert (wire["speed"], wire["eta"]) == (None, None)
    row = Operation(operation_id="o1", kind="import", key="k", state=State.PARKED, next_at=number, updated_at=1.0)
    held = gate_wire("h", {"phase": "open", "until": number}, 1.0)
    json.dumps([wire, operation_wire(row), held], allow_nan=False)


def test_every_state_has_a_word_for_legacy_clients() -> None:
    """One of the six they know."""
    assert set(STATUS) == set(State)
    assert set(STATUS.values()) == {"pending", "downloading", "paused", "completed", "failed", "cancelled"}


def test_an_episode_is_one_trouble() -> None:
    """The same while failures come in a row, higher once there was progress in between, never lower."""
    story = [  # attempts so far, the running one included; failures in a row without progress; state
        (1, 0, State.RUNNING, 0),
        (1, 1, State.WAITING, 0),
        (2, 1, State.RUNNING, 0),
        (2, 2, State.WAITING, 0),
        (3, 2, State.RUNNING, 0),
        (3, 0, State.WAITING, 3),  # it made progress, then broke
        (4, 0, State.RUNNING, 3),
        (4, 1, State.WAITING, 3),
        (4, 1, State.FAILED, 3),
        (4, 0, State.QUEUED, 4),  # retry now: a fresh budget
        (5, 0, State.RUNNING, 4),
        (5, 1, State.WAITING, 4),
    ]
    for attempts, no_progress, state, episode in story:
        view = replace(VIEW, attempt=attempts, attempts=attempts, no_progress=no_progress, state=state)
        assert episode_of(view) == episode, (attempts, no_progress, state)


def test_an_operation_of_any_kind_is_told_in_the_words_of_the_contract() -> None:
    """What a banner needs of it."""
    row = Operation(
        operation_id="o1",
        kind="import",
        key="k",
        project="p",
        title="workflow 7",
        state=State.WAITING,
        history=History(attempts=2, no_progress=1),
        max_attempts=50,
        category=Category.TIMEOUT,
        code="timeout",
        message="The server stopped answering.",
        next_at=15.0,
        updated_at=10.0,
        progress_done=7,
        rev=3,
    )
    wire = operation_wire(row)
    assert (wire["function_name"], wire["state"], wire["status"]) == ("import", "waiting", "recovering")
    assert (wire["attempt"], wire["delay"], wire["next_retry_at"]) == (2, 5.0, 15.0)
    assert (wire["download_id"], wire["bytes_kept"], wire["strategy"]) == (None, 7, "retry")
    assert wire["error"]["code"] == "timeout"
    json.dumps(wire)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, None),
        ("", None),
        ("StatusError: the server answered 503 Service Unavailable", 503),
        ("the server answered 99", None),
        ("the server answered", None),
        ("reset", None),
    ],
)
def test_the_status_an_attempt_ended_with(error: str | None, status: int | None) -> None:
    """For the details list."""
    assert status_in(error) == status


def test_action_names_are_the_buttons_own_and_the_contracts() -> None:
    """Both vocabularies are taken."""
    assert {"pause", "resume", "retry", "cancel", "relink", "retry_now", "new_link"} == set(ACTION_NAMES)
