"""What a hub asks of a ``DownloadManager`` beyond its public methods, in one place."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from resumable.errors import DownloadError

if TYPE_CHECKING:
    from recovery.journal import Journal
    from resumable.events import DownloadView
    from resumable.handle import DownloadHandle
    from resumable.manager import DownloadManager

T = TypeVar("T")


def journal_of(manager: DownloadManager) -> Journal:
    """Return the journal of an open manager."""
    return manager.journal


async def read(manager: DownloadManager, fn: Callable[[sqlite3.Connection], T]) -> T:
    """Run ``fn`` on a consistent snapshot of the state file, off the event loop."""
    return await manager._database.read(fn)  # noqa: SLF001


def handle_of(manager: DownloadManager, download_id: str) -> DownloadHandle | None:
    """Return the handle of a download that runs, waits or ended in this process."""
    return manager.handle(download_id)


def runs_here(manager: DownloadManager, download_id: str) -> bool:
    """Return whether this process runs it or waits for its next attempt."""
    handle = handle_of(manager, download_id)
    return handle is not None and not handle.done


async def go_on(manager: DownloadManager, view: DownloadView) -> None:
    """Run a download that nobody runs here, with a fresh budget where it had ended; raises DownloadError."""
    name = view.download_id
    handle = handle_of(manager, name)
    if handle is not None and handle.held:
        await handle.resume()  # whoever awaits it goes on waiting for the same handle
        return
    if not await manager.recover([name]):
        raise DownloadError(f"{name} cannot be continued: what was asked for is not known any more")
