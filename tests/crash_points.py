"""``kill -9`` at every store write of one supervised operation: before it, in its transaction, and after its commit.

A program, not a test: it forks its victims, so it must have no threads. It prints one JSON object::

    python -m tests.crash_points FOLDER OPEN AFTER
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from recovery import heartbeat
from recovery.clock import SystemClock
from recovery.control import Attempt
from recovery.database import Database
from recovery.hostgates import JournalGates
from recovery.journal import JOURNAL, Journal
from recovery.policy import RetryPolicy
from recovery.records import OperationSpec
from recovery.statefile import StateFile
from recovery.states import State
from recovery.supervisor import LeaseHeld, Supervisor
from recovery.verdict import Condition

HASTE = 200.0
STEPS = ("download", "unpack", "register", "index")
SPEC = OperationSpec(
    kind="import", key="workflow", operation_id="import-1", policy=RetryPolicy(base=0.0, max_no_progress=3)
)
LEASE_S = 60.0


class Where(StrEnum):
    """Where in a write the process dies."""

    BEFORE = "before it"
    OPEN = "in its transaction"
    AFTER = "after its commit"


@dataclass
class Report:
    """What a process has to say of its run."""

    how: str = "died"
    began_after_s: float | None = None
    """From its start to the first call of the attempt."""
    twice: bool = False
    effects: list[str] = field(default_factory=list)
    writes: int = 0


class Hasty(SystemClock):
    """A clock whose waits are short, so that renewals and retries come within milliseconds."""

    def monotonic(self) -> float:
        """Return hasty seconds."""
        return time.monotonic() * HASTE

    async def sleep(self, seconds: float) -> None:
        """Wait hastily."""
        await asyncio.sleep(seconds / HASTE)


class Importing:
    """The operation: four steps that are remembered, a failure, a full table of descriptors, and a long last step."""

    def __init__(self, folder: Path, journal: Journal, report: Report, started: float) -> None:
        """Take the folder for the lock that tells whether two run at once."""
        self._lock = os.open(folder / "running", os.O_RDWR | os.O_CREAT)
        self._journal = journal
        self._report = report
        self._started = started

    async def __call__(self, attempt: Attempt) -> str:
        """Do the steps that nobody has done."""
        report = self._report
        if report.began_after_s is None:
            report.began_after_s = time.monotonic() - self._started
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report.twice = True
            raise
        try:
            await self._steps(attempt)
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
        return "imported"

    async def _steps(self, attempt: Attempt) -> None:
        done = await self._journal.steps(attempt.operation_id)
        for number, name in enumerate(STEPS):
            if name in done:
                continue
            self._report.effects.append(name)
            await self._journal.save_step(attempt.operation_id, attempt.generation, name, number)
            attempt.progress(number + 1, len(STEPS))
            if number == attempt.number - 1 == 0:
                raise ConnectionResetError("reset by peer")
            if number == attempt.number - 1 == 1:
                raise OSError(errno.EMFILE, "Too many open files")
        await asyncio.sleep(1.5 * LEASE_S / 3 / HASTE)  # long enough for one renewal


async def operate(folder: Path, report: Report) -> None:
    """Run the operation as a program does that has just been started."""
    started = time.monotonic()
    clock = Hasty()
    async with await Database.open(folder / "state.db", [JOURNAL]) as database:
        journal = Journal(database, clock=clock)
        row = await journal.find(SPEC.kind, SPEC.key)
        if row is not None and row.state is State.COMPLETE:
            report.how = "complete already"
            return
        heartbeat._CLOCK_JUMP_S = math.inf  # of this clock the two times run apart, which is no jump
        # Only what was seen here is done again: the other may have ended it since, if this process was held up.
        spec = replace(SPEC, again=0 if row is None else row.generation)
        supervisor = Supervisor(
            journal,
            clock=clock,
            draw=lambda: 0.0,
            gates=JournalGates(journal, clock=clock, draw=lambda: 0.0),
            lease_ttl_s=LEASE_S,
            watchers={Condition.DESCRIPTORS: _always},
        )
        try:
            report.how = await supervisor.run(spec, Importing(folder, journal, report, started), host="example.org")
        except LeaseHeld:
            report.how = "held by another"


async def _always(_: BaseException) -> bool:
    return True


def kill_at(number: int, where: Where, report: Report) -> None:
    """Make this process die at its write of that number; 0 only counts."""
    inner = StateFile.transact

    def transact(self: StateFile, work: Callable[[Any], Any], **how: Any) -> Any:
        report.writes += 1
        if report.writes != number:
            return inner(self, work, **how)

        def and_die(conn: Any) -> None:
            work(conn)
            os.kill(os.getpid(), signal.SIGKILL)

        if where is Where.BEFORE:
            os.kill(os.getpid(), signal.SIGKILL)
        if where is Where.OPEN:
            return inner(self, and_die, **how)
        result = inner(self, work, **how)
        os.kill(os.getpid(), signal.SIGKILL)
        return result

    StateFile.transact = transact  # type: ignore[method-assign]


def start(folder: Path, name: str, number: int = 0, where: Where = Where.BEFORE) -> int:
    """Fork a process that runs the operation; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        report = Report()
        kill_at(number, where, report)
        asyncio.run(operate(folder, report))
        (folder / name).write_text(json.dumps(asdict(report)))
        code = 0
    finally:
        os._exit(code)


