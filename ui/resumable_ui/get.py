"""``resumable get``: turns a command line into downloads of a manager."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from recovery.policy import RetryPolicy
from resumable.errors import DestinationError, DownloadError
from resumable.events import DownloadView
from resumable.model import Options
from resumable.redact import redact_url
from resumable_ui.arguments import Arguments, UsageError
from resumable_ui.orders import Order, orders_of
from resumable_ui.outcome import Outcome
from resumable_ui.runner import Begun

if TYPE_CHECKING:
    from resumable.handle import DownloadHandle
    from resumable.manager import DownloadManager


def settings(arguments: Arguments) -> dict[str, Any]:
    """Return the manager's keyword arguments for a command line."""
    policy = RetryPolicy()
    if arguments.retries is not None:
        # Who names a number counts requests, as with curl, wget and aria2: a Retry-After is no way around it.
        most = max(policy.max_attempts, arguments.retries + 1)
        policy = replace(policy, max_no_progress=arguments.retries, max_attempts=most, count_waits=True)
    if arguments.retry_max_time is not None:
        policy = replace(policy, deadline_s=arguments.retry_max_time)
    return {
        "state": arguments.state,
        "max_concurrent": arguments.jobs,
        "limit_rate": arguments.limit_rate,
        "policy": policy,
        "options": options_of(arguments),
    }


def options_of(arguments: Arguments) -> Options:
    """Return how each download runs."""
    return Options(
        connections=arguments.connections,
        stall_timeout_s=arguments.stall_timeout,
        # Nobody looks at a server's exit code: it waits, and the page says for what (docs/decisions/0015).
        wait_for_space=arguments.wait or arguments.command == "serve",
        restart=arguments.restart,
        no_clobber=arguments.no_clobber,
    )


class Get:
    """One ``get``: its orders are complete and checked before the manager is opened."""

    def __init__(self, arguments: Arguments) -> None:
        """Read lists and header files; raise UsageError."""
        self._arguments = arguments
        self._orders = orders_of(arguments, read_text)

    async def begin(self, manager: DownloadManager) -> Begun:
        """Start every order; one that is refused does not hinder the others."""
        handles: list[DownloadHandle] = []
        refused: list[Outcome] = []
        made: set[str | None] = {None}
        for order in self._orders:
            try:
                if order.directory not in made:
                    await asyncio.to_thread(_make_folder, order)
                    made.add(order.directory)
                await asyncio.sleep(0)  # the first ones begin while a long list is gone through
                handles.append(self._start(manager, order))
            except (DownloadError, OSError) as error:
                refused.append(Outcome(view=_view(order, self._arguments), error=error))
            except ValueError as error:
                msg = f"resumable get: {error}"
                raise UsageError(msg) from None
        return Begun(handles, refused)

    def _start(self, manager: DownloadManager, order: Order) -> DownloadHandle:
        handle = manager.start(
            order.url,
            order.dest,
            directory=order.directory,
            project=self._arguments.project,
            mirrors=order.mirrors,
            headers=order.headers,
            sha256=order.sha256,
            options=options_of(self._arguments),
        )
        # A person typed this: what was given up on, a program that kept dying included, is tried again.
        handle.retry_now()
        return handle


def _view(order: Order, arguments: Arguments) -> DownloadView:
    """What is known of a download that never began."""
    dest = Path(order.directory or "", order.dest or "")
    return DownloadView(
        download_id="",
        project_id=arguments.project,
        url=redact_url(order.url),
        dest=str(dest) if order.dest else "",
        filename=dest.name if order.dest else "",
    )


def _make_folder(order: Order) -> None:
    """A folder that was named as one (``-d``, ``dir=``, ``out=a/b``) is made, as wget and aria2 do.

    The folder in ``-o a/b`` is not: there a wrong one is a typing error more often than not. Raises DestinationError.
    """
    if order.directory is None:
        return
    try:
        Path(order.directory).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = "there is a file of that name" if isinstance(error, FileExistsError) else error.strerror
        raise DestinationError(f"the folder {order.directory} cannot be made ({why})") from error


def read_text(name: str) -> str:
    """Return the text of a file, or of stdin for ``-``; bytes that are no UTF-8 survive as in file names."""
    if name != "-":
        data = Path(name).read_bytes()
    elif sys.stdin is None:  # closed when the process began
        data = b""
    else:
        data = sys.stdin.buffer.read()
    return data.decode("utf-8", "surrogateescape")
