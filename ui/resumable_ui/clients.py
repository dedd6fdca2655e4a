"""Who is connected: role, rooms, what it can read, and what it may be sent while its queue is long. Pure.

Backpressure (research/ui.md section 8): a client that reads too slowly misses progress and is given a snapshot once it
has caught up; changes of state are never skipped; one whose queue stays too long is disconnected and resyncs by itself.
What we put there in one turn of the loop says nothing of its reader, so that is judged by successive looks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Final

SKIP_ABOVE: Final = 64
"""Queued packets above which a client misses progress ..."""
SKIP_ABOVE_BYTES: Final = 256 << 10
"""... or queued bytes: a packet for 200 downloads has 200 KB."""
CAUGHT_UP_BELOW: Final = 8
DROP_ABOVE: Final = 1024
"""Queued packets above which a client is disconnected, once it has been found so ``DROP_AT_LOOK`` times running ..."""
DROP_ABOVE_BYTES: Final = 8 << 20
"""... or queued bytes."""
DROP_AT_LOOK: Final = 3
"""Looks are a tick apart: whoever reads has had two ticks to do so."""
DROP_AT_ONCE_BYTES: Final = 4 * DROP_ABOVE_BYTES
"""Queued bytes above which no further look is waited for."""
MOST_HELD: Final = 64
"""Questions of one client that wait until its queue has room for the answer."""
MOST_ROOMS: Final = 256

_ROOM: Final = re.compile(r"all|recovery|(?:project|download):[^\x00-\x1f]{0,200}")


class Role(StrEnum):
    """What a client may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"


class Turn(Enum):
    """What to do with a packet for a client."""

    SEND = "send"
    SKIP = "skip"
    SNAPSHOT = "snapshot"
    """Send, but first everything it may have missed."""
    DROP = "drop"


def overrun(packets: int, size: int) -> bool:
    """Return whether a queue of so many packets and bytes is too long to last."""
    return packets > DROP_ABOVE or size > DROP_ABOVE_BYTES


@dataclass(slots=True)
class Flow:
    """Whether one client keeps up."""

    skipping: bool = False
    overruns: int = 0
    """Successive looks that found its queue too long."""

    def look(self, packets: int, size: int) -> bool:
        """Return whether it reads, given what is queued now; call it once a tick."""
        self.overruns = self.overruns + 1 if overrun(packets, size) else 0
        return self.overruns < DROP_AT_LOOK

    def turn(self, packets: int, size: int, *, lossy: bool) -> Turn:
        """Decide about one more packet, given the packets and bytes queued already."""
        if size > DROP_AT_ONCE_BYTES:
            return Turn.DROP
        if self.skipping:
            if packets < CAUGHT_UP_BELOW and size <= SKIP_ABOVE_BYTES:
                self.skipping = False
                return Turn.SNAPSHOT
            return Turn.SKIP if lossy else Turn.SEND
        if lossy and (packets > SKIP_ABOVE or size > SKIP_ABOVE_BYTES):
            self.skipping = True
            return Turn.SKIP
        return Turn.SEND


@dataclass(slots=True)
class Bucket:
    """A token bucket: ``burst`` at once, ``rate`` a second over time."""

    burst: float
    rate: float
    _level: float = -1.0
    _at: float = 0.0

    def take(self, now: float) -> bool:
        """Return whether one more is allowed at ``now`` (monotonic seconds)."""
        level = self.burst if self._level < 0 else min(self.burst, self._level + (now - self._at) * self.rate)
        self._at = now
        self._level = level - 1 if level >= 1 else level
        return level >= 1


@dataclass(slots=True, eq=False)
class Client:
    """One connection."""

    sid: str
    role: Role = Role.OPERATOR
    batch: bool = False
    """Takes ``progress_batch`` in place of ``progress_update``."""
    legacy: bool = False
    """Gave no protocol version: a front end of the source application."""
    rooms: set[str] = field(default_factory=set)
    flow: Flow = field(default_factory=Flow)
    actions: Bucket = field(default_factory=lambda: Bucket(burst=60, rate=10))
    snapshots: Bucket = field(default_factory=lambda: Bucket(burst=20, rate=2))
    looks: Bucket = field(default_factory=lambda: Bucket(burst=MOST_ROOMS, rate=10))
    owed: dict[str, None] = field(default_factory=dict)
    """Downloads whose state it is still to be sent, first ones first."""

    held: int = 0
    """Questions that wait for it to read."""

    def join(self, rooms: Iterable[str]) -> bool:
        """Enter rooms; return whether that was not too many."""
        joined = self.rooms.union(rooms)
        if len(joined) > MOST_ROOMS:
            return False
        self.rooms = joined
        return True

    def sees(self, download_id: str, project_id: str) -> bool:
        """Return whether news of a download concern it."""
        rooms = self.rooms
        return "all" in rooms or f"project:{project_id}" in rooms or f"download:{download_id}" in rooms

    def sees_recovery(self, operation_id: str, project_id: str) -> bool:
        """Return whether news of an operation concern it."""
        return "recovery" in self.rooms or self.sees(operation_id, project_id)


def checked_rooms(rooms: object) -> set[str] | None:
    """Return the rooms a client names, None where it does not name rooms."""
    if not isinstance(rooms, Iterable) or isinstance(rooms, (str, bytes)):
        return None
    names = list(rooms)[: MOST_ROOMS + 1]
    if len(names) > MOST_ROOMS or not all(isinstance(name, str) and _ROOM.fullmatch(name) for name in names):
        return None
    return set(names)
