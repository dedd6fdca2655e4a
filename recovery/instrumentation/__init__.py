"""Observers for logging, Prometheus and OpenTelemetry, one file each; none is imported unless it is used.

::

    from recovery import observe
    from recovery.instrumentation.logs import LogObserver
    from recovery.instrumentation.prometheus import PrometheusObserver      # extra "metrics"
    from recovery.instrumentation.opentelemetry import OpenTelemetryObserver  # extra "otel"

    stop = observe(PrometheusObserver())

Each of them also fits ``Supervisor(on_event=...)``, to watch that supervisor only.
"""
