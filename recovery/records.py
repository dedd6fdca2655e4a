"""What the journal keeps, as frozen records. Pure; the tables and their columns are in ``schema.sql``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct, field

from recovery.history import History
from recovery.policy import RetryPolicy
from recovery.states import State
from recovery.verdict import Category, Condition, UserAction, Verdict

__all__ = [
    "AttemptRecord",
    "Change",
    "Command",
    "JournalStatistics",
    "JsonValue",
    "Operation",
    "OperationSpec",
]

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"


class OperationSpec(Struct, frozen=True, kw_only=True):
    """What is to be done, as its owner asks for it. Nothing in it may be secret: it is stored and shown."""

    kind: str
    key: str
    """What makes it the same operation when it is asked for again, such as the destination path. Never the id of a
    Celery task: that changes with every delivery (secator#1296).
    """
    operation_id: str | None = None
    """A name of the caller's choice, the same for the same kind and key; None makes one up."""
    project: str = ""
    title: str = ""
    """For people."""
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    args: Mapping[str, JsonValue] = field(default_factory=dict)
    """For whoever continues it in another process."""
    again: int | None = None
    """Generation of the stopped row (ended or paused) that is to be taken up again. One that has stopped since, because
    somebody else ran it to its end or stopped it by hand, stays as it is and cannot be claimed. None: take up any; a
    number that is no generation, such as -1: none.
    """
    by_hand: bool = False
    """A person asks, and not a program that starts what was unfinished: its dead owners are forgotten."""
    recount: bool = False
    """What former runs did is given up, and their attempts are forgotten with it: the next one is number 1."""
    progress_done: int | None = None
    """Durable units that the caller knows of, such as bytes its own checkpoints vouch for; None where it does not know.
    An owner that died may have had no time to tell the journal, and a death with progress is not a crash loop.
    """


class Operation(Struct, frozen=True, kw_only=True):
    """A row of the journal. Times are seconds since the epoch."""

    operation_id: str
    kind: str
    key: str
    project: str = ""
    title: str = ""
    state: State = State.QUEUED
    history: History = field(default_factory=History)
    max_attempts: int = 0
    max_no_progress: int = 0
    category: Category | None = None
    """Of the failure that led to this state, like the next five."""
    code: str | None = None
    message: str | None = None
    condition: Condition | None = None
    """What a parked operation waits for."""
    user_actions: tuple[UserAction, ...] = ()
    error: str | None = None
    """Technical one-liner, redacted."""
    next_at: float | None = None
    """When the next attempt is due; stays while that attempt begins, so that its owner can still wait for it."""
    deadline_at: float | None = None
    owner: str | None = None
    """Who holds the lease, or held it until it ran out: one name for each incarnation of a process."""
    lease_until: float | None = None
    generation: int = 0
    """Fencing token: grows with every claim; a write that carries an older one is refused."""
    progress_done: int = 0
    progress_total: int | None = None
    deaths: int = 0
    """Owners lost in a row without durable progress in between."""
    progress_at_death: int = 0
    rev: int = 0
    """Grows with every change of any operation in the file, so that whoever has seen ``rev`` can ask for what is
    newer.
    """
    created_at: float = 0.0
    updated_at: float = 0.0
    args: Mapping[str, JsonValue] = field(default_factory=dict)

    def leased(self, now: float) -> bool:
        """Return whether somebody holds the lease."""
        return self.owner is not None and self.lease_until is not None and self.lease_until > now


class AttemptRecord(Struct, frozen=True, kw_only=True):
    """One attempt. Times are seconds since the epoch, progress is in the operation's durable units."""

    number: int
    started_at: float
    ended_at: float | None = None
    progress_from: int = 0
    progress_to: int = 0
    outcome: str = ""
    category: Category | None = None
    error: str | None = None
    delay_s: float | None = None
    """How long the next attempt was put off, seconds."""


class Change(Struct, frozen=True, kw_only=True):
    """What an owner has to say about its operation. What is not said about the failure is no longer so.

    ``next_at`` and ``now`` are seconds since the epoch, ``progress`` durable units done and in total.
    """

    state: State
    now: float
    history: History | None = None
    """None keeps the row's."""
    verdict: Verdict | None = None
    error: str | None = None
    next_at: float | None = None
    attempt: AttemptRecord | None = None
    """Written beside the row, in the same transaction."""
    progress: tuple[int, int | None] | None = None
    """None keeps the row's."""
    keep_lease: bool = True
    """False gives the lease back; ended, paused and queued operations never keep it."""


class Command(Struct, frozen=True, kw_only=True):
    """A wish posted for whoever runs an operation."""

    request_id: str
    """The same request twice is one wish."""
    operation_id: str
    name: str
    args: Mapping[str, JsonValue] = field(default_factory=dict)
    posted_at: float = 0.0


class JournalStatistics(Struct, frozen=True, kw_only=True):
    """The journal in numbers."""

    operations: int
    by_state: Mapping[State, int]
    by_category: Mapping[Category, int]
    """Failed attempts, by what went wrong."""
    attempts: int
    """Attempts in total."""
    retried: int
    """Operations that needed more than one attempt."""
    recovered: int
    """Of those, complete by now."""
    success_rate: float | None
    """Complete of all that ended by themselves (complete or failed); None while none has."""
    damaged: int
    """Rows of operations, of any project, whose CRC does not match: they count as absent until they are pruned."""
    deaths: int
    """Owners lost since the last progress of their operations."""
    next_due_at: float | None
    """When the next waiting or parked operation is due, seconds since the epoch."""
