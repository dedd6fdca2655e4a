"""Everything a download can raise, drawn as a tree; who is to blame decides the branch.

::

    DownloadError                      has .url (redacted), .attempts, .bytes_kept, .resumable, .code, .verdict
    |-- OriginError                    the origin, or the way to it
    |   |-- ConnectFailed              no connection: DNS, refused, unreachable, TLS, proxy
    |   |-- StatusError                an answer that is not ours to use: .status, .retry_after_s
    |   |-- Interrupted                the body ended early: .received, .promised
    |   |-- Stalled                    no byte, or too few, for too long: .seconds
    |   |-- ProtocolFault              a response that breaks a rule: .fault (a Fault)
    |   |-- WebPage                    an HTML page where a file was expected (captive portal, login, error page)
    |   |-- RepresentationChanged      the object behind the URL is another one now: .reason
    |   |-- RedirectRefused            loop, too many, https to http, another scheme
    |   `-- NeedsLink                  the link has expired or its secret part is not kept: give a fresh one
    |-- LocalError                     this machine
    |   |-- DiskFull                   .needed and .free, bytes
    |   |-- DestinationError           permission, missing folder, a folder where a file should be, name too long
    |   |-- PartFileBusy               another process holds the part file
    |   `-- DeviceError                EIO and friends; a failed fsync
    |-- IntegrityError                 the data
    |   |-- DigestMismatch             .expected, .actual, .source
    |   `-- LengthUnverified           the body ended by closing the connection and nothing says it is whole
    |-- LeaseLost                      another owner runs this download now
    |-- DownloadDeferred               its next attempt is further away than this process may wait: .next_at
    |-- DownloadElsewhere              another process runs it, and this one does not follow: .download_id
    |-- FailedElsewhere                another process that ran it gave up; .verdict says why
    |-- OutOfTime                      not done within the policy's deadline
    |-- CrashLoop                      the program died three times in a row while it worked on it, without progress
    |-- DownloadPaused                 stopped on request; everything received is kept
    `-- DownloadCancelled              stopped for good on request

No class here says whether to try again: that verdict is recovery's (see ``verdicts.py``). No message carries a
secret: URLs are redacted before they reach an exception.
"""

# ruff: noqa: N818 - each name says what happened; "Error" would say no more
from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recovery.classify import Verdict
    from resumable.validators import Representation

__all__ = [
    "ConnectFailed",
    "CrashLoop",
    "DestinationError",
    "DeviceError",
    "DigestMismatch",
    "DiskFull",
    "DownloadCancelled",
    "DownloadDeferred",
    "DownloadElsewhere",
    "DownloadError",
    "DownloadPaused",
    "FailedElsewhere",
    "Fault",
    "IntegrityError",
    "Interrupted",
    "LeaseLost",
    "LengthUnverified",
    "LocalError",
    "NeedsLink",
    "OriginError",
    "OutOfTime",
    "PartFileBusy",
    "ProtocolFault",
    "RedirectRefused",
    "RepresentationChanged",
    "Stalled",
    "StatusError",
    "WebPage",
]


class Fault(StrEnum):
    """Which rule a response broke; the clause stands beside each."""

    NO_CONTENT_RANGE = "no-content-range"  # RFC 9110 15.3.7.1: a single-part 206 MUST carry one
    BAD_CONTENT_RANGE = "bad-content-range"  # RFC 9110 14.4: invalid, MUST NOT be recombined
    WRONG_RANGE = "wrong-range"  # RFC 9110 15.3.7: the client MUST inspect which part it was given
    MULTIPART = "multipart"  # RFC 9110 15.3.7.2: never to a request for one range
    ENCODED = "encoded"  # RFC 9110 8.4: ranges address encoded bytes; identity was asked for
    BAD_LENGTH = "bad-length"  # RFC 9110 8.6, RFC 9112 6.3
    UNSATISFIABLE = "unsatisfiable"  # RFC 9110 15.5.17, and we know the range exists
    TOO_LONG = "too-long"  # the body goes on behind the bytes that Content-Range says it holds (RFC 9110 14.4)
    UNREADABLE = "unreadable"  # not HTTP, or headers beyond the parser's limits


class DownloadError(Exception):
    """Base of everything raised here; catching it catches every way a download can end without its file.

    ``attempts``, ``bytes_kept`` and ``verdict`` are filled in by the ``DownloadManager`` when it gives up;
    ``recovery_hint`` is set where the raiser knows better than the rule (``verdicts.py``) what should follow.
    """

    code: str = "download-error"
    verdict: Verdict | None = None

    def __init__(self, message: str, url: str = "", *args: object) -> None:
        """Keep the sentence a person reads; ``url`` must already be redacted. ``args`` are what a subclass is made of:
        of ``Exception.args`` task queues and process pools make it again.
        """
        super().__init__(*(args or (message, url)))
        self.message = message
        self.url = url
        self.attempts = 0
        self.bytes_kept = 0
        self.recovery_hint: Verdict | None = None

    def __str__(self) -> str:
        """Return the sentence."""
        return self.message

    @property
    def resumable(self) -> bool:
        """Whether bytes are kept that the next run continues from."""
        return self.bytes_kept > 0


class OriginError(DownloadError):
    """The origin, or the way to it, is to blame."""

    code = "origin-error"


class ConnectFailed(OriginError):
    """No connection could be made; ``__cause__`` is the transport's exception, whose type says why."""

    code = "connect-failed"


class StatusError(OriginError):
    """The origin answered with a status whose body is not the file."""

    code = "status"

    def __init__(self, status: int, url: str = "", retry_after_s: float | None = None, reason: str = "") -> None:
        """Keep the status (100-599), the seconds of ``Retry-After`` (RFC 9110 10.2.3) and the reason phrase."""
        super().__init__(f"the server answered {status} {reason}".rstrip(), url, status, url, retry_after_s, reason)
        self.status = status
        self.retry_after_s = retry_after_s


