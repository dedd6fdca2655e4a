"""The head of an answer, decided clause by clause; the numbers are the edge cases of the project's catalogue."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from resumable.mediatype import is_page, may_be_page, stored_encoded
from resumable.ranges import MAX_LENGTH
from resumable.response import (
    Accept,
    Changed,
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
from tests.heads import DATED, FIRST, FIRST_EXTENT, KNOWN, MIDDLE, MONDAY, OK, TUESDAY, UNTAGGED, WHOLE, A, Row, page
from tests.heads_of_origins import FRAMED, IDENTITY, PAGES, STATUSES
from tests.heads_of_ranges import IGNORED, PLACED, UNSATISFIED

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
