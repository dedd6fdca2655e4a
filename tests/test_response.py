"""The head of an answer, decided clause by clause; the numbers are the edge cases of the project's catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from resumable.errors import Fault
from resumable.mediatype import is_page, may_be_page, stored_encoded
from resumable.ranges import MAX_LENGTH, Span
from resumable.response import (
    MAX_LEAD,
    Accept,
    Changed,
    Decision,
    Expected,
    Ignored,
    NothingLeft,
    Reject,
    RejectKind,
    content_length,
    interpret,
    request_headers,
)
from resumable.validators import ETag, Representation, differs

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
PLACED = [
    Row(
        "1",
        "The asked range goes where Content-Range says.",
        MIDDLE,
        206,
        {"content-range": "bytes 100-199/1000", "etag": OK},
        part(100, 200),
    ),
    Row(
        "1",
        "The tail that was asked for without an end.",
        TAIL,
        206,
        {"content-range": "bytes 100-999/1000", "etag": OK},
        part(100, 1000),
    ),
    Row(
        "1",
        "A first answer tells the length and the identity.",
        FIRST_EXTENT,
        206,
        {
            "content-range": "bytes 0-99/1000",
            "content-length": "100",
            "etag": OK,
            "content-type": "application/octet-stream",
        },
        Accept(Span(0, 100), 1000, KNOWN, ranged=True, body_length=100),
    ),
    Row(
        "2",
        "A part that begins earlier holds the asked one: its lead is skipped.",
        MIDDLE,
        206,
        {"content-range": "bytes 90-199/1000", "etag": OK},
        part(100, 200, skip=10, body_length=110),
    ),
    Row(
        "2",
        "A part that begins too late holds nothing of use at its start.",
        MIDDLE,
        206,
        {"content-range": "bytes 150-199/1000", "etag": OK},
        protocol(Fault.WRONG_RANGE),
    ),
    Row(
        "2",
        "A part that ends before the asked offset holds nothing of use at all.",
        MIDDLE,
        206,
        {"content-range": "bytes 0-99/1000", "etag": OK},
        protocol(Fault.WRONG_RANGE),
    ),
    Row(
        "3",
        "The server stops early, which is legal: keep it and ask for the rest.",
        MIDDLE,
        206,
        {"content-range": "bytes 100-149/1000", "etag": OK},
        part(100, 150),
    ),
    Row(
        "4",
        "A part that goes further is read only as far as asked.",
        MIDDLE,
        206,
        {"content-range": "bytes 100-299/1000", "etag": OK},
        part(100, 200, body_length=200),
    ),
    Row(
        "4",
        "A part around the asked one is skipped into and cut off.",
        MIDDLE,
        206,
        {"content-range": "bytes 50-999/1000", "etag": OK},
        part(100, 200, skip=50, body_length=950),
    ),
    Row(
        "4",
        "More bytes announced than Content-Range places: a whole body behind an echo of the request.",
        MIDDLE,
        206,
        {"content-range": "bytes 100-199/1000", "content-length": "1000", "etag": OK},
        protocol(Fault.BAD_LENGTH),
    ),
    Row(
        "4",
        "Fewer bytes announced than Content-Range places: nobody knows which.",
        MIDDLE,
        206,
        {"content-range": "bytes 100-199/1000", "content-length": "50", "etag": OK},
        protocol(Fault.BAD_LENGTH),
    ),
    Row(
        "5",
        "The total is another: the content has changed.",
        MIDDLE,
        206,
        {"content-range": "bytes 100-199/1001", "etag": OK},
        Changed("size 1000 -> 1001", Representation(etag=A, complete_length=1001)),
    ),
    Row(
        "6",
        "The total is not said this time: the known one stays.",
        MIDDLE,
        206,
        {"content-range": "bytes 100-199/*", "etag": OK},
        part(100, 200),
    ),
    Row(
        "6",
        "The total is never said: it stays unknown.",
        FIRST_EXTENT,
        206,
        {"content-range": "bytes 0-99/*", "etag": OK},
        Accept(Span(0, 100), None, Representation(etag=A), ranged=True, body_length=100),
    ),
    Row(
        "6",
        "The total is not said, but the part lies beyond the known end: it has grown.",
        Expected(900, 1100, KNOWN),
        206,
        {"content-range": "bytes 900-1099/*", "etag": OK},
        Changed("size 1000 -> at least 1100", Representation(etag=A)),
    ),
    Row("7", "A 206 without Content-Range.", MIDDLE, 206, {"etag": OK}, protocol(Fault.NO_CONTENT_RANGE)),
    Row(
        "7",
        "An empty Content-Range is none.",
        MIDDLE,
        206,
        {"etag": OK, "content-range": " "},
        protocol(Fault.NO_CONTENT_RANGE),
    ),
    Row(
        "7",
        "Two Content-Range fields, even equal ones.",
        MIDDLE,
        206,
        {"content-range": "bytes 100-199/1000, bytes 100-199/1000", "etag": OK},
        protocol(Fault.BAD_CONTENT_RANGE),
    ),
    Row(
        "7",
        "The last byte before the first.",
        MIDDLE,
        206,
        {"content-range": "bytes 199-100/1000", "etag": OK},
        protocol(Fault.BAD_CONTENT_RANGE),
    ),
    Row(
        "7",
        "The last byte beyond the total.",
        MIDDLE,
        206,
        {"content-range": "bytes 100-199/150", "etag": OK},
        protocol(Fault.BAD_CONTENT_RANGE),
    ),
    Row(
        "8",
        "Lax: no unit.",
        MIDDLE,
        206,
        {"content-range": "100-199/1000", "etag": OK},
        protocol(Fault.BAD_CONTENT_RANGE),
    ),
    Row(
        "8",
        "Lax: an equals sign.",
        MIDDLE,
        206,
        {"content-range": "bytes=100-199/1000", "etag": OK},
        protocol(Fault.BAD_CONTENT_RANGE),
    ),
    Row(
        "8",
        "Lax: a colon.",
        MIDDLE,
        206,
        {"content-range": "bytes: 100-199/1000", "etag": OK},
        protocol(Fault.BAD_CONTENT_RANGE),
    ),
    Row(
        "9",
        "An envelope of parts for one range is refused, never written.",
        Expected(100, 200, UNTAGGED),
        206,
        {"content-type": "multipart/byteranges; boundary=x", "etag": OK},
        protocol(Fault.MULTIPART),
    ),
    Row(
        "9",
        "An envelope of a changed file is a change first.",
        MIDDLE,
        206,
        {"content-type": "multipart/byteranges; boundary=x", "etag": '"b"'},
        Changed('etag "a" -> "b"', Representation(etag=B, content_type="multipart/byteranges")),
    ),
    Row(
        "15.3.7",
        "A part, though no range was asked for.",
        WHOLE,
        206,
        {"content-range": "bytes 0-999/1000", "etag": OK},
        protocol(Fault.WRONG_RANGE),
    ),
    Row(
        "2",
        "A lead of exactly the limit is skipped.",
        Expected(MAX_LEAD, None, Representation(etag=A, complete_length=MAX_LEAD * 3)),
        206,
        {"content-range": f"bytes 0-{MAX_LEAD * 3 - 1}/{MAX_LEAD * 3}", "etag": OK},
        Accept(
            Span(MAX_LEAD, MAX_LEAD * 3),
            MAX_LEAD * 3,
            Representation(etag=A, complete_length=MAX_LEAD * 3),
            ranged=True,
            skip=MAX_LEAD,
            body_length=MAX_LEAD * 3,
            confirmed=True,
        ),
    ),
    Row(
        "2",
        "The whole file labelled as a part is an ignored range.",
        Expected(MAX_LEAD + 1, None, Representation(etag=A, complete_length=MAX_LEAD * 3)),
        206,
        {"content-range": f"bytes 0-{MAX_LEAD * 3 - 1}/{MAX_LEAD * 3}", "etag": OK},
        Ignored(
            MAX_LEAD * 3, Representation(etag=A, complete_length=MAX_LEAD * 3), confirmed=True, body_length=MAX_LEAD * 3
        ),
    ),
    Row(
        "2",
        "A long lead before a part that is not the whole costs more than asking again.",
        Expected(MAX_LEAD + 1, None, Representation(etag=A, complete_length=MAX_LEAD * 3)),
        206,
        {"content-range": f"bytes 0-{MAX_LEAD * 2 - 1}/{MAX_LEAD * 3}", "etag": OK},
        protocol(Fault.WRONG_RANGE),
    ),
    Row(
        "2",
        "Nor does a long lead from the middle.",
        Expected(MAX_LEAD + 2, None, Representation(etag=A, complete_length=MAX_LEAD * 3)),
        206,
        {"content-range": f"bytes 1-{MAX_LEAD * 3 - 1}/{MAX_LEAD * 3}", "etag": OK},
        protocol(Fault.WRONG_RANGE),
    ),
]

IGNORED = [
    Row(
        "10",
        "The range is ignored and the tag is the same: the whole body comes from byte 0.",
        MIDDLE,
        200,
        {"content-length": "1000", "etag": OK},
        Ignored(1000, KNOWN, confirmed=True, body_length=1000),
    ),
    Row(
        "10",
        "The range is ignored, be it only one byte that was to be left out.",
        Expected(1, None, KNOWN),
        200,
        {"content-length": "1000", "etag": OK},
        Ignored(1000, KNOWN, confirmed=True, body_length=1000),
    ),
    Row(
        "10",
        "The range is ignored and nothing says whether it is the same file.",
        Expected(100, None, UNTAGGED),
        200,
        {"content-length": "1000"},
        Ignored(1000, UNTAGGED, body_length=1000),
    ),
    Row(
        "10",
        "The range is ignored and no length is said either.",
        MIDDLE,
        200,
        {"transfer-encoding": "chunked", "etag": OK},
        Ignored(1000, KNOWN, confirmed=True),
    ),
    Row(
        "10",
        "If-Range failed: the content has changed.",
        MIDDLE,
        200,
        {"content-length": "1000", "etag": '"b"'},
        Changed('etag "a" -> "b"', Representation(etag=B, complete_length=1000)),
    ),
    Row(
        "10",
        "The whole body has another length.",
        MIDDLE,
        200,
        {"content-length": "999"},
        Changed("size 1000 -> 999", Representation(complete_length=999)),
    ),
    Row(
        "11",
        "The first ranged request is answered with everything: that body is the file.",
        FIRST_EXTENT,
        200,
        {"content-length": "1000", "etag": OK, "content-type": "application/octet-stream"},
        Accept(Span(0, 1000), 1000, KNOWN, ranged=False, body_length=1000),
    ),
    Row(
        "11",
        "A damaged first chunk is asked for again and everything comes.",
        Expected(0, 100, KNOWN),
        200,
        {"content-length": "1000", "etag": OK},
        Accept(Span(0, 1000), 1000, KNOWN, ranged=False, body_length=1000, confirmed=True),
    ),
    Row(
        "12",
        "Accept-Ranges: none on the first answer: one stream, as with any 200.",
        FIRST,
        200,
        {"content-length": "1000", "accept-ranges": "none"},
        Accept(Span(0, 1000), 1000, UNTAGGED, ranged=False, body_length=1000),
    ),
    Row(
        "12",
        "Accept-Ranges: none beside a sound 206: what is done counts, not what is said.",
        MIDDLE,
        206,
        {"content-range": "bytes 100-199/1000", "etag": OK, "accept-ranges": "none"},
        part(100, 200),
    ),
    Row(
        "13, 14",
        "Another node ignores the range after the first honoured it: decided by this answer alone.",
        TAIL,
        200,
        {"content-length": "1000", "etag": OK, "accept-ranges": "bytes"},
        Ignored(1000, KNOWN, confirmed=True, body_length=1000),
    ),
    Row(
        "15",
        "An empty file is all of it.",
        FIRST,
        200,
        {"content-length": "0"},
        Accept(Span(0, 0), 0, Representation(complete_length=0), ranged=False, body_length=0),
    ),
    Row(
        "15",
        "An empty file has no range to give.",
        FIRST,
        416,
        {"content-range": "bytes */0"},
        NothingLeft(0, Representation(complete_length=0)),
    ),
    Row(
        "15",
        "A file that is empty now was not before.",
        Expected(0, 100, KNOWN),
        200,
        {"content-length": "0", "etag": OK},
        Changed("size 1000 -> 0", Representation(etag=A, complete_length=0)),
    ),
    Row(
        "14.4",
        "Content-Range in a 200 has no meaning.",
        FIRST,
        200,
        {"content-length": "1000", "content-range": "bytes 100-199/1000"},
        Accept(Span(0, 1000), 1000, UNTAGGED, ranged=False, body_length=1000),
    ),
    Row(
        "15.3.1",
        "The whole is asked for and comes.",
        Expected(0, None, KNOWN, ranged=False),
        200,
        {"content-length": "1000", "etag": OK},
        Accept(Span(0, 1000), 1000, KNOWN, ranged=False, body_length=1000, confirmed=True),
    ),
]

UNSATISFIED = [
    Row(
        "16",
        "Nothing is left, because everything is there: verify.",
        Expected(1000, None, KNOWN),
        416,
        {"content-range": "bytes */1000"},
        NothingLeft(1000, KNOWN),
    ),
    Row(
        "16",
        "Nothing is left of a file whose length was not known.",
        Expected(1000),
        416,
        {"content-range": "bytes */1000"},
        NothingLeft(1000, UNTAGGED),
    ),
    Row(
        "16",
        "More is kept than the origin has.",
        Expected(1001),
        416,
        {"content-range": "bytes */1000"},
        Changed("size 1000, though byte 1001 was to follow", None),
    ),
    Row(
        "16",
        "The origin has another length than it had.",
        MIDDLE,
        416,
        {"content-range": "bytes */50"},
        Changed("size 1000 -> 50", None),
    ),
    Row(
        "16",
        "The origin denies a range that it has.",
        MIDDLE,
        416,
        {"content-range": "bytes */1000"},
        protocol(Fault.UNSATISFIABLE, 416),
    ),
    Row(
        "17",
        "A bare 416 where everything is there, by the recorded length.",
        Expected(1000, None, KNOWN),
        416,
        {},
        NothingLeft(1000, KNOWN),
    ),
    Row(
        "17",
        "A bare 416 where something is missing, by the recorded length.",
        MIDDLE,
        416,
        {},
        protocol(Fault.UNSATISFIABLE, 416),
    ),
    Row(
        "17",
        "A bare 416 and no length known (curl's test 1040).",
        Expected(100),
        416,
        {},
        protocol(Fault.UNSATISFIABLE, 416),
    ),
    Row(
        "17",
        "Starlette's 416 leaves out the unit: it tells nothing.",
        Expected(100),
        416,
        {"content-range": "*/100"},
        protocol(Fault.UNSATISFIABLE, 416),
    ),
    Row(
        "18",
        "A 416 to the very first request of a file that is not empty.",
        FIRST,
        416,
        {"content-range": "bytes */1000"},
        protocol(Fault.UNSATISFIABLE, 416),
    ),
    Row(
        "16",
        "The tag on a 416 may be the error page's.",
        Expected(1000, None, KNOWN),
        416,
        {"content-range": "bytes */1000", "etag": '"b"'},
        NothingLeft(1000, KNOWN),
    ),
    Row(
        "15.5.17",
        "A 416 though no range was asked for is a status like any other.",
        WHOLE,
        416,
        {"content-range": "bytes */1000"},
        status_only(416),
    ),
]

IDENTITY = [
    Row(
        "21",
        "The server ignores If-Range and answers 206 of another file.",
        MIDDLE,
        206,
        {"content-range": "bytes 100-199/1000", "etag": '"b"'},
        Changed('etag "a" -> "b"', Representation(etag=B, complete_length=1000)),
    ),
    Row(
        "21",
        "A change beats a malformed Content-Range.",
        MIDDLE,
        206,
        {"content-range": "nonsense", "etag": '"b"'},
        Changed('etag "a" -> "b"', Representation(etag=B)),
    ),
    Row(
        "22",
        "A strong date and the length confirm.",
        Expected(100, 200, DATED),
        206,
        {"content-range": "bytes 100-199/1000", "last-modified": MONDAY, "date": TUESDAY},
        part(100, 200, known=DATED),
    ),
    Row(
        "22",
        "A date within its own second does not contradict, and does not confirm.",
        Expected(100, 200, DATED),
        206,
        {"content-range": "bytes 100-199/1000", "last-modified": MONDAY, "date": MONDAY},
        part(100, 200, known=DATED, confirmed=False),
    ),
    Row(
        "22",
        "Another date.",
        Expected(100, 200, DATED),
        206,
        {"content-range": "bytes 100-199/1000", "last-modified": TUESDAY},
        Changed(f"last-modified {MONDAY} -> {TUESDAY}", Representation(last_modified=TUESDAY, complete_length=1000)),
    ),
    Row(
        "23",
        "No validator at all: the length agrees, the overlap must tell.",
        Expected(100, 200, UNTAGGED),
        206,
        {"content-range": "bytes 100-199/1000"},
        part(100, 200, known=UNTAGGED, confirmed=False),
    ),
    Row(
        "24",
        "Another tag at the same length is another file.",
        TAIL,
        206,
        {"content-range": "bytes 100-999/1000", "content-length": "900", "etag": '"b"'},
        Changed('etag "a" -> "b"', Representation(etag=B, complete_length=1000)),
    ),
    Row(
        "25",
        "Another node's tag, the same strong date and length: changed, but not certainly.",
        Expected(100, 200, replace(DATED, etag=A)),
        206,
        {"content-range": "bytes 100-199/1000", "etag": '"b"', "last-modified": MONDAY, "date": TUESDAY},
        Changed('etag "a" -> "b"', replace(DATED, etag=B), certain=False),
    ),
    Row(
        "25",
        "The same on a 200.",
        Expected(100, 200, replace(DATED, etag=A)),
        200,
        {"content-length": "1000", "etag": '"b"', "last-modified": MONDAY, "date": TUESDAY},
        Changed('etag "a" -> "b"', replace(DATED, etag=B), certain=False),
    ),
    Row(
        "25",
        "Apache's suffix is no change, and no proof either.",
        MIDDLE,
        206,
        {"content-range": "bytes 100-199/1000", "etag": '"a-gzip"'},
        part(100, 200, confirmed=False),
    ),
    Row(
        "25",
        "A node that leaves out the tag is no change.",
        MIDDLE,
        206,
        {"content-range": "bytes 100-199/1000"},
        part(100, 200, confirmed=False),
    ),
    Row(
        "28",
        "A failed precondition: the file has changed.",
        MIDDLE,
        412,
        {"etag": '"b"'},
        Changed("the server says that a precondition failed (412)", None),
    ),
    Row("28", "A failed precondition that was not ours.", FIRST, 412, {}, status_only(412)),
    Row(
        "29",
        "Not modified, though no such condition was sent: a status like any other, never done.",
        MIDDLE,
        304,
        {"etag": OK},
        status_only(304),
    ),
]

FRAMED = [
    Row(
        "31",
        "Transfer-Encoding wins, the length beside it is not even read.",
        FIRST,
        200,
        {"transfer-encoding": "chunked", "content-length": "nonsense", "etag": OK},
        Accept(None, None, Representation(etag=A), ranged=False),
    ),
    Row(
        "31",
        "A chunked part: Content-Range says how long it is.",
        MIDDLE,
        206,
        {"transfer-encoding": "chunked", "content-length": "7", "content-range": "bytes 100-199/1000", "etag": OK},
        part(100, 200),
    ),
    Row(
        "33",
        "Neither length nor framing: until the connection closes.",
        FIRST,
        200,
        {},
        Accept(None, None, Representation(), ranged=False),
    ),
    Row(
        "33",
        "No length this time, but one is known.",
        Expected(0, None, KNOWN, ranged=False),
        200,
        {"etag": OK},
        Accept(Span(0, 1000), 1000, KNOWN, ranged=False, confirmed=True),
    ),
    Row(
        "34",
        "A coding on a part, though identity was asked for.",
        MIDDLE,
        206,
        {"content-range": "bytes 100-199/1000", "content-encoding": "gzip", "etag": OK},
        protocol(Fault.ENCODED),
    ),
    Row(
        "35",
        "A CDN that compresses the whole.",
        FIRST,
        200,
        {"content-encoding": "gzip", "etag": 'W/"a"'},
        protocol(Fault.ENCODED, 200),
    ),
    Row("35", "A coding nobody can read.", FIRST, 200, {"content-encoding": "gz\x00ip"}, protocol(Fault.ENCODED, 200)),
    Row(
        "35",
        "A coding beats a change: the tag of the encoded form says nothing about the file.",
        MIDDLE,
        200,
        {"content-encoding": "br", "etag": '"z"'},
        protocol(Fault.ENCODED, 200),
    ),
    Row(
        "34",
        "identity is no coding.",
        MIDDLE,
        206,
        {"content-range": "bytes 100-199/1000", "content-encoding": "Identity", "etag": OK},
        part(100, 200),
    ),
    Row(
        "34",
        "An archive that is stored as gzip, and whose ranges show it.",
        Expected(0, 100, filename="x.tar.gz"),
        206,
        {"content-range": "bytes 0-99/1000", "content-encoding": "x-gzip", "etag": OK},
        Accept(
            Span(0, 100),
            1000,
            Representation(etag=A, complete_length=1000, content_encoding="x-gzip"),
            ranged=True,
            body_length=100,
        ),
    ),
    Row(
        "34",
        "A whole archive may have been compressed a second time on its way.",
        Expected(0, 100, filename="x.tar.gz"),
        200,
        {"content-length": "1000", "content-encoding": "gzip"},
        protocol(Fault.ENCODED, 200),
    ),
    Row(
        "34",
        "Bytes with and without a coding never mix: the known ones have none.",
        Expected(100, 200, KNOWN, filename="x.tar.gz"),
        206,
        {"content-range": "bytes 100-199/1000", "content-encoding": "gzip", "etag": OK},
        protocol(Fault.ENCODED),
    ),
    Row(
        "35",
        "Nor when the origin decodes them this time (transcoding).",
        Expected(100, 200, replace(KNOWN, content_encoding="gzip"), filename="x.tar.gz"),
        206,
        {"content-range": "bytes 100-199/1000", "etag": OK},
        protocol(Fault.ENCODED),
    ),
    Row("36", "A negative length.", FIRST, 200, {"content-length": "-5"}, protocol(Fault.BAD_LENGTH, 200)),
    Row("36", "A length beyond 2**63.", FIRST, 200, {"content-length": str(2**63)}, protocol(Fault.BAD_LENGTH, 200)),
    Row("36", "A length of 5,000 digits.", FIRST, 200, {"content-length": "9" * 5000}, protocol(Fault.BAD_LENGTH, 200)),
    Row("36", "Two lengths.", FIRST, 200, {"content-length": "1000, 999"}, protocol(Fault.BAD_LENGTH, 200)),
    Row(
        "36",
        "Twice the same length may be folded.",
        FIRST,
        200,
        {"content-length": "1000, 1000"},
        Accept(Span(0, 1000), 1000, UNTAGGED, ranged=False, body_length=1000),
    ),
    Row("36", "An empty length.", FIRST, 200, {"content-length": ""}, protocol(Fault.BAD_LENGTH, 200)),
    Row("36", "A length in other digits.", FIRST, 200, {"content-length": "١٢"}, protocol(Fault.BAD_LENGTH, 200)),
    Row("36", "A signed length.", FIRST, 200, {"content-length": "+5"}, protocol(Fault.BAD_LENGTH, 200)),
    Row(
        "36",
        "A bad length on a part.",
        MIDDLE,
        206,
        {"content-range": "bytes 100-199/1000", "content-length": "0x64", "etag": OK},
        protocol(Fault.BAD_LENGTH),
    ),
    Row("37", "HEAD is never used; its refusals are statuses like any other.", FIRST, 405, {}, status_only(405)),
    Row(
        "38",
        "The head promises the length that the body must not exceed.",
        FIRST,
        200,
        {"content-length": "7"},
        Accept(Span(0, 7), 7, Representation(complete_length=7), ranged=False, body_length=7),
    ),
]

HTML = {"content-type": "text/html; charset=utf-8"}
PAGES = [
    Row(
        "47",
        "A login page in place of a later part: no change, kept bytes stay.",
        MIDDLE,
        200,
        {**HTML, "content-length": "77", "etag": '"login"'},
        page(200),
    ),
    Row(
        "47",
        "A login page that is a static file, with ranges and all.",
        MIDDLE,
        206,
        {**HTML, "content-range": "bytes 100-199/1000"},
        page(206),
    ),
    Row(
        "47", "A page where the name promises an archive.", Expected(filename="model.safetensors"), 200, HTML, page(200)
    ),
    Row(
        "47",
        "A page in the XML form.",
        Expected(filename="a.zip"),
        200,
        {"content-type": "application/xhtml+xml"},
        page(200),
    ),
    Row(
        "47",
        "A compressed page is a page first.",
        Expected(filename="a.zip"),
        200,
        {**HTML, "content-encoding": "gzip"},
        page(200),
    ),
    Row(
        "47",
        "A page that was asked for.",
        Expected(filename="index.html"),
        200,
        HTML,
        Accept(None, None, Representation(content_type="text/html"), ranged=False),
    ),
    Row(
        "47",
        "A page where no name says what to expect.",
        FIRST,
        200,
        HTML,
        Accept(None, None, Representation(content_type="text/html"), ranged=False),
    ),
    Row(
        "47",
        "A file that is served as a page, as it was before.",
        Expected(100, 200, Representation(etag=A, complete_length=1000, content_type="text/html"), filename="a.bin"),
        206,
        {**HTML, "content-range": "bytes 100-199/1000", "etag": OK},
        part(100, 200, known=Representation(etag=A, complete_length=1000, content_type="text/html")),
    ),
    Row(
        "47",
        "The page of a 416 does not matter.",
        Expected(1000, None, KNOWN),
        416,
        {**HTML, "content-range": "bytes */1000"},
        NothingLeft(1000, KNOWN),
    ),
    Row("40", "The page of a 403 does not matter.", MIDDLE, 403, HTML, status_only(403)),
]

STATUSES = [
    Row(
        "51",
        f"{status} carries no file, whatever stands in its head.",
        MIDDLE,
        status,
        {"content-range": "bytes 100-199/1000", "etag": '"b"'},
        status_only(status),
    )
    for status in (
        100,
        201,
        202,
        203,
        204,
        205,
        207,
        226,
        300,
        301,
        302,
        307,
        308,
        400,
        401,
        404,
        408,
        410,
        425,
        429,
        451,
        500,
        502,
        503,
        504,
        511,
        520,
        530,
        599,
    )
]

ROWS = PLACED + IGNORED + UNSATISFIED + IDENTITY + FRAMED + PAGES + STATUSES


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.case}: {row.why}" for row in ROWS])
def test_each_head_means_one_thing(row: Row) -> None:
    """The table above."""
    assert row.decision == interpret(row.asked, row.status, row.headers)


def test_the_redirect_states_the_digest_and_nothing_else() -> None:
    """Edge case 26: X-Linked-ETag stands on the redirect only, and the redirect's tag is not the file's."""
    digest = "ab" * 32
    hops = [{"etag": '"hop"', "x-linked-etag": f'"{digest}"', "x-linked-size": "1000"}]
    decision = interpret(FIRST_EXTENT, 206, {"content-range": "bytes 0-99/1000", "etag": OK}, hops)
    assert isinstance(decision, Accept)
    assert (
        Representation(etag=A, complete_length=1000, sha256=digest, sha256_source="X-Linked-ETag")
        == decision.representation
    )


def test_a_digest_is_read_from_a_whole_answer_only_where_it_speaks_of_the_whole() -> None:
    """Content-Digest of a 200 is kept, that of a 206 is not."""
    field = {"content-digest": "sha-256=:" + "A" * 43 + "=:"}
    whole = interpret(WHOLE, 200, {**field, "content-length": "9"})
    some = interpret(FIRST_EXTENT, 206, {**field, "content-range": "bytes 0-99/1000"})
    assert isinstance(whole, Accept)
    assert isinstance(some, Accept)
    stated = whole.representation.sha256, some.representation.sha256
    assert stated == ("00" * 32, None)


def test_a_refusal_says_what_was_wrong_without_control_characters() -> None:
    """The detail goes to terminals and logs."""
    hostile = [
        {"content-range": "bytes \x1b[2J\r\n"},
        {"content-length": "\x1b]0;x\x07"},
        {"content-encoding": "\x00\u202egzip"},
    ]
    for headers in hostile:
        decision = interpret(FIRST, 206, headers)
        assert isinstance(decision, Reject)
        assert decision.detail
        assert decision.detail.isascii()
        assert decision.detail.isprintable()
        assert not decision.web_page
    assert page(200).web_page


REQUESTS: list[tuple[str, Expected, dict[str, str]]] = [
    ("the first request", FIRST, {"range": "bytes=0-"}),
    ("the first extent", FIRST_EXTENT, {"range": "bytes=0-99"}),
    ("no range", WHOLE, {}),
    ("no condition without a range (13.1.5)", replace(WHOLE, representation=KNOWN), {}),
    ("21: a strong tag on every ranged request", MIDDLE, {"range": "bytes=100-199", "if-range": '"a"'}),
    (
        "21: never a weak tag",
        replace(MIDDLE, representation=replace(KNOWN, etag=ETag('"a"', weak=True))),
        {"range": "bytes=100-199"},
    ),
    (
        "22: a strong date where there is no tag",
        replace(MIDDLE, representation=DATED),
        {"range": "bytes=100-199", "if-range": MONDAY},
    ),
    (
        "22: never a weak date",
        replace(MIDDLE, representation=replace(DATED, last_modified_strong=False)),
        {"range": "bytes=100-199"},
    ),
    ("23: nothing to condition on", replace(MIDDLE, representation=UNTAGGED), {"range": "bytes=100-199"}),
    ("a damaged first chunk is conditional too", Expected(0, 10, KNOWN), {"range": "bytes=0-9", "if-range": '"a"'}),
]


@pytest.mark.parametrize(("why", "asked", "expected"), REQUESTS, ids=[row[0] for row in REQUESTS])
def test_the_request_says_what_is_wanted(why: str, asked: Expected, expected: dict[str, str]) -> None:
    """Range, If-Range and, always, the wish for unencoded bytes (edge case 35)."""
    always = {"accept-encoding": "identity", "cache-control": "no-transform"}
    assert {**always, **expected} == request_headers(asked), why


@pytest.mark.parametrize(("start", "stop"), [(-1, None), (5, 5), (5, 4)])
def test_nothing_cannot_be_asked_for(start: int, stop: int | None) -> None:
    """A request for no byte is a bug of the caller."""
    with pytest.raises(ValueError, match="nothing to ask for"):
        Expected(start, stop)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, (None, True)),
        ({"content-length": "10"}, (10, True)),
        ({"content-length": " 10 ,10"}, (10, True)),
        ({"content-length": str(MAX_LENGTH)}, (MAX_LENGTH, True)),
        ({"content-length": "10,"}, (None, False)),
        ({"content-length": "10", "transfer-encoding": "chunked"}, (None, True)),
        ({"content-length": "10", "transfer-encoding": ""}, (10, True)),
    ],
)
def test_the_promised_length_is_read_strictly(headers: dict[str, str], expected: tuple[int | None, bool]) -> None:
    """RFC 9110 8.6 and RFC 9112 6.3."""
    assert expected == content_length(headers)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", True),
        ("index.html", True),
        ("get.php", True),
        ("v1.2", True),
        ("example.com", True),
        ("README", True),
        ("a.zip", False),
        ("A.ZIP", False),
        ("model.safetensors", False),
        ("x.tar.gz", False),
        ("data.json", False),
    ],
)
def test_a_name_tells_whether_a_page_may_come(name: str, expected: bool) -> None:
    """Only a suffix that is never a web page's says so."""
    assert expected is may_be_page(name)


