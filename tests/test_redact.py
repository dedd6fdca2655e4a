"""No secret, no second line and no terminal command gets out of what is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumable.redact import has_secret, one_line, redact_text, redact_url

URLS: list[tuple[str, str, str, bool]] = [
    ("nothing to hide", "https://h.example:8080/a/b.bin", "https://h.example:8080/a/b.bin", False),
    ("user info", "https://user:secret@h/a", "https://h/a", True),
    ("a token as user", "https://secret@h/a", "https://h/a", True),
    ("an @ in the password", "https://u:sec@ret@h/a", "https://h/a", True),
    ("query values", "https://h/a?X-Amz-Signature=secret&b=2;c=3", "https://h/a?X-Amz-Signature=***&b=***;c=***", True),
    ("an empty value has nothing to hide", "https://h/a?b=", "https://h/a?b=", False),
    ("a bare word may be the token", "https://h/a?secret", "https://h/a?***", True),
    ("a bare word among others", "https://h/a?x=1&secret", "https://h/a?x=***&***", True),
    ("a question mark in a value", "https://h/a?b=c?secret", "https://h/a?b=***", True),
    ("an empty query", "https://h/a?", "https://h/a?", False),
    ("the fragment", "https://h/a#secret", "https://h/a", False),
    ("a parameter of the path", "https://h/a;jsessionid=secret/b", "https://h/a;jsessionid=***/b", True),
    ("an IPv6 address", "http://[::1]:80/a", "http://[::1]:80/a", False),
    ("an @ in the path is no user", "https://h/react@18.2.0/x", "https://h/react@18.2.0/x", False),
    ("an unescaped slash in the password", "http://u:sec/ret@h/a", "http://***", True),
    ("an unescaped question mark in the password", "http://u:sec?ret@h/a", "http://***?***", True),
    ("an unescaped hash in the password", "http://u:sec#ret@h/a", "http://***", True),
    ("a broken IPv6 address", "http://[::1", "http://***", True),
    ("backslashes for slashes", "http:\\\\u:secret@h\\a", "http:\\\\h\\a", True),
    ("too many slashes", "http:///u:secret@h/a", "http:///h/a", True),
    ("no scheme", "//u:secret@h/a", "//h/a", True),
    ("no slashes either", "u:secret@h/a", "h/a", True),
    ("a reference", "/a?token=secret", "/a?token=***", True),
    ("a terminal escape", "https://h/\x1b[2J", "https://h/\\x1b[2J", True),
    ("a terminal escape in a name", "https://h/?\x1b]0;x=1", "https://h/?***;x=***", True),
    ("a line break", "https://h/a\nb", "https://h/a\\nb", True),
    ("a bidirectional override", "https://h/\u202egpj", "https://h/\\u202egpj", True),
    ("empty", "", "", False),
]


@pytest.mark.parametrize(("why", "url", "expected", "secret"), URLS, ids=[row[0] for row in URLS])
def test_a_url_is_shown_without_its_secrets(why: str, url: str, expected: str, secret: bool) -> None:
    """What is hidden is said to be hidden: the shown form cannot be fetched then."""
    assert (expected, secret) == (redact_url(url), has_secret(url)), why


TEXTS: list[tuple[str, str, str]] = [
    ("nothing to hide", "the connection broke after 5 of 10 bytes", "the connection broke after 5 of 10 bytes"),
    (
        "aiohttp's",
        "400, message='Bad', url='https://u:secret@h/a?b=secret'",
        "400, message='Bad', url='https://h/a?b=***'",
    ),
    ("yarl's", "URL('https://h/?a=secret')", "URL('https://h/?a=***')"),
    (
        "urllib3's, with a relative URL",
        "Max retries exceeded with url: /a?token=secret&b=secret (Caused by X)",
        "Max retries exceeded with url: /a?token=***&b=*** (Caused by X)",
    ),
    ("two URLs", "http://h/?a=secret to http://h/?b=secret", "http://h/?a=*** to http://h/?b=***"),
    ("a URL in angle brackets", "see <https://h/?q=secret>, ok", "see <https://h/?q=***>, ok"),
    ("a header line", "Authorization: Bearer secret\nHost: h", "Authorization: ***\\nHost: h"),
    ("a cookie with several values", "Cookie: a=secret; b=secret", "Cookie: ***"),
    (
        "a mapping",
        "{'Authorization': 'Bearer secret', 'Range': 'bytes=0-'}",
        "{'Authorization': '***', 'Range': 'bytes=0-'}",
    ),
    ("a mapping in JSON", '{"cookie": "secret", "a": 1}', '{"cookie": "***", "a": 1}'),
    ("pairs of bytes", "[(b'authorization', b'secret'), (b'a', b'b')]", "[(b'authorization', b'***'), (b'a', b'b')]"),
    ("a quote inside a quoted value", r"{'Cookie': 'a=\'secret\'; b=secret', 'x': 1}", "{'Cookie': '***', 'x': 1}"),
    ("a value that is a list", "{'set-cookie': ['secret', 'secret']}", "{'set-cookie': ***"),
    ("another secret header", "X-API-Key: secret", "X-API-Key: ***"),
    ("a parameter alone", "signature=secret, expired", "signature=***, expired"),
    ("a parameter of a request", "access_token: secret was refused", "access_token: *** was refused"),
    ("a password", "password='se cret' for u", "password='***' for u"),
    ("a bearer token in prose", "sent Bearer secret-secret to h", "sent Bearer *** to h"),
    ("basic credentials in prose", "Basic c2VjcmV0OnNlY3JldA== sent", "Basic *** sent"),
    ("an environment variable", "HF_TOKEN=secret was refused", "HF_TOKEN=*** was refused"),
    ("Amazon's", "AWS_ACCESS_KEY=secret", "AWS_ACCESS_KEY=***"),
    ("Amazon's session", "aws_session_token=secret; x", "aws_session_token=***; x"),
    ("a database's password", "db_password=secret host=h", "db_password=*** host=h"),
    ("a setting in a mapping", "{'hf_token': 'secret', 'n': 1}", "{'hf_token': '***', 'n': 1}"),
    ("a setting in camel case", "hfToken=secret, dbPassword: secret", "hfToken=***, dbPassword: ***"),
    ("ODBC's", "UID=u;PWD=secret;x", "UID=u;PWD=***;x"),
    ("Gitlab's", "PRIVATE-TOKEN: secret", "PRIVATE-TOKEN: ***"),
    ("a passphrase of several words", "passphrase: correct secret", "passphrase: ***"),
    (
        "prose that only sounds like it",
        "the token was refused, a basic cookie, he said",
        "the token was refused, a basic cookie, he said",
    ),
    ("our own sentences", "the file's SHA-256 digest differs", "the file's SHA-256 digest differs"),
    (
        "control characters",
        "a\x1b[31mb\r\n\tc\u2028d\u202ee\x7f\U000e0001",
        "a\\x1b[31mb\\r\\n\\tc\\u2028d\\u202ee\\x7f\\U000e0001",
    ),
    ("empty", "", ""),
]


@pytest.mark.parametrize(("why", "text", "expected"), TEXTS, ids=[row[0] for row in TEXTS])
def test_a_message_is_shown_without_secrets_on_one_line(why: str, text: str, expected: str) -> None:
    """What other people's exceptions quote of a request."""
    assert expected == redact_text(text), why
    assert "secret" not in redact_text(text)
    assert redact_text(text) == redact_text(redact_text(text)), "shown twice is shown the same"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("no-break\u00a0space and ideographic\u3000space stay", "no-break\u00a0space and ideographic\u3000space stay"),
        ("e\u0301 模 🙂", "e\u0301 模 🙂"),
        ("\x00\x9b\ud800\udce9", "\\x00\\x9b\\ud800\\udce9"),
        ("a\\nb", "a\\nb"),
    ],
)
def test_one_line_is_printable_and_can_be_encoded(text: str, expected: str) -> None:
    """C1 controls and lone surrogates too: they break terminals and UTF-8."""
    assert expected == one_line(text)
    assert one_line(text).encode()


