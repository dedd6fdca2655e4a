"""Spans are half-open inside and inclusive on the wire, and a Content-Range that lies is no Content-Range."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumable.ranges import (
    MAX_LENGTH,
    ContentRange,
    Span,
    parse_content_range,
    parse_unsatisfied_range,
    range_header,
)

offsets = st.integers(0, 200)
spans = st.tuples(offsets, offsets).map(lambda pair: Span(min(pair), max(pair)))


@pytest.mark.parametrize(("start", "stop"), [(-1, 0), (2, 1), (0, MAX_LENGTH + 1), (-2, -1)])
def test_what_is_not_a_span_cannot_be_made(start: int, stop: int) -> None:
    """A negative, reversed or unaddressable span is a bug where it is made, not where it is used."""
    with pytest.raises(ValueError, match="not a span"):
        Span(start, stop)


@given(spans, spans)
def test_span_arithmetic_agrees_with_sets_of_offsets(one: Span, other: Span) -> None:
    """Length, membership, covering and clipping mean what they mean for sets of offsets."""
    first, second = set(range(one.start, one.stop)), set(range(other.start, other.stop))
    assert len(first) == one.length
    assert first == {offset for offset in range(202) if offset in one}
    clipped = one.clip(other)
    assert first & second == (set() if clipped is None else set(range(clipped.start, clipped.stop)))
    assert clipped == other.clip(one)
    if second:
        assert (second <= first) == one.covers(other)


def test_a_span_is_shown_half_open() -> None:
    """Logs show what the program counts with."""
    assert str(Span(3, 9)) == "[3, 9)"


@given(st.integers(0, MAX_LENGTH - 2), st.integers(1, 1 << 40), st.integers(0, 1 << 40))
def test_a_range_comes_back_as_the_span_it_was_sent_for(start: int, length: int, more: int) -> None:
    """What range_header writes, an honest origin echoes, and parse_content_range reads."""
    stop = min(start + length, MAX_LENGTH)
    first_last = range_header(start, stop).removeprefix("bytes=")
    total = min(stop + more, MAX_LENGTH)
    assert ContentRange(Span(start, stop), total) == parse_content_range(f"bytes {first_last}/{total}")
    assert ContentRange(Span(start, stop), None) == parse_content_range(f"bytes {first_last}/*")


def test_an_open_range_has_no_end() -> None:
    """RFC 9110 14.1.2."""
    assert range_header(7, None) == "bytes=7-"


@pytest.mark.parametrize(("start", "stop"), [(5, 5), (5, 4)])
def test_an_empty_range_cannot_be_asked_for(start: int, stop: int) -> None:
    """``bytes=5-4`` is invalid and servers answer it with the whole file."""
    with pytest.raises(ValueError, match="at least one byte"):
        range_header(start, stop)


CONTENT_RANGES: list[tuple[str, str, ContentRange | None]] = [
    ("the usual form", "bytes 0-9/100", ContentRange(Span(0, 10), 100)),
    ("one byte", "bytes 9-9/10", ContentRange(Span(9, 10), 10)),
    ("the unit in another case, blanks around", "  Bytes  0-9/100 ", ContentRange(Span(0, 10), 100)),
    ("the total is not known", "bytes 0-9/*", ContentRange(Span(0, 10), None)),
    (
        "the largest that can be addressed",
        f"bytes 0-{MAX_LENGTH - 1}/{MAX_LENGTH}",
        ContentRange(Span(0, MAX_LENGTH), MAX_LENGTH),
    ),
    ("beyond what can be addressed", f"bytes 0-{MAX_LENGTH}/{MAX_LENGTH + 1}", None),
    ("beyond what can be addressed, total unknown", f"bytes 0-{MAX_LENGTH}/*", None),
    ("a total beyond what can be addressed", f"bytes 0-9/{MAX_LENGTH + 1}", None),
    ("last before first", "bytes 9-0/100", None),
    ("last at the total", "bytes 0-100/100", None),
    ("two fields joined", "bytes 0-9/100, bytes 0-9/100", None),
    ("no total", "bytes 0-9", None),
    ("no unit", "0-9/100", None),
    ("the unit with an equals sign", "bytes=0-9/100", None),
    ("the unit with a colon", "bytes: 0-9/100", None),
    ("another unit", "items 0-9/100", None),
    ("the form of a 416", "bytes */100", None),
    ("negative", "bytes -1-9/100", None),
    ("a sign", "bytes +0-9/100", None),
    ("blanks inside", "bytes 0 - 9 / 100", None),
    ("digits of another alphabet", "bytes ٠-٩/١٠٠", None),
    ("twenty digits", "bytes 0-9/" + "1" * 20, None),
    ("more digits than int() takes", "bytes 0-" + "9" * 5000 + "/*", None),
    ("a line break at the end is a blank", "bytes 0-9/100\n", ContentRange(Span(0, 10), 100)),
    ("a line break inside", "bytes 0-9\n/100", None),
    ("empty", "", None),
]


@pytest.mark.parametrize(("why", "value", "expected"), CONTENT_RANGES, ids=[row[0] for row in CONTENT_RANGES])
def test_content_range_is_parsed_strictly(why: str, value: str, expected: ContentRange | None) -> None:
    """RFC 9110 14.4: what is invalid must not be recombined, so nothing is guessed."""
    assert expected == parse_content_range(value), why


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes */100", 100),
        ("BYTES  */0", 0),
        (f"bytes */{MAX_LENGTH}", MAX_LENGTH),
        (f"bytes */{MAX_LENGTH + 1}", None),
        ("*/100", None),
        ("bytes */*", None),
        ("bytes */-1", None),
        ("bytes */" + "1" * 20, None),
        ("bytes 0-9/100", None),
        ("", None),
    ],
)
def test_the_length_told_by_a_416_is_parsed_strictly(value: str, expected: int | None) -> None:
    """RFC 9110 14.4, the unsatisfied form."""
    assert expected == parse_unsatisfied_range(value)


@given(st.one_of(st.text(max_size=60), st.text(alphabet="bytes 0123456789-/*,=:", max_size=60).map("bytes ".__add__)))
def test_no_text_makes_the_parsers_raise(value: str) -> None:
    """An origin's text is data; and what is accepted is a span that lies within its total."""
    parsed = parse_content_range(value)
    if parsed is not None:
        assert parsed.span.length >= 1
        assert parsed.complete_length is None or parsed.span.stop <= parsed.complete_length
    total = parse_unsatisfied_range(value)
    assert total is None or 0 <= total <= MAX_LENGTH
