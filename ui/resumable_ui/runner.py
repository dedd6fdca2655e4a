"""Runs downloads for ``get``, ``resume`` and ``retry``: shows events, collects outcomes, stops when told to."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from recovery.states import State
from resumable.errors import DownloadError, DownloadPaused
from resumable.events import TERMINAL_EVENTS, DownloadEvent, DownloadView, EventName
from resumable.redact import one_line
from resumable_ui.arguments import Arguments
from resumable_ui.console import Console
from resumable_ui.exitcodes import combine
from resumable_ui.frame import frame
from resumable_ui.jsonlines import event_line, outcome_line, summary_line
from resumable_ui.loglines import LogLines
from resumable_ui.outcome import Outcome
from resumable_ui.projection import kept_lines, name_of, next_step, outcome_words
from resumable_ui.signals import StopSignals

if TYPE_CHECKING:
    from resumable.handle import DownloadHandle
    from resumable.manager import DownloadManager
    from resumable_ui.terminal import Canvas

REDRAW_S: Final = 0.1
COUNTDOWN_S: Final = 0.5
"""How often bars are drawn anew while nothing happens, so that a countdown counts and a resized terminal is filled."""
SETTLE_S: Final = 2.0
"""How long the last outcomes may take once the manager has stopped; it has checkpointed by then."""

OpenManager = Callable[[Callable[[DownloadEvent], None]], "AbstractAsyncContextManager[DownloadManager]"]


class Begun(Struct, frozen=True):
    """What a command set going: handles, and downloads that were refused before they began."""

    handles: Sequence[DownloadHandle]
    refused: Sequence[Outcome] = ()


class Ended(Struct, frozen=True):
    """How the command ends: with ``code``, or by dying of ``stopped_by``."""

    code: int
    stopped_by: signal.Signals | None = None


class Runner:
    """One run of several downloads, with everything a person or a program is told about it."""

    def __init__(self, arguments: Arguments, console: Console) -> None:
        """Decide what will be shown."""
        self._arguments = arguments
        self._console = console
        self._bar = not arguments.quiet and (
            arguments.progress == "bar" or (arguments.progress == "auto" and console.terminal)
        )
        self._log = LogLines(
            verbose=arguments.verbose > 0, bar=self._bar, progress=arguments.progress in {"auto", "log"}
        )
        self._live: dict[str, DownloadView] = {}
        self._outcomes: list[Outcome] = []
        self._warned: set[tuple[str, str]] = set()
        """Warnings that were lines already: download and words."""
        self._drawn_at = 0.0
        self._canvas: Canvas | None = None
        self._stop: asyncio.Event = asyncio.Event()
        self._stopped_by: signal.Signals | None = None

    def stop(self, number: signal.Signals) -> None:
        """Begin to stop gently; only in the event loop's thread."""
        self._stopped_by = self._stopped_by or number
        self._stop.set()

    async def run(self, open_manager: OpenManager, begin: Callable[[DownloadManager], Awaitable[Begun]]) -> Ended:
        """Run what ``begin`` sets going until all of it has ended or a signal asks to stop."""
        loop = asyncio.get_running_loop()
        started = loop.time()

        def hand_over(number: signal.Signals) -> None:
            loop.call_soon_threadsafe(self.stop, number)

        tell = self._console.results.on_error

        def hand_over_error(error: OSError) -> None:
            if isinstance(error, BrokenPipeError):
                # Nobody reads any more: end as a filter does. Once the loop has ended nobody is left to be stopped.
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(self.stop, signal.SIGPIPE)
            elif tell is not None:
                tell(error)  # no harm to a download

        self._console.results.on_error = hand_over_error
        with StopSignals(hand_over):
            async with open_manager(self._show) as manager:
                begun = await begin(manager)
                for outcome in begun.refused:
                    self._report(outcome)
                tasks = {asyncio.create_task(self._finish(handle)): handle for handle in begun.handles}
                await self._all_done_or_stopped(tasks)
            await self._settle(tasks)
            self._end_lines()
        if self._stopped_by is not None:
            code = 128 + self._stopped_by
        else:
            code = combine([outcome.exit_code for outcome in self._outcomes])
        if self._arguments.json:
            summary = summary_line(self._outcomes, elapsed=loop.time() - started, exit_code=code)
            self._console.results.line(summary)
        return Ended(code, self._stopped_by)

    async def _all_done_or_stopped(self, tasks: dict[asyncio.Task[None], DownloadHandle]) -> None:
        if not tasks:
            return
        # One wait for all of them: looking at ten thousand each time one has ended would be a hundred million looks.
        either: set[asyncio.Future[Any]] = {
            asyncio.ensure_future(asyncio.wait(tasks)),
            asyncio.ensure_future(self._stop.wait()),
        }
        try:
            while not any(one.done() for one in either):
                await asyncio.wait(
                    either, return_when=asyncio.FIRST_COMPLETED, timeout=COUNTDOWN_S if self._bar else None
                )
                self._draw()
        finally:
            for one in either:
                one.cancel()

    async def _settle(self, tasks: dict[asyncio.Task[None], DownloadHandle]) -> None:
        """Leaving the manager has ended every download; a handle that says nothing is reported as what it last was."""
        late = {task for task in tasks if not task.done()}
        if late:
            _, late = await asyncio.wait(late, timeout=SETTLE_S)
        for task in late:
            task.cancel()
            self._report(Outcome(view=tasks[task].view, error=DownloadPaused("the download was stopped")))

    async def _finish(self, handle: DownloadHandle) -> None:
        try:
            outcome = Outcome(result=await handle, view=handle.view)
        except DownloadError as error:
            outcome = Outcome(error=error, view=handle.view)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # The download was stopped, not this wait for it: the manager was left while it ran.
            outcome = Outcome(error=DownloadPaused("the download was stopped; what it has is kept"), view=handle.view)
        except Exception as error:  # noqa: BLE001 - the process's edge: one download's fault must not hide the others' ends
            outcome = Outcome(error=error, view=handle.view)
        self._report(outcome)

    # -- what is shown ---------------------------------------------------------------------------------------------

    def _show(self, event: DownloadEvent) -> None:
        """Print an event; how a download ended is told by its outcome, which knows more."""
        line = self._log.line(event)
        if event.event in TERMINAL_EVENTS:
            return
        self._live[event.view.download_id] = event.view
        if self._arguments.json:
            lossy = event.event is EventName.PROGRESS
            self._console.results.line(event_line(event), key=event.view.download_id, replaceable=lossy)
        if line is not None:
            self._note(line)
        if event.event is EventName.WARNING:
            self._warned.add((event.view.download_id, event.message))
        self._draw()

    def _report(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._live.pop(outcome.view.download_id, None)
        if self._arguments.json:
            self._console.results.line(outcome_line(outcome), key=outcome.view.download_id)
        elif outcome.result is not None:
            self._console.results.line(str(outcome.result.path))
        failed = outcome.event is EventName.FAILED
        if failed or (outcome.event is not EventName.PAUSED or self._stopped_by is None):
            words = outcome_words(outcome)
            broken = self._log.broken_words(outcome.view.download_id)
            if outcome.result is not None and broken:
                words += f", {broken} (-v tells of each)"
            if outcome.result is None and _is_known(outcome):
                words += f" {next_step(outcome.view, self._arguments.state)}"
            self._note(f"{outcome.view.download_id}  {name_of(outcome.view)}: {words}".lstrip(), always=failed)
            for warning in () if outcome.result is None else outcome.result.warnings:
                if (outcome.view.download_id, warning) in self._warned:
                    continue
                self._note(f"{outcome.view.download_id}  warning: {one_line(warning)}")
        self._draw(now=True)

    def _end_lines(self) -> None:
        if self._bar:
            self._console.notes.draw(())
        if self._stopped_by is not None:
            unfinished = [outcome.view for outcome in self._outcomes if outcome.event is EventName.PAUSED]
            for line in kept_lines(unfinished, state=self._arguments.state):
                self._note(line, always=True)
        elif not self._outcomes:
            self._note("Nothing to do.")
        elif len(self._outcomes) > 1:
            done = sum(outcome.error is None for outcome in self._outcomes)
            self._note(f"{done} of {len(self._outcomes)} done.")

    def _note(self, text: str, *, always: bool = False) -> None:
        if always or not self._arguments.quiet:
            self._console.notes.line(text)

    def _draw(self, *, now: bool = False) -> None:
        if not self._bar:
            return
        at = asyncio.get_running_loop().time()
        if now or at - self._drawn_at >= REDRAW_S:
            self._drawn_at = at
            canvas = self._canvas = self._canvas or self._console.canvas()
            width, height = self._console.size()
            rows = frame(
                list(self._live.values()),
                finished=len(self._outcomes),
                failed=sum(outcome.event is EventName.FAILED for outcome in self._outcomes),
                now=time.time(),
                width=width,
                height=height,
                charset=canvas.charset,
            )
            self._console.notes.draw(canvas.paint(rows) if self._live else ())


def _is_known(outcome: Outcome) -> bool:
    """Whether the state file has the download, so that there is something to continue: it began, or waits for that."""
    refused = outcome.event is EventName.FAILED and outcome.view.state is State.QUEUED
    return bool(outcome.view.download_id) and not refused and outcome.event is not EventName.CANCELLED
