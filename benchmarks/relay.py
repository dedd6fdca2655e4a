"""A TCP relay that holds every byte back for a while: ``python -m benchmarks.relay LISTEN_PORT TARGET_PORT DELAY_S``.

What is in flight is bounded as on a real path of 1 Gbit/s and that delay: the relay reads no further than it has
room for.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque

BLOCK = 256 * 1024
RATE = 125_000_000


class Direction:
    """Bytes one way: read, held for ``delay_s``, written."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
        """Relay from ``reader`` to ``writer``."""
        self._reader = reader
        self._writer = writer
        self._delay_s = delay_s
        self._held: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._most = int(2 * delay_s * RATE)
        self._ended = False

    async def run(self) -> None:
        """Relay until the reader's end."""
        await asyncio.gather(self._take(), self._give())

    async def _take(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while block := await self._reader.read(BLOCK):
                self._held.append((loop.time() + self._delay_s, block))
                self._bytes += len(block)
                self._changed.set()
                if self._bytes > self._most:
                    self._room.clear()
                    await self._room.wait()
        except OSError:
            pass
        self._ended = True
        self._changed.set()

    async def _give(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                while not self._held:
                    if self._ended:
                        self._writer.close()
                        return
                    self._changed.clear()
                    await self._changed.wait()
                due, block = self._held[0]
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
                self._held.popleft()
                self._writer.write(block)
                await self._writer.drain()
                self._bytes -= len(block)
                if self._bytes <= self._most:
                    self._room.set()
        except OSError:
            self._held.clear()
            self._room.set()
            self._reader.feed_eof()


async def relay(listen: int, target: int, delay_s: float) -> None:
    """Serve until terminated."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * delay_s)  # the handshake: SYN there, SYN-ACK back
        there, back = await asyncio.open_connection("127.0.0.1", target, limit=BLOCK)
        await asyncio.gather(
            Direction(reader, back, delay_s).run(), Direction(there, writer, delay_s).run(), return_exceptions=True
        )

    async with await asyncio.start_server(connected, "127.0.0.1", listen, limit=BLOCK) as server:
        await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(relay(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
