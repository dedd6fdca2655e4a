"""Resumable downloads that cannot lie: exact-byte resume, every chunk's SHA-256 checked before a file gets its name.

This module only names the public surface. Each name is loaded when it is first used, so that importing the package
costs no HTTP stack and no database: the command line starts in milliseconds.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # type checkers take it for True; importing it from typing would cost 10 ms
if TYPE_CHECKING:
    from recovery.policy import RetryPolicy
    from recovery.states import State
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
    from resumable.events import DownloadEvent, DownloadView, ErrorView, EventName
    from resumable.handle import DownloadHandle
    from resumable.manager import DownloadManager, download
    from resumable.model import Durability, Options, Result
    from resumable.verify import VerifyReport

__version__ = "0.1.0"

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
    "DownloadEvent",
    "DownloadHandle",
    "DownloadManager",
    "DownloadPaused",
    "DownloadView",
    "Durability",
    "ErrorView",
    "EventName",
    "FailedElsewhere",
    "Fault",
    "IntegrityError",
    "Interrupted",
    "LeaseLost",
    "LengthUnverified",
    "LocalError",
    "NeedsLink",
    "Options",
    "OriginError",
    "OutOfTime",
    "PartFileBusy",
    "ProtocolFault",
    "RedirectRefused",
    "RepresentationChanged",
    "Result",
    "RetryPolicy",
    "Stalled",
    "State",
    "StatusError",
    "VerifyReport",
    "WebPage",
    "__version__",
    "download",
]

_ELSEWHERE = {
    "DownloadEvent": "resumable.events",
    "DownloadHandle": "resumable.handle",
    "DownloadManager": "resumable.manager",
    "DownloadView": "resumable.events",
    "Durability": "resumable.model",
    "ErrorView": "resumable.events",
    "EventName": "resumable.events",
    "Options": "resumable.model",
    "Result": "resumable.model",
    "RetryPolicy": "recovery.policy",
    "State": "recovery.states",
    "VerifyReport": "resumable.verify",
    "download": "resumable.manager",
}


def __getattr__(name: str) -> object:
    """Load a public name on first use (PEP 562)."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(_ELSEWHERE.get(name, "resumable.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public surface."""
    return sorted(__all__)
