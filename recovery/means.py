"""What all runs of one supervisor share: time, judgement, watchers, the heartbeat, and whom to tell.

It holds and does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct

from recovery.classify import Classifier
from recovery.clock import Clock
from recovery.control import Control
from recovery.heartbeat import Heartbeat
from recovery.logbook import Entry, Logbook
from recovery.states import State
from recovery.verdict import Condition
from recovery.watchers import Watcher

__all__ = ["Means"]


class Means(Struct, frozen=True, kw_only=True):
    """What all runs of one supervisor share."""

    clock: Clock
    classifier: Classifier
    draw: Callable[[], float]
    describe: Callable[[BaseException], str]
    watchers: Mapping[Condition, Watcher]
    heartbeat: Heartbeat | None
    tell: Callable[[Control, Logbook, State | None, Entry | None], None]
    longest_wait_s: float
