"""Events as Prometheus metrics; needs ``prometheus-client`` (extra ``metrics``).

=====================================  ========================  ====================================================
metric                                 labels                    meaning
=====================================  ========================  ====================================================
``recovery_operations_total``          kind, outcome             operations that ended, or were put down
``recovery_operation_duration_seconds``  kind, outcome           from the first event to the end, waits included
``recovery_operations_active``         kind, state               under way in this process now
``recovery_attempts_total``            kind                      attempts begun
``recovery_failures_total``            kind, category, action    attempts that failed, by what went wrong
``recovery_retry_delay_seconds``       kind                      waits decided upon before the next attempt
``recovery_store_degraded``            -                         1 while the state file cannot be used
``recovery_gate_changes_total``        state                     host gates that opened, tried, closed again
=====================================  ========================  ====================================================

Names: one application prefix, base units, ``_total`` for counters, no label without a bound
(prometheus.io/docs/practices/naming); so neither keys, ids nor hosts are labels.
"""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from recovery.events import HealthEvent, OperationEvent
from recovery.instrumentation.facts import Lives
from recovery.observers import Event
from recovery.states import ACTIVE

__all__ = ["PrometheusObserver"]

_DURATIONS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0)
_DELAYS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3_600.0, 21_600.0)


class PrometheusObserver:
    """Counts what it is told. One for each registry."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        """Register the metrics.

        Raises:
            ValueError: they are registered there already.
        """
        self._operations = Counter(
            "recovery_operations", "Operations that ended", ["kind", "outcome"], registry=registry
        )
        self._durations = Histogram(
            "recovery_operation_duration_seconds",
            "From the first event to the end, waits included",
            ["kind", "outcome"],
            buckets=_DURATIONS,
            registry=registry,
        )
        self._active = Gauge(
            "recovery_operations_active", "Operations under way in this process", ["kind", "state"], registry=registry
        )
        self._attempts = Counter("recovery_attempts", "Attempts begun", ["kind"], registry=registry)
        self._failures = Counter(
            "recovery_failures", "Attempts that failed", ["kind", "category", "action"], registry=registry
        )
        self._delays = Histogram(
            "recovery_retry_delay_seconds",
            "Waits decided upon before the next attempt",
            ["kind"],
            buckets=_DELAYS,
            registry=registry,
        )
        self._degraded = Gauge("recovery_store_degraded", "1 while the state file cannot be used", registry=registry)
        self._gates = Counter("recovery_gate_changes", "Changes of host gates", ["state"], registry=registry)
        self._lives = Lives()

    def __call__(self, event: Event) -> None:
        """Count an event."""
        if isinstance(event, OperationEvent):
            self._count(event)
        elif isinstance(event, HealthEvent):
            self._degraded.set(event.health != "ok")
        else:
            self._gates.labels(event.state).inc()

    def _count(self, event: OperationEvent) -> None:
        if self._lives.begins_attempt(event):
            self._attempts.labels(event.kind).inc()
        if event.verdict is not None:
            self._failures.labels(event.kind, event.verdict.category.value, event.verdict.action.value).inc()
        if event.delay_s is not None:
            self._delays.labels(event.kind).observe(event.delay_s)
        before, lasted = self._lives.move(event)
        if before is not None:
            self._active.labels(event.kind, before.value).dec()
        if event.state in ACTIVE:
            self._active.labels(event.kind, event.state.value).inc()
        if lasted is not None:
            self._operations.labels(event.kind, event.state.value).inc()
            self._durations.labels(event.kind, event.state.value).observe(lasted)
