"""Connections that are begun before the program that will use them has been loaded.

Resolver and kernel need no Python for a handshake, nor OpenSSL for reading certificates, and loading an HTTP stack
takes longer than both: begun when the command line is known, the connection is there when the first request is. Nothing
is sent over it before that, and whatever is odd about it only means that a new one is made. It imports nothing that is
slow, at least not in a thread that somebody waits for.
"""

from __future__ import annotations

import errno
import select
import socket
import threading
import time
from collections.abc import Sequence

TYPE_CHECKING = False  # type checkers take it for True
if TYPE_CHECKING:
    import ssl

SPARE_S = 5.0
"""How long a connection that nobody has asked for is kept: one that is older may have been forgotten on its way."""


class Preconnect:
    """Connections to one server, for whoever asks for one to that very address."""

    def __init__(self, host: str, port: int, *, count: int, tls: bool = False) -> None:
        """Begin ``count`` of them, in a thread of its own, and with ``tls`` to read certificates, in another; ``host``
        is a name in ASCII or an address.
        """
        self._lock = threading.Lock()
        self._begun: list[Begun] = []
        self._closed = False
        self._context: ssl.SSLContext | None = None
        threading.Thread(target=self._begin, args=(host, port, count), name="preconnect", daemon=True).start()
        self._reading = threading.Thread(target=self._read, name="certificates", daemon=True) if tls else None
        if self._reading is not None:
            self._reading.start()

    def take(self, family: int, address: Sequence[object]) -> socket.socket | None:
        """Return a connection to this address, there or on its way, that nothing has come over yet; None if none is."""
        with self._lock:
            for begun in [one for one in self._begun if one.goes_to(family, address)]:
                self._begun.remove(begun)
                if not begun.stale() and not stirred(begun):
                    return begun
                begun.close()
        return None

    def tls(self) -> ssl.SSLContext | None:
        """Return what has been made of this machine's certificates, as soon as they are read; None if none were."""
        if self._reading is not None:
            self._reading.join()
        return self._context

    def close(self) -> None:
        """Close what nobody took; may be called again."""
        with self._lock:
            self._closed = True
            while self._begun:
                self._begun.pop().close()

    def _begin(self, host: str, port: int, count: int) -> None:
        try:
            # Bytes: text would load the IDNA codec.
            found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
            family, kind, protocol, _, address = found[0]
            for _ in range(count):
                begun = Begun(family, kind, protocol)
                if not begun.begin(address):
                    begun.close()
                    return
                with self._lock:
                    if self._closed:
                        begun.close()
                        return
                    self._begun.append(begun)
        except OSError:
            return  # whoever needs the connection finds out for himself, and can say it better

    def _read(self) -> None:
        from resumable.certificates import tls_context

        try:
            self._context = tls_context()
        except (OSError, ValueError):
            return  # it will be tried again where it can be told


class Begun(socket.socket):
    """A socket whose connection was begun; to connect it to the same address goes on with that."""

    _goal: tuple[object, ...] = ()
    _since = 0.0

    def begin(self, address: tuple[object, ...]) -> bool:
        """Send off the handshake without waiting for it; return whether it was sent."""
        self.settimeout(0)
        self._goal, self._since = address[:2], time.monotonic()
        return self.connect_ex(address) in {0, errno.EINPROGRESS}

    def goes_to(self, family: int, address: Sequence[object]) -> bool:
        """Whether it was begun to this address."""
        return self.family == family and self._goal == tuple(address[:2])

    def stale(self) -> bool:
        """Whether it was begun too long ago to count on."""
        return time.monotonic() - self._since > SPARE_S

    def connect(self, address: socket._Address, /) -> None:
        """Return where the connection stands, raise BlockingIOError where it is on its way and OSError where it failed:
        what a second call says on Linux. Others call a connection that stands an error.
        """
        try:
            super().connect(address)
        except OSError as error:
            if error.errno != errno.EISCONN:
                raise


def stirred(end: socket.socket) -> bool:
    """Whether anything waits in a socket: bytes nobody asked for, the peer's goodbye, or an error."""
    if not hasattr(select, "poll"):
        return bool(select.select([end.fileno()], [], [], 0)[0])
    poll = select.poll()  # not select(): that cannot look at descriptors above 1023
    poll.register(end.fileno(), select.POLLIN)
    return bool(poll.poll(0))
