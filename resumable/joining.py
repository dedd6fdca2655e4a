"""Following a download that another process runs: its numbers are ours, and so is its end."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from msgspec.structs import replace

from recovery.clock import Clock
from recovery.control import Control, Wish
from recovery.states import State
from recovery.verdict import Action, Verdict
from resumable.catalog import Catalog, Entry
from resumable.errors import DownloadCancelled, DownloadError, DownloadPaused, FailedElsewhere
from resumable.events import EventName
from resumable.model import Result
from resumable.standing import Standing

__all__ = ["follow"]

_EVERY_S: Final = 0.25
_COMMANDS: Final = {Wish.PAUSE: "pause", Wish.CANCEL: "cancel"}


async def follow(
    catalog: Catalog, standing: Standing, control: Control, clock: Clock, *, forgiven: str = ""
) -> Result | None:
    """Return the result of the process that has the lease; None when it left the download for others to go on with, or
    failed for the reason with the code ``forgiven``.

    What is asked of ``control`` meanwhile is passed on to that process.

    Raises:
        DownloadPaused, DownloadCancelled: somebody has stopped it, here or there.
        FailedElsewhere: it gave up.
    """
    standing.elsewhere = True
    standing.tell(EventName.WARNING, "another process is already downloading this file; following it")
    asked: Wish | None = None
    try:
        while True:
            entry = await catalog.entry(standing.view.download_id)
            if entry is None:
                return None
            if not entry.operation.leased(clock.time()):
                return await _end(catalog, standing, entry, forgiven)
            standing.passed_on(entry.view)
            if control.requested is not None and control.requested is not asked:
                asked = control.requested
                await _pass_on(catalog, standing, _COMMANDS[asked])
            elif control.take_retry():
                await _pass_on(catalog, standing, "retry_now")
            await clock.sleep(_EVERY_S)
    finally:
        standing.elsewhere = False


async def _pass_on(catalog: Catalog, standing: Standing, command: str) -> None:
    with suppress(DownloadError, LookupError):  # it has come to its end meanwhile, and the next look says to which
        await catalog.command(standing.view.download_id, command)


async def _end(catalog: Catalog, standing: Standing, entry: Entry, forgiven: str) -> Result | None:
    """Return or raise what a download that nobody runs any more has come to."""
    operation = entry.operation
    match operation.state:
        case State.COMPLETE:
            return await _receipt(catalog, standing, entry)
        case State.PAUSED if not entry.interrupted:
            standing.passed_on(entry.view)
            raise DownloadPaused("the download was paused; what it has is kept", url=entry.view.url)
        case State.CANCELLED:
            standing.passed_on(entry.view)
            raise DownloadCancelled("the download was cancelled", url=entry.view.url)
        case State.FAILED if operation.category is not None and (not forgiven or operation.code != forgiven):
            standing.passed_on(entry.view)
            error = FailedElsewhere(operation.message or "the download failed in another process", url=entry.view.url)
            error.attempts, error.bytes_kept = operation.history.attempts, entry.view.bytes_done
            error.verdict = Verdict(
                category=operation.category,
                action=Action.FAIL,
                code=operation.code or operation.category.value,
                message=operation.message or "",
                user_actions=operation.user_actions,
            )
            raise error
    return None


async def _receipt(catalog: Catalog, standing: Standing, entry: Entry) -> Result | None:
    receipt = await catalog.receipt(entry.operation.operation_id)
    if receipt is None:
        return None
    standing.passed_on(replace(entry.view, state=State.COMPLETE))
    return Result(
        path=receipt.path,
        size=receipt.size,
        sha256=receipt.sha256,
        bytes_resumed=0,
        bytes_received=0,
        attempts=entry.operation.history.attempts,
        elapsed=standing.elapsed,
        verified_by=receipt.verified_by,
        download_id=entry.operation.operation_id,
    )
