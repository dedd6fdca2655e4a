"""The books of one download run: what each chunk's digest is, what is written but not yet checkpointed, what is
durable. Pure.

Received counts bytes on the wire; durable counts bytes that a committed checkpoint or the audit vouches for. They are
kept apart on purpose: the first may exceed the file's size, the second only falls together with a stated reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from resumable.model import Checkpoint
from resumable.plan import ChunkGrid, ChunkState, Plan
from resumable.ports import Digester


class OpenChunk(Struct):
    """A chunk whose first ``length`` bytes are in the part file; ``digester`` has been fed exactly those."""

    length: int
    digester: Digester


class Ledger:
    """Digests, dirty checkpoints and byte counts over one plan."""

    def __init__(self, grid: ChunkGrid, claims: Mapping[int, Checkpoint]) -> None:
        """Begin with a former run's claims; they count as nothing until the audit confirms them."""
        self.grid = grid
        self.plan = Plan(grid, claimed=[i for i in claims if i < grid.count])
        self.digests: dict[int, bytes] = {}
        self.open: dict[int, OpenChunk] = {}
        self.durable = 0
        self.resumed = 0
        self._dirty: dict[int, Checkpoint] = {}
        self._holding = False
        self._held: dict[int, Checkpoint] = {}
        self._durable_by_chunk: dict[int, int] = {}

    @property
    def complete(self) -> bool:
        """Whether every chunk is in the part file with a known digest, and none of them waits to be proved."""
        return self.plan.complete and not self._held

    def wrote(self, index: int, length: int, digest: bytes) -> None:
        """Book that the first ``length`` bytes of chunk ``index`` are written and have ``digest``."""
        (self._held if self._holding else self._dirty)[index] = Checkpoint(index, length, digest)
        if length == self.grid.span(index).length:
            self.digests[index] = digest
            self.open.pop(index, None)
            self.plan.confirm(index)

    def take_dirty(self) -> list[Checkpoint]:
        """Return what is written but not checkpointed, and forget that it is dirty; give it back with ``redo`` on
        failure.
        """
        dirty = list(self._dirty.values())
        self._dirty.clear()
        return dirty

    # -- bytes that only what is kept beyond them can prove ------------------------------------------------------------

    def hold(self, *, on: bool = True) -> None:
        """Hold back what is written from now on, or stop doing so: it counts, and is checkpointed, once it is proved.

        What is held already stays held.
        """
        self._holding = on

    def proved(self, stop: int) -> None:
        """Book that the kept bytes from ``stop`` on are the origin's: so is what is held without a gap before them."""
        index = self.grid.index(stop - 1)
        while index in self._held:
            self._dirty[index] = self._held.pop(index)
            index -= 1
        self._holding = bool(self._held)

    def proved_all(self) -> None:
        """Book that one body has everything that is kept: so is what is held."""
        self._dirty.update(self._held)
        self._held.clear()
        self._holding = False

    def retry_proof(self) -> bool:
        """Where nothing is missing and something is still not proved: its last chunk is missing again, so that it is
        asked for together with what proves it. Return whether that was so.
        """
        if not self._held or self.plan.missing or self.plan.active:
            return False
        self.damaged(max(self._held))
        return True

    def kept_before(self, offset: int, most: int) -> int:
        """Return how many bytes right before ``offset`` are in the part file without a gap, at most ``most``."""
        start = offset
        while start > 0 and offset - start < most:
            index = self.grid.index(start - 1)
            first, chunk = self.grid.span(index).start, self.open.get(index)
            if self.plan.state(index) is not ChunkState.DONE and (chunk is None or first + chunk.length < start):
                break
            start = first
        return min(most, offset - start)

    def kept_after(self, offset: int, most: int) -> int:
        """Return how many bytes from ``offset`` on are in the part file without a gap, at most ``most``."""
        stop = offset
        while stop < self.grid.complete_length and stop - offset < most:
            index = self.grid.index(stop)
            if self.plan.state(index) is not ChunkState.DONE:
                chunk = self.open.get(index)
                stop += 0 if chunk is None or stop != self.grid.span(index).start else chunk.length
                break
            stop = self.grid.span(index).stop
        return min(most, stop - offset)

    def redo(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Mark checkpoints as dirty again, unless a newer one for the chunk is waiting."""
        for checkpoint in checkpoints:
            self._dirty.setdefault(checkpoint.index, checkpoint)

    def committed(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Book that the store has these checkpoints."""
        for checkpoint in checkpoints:
            self._book(checkpoint.index, checkpoint.length)

    def audited(self, checkpoint: Checkpoint, digester: Digester | None) -> None:
        """Book a former run's claim that the disk confirmed; a partial one needs the ``digester`` that read it."""
        index = checkpoint.index
        if checkpoint.length == self.grid.span(index).length:
            self.digests[index] = checkpoint.digest
            self.plan.confirm(index)
        elif digester is not None:
            self.open[index] = OpenChunk(checkpoint.length, digester)
            self.plan.reject(index, prefix=checkpoint.length)
        self._book(index, checkpoint.length)
        self.resumed += checkpoint.length

    def damaged(self, index: int) -> None:
        """Book that chunk ``index`` is not what its digest says: it is missing again."""
        self.digests.pop(index, None)
        self.open.pop(index, None)
        self._dirty.pop(index, None)
        self._held.pop(index, None)
        self.plan.reject(index)
        self._book(index, 0)

    def durable_in(self, index: int) -> int:
        """Return how many bytes of chunk ``index`` are durable."""
        return self._durable_by_chunk.get(index, 0)

    def prefixes(self) -> dict[int, int]:
        """Return the good bytes at the head of unfinished chunks, by chunk index."""
        return {index: chunk.length for index, chunk in self.open.items()}

    def _book(self, index: int, length: int) -> None:
        before = self._durable_by_chunk.get(index, 0)
        self.durable += length - before
        self._durable_by_chunk[index] = length
