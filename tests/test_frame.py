"""The bars of a terminal as rows of pieces: what is on them, at every width, in either set of characters."""

from __future__ import annotations

from typing import Any
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from recovery.states import State
from resumable.events import DownloadView, ErrorView
from resumable_ui.frame import ASCII, BLOCKS, Frame, Tone, columns, cut, frame
from resumable_ui.terminal import Canvas, charset_for

STALLED = ErrorView(code="stalled", category="timeout", message="The server stopped answering.", retryable=True)


def view_of(**fields: Any) -> DownloadView:
    """Return a download in mid-flight, changed by ``fields``."""
    values: dict[str, Any] = {
        "download_id": "d1",
        "filename": "sd_xl_base_1.0.safetensors",
        "state": State.RUNNING,
        "bytes_done": 3_900_000_000,
        "bytes_total": 6_900_000_000,
        "bytes_resumed": 2_100_000_000,
        "speed": 21_400_000.0,
        "eta": 140.0,
        "attempt": 3,
        "max_attempts": 5,
    }
    return DownloadView(**(values | fields))


WAITING = view_of(
    filename="control-lora-canny-rank256.safetensors",
    state=State.WAITING,
    bytes_done=210_000_000,
    bytes_total=774_000_000,
    bytes_resumed=0,
    speed=0.0,
    eta=None,
    attempt=1,
    attempts=1,
    retry_at=112.0,
    error=STALLED,
)


def text_of(rows: Frame) -> list[str]:
    """Return the rows without their tones."""
    return ["".join(text for text, _ in row) for row in rows]


def test_a_resumed_download_has_two_tones_its_try_and_where_it_began() -> None:
    """The part of former runs is told apart by character, not by colour alone."""
    (row,) = frame([view_of()], finished=0, now=100.0, width=140, height=24)
    (line,) = text_of([row])
    expected = "sd_xl_base_1.0.safetensors ▒▒▒▒▒▒▒▒▒█████████░░░░░░░░░░░░░░  56% 3.9 GB/6.9 GB  21.4 MB/s"
    assert line == f"{expected}  2 min 20 s left  try 3/5  from 2.1 GB"
    assert row[1:4] == [("▒" * 9, Tone.RESUMED), ("█" * 9, Tone.FRESH), ("░" * 14, Tone.EMPTY)]


WIDTHS = [
    (
        110,
        "control-lora-canny-rank256.sa… ████████░░░░░░░░░░░░░░░░░░░░░░░░  27% try 2/5 in 12 s: The server stopped a…",
    ),
    (80, "control-lora-can… ███░░░░░░░░░  27% try 2/5 in 12 s: The server stopped answ…"),
    (40, "control-l… █░░░░  27% try 2/5 12 s"),
]


@pytest.mark.parametrize(("width", "expected"), WIDTHS)
def test_a_wait_tells_the_try_the_countdown_and_the_reason(width: int, expected: str) -> None:
    """As much of it as fits: a narrow terminal keeps the countdown and drops the reason."""
    assert [expected] == text_of(frame([WAITING], finished=0, now=100.0, width=width, height=24))


def test_at_eighty_columns_the_time_left_is_not_cut_off() -> None:
    """It is what most people look for, on the terminal that most have."""
    (line,) = text_of(frame([view_of(attempt=1, bytes_resumed=0)], finished=0, now=100.0, width=80, height=24))
    assert line == "sd_xl_base_1.0.s… ██████░░░░░░  56% 3.9 GB/6.9 GB  21.4 MB/s  2 min 20 s left"


def test_no_word_of_a_row_that_moves_is_cut() -> None:
    """What does not fit is left out; that it is not the first try is said at 80 and at 40 columns."""
    for width in range(40, 161):
        (line,) = text_of(frame([view_of(max_attempts=50)], finished=0, now=100.0, width=width, height=24))
        assert "…" not in line.partition("%")[2]
        assert len(line) <= width - 3  # `^C` fits behind it
        assert "21.4 MB/s" in line
        if width in {40, 80}:
            assert line.endswith("  2 min 20 s left  try 3" if width == 80 else " try 3")


