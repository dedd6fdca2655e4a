"""How long does the command take that does next to nothing: ``--help``, and ``get`` of one byte?

    python -m benchmarks.startup [--rounds 15] [--quick] [--json]

Whole processes, from fork to exit, with bytecode cached as an installed program has it.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.nginx import serving
from benchmarks.report import Bar, Cell, answer, options
from benchmarks.samples import interleave, spread
from benchmarks.tools import ours, run

QUESTION = "How long does a command that does next to nothing take?"


def contestants(base: str, folder: Path) -> dict[str, Callable[[], float]]:
    """Return what is timed; each gives wall milliseconds."""
    out = folder / "one"
    get = ours(folder / "state.db")

    def fetch(command: list[str]) -> Callable[[], float]:
        def once() -> float:
            for stale in folder.glob("one*"):
                stale.unlink()
            return run(command).wall_s * 1000

        return once

    def timed(*command: str) -> Callable[[], float]:
        return lambda: run(command).wall_s * 1000

    return {
        "python -c pass": timed(sys.executable, "-c", "pass"),
        "resumable --help": timed(sys.executable, "-m", "resumable", "--help"),
        "import aiohttp": timed(sys.executable, "-c", "import aiohttp"),
        "resumable get, 1 byte": fetch(get.line(f"{base}/one", out)),
        "curl, 1 byte": fetch(["curl", "-sS", "-o", str(out), f"{base}/one"]),
    }


def main() -> int:
    """Run and report."""
    given = options(__doc__, rounds=(15, 3))
    with tempfile.TemporaryDirectory(prefix="bench-startup-") as name:
        folder = Path(name)
        (folder / "root").mkdir()
        (folder / "root" / "one").write_bytes(b"1")
        with serving(folder / "root") as base:
            found = contestants(base, folder)
            for once in found.values():
                once()  # writes the bytecode
            samples = interleave(found, given.rounds)
    rows: list[dict[str, Cell]] = [
        {"what": one.name, "median ms": one.median, "spread": f"{spread(one.values):.0%}", "least ms": min(one.values)}
        for one in samples.values()
    ]
    median = {name: statistics.median(one.values) for name, one in samples.items()}
    return answer(
        "startup",
        QUESTION,
        given,
        rows=rows,
        bars=[
            Bar(name="resumable --help", value=round(median["resumable --help"], 1), limit=60, unit="ms"),
            Bar(name="resumable get of 1 byte", value=round(median["resumable get, 1 byte"], 1), limit=250, unit="ms"),
        ],
        caveats=["`import aiohttp` alone is the floor of every program that uses it"],
    )


if __name__ == "__main__":
    raise SystemExit(main())
