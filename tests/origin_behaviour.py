"""What the test origin does to one request: a record of switches that can be combined, all off by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from tests.origin_content import Content


class Ranges(StrEnum):
    """What becomes of a ``Range`` header."""

    HONOURED = "honoured"
    IGNORED = "ignored"  # 200 and everything
    SHIFTED = "shifted"  # 206 for a range ``shift`` bytes further on, and it says so
    LIAR = "liar"  # Content-Range as asked, bytes from ``shift`` further on
    MISLABELLED = "mislabelled"  # the bytes asked for, Content-Range ``shift`` further on
    EARLIER = "earlier"  # begins ``shift`` bytes before the range asked for, and says so
    SHORTER = "shorter"  # the first half of what was asked, which is legal
    LONGER = "longer"  # ``shift`` bytes more than asked, and it says so
    OVERRUN = "overrun"  # Content-Range as asked, ``shift`` bytes more in the body
    MULTIPART = "multipart"
    UNLABELLED = "unlabelled"  # 206 without Content-Range
    MALFORMED = "malformed"  # last < first
    NO_TOTAL = "no-total"  # bytes 0-9/*
    OTHER_TOTAL = "other-total"  # complete-length off by ``shift``
    UNSATISFIABLE = "unsatisfiable"  # 416 with bytes */size, to every range
    UNSATISFIABLE_BARE = "unsatisfiable-bare"  # 416 without Content-Range, to every range


class Validator(StrEnum):
    """How the origin names the representation."""

    STRONG = "strong"  # strong ETag and Last-Modified
    WEAK = "weak"  # weak ETag and Last-Modified
    DATE = "date"  # Last-Modified only
    ROTATING = "rotating"  # another strong ETag in every answer
    NONE = "none"


class Framing(StrEnum):
    """How the body's end is told."""

    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"  # by closing the connection


class End(StrEnum):
    """How a connection is broken."""

    FIN = "fin"  # orderly: the peer gets every byte sent before
    RST = "rst"  # the peer's kernel throws away what it has not handed over


class Gzip(StrEnum):
    """When the body is compressed; a compressed answer ignores Range."""

    NEVER = "never"
    UNLESS_IDENTITY = "unless-identity"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How a request is answered. Sizes and offsets are bytes, times seconds, rates bytes per second per connection."""

    status: int | None = None
    """Answer with this status and ``body`` instead of the content."""
    body: bytes = b""
    content: Content | None = None
    """This content instead of the path's: ``script=[Behaviour()] * 3`` before it replaces the object at request 4."""
    headers: Mapping[str, str | None] = field(default_factory=dict)
    """Laid over the headers; None takes one away."""
    retry_after: int | str | None = None
    html: bool = False
    """A login page with status 200, whatever was asked."""
    location: str | None = None
    """Redirect there (302 unless ``status`` says otherwise)."""
    location_ttl_s: float | None = None
    """The redirect's link is signed and valid this long; its target needs ``signed=True``."""
    signed: bool = False
    """403 to a link without a valid signature."""
    login: str | None = None
    """401 without exactly this Authorization."""
    ranges: Ranges = Ranges.HONOURED
    shift: int = 4096
    validator: Validator = Validator.STRONG
    etag: str | None = None
    """This ETag, as written, instead of the content's own."""
    if_range: bool = True
    """False: ranges are honoured though If-Range does not match."""
    framing: Framing = Framing.LENGTH
    length: str | None = None
    """This Content-Length, as written, instead of the true one."""
    gzip: Gzip = Gzip.NEVER
    flip_at: int | None = None
    """The byte at this offset of the content is sent inverted."""
    cut_at: int | None = None
    """The connection ends after this many bytes of this body."""
    cut: End = End.FIN
    stall_at: int | None = None
    """Nothing more after this many bytes of this body until ``origin.release()``."""
    rate: int | None = None
    latency_s: float = 0.0
    """Before the head."""
    drip_head_s: float = 0.0
    """Between any two bytes of the head."""
    raw: bytes | None = None
    """Exactly these bytes instead of head and body, then FIN."""
    hang_up: End | None = None
    """No answer at all."""
    after_body: bytes = b""
    """Sent behind the body's end."""
    close: bool = False
    """Connection: close."""
    most_active: int | None = None
    """With this many bodies of this path under way, another request gets ``refusal``."""
    refusal: int = 503

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Behaviour:
        """Build one from a JSON object with these names."""
        kinds = {"ranges": Ranges, "validator": Validator, "framing": Framing, "cut": End, "hang_up": End, "gzip": Gzip}
        known = {one.name for one in fields(cls)}
        if unknown := set(values) - known:
            msg = f"no such behaviour: {sorted(unknown)}"
            raise ValueError(msg)
        found: dict[str, Any] = {name: kinds[name](value) if name in kinds else value for name, value in values.items()}
        for name in {"body", "raw", "after_body"} & set(found):
            found[name] = found[name].encode("latin-1")
        return cls(**found)
