"""Which exit code each ending has, and what several endings come to."""

from __future__ import annotations

import inspect

import pytest

import resumable.errors as errors_module
from recovery.verdict import Action, Category, Verdict
from resumable.errors import (
    ConnectFailed,
    CrashLoop,
    DestinationError,
    DeviceError,
    DigestMismatch,
    DiskFull,
    DownloadCancelled,
    DownloadDeferred,
    DownloadElsewhere,
    DownloadError,
    DownloadPaused,
    FailedElsewhere,
    Fault,
    Interrupted,
    LeaseLost,
    LengthUnverified,
    NeedsLink,
    OutOfTime,
    PartFileBusy,
    ProtocolFault,
    RedirectRefused,
    RepresentationChanged,
    Stalled,
    StatusError,
    WebPage,
)
from resumable.events import DownloadView, ErrorView, EventName
from resumable_ui.exitcodes import combine, exit_code
from resumable_ui.outcome import Outcome


def elsewhere(category: Category) -> FailedElsewhere:
    """Return what another process's failure of this category is here."""
    error = FailedElsewhere("gave up")
    error.verdict = Verdict(category=category, action=Action.FAIL, code="x", message="x")
    return error


CASES: list[tuple[BaseException, int]] = [
    (ConnectFailed("refused"), 3),
    (Interrupted(1, 2), 3),
    (Stalled(30), 3),
    (DownloadError("given up"), 3),
    (ProtocolFault(Fault.WRONG_RANGE), 3),
    (StatusError(408), 3),
    (StatusError(429), 3),
    (StatusError(500), 3),
    (StatusError(503), 3),
    (StatusError(401), 4),
    (StatusError(403), 4),
    (StatusError(404), 4),
    (StatusError(410), 4),
    (StatusError(451), 4),
    (NeedsLink("expired"), 4),
    (RedirectRefused("loop"), 4),
    (WebPage(), 4),
    (DigestMismatch(expected="a", actual="b", source="caller"), 5),
    (LengthUnverified("?"), 5),
    (RepresentationChanged("etag"), 5),
    (DiskFull("full", needed=2, free=1, path="/"), 6),
    (DestinationError("read-only"), 6),
    (DeviceError("EIO"), 6),
    (PermissionError(13, "denied"), 6),
    (ConnectionResetError(104, "reset"), 3),
    (TimeoutError("late"), 3),
    (DownloadPaused("elsewhere"), 7),
    (DownloadDeferred(0.0), 7),
    (DownloadElsewhere("d1"), 7),
    (DownloadCancelled("elsewhere"), 7),
    (LeaseLost("taken over"), 7),
    (PartFileBusy("locked"), 7),
    (CrashLoop("dies"), 7),
    (OutOfTime("late"), 3),
    (elsewhere(Category.TIMEOUT), 3),
    (elsewhere(Category.NOT_FOUND), 4),
    (elsewhere(Category.FINAL_DIGEST), 5),
    (elsewhere(Category.DISK_FULL), 6),
    (ZeroDivisionError("ours"), 1),
]


@pytest.mark.parametrize(("error", "expected"), CASES, ids=lambda value: repr(value)[:40])
def test_every_ending_has_its_code(error: BaseException, expected: int) -> None:
    """The table of the README, row by row."""
    assert expected == exit_code(error)


def test_no_error_of_ours_is_a_fault_of_this_program() -> None:
    """A class added to the hierarchy gets a code by its branch, never 0, 1 or 2."""
    kinds = [kind for _, kind in inspect.getmembers(errors_module, inspect.isclass) if issubclass(kind, DownloadError)]
    tested = {type(error) for error, _ in CASES}
    leaves = [kind for kind in kinds if not kind.__subclasses__()]
    assert set() == set(leaves) - tested
    codes = {exit_code(kind.__new__(kind)) for kind in kinds if kind not in {StatusError, ProtocolFault}}
    assert codes <= {3, 4, 5, 6, 7}


def test_every_status_is_either_refused_or_may_pass() -> None:
    """Client errors are the server's no, except those that pass by themselves; all else may be better tomorrow."""
    passing = {408, 409, 421, 423, 425, 429}
    expected = {status: 4 if 400 <= status < 500 and status not in passing else 3 for status in range(100, 600)}
    assert expected == {status: exit_code(StatusError(status)) for status in range(100, 600)}


@pytest.mark.parametrize(
    ("codes", "expected"),
    [([], 0), ([0, 0], 0), ([0, 7], 7), ([7, 3], 3), ([3, 4], 4), ([4, 5], 5), ([5, 6], 6), ([6, 1], 1), ([0, 2], 2)],
)
def test_several_endings_come_to_the_worst(codes: list[int], expected: int) -> None:
    """In the order 6, 5, 4, 3; a fault of ours is never covered up."""
    assert expected == combine(codes)


ENDINGS = [
    (None, EventName.COMPLETED, 0),
    (DownloadPaused("p"), EventName.PAUSED, 7),
    (DownloadCancelled("c"), EventName.CANCELLED, 7),
    (StatusError(404), EventName.FAILED, 4),
]


@pytest.mark.parametrize(("error", "event", "code"), ENDINGS)
def test_an_outcome_names_its_event(error: BaseException | None, event: EventName, code: int) -> None:
    """Paused and cancelled are ends of their own, not failures."""
    outcome = Outcome(view=DownloadView(download_id="d1"), error=error)
    assert (event, code) == (outcome.event, outcome.exit_code)


def test_a_fault_is_what_the_view_says_else_what_the_exception_says() -> None:
    """The view's words are recovery's; an exception that never reached it speaks for itself."""
    known = ErrorView(code="gone", category="gone", message="The file is gone.")
    view = DownloadView(download_id="d1", error=known)
    assert known is Outcome(view=view, error=StatusError(410)).fault
    assert Outcome(view=view).fault is None
    expected = ErrorView(code="disk-full", category="unknown", message="no room", retryable=False)
    error = DiskFull("no room", needed=2, free=1, path="/")
    assert expected == Outcome(view=DownloadView(download_id=""), error=error).fault
