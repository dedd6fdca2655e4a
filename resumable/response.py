"""What the head of an answer means for the bytes that were asked for: RFC 9110, clause by clause, in plain functions.

It decides and does nothing else: no byte is read here, nothing is raised, and no decision holds an opinion on trying
again (that is ``verdicts.py``). ``request_headers`` writes the request whose answer ``interpret`` judges; the engine
acts on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from resumable.errors import Fault
from resumable.mediatype import is_page, may_be_page, stored_encoded
from resumable.ranges import MAX_LENGTH, Span, parse_content_range, parse_unsatisfied_range, range_header
from resumable.validators import Representation, completed, confirms, differs, if_range_value, only_tag_differs

MAX_LEAD: Final = 1 << 20
"""Most bytes before the asked offset that a usable answer may carry; skipping more costs more than asking again."""

_LENGTH: Final = re.compile(r"[0-9]{1,19}")


class Expected(Struct, frozen=True):
    """What is asked for, and what is known of it already. Offsets are bytes."""

    start: int = 0
    """First byte wanted. Without a range the whole is asked for, and this is the first byte still missing."""
    stop: int | None = None
    """End of the bytes wanted, not included; None asks for everything from ``start``."""
    representation: Representation | None = None
    """The identity that the kept bytes belong to; None on the very first request."""
    ranged: bool = True
    """Whether ``Range`` is sent."""
    filename: str = ""
    """Expected name, where there is one: its suffix tells a web page or a coding that is part of the file."""

    def __post_init__(self) -> None:
        """Raise ValueError unless at least one byte is wanted."""
        if self.start < 0 or (self.stop is not None and self.stop <= self.start):
            msg = f"nothing to ask for in [{self.start}, {self.stop})"
            raise ValueError(msg)


class Accept(Struct, frozen=True):
    """The body holds bytes to keep: skip ``skip`` bytes, keep ``span``, close. It may be less than was asked for."""

    span: Span | None
    """Where the kept bytes belong; None: from offset 0 until the body ends, because nobody has said how long it is."""
    complete_length: int | None
    """Bytes of the whole representation, from this answer or from before; None where nobody has said."""
    representation: Representation
    """The known identity completed by this answer, or this answer's own when nothing was known."""
    ranged: bool
    """Whether the origin honoured the range."""
    skip: int = 0
    """Bytes of the body before ``span.start``, at most ``MAX_LEAD``."""
    body_length: int | None = None
    """Bytes that the head promises for the body in all; None where it does not say."""
    confirmed: bool = False
    """Whether a strong validator shows that this is the known representation; False also where none was known."""


class NothingLeft(Struct, frozen=True):
    """Every byte up to ``complete_length`` was there before the request: go on to verifying, not straight to done."""

    complete_length: int
    representation: Representation
    """The known identity, or one that knows only the length."""


class Changed(Struct, frozen=True):
    """Another representation is served now; none of this body may join the kept bytes."""

    reason: str
    representation: Representation | None
    """The identity now served; None where the answer does not describe it (412, 416)."""
    certain: bool = True
    """False where only the tag differs, not the strong date or the length: an overlap check may save what is kept."""


class Ignored(Struct, frozen=True):
    """The whole body is coming from offset 0 although bytes from a later offset were asked for."""

    complete_length: int | None
    representation: Representation
    confirmed: bool = False
    """Whether a strong validator shows that this is the known representation. If not, only comparing bytes can."""
    body_length: int | None = None
    """As in ``Accept``."""


class RejectKind(StrEnum):
    """Which exception a refusal becomes."""

    STATUS = "status"  # StatusError: the status says it
    PROTOCOL = "protocol"  # ProtocolFault(fault)
    WEB_PAGE = "web-page"  # WebPage


@dataclass(frozen=True, slots=True)
class Reject:
    """None of the body is to be used."""

    fault: Fault | None
    status: int
    kind: RejectKind
    detail: str = field(default="", compare=False)
    """What exactly was wrong, for people: printable ASCII, short, without secrets."""

    @property
    def web_page(self) -> bool:
        """Whether a web page came in place of the file."""
        return self.kind is RejectKind.WEB_PAGE


Decision = Accept | NothingLeft | Changed | Ignored | Reject


def request_headers(expected: Expected) -> dict[str, str]:
    """Return the headers, names in lower case, that ask for ``expected``.

    ``If-Range`` goes only with ``Range`` and holds only what RFC 9110 13.1.5 allows. It is sent at offset 0 too: a
    damaged chunk there is fetched again and must be of the same representation. Nobody on the way is to compress or
    shrink anything: ranges address the bytes as they are stored (RFC 9110 12.5.3, RFC 9111 5.2.1.6).
    """
    headers = {"accept-encoding": "identity", "cache-control": "no-transform"}
    if expected.ranged:
        headers["range"] = range_header(expected.start, expected.stop)
        condition = None if expected.representation is None else if_range_value(expected.representation)
        if condition is not None:
            headers["if-range"] = condition
    return headers


