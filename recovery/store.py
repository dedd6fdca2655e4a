"""Where writes go when the state file is sound, and where they go when it is not: the part in the database's own
thread.

===================================  =================================================================================
fault of the file                    what happens
===================================  =================================================================================
busy, full, read-only, I/O error,    everything goes on in memory, on a copy of the file where it can be read; the
cannot be opened                     functions are kept, and run on the file when it works again (probed with backoff)
deleted or replaced while open       written again from the handle still open on it; if somebody made a new one, that
                                     one is used
damaged, not a database              set aside with its -wal and -shm, a new one begun, what this process holds put
                                     into it
newer schema, another program's      never touched; memory for as long as this process lives
===================================  =================================================================================

A write therefore always succeeds unless its own function raises. What is lost is said in ``reason`` and in a health
event. Blocking; only ever called in the database thread, which also makes it free of locks of its own.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from recovery.clock import Clock
from recovery.connections import FileId
from recovery.faults import Fault, StoreFault
from recovery.filelock import FileLock
from recovery.health import Health
from recovery.schema import Schema
from recovery.standin import StandIn, put_right
from recovery.statefile import StateFile, StoreLimits, quarantine
from recovery.work import Restore, Work, WorkFailed, run_apart, run_together

__all__ = ["Store", "StoreCounts"]

log = logging.getLogger(__name__)

_HANDS_OFF = frozenset({Fault.NEWER, Fault.FOREIGN})
_MENDABLE = frozenset({Fault.CORRUPT, Fault.GONE})
_LONGEST_PROBE_S = 0.25  # others that write much hold the lock for moments; one that hangs must not hold us up
_TRIES_PER_GROUP = 3  # a disk that damages every new file must not keep us busy for ever


class StoreCounts(Struct):
    """What the store has done since it was opened."""

    writes: int = 0
    groups: int = 0
    checkpoints: int = 0
    faults: int = 0
    quarantined: int = 0
    caught_up: int = 0
    lost: int = 0


class Store:
    """The state file or, while that cannot be used, its stand-in."""

    def __init__(
        self,
        path: Path | None,
        schemas: Sequence[Schema],
        *,
        limits: StoreLimits,
        clock: Clock,
        say: Callable[[Health, str], None],
    ) -> None:
        """Remember what to open; ``say`` is told, in this thread, when health or reason change."""
        self.path = path
        self.limits = limits
        self.counts = StoreCounts()
        self.health = Health.OK
        self.reason = ""
        self.restores: list[Restore] = []
        self.file: StateFile | None = None
        self.opened = 0
        """Grows with every file taken into use; whoever has a connection of its own must then open it again."""
        self.probe_at: float | None = None
        """When the file is tried again, on the monotonic clock; None when there is nothing to try."""
        self._schemas = tuple(schemas)
        self._clock = clock
        self._say = say
        self._lock = None if path is None else FileLock(Path(f"{path}.lock"))
        self._standin: StandIn | None = None
        self._hands_off = path is None
        self._delay = limits.probe_base_s
        self._sound_again = False
        self._stale_wal: FileId | None = None

    def open(self) -> sqlite3.Connection:
        """Open the file, or the stand-in if that fails; returns the connection in use. Never raises for the file's
        sake.
        """
        if self.path is None:
            self._standin = StandIn.open(None, self._schemas, self.limits, ())
            return self._standin.conn
        try:
            self._use(self._open_file(self.limits.wait_s))
            self._tell(Health.OK, self._caveat())
        except StoreFault as fault:
            self._face(fault)
        self._settle()
        return self.file.conn if self.file is not None else self._require_standin().conn

    @property
    def readable_elsewhere(self) -> bool:
        """Whether another connection may read beside this one (WAL). May be asked in any thread."""
        file = self.file
        return file is not None and file.wal

    def write(self, works: Sequence[Work]) -> None:
        """Run the functions in one transaction; afterwards each ``Work`` has its value or its error."""
        self.counts.writes += len(works)
        self.counts.groups += 1
        self.probe()
        for _ in range(_TRIES_PER_GROUP):
            if self.file is None:
                break
            try:
                self._on_file(self.file, works)
            except StoreFault as fault:
                self._face(fault)
            else:
                self._settle()
                return
        if self.file is not None:
            self._go_on_in_memory(StoreFault(Fault.IO, "it is damaged again and again"))
        standin = self._require_standin()
        standin.run(works, keep=not self._hands_off)
        if standin.redo.lost and self.health is Health.DEGRADED:
            self._tell(Health.MEMORY_ONLY, f"{self.reason}; there is more to save than can be kept")

    def probe(self, forced: bool = False) -> None:  # noqa: FBT001, FBT002 - handed to the thread as it is
        """Try the file again if its time has come, and catch up with it."""
        if self.probe_at is None or not (forced or self._clock.monotonic() >= self.probe_at):
            return
        try:
            self._catch_up()
        except StoreFault as fault:
            self._delay = min(self._delay * 2, self.limits.probe_cap_s)
            self.probe_at = self._clock.monotonic() + self._delay
            self._tell(self.health, self._words(fault, "this program goes on in memory"))

    def tend(self) -> None:
        """Do what there is time for while nothing happens."""
        self.probe()
        self.maintain(idle=True)

    @property
    def maintenance_due(self) -> bool:
        """Whether ``maintain`` has something to do."""
        return self.file is not None and self.file.checkpoint_due(self.limits)

    def maintain(self, *, idle: bool = False) -> None:
        """Checkpoint the WAL if it has grown enough or there is time for it. A fault is left for the next write to
        meet.
        """
        file = self.file
        if file is None or not (file.unchecked if idle else file.checkpoint_due(self.limits)):
            return
        self.counts.checkpoints += 1
        with contextlib.suppress(StoreFault):
            file.checkpoint(truncate=idle, wait_s=0.0 if idle else self.limits.wait_s)
        file.unchecked = 0

    def condemn(self, opened: int, detail: str) -> None:
        """Treat the file as damaged, as a check outside this thread has found, unless it was replaced since."""
        if self.file is not None and self.opened == opened:
            self._face(StoreFault(Fault.CORRUPT, detail))
            self._settle()

    def close(self) -> None:
        """Catch up if possible, say what is lost if not, and close everything."""
        self.probe(True)  # noqa: FBT003
        self.probe_at = None
        if self.file is not None:
            self.file.close(wait_s=self.limits.wait_s)
        if self._standin is not None:
            unsaved = len(self._standin.redo) + self._standin.redo.lost
            if unsaved:
                self.counts.lost += unsaved
                self._tell(Health.MEMORY_ONLY, f"{self.reason}; {unsaved} updates were never saved")
            self._standin.close()
        if self._lock is not None:
            self._lock.close()

    def forget_lock(self) -> None:
        """Close this process's copy of the lock, after a fork: while it is open, the parent's death would not free
        it.
        """
        if self._lock is not None:
            self._lock.close()

    # --- with the file ------------------------------------------------------------------------------------------------

    def _on_file(self, file: StateFile, works: Sequence[Work]) -> None:
        urgent = any(work.urgent for work in works)
        wait_s = self.limits.wait_s
        try:
            file.transact(lambda conn: run_together(conn, works), urgent=urgent, wait_s=wait_s)
        except WorkFailed:
            if len(works) > 1:
                file.transact(lambda conn: run_apart(conn, works), urgent=urgent, wait_s=wait_s)

    def _open_file(self, wait_s: float, content: StandIn | None = None) -> StateFile:
        assert self.path is not None
        assert self._lock is not None
        complete = content.conn if content is not None and content.complete else None
        return StateFile.open(
            self.path, self._schemas, self._lock, wait_s=wait_s, content=complete, stale_wal=self._stale_wal
        )

    def _use(self, file: StateFile) -> None:
        file.conn.restores = self.restores
        self.file = file
        self.opened += 1
        self.probe_at = None
        self._delay = self.limits.probe_base_s
        self._stale_wal = None
        if self._standin is not None:
            self._standin.close()
            self._standin = None

    # --- without it ---------------------------------------------------------------------------------------------------

    def _face(self, fault: StoreFault) -> None:
        """Do what the fault calls for: afterwards there is a file again, or the stand-in in its place."""
        self.counts.faults += 1
        log.warning("state file %s: %s", self.path, fault)
        try:
            if fault.fault is Fault.CORRUPT:
                self._replace_damaged(fault)
                return
            if fault.fault is Fault.GONE:
                self._rewrite_deleted(fault)
                return
        except StoreFault as worse:
            fault = worse
        self._go_on_in_memory(fault)

    def _replace_damaged(self, fault: StoreFault) -> None:
        old, self.file = self.file, None
        if old is not None:
            fault.file_id = old.id
            old.close(wait_s=self.limits.wait_s, checkpoint=False)
        aside = self._set_aside(fault)
        self._return_to_file(self.limits.wait_s)
        moved = "" if aside is None else f"; it was set aside as {aside.name}"
        self._mended(f"{self._words(fault, 'a new one was begun')}{moved}; what had been recorded before is lost")

    def _rewrite_deleted(self, fault: StoreFault) -> None:
        old, self.file = self.file, None
        assert old is not None, "only an open file can be deleted under us"
        self._standin = StandIn.open(old, self._schemas, self.limits, self.restores)
        self._stale_wal = old.stale_wal
        old.close(wait_s=0.0, checkpoint=False)
        fault.file_id = old.id
        self._set_aside(fault)  # when only its -wal is gone, what is left must not be taken for the whole
        complete = self._standin.complete
        rewritten = self._return_to_file(self.limits.wait_s).blank and complete
        self._mended(
            self._words(fault, "it was written again" if rewritten else "what had been recorded before is lost")
        )

    def _go_on_in_memory(self, fault: StoreFault) -> None:
        old, self.file = self.file, None
        self._hands_off = fault.fault in _HANDS_OFF
        if self._standin is None:
            unreadable = self._hands_off or fault.fault is Fault.CORRUPT
            source = old if old is not None else (None if unreadable else self.path)
            self._standin = StandIn.open(source, self._schemas, self.limits, self.restores)
            self._standin.conn.blind = not self._standin.complete
        if old is not None:
            old.close(wait_s=0.0, checkpoint=False)
        self._delay = self.limits.probe_base_s
        self.probe_at = None if self._hands_off else self._clock.monotonic() + self._delay
        self._sound_again = False
        consequence = "this program goes on in memory"
        if self._hands_off:
            consequence += ", and what it records will be lost when it ends"
        self._tell(Health.DEGRADED, self._words(fault, consequence))

    def _catch_up(self) -> None:
        standin = self._require_standin()
        wait_s = min(self.limits.wait_s, _LONGEST_PROBE_S)
        try:
            self._return_to_file(wait_s)
        except StoreFault as fault:
            if fault.fault is not Fault.CORRUPT:
                raise
            self._set_aside(fault)
            self._return_to_file(wait_s)
        lost = standin.redo.lost
        self.counts.lost += lost
        losses = f"the state file works again; {lost} updates made meanwhile were lost" if lost else ""
        self._tell(Health.OK, self._caveat(losses))

    def _return_to_file(self, wait_s: float) -> StateFile:
        """Take the file at the path into use, a new one if there is none, and put into it what this process knows."""
        standin = self._standin
        file = self._open_file(wait_s, standin)
        try:
            if standin is not None:
                self.counts.caught_up += standin.catch_up(file, self.limits, self.restores)
            elif self.restores:
                put_right(file, self.restores, self.limits)
        except StoreFault:
            file.close(wait_s=0.0, checkpoint=False)
            raise
        self._use(file)
        return file

    def _set_aside(self, fault: StoreFault) -> Path | None:
        assert self.path is not None
        assert self._lock is not None
        aside = quarantine(self.path, self._lock, fault.file_id, wait_s=self.limits.wait_s)
        self.counts.quarantined += aside is not None
        return aside

    # --- words --------------------------------------------------------------------------------------------------------

    def _words(self, fault: StoreFault, consequence: str) -> str:
        words = fault.words(str(self.path))
        return f"{words}; {consequence}"

    def _caveat(self, reason: str = "") -> str:
        if self.file is None or self.file.network is None:
            return reason
        caveat = (
            f"the state file {self.path} is on a network filesystem ({self.file.network}), where it is slower and only"
            " one machine may use it; keep it on a local disk"
        )
        return f"{reason}; {caveat}" if reason else caveat

    def _mended(self, reason: str) -> None:
        self._tell(Health.DEGRADED, reason)
        self._sound_again = True

    def _settle(self) -> None:
        """Call a mended file sound once it has taken a transaction; the reason stays to be read."""
        if self._sound_again and self.file is not None:
            self._sound_again = False
            self._tell(Health.OK, self._caveat(self.reason))

    def _tell(self, health: Health, reason: str) -> None:
        if (health, reason) != (self.health, self.reason):
            self.health, self.reason = health, reason
            log.log(logging.INFO if health is Health.OK else logging.WARNING, "state is %s: %s", health.value, reason)
            self._say(health, reason)

    def _require_standin(self) -> StandIn:
        assert self._standin is not None, "the store is not open"
        return self._standin
