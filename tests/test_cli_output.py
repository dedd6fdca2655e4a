"""What the command prints: words, log lines, JSON lines, and lines that never hold up the event loop."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from recovery.states import State
from recovery.verdict import UserAction
from resumable.errors import DownloadPaused, StatusError
from resumable.events import DownloadEvent, DownloadView, ErrorView, EventName
from resumable.model import Result
from resumable_ui.jsonlines import dump, event_line, outcome_line, summary_line, view_line
from resumable_ui.loglines import LogLines
from resumable_ui.outcome import Outcome
from resumable_ui.output import LineWriter
from resumable_ui.projection import (
    attempt_words,
    detail_lines,
    event_words,
    kept_lines,
    name_of,
    next_step,
    outcome_words,
    progress_words,
    status_row,
)

GB = 10**9
GONE = ErrorView(code="gone", category="gone", message="The file is gone.", detail="410 Gone")
STALLED = ErrorView(code="stalled", category="timeout", message="The server stopped sending.", retryable=True)
RESULT = Result(
    path=Path("/d/model.bin"),
    size=7 * GB,
    sha256="ab" * 32,
    bytes_resumed=2 * GB,
    bytes_received=5 * GB,
    attempts=2,
    elapsed=250.0,
    verified_by="etag",
    download_id="d1",
)


def view_of(**fields: Any) -> DownloadView:
    """Return a download in the middle of a transfer, changed by ``fields``."""
    values: dict[str, Any] = {
        "download_id": "d1",
        "url": "https://example.org/model.bin?sig=***",
        "dest": "/d/model.bin",
        "filename": "model.bin",
        "state": State.RUNNING,
        "bytes_done": 3_900_000_000,
        "bytes_total": 6_900_000_000,
        "speed": 21_400_000.0,
        "eta": 140.0,
        "attempt": 1,
        "max_attempts": 50,
        "max_no_progress": 3,
    }
    return DownloadView(**(values | fields))


# -- words -------------------------------------------------------------------------------------------------------------

PROGRESS = [
    ({}, "56 %, 3.9 GB of 6.9 GB, 21.4 MB/s, 2 min 20 s left"),
    ({"attempt": 2}, "56 %, 3.9 GB of 6.9 GB, 21.4 MB/s, 2 min 20 s left, attempt 2 of 50"),
    ({"eta": None}, "56 %, 3.9 GB of 6.9 GB, 21.4 MB/s, time left unknown"),
    ({"bytes_total": None, "eta": None}, "3.9 GB, 21.4 MB/s"),
    ({"bytes_done": 6_899_999_999}, "99 %, 6.9 GB of 6.9 GB, 21.4 MB/s, 2 min 20 s left"),
    ({"state": State.PAUSED}, "56 %, 3.9 GB of 6.9 GB"),
    ({"bytes_done": 0, "bytes_total": 0, "state": State.COMPLETE}, "100 %, 0 B of 0 B"),
]


@pytest.mark.parametrize(("fields", "expected"), PROGRESS)
def test_progress_in_words(fields: dict[str, Any], expected: str) -> None:
    """Durable and total, speed, time left, attempt; never 100 % before it is all there, never a made-up time."""
    assert expected == progress_words(view_of(**fields))


EVENTS = [
    (EventName.STARTED, {}, "", "started"),
    (EventName.STARTED, {"attempt": 3}, "", "attempt 3 of 50 started"),
    (EventName.RESUMED, {"bytes_resumed": 2 * GB}, "", "continues at 2.0 GB of 6.9 GB"),
    (EventName.INTERRUPTED, {}, "reset by peer.", "a connection broke: reset by peer"),
    (EventName.RESTARTED, {}, "changed: etag", "begins again from byte zero: changed: etag"),
    (EventName.RESTARTED, {"restarted": "no-range"}, "", "begins again from byte zero: no-range"),
    (EventName.REPAIRED, {}, "chunk 7", "damage found: chunk 7"),
    (
        EventName.WAITING,
        {"state": State.WAITING, "attempts": 1, "error": STALLED, "no_progress": 1, "retry_at": 112.0},
        "",
        "The server stopped sending. Kept 3.9 GB of 6.9 GB; attempt 2 of 50 (retry 1 of 3 without progress) in 12 s",
    ),
    (
        EventName.WAITING,
        {"state": State.WAITING, "attempts": 1, "retry_delay": 5.0, "max_attempts": 0},
        "no answer",
        "no answer. Kept 3.9 GB of 6.9 GB; attempt 2 in 5 s",
    ),
    (EventName.PARKED, {}, "3.1 GB more are needed", "waits: 3.1 GB more are needed. Kept 3.9 GB of 6.9 GB"),
    (EventName.VERIFYING, {}, "", "verifying"),
    (EventName.VERIFYING, {"error": STALLED}, "", "verifying"),
    (
        EventName.WAITING,
        {"error": GONE, "attempts": 1, "no_progress": 4, "max_no_progress": 3, "retry_delay": 5.0},
        "The file is gone.",
        "The file is gone (410 Gone). Kept 3.9 GB of 6.9 GB; attempt 2 of 50 (retry 4 without progress) in 5 s",
    ),
    (EventName.WARNING, {}, "the clock jumped", "warning: the clock jumped"),
    (EventName.QUEUED, {}, "", "queued"),
]


@pytest.mark.parametrize(("name", "fields", "message", "expected"), EVENTS)
def test_events_in_words(name: EventName, fields: dict[str, Any], message: str, expected: str) -> None:
    """Reason, what is kept, which attempt comes when: the same facts as in the event."""
    assert expected == event_words(DownloadEvent(event=name, view=view_of(**fields), message=message, ts=100.0))


@pytest.mark.parametrize("name", EventName)
def test_every_event_has_words(name: EventName) -> None:
    """An event added to the vocabulary prints as something."""
    assert event_words(DownloadEvent(event=name, view=view_of())) != ""


OUTCOMES = [
    (
        Outcome(view=view_of(), result=RESULT),
        "done: 7.0 GB in 4 min 10 s, 20.0 MB/s, 2.0 GB of it from before, 2 attempts, checked by etag",
    ),
    (
        Outcome(view=view_of(error=GONE, attempts=3, bytes_done=0), error=StatusError(410)),
        "failed after 3 attempts: The file is gone (410 Gone).",
    ),
    (
        Outcome(view=view_of(error=GONE), error=StatusError(410)),
        "failed: The file is gone (410 Gone). Kept 3.9 GB of 6.9 GB.",
    ),
    (Outcome(view=view_of(), error=DownloadPaused("x")), "paused. Kept 3.9 GB of 6.9 GB."),
]


@pytest.mark.parametrize(("outcome", "expected"), OUTCOMES)
def test_outcomes_in_words(outcome: Outcome, expected: str) -> None:
    """How it ended, after how much, and what is kept."""
    assert expected == outcome_words(outcome)


def test_a_fact_is_told_once() -> None:
    """The detail behind the plain sentence is left out where the sentence has it already."""
    full = replace(
        GONE, message="Not enough room: needs 12.4 GB, 3.1 GB free. Free some.", detail="needs 12.4 GB, 3.1 GB free"
    )
    told = outcome_words(Outcome(view=view_of(error=full, bytes_done=0), error=StatusError(410)))
    assert told == f"failed: {full.message}"


NOT_FOUND = ErrorView(code="not-found", category="not-found", message="Nothing there.")
RIGHT = "the same get again with the right --sha256"
NEXT = [
    ({"state": State.PAUSED}, None, "Continue with: resumable resume d1"),
    ({"state": State.PAUSED}, "/a b/s.db", "Continue with: resumable resume d1 --state '/a b/s.db'"),
    ({"state": State.FAILED, "error": STALLED}, None, "Try again with: resumable retry d1"),
    (
        {"state": State.FAILED, "error": NOT_FOUND, "actions": (UserAction.NEW_LINK,)},
        None,
        "Try again with: resumable retry d1 or give it another link: resumable relink d1 NEWURL",
    ),
    (
        {"state": State.FAILED, "error": NOT_FOUND, "actions": (UserAction.LOG_IN,)},
        None,
        "Try again with: resumable retry d1 or say who you are: the same get again with -H @FILE",
    ),
    (
        {"state": State.FAILED, "error": GONE, "actions": (UserAction.NEW_LINK,)},
        None,
        "Give it another link: resumable relink d1 NEWURL",
    ),
    (
        {
            "state": State.FAILED,
            "error": ErrorView(code="digest-mismatch", category="final-digest", message="m"),
            "actions": (UserAction.NEW_LINK,),
        },
        None,
        f"If the expected digest is wrong: {RIGHT}; if the link is wrong: resumable relink d1 NEWURL",
    ),
    (
        {"state": State.FAILED, "error": ErrorView(code="x", category="needs-link", message="m")},
        None,
        "Give it a fresh link: resumable relink d1 NEWURL",
    ),
]


@pytest.mark.parametrize(("fields", "state", "expected"), NEXT)
def test_the_next_step_is_a_command_to_paste(fields: dict[str, Any], state: str | None, expected: str) -> None:
    """With the state file where it is not the default."""
    assert expected == next_step(view_of(**fields), state)


def test_kept_lines_name_a_few_and_then_all() -> None:
    """Ctrl-C over a hundred downloads must not print a hundred lines."""
    one = kept_lines([view_of()], state=None)
    assert one == ["Kept 3.9 GB of 6.9 GB. Continue with: resumable resume d1"]
    many = kept_lines([view_of(download_id=f"d{n}", bytes_done=0) for n in range(8)], state="s.db")
    assert many[0] == "Nothing received yet of model.bin. Continue with: resumable resume d0 --state s.db"
    assert many[5:] == ["And 3 more. Continue all with: resumable resume --all --state s.db"]


NAMES = [
    ({}, "model.bin"),
    ({"filename": ""}, "model.bin"),
    ({"filename": "", "dest": "/the/folder", "url": "https://h/a/b%20c.bin?x"}, "b c.bin"),
    ({"filename": "", "url": "https://h/"}, "h"),
    ({"filename": "", "url": ""}, "d1"),
    ({"filename": "a\x1b[2Jb\u202etxt"}, "a\\x1b[2Jb\\u202etxt"),
]


@pytest.mark.parametrize(("fields", "expected"), NAMES)
def test_downloads_are_called_by_their_file(fields: dict[str, Any], expected: str) -> None:
    """Else by the end of their link; never with control characters."""
    assert expected == name_of(view_of(**fields))


def test_status_rows_say_why_and_when() -> None:
    """A waiting download names the reason and the next attempt; a dead owner is not hidden."""
    waiting = view_of(state=State.WAITING, attempts=1, error=STALLED, retry_at=112.0)
    expected = (
        "d1  waiting      model.bin  56 %, 3.9 GB of 6.9 GB, attempt 2 of 50 in 12 s: The server stopped sending."
    )
    assert expected == status_row(waiting, 100.0)
    overdue = "d1  waiting      model.bin  56 %, 3.9 GB of 6.9 GB, waiting for a free slot"
    assert overdue == status_row(waiting, 120.0)
    dead = status_row(view_of(stale=True), 100.0)
    expected = "56 %, 3.9 GB of 6.9 GB (its process has ended or does not answer)"
    assert dead == f"d1  interrupted  model.bin  {expected}"
    assert not status_row(view_of(stale=True, state=State.COMPLETE), 100.0).endswith("answer)")


def test_details_leave_out_what_is_not_known() -> None:
    """Each line is a fact."""
    failed = view_of(state=State.FAILED, error=GONE, breaks=(GB, 2 * GB), can_resume=False, created_at=5.0)
    assert detail_lines(failed, when=lambda ts: f"at {ts:.0f}", state=None) == [
        "  link        https://example.org/model.bin?sig=***",
        "  file        /d/model.bin",
        "  can resume  no: the server sends only whole files",
        "  broke at    1.0 GB, 2.0 GB",
        "  reason      The file is gone. (gone)",
        "  detail      410 Gone",
        "  begun       at 5",
        "  what to do  Try again with: resumable retry d1",
    ]


def test_details_of_one_that_waits() -> None:
    """Which attempt, of what kind the failure is, when the next one comes, whose process it is and what can be done."""
    waiting = view_of(
        state=State.WAITING, error=STALLED, attempts=2, no_progress=1, retry_at=112.0, owner="abc.491.7.rnd", url="u"
    )
    assert detail_lines(waiting, when=lambda ts: f"at {ts:.0f}", state="s.db") == [
        "  link        u",
        "  file        /d/model.bin",
        "  reason      The server stopped sending. (timeout: stalled)",
        "  attempts    2 of 50, 1 without progress",
        "  next try    at 112",
        "  process     491",
        "  what to do  Try at once with: resumable retry d1 --state s.db",
    ]
    gone = detail_lines(replace(waiting, stale=True), when=str, state=None)
    assert [line.split()[0] for line in gone][-1] == "what"
    assert gone[-1].endswith("resumable resume d1")
    assert not [line for line in gone if "process" in line or "next try" in line]


def test_attempts_without_a_most_are_only_counted() -> None:
    """max_attempts 0 means no cap."""
    assert attempt_words(view_of(attempt=4, max_attempts=0)) == "attempt 4"
    assert attempt_words(view_of(attempt=53, max_attempts=50)) == "attempt 53", "a person asked again"


# -- which events become log lines -------------------------------------------------------------------------------------


def tell(log: LogLines, name: EventName, ts: float, **fields: Any) -> str | None:
    """Hand one event to the log."""
    return log.line(DownloadEvent(event=name, view=view_of(**fields), ts=ts))


def test_a_log_beside_a_bar_leaves_out_what_the_bar_shows() -> None:
    """Trouble is still a line of its own."""
    log = LogLines(bar=True)
    assert [tell(log, name, 1.0) for name in (EventName.STARTED, EventName.VERIFYING)] == [None, None]
    assert tell(log, EventName.PROGRESS, 100.0) is None
    assert "The server stopped sending" in str(tell(log, EventName.WAITING, 101.0, error=STALLED))


def test_a_log_has_a_line_per_change_and_progress_every_thirty_seconds() -> None:
    """The clock of a download's progress begins with its first event and with each line."""
    log = LogLines()
    assert tell(log, EventName.QUEUED, 0.0) is None
    assert tell(log, EventName.STARTED, 1.0) == "d1  model.bin: started"
    assert [tell(log, EventName.PROGRESS, 1.0 + n) for n in range(1, 30)] == [None] * 29
    assert str(tell(log, EventName.PROGRESS, 31.0)).startswith("d1  model.bin: 56 %")
    assert tell(log, EventName.PROGRESS, 60.9) is None
    assert tell(log, EventName.PROGRESS, 60.9, download_id="d2") is None
    assert tell(log, EventName.PROGRESS, 61.0) is not None
    assert tell(log, EventName.COMPLETED, 62.0) is None


