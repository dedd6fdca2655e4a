"""The states of an operation and every step it may take between them. Pure; who is in which state is the journal's
business.

Law: a state changes only along ``TRANSITIONS``; a step that is not there raises and changes nothing. Saying the
same state twice is no step and always legal, because a store that comes back replays what it had not yet written.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

__all__ = ["ACTIVE", "TERMINAL", "TRANSITIONS", "IllegalTransition", "State", "transition"]


class State(StrEnum):
    """Where an operation stands."""

    QUEUED = "queued"  # eligible; nobody runs it
    RUNNING = "running"  # an owner holds the lease and makes an attempt
    WAITING = "waiting"  # an attempt failed; the next one has a time
    PARKED = "parked"  # waits for a condition (space, network, login), uses up no attempt
    PAUSED = "paused"  # a person or a shutdown stopped it; everything is kept
    VERIFYING = "verifying"  # the work is there and is being checked
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL: frozenset[State] = frozenset({State.COMPLETE, State.FAILED, State.CANCELLED})
"""Ends; only a person (or a new request) leads out of them."""

ACTIVE: frozenset[State] = frozenset({State.QUEUED, State.RUNNING, State.WAITING, State.PARKED, State.VERIFYING})
"""Goes on by itself. ``PAUSED`` is neither active nor terminal."""

_STOPS = frozenset({State.PAUSED, State.CANCELLED, State.FAILED})

TRANSITIONS: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        State.QUEUED: _STOPS | {State.RUNNING, State.WAITING, State.PARKED},
        # back to queued: the owner died, its lease ran out, or it gave its slot back
        State.RUNNING: _STOPS | {State.VERIFYING, State.WAITING, State.PARKED, State.COMPLETE, State.QUEUED},
        State.WAITING: _STOPS | {State.RUNNING, State.PARKED, State.QUEUED},
        State.PARKED: _STOPS | {State.RUNNING, State.WAITING, State.QUEUED},
        # back to running: the check found damage and the damaged part is fetched again
        State.VERIFYING: _STOPS | {State.RUNNING, State.WAITING, State.PARKED, State.COMPLETE, State.QUEUED},
        State.PAUSED: frozenset({State.QUEUED, State.CANCELLED}),
        State.COMPLETE: frozenset({State.QUEUED}),
        State.FAILED: frozenset({State.QUEUED, State.CANCELLED}),
        State.CANCELLED: frozenset({State.QUEUED}),
    }
)


class IllegalTransition(Exception):  # noqa: N818 - names what happened, like the rest of the hierarchy
    """Raised when a step is not in the table; nothing was changed."""

    def __init__(self, old: StrEnum, new: StrEnum) -> None:
        """Keep both states."""
        super().__init__(old, new)
        self.old = old
        self.new = new

    def __str__(self) -> str:
        """Return which step is missing."""
        return f"no step leads from {self.old} to {self.new}"


def transition(old: State, new: State) -> State:
    """Return ``new`` if an operation may go there from ``old``; raises IllegalTransition."""
    if new is not old and new not in TRANSITIONS[old]:
        raise IllegalTransition(old, new)
    return new
