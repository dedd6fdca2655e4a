"""What may be shown of a URL, a message or a name: without secrets, on one line, and harmless to a terminal.

Every query value counts as a secret: tokens and signatures have a hundred names. It does not decide what is stored.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

HIDDEN: Final = "***"

_LONGEST_TEXT: Final = 20_000
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20}:)?([/\\]*)([^/\\]*)(.*)", re.DOTALL)
_PORT_OR_NONE: Final = re.compile(r"(?:[^:\[\]]*|\[[^\[\]]*\])(?::[0-9]*)?", re.DOTALL)
_PATH_PARAMETER: Final = re.compile(r"(;[^=/;]*=)[^/;]+")
# What is looked for in texts is compiled at the first failure, when one is shown: 4 ms.
_URL_IN_TEXT: Final = r"[A-Za-z][A-Za-z0-9+.-]{0,20}:[/\\]{2}[^\s'\"<>`]+"
_QUERY_IN_TEXT: Final = r"([?&][^\s=&'\"<>]{1,200}=)[^\s&'\"<>),\]}]+"
_FIELD_NAMES: Final = (
    r"(?<![A-Za-z0-9])(?:(?:proxy-)?authorization|(?:set-)?cookie2?|x-api-key|x-auth-token|private-token|passphrase)"
)
# Whatever stands before it: HF_TOKEN, aws_session_token, dbPassword, AWS_SECRET_ACCESS_KEY.
_PARAMETER_NAMES: Final = (
    r"signature|credentials?|token|(?:api|access|secret|private|account|signing|encryption)[_-]?key|secret|passw(?:or)?d"
    r"|\bpwd|_pwd"
)
# A name and its value as in a header, in the repr() of a mapping, or in that of a list of pairs. Unquoted, the value
# of a field goes on to the end of its line, that of a parameter to the next blank. What is hidden already stays as it
# is.
_NAMED: Final = r"""((?:{})(?:\s{{0,3}}[:=]|["']\s{{0,3}}[:,=])\s{{0,3}})"""
_QUOTED: Final = r"""(?:(b?["'])(?:(?<=")(?:[^"\\\r\n]|\\.)*"?|(?<=')(?:[^'\\\r\n]|\\.)*'?)|(?!\*\*\*)"""
_FIELD_IN_TEXT: Final = "(?i)" + _NAMED.format(_FIELD_NAMES) + _QUOTED + r"""[^"'\s][^\r\n]*)"""
_PARAMETER_IN_TEXT: Final = "(?i)" + _NAMED.format(_PARAMETER_NAMES) + _QUOTED + r"""[^"'\s][^\s&;,)]*)"""
_SCHEME_IN_TEXT: Final = r"(?i)\b(?:(bearer)\s{1,3}[A-Za-z0-9._~+/=-]{6,}|(basic)\s{1,3}[A-Za-z0-9+/=]{16,})"
_ESCAPES: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def redact_url(url: str) -> str:
    """Return the URL without user info and fragment, each query value as ``***``, and every control character escaped.

    Never raises: what is no URL is treated as one as far as it goes, and hidden where it may hold a password.
    """
    head, mark, query = url.partition("#")[0].partition("?")
    return one_line(_without_user(head) + mark + _hidden_query(query))


def has_secret(url: str) -> bool:
    """Whether ``redact_url`` hides something, so that its result cannot be fetched in place of ``url``."""
    return hides(redact_url(url), url)


def hides(shown: str, url: str) -> bool:
    """Whether ``shown``, the URL as ``redact_url`` has returned it, lacks something of it."""
    return shown != url.partition("#")[0]


def redact_text(text: str) -> str:
    """Return a message for people on one line: URLs redacted, values of secret header fields and parameters hidden.

    For the texts of other people's exceptions, which quote requests. At most 20,000 characters of it are kept.
    """
    text = text[:_LONGEST_TEXT]
    text = re.sub(_URL_IN_TEXT, lambda match: redact_url(match[0]), text)
    text = re.sub(_FIELD_IN_TEXT, _hidden_field, text)
    text = re.sub(_PARAMETER_IN_TEXT, _hidden_field, text)
    text = re.sub(_SCHEME_IN_TEXT, rf"\1\2 {HIDDEN}", text)
    return one_line(re.sub(_QUERY_IN_TEXT, rf"\1{HIDDEN}", text))


def one_line(text: str) -> str:
    """Return the text with control, escape, bidirectional, invisible and line-breaking characters as ``\\x1b``."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or unicodedata.category(char) == "Zs" else _escaped(char) for char in text
    )


def _escaped(char: str) -> str:
    code = ord(char)
    if char in _ESCAPES:
        return _ESCAPES[char]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _hidden_field(match: re.Match[str]) -> str:
    opened = match[2] or ""
    return f"{match[1]}{opened}{HIDDEN}{opened[-1:]}"


def _without_user(head: str) -> str:
    match = _URL.fullmatch(head)
    assert match is not None  # the pattern takes any text
    scheme, slashes, path = match[1] or "", match[2], match[4]
    _, at, authority = match[3].rpartition("@")
    if at and not slashes:
        scheme = ""  # "user:password@host": what looked like a scheme is the user
    # What follows the last colon is no port: a password that holds an unescaped "/", "?" or "#", which ended it early.
    if not _PORT_OR_NONE.fullmatch(authority):
        return scheme + slashes + HIDDEN
    return scheme + slashes + authority + _PATH_PARAMETER.sub(rf"\1{HIDDEN}", path)


def _hidden_query(query: str) -> str:
    if not query:
        return ""
    # "&" and ";" both separate, depending on who reads it.
    return "".join(part if part in "&;" else _hidden_value(part) for part in re.split("([&;])", query))


def _hidden_value(part: str) -> str:
    name, equals, value = part.partition("=")
    if not equals:
        return HIDDEN  # a bare word may be the token itself
    return name + equals + (HIDDEN if value else "")
