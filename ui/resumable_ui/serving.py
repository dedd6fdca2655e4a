"""``resumable serve``: a manager, a hub and a web server in one process, until a signal ends it."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from aiohttp import web

from recovery.events import HealthEvent
from resumable.events import DownloadEvent
from resumable.redact import one_line
from resumable_ui.access import Access, hostname_of, is_address, is_loopback, new_token
from resumable_ui.arguments import Arguments, UsageError
from resumable_ui.console import Console
from resumable_ui.get import settings
from resumable_ui.hub import Hub
from resumable_ui.jsonlines import dump
from resumable_ui.runner import Ended
from resumable_ui.signals import StopSignals

if TYPE_CHECKING:
    from resumable.manager import DownloadManager

_HOST_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
MOST_CONNECTIONS: Final = 1024
IDLE_S: Final = 15.0
"""How long a connection may stay open without a request."""


def access_of(arguments: Arguments) -> Access:
    """Return the rules for a command line; raise UsageError for one that would let the world in."""
    exposed = not is_loopback(arguments.host)
    if arguments.no_auth and exposed:
        msg = f"resumable serve: --no-auth with --host {arguments.host} would let anybody in; give --token"
        raise UsageError(msg)
    if exposed and arguments.token is None:
        msg = f"resumable serve: --host {arguments.host} is open to other machines: give --token (or $RESUMABLE_TOKEN)"
        raise UsageError(msg)
    hosts = {_host_name(name) for name in arguments.allow_hosts}
    if exposed and arguments.host not in {"0.0.0.0", "::", ""}:  # noqa: S104 - compared, not bound
        hosts.add(arguments.host.lower().strip("[]"))
    token = None if arguments.no_auth else arguments.token or new_token()
    return Access(token=token, viewer_token=arguments.viewer_token, hosts=frozenset(hosts))


def _host_name(text: str) -> str:
    """The name in ``hub.example``, ``hub.example:8443`` or ``https://hub.example/``, as ``Host`` headers have it."""
    scheme, mark, rest = text.rpartition("://")
    name = rest.rstrip("/") if mark and scheme.lower() in {"http", "https"} else text
    if is_address(name):
        return name.lower()
    found = hostname_of(name)
    if found is None or not (is_address(found) or _HOST_NAME.fullmatch(found)):
        msg = f"resumable serve: --allow-host {one_line(text)[:80]} is no host name, such as hub.example.org"
        raise UsageError(msg)
    return found


async def serve(
    arguments: Arguments,
    console: Console,
    make_manager: Callable[..., DownloadManager],
    note_health: Callable[[HealthEvent], None],
) -> Ended:
    """Run until SIGINT, SIGTERM or SIGHUP; everything received is kept."""
    access = access_of(arguments)
    sockets = bind(arguments.host, arguments.port)
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[signal.Signals] = loop.create_future()

    def stop(number: signal.Signals) -> None:
        if not stopped.done():
            stopped.set_result(number)

    hubs: list[Hub] = []

    def hear(event: DownloadEvent) -> None:
        for hub in hubs:
            hub.hear(event)

    with StopSignals(lambda number: _hand_over(loop, stop, number)):
        async with make_manager(**settings(arguments), on_event=hear, on_health=note_health) as manager:
            hub = Hub(manager, access=access, root=arguments.directory or ".", redis=arguments.redis)
            app = web.Application()
            hub.attach(app, prefix=arguments.prefix)
            runner = web.AppRunner(
                app, access_log=None, handle_signals=False, shutdown_timeout=0.1, keepalive_timeout=IDLE_S
            )
            await runner.setup()
            hubs.append(hub)
            try:
                for listening in sockets:
                    await web.SockSite(runner, listening, backlog=256).start()
                _announce(arguments, console, access, sockets[0])
                if arguments.every:
                    await manager.recover()
                number = await stopped
            finally:
                hubs.clear()
                await runner.cleanup()
    return Ended(128 + number, number)


def _hand_over(loop: asyncio.AbstractEventLoop, stop: Callable[[signal.Signals], None], number: signal.Signals) -> None:
    loop.call_soon_threadsafe(stop, number)


def bind(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets for an address; raise UsageError naming what is in the way."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        msg = f"resumable serve: {host} is no address of this machine ({error})"
        raise UsageError(msg) from None
    sockets: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        listening = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(address if port or not sockets else (address[0], sockets[0].getsockname()[1], *address[2:]))
        except OSError as error:
            listening.close()
            if error.errno == errno.EADDRNOTAVAIL and sockets:
                continue
            for other in sockets:
                other.close()
            raise UsageError(_why_not(host, port, error)) from None
        listening.setblocking(False)  # noqa: FBT003
        sockets.append(listening)
    return sockets


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"resumable serve: port {port} of {host} is in use, perhaps by another resumable serve; give --port"
    if error.errno == errno.EACCES:
        return f"resumable serve: this user may not listen on port {port}; give --port above 1023"
    return f"resumable serve: cannot listen on {host} port {port}: {error.strerror}"


def _announce(arguments: Arguments, console: Console, access: Access, listening: socket.socket) -> None:
    """Print the address once, with the token in the fragment: it goes into no log of a server or proxy."""
    host, port = listening.getsockname()[:2]
    shown = "127.0.0.1" if host in {"0.0.0.0", "::"} else f"[{host}]" if ":" in host else host  # noqa: S104
    path = f"/{arguments.prefix.strip('/')}/" if arguments.prefix.strip("/") else "/"
    url = f"http://{shown}:{port}{path}"
    opened = url if access.token is None else f"{url}#token={quote(access.token, safe='')}"
    if arguments.json:
        record: dict[str, Any] = {"event": "serving", "url": url, "open": opened, "pid": os.getpid()}
        console.results.line(dump(record))
    else:
        console.results.line(opened)
    if not arguments.quiet:
        folder = one_line(os.path.abspath(arguments.directory or "."))
        console.notes.line(f"Serving {one_line(url)}; new downloads go below {folder}. Ctrl-C ends it.")
