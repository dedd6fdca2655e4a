"""A response whose first bytes can be taken off exactly, before the rest is streamed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from resumable.errors import Interrupted
from resumable.ports import Hop, Response


class Lookahead:
    """Wraps a Response; ``take`` reads an exact number of bytes, ``read`` then gives what follows."""

    def __init__(self, response: Response) -> None:
        """Begin before the first byte."""
        self._response = response
        self._rest = b""

    @property
    def status(self) -> int:
        """Status of the wrapped answer."""
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the wrapped answer."""
        return self._response.headers

    @property
    def url(self) -> str:
        """URL of the wrapped answer."""
        return self._response.url

    @property
    def hops(self) -> Sequence[Hop]:
        """Redirects of the wrapped answer."""
        return self._response.hops

    async def take(self, count: int) -> bytes:
        """Return exactly ``count`` bytes; raises Interrupted where the body is shorter."""
        taken = bytearray()
        while len(taken) < count:
            block = await self.read()
            if not block:
                raise Interrupted(len(taken), count)
            need = count - len(taken)
            taken += block[:need]
            self._rest = block[need:]
        return bytes(taken)

    async def read(self) -> bytes:
        """Return the next block."""
        if self._rest:
            rest, self._rest = self._rest, b""
            return rest
        return await self._response.read()

    async def read_into(self, buffer: memoryview, arrived: Callable[[int], None]) -> int:
        """Put the next bytes into ``buffer``; see ``ports.Response.read_into``."""
        if not self._rest:
            return await self._response.read_into(buffer, arrived)
        piece, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(piece)] = piece
        arrived(len(piece))
        return len(piece)
