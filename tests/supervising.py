"""What the supervisor's tests share: journals of both kinds, a recorder of events, attempts that follow a script."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from recovery.control import Attempt
from recovery.database import Database
from recovery.events import OperationEvent
from recovery.journal import JOURNAL, Journal
from recovery.policy import RetryPolicy
from recovery.records import OperationSpec
from recovery.testing import FakeClock, MemoryJournal
from recovery.verdict import Action, Category, Verdict

AnyJournal = Journal | MemoryJournal

RESET = ConnectionResetError("reset by peer")
FULL = OSError(28, "No space left on device")
"""Parks: the disk is full."""

AT_ONCE = RetryPolicy(base=0.0)
"""The default budget, without waits."""


class ServerSaysLaterError(Exception):
    """Asks for a wait, as a 429 with Retry-After does."""

    def __init__(self, seconds: float) -> None:
        """Ask for ``seconds``."""
        super().__init__("later")
        self.recovery_hint = Verdict(
            category=Category.THROTTLED, action=Action.AFTER, code="throttled", message="later", retry_after_s=seconds
        )


def spec(key: str = "the import", *, policy: RetryPolicy = AT_ONCE, **more: Any) -> OperationSpec:
    """Return what to run."""
    return OperationSpec(kind="test", key=key, policy=policy, **more)


@asynccontextmanager
async def journal_of(kind: str, path: Path, clock: FakeClock) -> AsyncIterator[AnyJournal]:
    """Open a journal: ``memory`` or ``file``."""
    if kind == "memory":
        yield MemoryJournal(clock=clock)
        return
    async with await Database.open(path, [JOURNAL]) as database:
        yield Journal(database, clock=clock)


class Recorder(list[OperationEvent]):
    """Collects events; shows them as ``previous>state`` for comparing."""

    def __call__(self, event: OperationEvent) -> None:
        """Take an event."""
        self.append(event)

    @property
    def steps(self) -> list[str]:
        """The states in order."""
        return [event.state.value for event in self]


class Script:
    """An attempt that does, try after try, what its script says: return a value, or raise an exception."""

    def __init__(self, *acts: object, progress: Iterable[int] = ()) -> None:
        """``progress`` is reported by one attempt each, before it acts."""
        self.acts = list(acts)
        self.progress = list(progress)
        self.seen: list[Attempt] = []

    async def __call__(self, attempt: Attempt) -> object:
        """Do the next act."""
        self.seen.append(attempt)
        await asyncio.sleep(0)
        if self.progress:
            attempt.progress(self.progress.pop(0))
        act = self.acts.pop(0)
        if isinstance(act, BaseException):
            raise act
        return act


class Held:
    """An attempt that works until it is let go, and notes when it cleaned up."""

    def __init__(self) -> None:
        """Hold."""
        self.started = asyncio.Event()
        self.go = asyncio.Event()
        self.cleaned_up = False
        self.tries = 0

    async def __call__(self, _: Attempt) -> str:
        """Wait; clean-up takes a few turns."""
        self.tries += 1
        self.started.set()
        try:
            await self.go.wait()
        finally:
            for _turn in range(3):
                await asyncio.sleep(0)
            self.cleaned_up = True
        return "done"


async def turns(count: int = 50) -> None:
    """Let everybody else run for a while; no time passes."""
    for _ in range(count):
        await asyncio.sleep(0)


async def eventually(condition: Callable[[], object | Awaitable[object]], *, within_s: float = 10.0) -> None:
    """Wait in real time until the condition is true, for work that goes through threads."""
    async with asyncio.timeout(within_s):
        while True:
            found = condition()
            if isinstance(found, Awaitable):
                found = await found
            if found:
                return
            await asyncio.sleep(0.001)


async def advance(clock: FakeClock, seconds: float) -> None:
    """Let virtual time pass in steps that give threads their real time."""
    steps = math.ceil(seconds * 4)
    for _ in range(steps):
        await clock.advance(seconds / steps)
        await asyncio.sleep(0.002)


async def row_of(journal: AnyJournal, key: str = "the import") -> Any:
    """Return the operation's row."""
    row = await journal.find("test", key)
    assert row is not None
    return row
