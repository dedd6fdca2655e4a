"""Turns a request, a content and a behaviour into status, headers and body. No sockets."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from urllib.parse import parse_qs

from tests.origin_behaviour import Behaviour, Framing, Gzip, Ranges, Validator
from tests.origin_content import Content, FixedContent

_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]*)|bytes=-([0-9]+)")
PAGE = b"<!doctype html><html><title>Log in</title><p>Please log in to this network.</p></html>"


@dataclass(slots=True, kw_only=True)
class Seen:
    """One request, as the origin saw it. ``body_bytes`` and ``done`` change while it is answered."""

    number: int
    """1 for the first request to this path since it was put there."""
    method: str
    target: str
    path: str
    headers: dict[str, str]
    connection: int
    """Ordinal of the TCP connection, from 1."""
    at: float
    """Monotonic seconds."""
    status: int = 0
    body_bytes: int = 0
    """Body bytes the kernel took, framing not counted."""
    done: bool = False
    ended_at: float | None = None
    """When the answer was over, monotonic seconds."""

    @property
    def range(self) -> str | None:
        """The Range header."""
        return self.headers.get("range")


@dataclass(slots=True)
class Answer:
    """What to send."""

    status: int
    headers: dict[str, str]
    content: Content
    start: int = 0
    stop: int = 0
    prefix: bytes = b""
    suffix: bytes = b""

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return len(self.prefix) + self.stop - self.start + len(self.suffix)

    def body(self, flip_at: int | None) -> Iterator[memoryview]:
        """Yield the body."""
        if self.prefix:
            yield memoryview(self.prefix)
        at = self.start
        for view in self.content.views(self.start, self.stop):
            if flip_at is not None and at <= flip_at < at + len(view):
                damaged = bytearray(view)
                damaged[flip_at - at] ^= 0xFF
                yield memoryview(damaged)
            else:
                yield view
            at += len(view)
        if self.suffix:
            yield memoryview(self.suffix)


def http_date(from_now_s: float) -> str:
    """Return a date as HTTP writes it, so many seconds from now."""
    return formatdate(time.time() + from_now_s, usegmt=True)


def sign(path: str, ttl_s: float) -> str:
    """Return the query of a link to ``path``, at any origin of the tests, that is valid for ``ttl_s`` seconds."""
    now = time.time()
    issued, expires = f"{now:.6f}", f"{now + ttl_s:.6f}"
    return f"issued={issued}&expires={expires}&signature={_mac(path, issued, expires)}"


def _mac(*signed: str) -> str:
    return hmac.new(b"tests", " ".join(signed).encode(), hashlib.sha256).hexdigest()


def _signature_holds(seen: Seen, valid_since: float) -> bool:
    query = {name: values[0] for name, values in parse_qs(seen.target.partition("?")[2]).items()}
    issued, expires = query.get("issued", "0"), query.get("expires", "0")
    if query.get("signature") != _mac(seen.path, issued, expires):
        return False
    return valid_since < float(issued) and time.time() <= float(expires)


def answer(seen: Seen, content: Content, behaviour: Behaviour, valid_since: float = 0.0) -> Answer:
    """Return what ``behaviour`` answers to ``seen``; links signed before ``valid_since`` (epoch) have expired."""
    found = _decide(seen, behaviour.content or content, behaviour, valid_since)
    if behaviour.retry_after is not None:
        found.headers["Retry-After"] = str(behaviour.retry_after)
    for name, value in behaviour.headers.items():
        found.headers = {key: kept for key, kept in found.headers.items() if key.lower() != name.lower()}
        if value is not None:
            found.headers[name] = value
    return found


def _decide(seen: Seen, content: Content, behaviour: Behaviour, valid_since: float) -> Answer:
    if behaviour.login is not None and seen.headers.get("authorization") != behaviour.login:
        return _plain(401, b"log in", {"WWW-Authenticate": 'Basic realm="origin"'})
    if behaviour.location is not None:
        where = behaviour.location
        if behaviour.location_ttl_s is not None:
            path = "/" + where.split("://")[-1].partition("/")[2]
            where += "?" + sign(path, behaviour.location_ttl_s)
        return _plain(behaviour.status or 302, behaviour.body, {"Location": where})
    if behaviour.signed and not _signature_holds(seen, valid_since):
        return _plain(403, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>")
    if behaviour.html:
        return _plain(200, PAGE, {"Content-Type": "text/html; charset=utf-8"})
    if behaviour.status is not None:
        return _plain(behaviour.status, behaviour.body)
    return _content(seen, content, behaviour)


def _plain(status: int, body: bytes, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, headers or {}, FixedContent(body), 0, len(body))


def _content(seen: Seen, content: Content, behaviour: Behaviour) -> Answer:
    headers = _validators(seen, content, behaviour) | {"Content-Type": "application/octet-stream"}
    identity = seen.headers.get("accept-encoding", "identity") == "identity"
    if behaviour.gzip is Gzip.ALWAYS or (behaviour.gzip is Gzip.UNLESS_IDENTITY and not identity):
        packed = gzip.compress(content.read(0, content.size), 1, mtime=0)
        tag = headers.get("ETag", '""').rstrip('"') + '-gzip"'
        return _plain(200, packed, headers | {"Content-Encoding": "gzip", "ETag": tag})
    whole = Answer(200, headers, content, 0, content.size)
    if behaviour.ranges is Ranges.IGNORED:
        return whole
    headers["Accept-Ranges"] = "bytes"
    if behaviour.ranges in {Ranges.UNSATISFIABLE, Ranges.UNSATISFIABLE_BARE} and seen.range is not None:
        bare = behaviour.ranges is Ranges.UNSATISFIABLE_BARE
        return _plain(416, b"", headers | ({} if bare else {"Content-Range": f"bytes */{content.size}"}))
    asked = _RANGE.fullmatch(seen.range or "")
    if asked is None or not _same(seen, headers, behaviour):
        return whole
    if asked[3] is not None:
        start, stop = max(0, content.size - int(asked[3])), content.size
    else:
        start, stop = int(asked[1]), min(int(asked[2] or content.size) + 1, content.size)
    if start >= content.size:
        return _plain(416, b"", headers | {"Content-Range": f"bytes */{content.size}"})
    return _part(content, headers, behaviour, start, stop)


def _validators(seen: Seen, content: Content, behaviour: Behaviour) -> dict[str, str]:
    headers = {"Date": formatdate(usegmt=True)}
    tags = {
        Validator.STRONG: f'"{content.tag}"',
        Validator.WEAK: f'W/"{content.tag}"',
        Validator.ROTATING: f'"{content.tag}-{seen.number}"',
    }
    tag = behaviour.etag or tags.get(behaviour.validator)
    if tag is not None:
        headers["ETag"] = tag
    if behaviour.validator in {Validator.STRONG, Validator.WEAK, Validator.DATE}:
        headers["Last-Modified"] = formatdate(content.modified, usegmt=True)
    return headers


def _same(seen: Seen, headers: dict[str, str], behaviour: Behaviour) -> bool:
    condition = seen.headers.get("if-range")
    if condition is None or not behaviour.if_range:
        return True
    return not condition.startswith("W/") and condition in {headers.get("ETag"), headers.get("Last-Modified")}


def _part(content: Content, headers: dict[str, str], behaviour: Behaviour, start: int, stop: int) -> Answer:
    kind, shift, total = behaviour.ranges, behaviour.shift, content.size
    said = (start, stop)
    if kind is Ranges.SHIFTED:
        start, stop = said = (min(start + shift, total - 1), min(stop + shift, total))
    elif kind is Ranges.LIAR:
        # The same number of bytes, from elsewhere: before where they were asked when there is no room behind.
        start = start + shift if stop + shift <= total else max(0, start - shift)
        stop = start + said[1] - said[0]
    elif kind is Ranges.MISLABELLED:
        said = (start + shift, stop + shift)
        total += shift
    elif kind is Ranges.EARLIER:
        start = max(0, start - shift)
        said = (start, stop)
    elif kind is Ranges.SHORTER:
        stop = start + max(1, (stop - start) // 2)
        said = (start, stop)
    elif kind is Ranges.LONGER:
        stop = min(stop + shift, total)
        said = (start, stop)
    elif kind is Ranges.OVERRUN:
        stop = min(stop + shift, total)
    label = f"bytes {said[0]}-{said[1] - 1}/{total}"
    if kind is Ranges.MULTIPART:
        head = f"--sep\r\nContent-Type: application/octet-stream\r\nContent-Range: {label}\r\n\r\n"
        headers["Content-Type"] = "multipart/byteranges; boundary=sep"
        return Answer(206, headers, content, start, stop, head.encode(), b"\r\n--sep--\r\n")
    labels = {
        Ranges.UNLABELLED: None,
        Ranges.MALFORMED: f"bytes {said[1]}-{said[0]}/{total}",
        Ranges.NO_TOTAL: f"bytes {said[0]}-{said[1] - 1}/*",
        Ranges.OTHER_TOTAL: f"bytes {said[0]}-{said[1] - 1}/{total + shift}",
    }
    shown = labels.get(kind, label)
    return Answer(206, headers | ({} if shown is None else {"Content-Range": shown}), content, start, stop)


def head(answer: Answer, behaviour: Behaviour, *, keep_alive: bool) -> bytes:
    """Return the head as it goes over the wire."""
    headers = dict(answer.headers)
    if behaviour.framing is Framing.CHUNKED:
        headers["Transfer-Encoding"] = "chunked"
    elif behaviour.framing is Framing.LENGTH:
        headers.setdefault("Content-Length", behaviour.length or str(answer.length))
    if not keep_alive:
        headers["Connection"] = "close"
    lines = [f"HTTP/1.1 {answer.status} X", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")
