"""For ``benchmarks.hub``: a hub and a worker, each a process of its own, for as long as a ``with`` lasts."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TOKEN = "benchmark-token"


@dataclass
class Hub:
    """A running ``resumable serve``."""

    process: subprocess.Popen[str]
    url: str
    up_s: float

    def cpu_s(self) -> float:
        """Return the seconds of CPU it has had."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> int:
        """Return its resident bytes."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no VmRSS")


@contextlib.contextmanager
def serving(folder: Path, *words: str) -> Iterator[Hub]:
    """Run a hub over ``folder/state.db``."""
    command = [sys.executable, "-m", "resumable", "serve", "--port", "0", "--json", "-q", "--root", str(folder)]
    environ = {**os.environ, "RESUMABLE_TOKEN": TOKEN}
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--state", str(folder / "state.db"), *words], stdout=subprocess.PIPE, text=True, env=environ
    )
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        yield Hub(process, url, time.perf_counter() - started)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@contextlib.contextmanager
def working(folder: Path, count: int, hz: int, *words: str) -> Iterator[None]:
    """Run a worker with ``count`` moving downloads."""
    command = [sys.executable, "-m", "benchmarks.hub_worker", str(folder / "state.db"), str(count), str(hz), *words]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdin is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the worker did not begin")
        yield
        process.stdin.close()
        process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()
