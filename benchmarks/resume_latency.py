"""How soon does a resumed download ask for its first missing byte, and how fast does the audit read beside it?

    python -m benchmarks.resume_latency [--size-mib 10240] [--rounds 5] [--quick] [--json]

A part file of that size is laid down with its checkpoints but for the last 64 MiB; a new process continues it. The time
is taken at the origin: from the start of the process to the arrival of its first request.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.report import Bar, Report, finish, options, say
from benchmarks.tools import run

QUESTION = "How soon does a resumed download ask for its first missing byte, and how fast is the audit beside it?"
MIB = 1 << 20
MISSING = 64 * MIB


class RangeOrigin:
    """Answers ranges of a file of zeros; notes when each request came."""

    def __init__(self, length: int) -> None:
        """Serve ``length`` zero bytes."""
        self.length = length
        self.arrivals: list[float] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/big.bin"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        zeros = bytes(MIB)
        with connection, connection.makefile("rb") as lines:
            while True:
                first, last = 0, self.length - 1
                if not lines.readline():
                    return
                self.arrivals.append(time.time())
                while (line := lines.readline().strip()) != b"":
                    if line.lower().startswith(b"range:"):
                        begin, _, end = line.split(b"=")[1].partition(b"-")
                        first, last = int(begin), min(int(end), last) if end else last
                count = last - first + 1
                head = f'HTTP/1.1 206 Partial Content\r\nETag: "z"\r\nContent-Length: {count}\r\n'
                head += f"Content-Range: bytes {first}-{last}/{self.length}\r\n\r\n"
                try:
                    connection.sendall(head.encode())
                    while count:
                        sent = min(count, MIB)
                        connection.sendall(zeros[:sent])
                        count -= sent
                except OSError:
                    return

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


async def _lay_down(folder: Path, url: str, length: int) -> None:
    """Write the rows and the part file that a process killed near the end would have left."""
    from recovery import State
    from recovery.database import Database
    from recovery.journal import JOURNAL, Journal, OperationSpec
    from recovery.policy import RetryPolicy
    from resumable.checkpoints import SqliteCheckpoints
    from resumable.model import Checkpoint, Options
    from resumable.plan import ChunkGrid, chunk_size_for
    from resumable.request import checked_request, id_of, key_of, stored_request
    from resumable.rows import DOWNLOADS, DownloadRow
    from resumable.validators import ETag, Representation

    dest = folder / "big.bin"
    request = checked_request(
        url, dest, directory=None, project="", mirrors=(), headers=None, sha256=None, options=Options()
    )
    download_id = id_of(key_of(request))
    grid = ChunkGrid(length, chunk_size_for(length))
    with open(f"{dest}.part", "wb") as file:
        zeros = bytes(16 * MIB)
        file.writelines(zeros for _ in range((length - MISSING) // len(zeros)))
    digest = hashlib.sha256(bytes(grid.chunk_size)).digest()
    async with await Database.open(folder / "state.db", (JOURNAL, DOWNLOADS)) as database:
        journal, store = Journal(database), SqliteCheckpoints(database)
        spec = OperationSpec(kind="download", key=key_of(request), operation_id=download_id, policy=RetryPolicy())
        _, generation = await journal.begin_and_claim(spec, owner="bench", ttl_s=30, now=time.time())
        if generation is None:
            raise RuntimeError("the row is claimed already")
        await store.put(
            DownloadRow(
                download_id=download_id,
                directory=str(folder),
                filename=dest.name,
                named_by="caller",
                request=stored_request(request),
                representation=None,
                chunk_size=None,
            )
        )
        representation = Representation(etag=ETag('"z"', weak=False), complete_length=length)
        await store.begin(download_id, generation, representation, grid.chunk_size)
        whole = (length - MISSING) // grid.chunk_size
        await store.commit(download_id, generation, [Checkpoint(i, grid.chunk_size, digest) for i in range(whole)])
        await journal.record(download_id, generation, state=State.PAUSED, now=time.time())


def once(length: int) -> tuple[float, float, float]:
    """Return seconds to the first request, seconds to the end, and processor seconds, of one resumed process."""
    with tempfile.TemporaryDirectory(prefix="bench-resume-") as name:
        folder = Path(name)
        origin = RangeOrigin(length)
        asyncio.run(_lay_down(folder, origin.url, length))
        os.sync()
        command = ["get", origin.url, "-o", str(folder / "big.bin"), "--state", str(folder / "state.db"), "-q"]
        started = time.time()
        cost = run([sys.executable, "-m", "resumable", *command])
        origin.close()
        return origin.arrivals[0] - started, cost.wall_s, cost.cpu_s


def main() -> int:
    """Run and report."""
    given = options(__doc__, size_mib=(10_240, 512), rounds=(5, 2))
    started = time.perf_counter()
    once(256 * MIB)  # writes the bytecode
    runs = []
    for number in range(given.rounds):
        runs.append(once(given.size_mib * MIB))
        say(
            f"  round {number + 1}: first request after {runs[-1][0] * 1000:.0f} ms, all done after {runs[-1][1]:.2f} s"
        )
    first, total, cpu = (statistics.median(one[i] for one in runs) for i in range(3))
    audited = given.size_mib * MIB - MISSING
    report = Report(
        benchmark="resume_latency",
        question=QUESTION,
        rows=[
            {
                "part file MiB": given.size_mib,
                "first request ms": first * 1000,
                "worst ms": max(one[0] for one in runs) * 1000,
                "all done s": total,
                "CPU s": cpu,
                "audited GB/s": audited / total / 1e9,
            }
        ],
        bars=[
            Bar(name="first request of a resumed process", value=round(first * 1000, 1), limit=200, unit="ms"),
            Bar(name="first request, our tighter bar", value=round(first * 1000, 1), limit=100, unit="ms"),
            Bar(
                name="audit beside the fetch",
                value=round(audited / total / 1e9, 2),
                limit=1.5,
                unit="GB/s",
                at_least=True,
            ),
        ],
        caveats=["the audit's rate is the whole run's: start, fetch of the last 64 MiB, fsync and publishing included"],
        quick=given.quick,
        seconds=round(time.perf_counter() - started, 1),
    )
    return finish(report, as_json=given.json)


if __name__ == "__main__":
    raise SystemExit(main())
