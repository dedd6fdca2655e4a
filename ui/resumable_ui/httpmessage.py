"""HTTP as the hub sees it, whichever server carries it: one request, one answer. Pure."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs

from msgspec import Struct, field

from resumable_ui.clients import Role
from resumable_ui.refusals import HTTP_STATUS, Code, Refused

LARGEST_BODY: Final = 64 << 10


class HttpRequest(Struct, frozen=True, kw_only=True):
    """``path`` is below the hub's prefix and begins with a slash; header names are lower case."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    role: Role | None = None
    """Of whoever asks, once that was checked."""
    read: Callable[[int], Awaitable[bytes]] | None = None
    """Reads the body, at most so many bytes and one more."""

    def parameter(self, name: str) -> str | None:
        """Return a query parameter's first value."""
        values = parse_qs(self.query, keep_blank_values=True).get(name)
        return values[0] if values else None

    async def json(self) -> dict[str, Any]:
        """Return the body, a JSON object; raises Refused for anything else."""
        body = b"" if self.read is None else await self.read(LARGEST_BODY)
        if len(body) > LARGEST_BODY:
            raise Refused(Code.TOO_LARGE, f"the body is larger than {LARGEST_BODY} bytes")
        if not body:
            return {}
        # A page of another site can send text/plain without asking; JSON it cannot.
        if self.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refused(Code.BAD_REQUEST, "the body must be application/json")
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            raise Refused(Code.BAD_REQUEST, "the body is not JSON") from None
        if not isinstance(value, dict):
            raise Refused(Code.BAD_REQUEST, "the body must be a JSON object")
        return value


class HttpAnswer(Struct, frozen=True, kw_only=True):
    """What is sent back."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(value: Mapping[str, Any], status: int = 200) -> HttpAnswer:
    """Return JSON that no cache keeps."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return HttpAnswer(status=status, body=body, headers={"Cache-Control": "no-store"})


def refusal_answer(refusal: Refused) -> HttpAnswer:
    """Return ``{"ok": false, "error": {code, message}}`` with the status of the code."""
    headers = {"Cache-Control": "no-store"}
    if refusal.code is Code.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="resumable"'
    if refusal.code in {Code.RATE_LIMITED, Code.BUSY}:
        headers["Retry-After"] = "1"
    body = json.dumps({"ok": False, "error": refusal.to_wire()}, separators=(",", ":")).encode()
    return HttpAnswer(status=HTTP_STATUS[refusal.code], body=body, headers=headers)