def content_length(headers: Mapping[str, str]) -> tuple[int | None, bool]:
    """Return the length the head promises for the body, and whether the head is sound (RFC 9110 8.6, RFC 9112 6.3).

    ``(None, True)``: it promises none. ``(None, False)``: what stands there is no length. Never raises.
    """
    # Transfer-Encoding overrides Content-Length (RFC 9112 6.3), which may be an attempt at smuggling and is not even
    # read.
    if headers.get("transfer-encoding", "").strip():
        return None, True
    value = headers.get("content-length")
    if value is None:
        return None, True
    # A list of equal values may be folded into one; anything else is an unrecoverable error (RFC 9110 8.6).
    members = {member.strip(" \t") for member in value.split(",")}
    text = members.pop()
    if members or _LENGTH.fullmatch(text) is None or int(text) > MAX_LENGTH:
        return None, False
    return int(text), True


def interpret(
    expected: Expected, status: int, headers: Mapping[str, str], hops_headers: Iterable[Mapping[str, str]] = ()
) -> Decision:
    """Decide what the head of an answer to ``expected`` means. Total: never raises, whatever the headers hold.

    ``headers`` are those of the final answer, names in lower case, repeated fields joined by ``", "``;
    ``hops_headers`` those of the redirects before it, of which only a stated digest is used.
    """
    # Step 1: the status. 416 and 412 answer the condition we sent; of the others only 200 and 206 carry the file. 203
    # does not: a proxy has transformed it (RFC 9110 15.3.4). 304 answers a condition that is never sent from here.
    if status == 416 and expected.ranged:
        return _unsatisfied(expected, headers)
    if status == 412 and expected.representation is not None:
        return Changed("the server says that a precondition failed (412)", None)  # RFC 9110 15.5.13
    if status not in {200, 206}:
        return Reject(None, status, RejectKind.STATUS)
    # Step 2: a web page in place of the file, before anything else: a portal's tag and length must not count as a
    # change of the file, or the kept bytes would be given up for a login form.
    answered = Representation.from_headers(headers, None, hops_headers, status=status)
    if _page_instead(expected, answered):
        return Reject(None, status, RejectKind.WEB_PAGE, f"content type {answered.content_type}")
    # Step 3: the content coding. Ranges address encoded bytes (RFC 9110 14.1.2), so two codings never mix.
    if (coding := _unwanted_coding(expected, status, headers, answered)) is not None:
        return _fault(Fault.ENCODED, status, coding)
    # Step 4: the framing. A length that cannot be read says that nothing else in the head can be relied upon.
    body_length, sound = content_length(headers)
    if not sound:
        return _fault(Fault.BAD_LENGTH, status, f"Content-Length {headers['content-length'][:40]!a}")
    if status == 206:
        return _partial(expected, headers, answered, body_length)
    return _whole(expected, answered, body_length)


def _partial(
    expected: Expected, headers: Mapping[str, str], answered: Representation, body_length: int | None
) -> Decision:
    """Interpret a 206 (RFC 9110 15.3.7)."""
    known = expected.representation
    value = headers.get("content-range", "")
    enclosed = parse_content_range(value)
    new = answered if enclosed is None else replace(answered, complete_length=enclosed.complete_length)
    # Step 5: identity. Servers ignore If-Range, and such a 206 would splice two files together (15.3.7.3).
    if known is not None and (reason := differs(known, new)) is not None:
        return Changed(reason, new, certain=not only_tag_differs(known, new))
    # Step 6: a part nobody asked for (15.3.7), or an envelope of several (15.3.7.2: MUST NOT answer a single range).
    if not expected.ranged:
        return _fault(Fault.WRONG_RANGE, 206, "a part, though the whole was asked for")
    if answered.content_type is not None and answered.content_type.startswith("multipart/"):
        return _fault(Fault.MULTIPART, 206, answered.content_type)
    # Step 7: which part. Absent, doubled, malformed or impossible means that it MUST NOT be recombined (14.4).
    if not value.strip():
        return _fault(Fault.NO_CONTENT_RANGE, 206, "no Content-Range")
    if enclosed is None:
        return _fault(Fault.BAD_CONTENT_RANGE, 206, f"Content-Range {value[:80]!a}")
    # Step 8: a head that contradicts itself. The usual cause is a whole body behind a Content-Range that echoes the
    # request.
    if body_length is not None and body_length != enclosed.span.length:
        detail = f"{body_length} bytes announced for the {enclosed.span.length} of {enclosed.span}"
        return _fault(Fault.BAD_LENGTH, 206, detail)
    representation = new if known is None else completed(known, new)
    complete = representation.complete_length
    if complete is not None and enclosed.span.stop > complete:
        # Possible only where this answer says "*": the file we know ends before the bytes it holds.
        return Changed(f"size {complete} -> at least {enclosed.span.stop}", new)
    confirmed = known is not None and confirms(known, new)
    return _placed(expected, enclosed.span, representation, confirmed=confirmed)