def test_a_log_without_progress_still_tells_changes() -> None:
    """--progress none."""
    log = LogLines(progress=False)
    assert tell(log, EventName.STARTED, 0.0) is not None
    assert tell(log, EventName.PROGRESS, 1000.0) is None
    assert tell(log, EventName.RESTARTED, 1001.0) is not None


def test_a_verbose_log_tells_every_broken_connection() -> None:
    """-v."""
    assert tell(LogLines(), EventName.INTERRUPTED, 0.0) is None
    verbose = LogLines(verbose=True)
    assert tell(verbose, EventName.INTERRUPTED, 0.0) is not None
    assert verbose.broken_words("d1") == ""


def test_broken_connections_without_a_line_are_counted_in_the_last_one() -> None:
    """A file that came through nine cuts does not look like one that came through none."""
    log = LogLines()
    for n in range(9):
        tell(log, EventName.INTERRUPTED, float(n))
    tell(log, EventName.INTERRUPTED, 9.0, download_id="d2")
    tell(log, EventName.COMPLETED, 10.0)
    assert log.broken_words("d1") == "9 broken connections"
    assert (log.broken_words("d1"), log.broken_words("d2")) == ("", "1 broken connection")


# -- JSON --------------------------------------------------------------------------------------------------------------


def test_an_event_line_is_the_event_as_everybody_else_gets_it() -> None:
    """The same object as over Socket.IO."""
    event = DownloadEvent(event=EventName.WAITING, view=view_of(error=STALLED), message="m", ts=1.5)
    assert event.to_wire() == json.loads(event_line(event))
    assert view_of().to_wire() == json.loads(view_line(view_of()))


