"""What Celery's own tools are shown of a task's downloads, and what its result is: small dicts of JSON values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from recovery.states import State
from resumable.errors import DownloadError
from resumable.events import DownloadView
from resumable.model import Result
from resumable.redact import redact_text

__all__ = ["DownloadFailed", "failure_info", "failure_of", "progress_meta", "result_of", "worth_telling"]

_MOST_SHOWN: Final = 20
_LEAST_CHANGE: Final = 0.005


class DownloadFailed(Exception):  # noqa: N818 - names what happened
    """What a task raises in place of a ``DownloadError``: it comes out of any result backend as it went in.

    ``str()`` is the sentence for people; ``info`` has ``code, category, message, detail, retryable, attempts,
    bytes_kept``.
    """

    def __init__(self, message: str, info: Mapping[str, Any] | None = None) -> None:
        """Keep both; they are also the ``args``, of which backends make the exception again."""
        super().__init__(message, dict(info or {}))
        self.info = dict(info or {})

    def __str__(self) -> str:
        """Return the sentence."""
        return str(self.args[0])

    @property
    def code(self) -> str:
        """Stable kebab-case name of what went wrong."""
        return str(self.info.get("code", "download-error"))


def failure_of(exc: BaseException) -> BaseException:
    """Return what a task raises for ``exc``: a DownloadError as DownloadFailed, anything else as it is."""
    if not isinstance(exc, DownloadError):
        return exc
    failed = DownloadFailed(redact_text(str(exc)), failure_info(exc))
    failed.__cause__ = exc
    return failed


def failure_info(exc: DownloadError) -> dict[str, Any]:
    """Return what there is to know of a failed download, as JSON values."""
    verdict = exc.verdict
    return {
        "code": exc.code if verdict is None else verdict.code,
        "category": None if verdict is None else verdict.category.value,
        "message": redact_text(str(exc)) if verdict is None else verdict.message,
        "detail": redact_text(str(exc)),
        "retryable": exc.resumable,
        "attempts": exc.attempts,
        "bytes_kept": exc.bytes_kept,
    }


def result_of(result: Result) -> dict[str, Any]:
    """Return a finished download as JSON values."""
    return {
        "download_id": result.download_id,
        "path": str(result.path),
        "size": result.size,
        "sha256": result.sha256,
        "verified_by": result.verified_by,
        "bytes_resumed": result.bytes_resumed,
        "bytes_received": result.bytes_received,
        "attempts": result.attempts,
        "elapsed": round(result.elapsed, 3),
    }


def progress_meta(views: Mapping[str, DownloadView]) -> dict[str, Any]:
    """Return the fields of the event ``progress_update`` for the downloads of a task; the newest download is named."""
    if not views:
        return {}
    newest = max(views.values(), key=lambda view: view.updated_at)
    totals = [view.bytes_total for view in views.values()]
    done = sum(view.bytes_done for view in views.values())
    total = None if None in totals else sum(filter(None, totals))
    shown = sorted(views.values(), key=lambda view: view.created_at)[-_MOST_SHOWN:]
    return {
        "project_id": newest.project_id,
        "progress": {
            "stage": newest.state.value,
            "progress": _percent(done, total),
            "current_file": newest.filename,
            "file_progress": _percent(newest.bytes_done, newest.bytes_total),
            "current": sum(view.state is State.COMPLETE for view in views.values()),
            "total": len(views),
            "bytes_done": done,
            "bytes_total": total,
            "speed": round(sum(view.speed for view in views.values()), 1),
        },
        "downloads": [_brief(view) for view in shown],
    }


def worth_telling(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether a person looking at both would see a difference: a state, or half a percent."""
    if not before or not after:
        return bool(after)
    if [one["state"] for one in before["downloads"]] != [one["state"] for one in after["downloads"]]:
        return True
    old, new = before["progress"], after["progress"]
    total = new["bytes_total"]
    if total is None:
        return bool(new["bytes_done"] != old["bytes_done"])
    return abs(int(new["bytes_done"]) - int(old["bytes_done"])) >= _LEAST_CHANGE * max(1, int(total))


def _percent(done: int, total: int | None) -> float | None:
    return None if total is None else round(100.0 * done / total, 1) if total else 100.0


def _brief(view: DownloadView) -> dict[str, Any]:
    return {
        "download_id": view.download_id,
        "filename": view.filename,
        "state": view.state.value,
        "bytes_done": view.bytes_done,
        "bytes_total": view.bytes_total,
        "bytes_resumed": view.bytes_resumed,
        "attempt": view.attempt,
        "retry_at": view.retry_at,
        "message": None if view.error is None else view.error.message,
    }
