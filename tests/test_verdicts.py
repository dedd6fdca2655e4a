"""Every way a download can fail leads to one verdict, in plain words and without secrets."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from typing import TypeVar

import aiohttp
import pytest

from recovery.classify import Action, Category, Classifier, Condition, UserAction, Verdict, status_verdict
from recovery.taxonomy import origin
from resumable import errors
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
    IntegrityError,
    Interrupted,
    LeaseLost,
    LengthUnverified,
    LocalError,
    NeedsLink,
    OriginError,
    OutOfTime,
    PartFileBusy,
    ProtocolFault,
    RedirectRefused,
    RepresentationChanged,
    Stalled,
    StatusError,
    WebPage,
)
from resumable.verdicts import disk_full_now, download_rule

HEX = "ab" * 32
FULL = DiskFull(
    "not enough free space for /d/a.bin: needs 12.4 GB, 3 GB free",
    needed=12_400_000_000,
    free=3_000_000_000,
    path="/d/a.bin",
)


E = TypeVar("E", bound=BaseException)


def caused(error: E, cause: BaseException) -> E:
    """Return ``error`` as raised from ``cause``."""
    error.__cause__ = cause
    return error


class AddressRefused(OSError):  # noqa: N818 - named like the one it stands for
    """Named like the transport's, which is recognised by its name."""


def elsewhere(verdict: Verdict) -> FailedElsewhere:
    """Return what another process's failure is here."""
    error = FailedElsewhere("x")
    error.verdict = verdict
    return error


