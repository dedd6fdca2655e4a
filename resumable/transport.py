"""Makes HTTP requests with aiohttp: each hop is sent once, redirects go by our rules, bodies come as they are.

It is not a client with opinions: it does not retry, decode, keep cookies, or judge a status. What aiohttp raises is
translated in ``transport_errors``; which hop comes next and what it may be told is decided in ``redirects``.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

import aiohttp
from aiohttp.client_middlewares import ClientHandlerType
from multidict import CIMultiDict
from yarl import URL

from resumable import __version__
from resumable.body import Answer
from resumable.certificates import tls_context
from resumable.connections import CleanConnector, HeadClock, head_clock
from resumable.credentials import Secrets, Told, origin
from resumable.errors import ConnectFailed, OriginError, RedirectRefused
from resumable.netrc_file import netrc_authorization
from resumable.ports import Fetch, Hop, Response
from resumable.preconnect import Preconnect
from resumable.proxies import Proxy, proxy_for
from resumable.redact import redact_url
from resumable.redirects import location, next_hop, parse_url
from resumable.requestlog import RequestLog
from resumable.transport_errors import FOREIGN, SentOnce, no_answer, no_connection, no_head

_READ_BUFFER: Final = 256 * 1024
"""asyncio hands over at most 256 KiB at a time; aiohttp stops reading from the socket above twice this value."""
_MOST_HEADERS: Final = 256
_LONGEST_HEADER: Final = 32 * 1024
"""aiohttp's 8,190 is too little for signed links in ``Location``; the product bounds a head's memory at 8 MiB."""


class AiohttpTransport:
    """The real ``Transport``. One instance serves one event loop at a time; after a fork it starts afresh."""

    def __init__(
        self,
        *,
        per_host: int = 16,
        ca_file: str | Path | None = None,
        trust_env: bool = True,
        allow_address: Callable[[str], bool] | None = None,
        user_agent: str = f"resumable-downloads/{__version__}",
        environ: Mapping[str, str] = os.environ,
        preconnect: Preconnect | None = None,
    ) -> None:
        """Open nothing yet.

        ``per_host`` bounds the connections in use to one origin; more wait their turn. ``ca_file`` is trusted besides
        the system's certificates (``SSL_CERT_FILE`` names those). ``trust_env`` reads proxies and netrc.
        ``allow_address`` is asked about each IP address before it is connected (``addresses.public_only`` is one);
        while it is set no proxy of the environment is used, because then the proxy would choose the address.
        ``preconnect`` holds connections that were begun before, and is closed with this.
        """
        self._per_host = per_host
        self._ca_file = ca_file
        self._environ = environ if trust_env else {}
        self._trust_env = trust_env
        self._allow_address = allow_address
        self._user_agent = user_agent
        self._preconnect = preconnect
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._abandoned: list[aiohttp.ClientSession] = []
        self._tls: ssl.SSLContext | None = None
        self._netrc: dict[str, str | None] = {}
        self._slots: WeakValueDictionary[tuple[str, str, int], asyncio.Semaphore] = WeakValueDictionary()

    async def close(self) -> None:
        """Close every connection; a later ``fetch`` opens new ones."""
        if self._preconnect is not None:
            self._preconnect.close()
        session, self._session, self._home = self._session, None, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def fetch(self, request: Fetch) -> AsyncIterator[Response]:
        """Send the GET, follow redirects, and yield the final answer; see ``ports.Transport.fetch``."""
        url, secrets = _first(request)
        hops: list[Hop] = []
        visited = {str(url)}
        while True:
            async with self._slot(url):
                headers = await self._headers(request, secrets.tell(url), url)
                noted = RequestLog(str(url), headers)
                try:
                    raw = await self._send(request, url, headers, hop=len(hops))
                except OriginError as error:
                    noted.refused(error)
                    raise
                answer = Answer(raw, str(url), hops, request)
                noted.answered(answer)
                try:
                    answer.check_framing()
                    where = location(raw.status, answer.headers)
                    if where is None:
                        yield answer
                        return
                    await answer.discard()
                finally:
                    answer.close()
                    noted.ended()
            hops.append(Hop(answer.url, answer.status, answer.headers))
            url = next_hop(url, where, visited, most=request.max_redirects)
            visited.add(str(url))

    def _slot(self, url: URL) -> asyncio.Semaphore:
        key = origin(url)
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = asyncio.Semaphore(self._per_host)
        return slot

    async def _headers(self, request: Fetch, told: Told, url: URL) -> CIMultiDict[str]:
        headers: CIMultiDict[str] = CIMultiDict({"User-Agent": self._user_agent})
        headers.update(told.headers)
        headers.update(request.headers)
        if told.netrc and self._trust_env:
            host = url.raw_host or ""
            if host not in self._netrc:
                self._netrc[host] = await asyncio.to_thread(netrc_authorization, host, self._environ)
            login = self._netrc[host]
            if login is not None:
                headers["Authorization"] = login
        return headers

    async def _send(self, request: Fetch, url: URL, headers: CIMultiDict[str], *, hop: int) -> aiohttp.ClientResponse:
        host = url.raw_host or ""
        session, proxy = self._session_here(), self._proxy(url)
        clock = HeadClock(request.stall_timeout_s)
        failure: OriginError
        token = head_clock.set(clock)
        try:
            async with asyncio.timeout(request.connect_timeout_s) as clock.limit:
                tls = await self._tls_for(url, proxy)
                options = _options(url, headers, proxy)
                return await session.request("GET", url, ssl=tls, **options)
        except TimeoutError:
            if clock.connected:
                failure = no_head(request.stall_timeout_s, url=redact_url(str(url)))
            else:
                failure = no_connection(request.connect_timeout_s, host, url=redact_url(str(url)))
        except (*FOREIGN, SentOnce) as error:
            failure = no_answer(error, host, url=redact_url(str(url)), hop=hop)
        finally:
            head_clock.reset(token)
        # Outside the handlers: what aiohttp raised may quote a signed URL and must not hang on as ``__context__``.
        raise failure

    def _proxy(self, url: URL) -> Proxy | None:
        try:
            return None if self._allow_address is not None else proxy_for(url, self._environ)
        except ValueError as error:
            raise ConnectFailed(str(error), url=redact_url(str(url))) from error

    def _session_here(self) -> aiohttp.ClientSession:
        home = (os.getpid(), asyncio.get_running_loop())
        if self._session is None or self._home != home:
            self._leave()
            self._session, self._home = self._new_session(), home
        return self._session

    def _leave(self) -> None:
        """Give up a session made in a loop that is closed, or before a fork."""
        if self._session is None or self._home is None:
            return
        pid, loop = self._home
        if pid != os.getpid():
            # The parent's sockets and epoll: even a finaliser that closes them here would break them there.
            self._abandoned.append(self._session)
        elif not loop.is_closed():
            msg = "this transport is in use by another event loop"
            raise RuntimeError(msg)
        self._slots.clear()

    def _new_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=CleanConnector(allow_address=self._allow_address, preconnect=self._preconnect),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(),  # none of aiohttp's: its read timeout sets one timer per block
            skip_auto_headers=("Accept-Encoding",),
            auto_decompress=False,
            trust_env=False,
            middlewares=(_send_once,),
            read_bufsize=_READ_BUFFER,
            max_line_size=_LONGEST_HEADER,
            max_field_size=_LONGEST_HEADER,
            max_headers=_MOST_HEADERS,
        )

    async def _tls_for(self, url: URL, proxy: Proxy | None) -> ssl.SSLContext | bool:
        if url.scheme != "https" and (proxy is None or proxy.url.scheme != "https"):
            return True
        if self._tls is None:
            made = await asyncio.to_thread(self._new_tls)
            self._tls = self._tls or made  # one context for all: connections are pooled by it
        return self._tls

    def _new_tls(self) -> ssl.SSLContext:
        made = None if self._preconnect is None or self._ca_file is not None else self._preconnect.tls()
        return made or tls_context(self._ca_file)


async def _send_once(request: aiohttp.ClientRequest, handler: ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending again: on a reused connection it repeats a GET by itself when the connection breaks."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        failure = error
    raise SentOnce(failure)


def _first(request: Fetch) -> tuple[URL, Secrets]:
    try:
        url = parse_url(request.url)
        private = url if request.private_origin == request.url else parse_url(request.private_origin)
    except ValueError:
        url = None
    if url is None:
        msg = "the address is not one that can be asked: it needs http or https and a host"
        raise RedirectRefused(msg, url=redact_url(request.url))
    return url.with_user(None), Secrets(url, private, request.private_headers)


def _options(url: URL, headers: CIMultiDict[str], proxy: Proxy | None) -> dict[str, Any]:
    tunnel: dict[str, str] = {}
    if proxy is not None and proxy.authorization is not None:
        # A tunnel is asked for with its own headers; without one the proxy reads the request's.
        (headers if url.scheme == "http" else tunnel)["Proxy-Authorization"] = proxy.authorization
    return {
        "headers": headers,
        "allow_redirects": False,
        "proxy": None if proxy is None else proxy.url,
        "proxy_headers": tunnel or None,
    }
