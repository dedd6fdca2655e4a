"""How fast one large file comes from nginx on loopback, against curl, wget, aria2c and axel, interleaved in one run.

    python -m benchmarks.large_file [--size-mib 1024] [--rounds 5] [--json]

Ours hashes and checkpoints every byte; the peers hash nothing. Reported are medians, spread, and the ratio to the
fastest peer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.nginx import serving


def commands(url: str, out: Path, state: Path) -> dict[str, list[str]]:
    """Return the command of every tool; those that are not installed are left out by the caller."""
    o = str(out)
    return {
        "resumable": [sys.executable, "-m", "resumable", "get", url, "-o", o, "--state", str(state), "-q"],
        "resumable -c8": [
            sys.executable,
            "-m",
            "resumable",
            "get",
            url,
            "-o",
            o,
            "-c",
            "8",
            "--state",
            str(state),
            "-q",
        ],
        "curl": ["curl", "-sS", "-o", o, url],
        "wget": ["wget", "-q", "-O", o, url],
        "aria2c -x8": [
            "aria2c",
            "-q",
            "-x8",
            "-s8",
            "-d",
            str(out.parent),
            "-o",
            out.name,
            "--allow-overwrite=true",
            url,
        ],
        "axel -n8": ["axel", "-q", "-n8", "-o", o, url],
    }


def measure(command: list[str], out: Path, size: int) -> tuple[float, float]:
    """Return wall seconds and CPU seconds of one run; raises RuntimeError when the file is not there or too short."""
    for stale in out.parent.iterdir():
        stale.unlink()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if out.stat().st_size != size:
        msg = f"{command[0]} left {out.stat().st_size} of {size} bytes"
        raise RuntimeError(msg)
    return wall, (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def main() -> int:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    size = options.size_mib << 20
    with tempfile.TemporaryDirectory(prefix="bench-large-") as folder:
        root, outs = Path(folder) / "root", Path(folder) / "out"
        root.mkdir()
        outs.mkdir()
        block = os.urandom(1 << 20)
        with open(root / "big.bin", "wb") as file:
            file.writelines(index.to_bytes(8, "big") + block[8:] for index in range(options.size_mib))
        out = outs / "big.bin"
        walls: dict[str, list[float]] = {}
        cpus: dict[str, list[float]] = {}
        with serving(root) as base:
            for round_number in range(options.rounds):
                for name, command in commands(
                    f"{base}/big.bin", out, Path(folder) / f"state-{round_number}.db"
                ).items():
                    if shutil.which(command[0]) is None:
                        continue
                    if name.startswith("resumable"):
                        command = [*command, "--restart"]
                    wall, cpu = measure(command, out, size)
                    walls.setdefault(name, []).append(wall)
                    cpus.setdefault(name, []).append(cpu)
                    print(f"round {round_number + 1}: {name:14} {wall:6.2f} s", file=sys.stderr)
    medians = {name: statistics.median(times) for name, times in walls.items()}
    fastest = min(seconds for name, seconds in medians.items() if not name.startswith("resumable"))
    report = [
        {
            "tool": name,
            "median_s": round(seconds, 3),
            "min_s": round(min(walls[name]), 3),
            "max_s": round(max(walls[name]), 3),
            "mib_per_s": round(options.size_mib / seconds, 1),
            "cpu_s_per_gib": round(statistics.median(cpus[name]) * 1024 / options.size_mib, 2),
            "ratio_to_fastest_peer": round(seconds / fastest, 2),
        }
        for name, seconds in sorted(medians.items(), key=lambda item: item[1])
    ]
    if options.json:
        print(json.dumps({"machine": platform.platform(), "size_mib": options.size_mib, "results": report}))
    else:
        print(
            f"{options.size_mib} MiB from nginx on loopback, {options.rounds} interleaved rounds, {platform.platform()}"
        )
        for row in report:
            print(
                f"{row['tool']:14} {row['median_s']:7.2f} s ({row['min_s']}-{row['max_s']})  {row['mib_per_s']:7.1f} MiB/s"
                f"  {row['cpu_s_per_gib']:5.2f} CPU s/GiB  {row['ratio_to_fastest_peer']:.2f} x the fastest peer"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