@pytest.mark.parametrize(
    ("name", "coding", "expected"),
    [
        ("x.tar.gz", "gzip", True),
        ("X.TGZ", "x-gzip", True),
        ("x.zst", "zstd", True),
        ("x.tar", "gzip", False),
        ("x.gz", "br", False),
        ("x.gz", "gzip, br", False),
        ("", "gzip", False),
    ],
)
def test_a_name_tells_whether_the_file_is_stored_encoded(name: str, coding: str, expected: bool) -> None:
    """One coding, and the suffix that belongs to it."""
    assert expected is stored_encoded(name, coding)
    assert not is_page(None)


FIELDS = [
    "content-range",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "etag",
    "last-modified",
]
VALUES = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [OK, '"b"', 'W/"a"', MONDAY, TUESDAY, "gzip", "chunked", "text/html", "multipart/byteranges", "0", "100"]
    ),
    st.builds(
        "bytes {}-{}/{}".format,
        st.integers(0, 1200),
        st.integers(0, 1200),
        st.one_of(st.just("*"), st.just("1000"), st.integers(0, 1200)),
    ),
    st.builds("bytes */{}".format, st.integers(0, 1200)),
)
ASKED = st.builds(
    lambda start, length, known, ranged, name: Expected(
        start, None if length is None else start + length, known, ranged, name
    ),
    st.integers(0, 1100),
    st.none() | st.integers(1, 500),
    st.sampled_from([None, KNOWN, UNTAGGED, DATED, Representation()]),
    st.booleans(),
    st.sampled_from(["", "x.bin", "x.gz", "index.html"]),
)


