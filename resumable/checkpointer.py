"""Keeps an attempt's books in the store: the checkpoint tick, and the audit of what a former run claims."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from resumable.errors import LocalError
from resumable.events import EventName
from resumable.model import Durability
from resumable.session import Adapters, Session
from resumable.stream import ExtentStream

__all__ = ["Checkpointer"]

_PATIENCE_S: Final = 0.1
"""How long a tick waits for what was gathered to be written: a slow disk must not hold up the other chunks' rows."""


class Checkpointer:
    """Commits what connections have written, and judges what former runs left."""

    def __init__(self, session: Session, adapters: Adapters, progress: Callable[[int], None]) -> None:
        """``progress`` is told the durable bytes after each commit."""
        self._session = session
        self._adapters = adapters
        self._progress = progress
        self._lock = asyncio.Lock()
        self.judged = asyncio.Event()
        """Set while no claim of a former run waits for the audit."""
        if not session.claims:
            self.judged.set()

    async def tick(self, streams: Callable[[], Iterable[ExtentStream]]) -> None:
        """Commit every ``checkpoint_interval_s`` seconds, until cancelled, what the streams have received by then."""
        interval = self._session.request.options.checkpoint_interval_s
        while True:
            await self._adapters.clock.sleep(interval)
            # Written first, then committed: a tick that commits what the one before wrote loses twice as much.
            writes = {write for stream in streams() if (write := stream.nudge()) is not None}
            if writes:
                await asyncio.wait(writes, timeout=_PATIENCE_S)
            ledger = self._session.ledger
            if ledger is not None and not (ledger.complete and not self._session.begun):  # else its receipt is next
                await self.commit()
            for write in writes:
                if write.done() and not write.cancelled() and isinstance(write.exception(), LocalError):
                    write.result()  # a full disk is told now, not when a slow connection brings its next block
            self._adapters.notify(EventName.PROGRESS, "")

    async def commit(self) -> None:
        """Make what is written durable: data (for power), row, only then the news of it.

        Raises LeaseLost when another process has the download; LocalError when the data cannot be synced.
        """
        session = self._session
        ledger = session.ledger
        if ledger is None:
            return
        if session.whole is not None:
            session.whole.advance(ledger.plan.done_prefix())
        async with self._lock:
            dirty = ledger.take_dirty()
            if not dirty or session.representation is None:
                return
            try:
                if session.request.options.durability is Durability.POWER:
                    await session.open_part.sync()
                if not session.begun:
                    await self._adapters.store.begin(
                        session.download_id,
                        session.generation,
                        session.representation,
                        ledger.grid.chunk_size,
                        session.source.link,
                    )
                    session.begun = True
                await self._adapters.store.commit(session.download_id, session.generation, dirty)
            except BaseException:
                ledger.redo(dirty)
                raise
            ledger.committed(dirty)
        self._progress(ledger.durable)

    async def audit(self, judged_one: Callable[[], None]) -> None:
        """Judge a former run's claims beside the fetching; what the disk denies is missing again.

        Raises DeviceError when the device as a whole does not answer; the claims not judged by then are kept.
        """
        session = self._session
        self.judged.clear()
        ledger = session.bound_ledger
        grid = ledger.grid
        damaged: list[int] = []
        remaining = dict(session.claims)
        verdicts = self._adapters.audit(session.open_part, session.claims, grid.chunk_size, grid.complete_length)
        async for audited in verdicts:
            index = audited.checkpoint.index
            remaining.pop(index, None)
            if audited.ok:
                ledger.audited(audited.checkpoint, audited.digester)
            else:
                ledger.damaged(index)
                session.kept.pop(index, None)
                damaged.append(index)
            session.claims = remaining
            judged_one()
        session.claims = {}
        self.judged.set()
        self._progress(ledger.durable)
        if damaged:
            lost = sum(grid.span(index).length for index in damaged)
            text = f"{len(damaged)} damaged chunk(s), {lost} bytes, of the part file are fetched again"
            self._adapters.notify(EventName.REPAIRED, text)
            await self._forget(damaged)
        judged_one()

    async def _forget(self, damaged: Iterable[int]) -> None:
        session = self._session
        async with self._lock:
            # Fetched again meanwhile, a chunk has a new claim, and that one is true.
            stale = [index for index in damaged if not session.bound_ledger.durable_in(index)]
            if stale:
                await self._adapters.store.forget(session.download_id, session.generation, stale)
