"""Makes work eligible again that nobody is doing: of owners that died, and waiting work whose time has come.

It never runs anything, and it may stop at any time: the next sweep, of this or another process, does what is left
(procrastinate#1408: the job that retries stalled jobs stalled). An operation whose owners keep dying without
progress is failed with the verdict ``crash-loop`` (celery#9082: redelivered for ever), and waits for a person.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from msgspec import Struct

from recovery.clock import Clock, SystemClock
from recovery.database import DatabaseClosed
from recovery.journal import Journal
from recovery.lifecycle import condemned, is_due, is_expired, requeued
from recovery.records import Operation
from recovery.rows import read_operation
from recovery.transactions import put_changed

__all__ = ["Sweep", "Sweeper"]

log = logging.getLogger(__name__)

_PRUNE_EVERY_S = 3_600.0
_CLOCK_JUMP_S = 2.0
_GRACE_S = 30.0  # two lives of a lease


class Sweep(Struct, frozen=True, kw_only=True):
    """What one sweep changed, as the rows are now."""

    orphaned: tuple[Operation, ...] = ()
    """Their owners died; eligible again."""
    due: tuple[Operation, ...] = ()
    """Their time has come; eligible again."""
    quarantined: tuple[Operation, ...] = ()
    """Failed: too many owners died."""
    pruned: int = 0

    def __bool__(self) -> bool:
        """Return whether anything changed."""
        return bool(self.orphaned or self.due or self.quarantined)


class Sweeper:
    """Looks at the journal every few seconds. Several may run, in as many processes."""

    def __init__(
        self,
        journal: Journal,
        *,
        clock: Clock | None = None,
        owner: str | None = None,
        every_s: float = 5.0,
        most_deaths: int = 3,
        keep_s: float = 30 * 86_400.0,
        keep_per_project_bytes: int = 1_000_000,
        on_sweep: Callable[[Sweep], None] | None = None,
    ) -> None:
        """``owner`` is this process's own, whose leases are not judged; ``on_sweep`` hears of every sweep that changed
        something. ``keep_s`` and ``keep_per_project_bytes`` bound what is remembered of the past.
        """
        self._journal = journal
        self._clock = clock or SystemClock()
        self._owner = owner
        self._every_s = every_s
        self._most_deaths = most_deaths
        self._keep_s = keep_s
        self._keep_bytes = keep_per_project_bytes
        self._on_sweep = on_sweep
        self._looked_at: tuple[float, float] | None = None
        self._leases_count_from = 0.0
        self._pruned_at: float | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Sweep from now on."""
        self._task = asyncio.get_running_loop().create_task(self.run(), name="recovery sweeper")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop sweeping."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    async def run(self) -> None:
        """Sweep every few seconds until cancelled, or until the database is closed."""
        while True:
            try:
                await self.sweep()
            except DatabaseClosed:
                return
            except Exception:  # the edge: one sweep that fails must not be the last one
                log.exception("the sweep failed")
            await self._clock.sleep(self._every_s)

    async def sweep(self) -> Sweep:
        """Look once; return what was changed."""
        now = self._clock.time()
        judge_leases = self._clock_is_steady(now)
        suspects = await self._journal.expired(now) if judge_leases else []
        orphans = [row.operation_id for row in suspects if row.owner is None or row.owner != self._owner]
        due = [row.operation_id for row in await self._journal.due(now)]
        pruned = await self._prune(now)
        done = Sweep(pruned=pruned)
        if orphans or due:
            done = await self._journal.transact(lambda conn: self._sweep_in(conn, orphans, due, pruned, now))
        if done and self._on_sweep is not None:
            self._on_sweep(done)
        return done

    def _sweep_in(
        self, conn: sqlite3.Connection, orphans: Sequence[str], due: Sequence[str], pruned: int, now: float
    ) -> Sweep:
        # Read again: somebody may have been faster.
        lost = [row for row in (read_operation(conn, name) for name in orphans) if row and is_expired(row, now)]
        ripe = [row for row in (read_operation(conn, name) for name in due) if row and is_due(row, now)]
        hopeful = [row for row in lost if row.deaths + 1 < self._most_deaths]
        hopeless = [row for row in lost if row.deaths + 1 >= self._most_deaths]
        return Sweep(
            orphaned=tuple(put_changed(conn, requeued(row, now)) for row in hopeful),
            due=tuple(put_changed(conn, requeued(row, now)) for row in ripe),
            quarantined=tuple(put_changed(conn, condemned(row, now)) for row in hopeless),
            pruned=pruned,
        )

    def _clock_is_steady(self, now: float) -> bool:
        """Return whether leases may be judged: after a sleep of the machine, or a new setting of its clock, all of them
        seem to have run out, and their owners get time to renew them.
        """
        looked = (now, self._clock.monotonic())
        before, self._looked_at = self._looked_at, looked
        if before is not None and abs((looked[0] - before[0]) - (looked[1] - before[1])) > _CLOCK_JUMP_S:
            self._leases_count_from = looked[1] + _GRACE_S
        return looked[1] >= self._leases_count_from

    async def _prune(self, now: float) -> int:
        monotonic = self._clock.monotonic()
        if self._pruned_at is not None and monotonic - self._pruned_at < _PRUNE_EVERY_S:
            return 0
        self._pruned_at = monotonic
        return await self._journal.prune(now - self._keep_s, self._keep_bytes)
