"""The table from what a download raises to recovery's verdict: one rule for ``recovery.Classifier``.

It knows the classes of ``errors.py`` and nothing else. Where a class says less than what it was raised from (a
connection that failed for one of twenty reasons), the rule has no opinion and the classifier judges the cause.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec.structs import replace

from recovery.classify import Action, Category, UserAction, Verdict, status_verdict
from recovery.gate import HostGateOpen
from recovery.lifecycle import CRASH_LOOP
from recovery.redaction import describe
from recovery.taxonomy import machine, network, origin
from recovery.taxonomy.codes import socket_verdict
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
from resumable.redact import one_line, redact_text

STALLED: Final = replace(
    network.TIMEOUT,
    code="stalled",
    message="The server stopped sending, or sends next to nothing. What arrived is kept; trying again usually helps.",
)
WEB_PAGE: Final = replace(network.WEB_PAGE, action=Action.RETRY, limit=2)
"""Retried a little, for portals let people in; never restarted, for the page says nothing about the file."""
NEEDS_LINK: Final = replace(origin.NEEDS_LINK, action=Action.REFRESH, limit=1)
"""The program's own ``refresh_url`` first, then a person."""
REDIRECT_REFUSED: Final = replace(
    origin.BAD_LINK,
    code="redirect-refused",
    message="The link leads where it must not be followed: in circles, away from encryption, or off the web. Check it.",
)
ADDRESS_REFUSED: Final = replace(
    origin.BAD_LINK,
    code="address-refused",
    message="The link leads to an address on a private network, which is not allowed here.",
)
PART_FILE_BUSY: Final = replace(
    machine.TRANSIENT_FILE,
    code="part-file-busy",
    message="Another download or program on this computer is writing this very file. Let it finish, or choose another"
    " place.",
    user_actions=(UserAction.RETRY_NOW, UserAction.CHOOSE_FOLDER, UserAction.CANCEL),
)
LENGTH_UNVERIFIED: Final = Verdict(
    category=Category.INTERRUPTED,
    action=Action.RETRY,
    limit=2,
    code="length-unverified",
    message="The server does not say how long the file is, and sends something else each time, so nobody can tell"
    " whether it is whole. Find its SHA-256, or another source.",
    user_actions=(UserAction.NEW_LINK, UserAction.RETRY_NOW, UserAction.CANCEL),
)
STATED_OTHERWISE: Final = replace(
    machine.FINAL_DIGEST,
    message="The file is not the one that was promised: its SHA-256 is another. Either the expected digest is wrong or"
    " the source has changed.",
)

_LONGEST: Final = 300
"""Characters of a technical line."""

_FAULTS: Final[Mapping[Fault, str]] = {
    Fault.NO_CONTENT_RANGE: "The server sends a part of the file without saying which one, so it was not used.",
    Fault.BAD_CONTENT_RANGE: "The server sends a part of the file and garbles which one, so it was not used.",
    Fault.WRONG_RANGE: "The server sends another part of the file than the one asked for, so it was not used.",
    Fault.MULTIPART: "The server wraps the part of the file in an envelope that was not asked for, so it was not used.",
    Fault.ENCODED: "The server sends the file compressed although asked not to, so its parts cannot be put together.",
    Fault.BAD_LENGTH: "The server contradicts itself about how much it sends, so it was not used.",
    Fault.TOO_LONG: "The server sends more than it promised, so the file cannot be what it said.",
}


def download_rule(exc: BaseException) -> Verdict | None:
    """Return the verdict on a ``DownloadError``; None for anything else and where the cause says more."""
    if not isinstance(exc, DownloadError):
        return None
    for cls in type(exc).__mro__:
        row = _TABLE.get(cls)
        if row is not None:
            return row if isinstance(row, Verdict) else row(exc)
    return None


def described(exc: BaseException) -> str:
    """Return the technical line of a failure, redacted: of ours the sentence, of others the class as well."""
    if not isinstance(exc, (DownloadError, HostGateOpen)):
        return describe(exc)
    line = one_line(redact_text(str(exc)))
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


def disk_full_now(error: DiskFull) -> Verdict:
    """Return the verdict on a full disk for a download that was told not to wait for space."""
    return replace(_disk_full(error), action=Action.ASK, condition=None)


def _disk_full(error: DiskFull) -> Verdict:
    amounts = _sentence(error)
    return replace(machine.DISK_FULL, message=f"{amounts} Free some space, and the download goes on where it stopped.")


def _destination(error: DestinationError) -> Verdict:
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno == errno.EFBIG:
        return replace(machine.FILE_TOO_LARGE, message=f"{_sentence(error)} Choose another folder.")
    return replace(machine.PERMISSION, message=f"{_sentence(error)} Choose another place, or put this one right.")


def _digest_mismatch(error: DigestMismatch) -> Verdict:
    if not error.kept:
        return STATED_OTHERWISE
    kept = f"It is kept as {redact_text(error.kept)} and must not be trusted."
    return replace(STATED_OTHERWISE, message=f"{STATED_OTHERWISE.message} {kept}")


def _protocol_fault(error: ProtocolFault) -> Verdict:
    match error.fault:
        case Fault.UNREADABLE:
            return origin.GARBLED
        case Fault.UNSATISFIABLE:
            return origin.RANGE_REFUSED
    # Retried, not restarted: none of the answer was used, what is kept is sound, and another node may know the rules.
    message = f"{_FAULTS[error.fault]} The server, or a proxy on the way, is to blame."
    return replace(origin.PROTOCOL, action=Action.RETRY, limit=2, code=error.fault.value, message=message)


def _connect_failed(error: ConnectFailed) -> Verdict | None:
    cause = error.__cause__
    if cause is None:
        return network.CONNECTION
    kind = type(cause)
    if kind.__name__ == "AddressRefused":  # by name: its module brings aiohttp along
        return ADDRESS_REFUSED
    if isinstance(cause, OSError) and kind.__module__ == "builtins":
        # Judged here, where it is known that EACCES is a firewall's doing and not a folder's.
        return socket_verdict(cause) or network.CONNECTION
    return None


def _sentence(error: DownloadError) -> str:
    """Return the exception's text as a sentence for people."""
    text = redact_text(str(error)).rstrip(". ")
    return f"{text[:1].upper()}{text[1:]}."


_Row = Verdict | Callable[[Any], Verdict | None]
_TABLE: Final[Mapping[type[BaseException], _Row]] = {
    # the origin, or the way to it
    ConnectFailed: _connect_failed,
    StatusError: lambda error: status_verdict(error.status, error.retry_after_s),
    Interrupted: network.INTERRUPTED,
    Stalled: STALLED,
    ProtocolFault: _protocol_fault,
    WebPage: WEB_PAGE,
    RepresentationChanged: origin.CHANGED,
    RedirectRefused: REDIRECT_REFUSED,
    NeedsLink: NEEDS_LINK,
    # this machine; any other LocalError is judged by the errno of its cause
    DiskFull: _disk_full,
    DestinationError: _destination,
    PartFileBusy: PART_FILE_BUSY,
    DeviceError: machine.DEVICE,
    # the data
    DigestMismatch: _digest_mismatch,
    LengthUnverified: LENGTH_UNVERIFIED,
    # nobody
    LeaseLost: machine.LOST_RACE,
    DownloadElsewhere: machine.LOST_RACE,
    DownloadDeferred: machine.CONTROL,
    FailedElsewhere: lambda error: error.verdict,
    OutOfTime: network.DEADLINE,
    CrashLoop: CRASH_LOOP,
    DownloadPaused: machine.CONTROL,
    DownloadCancelled: machine.CONTROL,
}