def test_a_short_name_leaves_its_room_to_the_words() -> None:
    """The column of the names is as wide as the longest of them."""
    view = view_of(filename="model.bin", bytes_resumed=0, max_attempts=50, eta=20.0)
    (line,) = text_of(frame([view], finished=0, now=100.0, width=80, height=24))
    assert line == "model.bin ████░░░░  56% 3.9 GB/6.9 GB  21.4 MB/s  20 s left  try 3/50"


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("late", [0.05, 0.0, -1.5])
def test_a_wait_that_is_over_is_now(width: int, late: float) -> None:
    """Not `in 0.0 s`."""
    waiting = replace(WAITING, max_attempts=50, retry_at=100.0 + late)
    (line,) = text_of(frame([waiting], finished=0, now=100.0, width=width, height=24))
    assert " try 2/50 now" in line


STATES = [
    ({"state": State.QUEUED, "bytes_done": 0, "bytes_total": None}, "queued"),
    ({"state": State.VERIFYING}, "verifying"),
    ({"state": State.PARKED, "error": STALLED}, "waits: The server stopped answering"),
    ({"state": State.PAUSED}, "paused"),
    ({"eta": None}, "time left unknown"),
    ({"bytes_total": None, "eta": None}, "3.9 GB  21.4 MB/s"),
    ({"attempt": 1, "bytes_resumed": 0}, "2 min 20 s left"),
    ({"attempt": 53, "max_attempts": 50}, "  try 53  "),  # a person asked again, with all retries new
]


@pytest.mark.parametrize(("fields", "expected"), STATES)
def test_every_state_has_its_words(fields: dict[str, Any], expected: str) -> None:
    """One row each."""
    (line,) = text_of(frame([view_of(**fields)], finished=0, now=100.0, width=160, height=24))
    assert expected in line


def test_several_have_a_total_row() -> None:
    """What is finished is counted there; it is not drawn any more."""
    *_, total = text_of(frame([view_of(), WAITING], finished=1, now=100.0, width=120, height=24))
    assert total == "1 of 3 done · 4.1 GB of 7.7 GB · 21.4 MB/s · 2 min 47 s left · 1 recovering"


@pytest.mark.parametrize(("width", "expected"), [(140, "does not answer"), (50, "interrupted")])
@pytest.mark.parametrize("state", [State.RUNNING, State.WAITING, State.VERIFYING, State.QUEUED])
def test_what_nobody_runs_any_more_says_so(state: State, width: int, expected: str) -> None:
    """No speed, no time left, no countdown: nothing of that will come."""
    view = view_of(stale=True, state=state, retry_at=112.0, error=STALLED)
    (row,) = text_of(frame([view], finished=0, now=100.0, width=width, height=24))
    assert expected in row
    assert [word for word in ("B/s", "left", " in ", "queued", "verifying") if word in row] == []


TOTALS = [
    ({"state": State.PAUSED}, "3.9 GB of 6.9 GB · 0 B/s"),
    ({"stale": True}, "3.9 GB of 6.9 GB · 0 B/s"),
    ({"state": State.QUEUED, "bytes_total": None}, "3.9 GB · 0 B/s"),
]


@pytest.mark.parametrize(("fields", "expected"), TOTALS, ids=lambda value: str(value)[:30])
def test_the_time_left_is_that_of_what_goes_on(fields: dict[str, Any], expected: str) -> None:
    """What is paused or has lost its process is not waited for; an unknown size makes it unknown."""
    (_, alone) = text_of(frame([view_of(**fields)], finished=1, now=100.0, width=160, height=24))
    assert alone == f"1 of 2 done · {expected}"
    (*_, total) = text_of(frame([view_of(), view_of(**fields)], finished=0, now=100.0, width=160, height=24))
    assert ("2 min 20 s left" in total) == (fields.get("state") is not State.QUEUED)


def test_failures_are_not_done() -> None:
    """They are counted apart."""
    (_, total) = text_of(frame([view_of()], finished=2, failed=2, now=100.0, width=160, height=24))
    assert total.startswith("0 of 3 done · 2 failed · ")


