"""What identifies a representation, what shows that it changed, and what may be sent in If-Range."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from resumable.ranges import MAX_LENGTH
from resumable.validators import (
    ETag,
    Representation,
    completed,
    confirms,
    differs,
    has_validator,
    if_range_value,
    only_tag_differs,
    parse_etag,
    parse_http_date,
    proof,
    weakened,
)

MONDAY = "Mon, 06 Nov 2023 08:49:37 GMT"
TUESDAY = "Tue, 07 Nov 2023 08:49:37 GMT"
HASH = "ab" * 32
OTHER_HASH = "cd" * 32

TAGS: list[tuple[str, str, ETag | None]] = [
    ("strong", '"abc"', ETag('"abc"')),
    ("weak", 'W/"abc"', ETag('"abc"', weak=True)),
    ("blanks around the value", ' \t"abc" ', ETag('"abc"')),
    ("a lower-case w is not the grammar's but means weak", 'w/"abc"', ETag('"abc"', weak=True)),
    ("no quotes: for comparing only", "abc", ETag("abc", weak=True)),
    ("weak without quotes", "W/abc", ETag("abc", weak=True)),
    ("one quote", '"abc', ETag('"abc', weak=True)),
    ("a blank inside breaks the grammar", '"a b"', ETag('"a b"', weak=True)),
    ("doubled quotes", '""abc""', ETag('""abc""', weak=True)),
    ("two fields joined are not one strong tag", '"a", "b"', ETag('"a", "b"', weak=True)),
    ("the empty tag is a constant and identifies nothing", '""', ETag('""', weak=True)),
    ("the suffix of an encoded form is part of the tag", '"abc-gzip"', ETag('"abc-gzip"')),
    ("a backslash is an ordinary character", '"a\\"', ETag('"a\\"')),
    ("absent", "", None),
    ("nothing after W/", "W/", None),
    ("a line break would split the request", '"a\r\nX: b"', None),
    ("a control character", '"a\x00b"', None),
    ("an escape sequence for terminals", '"\x1b[2J"', None),
    ("DEL", '"\x7f"', None),
    ("not ASCII", '"é"', None),
    ("a byte that is not UTF-8, as aiohttp hands it over", '"\udce9"', None),
    ("too long to keep", '"' + "a" * 1023 + '"', None),
]


@pytest.mark.parametrize(("why", "value", "expected"), TAGS, ids=[row[0] for row in TAGS])
def test_an_entity_tag_is_parsed(why: str, value: str, expected: ETag | None) -> None:
    """Only a tag that follows the grammar can be strong."""
    assert expected == parse_etag(value), why


COMPARED: list[tuple[str, str, bool, bool]] = [  # RFC 9110 8.8.3.2, table 3
    ('W/"1"', 'W/"1"', False, True),
    ('W/"1"', 'W/"2"', False, False),
    ('W/"1"', '"1"', False, True),
    ('"1"', '"1"', True, True),
    ('"1"', '"2"', False, False),
    ('"1"', "1", False, True),
]


@pytest.mark.parametrize(("one", "other", "strong", "weak"), COMPARED)
def test_entity_tags_are_compared_as_the_rfc_says(one: str, other: str, strong: bool, weak: bool) -> None:
    """The table of RFC 9110 8.8.3.2, in both directions, and the lax form without quotes."""
    first, second = parse_etag(one), parse_etag(other)
    assert first is not None
    assert second is not None
    assert (strong, strong) == (first.strong_equal(second), second.strong_equal(first))
    assert (weak, weak) == (first.weak_equal(second), second.weak_equal(first))


@pytest.mark.parametrize("tag", ["abc", '""', '"', '"a b"', '"a\n"', ""])
def test_a_strong_tag_that_cannot_be_sent_back_cannot_be_made(tag: str) -> None:
    """What reaches If-Range is well-formed by construction."""
    with pytest.raises(ValueError, match="not a strong entity tag"):
        ETag(tag)


DATES: list[tuple[str, str, datetime | None]] = [
    ("IMF-fixdate", "Sun, 06 Nov 1994 08:49:37 GMT", datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
    ("RFC 850", "Sunday, 06-Nov-94 08:49:37 GMT", datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
    ("asctime", "Sun Nov  6 08:49:37 1994", datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
    (
        "two digits below 69 are of this century",
        "Sunday, 06-Nov-33 08:49:37 GMT",
        datetime(2033, 11, 6, 8, 49, 37, tzinfo=UTC),
    ),
    ("a zone is subtracted", "Sun, 06 Nov 1994 08:49:37 +0200", datetime(1994, 11, 6, 6, 49, 37, tzinfo=UTC)),
    ("a leap second", "Sat, 31 Dec 2016 23:59:60 GMT", datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ("before 1970", "Thu, 01 Jan 1959 00:00:00 GMT", datetime(1959, 1, 1, tzinfo=UTC)),
    ("a day that is not", "Sun, 31 Feb 1994 08:49:37 GMT", None),
    ("an hour that is not", "Sun, 06 Nov 1994 28:49:37 GMT", None),
    ("year zero", "Sun, 06 Nov 0000 08:49:37 GMT", datetime(2000, 11, 6, 8, 49, 37, tzinfo=UTC)),
    ("a year beyond the calendar", "Sun, 06 Nov 99999 08:49:37 GMT", None),
    ("before the calendar, by its zone", "Sat, 01 Jan 0100 00:00:00 GMT", datetime(100, 1, 1, tzinfo=UTC)),
    ("two fields joined", f"{MONDAY}, {MONDAY}", None),
    ("seconds", "784111777", None),
    ("other digits", "Sun, 0٦ Nov 1994 08:49:37 GMT", None),
    ("empty", "", None),
    ("words", "yesterday", None),
    ("a number too long for int()", "9" * 5000, None),
]


@pytest.mark.parametrize(("why", "value", "expected"), DATES, ids=[row[0] for row in DATES])
def test_an_http_date_is_parsed_in_three_forms(why: str, value: str, expected: datetime | None) -> None:
    """RFC 9110 5.6.7: a recipient accepts all three; garbage is no date, and never an exception."""
    assert (None if expected is None else expected.timestamp()) == parse_http_date(value), why


@given(st.one_of(st.text(max_size=45), st.text(alphabet="SunNov GMT,:-+0123456789", max_size=40)))
def test_no_text_makes_the_date_parser_raise(value: str) -> None:
    """email.utils has raised on garbage before; this must not."""
    assert isinstance(parse_http_date(value), float | None)


@pytest.mark.parametrize(
    ("why", "modified", "date", "strong"),
    [
        ("a day later", MONDAY, TUESDAY, True),
        ("exactly one second later", MONDAY, "Mon, 06 Nov 2023 08:49:38 GMT", True),
        ("within the same second it may change again", MONDAY, MONDAY, False),
        ("from the future", TUESDAY, MONDAY, False),
        ("without a Date nobody knows", MONDAY, "", False),
        ("a date that is none", "soon", TUESDAY, False),
    ],
)
def test_a_modification_date_is_strong_only_when_its_second_is_over(
    why: str, modified: str, date: str, strong: bool
) -> None:
    """RFC 9110 8.8.2.2."""
    rep = Representation.from_headers({"last-modified": modified, "date": date}, 10)
    assert (modified, strong) == (rep.last_modified, rep.last_modified_strong), why


def test_an_answers_identity_is_read_from_its_headers() -> None:
    """All fields at once, each in its canonical form."""
    headers = {
        "etag": '"a"',
        "last-modified": MONDAY,
        "date": TUESDAY,
        "content-type": "Application/Octet-Stream; charset=binary",
        "content-encoding": "GZip",
    }
    assert Representation(
        etag=ETag('"a"'),
        last_modified=MONDAY,
        last_modified_strong=True,
        complete_length=10,
        content_type="application/octet-stream",
        content_encoding="gzip",
        sha256=HASH,
        sha256_source="X-Linked-ETag",
    ) == Representation.from_headers(headers, 10, [{"etag": '"hop"', "x-linked-etag": f'"{HASH}"'}])


def test_the_tag_of_a_redirect_is_nobodys_identity() -> None:
    """X-Linked-ETag and a redirect's ETag name other things than the final answer's ETag does."""
    rep = Representation.from_headers({}, 10, [{"etag": '"hop"', "x-linked-etag": '"linked"'}])
    assert Representation(complete_length=10) == rep


@pytest.mark.parametrize("value", ["", "identity", "Identity ", "gz\x1bip", "é"])
def test_no_coding_is_identity(value: str) -> None:
    """Absent, identity and unreadable are the same here: response.py judges the raw field."""
    assert Representation.from_headers({"content-encoding": value}, None).content_encoding is None


@pytest.mark.parametrize("value", ["", "html", "text/", "/html", "text/ht ml", "text/html\x00", "é/é"])
def test_a_media_type_that_is_none_is_absent(value: str) -> None:
    """A broken Content-Type says nothing."""
    assert Representation.from_headers({"content-type": value}, None).content_type is None


STRONG = Representation(etag=ETag('"a"'), complete_length=10)
WEAK = Representation(etag=ETag('"a"', weak=True), complete_length=10)
DATED = Representation(last_modified=MONDAY, last_modified_strong=True, complete_length=10)
BARE = Representation(complete_length=10)
WEAK_DATED = replace(DATED, etag=ETag('"a"', weak=True))

IF_RANGE: list[tuple[str, Representation, str | None, bool, str]] = [
    ("a strong tag", STRONG, '"a"', True, "etag"),
    ("a strong tag goes before a date", replace(DATED, etag=ETag('"a"')), '"a"', True, "etag"),
    ("a weak tag must not be sent", WEAK, None, False, "length"),
    (
        "a date must not be sent where there is a tag, though it serves for comparing",
        WEAK_DATED,
        None,
        True,
        "last-modified",
    ),
    ("a strong date without any tag, to the letter", DATED, MONDAY, True, "last-modified"),
    ("a weak date must not be sent", replace(DATED, last_modified_strong=False), None, False, "length"),
    ("a date without a length proves too little", replace(DATED, complete_length=None), MONDAY, False, "length"),
    ("nothing", BARE, None, False, "length"),
    ("a digest is the best proof, and no validator", replace(BARE, sha256=HASH), None, False, "digest"),
]


@pytest.mark.parametrize(("why", "rep", "value", "validator", "best"), IF_RANGE, ids=[row[0] for row in IF_RANGE])
def test_what_a_representation_is_good_for(
    why: str, rep: Representation, value: str | None, validator: bool, best: str
) -> None:
    """RFC 9110 13.1.5 and 8.8.1: what may be sent, whether it shows sameness, and what proves the file."""
    assert (value, validator, best) == (if_range_value(rep), has_validator(rep), proof(rep)), why


def tagged(value: str, **more: Any) -> Representation:
    """Return a representation of 10 bytes with this tag."""
    return Representation(**{"etag": parse_etag(value), "complete_length": 10, **more})


DIFFERENCES: list[tuple[str, Representation, Representation, str | None, bool]] = [
    ("the same strong tag", STRONG, STRONG, None, True),
    ("another tag at the same length", STRONG, tagged('"b"'), 'etag "a" -> "b"', False),
    ("another length under the same tag", STRONG, tagged('"a"', complete_length=12), "size 10 -> 12", False),
    ("the length is not said this time", STRONG, tagged('"a"', complete_length=None), None, True),
    ("a node of the CDN leaves out the tag", STRONG, BARE, None, False),
    ("a tag where there was none", BARE, STRONG, None, False),
    ("nginx weakens the tag it would have sent", STRONG, WEAK, None, False),
    ("the same weak tag means nothing", WEAK, WEAK, None, False),
    ("another weak tag", WEAK, tagged('W/"b"'), 'etag W/"a" -> W/"b"', False),
    ("a weak tag that is another than the strong one", STRONG, tagged('W/"b"'), 'etag "a" -> W/"b"', False),
    ("Apache's suffix for the encoded form", STRONG, tagged('"a-gzip"'), None, False),
    ("Jetty's suffix", tagged('"a--gzip"'), STRONG, None, False),
    ("two encoded forms of one tag", tagged('"a-gzip"'), tagged('"a-br"'), None, False),
    ("a suffix that is no coding", STRONG, tagged('"a-2"'), 'etag "a" -> "a-2"', False),
    ("the encoded form of another tag", STRONG, tagged('"b-gzip"'), 'etag "a" -> "b-gzip"', False),
    ("quotes come and go", tagged('"a"'), tagged("a"), None, False),
    ("the same strong date and length", DATED, DATED, None, True),
    ("the date in another form", DATED, replace(DATED, last_modified="Mon Nov  6 08:49:37 2023"), None, True),
    (
        "another date",
        DATED,
        replace(DATED, last_modified=TUESDAY),
        f"last-modified {MONDAY} -> {TUESDAY}",
        False,
    ),
    (
        "a date that cannot be read is another",
        DATED,
        replace(DATED, last_modified="x"),
        f"last-modified {MONDAY} -> x",
        False,
    ),
    ("an unreadable date, the same", replace(BARE, last_modified="x"), replace(BARE, last_modified="x"), None, False),
    ("the same date, not strong this time", DATED, replace(DATED, last_modified_strong=False), None, False),
    ("the same date without a length", DATED, replace(DATED, complete_length=None), None, False),
    (
        "the nodes of a cluster disagree on the date, the strong tag decides",
        replace(DATED, etag=ETag('"a"')),
        replace(DATED, etag=ETag('"a"'), last_modified=TUESDAY),
        None,
        True,
    ),
    (
        "an equal weak tag does not outweigh the date",
        WEAK_DATED,
        replace(WEAK_DATED, last_modified=TUESDAY),
        f"last-modified {MONDAY} -> {TUESDAY}",
        False,
    ),
    ("a weak tag does not spoil a strong date", WEAK_DATED, WEAK_DATED, None, True),
    (
        "one field states two digests",
        replace(BARE, sha256=HASH, sha256_source="Repr-Digest"),
        replace(BARE, sha256=OTHER_HASH, sha256_source="Repr-Digest"),
        f"sha-256 {HASH} -> {OTHER_HASH}",
        False,
    ),
    (
        "two fields state two digests: one of them is wrongly computed",
        replace(BARE, sha256=HASH, sha256_source="X-Linked-ETag"),
        replace(BARE, sha256=OTHER_HASH, sha256_source="Repr-Digest"),
        None,
        False,
    ),
    ("only the media type is another", BARE, replace(BARE, content_type="text/plain"), None, False),
    ("nothing is known of either", Representation(), Representation(), None, False),
]


@pytest.mark.parametrize(
    ("why", "known", "new", "reason", "confirmed"), DIFFERENCES, ids=[row[0] for row in DIFFERENCES]
)
def test_what_shows_a_change_and_what_shows_sameness(
    why: str, known: Representation, new: Representation, reason: str | None, confirmed: bool
) -> None:
    """A difference has a plain reason; no difference is not yet a proof."""
    assert (reason, confirmed) == (differs(known, new), confirms(known, new)), why


@pytest.mark.parametrize(
    ("why", "new", "expected"),
    [
        ("another inode in the tag, all else agrees", replace(DATED, etag=ETag('"b"')), True),
        ("the same tag", replace(DATED, etag=ETag('"a"')), False),
        ("no tag to compare", DATED, False),
        ("another date too", replace(DATED, etag=ETag('"b"'), last_modified=TUESDAY), False),
        ("another length too", replace(DATED, etag=ETag('"b"'), complete_length=9), False),
        ("the date is weak", replace(DATED, etag=ETag('"b"'), last_modified_strong=False), False),
    ],
)
def test_a_change_of_the_tag_alone_is_doubtful(why: str, new: Representation, expected: bool) -> None:
    """Edge case 25: the nodes behind one name make different tags of the same file."""
    assert expected == only_tag_differs(replace(DATED, etag=ETag('"a"')), new), why
    assert only_tag_differs(DATED, new) is False, "without a known tag nothing differs"


def test_a_later_answer_adds_facts_but_never_validators() -> None:
    """A tag seen later must not vouch for bytes that came without one."""
    later = Representation(
        etag=ETag('"late"'),
        last_modified=MONDAY,
        last_modified_strong=True,
        complete_length=10,
        content_type="text/plain",
        sha256=HASH,
        sha256_source="Repr-Digest",
    )
    assert replace(later, etag=None, last_modified=None, last_modified_strong=False) == completed(
        Representation(), later
    )


def test_what_is_known_is_not_overwritten() -> None:
    """The first answer's facts stay."""
    known = replace(DATED, content_type="a/b", sha256=HASH, sha256_source="Repr-Digest")
    new = Representation(complete_length=11, content_type="c/d", sha256=OTHER_HASH, sha256_source="Digest")
    assert known == completed(known, new)


