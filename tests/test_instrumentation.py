"""What observers make of events: log records, Prometheus metrics, OpenTelemetry spans; with the real libraries."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv.attributes import error_attributes, exception_attributes, server_attributes
from opentelemetry.trace import StatusCode, get_current_span
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from recovery import GateEvent, HealthEvent, OperationEvent, RetryPolicy, State, Supervisor, observe, recoverable
from recovery.instrumentation.facts import Lives, facts
from recovery.instrumentation.logs import JsonFormatter, LogObserver
from recovery.instrumentation.opentelemetry import OpenTelemetryObserver
from recovery.instrumentation.prometheus import PrometheusObserver
from recovery.observers import Observer
from recovery.testing import FakeClock, MemoryJournal

ROOT = Path(__file__).resolve().parent.parent


async def live(observer: Observer) -> None:
    """Let three operations go by, in memory and supervised: one that recovers, one that fails, one that succeeds."""
    clock = FakeClock(auto=True)
    errors: list[Exception] = [ConnectionResetError("https://h/?token=hush")]
    policy = RetryPolicy(base=2.0, factor=1.0)

    @recoverable(clock=clock, draw=lambda: 0.5, policy=policy, kind="fetch", key="{name}", project="demo")
    async def fetch(name: str) -> None:
        if errors:
            raise errors.pop()

    @recoverable(journal=Supervisor(MemoryJournal(clock=clock), clock=clock), kind="check", key="{name}")
    async def check(name: str) -> None:
        raise ValueError(name)

    stop = observe(observer)
    try:
        await fetch("flux")
        with suppress(ValueError):
            await check("bad")
        await fetch("sdxl")
        observer(HealthEvent("degraded", "the disk is full", clock.time()))
        observer(GateEvent("h", "open", clock.time() + 30, 5, clock.time()))
    finally:
        stop()


# ---- logging --------------------------------------------------------------------------------------------------------


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Return what the JSON formatter wrote for the observer's own logger."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("recovery.operations")
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(before)


async def test_events_are_structured_log_records(lines: io.StringIO) -> None:
    """One line each, with its level, the facts under their names, and no secret."""
    await live(LogObserver())
    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [(line["level"], line["event"]) for line in found] == [
        ("info", "operation-running"),
        ("warning", "operation-waiting"),
        ("info", "operation-running"),
        ("info", "operation-complete"),
        ("info", "operation-running"),
        ("error", "operation-failed"),
        ("info", "operation-running"),
        ("info", "operation-complete"),
        ("warning", "store-degraded"),
        ("info", "gate-open"),
    ]
    waiting = found[1]
    assert waiting["timestamp"].endswith("+00:00")
    assert {
        "logger": "recovery.operations",
        "recovery.operation.kind": "fetch",
        "recovery.operation.key": "flux",
        "recovery.operation.project": "demo",
        "recovery.operation.state": "waiting",
        "recovery.operation.previous_state": "running",
        "recovery.attempt": 1,
        "recovery.attempt.max": 50,
        "recovery.attempt.no_progress": 1,
        "recovery.retry.delay": 1.0,
        "recovery.error.category": "connection",
        "recovery.error.action": "retry",
        "error.type": "connection-lost",
        "exception.type": "ConnectionResetError",
        "exception.message": "https://h/?token=***",
    }.items() <= waiting.items()
    assert found[-2]["reason"] == "the disk is full"
    assert (found[-1]["server.address"], found[-1]["recovery.gate.failures"]) == ("h", 5)
    assert "hush" not in lines.getvalue()


def test_the_json_formatter_serves_other_records_too() -> None:
    """With the traceback where there is one, and whatever is no JSON as its text."""
    formatter = JsonFormatter()
    try:
        _ = 1 // 0
    except ZeroDivisionError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "over %s", ("there",), sys.exc_info())
    vars(record)["recovery.odd"] = Path("/x")
    line = json.loads(formatter.format(record))
    assert (line["event"], line["recovery.odd"]) == ("over there", "/x")
    assert "ZeroDivisionError" in line["exception.stacktrace"]


def test_another_logger_may_be_given(caplog: pytest.LogCaptureFixture) -> None:
    """And nothing is said below its level."""
    LogObserver(logging.getLogger("mine"))(HealthEvent("degraded", "why", 0.0))
    LogObserver(logging.getLogger("mine"))(HealthEvent("ok", "", 0.0))
    assert [(record.name, record.getMessage()) for record in caplog.records] == [("mine", "store-degraded")]


# ---- Prometheus -----------------------------------------------------------------------------------------------------


def samples(registry: CollectorRegistry) -> dict[str, float]:
    """Return what a scrape would see, without buckets and creation times, zeros left out."""
    found = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            if not sample.name.endswith(("_bucket", "_created")) and sample.value:
                labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
                found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


async def test_prometheus_counts() -> None:
    """Operations by outcome, attempts, failures by category, waits; the store's health and the gates."""
    registry = CollectorRegistry()
    await live(PrometheusObserver(registry))
    assert samples(registry) == {
        "recovery_operations_total{kind=fetch,outcome=complete}": 2.0,
        "recovery_operations_total{kind=check,outcome=failed}": 1.0,
        "recovery_operation_duration_seconds_count{kind=fetch,outcome=complete}": 2.0,
        "recovery_operation_duration_seconds_sum{kind=fetch,outcome=complete}": pytest.approx(1.0),
        "recovery_operation_duration_seconds_count{kind=check,outcome=failed}": 1.0,
        "recovery_attempts_total{kind=fetch}": 3.0,
        "recovery_attempts_total{kind=check}": 1.0,
        "recovery_failures_total{action=retry,category=connection,kind=fetch}": 1.0,
        "recovery_failures_total{action=fail,category=validation,kind=check}": 1.0,
        "recovery_retry_delay_seconds_count{kind=fetch}": 1.0,
        "recovery_retry_delay_seconds_sum{kind=fetch}": 1.0,
        "recovery_store_degraded{}": 1.0,
        "recovery_gate_changes_total{state=open}": 1.0,
    }


