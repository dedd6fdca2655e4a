"""What the command's exit code says. Pure.

0 all done, 1 a fault of this program, 2 wrong use, 3 network or time (running again helps), 4 the server says no,
5 the data is not what was promised, 6 this machine (disk, permission, space), 7 unfinished but kept. A command ended by
a signal dies of it, which a shell shows as 128 plus its number.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from recovery.verdict import Category
from resumable.errors import (
    CrashLoop,
    DownloadCancelled,
    DownloadDeferred,
    DownloadElsewhere,
    DownloadError,
    DownloadPaused,
    FailedElsewhere,
    IntegrityError,
    LeaseLost,
    LocalError,
    NeedsLink,
    PartFileBusy,
    RedirectRefused,
    RepresentationChanged,
    StatusError,
    WebPage,
)

DONE: Final = 0
FAULT: Final = 1
USAGE: Final = 2
NETWORK: Final = 3
REFUSED: Final = 4
DATA: Final = 5
MACHINE: Final = 6
UNFINISHED: Final = 7

_WORST_FIRST: Final = (FAULT, MACHINE, DATA, REFUSED, NETWORK, USAGE, UNFINISHED)

# The first class that fits decides; subclasses stand before their bases.
_BY_TYPE: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (DownloadPaused, UNFINISHED),
    (DownloadDeferred, UNFINISHED),
    (DownloadElsewhere, UNFINISHED),
    (DownloadCancelled, UNFINISHED),
    (LeaseLost, UNFINISHED),  # another process has it and goes on
    (PartFileBusy, UNFINISHED),
    (CrashLoop, UNFINISHED),
    (LocalError, MACHINE),
    (IntegrityError, DATA),
    (RepresentationChanged, DATA),
    (NeedsLink, REFUSED),
    (RedirectRefused, REFUSED),
    (WebPage, REFUSED),  # a login form or an error page: the same request brings the same page
    (DownloadError, NETWORK),
    (ConnectionError, NETWORK),
    (TimeoutError, NETWORK),
    (OSError, MACHINE),
)

_BY_CATEGORY: Final = {
    **dict.fromkeys(
        (
            Category.BAD_REQUEST,
            Category.AUTH,
            Category.PAYMENT,
            Category.NOT_FOUND,
            Category.GONE,
            Category.CAPTIVE_PORTAL,
            Category.NEEDS_LINK,
        ),
        REFUSED,
    ),
    **dict.fromkeys((Category.CHANGED, Category.DIGEST, Category.FINAL_DIGEST), DATA),
    **dict.fromkeys(
        (
            Category.DISK_FULL,
            Category.FILE_TOO_LARGE,
            Category.PERMISSION,
            Category.TRANSIENT_FILE,
            Category.DESCRIPTORS,
            Category.DEVICE,
            Category.MEMORY,
        ),
        MACHINE,
    ),
}
"""Of a failure in another process only the category is known; what is not here is the network's."""

# Client errors that may pass by themselves: RFC 9110 15.5.9, 15.5.10 and 15.5.20, RFC 4918, RFC 8470, RFC 6585.
_PASSING: Final = frozenset({408, 409, 421, 423, 425, 429})


def exit_code(error: BaseException) -> int:
    """Return the code for a download that ended with ``error``."""
    if isinstance(error, StatusError):
        return REFUSED if 400 <= error.status < 500 and error.status not in _PASSING else NETWORK
    if isinstance(error, FailedElsewhere) and error.verdict is not None:
        return _BY_CATEGORY.get(error.verdict.category, NETWORK)
    return next((code for kind, code in _BY_TYPE if isinstance(error, kind)), FAULT)


def combine(codes: Iterable[int]) -> int:
    """Return the code of a command that did several things: the worst one, 0 if all went well."""
    found = set(codes)
    return next((code for code in _WORST_FIRST if code in found), DONE)
