"""Events as structured log records: a short stable message, and the facts as attributes of the record.

``LogObserver`` writes to the logger ``recovery.operations``. Whatever formatter a program has finds the facts on the
record, under the names of ``facts``; ``JsonFormatter`` is one for programs that have none: one JSON object a line.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from types import MappingProxyType

from recovery.events import HealthEvent, OperationEvent
from recovery.instrumentation.facts import facts
from recovery.observers import Event
from recovery.states import State

__all__ = ["JsonFormatter", "LogObserver"]

_LEVELS = MappingProxyType(
    {
        State.WAITING: logging.WARNING,
        State.PARKED: logging.WARNING,
        State.FAILED: logging.ERROR,
    }
)
_NAMESPACES = ("recovery.", "error.", "exception.", "server.")


class LogObserver:
    """Logs what happens: INFO in general, WARNING for what waits and for a store that fails, ERROR for what failed."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        """``logger`` None: ``recovery.operations``."""
        self._log = logger or logging.getLogger("recovery.operations")

    def __call__(self, event: Event) -> None:
        """Log an event."""
        if isinstance(event, OperationEvent):
            level = _LEVELS.get(event.state, logging.INFO)
            self._log.log(level, "operation-%s", event.state.value, extra=dict(facts(event)))
        elif isinstance(event, HealthEvent):
            level = logging.INFO if event.health == "ok" else logging.WARNING
            self._log.log(
                level, "store-%s", event.health, extra={"recovery.store.health": event.health, "reason": event.reason}
            )
        else:
            known = {
                "server.address": event.host,
                "recovery.gate.state": event.state,
                "recovery.gate.failures": event.failures,
                "recovery.gate.until": event.until,
            }
            self._log.info("gate-%s", event.state, extra=known)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``timestamp`` (ISO 8601, UTC), ``level``, ``logger``, ``event``, and the facts."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name.startswith(_NAMESPACES)}
        if "reason" in vars(record):
            line["reason"] = vars(record)["reason"]
        if record.exc_info:
            line["exception.stacktrace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)
