"""How one download ended, as the command reports it. Pure."""

from __future__ import annotations

from msgspec import Struct

from resumable.errors import DownloadCancelled, DownloadPaused
from resumable.events import DownloadView, ErrorView, EventName
from resumable.model import Result
from resumable.redact import redact_text
from resumable_ui.exitcodes import exit_code


class Outcome(Struct, frozen=True, kw_only=True):
    """The end of one download: a result, or the exception in its place, and the last view of it."""

    view: DownloadView
    result: Result | None = None
    error: BaseException | None = None

    @property
    def event(self) -> EventName:
        """``completed``, ``paused``, ``cancelled`` or ``failed``."""
        if self.error is None:
            return EventName.COMPLETED
        if isinstance(self.error, DownloadPaused):
            return EventName.PAUSED
        return EventName.CANCELLED if isinstance(self.error, DownloadCancelled) else EventName.FAILED

    @property
    def exit_code(self) -> int:
        """What this download alone would make the command end with."""
        return 0 if self.error is None else exit_code(self.error)

    @property
    def fault(self) -> ErrorView | None:
        """What went wrong, None for a finished download."""
        if self.error is None:
            return None
        if self.event is EventName.FAILED and self.view.error is not None:
            return self.view.error
        verdict = getattr(self.error, "verdict", None)
        return ErrorView(
            code=str(getattr(self.error, "code", "unexpected")),
            category="unknown" if verdict is None else str(verdict.category),
            message=redact_text(str(self.error)) or type(self.error).__name__,
            retryable=self.event is not EventName.FAILED,
        )
