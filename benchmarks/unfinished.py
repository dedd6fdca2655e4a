"""Downloads that a former process left unfinished, and an origin that answers their ranges: for several benchmarks."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import threading
import time
from pathlib import Path

__all__ = ["MIB", "RangeOrigin", "lay_down"]

MIB = 1 << 20
_BLOCK = 16 * MIB


class RangeOrigin:
    """Answers ranges of a file of zeros; notes when each request came, and when the last byte left (epoch seconds)."""

    def __init__(self, length: int, *, rate: float | None = None) -> None:
        """Serve ``length`` zero bytes, at ``rate`` bytes a second over all connections; None is as fast as it goes."""
        self.length = length
        self.arrivals: list[float] = []
        self.last_sent = 0.0
        self.sent: list[int] = []
        """Bytes of body, a figure for each block that left."""
        self._rate = rate
        self._free_at = 0.0
        self._pace = threading.Lock()
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
                        self._wait_for_turn(sent)
                        connection.sendall(zeros[:sent])
                        self.last_sent = time.time()
                        self.sent.append(sent)
                        count -= sent
                except OSError:
                    return

    def _wait_for_turn(self, count: int) -> None:
        if self._rate is None:
            return
        with self._pace:
            now = time.monotonic()
            begin = max(now, self._free_at)
            self._free_at = begin + count / self._rate
        time.sleep(begin - now)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


async def lay_down(folder: Path, url: str, length: int, *, missing: int) -> None:
    """Write the rows and the part file of a process that was killed when ``missing`` of ``length`` bytes were left.

    What an earlier round finished in the same folder is cut back to that, so that its bytes are written once. Returns
    when they are on the disk.
    """
    from recovery import State
    from recovery.database import Database
    from recovery.journal import JOURNAL, Journal, OperationSpec
    from recovery.policy import RetryPolicy
    from recovery.records import Change
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
    _lay_part(dest, (length - missing) // _BLOCK * _BLOCK)
    for stale in folder.glob("state.db*"):
        shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
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
        whole = (length - missing) // grid.chunk_size
        await store.commit(download_id, generation, [Checkpoint(i, grid.chunk_size, digest) for i in range(whole)])
        await journal.record(download_id, generation, Change(state=State.PAUSED, now=time.time()))
    os.sync()


def _lay_part(dest: Path, laid: int) -> None:
    part = Path(f"{dest}.part")
    if dest.exists():
        dest.replace(part)
    with open(part, "ab") as file:
        file.truncate(min(laid, file.tell()))
        file.writelines(bytes(_BLOCK) for _ in range((laid - file.tell()) // _BLOCK))
