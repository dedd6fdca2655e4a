"""How much memory downloads take: one of 4 GiB, and 1,000 at once in one process.

    python -m benchmarks.memory [--size-mib 4096] [--downloads 1000] [--json]

Bars: <= 80 MB resident for the large one, <= 1 MB for each further download.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.nginx import serving

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


async def _many(base: str, folder: Path, count: int) -> tuple[int, int]:
    from resumable import DownloadManager, Options

    async with DownloadManager(
        state=folder / "state.db", max_concurrent=count, per_host=count, options=Options(connections=1)
    ) as manager:
        await manager.start(f"{base}/warm.bin", folder / "warm")
        before = peak = _resident()
        handles = [manager.start(f"{base}/f.bin", folder / f"f{i}") for i in range(count)]
        waiting = asyncio.gather(*(handle._wait() for handle in handles))
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
    """Run and report; exit status 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mib", type=int, default=4096)
    parser.add_argument("--downloads", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    one = large(options.size_mib)
    before, peak = many(options.downloads)
    each = (peak - before) / options.downloads
    report = {
        "size_mib": options.size_mib,
        "large_rss_mb": round(one / MB, 1),
        "downloads": options.downloads,
        "before_mb": round(before / MB, 1),
        "peak_mb": round(peak / MB, 1),
        "each_mb": round(each / MB, 3),
    }
    if options.json:
        print(json.dumps(report))
    else:
        print(f"one download of {options.size_mib} MiB: {report['large_rss_mb']} MB resident at its peak (bar 80)")
        print(
            f"{options.downloads} downloads at once: {report['before_mb']} MB before, {report['peak_mb']} MB at the peak,"
            f" {report['each_mb']} MB each (bar 1)"
        )
    return 0 if one <= 80 * MB and each <= MB else 1


if __name__ == "__main__":
    raise SystemExit(main())
