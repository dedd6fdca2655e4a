"""The commands that steer downloads: resume and retry pick, pause, cancel and relink tell, verify and prune tend."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Final

from recovery.health import Health
from recovery.states import TERMINAL, State
from resumable.errors import DownloadError, LocalError
from resumable.events import DownloadView
from resumable.model import Result
from resumable.redact import one_line
from resumable_ui.arguments import Arguments, UsageError
from resumable_ui.console import Console
from resumable_ui.exitcodes import DATA, DONE, UNFINISHED
from resumable_ui.jsonlines import dump, view_line
from resumable_ui.outcome import Outcome
from resumable_ui.projection import command, name_of
from resumable_ui.quantities import format_size
from resumable_ui.runner import Begun

if TYPE_CHECKING:
    from resumable.handle import DownloadHandle
    from resumable.manager import DownloadManager

CONFIRM_S: Final = 3.0
"""How long another process is given to do what it was asked; it looks twice a second."""


async def find_all(manager: DownloadManager, ids: Sequence[str]) -> list[DownloadView]:
    """Return the downloads named by ids or beginnings of ids; raise UsageError for one that is none or several."""
    views = []
    for name in ids:
        try:
            views.append(await manager.find(name))
        except LookupError as error:
            require_memory(manager)
            msg = f"resumable: {one_line(str(error.args[0] if error.args else error))}"
            raise UsageError(msg) from None
    return views


def require_memory(manager: DownloadManager) -> None:
    """Raise LocalError where nothing is known only because the state file cannot be used."""
    if manager.health is not Health.OK:
        msg = "former downloads are not known, for the state file cannot be used now"
        raise LocalError(msg)


# -- resume and retry: they run downloads, like get --------------------------------------------------------------------


class Resume:
    """Continues what was interrupted, paused or failed."""

    def __init__(self, arguments: Arguments) -> None:
        """``retry`` differs from ``resume`` in what it picks by itself: what failed, in place of what is unfinished."""
        self._arguments = arguments
        self._retry = arguments.command == "retry"

    async def begin(self, manager: DownloadManager) -> Begun:
        """Pick the downloads and continue them here, or in the process that has them."""
        handles: list[DownloadHandle] = []
        others: list[Outcome] = []
        for view in await self._picked(manager):
            if view.state is State.COMPLETE:
                others.append(Outcome(view=view, result=_result_of(view)))
                continue
            try:
                if self._retry:
                    await manager.retry(view.download_id)
                handles += await manager.recover([view.download_id])
            except (DownloadError, OSError) as error:
                others.append(Outcome(view=view, error=error))
        return Begun(handles, others)

    async def _picked(self, manager: DownloadManager) -> list[DownloadView]:
        if self._arguments.ids:
            return await find_all(manager, self._arguments.ids)
        wanted = {State.FAILED} if self._retry else set(State) - TERMINAL
        known = await manager.downloads()
        if not known:
            require_memory(manager)
        views = [view for view in known if view.state in wanted]
        if self._arguments.every or len(views) == 1:
            return views
        what, are = ("failed", "have failed") if self._retry else ("unfinished", "are unfinished")
        every = "--failed" if self._retry else "--all"
        if not views:
            msg = f"resumable {self._arguments.command}: no {what} download is known (see resumable status --all)"
        else:
            named = ", ".join(f"{view.download_id} ({name_of(view)})" for view in views[:5])
            named += ", ..." if len(views) > 5 else ""
            msg = f"resumable {self._arguments.command}: {len(views)} downloads {are}: {named}; name one or say {every}"
        raise UsageError(msg)


def _result_of(view: DownloadView) -> Result:
    return Result(
        path=Path(view.dest),
        size=view.bytes_done if view.bytes_total is None else view.bytes_total,
        sha256=view.sha256,
        bytes_resumed=0,
        bytes_received=0,
        attempts=view.attempts,
        elapsed=0.0,
        verified_by=view.verified_by or "an earlier run",
        download_id=view.download_id,
    )


# -- pause, cancel, relink ---------------------------------------------------------------------------------------------


async def pause(manager: DownloadManager, arguments: Arguments, console: Console) -> int:
    """Pause downloads wherever they run."""
    return await _steer(manager, arguments, console, manager.pause, State.PAUSED, TERMINAL)


async def cancel(manager: DownloadManager, arguments: Arguments, console: Console) -> int:
    """Cancel downloads wherever they run."""

    async def act(download_id: str) -> DownloadView:
        return await manager.cancel(download_id, delete_part=arguments.delete_part)

    return await _steer(manager, arguments, console, act, State.CANCELLED, frozenset({State.COMPLETE}))


async def _steer(
    manager: DownloadManager,
    arguments: Arguments,
    console: Console,
    act: Callable[[str], Awaitable[DownloadView]],
    goal: State,
    too_late: frozenset[State],
) -> int:
    code = DONE
    for view in await find_all(manager, arguments.ids):
        after = view if view.state in too_late else await _settled(manager, await act(view.download_id), goal)
        if arguments.json:
            console.results.line(view_line(after))
        if after.state is goal:
            words = goal.value
        elif after.state in TERMINAL:
            words = f"is {after.state.value} already"
        else:
            words, code = f"was asked, but is still {after.state.value}: its process does not answer", UNFINISHED
        if not arguments.quiet:
            console.notes.line(f"{after.download_id}  {name_of(after)}: {words}")
    return code


async def _settled(manager: DownloadManager, view: DownloadView, goal: State) -> DownloadView:
    """Wait a moment for the process that runs a download to do what it was told."""
    until = time.monotonic() + CONFIRM_S
    while view.state is not goal and view.state not in TERMINAL and time.monotonic() < until:
        await asyncio.sleep(0.1)
        view = await manager.find(view.download_id)
    return view


async def relink(manager: DownloadManager, arguments: Arguments, console: Console) -> int:
    """Give one download a fresh link."""
    (view,) = await find_all(manager, arguments.ids)
    after = await manager.relink(view.download_id, arguments.urls[0])
    if arguments.json:
        console.results.line(view_line(after))
    if not arguments.quiet:
        step = command("resume", after.download_id, state=arguments.state)
        console.notes.line(f"{after.download_id}  {name_of(after)}: has a fresh link. Continue with: {step}")
    return DONE


# -- verify and prune --------------------------------------------------------------------------------------------------


async def verify(manager: DownloadManager, arguments: Arguments, console: Console) -> int:
    """Compare a file with the digest given, or with what its download knows."""
    report = await manager.verify(Path(arguments.file), sha256=arguments.sha256)
    name, damaged = one_line(arguments.file), sum(span.length for span in report.damaged)
    if arguments.json:
        spans = [[span.start, span.stop] for span in report.damaged]
        record = {
            "event": "verified",
            "path": str(report.path),
            "size": report.size,
            "sha256": report.sha256,
            "ok": report.ok,
            "damaged": spans,
            "source": report.source,
        }
        console.results.line(dump(record))
    promise = "what --sha256 says" if report.source == "caller" else "what was downloaded"
    if report.ok:
        if not arguments.json:
            console.results.line(arguments.file)
        if not arguments.quiet:
            console.notes.line(f"{name}: {promise}, SHA-256 {report.sha256}")
        return DONE
    places = "1 place is" if len(report.damaged) == 1 else f"{len(report.damaged)} places are"
    where = f" {format_size(damaged)} in {places} damaged." if report.damaged else ""
    again = command("get", "URL", "-o", quote(name), "--restart", state=arguments.state)
    anew = f" To fetch it anew: {again}" if report.damaged else ""
    console.notes.line(f"{name}: not {promise}: its SHA-256 is {report.sha256}.{where}{anew}")
    return DATA


async def prune(manager: DownloadManager, arguments: Arguments, console: Console) -> int:
    """Forget downloads that ended long ago."""
    count = await manager.prune(older_than_s=arguments.older_than)
    if arguments.json:
        console.results.line(dump({"event": "pruned", "downloads": count}))
    if not arguments.quiet:
        console.notes.line(_forgotten(count))
    return DONE


def _forgotten(count: int) -> str:
    if count == 1:
        return "1 download forgotten; its file stays."
    return f"{count} downloads forgotten; their files stay." if count else "No downloads to forget."


STEERING: Final = {"pause": pause, "cancel": cancel, "relink": relink, "verify": verify, "prune": prune}
"""What tells or tends, by the command's name."""
