"""What tables of answers' heads are written with: what was asked, what is known, and what a head means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resumable.errors import Fault
from resumable.ranges import Span
from resumable.response import (
    Accept,
    Decision,
    Expected,
    Reject,
    RejectKind,
)
from resumable.validators import ETag, Representation

MONDAY = "Mon, 06 Nov 2023 08:49:37 GMT"

TUESDAY = "Tue, 07 Nov 2023 08:49:37 GMT"

A = ETag('"a"')

B = ETag('"b"')

KNOWN = Representation(etag=A, complete_length=1000, content_type="application/octet-stream")

UNTAGGED = Representation(complete_length=1000)

DATED = Representation(last_modified=MONDAY, last_modified_strong=True, complete_length=1000)

FIRST = Expected()

FIRST_EXTENT = Expected(0, 100)

MIDDLE = Expected(100, 200, KNOWN)

TAIL = Expected(100, None, KNOWN)

WHOLE = Expected(ranged=False)


def protocol(fault: Fault, status: int = 206) -> Reject:
    """Return the refusal for a broken rule."""
    return Reject(fault, status, RejectKind.PROTOCOL)


def status_only(status: int) -> Reject:
    """Return the refusal that the status itself is."""
    return Reject(None, status, RejectKind.STATUS)


def page(status: int) -> Reject:
    """Return the refusal of a web page."""
    return Reject(None, status, RejectKind.WEB_PAGE)


def part(start: int, stop: int, *, known: Representation = KNOWN, **more: Any) -> Accept:
    """Return what is accepted of a part of the known representation, confirmed by its tag."""
    fields = {"body_length": stop - start, "confirmed": True, **more}
    return Accept(Span(start, stop), known.complete_length, known, ranged=True, **fields)


@dataclass(frozen=True)
class Row:
    """One head, what was asked for, and what it means."""

    case: str
    """Number in the catalogue of edge cases, or the clause."""
    why: str
    asked: Expected
    status: int
    headers: Mapping[str, str]
    decision: Decision


OK = '"a"'
