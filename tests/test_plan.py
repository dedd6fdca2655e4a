"""The chunk grid, guided extents, stealing: every byte is asked for, none twice."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumable.plan import MAX_CHUNK, MAX_CHUNKS, MIB, MIN_CHUNK, ChunkGrid, ChunkState, Extent, Plan, chunk_size_for
from resumable.ranges import Span


@pytest.mark.parametrize(
    ("length", "size"),
    [
        (None, 4 * MIB),
        (0, MIB),
        (1, MIB),
        (8192 * MIB, MIB),
        (8192 * MIB + 1, 2 * MIB),
        (40 * 10**9, 8 * MIB),
        (1 << 50, MAX_CHUNK),
    ],
)
def test_chunk_size_doubles_until_the_file_has_few_enough_chunks(length: int | None, size: int) -> None:
    """1 MiB for small files, at most 8,192 chunks while the 16 MiB cap allows it."""
    assert size == chunk_size_for(length)


@given(st.integers(0, 1 << 45))
def test_chunk_size_is_within_its_bounds(length: int) -> None:
    """The size is a power of two between the bounds and never larger than needed."""
    size = chunk_size_for(length)
    assert MIN_CHUNK <= size <= MAX_CHUNK
    assert size & (size - 1) == 0
    assert size == MAX_CHUNK or -(-length // size) <= MAX_CHUNKS


def test_the_last_chunk_is_what_is_left() -> None:
    """A grid tiles the representation; there is no chunk outside it."""
    grid = ChunkGrid(10, 4)
    assert [Span(0, 4), Span(4, 8), Span(8, 10)] == [grid.span(i) for i in range(grid.count)]
    with pytest.raises(IndexError):
        grid.span(3)


def test_an_empty_representation_is_complete_from_the_start() -> None:
    """Zero bytes need zero chunks."""
    plan = Plan(ChunkGrid(0, MIB))
    assert plan.complete
    assert plan.take(connections=4) is None
    assert plan.done_prefix() == 0


def test_extents_shrink_towards_the_end_and_cover_everything() -> None:
    """Guided sizes: large first, at least 4 MiB, together the whole file without overlap."""
    plan = Plan(ChunkGrid(256 * MIB, MIB))
    sizes, cursor = [], 0
    while (extent := plan.take(connections=4)) is not None:
        assert cursor == extent.cursor
        cursor = extent.stop
        sizes.append(extent.remaining)
    assert cursor == 256 * MIB
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 32 * MIB
    assert min(sizes[:-1]) == 4 * MIB


def test_one_connection_takes_the_whole_run() -> None:
    """A single stream has no reason to come back for more."""
    plan = Plan(ChunkGrid(100 * MIB, MIB))
    extent = plan.take(connections=1)
    assert extent is not None
    assert extent.remaining == 100 * MIB


def test_a_kept_prefix_begins_a_request_and_is_not_asked_for_again() -> None:
    """A chunk with good bytes at its head splits the run before it, and the request begins behind those bytes."""
    plan = Plan(ChunkGrid(8 * MIB, MIB))
    plan.reject(3, prefix=1000)
    first, second = plan.take(connections=1), plan.take(connections=1)
    assert first is not None
    assert second is not None
    assert (first.cursor, first.stop) == (0, 3 * MIB)
    assert (second.cursor, second.stop) == (3 * MIB + 1000, 8 * MIB)


def test_what_an_extent_did_not_finish_is_missing_again() -> None:
    """Done chunks stay done, the broken one keeps its prefix, the rest is missing."""
    plan = Plan(ChunkGrid(4 * MIB, MIB))
    extent = plan.take(connections=1)
    assert extent is not None
    plan.confirm(0)
    plan.release(extent, {1: 77})
    assert [plan.state(i) for i in range(4)] == [
        ChunkState.DONE,
        ChunkState.MISSING,
        ChunkState.MISSING,
        ChunkState.MISSING,
    ]
    assert [Span(MIB + 77, 4 * MIB)] == list(plan.missing_spans())
    again = plan.take(connections=1)
    assert again is not None
    assert again.cursor == MIB + 77


def test_claims_are_neither_fetched_nor_counted_until_judged() -> None:
    """What a former run claims waits for the audit; what it denies is fetched."""
    plan = Plan(ChunkGrid(3 * MIB, MIB), claimed=[0, 1])
    assert repr(plan) == "<Plan missing=1 taken=0 claimed=2 done=0>"
    plan.confirm(0)
    plan.reject(1)
    assert repr(plan) == "<Plan missing=2 taken=0 claimed=0 done=1>"
    assert plan.done_prefix() == MIB


def test_the_prefix_falls_back_when_an_early_chunk_is_found_damaged() -> None:
    """done_prefix is what may be hashed in order, so damage takes it back."""
    plan = Plan(ChunkGrid(3 * MIB, MIB))
    for index in range(3):
        plan.confirm(index)
    assert plan.done_prefix() == 3 * MIB
    plan.reject(1)
    assert plan.done_prefix() == MIB
    assert not plan.complete


def test_stealing_takes_the_later_half_of_the_slowest() -> None:
    """The connection that needs longest gives up the later half, on a chunk boundary; both halves are fetched once."""
    plan = Plan(ChunkGrid(64 * MIB, MIB))
    fast, slow = plan.take(connections=2, limit=32 * MIB), plan.take(connections=2, limit=32 * MIB)
    assert fast is not None
    assert slow is not None
    fast.cursor = fast.stop - MIB
    slow.cursor += 2 * MIB
    stop = slow.stop
    thief = plan.steal(now=10.0)
    assert thief is not None
    assert (slow.stop, stop) == (thief.cursor, thief.stop)
    assert thief.cursor % MIB == 0
    assert slow.cursor < slow.stop


def test_nothing_is_stolen_that_will_soon_be_there() -> None:
    """Less than the patience, or less than a chunk, is left alone."""
    plan = Plan(ChunkGrid(8 * MIB, MIB))
    extent = plan.take(connections=2, limit=8 * MIB)
    assert extent is not None
    extent.cursor = 2 * MIB
    assert plan.steal(now=1.0) is None
    assert plan.steal(now=1000.0) is not None
    extent.cursor = extent.stop - 10
    assert plan.steal(now=1000.0, patience_s=1e9) is None


def test_a_sequential_pass_covers_all_and_keeps_what_is_done() -> None:
    """One extent over the whole file; chunks already done stay so."""
    plan = Plan(ChunkGrid(3 * MIB, MIB))
    plan.confirm(1)
    extent = plan.take_all()
    assert (extent.cursor, extent.stop) == (0, 3 * MIB)
    assert repr(plan) == "<Plan missing=0 taken=2 claimed=0 done=1>"


@given(st.integers(1, 40), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 10**6)), max_size=60))
def test_whatever_breaks_every_byte_is_fetched_and_none_is_lost(chunks: int, script: list[tuple[int, int]]) -> None:
    """Extents are taken, broken at any byte, stolen and finished in any order: done and missing always tile the
    file.
    """
    size = 1 << 12
    grid = ChunkGrid(chunks * size - 17 if chunks > 1 else 5, size)
    plan = Plan(grid)
    written: dict[int, int] = {}
    active: list[Extent] = []

    def receive(extent: Extent, count: int) -> None:
        stop = min(extent.stop, extent.cursor + count)
        while extent.cursor < stop:
            index = grid.index(extent.cursor)
            span = grid.span(index)
            assert written.get(index, 0) == extent.cursor - span.start
            upto = min(span.stop, stop)
            written[index] = upto - span.start
            extent.cursor = upto
            if upto == span.stop:
                plan.confirm(index)

    def end(extent: Extent) -> None:
        active.remove(extent)
        plan.release(extent, {i: n for i, n in written.items() if n < grid.span(i).length})

    for action, count in script:
        if action <= 1 and (extent := plan.take(connections=action + 1, limit=3 * size)) is not None:
            active.append(extent)
        elif action == 2 and active:
            receive(active[count % len(active)], count % (3 * size))
        elif action == 3 and active:
            end(active[count % len(active)])
        elif action == 4 and (thief := plan.steal(now=100.0, patience_s=0.0)) is not None:
            active.append(thief)
    while True:
        while active:
            receive(active[0], active[0].remaining)
            end(active[0])
        taken = plan.take(connections=2)
        if taken is None:
            break
        active.append(taken)
    assert plan.complete
    assert all(written[i] == grid.span(i).length for i in range(grid.count))


@pytest.mark.parametrize(
    ("done", "most", "expected"),
    [([], 3, []), ([4], 3, [4]), ([1, 5, 9], 3, [1, 5, 9]), (range(10), 2, [2, 7]), (range(10), 1, [5])],
)
def test_some_of_what_is_done_from_all_over_the_file(done: Sequence[int], most: int, expected: list[int]) -> None:
    """No chunk twice, and as many as there are."""
    plan = Plan(ChunkGrid(1000, 100))
    for index in done:
        plan.confirm(index)
    assert plan.spread(most) == expected
