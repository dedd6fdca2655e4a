"""``resumable status``: what is known, once or whenever it changes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from recovery.states import TERMINAL, State
from resumable.events import DownloadView
from resumable_ui.arguments import Arguments
from resumable_ui.console import Console
from resumable_ui.control import find_all, require_memory
from resumable_ui.exitcodes import DONE
from resumable_ui.frame import Tone, frame
from resumable_ui.jsonlines import view_line
from resumable_ui.projection import attempt_line, command, detail_lines, may_retry, status_row

if TYPE_CHECKING:
    from resumable.manager import DownloadManager
    from resumable_ui.terminal import Canvas

FINISHED_SHOWN: Final = 10
POLL_S: Final = 0.5
_MOST_NAMED: Final = 5


class Status:
    """Shows downloads; with an id, everything about it."""

    def __init__(self, manager: DownloadManager, arguments: Arguments, console: Console) -> None:
        """Nothing is read yet."""
        self._manager = manager
        self._arguments = arguments
        self._console = console
        self._shown: dict[str, tuple[State, int]] = {}
        self._canvas: Canvas | None = None

    async def run(self) -> int:
        """Show once, or with ``--watch`` until nothing named is under way any more (or for ever without names)."""
        shown: dict[str, int] = {}
        while True:
            views, left_out = await self._views()
            if not views:
                require_memory(self._manager)
            if self._arguments.json:
                self._show_json(views, shown)
            else:
                await self._show(views, left_out)
            if not self._arguments.watch or (self._arguments.ids and all(view.state in TERMINAL for view in views)):
                return DONE
            if self._console.results.error is not None:
                return DONE
            await asyncio.sleep(POLL_S)

    async def _views(self) -> tuple[Sequence[DownloadView], Sequence[DownloadView]]:
        """Return what to show, newest first, and the finished ones that were left out."""
        if self._arguments.ids:
            return await find_all(self._manager, self._arguments.ids), ()
        views = await self._manager.downloads(project=self._arguments.project or None)
        if self._arguments.every or self._arguments.json:
            return views, ()
        finished = [view for view in views if view.state in TERMINAL]
        hidden = {view.download_id for view in finished[FINISHED_SHOWN:]}
        return [view for view in views if view.download_id not in hidden], finished[FINISHED_SHOWN:]

    def _show_json(self, views: Sequence[DownloadView], shown: dict[str, int]) -> None:
        for view in views:
            if shown.get(view.download_id) != view.rev:
                shown[view.download_id] = view.rev
                self._console.results.line(view_line(view))

    async def _show(self, views: Sequence[DownloadView], left_out: Sequence[DownloadView]) -> None:
        if self._arguments.watch and self._console.results_terminal:
            self._draw(views, left_out)
            return
        now = time.time()
        for view in views:
            if self._arguments.watch and self._shown.get(view.download_id) == (view.state, view.rev):
                continue
            self._shown[view.download_id] = view.state, view.rev
            self._console.results.line(status_row(view, now))
            if self._arguments.ids:
                lines = detail_lines(view, when=_local_time, state=self._arguments.state)
                lines += [attempt_line(made) for made in await self._manager.history(view.download_id)]
                for line in lines:
                    self._console.results.line(line)
        if not self._arguments.quiet and not self._arguments.watch:
            if not views:
                self._console.notes.line("Nothing is known here. Start with: resumable get URL")
            elif left_out:
                self._console.notes.line(f"And {len(left_out)} more that ended: resumable status --all")
            for line in () if self._arguments.ids else hints(views, state=self._arguments.state):
                self._console.notes.line(line)

    def _draw(self, views: Sequence[DownloadView], left_out: Sequence[DownloadView]) -> None:
        """Bars for what is under way, and a line for each download that ended while it was watched."""
        for view in views:
            state, _ = self._shown.get(view.download_id, (view.state, view.rev))
            if view.state in TERMINAL and state not in TERMINAL:
                self._console.results.line(status_row(view, time.time()))
            self._shown[view.download_id] = view.state, view.rev
        canvas = self._canvas = self._canvas or self._console.canvas()
        width, height = self._console.size()
        ended = Counter(view.state for view in (*views, *left_out) if view.state in TERMINAL)
        rows = frame(
            [view for view in views if view.state not in TERMINAL],
            finished=ended[State.COMPLETE] + ended[State.FAILED],
            failed=ended[State.FAILED],
            now=time.time(),
            width=width,
            height=height,
            charset=canvas.charset,
        )
        self._console.results.draw(canvas.paint(rows or [[("Nothing is under way.", Tone.QUIET)]]))


def hints(views: Sequence[DownloadView], *, state: str | None) -> list[str]:
    """Return the commands that go on with what does not go on by itself."""
    stopped = [view for view in views if view.state is State.PAUSED or view.stale]
    failed = [view for view in views if view.state is State.FAILED and may_retry(view)]
    hopeless = [view for view in views if view.state is State.FAILED and not may_retry(view)]
    lines = []
    for kind, found, verb, every in (
        ("unfinished", stopped, "resume", "--all"),
        ("failed", failed, "retry", "--failed"),
    ):
        if found:
            what = found[0].download_id if len(found) == 1 else every
            lines.append(f"{len(found)} {kind}. Go on with: {command(verb, what, state=state)}")
    if hopeless:
        need = "needs" if len(hopeless) == 1 else "need"
        step = command("status", *(view.download_id for view in hopeless[:_MOST_NAMED]), state=state)
        lines.append(f"{len(hopeless)} failed and {need} more than a retry. What to do: {step}")
    return lines


def _local_time(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s).astimezone().strftime("%Y-%m-%d %H:%M:%S")
