"""A download as a client asks for it: JSON in, one checked record out. Pure; where it may go is decided elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct, field

from resumable_ui.inputs import parse_header, parse_sha256, parse_url
from resumable_ui.refusals import Code, Refused, is_text

MOST_MIRRORS: Final = 16
MOST_HEADERS: Final = 32
LONGEST: Final = 8192

FIELDS: Final = ("url", "filename", "directory", "project", "sha256", "mirrors", "headers")


class OrderForm(Struct, frozen=True, kw_only=True):
    """One file to get. ``url``, ``mirrors`` and ``headers`` may hold secrets."""

    url: str
    filename: str | None = None
    directory: str = ""
    project: str = ""
    sha256: str | None = None
    mirrors: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


def parse_order(form: Mapping[str, Any]) -> OrderForm:
    """Return the order; raise Refused (``bad_request``) with one sentence that shows no secret."""
    unknown = sorted(set(form) - {*FIELDS, "request_id"})
    if unknown:
        raise Refused(Code.BAD_REQUEST, f"there is no field {unknown[0][:40]!r}; there are {', '.join(FIELDS)}")
    mirrors = form.get("mirrors") or []
    headers = form.get("headers") or {}
    if not isinstance(mirrors, list) or len(mirrors) > MOST_MIRRORS:
        raise Refused(Code.BAD_REQUEST, f"mirrors must be a list of at most {MOST_MIRRORS} links")
    if not isinstance(headers, dict) or len(headers) > MOST_HEADERS:
        raise Refused(Code.BAD_REQUEST, f"headers must be an object of at most {MOST_HEADERS} fields")
    try:
        sha256 = _text(form, "sha256")
        return OrderForm(
            url=parse_url(_text(form, "url") or ""),
            filename=_text(form, "filename"),
            directory=_text(form, "directory") or "",
            project=(_text(form, "project") or "")[:200],
            sha256=None if sha256 is None else parse_sha256(sha256),
            mirrors=tuple(parse_url(_checked(mirror, "a mirror")) for mirror in mirrors),
            headers=dict(parse_header(f"{name}: {_checked(value, 'a header')}") for name, value in headers.items()),
        )
    except ValueError as error:
        raise Refused(Code.BAD_REQUEST, str(error)) from None


def _text(form: Mapping[str, Any], name: str) -> str | None:
    value = form.get(name)
    return None if value is None or value == "" else _checked(value, name)


def _checked(value: object, name: str) -> str:
    if not isinstance(value, str) or len(value) > LONGEST:
        msg = f"{name} must be a text of at most {LONGEST} characters"
        raise ValueError(msg)
    if not is_text(value):
        msg = f"{name} holds half a character"
        raise ValueError(msg)
    return value
