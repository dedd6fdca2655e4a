"""What waits to be written, and what is done when nothing happens."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from recovery.database import Database, StoreLimits
from recovery.writequeue import WriteQueue
from tests.notes import NOTES, note


async def test_a_long_write_does_not_make_the_event_loop_spin(
    state_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the thread is busy for longer than ``idle_s`` no timer for idle times rings."""
    rung = 0
    ring = WriteQueue._ring

    def counted(queue: WriteQueue) -> None:
        nonlocal rung
        rung += 1
        ring(queue)

    monkeypatch.setattr(WriteQueue, "_ring", counted)
    limits = StoreLimits(idle_s=0.01)
    async with await Database.open(state_path, [NOTES], limits=limits) as database:
        began, go_on = threading.Event(), threading.Event()

        def slow(conn: sqlite3.Connection) -> int:
            began.set()
            assert go_on.wait(30)
            return note("slow")(conn)

        await database.write(note("makes the WAL worth emptying"))
        writing = asyncio.ensure_future(database.write(slow))
        await asyncio.to_thread(began.wait, 30)
        for _ in range(20):
            await asyncio.sleep(limits.idle_s)
        rung_meanwhile = rung
        go_on.set()
        await writing
        assert rung_meanwhile <= 1
        wal = state_path.with_name("state.db-wal")
        while wal.stat().st_size:  # and once the thread is idle, the timer is there again
            await asyncio.sleep(limits.idle_s)
