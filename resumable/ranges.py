"""Byte spans and the ``Content-Range`` header.

Inside the program a span is half-open, ``[start, stop)``; on the wire a range is inclusive. This is the only file that
adds or subtracts one (RFC 9110 section 14).
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

MAX_LENGTH: Final = 2**63 - 1
"""Largest complete-length accepted: what ``off_t`` can address. Anything larger is a lie or an attack."""

# Digits are bounded and ASCII: \d takes other alphabets, and int() raises above 4,300 digits.
_CONTENT_RANGE: Final = re.compile(r"bytes[ ]+([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", re.IGNORECASE)
_UNSATISFIED: Final = re.compile(r"bytes[ ]+\*/([0-9]{1,19})", re.IGNORECASE)


class Span(Struct, frozen=True, order=True):
    """A half-open span of bytes, ``[start, stop)``; both are offsets in bytes from the start of the representation."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        """Raise ValueError unless ``0 <= start <= stop <= MAX_LENGTH``."""
        if not 0 <= self.start <= self.stop <= MAX_LENGTH:
            msg = f"not a span: [{self.start}, {self.stop})"
            raise ValueError(msg)

    @property
    def length(self) -> int:
        """Number of bytes in the span."""
        return self.stop - self.start

    def __contains__(self, offset: int) -> bool:
        """Whether the byte at ``offset`` lies in the span."""
        return self.start <= offset < self.stop

    def covers(self, other: Span) -> bool:
        """Whether every byte of ``other`` lies in this span."""
        return self.start <= other.start and other.stop <= self.stop

    def clip(self, other: Span) -> Span | None:
        """Return the part of this span that lies in ``other``, or None where they do not meet."""
        start, stop = max(self.start, other.start), min(self.stop, other.stop)
        return Span(start, stop) if start < stop else None

    def __str__(self) -> str:
        """Return the half-open form, as logs show it."""
        return f"[{self.start}, {self.stop})"


def range_header(start: int, stop: int | None) -> str:
    """Return the value of a ``Range`` header for ``[start, stop)``; an open end where ``stop`` is None (RFC 9110
    14.1.2).
    """
    if stop is None:
        return f"bytes={start}-"
    if stop <= start:
        msg = f"a range needs at least one byte: [{start}, {stop})"
        raise ValueError(msg)
    return f"bytes={start}-{stop - 1}"


class ContentRange(Struct, frozen=True):
    """A parsed ``Content-Range``: the span it encloses and the complete-length, None where the origin said ``*``."""

    span: Span
    complete_length: int | None


def parse_content_range(value: str) -> ContentRange | None:
    """Parse ``bytes 0-9/1000`` (RFC 9110 14.4); None where the value is invalid and so MUST NOT be recombined."""
    match = _CONTENT_RANGE.fullmatch(value.strip())
    if match is None:
        return None
    first, last = int(match[1]), int(match[2])
    complete = None if match[3] == "*" else int(match[3])
    if last < first or last >= MAX_LENGTH or (complete is not None and not last < complete <= MAX_LENGTH):
        return None
    return ContentRange(Span(first, last + 1), complete)


def parse_unsatisfied_range(value: str) -> int | None:
    """Parse the ``bytes */1000`` of a 416 (RFC 9110 14.4) and return the complete-length, or None where it is
    invalid.
    """
    match = _UNSATISFIED.fullmatch(value.strip())
    if match is None or int(match[1]) > MAX_LENGTH:
        return None
    return int(match[1])
