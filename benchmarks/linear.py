"""Does the engine's own cost grow linearly: 1 to 1,000 downloads at once, and 1 to 100 GiB of one file?

    python -m benchmarks.linear [--quick] [--json]

The origin is simulated and the bytes are neither sent, hashed nor written: what is measured is what is left, the plan,
the ledger, the streams and the checkpoints. The downloads go through a real manager and a real state file.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.report import Bar, Cell, answer, options, say
from recovery.clock import SystemClock
from resumable import DownloadManager, Options
from resumable.engine import Engine
from resumable.model import DownloadRequest
from resumable.ports import Digester, Fetch, Hop, Response, Sink
from resumable.ranges import Span
from resumable.session import Adapters, Session
from resumable.source import Source
from resumable.testing import MemoryCheckpoints, ScriptedTransport

QUESTION = "Does the engine's own cost grow linearly with bytes and with downloads?"
GIB = 1 << 30
EXPONENT = 1.1
"""A cost that grows as n to the power of this is as good as linear over three decades (2 x at most)."""


class FreeAnswer:
    """A ranged answer whose bytes are there at once and are never copied."""

    hops: Sequence[Hop] = ()

    def __init__(self, request: Fetch, total: int) -> None:
        """Answer what is asked for of ``total`` bytes."""
        first, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
        start, stop = int(first), int(last) + 1 if last else total
        self.status, self.url, self._left = 206, request.url, min(stop, total) - start
        self.headers: Mapping[str, str] = {
            "etag": '"v"',
            "content-range": f"bytes {start}-{start + self._left - 1}/{total}",
            "content-length": str(self._left),
        }

    async def read(self) -> bytes:
        """Nobody reads blocks here."""
        raise NotImplementedError

    async def read_into(self, buffer: memoryview, arrived: Callable[[int], None]) -> int:
        """Say that the buffer is full."""
        count = min(len(buffer), self._left)
        self._left -= count
        if count:
            arrived(count)
        await asyncio.sleep(0)
        return count


class FreeTransport:
    """An origin with one file of ``total`` bytes."""

    def __init__(self, total: int) -> None:
        """Serve ``total`` bytes."""
        self._total = total

    @asynccontextmanager
    async def fetch(self, request: Fetch) -> AsyncIterator[Response]:
        """Answer at once."""
        yield FreeAnswer(request, self._total)


class NoPart:
    """A part file that keeps nothing and hashes nothing."""

    def __init__(self, path: Path) -> None:
        """Pretend to be ``path``."""
        self.path = path

    async def write(self, offset: int, blocks: Sequence[bytes | memoryview], digest: Digester) -> bytes:  # noqa: ARG002
        """Pretend that the digest is the empty one."""
        return digest.digest()

    async def hash_span(self, offset: int, length: int, digest: Sink) -> int:  # noqa: ARG002
        """Pretend that all is there."""
        return length

    async def reserve(self, length: int) -> Sequence[Span]:  # noqa: ARG002
        """There is room, and nobody has written anything."""
        return ()

    async def truncate(self, length: int) -> bool:  # noqa: ARG002
        """Nothing to cut."""
        return True

    async def sync(self) -> None:
        """Nothing to sync."""

    async def publish(self, dest: Path, *, replace: bool, length: int | None = None) -> Path:  # noqa: ARG002
        """Pretend that it has its name."""
        return dest

    async def abandon(self) -> None:
        """Nothing to delete."""

    async def set_aside(self, path: Path) -> None:
        """Nothing to rename."""

    async def close(self, *, keep_empty: bool = True) -> None:
        """Nothing is open."""


async def _opened(path: Path) -> NoPart:
    return NoPart(path)


def _adapters(transport: Any, store: Any) -> Adapters:
    def unused(*_: Any) -> Any:
        raise NotImplementedError

    return Adapters(
        transport=transport,
        store=store,
        clock=SystemClock(),
        open_part=_opened,
        audit=unused,
        follow=unused,
        open_new=unused,
        throttle=None,
        notify=lambda *_: None,
    )


def bytes_cost(gib: int) -> float:
    """Return processor seconds of one download of so many GiB."""

    async def one() -> None:
        request = DownloadRequest(url="http://origin.test/f", directory=Path("/d"), filename="f", options=Options())
        session = Session("d", request, [Source(request.url, {}, None)], "f")
        engine = Engine(session, _adapters(FreeTransport(gib * GIB), MemoryCheckpoints()))
        await engine.attempt(1, lambda _: None)

    started = time.process_time()
    asyncio.run(one())
    return time.process_time() - started


def downloads_cost(count: int) -> float:
    """Return processor seconds of so many small downloads at once, state file and part files included."""

    async def many(folder: Path) -> None:
        transport = ScriptedTransport(b"x" * 4096)
        async with DownloadManager(state=folder / "state.db", max_concurrent=count, transport=transport) as manager:
            handles = [manager.start(f"http://origin.test/{i}", folder / f"{i}") for i in range(count)]
            for handle in handles:
                await handle

    with tempfile.TemporaryDirectory(prefix="bench-linear-") as name:
        started = time.process_time()
        asyncio.run(many(Path(name)))
        return time.process_time() - started


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """Return p of the cost = c * n^p that runs through the last two points: how it grows where it is large."""
    (n0, c0), (n1, c1) = points[-2], points[-1]
    return math.log(c1 / c0) / math.log(n1 / n0)


def _row(what: str, cost: float, units: float) -> dict[str, Cell]:
    return {"what": what, "CPU s": cost, "CPU ms a unit": cost / units * 1000}


def main() -> int:
    """Run and report."""
    given = options(__doc__)
    sizes, counts = ([1, 10], [1, 10, 100]) if given.quick else ([1, 10, 100], [1, 10, 100, 1000])
    bytes_cost(1)
    downloads_cost(1)  # imports and caches
    sized, counted = [], []
    for gib in sizes:
        sized.append((float(gib), min(bytes_cost(gib) for _ in range(3))))
        say(f"  {gib} GiB: {sized[-1][1]:.3f} CPU s")
    for count in counts:
        counted.append((float(count), min(downloads_cost(count) for _ in range(3 if count < 1000 else 2))))
        say(f"  {count} downloads: {counted[-1][1]:.3f} CPU s")
    rows = [_row(f"{n:.0f} GiB", cost, n) for n, cost in sized]
    rows += [_row(f"{n:.0f} downloads", cost, n) for n, cost in counted]
    return answer(
        "linear",
        QUESTION,
        given,
        rows=rows,
        bars=[
            Bar(name="growth with bytes", value=round(exponent(sized), 3), limit=EXPONENT, unit="(exponent)"),
            Bar(name="growth with downloads", value=round(exponent(counted), 3), limit=EXPONENT, unit="(exponent)"),
        ],
        caveats=[
            "processor time of this process, the least of three; network, disk and SHA-256 are left out on purpose"
        ],
        extra={
            "plots": {
                "Bookkeeping of one file": {"x": "GiB", "y": "CPU seconds", "series": {"engine": sized}},
                "Many small downloads at once": {"x": "downloads", "y": "CPU seconds", "series": {"manager": counted}},
            }
        },
    )


if __name__ == "__main__":
    raise SystemExit(main())