@given(
    ASKED,
    st.sampled_from([200, 206, 416]) | st.integers(-5, 1000),
    st.dictionaries(st.sampled_from([*FIELDS, "date"]), VALUES),
)
def test_interpreting_is_total_and_never_splices(asked: Expected, status: int, headers: dict[str, str]) -> None:
    """Whatever comes is decided; what is accepted belongs to what was asked for and agrees with what is known."""
    decision = interpret(asked, status, headers, (headers,))
    known = asked.representation
    match decision:
        case Accept():
            if known is not None:
                assert differs(known, Representation.from_headers(headers, decision.complete_length)) is None
            if decision.ranged:
                assert decision.span is not None
                assert decision.span.length >= 1
                assert asked.start == decision.span.start
                assert asked.stop is None or decision.span.stop <= asked.stop
                assert decision.complete_length is None or decision.span.stop <= decision.complete_length
                assert decision.body_length is not None
                assert decision.skip + decision.span.length <= decision.body_length
            else:
                assert decision.skip == 0
                assert (decision.span is None) == (decision.complete_length is None)
        case Ignored():
            assert asked.start > 0
            assert asked.ranged
        case NothingLeft():
            assert asked.start == decision.complete_length
        case Changed():
            assert decision.reason
        case Reject():
            assert (decision.fault is not None) == (decision.kind is RejectKind.PROTOCOL)