def _placed(expected: Expected, span: Span, representation: Representation, *, confirmed: bool) -> Decision:
    """Decide where the bytes of a sound 206 go."""
    complete = representation.complete_length
    # Step 9: placement. The client MUST inspect which part it was given (15.3.7). Shorter than asked is legal; what
    # lies beyond is not read; a lead is skipped while that is cheap; without the first byte asked for it is of no
    # use.
    if expected.start not in span:
        return _fault(Fault.WRONG_RANGE, 206, f"{span} for a request from {expected.start}")
    skip = expected.start - span.start
    if skip <= MAX_LEAD:
        kept = Span(expected.start, span.stop if expected.stop is None else min(span.stop, expected.stop))
        return Accept(
            kept, complete, representation, ranged=True, skip=skip, body_length=span.length, confirmed=confirmed
        )
    if span.start == 0 and span.stop == complete:
        # The whole file labelled as a part: the range was ignored in all but name.
        return Ignored(complete, representation, confirmed, span.length)
    return _fault(Fault.WRONG_RANGE, 206, f"{skip} bytes before the one asked for")


def _whole(expected: Expected, answered: Representation, body_length: int | None) -> Decision:
    """Interpret a 200 (RFC 9110 15.3.1); a Content-Range in it has no meaning (14.4) and is not read."""
    known = expected.representation
    new = replace(answered, complete_length=body_length)
    # Step 5: identity. A 200 with another identity is how If-Range says that the representation has changed (13.1.5).
    if known is not None and (reason := differs(known, new)) is not None:
        return Changed(reason, new, certain=not only_tag_differs(known, new))
    representation = new if known is None else completed(known, new)
    complete, confirmed = representation.complete_length, known is not None and confirms(known, new)
    # Step 6: the range was ignored, which 14.2 allows at any time, also after a 206 to an earlier request. What comes
    # begins at byte 0, so it cannot simply be kept.
    if expected.ranged and expected.start > 0:
        return Ignored(complete, representation, confirmed, body_length)
    # Step 7: the body is the file, whatever end was asked for: a one-time link may not be followed twice. Without a
    # length only the end of the body tells, and a truncated one cannot be told from a whole one unless it is framed.
    span = None if complete is None else Span(0, complete)
    return Accept(span, complete, representation, ranged=False, body_length=body_length, confirmed=confirmed)


def _unsatisfied(expected: Expected, headers: Mapping[str, str]) -> Decision:
    """Interpret a 416 (RFC 9110 15.5.17). Its other fields may speak of the error page, so no tag is compared."""
    known = expected.representation or Representation()
    # Content-Range is optional here, and some servers leave out its unit; then what was recorded decides.
    stated = parse_unsatisfied_range(headers.get("content-range", ""))
    if stated is not None and known.complete_length not in {None, stated}:
        return Changed(f"size {known.complete_length} -> {stated}", None)
    complete = known.complete_length if stated is None else stated
    if complete is None or expected.start < complete:
        detail = f"no byte from {expected.start}, and the size is {'not told' if complete is None else complete}"
        return _fault(Fault.UNSATISFIABLE, 416, detail)
    if expected.start > complete:
        # More was kept than the origin has: those bytes are of something else.
        return Changed(f"size {complete}, though byte {expected.start} was to follow", None)
    return NothingLeft(complete, replace(known, complete_length=complete))


def _page_instead(expected: Expected, answered: Representation) -> bool:
    known = None if expected.representation is None else expected.representation.content_type
    unexpected = not may_be_page(expected.filename) if known is None else not is_page(known)
    return unexpected and is_page(answered.content_type)


def _unwanted_coding(
    expected: Expected, status: int, headers: Mapping[str, str], answered: Representation
) -> str | None:
    """Return what is wrong with the content coding (printable), None where the bytes are the ones wanted."""
    raw, coding = headers.get("content-encoding", "").strip(" \t").lower(), answered.content_encoding
    if coding is None and raw not in {"", "identity"}:
        return f"Content-Encoding {raw[:40]!a}"
    known = expected.representation
    if known is not None and known.content_encoding != coding:
        return f"Content-Encoding {known.content_encoding} -> {coding}"
    # A 206 shows that the coding is the stored file's: its ranges address stored bytes. A 200 may have been
    # compressed on the fly, a second time.
    if coding is None or (status == 206 and stored_encoded(expected.filename, coding)):
        return None
    return f"Content-Encoding {coding}"


def _fault(fault: Fault, status: int, detail: str) -> Reject:
    return Reject(fault, status, RejectKind.PROTOCOL, detail)
