"""The words in which a failure is judged: category, action, and what a person is told and may do. Pure; judging is
``classify.py``.

One verdict serves machine and human: ``action`` is what recovery does, ``message`` what a person reads,
``user_actions`` the buttons beside it, ``code`` what a program may compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from msgspec import Struct

__all__ = ["Action", "Category", "Condition", "Rule", "UserAction", "Verdict"]


class Category(StrEnum):
    """What went wrong; a closed set, one row of the error taxonomy each."""

    CONTROL = "control"  # cancellation and its kin: not a failure at all
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    INTERRUPTED = "interrupted"  # the body ended early
    DNS = "dns"
    OFFLINE = "offline"  # no host can be reached, so it is this computer's network
    TLS_TRANSIENT = "tls-transient"
    TLS_PERMANENT = "tls-permanent"
    PROXY = "proxy"
    BAD_REQUEST = "bad-request"
    AUTH = "auth"
    PAYMENT = "payment"
    NOT_FOUND = "not-found"
    GONE = "gone"
    CONFLICT = "conflict"
    LOCKED = "locked"
    THROTTLED = "throttled"
    SERVER = "server"
    SERVER_STORAGE = "server-storage"
    CHANGED = "changed"  # another representation than the one the kept bytes belong to
    RANGES = "ranges"
    PROTOCOL = "protocol"
    CAPTIVE_PORTAL = "captive-portal"
    NEEDS_LINK = "needs-link"
    DISK_FULL = "disk-full"
    FILE_TOO_LARGE = "file-too-large"
    PERMISSION = "permission"
    TRANSIENT_FILE = "transient-file"
    DESCRIPTORS = "descriptors"
    DEVICE = "device"
    MEMORY = "memory"
    DIGEST = "digest"  # one chunk is damaged
    FINAL_DIGEST = "final-digest"  # all chunks are sound, the whole is not what was promised
    VALIDATION = "validation"
    REMOTE_DATA = "remote-data"
    GATE = "gate"
    LOST_RACE = "lost-race"
    STORE_BUSY = "store-busy"
    STORE_FAILED = "store-failed"
    STORE_CORRUPT = "store-corrupt"
    DEADLINE = "deadline"
    UNKNOWN = "unknown"


class Action(StrEnum):
    """What recovery does about it."""

    RETRY = "retry"  # again after a backoff; uses up an attempt
    RETRY_FRESH = "retry_fresh"  # again on a new connection, the first time at once
    AFTER = "after"  # again when the server says; uses up the deadline, no attempt
    PARK = "park"  # again when a condition holds; uses up nothing
    RESYNC = "resync"  # again, fetching the damaged part anew
    RESTART = "restart"  # again from nothing, once
    REFRESH = "refresh"  # again with a new link, token or mirror, once
    ASK = "ask"  # a person has to act
    FAIL = "fail"
    PROPAGATE = "propagate"  # not ours: re-raise, change nothing
    DEGRADE = "degrade"  # the store only: go on without it


class UserAction(StrEnum):
    """A button that helps."""

    RETRY_NOW = "retry_now"
    RESUME = "resume"
    PAUSE = "pause"
    CANCEL = "cancel"
    NEW_LINK = "new_link"
    FREE_SPACE = "free_space"
    CHOOSE_FOLDER = "choose_folder"
    LOG_IN = "log_in"


class Condition(StrEnum):
    """What a parked operation waits for."""

    DISK_SPACE = "disk_space"
    NETWORK = "network"
    DESCRIPTORS = "descriptors"
    LOGIN = "login"


class Verdict(Struct, frozen=True, kw_only=True):
    """A failure, judged. Raises ValueError for a combination that says nothing."""

    category: Category
    action: Action
    code: str
    """Stable kebab-case name; programs compare this, never ``message``."""
    message: str
    """Plain language without secrets: what happened, who is to blame (the server, this computer, the data), what to
    do.
    """
    retry_after_s: float | None = None
    """Seconds the server (or the gate) asked to wait; finite, not negative."""
    limit: int | None = None
    """Most retries of this category without progress; overrides the policy's number."""
    condition: Condition | None = None
    """What PARK waits for; only with PARK, and always there."""
    user_actions: tuple[UserAction, ...] = ()
    spared: bool = False
    """Whether the attempt does not count against the policy's total: it did not fail, it had nothing to do yet."""

    def __post_init__(self) -> None:
        """Refuse what cannot be acted upon."""
        if (self.action is Action.PARK) != (self.condition is not None):
            raise ValueError("PARK needs a condition to wait for, and nothing else has one")
        if self.limit is not None and self.limit < 0:
            raise ValueError("limit must not be negative")
        if self.retry_after_s is not None and not 0.0 <= self.retry_after_s < math.inf:
            raise ValueError("retry_after_s must be finite and not negative")

    def to_wire(self) -> dict[str, Any]:
        """Return a JSON-safe dict with exactly these fields."""
        return {
            "category": self.category.value,
            "action": self.action.value,
            "code": self.code,
            "message": self.message,
            "retry_after_s": self.retry_after_s,
            "limit": self.limit,
            "condition": None if self.condition is None else self.condition.value,
            "user_actions": [action.value for action in self.user_actions],
            "spared": self.spared,
        }


Rule = Callable[[BaseException], Verdict | None]
"""A user's opinion about an exception; None has none."""