async def test_prometheus_shows_what_is_under_way() -> None:
    """Each operation in the state it is in, and nowhere else."""
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)
    event: dict[str, Any] = {"operation_id": "x", "kind": "fetch", "key": "k", "ts": 0.0}
    seen = []
    for state in (State.QUEUED, State.RUNNING, State.PARKED, State.RUNNING, State.PAUSED):
        observer(OperationEvent(**event, state=state, attempt=1))
        seen.append([name for name in samples(registry) if name.startswith("recovery_operations_active")])
    assert seen == [
        [f"recovery_operations_active{{kind=fetch,state={state}}}"]
        for state in ("queued", "running", "parked", "running")
    ] + [[]]


def test_prometheus_names_follow_its_rules() -> None:
    """One prefix, base units, ``_total`` for counters, no unbounded label."""
    registry = CollectorRegistry()
    PrometheusObserver(registry)
    for family in registry.collect():
        assert family.name.startswith("recovery_")
        assert family.documentation
        if family.type == "histogram":
            assert family.name.endswith("_seconds")


def test_a_registry_takes_one_observer() -> None:
    """A second one would count everything twice."""
    registry = CollectorRegistry()
    PrometheusObserver(registry)
    with pytest.raises(ValueError, match="Duplicated"):
        PrometheusObserver(registry)


# ---- OpenTelemetry --------------------------------------------------------------------------------------------------