CANARY = "canary7f3a"
AROUND = st.text(alphabet="abc:/?#@&;=%[]\\ '\"", max_size=12)


@given(st.sampled_from(["http", "https", "HTTP"]), AROUND, st.sampled_from(["h", "h.example:80", "[::1]"]), AROUND)
def test_no_password_and_no_query_value_survives(scheme: str, before: str, host: str, after: str) -> None:
    """A canary in every place where a URL keeps secrets, among garbage."""
    quiet = before.translate({ord(char): None for char in "@/\\?#'\" "})
    for url in (
        f"{scheme}://{quiet}:{CANARY}@{host}/a",
        f"{scheme}://{CANARY}@{host}/a?{after}",
        f"{scheme}://{host}/a?{quiet}={CANARY}",
        f"{scheme}://{host}/a?{CANARY}",
        f"{scheme}://{host}/a#{after}{CANARY}",
    ):
        assert CANARY not in redact_url(url)
        if not set(after) & set("'\" "):  # which end a URL in a text
            assert CANARY not in redact_text(f"failed for {url} twice")


@given(st.text(max_size=100))
def test_no_text_makes_it_raise(text: str) -> None:
    """Garbage in, one printable line out."""
    for shown in (redact_url(text), redact_text(text), one_line(text)):
        assert "\n" not in shown
        assert "\x1b" not in shown
        shown.encode()
    assert has_secret(text) == (redact_url(text) != text.partition("#")[0])


def test_a_very_long_message_is_cut_and_quick() -> None:
    """A server's megabyte of text is not searched at leisure."""
    assert len(redact_text("a" * 1_000_000)) == 20_000
    assert CANARY not in redact_text("Cookie: " * 2000 + "'token=" * 500 + CANARY)
