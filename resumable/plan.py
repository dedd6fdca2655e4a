"""What is missing and who fetches what next: the chunk grid, extents of guided size, stealing from the slowest. Pure.

Chunks are the unit of digest, checkpoint, audit and refetch; an extent is a run of neighbouring missing chunks that one
request asks for. Extents shrink as the end comes near (guided self-scheduling), so that connections finish together
without cutting responses short; stealing is for the connection that turned out to be slow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from typing import Final

from msgspec import Struct

from resumable.ranges import Span

MIB: Final = 1 << 20
MIN_CHUNK: Final = 1 * MIB
MAX_CHUNK: Final = 16 * MIB
MAX_CHUNKS: Final = 8192
MIN_EXTENT: Final = 4 * MIB
MAX_EXTENT: Final = 256 * MIB
FIRST_EXTENT: Final = 1 * MIB
"""The first request asks for this much when more connections may follow; its answer tells size, ranges, validator
and name.
"""


def chunk_size_for(complete_length: int | None) -> int:
    """Return the chunk size in bytes: 1 MiB, doubled until at most 8,192 chunks are needed, 16 MiB at most."""
    if complete_length is None:
        return 4 * MIN_CHUNK
    size = MIN_CHUNK
    while size < MAX_CHUNK and complete_length > size * MAX_CHUNKS:
        size *= 2
    return size


class ChunkGrid(Struct, frozen=True):
    """The fixed, aligned division of a representation into chunks; the last one may be shorter."""

    complete_length: int
    chunk_size: int

    @property
    def count(self) -> int:
        """Number of chunks; 0 for an empty representation."""
        return -(-self.complete_length // self.chunk_size)

    def span(self, index: int) -> Span:
        """Return the bytes of chunk ``index``; raises IndexError outside the grid."""
        if not 0 <= index < self.count:
            msg = f"no chunk {index} in a grid of {self.count}"
            raise IndexError(msg)
        start = index * self.chunk_size
        return Span(start, min(start + self.chunk_size, self.complete_length))

    def index(self, offset: int) -> int:
        """Return the index of the chunk that holds the byte at ``offset``."""
        return offset // self.chunk_size


class Extent(Struct, eq=False):
    """Bytes ``[cursor, stop)`` that one request is to fetch; ``cursor`` moves as they arrive, ``stop`` falls when
    they are stolen.
    """

    cursor: int
    stop: int
    started_at: float = 0.0
    began: int = -1

    def __post_init__(self) -> None:
        """Remember where it began, for the rate."""
        if self.began < 0:
            self.began = self.cursor

    @property
    def remaining(self) -> int:
        """Bytes still to come."""
        return self.stop - self.cursor

    def rate(self, now: float) -> float:
        """Return bytes per second since it started; 0.0 before any time has passed."""
        elapsed = now - self.started_at
        return (self.cursor - self.began) / elapsed if elapsed > 0 else 0.0


class ChunkState(IntEnum):
    """What is known of a chunk."""

    MISSING = 0
    TAKEN = 1  # inside an extent that is being fetched
    CLAIMED = 2  # a former run says it is there; the audit has not reached it
    DONE = 3


class Plan:
    """Which chunks are missing, taken, claimed and done. ``prefix`` holds the good bytes at the head of unfinished
    chunks.
    """

    def __init__(self, grid: ChunkGrid, *, claimed: Iterable[int] = ()) -> None:
        """Begin with every chunk missing except those a former run claims."""
        self.grid = grid
        self.prefix: dict[int, int] = {}
        self._states = bytearray(grid.count)
        self._counts = [grid.count, 0, 0, 0]
        self._active: list[Extent] = []
        self._hint = 0
        self._frontier = 0
        for index in claimed:
            self._set(index, ChunkState.CLAIMED)

    def __repr__(self) -> str:
        """Show the counts, as tests and logs read them."""
        missing, taken, claimed, done = self._counts
        return f"<Plan missing={missing} taken={taken} claimed={claimed} done={done}>"

    @property
    def complete(self) -> bool:
        """Whether every chunk is done."""
        return self._counts[ChunkState.DONE] == self.grid.count

    @property
    def missing(self) -> int:
        """Number of chunks nobody is fetching."""
        return self._counts[ChunkState.MISSING]

    @property
    def claimed(self) -> int:
        """Number of chunks the audit has not judged yet."""
        return self._counts[ChunkState.CLAIMED]

    @property
    def active(self) -> tuple[Extent, ...]:
        """The extents being fetched."""
        return tuple(self._active)

    def state(self, index: int) -> ChunkState:
        """Return what is known of chunk ``index``."""
        return ChunkState(self._states[index])

    def done_prefix(self) -> int:
        """Return how many bytes from offset 0 are done without a gap."""
        frontier, count = self._frontier, self.grid.count
        while frontier < count and self._states[frontier] == ChunkState.DONE:
            frontier += 1
        self._frontier = frontier
        return min(frontier * self.grid.chunk_size, self.grid.complete_length)

    def last_done(self) -> int:
        """Return the index of the last chunk that is done; -1 where none is."""
        return self._states.rfind(ChunkState.DONE)

    def spread(self, most: int) -> list[int]:
        """Return the indexes of at most ``most`` chunks that are done, from all over the file."""
        done = [index for index, state in enumerate(self._states) if state == ChunkState.DONE]
        count = min(most, len(done))
        return [done[(2 * n + 1) * len(done) // (2 * count)] for n in range(count)]

    def missing_spans(self) -> Iterator[Span]:
        """Yield the spans of missing bytes, neighbours joined, prefixes left out."""
        for first, stop in self._runs(0):
            start = self.grid.span(first).start + self.prefix.get(first, 0)
            yield Span(start, self.grid.span(stop - 1).stop)

    def claim(self, index: int) -> None:
        """Mark chunk ``index``, which nobody is fetching, as waiting for the audit."""
        self.prefix.pop(index, None)
        self._set(index, ChunkState.CLAIMED)

    def confirm(self, index: int) -> None:
        """Mark chunk ``index`` as done: it was audited, or written and hashed."""
        self.prefix.pop(index, None)
        self._set(index, ChunkState.DONE)

    def reject(self, index: int, *, prefix: int = 0) -> None:
        """Mark chunk ``index`` as missing but for its first ``prefix`` bytes."""
        if prefix:
            self.prefix[index] = prefix
        else:
            self.prefix.pop(index, None)
        self._set(index, ChunkState.MISSING)
        self._hint = min(self._hint, index)
        self._frontier = min(self._frontier, index)

    def take(self, *, connections: int, limit: int | None = None) -> Extent | None:
        """Take the next extent for one of ``connections``; None where nothing is missing. ``limit`` caps its bytes."""
        run = next(self._runs(self._hint), None) or next(self._runs(0), None)
        if run is None:
            return None
        first, stop = run
        size = self.grid.chunk_size
        most = (stop - first) * size
        if connections > 1:
            missing_bytes = self._counts[ChunkState.MISSING] * size
            most = min(max(MIN_EXTENT, size, missing_bytes // (2 * connections)), MAX_EXTENT)
        if limit is not None:
            most = min(most, limit)
        if first * size + most < self.grid.complete_length:  # else the last chunk, be it short, belongs to it
            stop = min(stop, first + max(1, most // size))
        for index in range(first, stop):
            self._set(index, ChunkState.TAKEN)
        self._hint = stop
        extent = Extent(self.grid.span(first).start + self.prefix.get(first, 0), self.grid.span(stop - 1).stop)
        self._active.append(extent)
        return extent

    def take_all(self) -> Extent:
        """Take the whole representation for one sequential pass; chunks that are done stay done."""
        for index in range(self.grid.count):
            if self._states[index] == ChunkState.MISSING:
                self._set(index, ChunkState.TAKEN)
        self.prefix.clear()
        extent = Extent(0, self.grid.complete_length)
        self._active.append(extent)
        return extent

    def steal(self, *, now: float, patience_s: float = 2.0) -> Extent | None:
        """Take the later half of the active extent that needs longest, if it needs more than ``patience_s`` seconds.

        The owner sees its ``stop`` fall and ends its response there. One that began less than that ago is not judged:
        bytes on their way to it would be fetched twice.
        """
        known = [extent for extent in self._active if now - extent.started_at >= patience_s]
        victim = max(known, key=lambda extent: extent.remaining / max(extent.rate(now), 1.0), default=None)
        if victim is None:
            return None
        size = self.grid.chunk_size
        middle = -(-(victim.cursor + victim.remaining // 2) // size) * size
        if middle >= victim.stop or middle - victim.cursor < size // 2:
            return None
        if victim.remaining <= victim.rate(now) * patience_s:
            return None
        thief = Extent(middle, victim.stop)
        victim.stop = middle
        self._active.append(thief)
        return thief

    def release(self, extent: Extent, prefixes: Mapping[int, int]) -> None:
        """End an extent: what it did not finish is missing again, less the good ``prefixes`` (bytes by chunk index)."""
        self._active.remove(extent)
        if extent.stop <= extent.began:
            return
        first, last = self.grid.index(extent.began), self.grid.index(extent.stop - 1)
        for index in range(first, last + 1):
            if self._states[index] == ChunkState.TAKEN:
                self.reject(index, prefix=prefixes.get(index, 0))

    def _set(self, index: int, state: ChunkState) -> None:
        self._counts[self._states[index]] -= 1
        self._counts[state] += 1
        self._states[index] = state

    def _runs(self, start: int) -> Iterator[tuple[int, int]]:
        """Yield ``(first, stop)`` of missing runs from chunk ``start`` on; a chunk with a prefix begins a run, so
        that its prefix is not asked for again.
        """
        states, count = self._states, self.grid.count
        index = states.find(ChunkState.MISSING, start)
        while index >= 0:
            stop = index + 1
            while stop < count and states[stop] == ChunkState.MISSING and stop not in self.prefix:
                stop += 1
            yield index, stop
            index = states.find(ChunkState.MISSING, stop)