tags = st.builds(
    lambda text, weak: ETag(f'"{text}"', weak=weak),
    st.text(alphabet=[chr(c) for c in range(0x21, 0x7F) if c != 0x22], min_size=1, max_size=20),
    st.booleans(),
)
representations = st.builds(
    Representation,
    etag=st.none() | tags | st.text(max_size=30).map(parse_etag),
    last_modified=st.none() | st.just(MONDAY),
    complete_length=st.none() | st.integers(0, MAX_LENGTH),
    content_type=st.none() | st.just("text/plain"),
    content_encoding=st.none() | st.just("gzip"),
)


@given(representations, st.booleans(), st.booleans())
def test_the_store_gives_back_what_it_was_given(rep: Representation, strong: bool, stated: bool) -> None:
    """Through JSON text and back, with keys of a newer version in between."""
    if strong and rep.last_modified is not None:
        rep = replace(rep, last_modified_strong=True)
    if stated:
        rep = replace(rep, sha256=HASH, sha256_source="Repr-Digest")
    stored = json.loads(json.dumps({**rep.to_json(), "of_a_newer_version": [1, {}]}))
    assert rep == Representation.from_json(stored)
    assert has_validator(rep) == has_validator(Representation.from_json(stored))


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"etag": 7, "last_modified": 7, "complete_length": "10", "content_type": [], "sha256": 5, "sha256_source": "x"},
        {"etag": '"a\nb"', "last_modified": "a\nb", "complete_length": -1, "content_type": "x", "sha256": "abc"},
        {"complete_length": True, "last_modified_strong": True, "content_encoding": None},
        {"complete_length": MAX_LENGTH + 1, "last_modified_strong": 1},
        {"sha256_source": "Repr-Digest", "sha256": ""},
    ],
)
def test_a_damaged_row_says_nothing_rather_than_something_false(stored: dict[str, object]) -> None:
    """Values that make no sense count as absent."""
    assert Representation() == Representation.from_json(stored)


