"""What is logged of each HTTP request, for whoever has to find out why a download does what it does: what was asked,
what the answer promised, what came.

One logger, ``resumable.requests``, at DEBUG: the command's ``-v`` turns it on. No secret gets in: of the caller's
headers it has the names, of links what ``redact`` leaves.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from resumable.redact import one_line, redact_text, redact_url

if TYPE_CHECKING:  # the command looks at this module before it loads aiohttp
    from resumable.body import Answer
    from resumable.errors import OriginError

__all__ = ["REQUESTS", "RequestLog"]

REQUESTS: Final = "resumable.requests"
_LONGEST: Final = 200
"""Characters of a header's value; a server may send 32 KiB."""
_ASKED: Final = ("range", "if-range")
_TOLD: Final = (
    "content-range", "content-length", "transfer-encoding", "content-encoding", "content-type", "accept-ranges", "etag",
    "last-modified", "repr-digest", "content-digest", "x-linked-etag", "retry-after", "age", "via", "server",
)  # fmt: skip
_USUAL: Final = frozenset({"user-agent", "accept-encoding", "cache-control", *_ASKED})

_log = logging.getLogger(REQUESTS)
_numbers = itertools.count(1)


class RequestLog:
    """Of one request, a hop of a redirect being one of its own; ``answer`` is set once the head is there."""

    __slots__ = ("_begun", "_number", "answer")

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        """Log what is asked; ``url`` and the headers' values may hold secrets."""
        self.answer: Answer | None = None
        self._begun = time.monotonic()
        self._number = next(_numbers) if _log.isEnabledFor(logging.DEBUG) else 0
        if self._number:
            fields = {name.lower(): value for name, value in headers.items()}
            others = ", ".join(sorted(fields.keys() - _USUAL))
            self._say(f"GET {redact_url(url)}{_shown(fields, _ASKED, others and f'with {others}')}")

    def answered(self, answer: Answer) -> None:
        """Log the head of an answer."""
        self.answer = answer
        if self._number:
            hop = answer.headers.get("location")
            to = "" if hop is None else f" to {redact_url(hop)}"
            self._say(f"{answer.status}{to} after {self._seconds()}{_shown(answer.headers, _TOLD)}")

    def refused(self, error: OriginError) -> None:
        """Log that there was no answer."""
        if self._number:
            self._say(f"no answer after {self._seconds()}: {redact_text(str(error))}")

    def ended(self) -> None:
        """Log how much of the body has come; nothing where there was no answer, or none with a body."""
        if self._number and self.answer is not None and self.answer.promised != 0:
            received, promised = self.answer.received, self.answer.promised
            of = "" if promised in {None, received} else f" of {promised}"
            self._say(f"{received}{of} bytes in {self._seconds()}")

    def _seconds(self) -> str:
        return f"{time.monotonic() - self._begun:.3f} s"

    def _say(self, text: str) -> None:
        _log.debug("request %d: %s", self._number, text)


def _shown(headers: Mapping[str, str], names: tuple[str, ...], also: str = "") -> str:
    found = [f"{name}: {one_line(headers[name][:_LONGEST])}" for name in names if name in headers]
    words = "; ".join([*found, *([also] if also else [])])
    return f" ({words})" if words else ""
