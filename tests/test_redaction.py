"""What an exception quotes of a request is stored and shown without its secrets, on one line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recovery.redaction import describe, names_a_secret, redacted

CANARY = "canary7f3a"

TEXTS = [
    ("nothing to hide", "the connection broke after 5 of 10 bytes"),
    ("our own sentences", "the file's SHA-256 digest differs; the token was refused"),
    ("names that only begin like it", "tokenizer=gpt2, max_tokens=5, secretary: Jane, passwords: 3, monkey=1"),
    ("an @ in a path", "https://h/react@18.2.0/x"),
    (
        "file names that begin like keys",
        "hf_transfer_benchmarks_of_november.csv sk-learn-extensions-for-everybody",
    ),
]

SECRETS = [
    ("user info", f"GET https://user:{CANARY}@h/a failed", "GET https://h/a failed"),
    ("a token as user", f"https://{CANARY}@h/a", "https://h/a"),
    ("query values", f"https://h/a?X-Amz-Signature={CANARY}&b={CANARY}", "https://h/a?X-Amz-Signature=***&b=***"),
    ("aiohttp's", f"400, url='https://h/a?b={CANARY}'", "400, url='https://h/a?b=***'"),
    ("a relative URL", f"exceeded with url: /a?token={CANARY}&b={CANARY} (Caused by X)", None),
    ("a URL in a form", f"body redirect=https%3A%2F%2Fme%3A{CANARY}%40h%2Fa", "body redirect=https%3A%2F%2Fh%2Fa"),
    ("an encoded pair", f"a%26access_token%3D{CANARY}%26b", "a%26access_token%3D***%26b"),
    ("a Hugging Face key", f"no access with hf_{CANARY}{'x' * 24}.", "no access with hf_***."),
    ("a GitHub key", f"github_pat_{CANARY}{'x' * 24} has expired", "github_pat_*** has expired"),
    ("a web token", f"eyJhbGciOiJI.{CANARY}.{CANARY} has expired", "eyJ*** has expired"),
    ("a header line", f"Authorization: Bearer {CANARY}", "Authorization: ***"),
    (
        "a mapping",
        f"{{'Authorization': 'Bearer {CANARY}', 'Range': 'bytes=0-'}}",
        "{'Authorization': ***, 'Range': 'bytes=0-'}",
    ),
    ("pairs of bytes", f"[(b'authorization', b'Basic {CANARY}'), (b'a', b'b')]", None),
    ("several cookies", f"Cookie: a={CANARY}; b={CANARY}", "Cookie: ***"),
    ("a digest", f'Authorization: Digest username="u", response="{CANARY}"', None),
    ("a quoted password with a space", f"password='se {CANARY}' for u", "password=*** for u"),
    ("JSON", f'{{"cookie": "{CANARY}", "a": 1}}', None),
    ("a parameter", f"signature={CANARY}, expired", "signature=***, expired"),
    ("an API key", f"x-api-key: {CANARY}", "x-api-key: ***"),
    ("a password", f"password={CANARY} for u", "password=*** for u"),
    ("a client secret", f"client_secret={CANARY}", "client_secret=***"),
    ("a bearer token in prose", f"sent Bearer {CANARY}{CANARY} to h", "sent Bearer *** to h"),
    ("basic credentials in prose", f"Basic {CANARY}== sent", "Basic *** sent"),
    ("an environment variable", f"HF_TOKEN={CANARY} was refused", "HF_TOKEN=*** was refused"),
    ("Amazon's", f"AWS_SECRET_ACCESS_KEY={CANARY}", "AWS_SECRET_ACCESS_KEY=***"),
    ("Amazon's session", f"aws_session_token={CANARY}; x", "aws_session_token=***; x"),
    ("a database's password", f"db_password={CANARY} host=h", "db_password=*** host=h"),
    ("a setting in a mapping", f"{{'hf_token': '{CANARY}', 'n': 1}}", "{'hf_token': ***, 'n': 1}"),
    ("a setting in camel case", f"hfToken={CANARY}, dbPassword: {CANARY}", "hfToken=***, dbPassword: ***"),
    ("JSON inside a string", f'"{{\\"hf_token\\": \\"{CANARY}\\"}}"', None),
    ("a user's API key", f"user_api_key={CANARY}", "user_api_key=***"),
    ("Gitlab's", f"PRIVATE-TOKEN: {CANARY}", "PRIVATE-TOKEN: ***"),
    ("Django's", f"SECRET_KEY = '{CANARY}'", "SECRET_KEY = ***"),
    ("Azure's", f"AccountName=a;AccountKey={CANARY}==;x", "AccountName=a;AccountKey=***;x"),
    ("ODBC's", f"UID=u;PWD={CANARY};x", "UID=u;PWD=***;x"),
    ("a passphrase of several words", f"passphrase: correct {CANARY}", "passphrase: ***"),
    ("a cookie set", f"Set-Cookie: {CANARY}", "Set-Cookie: ***"),
]


@pytest.mark.parametrize(("why", "text"), TEXTS, ids=[row[0] for row in TEXTS])
def test_what_holds_no_secret_comes_back_as_it_is(why: str, text: str) -> None:
    """Nothing is hidden for the sake of hiding."""
    assert redacted(text) == text, why
    assert describe(ValueError(text)) == f"ValueError: {text}"


@pytest.mark.parametrize(("why", "text", "expected"), SECRETS, ids=[row[0] for row in SECRETS])
def test_secrets_are_hidden(why: str, text: str, expected: str | None) -> None:
    """In every form in which libraries quote them; what was hidden once is not changed again."""
    shown = redacted(text)
    assert CANARY not in shown, why
    assert shown == (expected or shown)
    assert redacted(shown) == shown
    assert CANARY not in describe(RuntimeError(text))


@pytest.mark.parametrize(
    ("exc", "expected"),
    [
        (ValueError("a\r\n\tb   c"), "ValueError: a b c"),
        (ValueError("\x1b[31mred\x00"), "ValueError: ?[31mred?"),
        (ValueError("a\u202eb\u2028c"), "ValueError: a?b c"),
        (ValueError(), "ValueError"),
        (KeyError("k"), "KeyError: 'k'"),
        (ValueError("x" * 1000), "ValueError: " + "x" * 285 + "..."),
        (ValueError("模🙂"), "ValueError: 模🙂"),
    ],
    ids=["white space", "control", "bidirectional", "empty", "key", "long", "not ascii"],
)
def test_one_line(exc: BaseException, expected: str) -> None:
    """Printable, and short enough to be kept for every attempt."""
    assert describe(exc) == expected


def test_a_message_that_cannot_be_read() -> None:
    """A stranger's ``__str__`` must not turn one failure into two."""

    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert describe(OddError()) == "OddError: (its message cannot be read)"


@settings(deadline=None)
@given(st.text(max_size=300))
def test_no_text_makes_it_raise(text: str) -> None:
    """One printable line out, whatever goes in."""
    line = describe(Exception(text))
    assert line.isprintable()
    assert len(line) <= 300


def test_a_megabyte_is_not_searched_at_leisure() -> None:
    """A server's page as a message costs nothing."""
    assert len(describe(ValueError("token=" * 200_000))) <= 300


@pytest.mark.parametrize(
    "name",
    ["token", "hfToken", "HF_TOKEN", "dbPassword", "pwd", "passphrase", "aws_session_token",
     "api_key", "apikey", "access-key", "password", "passwd", "db_password", "secret", "client_secret", "auth",
     "Authorization", "cookie", "cookies", "headers", "credentials", "signature", "aws.secret", "TOKENS", "bearer"],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    """Arguments of these names are not stored."""
    assert names_a_secret(name)


@pytest.mark.parametrize(
    "name", ["url", "path", "tokenizer", "author", "passage", "secretary", "key", "keys", "monkey", "compass", ""]
)
def test_names_of_no_secrets(name: str) -> None:
    """What only sounds like it is."""
    assert not names_a_secret(name)
