"""Which address is asked next and who may be told what: the rules as tables, without a socket."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumable.credentials import Secrets, basic, login_in, origin
from resumable.errors import RedirectRefused
from resumable.redirects import location, next_hop, parse_url


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("http://h/a%2fb?x=%7e&y=+&z", "http://h/a%2fb?x=%7e&y=+&z"),
        ("http://h", "http://h/"),
        ("http://h?q", "http://h/?q"),
        ("HTTP://HOST:80/A", "http://host/A"),
        ("http://h/a#b?c", "http://h/a"),
        (" \t\nhttp://h/\x00 ", "http://h/"),
        ('http://h/a b\u00e9|"<>', "http://h/a%20b%C3%A9|%22%3C%3E"),
        ("http://h/100%", "http://h/100%"),
        ("http://h/\udce9", "http://h/%E9"),  # a raw Latin-1 byte in a header, as aiohttp hands it over
        ("http://b\u00fccher.example/", "http://xn--bcher-kva.example/"),
        ("http://[::1]:8/x", "http://[::1]:8/x"),
        ("http://u:p@h/", "http://u:p@h/"),
        ("http://h/../a/./b//c", "http://h/../a/./b//c"),
    ],
)
def test_an_address_is_kept_as_written(text: str, parsed: str) -> None:
    """Escapes, slashes and dots stay; only what no request line may hold is escaped, and the fragment is dropped."""
    assert str(parse_url(text)) == parsed


@pytest.mark.parametrize(
    "text",
    [
        "", "h/path", "//h/path", "ftp://h/", "file:///etc/passwd", "javascript:alert(1)", "data:,x", "gopher://h/",
        "unix:///run/docker.sock", "http:///path", "http://", "http://:80/", "http://u@/", "http://h:x/", "http://h:99999/",
        "http://h/a\r\nX: y", "http://h/\tb", "http://h\n.evil/", "http://a b/", "http://a%2fb/", "http://a\\@b/",
        "http://[::1/", "http://h$x/", "view-source:http://h/", "http:h/", "http:/h/",
    ],
)  # fmt: skip
def test_what_is_no_http_address_is_refused(text: str) -> None:
    """Other schemes, missing hosts, control characters, and hosts that two parsers could read differently."""
    with pytest.raises(ValueError, match=r"\w"):
        parse_url(text)


@given(st.text(max_size=60))
def test_parsing_is_total_and_what_it_returns_is_sendable(tail: str) -> None:
    """Any text gives ValueError, or an address in printable ASCII that parses to itself."""
    for text in (tail, f"http://{tail}", f"http://h/{tail}"):
        try:
            url = parse_url(text)
        except ValueError:
            continue
        shown = str(url)
        assert shown.isascii()
        assert shown.isprintable()
        assert " " not in shown
        assert str(parse_url(shown)) == shown


@pytest.mark.parametrize(
    ("status", "headers", "where"),
    [
        *[(status, {"location": "/x"}, "/x") for status in (300, 301, 302, 303, 307, 308)],
        *[(status, {"location": "/x"}, None) for status in (200, 201, 206, 304, 305, 306, 404, 503)],
        (302, {}, None),
        (302, {"location": ""}, ""),
    ],
)
def test_only_redirects_redirect(status: int, headers: dict[str, str], where: str | None) -> None:
    """RFC 9110 15.4; the Location of a 201 names something else."""
    assert location(status, headers) == where


BASE = "http://h/dir/file?old=1"


@pytest.mark.parametrize(
    ("where", "target"),
    [
        ("http://other/x", "http://other/x"),
        ("/x?y", "http://h/x?y"),
        ("x", "http://h/dir/x"),
        ("../x", "http://h/x"),
        ("?new=2", "http://h/dir/file?new=2"),
        ("//cdn/x", "http://cdn/x"),
        ("https://h/x", "https://h/x"),
        ("/x#part", "http://h/x"),
        (" /x ", "http://h/x"),
        ("http://admin:admin@router/", "http://router/"),
        ("/a%2Fb~%7e?sig=a+b%2B/=", "http://h/a%2Fb~%7e?sig=a+b%2B/="),
    ],
)
def test_a_location_is_taken_relative_to_what_was_asked(where: str, target: str) -> None:
    """RFC 3986 5.2; user info that a server chose is dropped, escapes stay as they are."""
    assert str(next_hop(parse_url(BASE), where, {BASE}, most=10)) == target


@pytest.mark.parametrize(
    ("current", "where", "words"),
    [
        ("http://h/", "file:///etc/passwd", "not http"),
        ("http://h/", "FTP://h/x", "not http"),
        ("http://h/", "javascript:alert(1)", "not http"),
        ("http://h/", "data:text/html,hi", "not http"),
        ("http://h/", "http://", "circle"),
        ("http://h/", "http://[::1", "not http"),
        ("http://h/", "http://u:secret@/", "not http"),
        ("http://h/", "http://other/a\r\nX-Evil: 1", "not http"),
        ("https://h/", "http://h/", "https to http"),
        ("https://h/", "HTTP://other/", "https to http"),
        ("http://h/a", "/a", "circle"),
        ("http://h/a", "", "circle"),
        ("http://h/a", "#b", "circle"),
        ("http://h/a", "http://H/a", "circle"),
    ],
)
def test_a_redirect_that_must_not_be_followed(current: str, where: str, words: str) -> None:
    """Other schemes, down from https, and back to where the chain has been."""
    with pytest.raises(RedirectRefused, match=words) as raised:
        next_hop(parse_url(current), where, {current}, most=10)
    assert "secret" not in f"{raised.value!s}{raised.value.__cause__!r}"
    assert raised.value.__context__ is None, "it would quote the address"
    assert isinstance(raised.value.__cause__, ValueError) == (words == "not http")


@pytest.mark.parametrize(("most", "followed"), [(0, 0), (1, 1), (10, 10)])
def test_redirects_are_counted(most: int, followed: int) -> None:
    """Exactly as many as allowed are followed."""
    url = parse_url("http://h/0")
    visited = {str(url)}
    for number in range(1, followed + 1):
        url = next_hop(url, f"/{number}", visited, most=most)
        visited.add(str(url))
    with pytest.raises(RedirectRefused, match=f"more than {most}"):
        next_hop(url, "/more", visited, most=most)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://h/a", "http://h/b?c", True),
        ("http://h/", "http://h:80/", True),
        ("https://h/", "https://h:443/", True),
        ("http://h/", "http://H/", True),
        ("http://u:p@h/", "http://h/", True),
        ("http://h/", "https://h/", False),
        ("http://h/", "http://h:8080/", False),
        ("http://h/", "http://www.h/", False),
        ("http://h/", "http://h./", False),
        ("http://127.0.0.1/", "http://localhost/", False),
    ],
)
def test_an_origin_is_scheme_host_and_port(one: str, other: str, *, same: bool) -> None:
    """RFC 9110 4.3.1: the port counts as much as the host (aiohttp#12275)."""
    assert (origin(parse_url(one)) == origin(parse_url(other))) is same


OURS, THEIRS = "https://ours/a", "https://theirs/a"
TOKEN = {"X-Api-Key": "hunter2", "Cookie": "session=1"}
ALICE, BOB = basic("alice", "secret"), basic("bob", "secret")


@pytest.mark.parametrize(
    ("first", "private", "headers", "chain", "told"),
    [
        (OURS, OURS, TOKEN, ["https://ours/b"], [(TOKEN, True), (TOKEN, True)]),
        (OURS, OURS, TOKEN, [THEIRS], [(TOKEN, True), ({}, False)]),
        (OURS, OURS, TOKEN, [THEIRS, OURS], [(TOKEN, True), ({}, False), ({}, False)]),
        (OURS, OURS, TOKEN, ["https://ours:444/a"], [(TOKEN, True), ({}, False)]),
        ("http://ours/a", "http://ours/a", TOKEN, ["https://ours/a"], [(TOKEN, True), ({}, False)]),
        (THEIRS, OURS, TOKEN, [OURS], [({}, False), ({}, False)]),
        (
            "https://alice:secret@ours/a", OURS, {}, ["https://ours/b", THEIRS],
            [({"Authorization": ALICE}, False), ({"Authorization": ALICE}, False), ({}, False)],
        ),
        (OURS, "https://alice:secret@ours/a", {}, [THEIRS], [({"Authorization": ALICE}, False), ({}, False)]),
        (
            "https://bob:secret@ours/a", "https://alice:secret@ours/a", {}, ["https://ours/b"],
            [({"Authorization": BOB}, False), ({"Authorization": BOB}, False)],
        ),
        ("https://bob:secret@theirs/a", OURS, TOKEN, [OURS], [({"Authorization": BOB}, False), ({}, False)]),
        (
            "https://alice:secret@ours/a", OURS, {"AUTHORIZATION": "Bearer x"}, [],
            [({"AUTHORIZATION": "Bearer x"}, False)],
        ),
    ],
)  # fmt: skip
def test_each_hop_is_told_only_its_own_secrets(
    first: str, private: str, headers: dict[str, str], chain: list[str], told: list[tuple[dict[str, str], bool]]
) -> None:
    """The matrix of S14: scheme, host and port must all be the same, and trust that was lost does not come back."""
    secrets = Secrets(parse_url(first), parse_url(private), headers)
    found = [secrets.tell(parse_url(url)) for url in [first, *chain]]
    assert [(dict(one.headers), one.netrc) for one in found] == told


@pytest.mark.parametrize(
    ("url", "login"),
    [
        ("http://h/", None),
        ("http://user@h/", basic("user", "")),
        ("http://a%40b:c%3Ad%2F@h/", basic("a@b", "c:d/")),
        ("http://%C3%A9:x@h/", basic("\u00e9", "x")),
    ],
)
def test_user_info_is_decoded_for_the_header(url: str, login: str | None) -> None:
    """RFC 7617 in UTF-8."""
    assert login_in(parse_url(url)) == login


def test_what_is_told_does_not_print_itself() -> None:
    """A repr in a log or a traceback shows no secret."""
    told: Any = Secrets(parse_url(OURS), parse_url(OURS), TOKEN).tell(parse_url(OURS))
    assert "hunter2" not in repr(told)
