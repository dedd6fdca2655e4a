"""Events as OpenTelemetry spans and metrics; needs ``opentelemetry-api`` (extra ``otel``), and an SDK to go anywhere.

A span for each operation, named by its kind, from its first event to its end; each retry is an event of it, and what
it failed of in the end is its status and an ``exception`` event. It begins in whatever span is current when the
operation begins.

====================================  ===========  ===================================================================
metric                                unit         attributes
====================================  ===========  ===================================================================
``recovery.operation.duration``       ``s``        kind, state, ``error.type`` where it failed
``recovery.operation.active``         ``{operation}``  kind
``recovery.attempts``                 ``{attempt}``  kind
``recovery.failures``                 ``{failure}``  kind, category, action, ``error.type``
``recovery.retry.delay``              ``s``        kind
``recovery.store.degraded``           ``1``        -
``recovery.gate.changes``             ``{change}``  ``server.address``, ``recovery.gate.state``
====================================  ===========  ===================================================================

``error.type`` is a verdict's code, which is a closed set; seconds are ``s``; metric names carry no unit
(opentelemetry.io/docs/specs/semconv/general/metrics and .../recording-errors).
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.metrics import MeterProvider, get_meter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider, get_tracer

from recovery.events import GateEvent, HealthEvent, OperationEvent
from recovery.instrumentation.facts import Life, Lives, exception_of, facts
from recovery.observers import Event
from recovery.states import ACTIVE, State

__all__ = ["OpenTelemetryObserver"]

_SCOPE = "recovery"
_ENDS_WELL = frozenset({State.COMPLETE, State.PAUSED, State.CANCELLED})


class OpenTelemetryObserver:
    """Makes spans and measures what it is told."""

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        """None: the global providers of the program."""
        self._tracer = get_tracer(_SCOPE, tracer_provider=tracer_provider)
        meter = get_meter(_SCOPE, meter_provider=meter_provider)
        self._duration = meter.create_histogram(
            "recovery.operation.duration", unit="s", description="From the first event to the end, waits included"
        )
        self._active = meter.create_up_down_counter(
            "recovery.operation.active", unit="{operation}", description="Operations under way in this process"
        )
        self._attempts = meter.create_counter("recovery.attempts", unit="{attempt}", description="Attempts begun")
        self._failures = meter.create_counter("recovery.failures", unit="{failure}", description="Attempts that failed")
        self._delay = meter.create_histogram(
            "recovery.retry.delay", unit="s", description="Waits decided upon before the next attempt"
        )
        self._degraded = meter.create_gauge(
            "recovery.store.degraded", unit="1", description="1 while the state file cannot be used"
        )
        self._gates = meter.create_counter(
            "recovery.gate.changes", unit="{change}", description="Changes of host gates"
        )
        self._lives = Lives()

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, OperationEvent):
            self._measure(event)
        elif isinstance(event, HealthEvent):
            self._degraded.set(int(event.health != "ok"))
        else:
            self._gate(event)

    def _gate(self, event: GateEvent) -> None:
        self._gates.add(1, {"server.address": event.host, "recovery.gate.state": event.state})

    def _measure(self, event: OperationEvent) -> None:
        known = facts(event)
        kind = {"recovery.operation.kind": event.kind}
        if self._lives.begins_attempt(event):
            self._attempts.add(1, kind)
        if event.verdict is not None:
            self._failures.add(1, _only(known, "kind", "category", "action", "type"))
        if event.delay_s is not None:
            self._delay.record(event.delay_s, kind)
        life = self._lives.of(event)
        before, lasted = self._lives.move(event)
        if before is None and event.state in ACTIVE:
            self._active.add(1, kind)
        elif before is not None and event.state not in ACTIVE:
            self._active.add(-1, kind)
        self._trace(event, known, life, ended=lasted is not None)
        if lasted is not None:
            self._duration.record(lasted, _only(known, "kind", "state", "type"))

    def _trace(self, event: OperationEvent, known: Mapping[str, str | int | float], life: Life, *, ended: bool) -> None:
        at = int(event.ts * 1e9)
        span: Span | None = life.span
        if span is None:
            about = {
                name: known[name] for name in known if name.startswith("recovery.operation.") and "state" not in name
            }
            span = self._tracer.start_span(event.kind, kind=SpanKind.INTERNAL, attributes=about, start_time=at)
            life.span = span
        if not ended:
            if event.verdict is not None:
                span.add_event("recovery.retry", dict(known), timestamp=at)
            return
        span.set_attribute("recovery.operation.state", event.state.value)
        span.set_attribute("recovery.attempt", event.attempt)
        if event.state not in _ENDS_WELL:
            self._fail(span, event, at)
        span.end(at)

    def _fail(self, span: Span, event: OperationEvent, at: int) -> None:
        kind, message = exception_of(event)
        if event.verdict is not None:
            span.set_attribute("error.type", event.verdict.code)
        span.set_status(Status(StatusCode.ERROR, event.error or ""))
        span.add_event("exception", {"exception.type": kind, "exception.message": message}, timestamp=at)


def _only(known: Mapping[str, str | int | float], *ends: str) -> dict[str, str | int | float]:
    """Return the facts that are a closed set: metrics with others would grow without bound."""
    bounded = (
        "recovery.operation.kind",
        "recovery.operation.state",
        "recovery.error.category",
        "recovery.error.action",
    )
    names = [name for name in (*bounded, "error.type") if name.rpartition(".")[2] in ends]
    return {name: known[name] for name in names if name in known}