WAITS = [
    ({}, "try 2/5 in 12 s: The server stopped answering"),
    ({"attempt": 4}, "try 2/5 in 12 s: The server stopped answering"),  # a wait for the host is no attempt
    ({"attempts": 0}, "try 1/5 in 12 s: The server stopped answering"),
    ({"retry_at": 90.0}, "waiting for a free slot"),
]


@pytest.mark.parametrize(("fields", "expected"), WAITS, ids=lambda value: str(value)[:30])
def test_a_wait_counts_attempts_and_tells_no_reason_that_is_over(fields: dict[str, Any], expected: str) -> None:
    """Attempts that were made, not turns that were waited for; a wait that is over is one for a slot."""
    waiting = replace(WAITING, **fields)
    (line,) = text_of(frame([waiting], finished=0, now=100.0, width=160, height=24))
    assert line.endswith(f"27% {expected}")


def test_more_than_fit_are_counted() -> None:
    """Running ones first, and the frame leaves a line for the prompt."""
    queued = [view_of(download_id=f"q{i}", state=State.QUEUED, filename=f"q{i}") for i in range(20)]
    lines = text_of(frame([*queued, view_of()], finished=0, now=0.0, width=80, height=6))
    assert len(lines) == 5
    assert lines[0].startswith("sd_xl_base")
    assert lines[3] == "… and 18 more"


def test_ascii_for_terminals_that_are_not_utf8() -> None:
    """Every character is one byte."""
    lines = text_of(frame([view_of(), WAITING], finished=1, now=100.0, width=90, height=24, charset=ASCII))
    assert " ##==---- " in lines[0]
    assert all(line.isascii() for line in lines)


views = st.builds(
    view_of,
    filename=st.text(max_size=60),
    state=st.sampled_from(sorted(State)),
    bytes_done=st.integers(0, 10**12),
    bytes_total=st.none() | st.integers(0, 10**12),
    bytes_resumed=st.integers(0, 10**12),
    eta=st.none() | st.floats(0, 1e9),
    retry_at=st.none() | st.floats(0, 1e9),
    error=st.none() | st.just(STALLED),
)


@given(st.lists(views, max_size=8), st.integers(0, 200), st.integers(1, 40), st.sampled_from([ASCII, BLOCKS]))
def test_no_row_wraps_and_no_frame_scrolls(some: list[DownloadView], width: int, height: int, charset: Any) -> None:
    """Whatever the server calls its files and whatever the size of the window."""
    rows = frame(some, finished=0, now=0.0, width=width, height=height, charset=charset)
    assert len(rows) <= max(1, height - 1)
    assert all(columns(line) < max(width, 1) for line in text_of(rows))
    assert not [character for line in text_of(rows) for character in line if category(character) in {"Cc", "Zl", "Zp"}]


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [("abcdef", 6, "abcdef"), ("abcdefg", 6, "abcde…"), ("漢字漢字", 5, "漢字…"), ("abc", 1, "…"), ("abc", 0, "")],
)
def test_what_is_cut_is_marked(text: str, width: int, expected: str) -> None:
    """Wide characters take two columns."""
    assert expected == cut(text, width, BLOCKS)


PAINTED = [
    ({"TERM": "xterm-256color"}, True),
    ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
    ({"TERM": "vt100"}, True),
    ({"TERM": "dumb"}, False),
]


@pytest.mark.parametrize(("environ", "coloured"), PAINTED)
def test_colours_by_the_environment(environ: dict[str, str], coloured: bool) -> None:
    """NO_COLOR is kept; the width told beside a line counts no escape codes."""
    ((line, width),) = Canvas(environ).paint([[("ab", Tone.PLAIN), ("cd", Tone.BAD)]])
    assert (coloured, 4) == ("\x1b[" in line, width)
    assert line.replace("\x1b[31m", "").replace("\x1b[0m", "") == "abcd"


@pytest.mark.parametrize(
    ("encoding", "expected"), [("utf-8", BLOCKS), ("UTF8", BLOCKS), ("latin-1", ASCII), ("ascii", ASCII), (None, ASCII)]
)
def test_blocks_need_utf8(encoding: str | None, expected: Any) -> None:
    """Everything else gets ASCII."""
    assert charset_for(encoding) is expected
