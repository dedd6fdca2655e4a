"""The state table: which steps are legal, and that no other is."""

from __future__ import annotations

from itertools import product

import pytest

from recovery.states import ACTIVE, TERMINAL, TRANSITIONS, IllegalTransition, State, transition

# One line a state: where an operation may go from there. Written out a second time on purpose; a change is a decision.
LEGAL = {
    "queued": "running waiting parked paused failed cancelled",
    "running": "queued waiting parked verifying complete paused failed cancelled",
    "waiting": "queued running parked paused failed cancelled",
    "parked": "queued running waiting paused failed cancelled",
    "verifying": "queued running waiting parked complete paused failed cancelled",
    "paused": "queued cancelled",
    "complete": "queued",
    "failed": "queued cancelled",
    "cancelled": "queued",
}


@pytest.mark.parametrize(("old", "new"), list(product(State, State)), ids=str)
def test_every_pair_of_states_is_either_in_the_table_or_raises(old: State, new: State) -> None:
    """A listed step returns the new state; any other raises with both names; staying is always legal."""
    if new is old or new.value in LEGAL[old.value].split():
        assert new is transition(old, new)
    else:
        with pytest.raises(IllegalTransition, match=f"from {old.value} to {new.value}") as caught:
            transition(old, new)
        assert (old, new) == (caught.value.old, caught.value.new)


def test_every_state_has_a_row_and_a_way_out() -> None:
    """No state is missing from the table, and none is a trap."""
    assert set(State) == set(TRANSITIONS)
    assert all(TRANSITIONS.values())


def test_paused_is_neither_active_nor_terminal() -> None:
    """What goes on by itself, what has ended, and what waits for a person are three different things."""
    assert {State.PAUSED} == set(State) - ACTIVE - TERMINAL
    assert not ACTIVE & TERMINAL


@pytest.mark.parametrize("ended", sorted(TERMINAL), ids=str)
def test_a_person_can_begin_again_after_every_end(ended: State) -> None:
    """Retry after a failure or a cancellation, and asking again for what is complete, lead to queued."""
    assert State.QUEUED is transition(ended, State.QUEUED)


def test_the_table_cannot_be_changed_by_accident() -> None:
    """The table is read-only."""
    with pytest.raises(TypeError):
        TRANSITIONS[State.QUEUED] = frozenset()  # type: ignore[index]