def test_the_last_line_of_a_finished_download_has_the_documented_fields() -> None:
    """Exactly those of the README, in its order."""
    expected = {
        "event": "completed",
        "download_id": "d1",
        "url": "https://example.org/model.bin?sig=***",
        "path": "/d/model.bin",
        "size": 7 * GB,
        "sha256": "ab" * 32,
        "bytes_resumed": 2 * GB,
        "bytes_received": 5 * GB,
        "attempts": 2,
        "elapsed": 250.0,
        "error": None,
    }
    record = json.loads(outcome_line(Outcome(view=view_of(), result=RESULT)))
    assert (expected, list(expected)) == (record, list(record))


def test_the_last_line_of_a_failed_download_has_its_error_and_no_path() -> None:
    """A path in it would be taken for a file that is there."""
    view = view_of(error=GONE, bytes_resumed=1, bytes_received=2, attempts=3, elapsed=4.0)
    record = json.loads(outcome_line(Outcome(view=view, error=StatusError(410))))
    error = {
        "code": "gone",
        "category": "gone",
        "message": "The file is gone.",
        "detail": "410 Gone",
        "retryable": False,
    }
    expected = {
        "event": "failed",
        "download_id": "d1",
        "url": view.url,
        "path": None,
        "size": 6_900_000_000,
        "sha256": None,
        "bytes_resumed": 1,
        "bytes_received": 2,
        "attempts": 3,
        "elapsed": 4.0,
        "error": error,
    }
    assert expected == record


