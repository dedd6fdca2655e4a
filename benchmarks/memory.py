"""How much memory do downloads take: one of 4 GiB, and 1,000 at once in one process?

python -m benchmarks.memory [--size-mib 4096] [--downloads 1000] [--quick] [--json]
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.nginx import serving
from benchmarks.report import Bar, answer, options, say

if TYPE_CHECKING:
    from resumable import DownloadHandle

QUESTION = "How much memory do downloads take?"
MB = 1_000_000


def large(size_mib: int) -> int:
    """Return the peak resident bytes of a process that downloads one file of this size."""
    with tempfile.TemporaryDirectory(prefix="bench-memory-") as folder:
        root = Path(folder) / "root"
        root.mkdir()
        with open(root / "big.bin", "wb") as file:
            file.truncate(size_mib << 20)
        with serving(root) as base:
            command = [sys.executable, "-m", "resumable", "get", f"{base}/big.bin", "-o", f"{folder}/big.bin"]
            process = subprocess.Popen([*command, "--state", f"{folder}/state.db", "-q"], stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            msg = f"the download ended with {process.returncode}"
            raise RuntimeError(msg)
        return usage.ru_maxrss * 1024


def _resident() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmRSS")


async def _all(handles: Sequence[DownloadHandle]) -> None:
    for handle in handles:
        await handle


async def _many(base: str, folder: Path, count: int) -> tuple[int, int]:
    from resumable import DownloadManager, Options

    async with DownloadManager(
        state=folder / "state.db", max_concurrent=count, per_host=count, options=Options(connections=1)
    ) as manager:
        await manager.start(f"{base}/warm.bin", folder / "warm")
        before = peak = _resident()
        handles = [manager.start(f"{base}/f.bin", folder / f"f{i}") for i in range(count)]
        waiting = asyncio.ensure_future(_all(handles))
        while not waiting.done():
            peak = max(peak, _resident())
            await asyncio.wait({waiting}, timeout=0.2)
        await waiting
        return before, peak


def many(count: int) -> tuple[int, int]:
    """Return resident bytes before and at the peak of ``count`` downloads of 2 MiB that run at once, each throttled."""
    with tempfile.TemporaryDirectory(prefix="bench-memory-") as name:
        folder = Path(name)
        root = folder / "root"
        root.mkdir()
        (root / "f.bin").write_bytes(os.urandom(2 << 20))
        (root / "warm.bin").write_bytes(os.urandom(64 << 10))
        with serving(root, limit_rate="100k") as base:
            code = (
                "import asyncio, json, sys, pathlib; from benchmarks.memory import _many;"
                "print(json.dumps(asyncio.run(_many(sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])))))"
            )
            done = subprocess.run(
                [sys.executable, "-c", code, base, name, str(count)], check=True, stdout=subprocess.PIPE, text=True
            )
        before, peak = json.loads(done.stdout)
        return before, peak


def main() -> int:
    """Run and report."""
    given = options(__doc__, size_mib=(4096, 256), downloads=(1000, 50))
    one = large(given.size_mib)
    say(f"  one of {given.size_mib} MiB: {one / MB:.1f} MB")
    before, peak = many(given.downloads)
    each = (peak - before) / given.downloads
    return answer(
        "memory",
        QUESTION,
        given,
        rows=[
            {"what": f"one download of {given.size_mib} MiB", "peak MB": one / MB},
            {"what": f"before {given.downloads} downloads at once", "peak MB": before / MB},
            {"what": f"{given.downloads} downloads at once", "peak MB": peak / MB},
        ],
        bars=[
            Bar(name="one large download", value=round(one / MB, 1), limit=80, unit="MB"),
            Bar(name="each of many downloads", value=round(each / MB, 3), limit=1, unit="MB"),
            Bar(name="each of many downloads", value=round(each / MB, 3), limit=5, unit="MB", promise=True),
        ],
        caveats=[
            "resident bytes; the many have 2 MiB and one connection each, throttled by nginx so that all run at once"
        ],
    )


if __name__ == "__main__":
    raise SystemExit(main())