class Telemetry:
    """A real SDK that keeps what it exports."""

    def __init__(self) -> None:
        """Set up tracing and metering, in memory."""
        self.exporter = InMemorySpanExporter()
        self.tracing = TracerProvider()
        self.tracing.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.metering = MeterProvider([self.reader])
        self.observer = OpenTelemetryObserver(tracer_provider=self.tracing, meter_provider=self.metering)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended."""
        return self.exporter.get_finished_spans()

    def metrics(self) -> dict[str, Any]:
        """Return name and unit of every metric, with its points as {attributes: value}."""
        found = {}
        data = self.reader.get_metrics_data()
        assert data is not None
        for metric in data.resource_metrics[0].scope_metrics[0].metrics:
            points: Any = metric.data.data_points
            found[f"{metric.name} {metric.unit}"] = {
                tuple(sorted(str(value) for value in point.attributes.values())): getattr(point, "sum", None)
                if hasattr(point, "sum")
                else point.value
                for point in points
            }
        return found


@pytest.fixture
def telemetry() -> Telemetry:
    """Return a fresh SDK."""
    return Telemetry()


async def test_an_operation_is_a_span_with_its_retries(telemetry: Telemetry) -> None:
    """Named by its kind; what recovered is no error; what failed has a status, a type and an exception event."""
    await live(telemetry.observer)
    recovered, failed, smooth = telemetry.spans
    assert [span.name for span in telemetry.spans] == ["fetch", "check", "fetch"]
    assert recovered.status.status_code is smooth.status.status_code is StatusCode.UNSET
    assert [(event.name, (event.attributes or {})["recovery.error.category"]) for event in recovered.events] == [
        ("recovery.retry", "connection")
    ]
    about = recovered.attributes or {}
    assert (about["recovery.operation.key"], about["recovery.operation.state"], about["recovery.attempt"]) == (
        "flux",
        "complete",
        2,
    )
    assert error_attributes.ERROR_TYPE not in about
    assert recovered.start_time is not None
    assert recovered.end_time is not None
    assert recovered.end_time - recovered.start_time == pytest.approx(1e9, abs=1_000)

    assert (failed.status.status_code, failed.status.description) == (StatusCode.ERROR, "ValueError: bad")
    assert (failed.attributes or {})[error_attributes.ERROR_TYPE] == "bug-or-bad-input"
    (raised,) = failed.events
    assert (raised.name, dict(raised.attributes or {})) == (
        "exception",
        {exception_attributes.EXCEPTION_TYPE: "ValueError", exception_attributes.EXCEPTION_MESSAGE: "bad"},
    )
    assert "hush" not in str(
        [(span.attributes, [event.attributes for event in span.events]) for span in telemetry.spans]
    )


async def test_a_span_belongs_to_the_one_around_it(telemetry: Telemetry) -> None:
    """The request that started the operation."""
    stop = observe(telemetry.observer)
    try:
        with telemetry.tracing.get_tracer("test").start_as_current_span("request"):
            outer = get_current_span().get_span_context()

            @recoverable(kind="fetch")
            async def fetch() -> None: ...

            await fetch()
    finally:
        stop()
    inner = telemetry.spans[0]
    assert inner.parent is not None
    assert (inner.name, inner.parent.span_id) == ("fetch", outer.span_id)


async def test_opentelemetry_measures(telemetry: Telemetry) -> None:
    """Names without units, units in UCUM, attributes that are closed sets."""
    await live(telemetry.observer)
    assert telemetry.metrics() == {
        "recovery.operation.duration s": {
            ("complete", "fetch"): pytest.approx(1.0),
            ("bug-or-bad-input", "check", "failed"): pytest.approx(0.0),
        },
        "recovery.operation.active {operation}": {("fetch",): 0, ("check",): 0},
        "recovery.attempts {attempt}": {("fetch",): 3, ("check",): 1},
        "recovery.failures {failure}": {
            ("connection", "connection-lost", "fetch", "retry"): 1,
            ("bug-or-bad-input", "check", "fail", "validation"): 1,
        },
        "recovery.retry.delay s": {("fetch",): 1.0},
        "recovery.store.degraded 1": {(): 1},
        "recovery.gate.changes {change}": {("h", "open"): 1},
    }


def test_names_of_the_conventions_are_those_of_the_conventions() -> None:
    """The package that states them has the same."""
    event = OperationEvent(operation_id="x", kind="k", key="", state=State.FAILED, error="ValueError: bad", ts=0.0)
    assert {exception_attributes.EXCEPTION_TYPE, exception_attributes.EXCEPTION_MESSAGE} <= set(facts(event))
    assert (error_attributes.ERROR_TYPE, server_attributes.SERVER_ADDRESS) == ("error.type", "server.address")
    assert "recovery.operation.key" not in facts(event)  # empty: not said


# ---- lives ----------------------------------------------------------------------------------------------------------


def test_a_life_whose_end_nobody_told_is_dropped_in_the_end() -> None:
    """Thousands of operations that were given away must not be remembered for ever."""
    lives = Lives()
    for number in range(10_050):
        lives.move(OperationEvent(operation_id=f"{number}", kind="k", key="", state=State.WAITING, ts=float(number)))
    assert len(lives._lives) == 10_000


def test_a_clock_that_was_set_back_makes_no_negative_duration() -> None:
    """Wall clocks jump."""
    lives = Lives()
    for state, ts in ((State.RUNNING, 100.0), (State.COMPLETE, 40.0)):
        _, lasted = lives.move(OperationEvent(operation_id="x", kind="k", key="", state=state, ts=ts))
    assert lasted == 0.0


def test_nothing_is_imported_unless_it_is_used() -> None:
    """``recovery`` and the package of the observers load neither library."""
    code = (
        "import recovery.instrumentation, recovery.decorator, recovery.instrumentation.logs, sys;"
        "print(*(name for name in sys.modules if name.startswith(('prometheus', 'opentelemetry'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "\n"