def test_the_summary_counts_every_ending() -> None:
    """What a script needs to decide, in one line."""
    outcomes = [
        Outcome(view=view_of(), result=RESULT),
        Outcome(view=view_of(bytes_received=1), error=StatusError(410)),
        Outcome(view=view_of(bytes_resumed=2), error=DownloadPaused("x")),
    ]
    expected = {
        "event": "summary",
        "downloads": 3,
        "completed": 1,
        "failed": 1,
        "cancelled": 0,
        "paused": 1,
        "bytes_resumed": 2 * GB + 2,
        "bytes_received": 5 * GB + 1,
        "elapsed": 9.5,
        "exit_code": 4,
    }
    assert expected == json.loads(summary_line(outcomes, elapsed=9.5, exit_code=4))


def test_numbers_that_json_does_not_have_become_null() -> None:
    """NaN and Infinity are not JSON, and most parsers stop at them."""
    record = {"speed": float("nan"), "deep": [{"eta": float("inf")}], "n": 1}
    assert dump(record) == '{"speed":null,"deep":[{"eta":null}],"n":1}'


@given(st.text())
def test_json_lines_are_one_line_of_ascii(text: str) -> None:
    """Line separators, lone surrogates and other languages survive any pipe."""
    line = view_line(view_of(filename=text))
    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line)["filename"] == text