def test_a_date_that_is_none_is_not_strong_whatever_the_row_says() -> None:
    """What goes into If-Range is checked on the way out of the store too."""
    stored = {"last_modified": "soon", "last_modified_strong": True}
    assert Representation(last_modified="soon") == Representation.from_json(stored)


@given(
    st.dictionaries(st.sampled_from(["etag", "last-modified", "date", "content-type", "content-encoding"]), st.text())
)
def test_no_headers_make_it_raise(headers: dict[str, str]) -> None:
    """What an origin sends is data; and only a strong validator ever reaches If-Range."""
    rep = Representation.from_headers(headers, None)
    sent = if_range_value(rep)
    assert sent is None or (sent.isascii() and sent.isprintable())
    assert rep == Representation.from_json(json.loads(json.dumps(rep.to_json())))
    assert differs(rep, rep) is None


@pytest.mark.parametrize(
    ("rep", "best"),
    [
        (Representation(complete_length=9), "overlap"),
        (Representation(etag=ETag('"a"'), complete_length=9), "etag"),
        (weakened(Representation(etag=ETag('"a"'), complete_length=9)), "overlap"),
    ],
)
def test_comparing_proves_more_than_the_length_and_less_than_a_validator(rep: Representation, best: str) -> None:
    """Of two proofs the better one is named; a tag in doubt is none."""
    assert best == proof(rep, compared=True)
