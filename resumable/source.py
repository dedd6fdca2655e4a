"""Where a representation can be fetched from: the link as given, the link a redirect led to, and a way to a fresh one.

A redirect's target is remembered and asked directly until it is refused (signed links expire); then the link as given
is asked again, once for all connections and outside the retry budget (agency-lang#1035, aria2#2197).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from resumable.model import Options
from resumable.ports import Fetch, Response
from resumable.redact import redact_url
from resumable.validators import Representation

MAYBE_EXPIRED: Final = frozenset({400, 401, 403, 404, 410})
"""What signed links answer once they are too old: S3 says 400 or 403, others 401, 404 or 410
(research/downloaders.md 4.40).
"""

_PORTS: Final = {"http": 80, "https": 443}


@dataclass(slots=True, eq=False)
class Source:
    """One link, with the redirect target it last led to."""

    url: str = field(repr=False)
    private_headers: Mapping[str, str] = field(repr=False)
    refresh_url: Callable[[], Awaitable[str]] | None = None
    representation: Representation | None = None
    """Identity as this source states it; validators of two sources are never compared with each other."""
    resolved: str | None = field(default=None, repr=False)
    generation: int = 0
    """Rises each time the link was renewed or the target forgotten, so that only one of many refused connections
    does it.
    """
    refreshed_at_durable: int = -1
    unfit: bool = False
    """Whether this mirror has turned out to serve another file."""
    ranges_proved: bool = True
    """False where there is reason to doubt it: until a range has shown that it holds what it is labelled with."""
    link: str = ""
    """Identity of the link as given, without its secrets (``identity.link_of``); a fresh link for it is the same."""
    _home: str = field(default="", repr=False)
    _strayed: str | None = field(default=None, repr=False)
    """An address of another origin on the way to ``resolved``, where it is of the link's own origin again."""
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    @property
    def shown(self) -> str:
        """The link without secrets, for messages."""
        return redact_url(self.url)

    @property
    def origin(self) -> str:
        """Scheme, host and port of the link as given (RFC 9110 4.3.1): the name of its gate, without secrets."""
        return origin_of(self.url)

    def request(self, headers: Mapping[str, str], options: Options) -> Fetch:
        """Return the GET that asks this source, by the remembered target where there is one.

        Secrets that were withheld from the target, because the way to it led over another origin, stay withheld.
        """
        strayed = None if self.resolved is None else self._strayed
        return Fetch(
            url=self.resolved or self.url,
            headers=headers,
            private_headers=self.private_headers,
            private_origin=strayed or self.url,
            connect_timeout_s=options.connect_timeout_s,
            stall_timeout_s=options.stall_timeout_s,
            min_rate=options.min_rate,
            max_redirects=options.max_redirects,
        )

    def remember(self, response: Response) -> None:
        """Remember where redirects led, after an answer that could be used."""
        if not response.hops:
            return
        if self.resolved is None:
            self._home, self._strayed = origin_of(response.hops[0].url), None
        strayed = [hop.url for hop in response.hops if origin_of(hop.url) != self._home]
        self._strayed = self._strayed or next(iter(strayed), None)
        self.resolved = response.url

    def relink(self, url: str, link: str = "") -> None:
        """Use another link, with this identity, from the next request on."""
        self.url, self.link = url, link
        self.resolved = None
        self.generation += 1

    async def renew(self, generation: int, *, durable: int) -> bool:
        """After a refusal seen under ``generation``: forget the target, or ask for a fresh link; False where neither
        is left.

        A fresh link is given at most once without durable progress, so a resolver that returns dead links cannot
        loop. Raises what the resolver raises; a later attempt asks it again.
        """
        async with self._lock:
            if self.generation != generation:
                return True
            if self.resolved is not None:
                self.resolved = None
                self.generation += 1
                return True
            if self.refresh_url is None or self.refreshed_at_durable >= durable:
                return False
            self.url = await self.refresh_url()
            self.refreshed_at_durable = durable
            self.generation += 1
            return True


def origin_of(url: str) -> str:
    """Return scheme, host and port of an address (RFC 9110 4.3.1), without secrets."""
    parts = urlsplit(url)
    try:
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:  # a fresh link that is none; the transport will say so
        port = None
    return f"{parts.scheme}://{parts.hostname or ''}:{port or ''}"