# -- lines to a descriptor ---------------------------------------------------------------------------------------------


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Return a pipe's two ends, closed afterwards if they still are open."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def read_all(descriptor: int) -> str:
    """Read until the other end is closed."""
    blocks = []
    while block := os.read(descriptor, 65536):
        blocks.append(block)
    return b"".join(blocks).decode("utf-8", "surrogateescape")


def stuck_writer(descriptor: int) -> LineWriter:
    """Return a writer whose thread is stuck in a line that is longer than a pipe holds."""
    writer = LineWriter(descriptor)
    writer.line("x" * 200_000)
    while writer._queue:
        threading.Event().wait(0.001)
    return writer


def received_at_the_end(writer: LineWriter, pipe: tuple[int, int]) -> str:
    """Read while the writer is closed, and return all that came."""
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(read_all(pipe[0])))
    reader.start()
    assert writer.close(5.0)
    os.close(pipe[1])
    reader.join(5.0)
    return received[0]


def test_lines_come_out_in_order(pipe: tuple[int, int]) -> None:
    """Also those queued while nobody looked, and names that are no UTF-8."""
    writer = LineWriter(pipe[1])
    for n in range(1000):
        writer.line(f"line {n}")
    writer.line("caf\udce9")
    assert writer.close(5.0)
    os.close(pipe[1])
    assert [*(f"line {n}" for n in range(1000)), "caf\udce9", ""] == read_all(pipe[0]).split("\n")


