"""Bodies whose length nobody states: written whole from byte 0, their length learned at the end.

A chunked body says where it ends (RFC 9112 7.1). One that ends by closing the connection does not, and a truncated one
looks the same as a whole one (five of nine tools publish it, research/downloaders.md 7): it counts only when two reads
in a row agree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import Struct

from resumable.plan import chunk_size_for
from resumable.ports import Digester, PartFile, Response

CHUNK_SIZE: Final = chunk_size_for(None)
_FLUSH: Final = 1 << 20
MOST_READS: Final = 4


class Spooled(Struct, frozen=True):
    """One whole body: its length in bytes and the SHA-256 of each of its chunks."""

    length: int
    digests: tuple[bytes, ...]


def framed(response: Response) -> bool:
    """Whether the body marks its own end, so that a truncated one is an error and not an end."""
    return "chunked" in response.headers.get("transfer-encoding", "").lower()


async def spool(
    response: Response,
    part: PartFile,
    *,
    received: Callable[[int], None],
    throttle: Callable[[int], Awaitable[None]] | None,
    most_bytes: int | None,
) -> Spooled | None:
    """Write the body from byte 0; None when it grows beyond ``most_bytes``. Raises what the response and the disk
    raise.
    """
    digests: list[bytes] = []
    blocks: list[bytes] = []
    offset = pending = 0
    digester: Digester = hashlib.sha256()

    async def flush() -> None:
        nonlocal blocks, offset, pending, digester
        if not pending:
            return
        digest = await part.write(offset, blocks, digester)
        offset, pending, blocks = offset + pending, 0, []
        if offset % CHUNK_SIZE == 0:
            digests.append(digest)
            digester = hashlib.sha256()

    while block := await response.read():
        received(len(block))
        if throttle is not None:
            await throttle(len(block))
        while block:
            room = CHUNK_SIZE - (offset + pending) % CHUNK_SIZE
            piece, block = block[:room], block[room:]
            blocks.append(piece)
            pending += len(piece)
            if pending >= _FLUSH or len(piece) == room:
                await flush()
        if most_bytes is not None and offset + pending > most_bytes:
            return None
    await flush()
    if offset % CHUNK_SIZE:
        digests.append(digester.digest())
    return Spooled(offset, tuple(digests))