class Interrupted(OriginError):
    """The body ended before the promised length (RFC 9112 section 8: incomplete)."""

    code = "interrupted"

    def __init__(self, received: int, promised: int | None, url: str = "") -> None:
        """Keep the bytes received by this response and the bytes it promised (None where it did not say)."""
        of = "" if promised is None else f" of {promised}"
        super().__init__(f"the connection broke after {received}{of} bytes", url, received, promised, url)
        self.received = received
        self.promised = promised


class Stalled(OriginError):
    """The origin went silent, or slower than the floor, for ``seconds``."""

    code = "stalled"

    def __init__(self, seconds: float, url: str = "") -> None:
        """Keep how long was waited, in seconds."""
        super().__init__(f"the server stopped sending for {seconds:g} s", url, seconds, url)
        self.seconds = seconds


class ProtocolFault(OriginError):
    """The response breaks a rule that makes its bytes unusable; only those it is labelled with were written."""

    code = "protocol-fault"

    def __init__(self, fault: Fault, url: str = "", detail: str = "") -> None:
        """Keep the rule broken and a detail without secrets."""
        more = f": {detail}" if detail else ""
        super().__init__(f"the server's answer cannot be used ({fault}){more}", url, fault, url, detail)
        self.fault = Fault(fault)


class WebPage(OriginError):
    """A page came where a file was expected: a captive portal, a login form, an error page with status 200."""

    code = "web-page"

    def __init__(self, url: str = "") -> None:
        """Say so in a sentence."""
        super().__init__("the server sent a web page instead of the file", url, url)


class RepresentationChanged(OriginError):
    """The object behind the URL is not the one the kept bytes belong to (RFC 9110 15.3.7.3)."""

    code = "changed"

    def __init__(self, reason: str, url: str = "", representation: Representation | None = None) -> None:
        """Keep what differs (``etag "a" -> "b"``) and the identity now served, where known."""
        super().__init__(f"the file on the server has changed: {reason}", url, reason, url)
        self.reason = reason
        self.representation = representation


class RedirectRefused(OriginError):
    """A redirect that must not be followed: a loop, more than ten, https to http, or a scheme that is not HTTP."""

    code = "redirect-refused"


class NeedsLink(OriginError):
    """The link has expired, or its secret part was not kept; everything received is kept for a fresh link."""

    code = "needs-link"


class LocalError(DownloadError):
    """This machine is to blame."""

    code = "local-error"


class DiskFull(LocalError):
    """The target's file system has less room than the file needs."""

    code = "disk-full"

    def __init__(self, message: str, needed: int, free: int, path: str) -> None:
        """Keep the bytes still needed, the bytes free, and the path whose file system is meant."""
        super().__init__(message, "", message, needed, free, path)
        self.needed = needed
        self.free = free
        self.path = path


class DestinationError(LocalError):
    """The destination cannot be written: permission, a missing folder, a folder in its place, a name too long."""

    code = "destination"


class PartFileBusy(LocalError):
    """Another process or download holds the lock of the part file."""

    code = "part-file-busy"


class DeviceError(LocalError):
    """The device failed (EIO, ENODEV, a failed fsync): what was written since the last checkpoint cannot be trusted."""

    code = "device"


class IntegrityError(DownloadError):
    """The data is to blame: what arrived is not what was promised."""

    code = "integrity"


class DigestMismatch(IntegrityError):
    """The whole file's digest is not the expected one; the file is kept as ``<dest>.suspect``."""

    code = "digest-mismatch"

    def __init__(self, expected: str, actual: str, source: str, url: str = "", kept: str = "") -> None:
        """Keep both digests in hex and who stated the expected one (``caller``, ``Repr-Digest``, ...)."""
        sentence = f"the file's SHA-256 is {actual}, but {source} says {expected}" + (
            f"; kept as {kept}" if kept else ""
        )
        super().__init__(sentence, url, expected, actual, source, url, kept)
        self.expected = expected
        self.actual = actual
        self.source = source
        self.kept = kept


class LengthUnverified(IntegrityError):
    """No length, no framing, and repeated reads disagree: a truncated file cannot be told from a whole one."""

    code = "length-unverified"


class LeaseLost(DownloadError):
    """Another owner has taken this download over; this run wrote nothing after that."""

    code = "lease-lost"


class DownloadDeferred(DownloadError):
    """The next attempt has a time, and this process has better things to do until then; everything received is kept."""

    code = "deferred"

    def __init__(self, next_at: float, url: str = "") -> None:
        """Keep when the next attempt is due, seconds since the epoch."""
        super().__init__("the download waits for its next attempt", url, next_at, url)
        self.next_at = next_at


class DownloadElsewhere(DownloadError):
    """Another process downloads this file now; nothing was done here."""

    code = "elsewhere"

    def __init__(self, download_id: str, url: str = "", message: str = "another process downloads this file") -> None:
        """Keep the id of the download."""
        super().__init__(message, url, download_id, url, message)
        self.download_id = download_id


class FailedElsewhere(DownloadError):
    """The process that ran this download gave up on it; ``verdict`` says why, as that process recorded it."""

    code = "failed-elsewhere"


class OutOfTime(DownloadError):
    """The download was not done within the policy's deadline; everything received is kept."""

    code = "out-of-time"


class CrashLoop(DownloadError):
    """The program died three times in a row while it ran this download, without progress: a person has to retry it."""

    code = "crash-loop"


class DownloadPaused(DownloadError):
    """The download was paused; everything received is kept."""

    code = "paused"


class DownloadCancelled(DownloadError):
    """The download was cancelled by a person or a program."""

    code = "cancelled"
