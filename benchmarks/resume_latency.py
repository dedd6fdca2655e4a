"""How soon does a resumed download ask for its first missing byte?

    python -m benchmarks.resume_latency [--size-mib 10240] [--rounds 5] [--quick] [--json]

A part file of that size is laid down with its checkpoints but for the last 64 MiB; a new process continues it. The time
is taken at the origin: from the start of the process to the arrival of its first request.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import Bar, answer, options, say
from benchmarks.samples import spread
from benchmarks.tools import run
from benchmarks.unfinished import MIB, RangeOrigin, lay_down

QUESTION = "How soon does a resumed download ask for its first missing byte?"
MISSING = 64 * MIB
_FETCHED_TWICE = 16 * MIB
"""What may be fetched again: a chunk that was not complete."""


def once(folder: Path, length: int) -> tuple[float, float, float]:
    """Return seconds to the first request, seconds to the end, and processor seconds, of one resumed process."""
    origin = RangeOrigin(length)
    asyncio.run(lay_down(folder, origin.url, length, missing=MISSING))
    command = ["get", origin.url, "-o", str(folder / "big.bin"), "--state", str(folder / "state.db"), "-q"]
    started = time.time()
    cost = run([sys.executable, "-m", "resumable", *command])
    origin.close()
    if sum(origin.sent) > MISSING + _FETCHED_TWICE:
        raise RuntimeError(f"it fetched {sum(origin.sent)} bytes: it did not continue what was laid down")
    return origin.arrivals[0] - started, cost.wall_s, cost.cpu_s


def main() -> int:
    """Run and report."""
    given = options(__doc__, size_mib=(10_240, 512), rounds=(5, 2))
    runs = []
    with tempfile.TemporaryDirectory(prefix="bench-resume-") as name:
        once(Path(name), 256 * MIB)  # writes the bytecode
        for number in range(given.rounds):
            runs.append(once(Path(name), given.size_mib * MIB))
            first, total, _ = runs[-1]
            say(f"  round {number + 1}: first request after {first * 1000:.0f} ms, all done after {total:.2f} s")
    first, total, cpu = (statistics.median(one[i] for one in runs) for i in range(3))
    ms, apart = round(first * 1000, 1), round(spread([one[0] for one in runs]), 3)
    audited = given.size_mib * MIB - MISSING
    return answer(
        "resume_latency",
        QUESTION,
        given,
        rows=[
            {
                "part file MiB": given.size_mib,
                "first request ms": first * 1000,
                "spread": f"{apart:.0%}",
                "worst ms": max(one[0] for one in runs) * 1000,
                "all done s": total,
                "CPU s": cpu,
                "hashed GB/s, all in all": audited / total / 1e9,
            }
        ],
        bars=[
            Bar(
                name="first request of a resumed process",
                value=round(first * 1000, 1),
                limit=200,
                unit="ms",
                spread=apart,
            ),
            Bar(name="first request, our tighter bar", value=ms, limit=100, unit="ms", spread=apart),
        ],
        caveats=["the rate of hashing is the whole run's, start and publishing included; `audit` measures it alone"],
    )


if __name__ == "__main__":
    raise SystemExit(main())
