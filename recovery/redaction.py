"""Exceptions and texts as they may be stored and shown: without line breaks, control characters, or secrets in URLs.

A net, not a proof: it hides what has the form of a secret (user info, query values, ``token=...``, ``Authorization:``).
Programs that know their own secrets pass a stricter ``describe`` to the supervisor.
"""

from __future__ import annotations

import re

__all__ = ["describe", "names_a_secret", "redacted"]

_LONGEST = 300
_LONGEST_READ = 4000
# Compiled at the first failure: nothing that goes well needs them, and together they cost 5 ms.
_USER = r"([A-Za-z][A-Za-z0-9+.-]{0,20}://)[^\s/@'\"<>]*@"
_QUERY = r"([?&][^\s=&'\"<>]{1,200}=)[^\s&'\"<>),\]}]+"
_SEPARATOR = r"((?:\\{0,3}['\"]?\s{0,3}[:=]|['\"],)\s{0,3}+)(?!\*\*\*)"
_QUOTED = r"b?'[^'\r\n]*'?|b?\"[^\"\r\n]*\"?"
# The whole line: a cookie's second value is as secret as its first.
_HEADER = (
    rf"(?i)(?<![A-Za-z0-9])((?:proxy-)?authorization|(?:set-)?cookie|passphrase){_SEPARATOR}"
    rf"(?:{_QUOTED}|[^'\"{{}}()\[\]\r\n][^{{}}()\[\]\r\n]*)"
)
# Whatever stands before it: HF_TOKEN, aws_session_token, dbPassword, AWS_SECRET_ACCESS_KEY.
_NAMED = (
    r"(?i)(token|(?:api|access|secret|private|account|signing|encryption)[_-]?key|secret|passw(?:or)?d|\bpwd|_pwd"
    r"|signature|credentials?)"
    rf"{_SEPARATOR}(?:{_QUOTED}|(?:(?:bearer|basic|token)\s+)?[^\s,;&)}}\]]+)"
)
_TELLING_NAME = (
    r"(?i)(?:^|_|-|\.)(?:tokens?|secrets?|passw(?:or)?ds?|passphrase|pass|pwd|api[_-]?keys?|access[_-]?keys?|private[_-]?key|credentials?"
    r"|auth|authorization|cookies?|signature|headers|bearer)(?:$|_|-|\.)"
)
_HUMP = r"(?<=[a-z0-9])(?=[A-Z])"
# Encoded for a URL within a URL, or within a form.
_ENCODED_USER = r"(?i)(%3A%2F%2F)[^\s/&%'\"<>]*(?:%3A[^\s/&%'\"<>]*)?%40"
_ENCODED = r"(?i)((?:token|secret|passw(?:or)?d|signature|[_-]key)%3D)(?!\*\*\*)[^\s&%'\"<>),\]}]+"
# What tells by itself what it is: keys of Hugging Face, GitHub, GitLab, OpenAI, Slack, AWS, and JSON Web Tokens.
_KNOWN = (
    r"\b(hf_|gh[pousr]_|sk-(?:proj-|ant-)?)[A-Za-z0-9]{30,}|\b(github_pat_|glpat-|xox[abeprs]-)[\w-]{16,}"
    r"|\b(AKIA|ASIA)[A-Z0-9]{16}\b|\b(eyJ)[\w-]{8,}\.[\w-]{8,}\.[\w-]*"
)
_BEARER = r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"


def describe(exc: BaseException) -> str:
    """Return ``TypeName: message`` on one line of at most 300 characters; never raises."""
    try:
        text = str(exc)
    except Exception:  # noqa: BLE001 - a stranger's __str__ must not turn one failure into two
        text = "(its message cannot be read)"
    text = " ".join(redacted(text[:_LONGEST_READ]).split())
    text = "".join(char if char.isprintable() else "?" for char in text)
    line = f"{type(exc).__name__}: {text}" if text else type(exc).__name__
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


def redacted(text: str) -> str:
    """Return the text with ``***`` in place of what has the form of a secret, or as it is.

    Keys of well-known services are told by their first letters, wherever they stand.
    """
    text = re.sub(_USER, r"\1", text)
    text = re.sub(_HEADER, r"\1\2***", text)
    text = re.sub(_NAMED, r"\1\2***", text)
    text = re.sub(_BEARER, r"\1 ***", text)
    text = re.sub(_ENCODED_USER, r"\1", text)
    text = re.sub(_ENCODED, r"\1***", text)
    text = re.sub(_KNOWN, lambda found: f"{found[found.lastindex or 0]}***", text)
    return re.sub(_QUERY, r"\1***", text)


def names_a_secret(name: str) -> bool:
    """Return whether an argument or a field of this name holds what must not be stored: a password, a token, a key."""
    return re.search(_TELLING_NAME, re.sub(_HUMP, "_", name)) is not None
