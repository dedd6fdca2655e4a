"""Proof that a range holds the bytes it is labelled with.

A cache or a site on the way may answer a range with other bytes than its Content-Range and its ETag say (wget2#389:
64 KiB of garbage at each interruption; aria2#1279: thousands of corrupt files), and no header tells. So the first
request that goes on from bytes of a former run asks for a few of them once more, and they must be the same. Bytes of
this run would prove nothing: an origin that is a few bytes off is so consistently.
"""

from __future__ import annotations

import hashlib
from typing import Final

from msgspec import Struct

from resumable.errors import RepresentationChanged
from resumable.plan import ChunkState
from resumable.ports import PartFile
from resumable.session import Mode, Session

__all__ = ["PROBE", "RangeProbe", "same_on_disk"]

PROBE: Final = 4 << 10
"""Bytes that are asked for twice. They are not counted as received: nobody waits for them."""


async def same_on_disk(part: PartFile, received: bytes, stop: int) -> bool:
    """Whether the part file holds ``received`` right before the offset ``stop``; raises LocalError."""
    kept = hashlib.sha256()
    await part.hash_span(stop - len(received), len(received), kept)
    return kept.digest() == hashlib.sha256(received).digest()


class _Waiting(Struct, frozen=True):
    received: bytes
    stop: int


class RangeProbe:
    """Compares once per source, as soon as what the bytes are compared with is written, hashed and believed."""

    def __init__(self, session: Session) -> None:
        """Begin with nothing to compare."""
        self._session = session
        self._asked = False
        self._waiting: _Waiting | None = None

    @property
    def pending(self) -> bool:
        """Whether bytes wait to be compared; nothing may be published before."""
        return self._waiting is not None

    def ask(self, offset: int) -> int:
        """Return how many bytes before ``offset`` the next request should ask for too; ``end`` must follow."""
        if self._asked or self.pending or self._session.source.ranges_proved or not self._kept_before(offset):
            return 0
        self._asked = True
        return min(PROBE, self._before(offset)[1])

    async def answer(self, received: bytes, stop: int) -> None:
        """Take the bytes before ``stop`` that came; raises what ``settle`` raises."""
        self._waiting = _Waiting(received, stop)
        await self.settle()

    def end(self) -> None:
        """Hear that the request is over, answered or not."""
        self._asked = False

    async def settle(self) -> None:
        """Compare what waits, if it can be compared by now.

        Raises RepresentationChanged when the bytes differ; from then on the file is read whole.
        """
        session, waiting = self._session, self._waiting
        if waiting is None:
            return
        if not self._kept_before(waiting.stop):
            self._waiting = None  # the audit has found them damaged
        elif self._judged_before(waiting.stop):
            self._waiting = None
            if not await same_on_disk(session.open_part, waiting.received, waiting.stop):
                session.mode = Mode.SEQUENTIAL
                session.can_resume = False
                raise RepresentationChanged("its ranges hold other bytes than they say", url=session.source.shown)
            session.source.ranges_proved = True

    def _before(self, offset: int) -> tuple[int, int]:
        """Return the chunk that the byte before ``offset`` is in, and how many of its bytes are before ``offset``."""
        grid = self._session.bound_ledger.grid
        index = grid.index(offset - 1)
        return index, offset - grid.span(index).start

    def _kept_before(self, offset: int) -> bool:
        """Whether a former run claims the bytes before ``offset``."""
        if not offset:
            return False
        index, head = self._before(offset)
        return self._session.kept.get(index, 0) >= head

    def _judged_before(self, offset: int) -> bool:
        ledger = self._session.bound_ledger
        index, head = self._before(offset)
        chunk = ledger.open.get(index)
        return ledger.plan.state(index) is ChunkState.DONE or (chunk is not None and chunk.length >= head)