def end(folder: Path, pids: Iterable[int], names: Iterable[str]) -> list[Report]:
    """Wait for processes and return what they report; one that was killed has died."""
    reports = []
    for pid, name in zip(pids, names, strict=True):
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            reports.append(Report())
        else:
            assert os.waitstatus_to_exitcode(status) == 0, f"{name} failed"
            reports.append(Report(**json.loads((folder / name).read_text())))
    return reports


async def look(folder: Path) -> tuple[Any, set[str], list[int]]:
    """Return the row, the steps that are remembered and the numbers of the attempts."""
    async with await Database.open(folder / "state.db", [JOURNAL]) as database:
        journal = Journal(database)
        row = await journal.find(SPEC.kind, SPEC.key)
        steps = set() if row is None else set(await journal.steps(row.operation_id))
        attempts = [] if row is None else [one.number for one in await journal.attempts(row.operation_id)]
        return row, steps, attempts


def crash(folder: Path, number: int, where: Where) -> tuple[bool, list[str], float]:
    """Kill the operation at one write, start it again twice at once; return whether it died, what is wrong, how long
    the restarted one took to begin.
    """
    folder.mkdir()
    (first,) = end(folder, [start(folder, "first", number, where)], ["first"])
    died = first.how == "died"
    remembered = look_in_child(folder)["steps"] if died else []
    names = ["second", "third"]
    reports = end(folder, [start(folder, name) for name in names], names)
    after = look_in_child(folder)
    ran = [one for one in reports if one.how == "imported"]
    again = [name for one in reports for name in one.effects if name in remembered]
    wrong = [
        text
        for text, bad in (
            ("two ran at once", any(one.twice for one in reports)),
            ("both ran it to its end", len(ran) > 1),
            ("nobody ran it to its end", not ran and any(one.how != "complete already" for one in reports)),
            (f"it is {after['state']}", after["state"] != State.COMPLETE),
            (f"steps {again} were done again", bool(again)),
            (f"attempts {after['attempts']}", after["attempts"] != list(range(1, after["counted"] + 1))),
            ("it is leased", after["owner"] is not None),
        )
        if bad
    ]
    return died, wrong, max((one.began_after_s or 0.0 for one in ran), default=0.0)


def look_in_child(folder: Path) -> dict[str, Any]:
    """Look at the journal in a process of its own: this one must have no threads when it forks."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            row, steps, attempts = asyncio.run(look(folder))
            seen = {
                "state": None if row is None else row.state.value,
                "owner": None if row is None else row.owner,
                "counted": 0 if row is None else row.history.attempts,
                "steps": sorted(steps),
                "attempts": attempts,
            }
            (folder / "seen").write_text(json.dumps(seen))
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert status == 0
    seen = json.loads((folder / "seen").read_text())
    assert isinstance(seen, dict)
    return seen


def main(folder: Path, places: Iterable[Where]) -> None:
    """Go through all writes."""
    points, wrong, slowest = 0, [], 0.0
    for where in places:
        number = 0
        while True:
            number += 1
            died, faults, began_after_s = crash(folder / f"{where.name}-{number}", number, where)
            wrong += [f"{where} {number}: {fault}" for fault in faults]
            if not died:
                break
            points += 1
            slowest = max(slowest, began_after_s)
    print(json.dumps({"points": points, "wrong": wrong, "slowest_s": slowest}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Where[name] for name in sys.argv[2:]])
