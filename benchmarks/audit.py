"""How fast is what a former run left hashed again, and what does that cost the fetch beside it?

    python -m benchmarks.audit [--size-mib 4096] [--missing-mib 256] [--rounds 5] [--quick] [--json]

First the audit alone, in this process, with what one and two threads of SHA-256 can do beside it. Then whole processes
that fetch the same number of bytes from an origin of 1 Gbit/s and from one as fast as loopback: a fresh download, and
one that hashes a large part file at the same time. The fetch is timed at the origin, from the first request to the last
byte sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path

from benchmarks.report import Bar, Cell, answer, options, say
from benchmarks.samples import figures, interleave, ratio_bar, spread
from benchmarks.tools import run
from benchmarks.unfinished import MIB, RangeOrigin, lay_down

QUESTION = "How fast is what a former run left hashed again, and what does that cost the fetch beside it?"
GIGABIT = 125e6
MISSED_AT_MOST = 16 * MIB
"""What may be fetched again: a chunk that was not complete."""


async def alone(path: Path, length: int) -> float:
    """Return the seconds that the audit of a part file needs, its pages in memory as after a restart of the program."""
    from resumable.audit import audit
    from resumable.model import Checkpoint
    from resumable.partfile import DiskPartFile
    from resumable.plan import ChunkGrid, chunk_size_for

    grid = ChunkGrid(length, chunk_size_for(length))
    digest = hashlib.sha256(bytes(grid.chunk_size)).digest()
    claims = {index: Checkpoint(index, grid.chunk_size, digest) for index in range(length // grid.chunk_size)}
    part = await DiskPartFile.open(path)
    try:
        started = time.perf_counter()
        async with aclosing(audit(part, claims, chunk_size=grid.chunk_size, complete_length=length)) as judged:
            found = [one.ok async for one in judged]
        took = time.perf_counter() - started
    finally:
        await part.close()
    if found != [True] * len(claims):
        raise RuntimeError("the audit did not find what was laid down")
    return took


def hashing(threads: int, length: int) -> float:
    """Return the seconds in which so many threads hash ``length`` bytes of memory: the limit of the machine."""
    block = bytes(MIB)

    def work() -> None:
        digest = hashlib.sha256()
        for _ in range(length // MIB // threads):
            digest.update(block)

    running = [threading.Thread(target=work) for _ in range(threads)]
    started = time.perf_counter()
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return time.perf_counter() - started


def fetching(folder: Path, length: int, missing: int, rate: float | None) -> float:
    """Return the seconds of the fetch of the last ``missing`` bytes; the others are there and are audited meanwhile."""
    origin = RangeOrigin(length, rate=rate)
    if length > missing:
        asyncio.run(lay_down(folder, origin.url, length, missing=missing))
    else:
        for stale in folder.iterdir():
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        os.sync()
    command = ["get", origin.url, "-o", str(folder / "big.bin"), "--state", str(folder / "state.db"), "-q"]
    run([sys.executable, "-m", "resumable", *command])
    origin.close()
    if sum(origin.sent) > missing + MISSED_AT_MOST:
        raise RuntimeError(f"it fetched {sum(origin.sent)} bytes: it did not continue what was laid down")
    return origin.last_sent - origin.arrivals[0]


def main() -> int:
    """Run and report."""
    given = options(__doc__, size_mib=(4096, 256), missing_mib=(256, 64), rounds=(5, 2))
    length, missing = given.size_mib * MIB, given.missing_mib * MIB
    rows, bars = _audit_rows(length // 2, given.rounds)
    with tempfile.TemporaryDirectory(prefix="bench-audit-") as name:
        fresh, laid = Path(name) / "fresh", Path(name) / "laid"
        fresh.mkdir()
        laid.mkdir()
        for what, rate in (("1 Gbit/s", GIGABIT), ("loopback", None)):
            say(f"fetch of {given.missing_mib} MiB, {what}:")
            contestants: dict[str, Callable[[], float]] = {
                "fresh": partial(fetching, fresh, missing, missing, rate),
                "beside the audit": partial(fetching, laid, missing + length, missing, rate),
            }
            found = interleave(contestants, given.rounds)
            for samples in found.values():
                row: dict[str, Cell] = {"what": f"fetch of {given.missing_mib} MiB at {what}, {samples.name}"}
                rows.append(row | figures(samples))
            about = f"fetch beside the audit, {what}, to the fetch alone"
            bars.append(ratio_bar(about, found["beside the audit"], found["fresh"], limit=1.15, unit="times"))
    return answer(
        "audit",
        QUESTION,
        given,
        rows=rows,
        bars=bars,
        caveats=[
            f"the audit alone and SHA-256: {given.size_mib // 2} MiB; beside the fetch: {given.size_mib} MiB",
            "the part file is in the page cache: a disk slower than the hash sets the pace otherwise",
            "at loopback speed fetch, origin and audit share the processors: the audit must cost the fetch something",
        ],
    )


def _audit_rows(length: int, rounds: int) -> tuple[list[dict[str, Cell]], list[Bar]]:
    with tempfile.TemporaryDirectory(prefix="bench-audit-") as name:
        path = Path(name) / "big.bin.part"
        with open(path, "wb") as file:
            file.writelines(bytes(MIB) for _ in range(length // MIB))
        os.chmod(path, 0o600)
        found = interleave(
            {
                "audit of a part file": lambda: asyncio.run(alone(path, length)),
                "SHA-256 of memory, 1 thread": lambda: hashing(1, length),
                "SHA-256 of memory, 2 threads": lambda: hashing(2, length),
            },
            rounds,
        )
    rows: list[dict[str, Cell]] = [
        {
            "what": samples.name,
            **figures(samples),
            "GB/s": length / samples.median / 1e9,
        }
        for samples in found.values()
    ]
    audits = found["audit of a part file"]
    rate, apart = length / audits.median / 1e9, round(spread(audits.values), 3)
    bar = Bar(name="audit on two cores", value=round(rate, 2), limit=1.5, unit="GB/s", at_least=True, spread=apart)
    return rows, [bar]


if __name__ == "__main__":
    raise SystemExit(main())
