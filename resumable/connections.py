"""Where connections come from: a pool of clean ones, and the clock that times connecting and answering apart."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

import aiohttp

from resumable.preconnect import Preconnect, stirred
from resumable.transport_errors import AddressRefused

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace


class HeadClock:
    """Gives the connection its time, and from then on the head its own: a server that drips headers is cut off too."""

    __slots__ = ("_head_s", "connected", "limit")

    limit: asyncio.Timeout

    def __init__(self, head_s: float) -> None:
        """Set ``limit`` to the running timeout for connecting; the head then gets ``head_s`` seconds."""
        self._head_s = head_s
        self.connected = False

    def connect(self) -> None:
        """A connection is there: the head's time begins."""
        self.connected = True
        self.limit.reschedule(asyncio.get_running_loop().time() + self._head_s)


head_clock: Final[ContextVar[HeadClock]] = ContextVar("head_clock")
"""The clock of the request that asks for a connection."""


class CleanConnector(aiohttp.TCPConnector):
    """A pool of connections over which nothing has come since their last answer.

    aiohttp gives a pooled connection to the next request even when more has come than was promised, and those bytes
    then pass for its answer: one wrong Content-Length, and a download gets another one's bytes. One that the server
    has closed meanwhile is noticed here as well, before a request is lost on it.
    """

    def __init__(self, *, allow_address: Callable[[str], bool] | None, preconnect: Preconnect | None = None) -> None:
        """Pool without a limit; ``allow_address`` is asked about each address right before it is connected, which what
        ``preconnect`` has begun is preferred for.
        """
        # No limit of aiohttp's: waiting for a turn would count as connecting.
        super().__init__(limit=0, socket_factory=self._new_socket)
        self._allow_address = allow_address
        self._preconnect = preconnect
        self._used: WeakSet[ResponseHandler] = WeakSet()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """Return a new connection, or a clean one of the pool."""
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if protocol is None or protocol not in self._used:
                break
            if not protocol.should_close and not _readable(connection.transport):
                break
            if connection.transport is not None:
                connection.transport.abort()
            connection.close()
        if protocol is not None:
            self._used.add(protocol)
        head_clock.get().connect()
        return connection

    def _new_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        if self._allow_address is not None and not self._allow_address(str(address[0])):
            raise AddressRefused
        begun = None if self._preconnect is None else self._preconnect.take(family, address)
        return begun or socket.socket(family, kind, protocol)


def _readable(transport: asyncio.Transport | None) -> bool:
    """Whether anything waits in a connection: bytes nobody asked for, or the peer's goodbye."""
    end = None if transport is None else transport.get_extra_info("socket")
    return end is not None and stirred(end)
