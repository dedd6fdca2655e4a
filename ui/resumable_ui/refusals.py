"""Why the hub does not do what a client asked for: one closed set of codes for sockets and HTTP. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Code(StrEnum):
    """What a program may compare; the message beside it is for people."""

    BAD_REQUEST = "bad_request"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    NOT_ALLOWED = "not_allowed"  # would do nothing in the state it is in
    METHOD_NOT_ALLOWED = "method_not_allowed"
    CONFLICT = "conflict"  # it has changed since the client saw it
    OWNER_GONE = "owner_gone"
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"
    FAILED = "failed"  # tried, and this machine could not
    BUSY = "busy"


HTTP_STATUS: dict[Code, int] = {
    Code.BAD_REQUEST: 400,
    Code.UNAUTHORIZED: 401,
    Code.FORBIDDEN: 403,
    Code.NOT_FOUND: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.NOT_ALLOWED: 409,
    Code.CONFLICT: 409,
    Code.OWNER_GONE: 410,
    Code.TOO_LARGE: 413,
    Code.RATE_LIMITED: 429,
    Code.FAILED: 500,
    Code.BUSY: 503,
}


def is_text(value: str) -> bool:
    """Return whether a text from JSON can be written anywhere: ``"\\ud800"``, half a character, cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


class Refused(Exception):  # noqa: N818 - names what happened
    """The hub does not do it; ``code`` says why to programs, the message to people. Holds no secret."""

    def __init__(self, code: Code, message: str) -> None:
        """Keep both."""
        super().__init__(message)
        self.code = code
        self.message = message

    def to_wire(self) -> dict[str, Any]:
        """Return ``{"code", "message"}``."""
        return {"code": self.code.value, "message": self.message}