ROWS: list[tuple[str, DownloadError, Category, Action, str]] = [
    ("a body that ends early is fetched on", Interrupted(5, 10), Category.INTERRUPTED, Action.RETRY, "interrupted"),
    ("a silent server is asked again", Stalled(30.0), Category.TIMEOUT, Action.RETRY, "stalled"),
    ("no connection and no cause", ConnectFailed("x"), Category.CONNECTION, Action.RETRY, "connection-lost"),
    (
        "refused",
        caused(ConnectFailed("x"), ConnectionRefusedError()),
        Category.CONNECTION,
        Action.RETRY,
        "connection-lost",
    ),
    ("no time", caused(ConnectFailed("x"), TimeoutError()), Category.TIMEOUT, Action.RETRY, "timeout"),
    (
        "EACCES on a socket is a firewall, not a folder",
        caused(ConnectFailed("x"), PermissionError(errno.EACCES, "")),
        Category.CONNECTION,
        Action.RETRY,
        "connection-not-permitted",
    ),
    (
        "the transport's own exception says more",
        caused(ConnectFailed("x"), aiohttp.ServerDisconnectedError()),
        Category.CONNECTION,
        Action.RETRY_FRESH,
        "server-disconnected",
    ),
    (
        "a certificate is not to be trusted",
        caused(ConnectFailed("x"), ssl.SSLCertVerificationError()),
        Category.TLS_PERMANENT,
        Action.FAIL,
        "tls-not-trusted",
    ),
    (
        "no such name",
        caused(ConnectFailed("x"), socket.gaierror(socket.EAI_NONAME, "")),
        Category.DNS,
        Action.RETRY,
        "name-not-found",
    ),
    (
        "an errno nobody knows",
        caused(ConnectFailed("x"), OSError(9999, "")),
        Category.CONNECTION,
        Action.RETRY,
        "connection-lost",
    ),
    (
        "the address policy refuses; the weather will not change that",
        caused(ConnectFailed("x"), AddressRefused()),
        Category.BAD_REQUEST,
        Action.FAIL,
        "address-refused",
    ),
    ("a status is judged as a status", StatusError(503), Category.SERVER, Action.RETRY, "server-unavailable"),
    (
        "a wait that the server asks for",
        StatusError(503, retry_after_s=7.0),
        Category.THROTTLED,
        Action.AFTER,
        "throttled",
    ),
    ("an expired link", StatusError(403), Category.AUTH, Action.REFRESH, "not-allowed"),
    ("the wrong link", StatusError(404), Category.NOT_FOUND, Action.FAIL, "not-found"),
    (
        "a page instead of the file: try a little, then ask",
        WebPage(),
        Category.CAPTIVE_PORTAL,
        Action.RETRY,
        "web-page",
    ),
    ("another file behind the link", RepresentationChanged("size 1 -> 2"), Category.CHANGED, Action.RESTART, "changed"),
    (
        "a redirect that must not be followed",
        RedirectRefused("x"),
        Category.BAD_REQUEST,
        Action.FAIL,
        "redirect-refused",
    ),
    ("a link that is needed", NeedsLink("x"), Category.NEEDS_LINK, Action.REFRESH, "needs-link"),
    ("compressed, though asked not to", ProtocolFault(Fault.ENCODED), Category.PROTOCOL, Action.RETRY, "encoded"),
    ("misplaced", ProtocolFault(Fault.WRONG_RANGE), Category.PROTOCOL, Action.RETRY, "wrong-range"),
    ("an envelope", ProtocolFault(Fault.MULTIPART), Category.PROTOCOL, Action.RETRY, "multipart"),
    ("no place", ProtocolFault(Fault.NO_CONTENT_RANGE), Category.PROTOCOL, Action.RETRY, "no-content-range"),
    (
        "nonsense for a place",
        ProtocolFault(Fault.BAD_CONTENT_RANGE),
        Category.PROTOCOL,
        Action.RETRY,
        "bad-content-range",
    ),
    ("a length that is none", ProtocolFault(Fault.BAD_LENGTH), Category.PROTOCOL, Action.RETRY, "bad-length"),
    ("more than promised", ProtocolFault(Fault.TOO_LONG), Category.PROTOCOL, Action.RETRY, "too-long"),
    ("not HTTP", ProtocolFault(Fault.UNREADABLE), Category.PROTOCOL, Action.RETRY, "garbled-answer"),
    (
        "a range that exists is denied",
        ProtocolFault(Fault.UNSATISFIABLE),
        Category.RANGES,
        Action.RESYNC,
        "range-refused",
    ),
    ("no room", FULL, Category.DISK_FULL, Action.PARK, "disk-full"),
    ("no permission", DestinationError("no permission for /d/a"), Category.PERMISSION, Action.ASK, "cannot-write-here"),
    (
        "FAT32",
        caused(DestinationError("/d/a would be too large"), OSError(errno.EFBIG, "")),
        Category.FILE_TOO_LARGE,
        Action.ASK,
        "file-too-large",
    ),
    (
        "a destination's errno that is in its text already",
        caused(DestinationError("x"), OSError(errno.EACCES, "")),
        Category.PERMISSION,
        Action.ASK,
        "cannot-write-here",
    ),
    ("somebody else writes it", PartFileBusy("x"), Category.TRANSIENT_FILE, Action.RETRY, "part-file-busy"),
    ("the disk fails", DeviceError("x"), Category.DEVICE, Action.RESYNC, "device-failed"),
    (
        "another machine-local trouble is judged by its errno",
        caused(LocalError("x"), OSError(errno.EMFILE, "")),
        Category.DESCRIPTORS,
        Action.PARK,
        "too-many-open",
    ),
    (
        "not the promised file, kept aside",
        DigestMismatch(expected=HEX, actual=HEX, source="caller", kept="a.suspect"),
        Category.FINAL_DIGEST,
        Action.ASK,
        "digest-mismatch",
    ),
    (
        "not the promised file, known before a byte came",
        DigestMismatch(expected=HEX, actual=HEX, source="caller"),
        Category.FINAL_DIGEST,
        Action.ASK,
        "digest-mismatch",
    ),
    (
        "nobody knows whether it is whole",
        LengthUnverified("x"),
        Category.INTERRUPTED,
        Action.RETRY,
        "length-unverified",
    ),
    ("somebody else runs it", LeaseLost("x"), Category.LOST_RACE, Action.PROPAGATE, "running-elsewhere"),
    (
        "somebody else runs it, and we do not follow",
        DownloadElsewhere("x"),
        Category.LOST_RACE,
        Action.PROPAGATE,
        "running-elsewhere",
    ),
    ("put off is no failure", DownloadDeferred(0.0), Category.CONTROL, Action.PROPAGATE, "stopped"),
    ("paused is no failure", DownloadPaused("x"), Category.CONTROL, Action.PROPAGATE, "stopped"),
    ("cancelled is no failure", DownloadCancelled("x"), Category.CONTROL, Action.PROPAGATE, "stopped"),
    ("as the other process judged it", elsewhere(origin.NOT_FOUND), Category.NOT_FOUND, Action.FAIL, "not-found"),
    ("out of time", OutOfTime("x"), Category.DEADLINE, Action.FAIL, "deadline"),
    ("its program keeps dying", CrashLoop("x"), Category.UNKNOWN, Action.FAIL, "crash-loop"),
    ("a bare origin's fault is unknown", OriginError("x"), Category.UNKNOWN, Action.RETRY, "unexpected"),
    (
        "a bare origin's fault is judged by its cause",
        caused(OriginError("x"), ConnectionResetError()),
        Category.CONNECTION,
        Action.RETRY,
        "connection-lost",
    ),
    ("a bare fault of the data is unknown", IntegrityError("x"), Category.UNKNOWN, Action.RETRY, "unexpected"),
]


