"""What the writer of views was given is in the database when it is closed, whatever it is doing at that moment."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

from msgspec.structs import replace

from recovery.clock import SystemClock
from recovery.database import Database
from recovery.journal import JOURNAL, Journal, OperationSpec
from recovery.states import State
from resumable.events import DownloadView
from resumable.rows import DOWNLOADS
from resumable.standing import Standing
from resumable.viewrows import read_view
from resumable.viewwriter import ViewWriter


async def test_closing_loses_no_view_that_waits_for_its_turn(tmp_path: Path) -> None:
    """The disk is slow, the last view stands in the database's queue, and the program ends just then."""
    clock = SystemClock()
    async with await Database.open(tmp_path / "state.db", (JOURNAL, DOWNLOADS), clock=clock) as database:
        spec = OperationSpec(kind="download", key="f")
        download_id = (await Journal(database, clock=clock).begin(spec)).operation_id
        views = ViewWriter(database, clock)
        standing = Standing(DownloadView(download_id=download_id, url="http://o/f"), clock=clock, told=lambda *_: None)
        standing.view = replace(standing.view, state=State.PAUSED, bytes_done=58_700_000)
        begun, go_on = threading.Event(), threading.Event()

        def slowly(conn: sqlite3.Connection) -> None:
            begun.set()
            go_on.wait(5)

        slow = asyncio.create_task(database.write(slowly))
        await asyncio.to_thread(begun.wait, 5)
        views.put(standing, urgent=True)
        await asyncio.sleep(0.05)  # it is in the queue now, behind the slow one
        closing = asyncio.create_task(views.close())
        await asyncio.sleep(0.05)
        go_on.set()
        await asyncio.gather(slow, closing)
        row = await database.read(lambda conn: read_view(conn, download_id))
    assert row is not None
    assert (row.view.state, row.view.bytes_done) == (State.PAUSED, 58_700_000)


async def test_who_has_waited_longest_is_written_first(tmp_path: Path) -> None:
    """A thousand that move all the time: one that changes again does not go to the end of the line, or it starved."""
    clock = SystemClock()
    async with await Database.open(tmp_path / "state.db", (JOURNAL, DOWNLOADS), clock=clock) as database:
        views = ViewWriter(database, clock)
        line = [Standing(DownloadView(download_id=name), clock=clock, told=lambda *_: None) for name in "abc"]
        for standing in [*line, line[0]]:
            views.put(standing, urgent=False)
        assert list(views._waiting) == ["a", "b", "c"]
        views.put(line[0], urgent=True)
        assert (list(views._urgent), list(views._waiting)) == (["a"], ["b", "c"])
        await views.close()