def test_a_sleeping_reader_costs_progress_but_no_news(pipe: tuple[int, int]) -> None:
    """Of a thousand progress lines that wait only the newest is kept; what is not replaceable stays, in order."""
    writer = stuck_writer(pipe[1])
    for n in range(1000):
        writer.line(f"progress {n}", key="d1", replaceable=True)
    writer.line("waiting", key="d1")
    for n in range(1000):
        writer.line(f"more {n}", key="d1", replaceable=True)
    writer.line("other", key="d2", replaceable=True)
    assert not writer.close(0.05)
    received = received_at_the_end(writer, pipe)
    assert received.split("\n")[1:] == ["progress 999", "waiting", "more 999", "other", ""]


def test_a_closed_reader_is_told_once_and_stops_the_writer(pipe: tuple[int, int]) -> None:
    """`resumable get ... | head -1` ends quietly: somebody decides, nobody sees a traceback."""
    errors: list[OSError] = []
    told = threading.Event()

    def note(error: OSError) -> None:
        errors.append(error)
        told.set()

    os.close(pipe[0])
    writer = LineWriter(pipe[1])
    writer.on_error = note
    writer.line("one")
    assert told.wait(5.0)
    writer.line("two")
    assert not writer.close(5.0)
    assert [BrokenPipeError] == [type(error) for error in errors]


def test_a_closed_stream_swallows_everything() -> None:
    """With `>&-` its number may belong to the database by now: nothing is written to it."""
    writer = LineWriter(None)
    writer.line("lost")
    writer.draw([("lost", 4)])
    assert writer.close(1.0)


def test_a_pipe_that_somebody_made_non_blocking_loses_nothing(pipe: tuple[int, int]) -> None:
    """Node and some terminals do that to a shared descriptor."""
    os.set_blocking(pipe[1], False)
    writer = LineWriter(pipe[1])
    writer.line("y" * 300_000)
    received = received_at_the_end(writer, pipe)
    assert len(received) == 300_001


def test_drawn_lines_are_overwritten_and_stay_last(pipe: tuple[int, int]) -> None:
    """A log line goes above them; at the end they are gone."""
    writer = LineWriter(pipe[1])

    def expect(text: str) -> None:
        assert text == os.read(pipe[0], 65536).decode()

    writer.draw([("10 %", 4)])
    expect("10 %")
    writer.line("news")
    expect("\r\x1b[Knews\n10 %")
    writer.draw([("20 %", 4), ("total", 5)])
    expect("\r\x1b[K20 %\ntotal")
    writer.line("more")
    expect("\r\x1b[1A\x1b[Jmore\n20 %\ntotal")
    assert writer.close(5.0)
    os.close(pipe[1])
    assert read_all(pipe[0]) == "\r\x1b[1A\x1b[J"


def test_lines_that_a_narrower_terminal_has_wrapped_are_found_again(pipe: tuple[int, int]) -> None:
    """80 columns drawn, then the window has 30: three rows are taken away, not one."""
    width = [100]
    writer = LineWriter(pipe[1], lambda: width[0])
    writer.draw([("x" * 80, 80)])
    assert os.read(pipe[0], 65536) == b"x" * 80
    width[0] = 30
    writer.draw([("y", 1)])
    assert os.read(pipe[0], 65536) == b"\r\x1b[2A\x1b[Jy"
    writer.close(5.0)


def test_a_bar_that_had_no_time_to_appear_is_not_left_behind(pipe: tuple[int, int]) -> None:
    """The command ended while the terminal was busy: the last thing on it must not be a bar of what is done."""
    writer = stuck_writer(pipe[1])
    writer.draw([("50 %", 4)])
    assert not writer.close(0.05)
    received = received_at_the_end(writer, pipe)
    assert received == "x" * 200_000 + "\n"