@pytest.mark.parametrize(("why", "error", "category", "action", "code"), ROWS, ids=[row[0] for row in ROWS])
def test_each_failure_has_its_verdict(
    why: str, error: DownloadError, category: Category, action: Action, code: str
) -> None:
    """Through the classifier, as the manager asks it."""
    verdict = Classifier([download_rule]).classify(error)
    assert (category, action, code) == (verdict.category, verdict.action, verdict.code), why


def subclasses(cls: type[DownloadError]) -> Iterator[type[DownloadError]]:
    """Yield ``cls`` and everything below it that ``errors`` exports."""
    yield cls
    for child in cls.__subclasses__():
        if child.__name__ in errors.__all__:
            yield from subclasses(child)


def test_no_class_and_no_fault_is_forgotten() -> None:
    """A class added to errors.py without a row here is noticed."""
    covered = {type(row[1]) for row in ROWS} | {DownloadError}
    assert covered == set(subclasses(DownloadError))
    assert {row[1].fault for row in ROWS if isinstance(row[1], ProtocolFault)} == set(Fault)


def test_a_subclass_is_judged_like_its_class() -> None:
    """A program may refine our exceptions."""

    class SlowMirror(Stalled):
        pass

    assert download_rule(Stalled(3.0)) == download_rule(SlowMirror(3.0))


@pytest.mark.parametrize("error", [ValueError("x"), OSError(errno.ENOSPC, ""), KeyboardInterrupt()])
def test_what_is_not_ours_is_left_to_the_classifier(error: BaseException) -> None:
    """One rule, one family."""
    assert download_rule(error) is None


def test_every_status_is_judged_as_recovery_judges_it() -> None:
    """With and without a wait."""
    for status in range(100, 600):
        assert status_verdict(status) == download_rule(StatusError(status))
        assert status_verdict(status, 3.0) == download_rule(StatusError(status, retry_after_s=3.0))


def test_a_full_disk_says_how_much_and_waits() -> None:
    """The amounts are in the sentence, the buttons help, and no attempt is used up."""
    verdict = download_rule(FULL)
    assert verdict is not None
    amounts = "Not enough free space for /d/a.bin: needs 12.4 GB, 3 GB free."
    assert f"{amounts} Free some space, and the download goes on where it stopped." == verdict.message
    assert verdict.condition is Condition.DISK_SPACE
    assert verdict.user_actions[0] is UserAction.FREE_SPACE


def test_a_full_disk_ends_a_download_that_was_told_not_to_wait() -> None:
    """``wait_for_space=False``: the same words, but a person acts."""
    waiting, now = download_rule(FULL), disk_full_now(FULL)
    assert waiting is not None
    assert now.action is Action.ASK
    assert now.condition is None
    assert (waiting.code, waiting.message, waiting.user_actions) == (now.code, now.message, now.user_actions)


def test_a_missing_link_is_asked_for() -> None:
    """After the program's own refresh has failed."""
    verdict = download_rule(NeedsLink("x"))
    assert verdict is not None
    assert verdict.limit == 1
    assert verdict.user_actions[0] is UserAction.NEW_LINK


def test_what_was_kept_aside_is_named() -> None:
    """And nothing is said to be kept that is not."""
    kept = download_rule(DigestMismatch(expected=HEX, actual=HEX, source="caller", kept="/d/a\x1b.suspect"))
    lost = download_rule(DigestMismatch(expected=HEX, actual=HEX, source="caller"))
    assert kept is not None
    assert lost is not None
    assert "/d/a\\x1b.suspect" in kept.message
    assert "kept" not in lost.message


def test_messages_are_sentences_without_secrets() -> None:
    """Whatever an exception's own text holds."""
    url = "https://user:canary@h/a?token=canary"
    for error in (
        DiskFull(f"no room for {url}\x1b[2J", needed=1, free=0, path=url),
        DestinationError(f"cannot write {url}\n"),
        caused(DestinationError(f"cannot write {url}"), OSError(errno.EFBIG, url)),
        DigestMismatch(expected=HEX, actual=HEX, source=url, kept=url),
        RepresentationChanged(url),
        ConnectFailed(url),
    ):
        verdict = download_rule(error)
        assert isinstance(verdict, Verdict)
        assert "canary" not in verdict.message
        assert verdict.message.isprintable()
        assert verdict.message.endswith(".")
        assert verdict.message[0].isupper()
