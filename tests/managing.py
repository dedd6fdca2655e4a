"""Managers for tests: real state file, real part files, short waits; and other processes that use the same files."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recovery.policy import RetryPolicy
from recovery.states import State
from resumable import DownloadEvent, DownloadHandle, DownloadManager, DownloadView, EventName, Options
from tests.command import start
from tests.origin import Behaviour, Content

MIB = 1 << 20
QUICK = RetryPolicy(base=0.02, cap=0.05)
PATIENT = RetryPolicy(base=60.0, cap=60.0)
"""Waits for up to a minute before each retry: for tests of what happens in a wait."""
SLOW = Behaviour(rate=MIB)
"""A mebibyte a second on each connection: slow enough to be stopped on the way."""


def content(mib: int = 4, seed: int = 1) -> Content:
    """Return some content."""
    return Content(mib * MIB, seed=seed)


def whole(content: Content) -> bytes:
    """Return all of it."""
    return content.read(0, content.size)


@dataclass
class Rig:
    """Where the files of a test are, and managers that keep their state there."""

    folder: Path
    events: list[DownloadEvent] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.folder / "state.db"

    def file(self, name: str = "f.bin") -> Path:
        return self.folder / name

    def part(self, name: str = "f.bin") -> Path:
        return self.folder / f"{name}.part"

    def manager(self, **settings: Any) -> DownloadManager:
        """Return a manager that is not open yet."""
        defaults: dict[str, Any] = {
            "state": self.state,
            "policy": QUICK,
            "on_event": self.events.append,
            "options": Options(checkpoint_interval_s=0.05, connections=2),
        }
        return DownloadManager(**{**defaults, **settings})

    def get(self, url: str, name: str = "f.bin") -> subprocess.Popen[str]:
        """Start ``resumable get`` for a file of ours, over our state file, in a process of its own."""
        return start("get", url, "-o", self.file(name), "--state", self.state, cwd=self.folder)

    def told(self, name: EventName) -> list[DownloadEvent]:
        """Return the events of this name so far."""
        return [event for event in self.events if event.event is name]

    async def until(self, name: EventName, count: int = 1) -> DownloadEvent:
        """Wait until an event of this name was told ``count`` times; return the last of them."""
        await until(lambda: len(self.told(name)) >= count, f"{name} x {count}; there were {self.names}")
        return self.told(name)[count - 1]

    @property
    def names(self) -> list[str]:
        """The names of all events so far, repetitions left out."""
        names = [event.event.value for event in self.events]
        return [name for name, before in zip(names, [None, *names], strict=False) if name != before]


async def until(condition: Any, what: str = "condition", timeout_s: float = 20.0) -> None:
    """Wait until ``condition()`` holds; fails with ``what`` when it never does."""
    try:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"never: {what}") from None


async def received(handle: DownloadHandle, count: int) -> None:
    """Wait until ``count`` bytes of a download are durable."""
    await until(lambda: handle.view.bytes_done >= count, f"{count} bytes; {handle.view}")


async def in_state(handle: DownloadHandle, state: State) -> None:
    """Wait until a download is in this state."""
    await until(lambda: handle.view.state is state, f"{state}; {handle.view}")


def row(state: Path, query: str, *values: Any) -> Any:
    """Return the first row of a query, as a stranger reads the state file."""
    conn = sqlite3.connect(state)
    try:
        return conn.execute(query, values).fetchone()
    finally:
        conn.close()


def open_files() -> set[str]:
    """Return what the descriptors of this process are open on, sockets and the event loop's own left out."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith("/") and not target.startswith(("/dev/", "/proc/")):
            found.add(target)
    return found


def only(views: list[DownloadView]) -> DownloadView:
    """Return the one view there is."""
    assert len(views) == 1, views
    return views[0]


class Damage:
    """A write function that finds the file damaged, once."""

    def __init__(self) -> None:
        self.found = False

    def __call__(self, conn: sqlite3.Connection) -> None:
        if not self.found:
            self.found = True
            error = sqlite3.DatabaseError("database disk image is malformed")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error
