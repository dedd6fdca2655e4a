"""Whoever wants to hear of every operation of this process, whichever function or supervisor it belongs to.

``recovery.instrumentation`` holds ready-made observers. They get ``OperationEvent``, ``HealthEvent`` and ``GateEvent``
records, in the thread in which things happen; they must be quick, and what they raise is logged and goes no further.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

from recovery.events import GateEvent, HealthEvent, OperationEvent

__all__ = ["Event", "Observer", "Observers", "observe", "observed", "tell"]

Event: TypeAlias = OperationEvent | HealthEvent | GateEvent
Observer: TypeAlias = Callable[[Event], None]

log = logging.getLogger("recovery")


class Observers:
    """The list, replaced as a whole whenever it changes: a thread that goes through it is not disturbed."""

    current: tuple[Observer, ...] = ()
    """Empty: nobody listens, and no event need be made."""


def observe(observer: Observer) -> Callable[[], None]:
    """Have ``observer`` called with every event from now on; call what is returned to end that."""
    Observers.current = (*Observers.current, observer)

    def stop() -> None:
        Observers.current = tuple(each for each in Observers.current if each is not observer)

    return stop


def observed() -> bool:
    """Return whether anybody listens, before an event is made for nobody."""
    return bool(Observers.current)


def tell(event: Event) -> None:
    """Hand an event to all observers."""
    for observer in Observers.current:
        try:
            observer(event)
        except Exception:  # an observer's code must not fail what it observes
            log.exception("observer-failed")
