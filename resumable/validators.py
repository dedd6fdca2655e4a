"""What identifies a representation: entity tags, modification dates, lengths, stated digests (RFC 9110 section 8.8).

It compares identities and says what may be sent in ``If-Range``. It does not read statuses or ranges
(``response.py``) and trusts no clock of its own: whether a date is strong is decided by the origin's ``Date``.

What each is good for: a **strong** entity tag, or a strong date together with the length, shows that two answers
carry the same bytes. A **weak** tag is good for comparing only: different means changed, equal means nothing (RFC
9110 8.8.1), so it is never sent in ``If-Range`` (13.1.5) and resuming by it needs the overlap check.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_tz
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from resumable.digests import parse_sha256, stated_sha256
from resumable.ranges import MAX_LENGTH

Proof = Literal["digest", "etag", "last-modified", "overlap", "length"]

# RFC 9110 8.8.3, without obs-text: those bytes do not survive the way back through every client and cache.
_OPAQUE_TAG: Final = re.compile(r'"[\x21\x23-\x7e]+"')
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]{1,1024}")
# Apache (bug 39727) and Caddy write "tag-gzip", Jetty "tag--gzip", for the encoded form of the representation "tag".
_CODING_SUFFIX: Final = re.compile(r"(?:--?|[;:])(?:gzip|br|zstd|deflate)$")
_LONGEST_DATE: Final = 40  # IMF-fixdate has 29 characters, RFC 850 at most 33; two dates joined by a comma have more
_MEDIA_TYPE: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,127}/[!#$%&'*+.^_`|~0-9a-z-]{1,127}")
_CODING: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z, -]{1,127}")


class ETag(Struct, frozen=True):
    """An entity tag. ``tag`` is the opaque text as sent, quotes included; ``weak`` means good for comparing only."""

    tag: str
    weak: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for a strong tag that cannot be sent back: it must be quoted, not empty, visible ASCII."""
        if not self.weak and _OPAQUE_TAG.fullmatch(self.tag) is None:
            msg = f"not a strong entity tag: {self.tag!r}"
            raise ValueError(msg)

    def strong_equal(self, other: ETag) -> bool:
        """Compare as RFC 9110 8.8.3.2 says for strong comparison: both strong, and the same opaque text."""
        return not self.weak and not other.weak and self.tag == other.tag

    def weak_equal(self, other: ETag) -> bool:
        """Compare as RFC 9110 8.8.3.2 says for weak comparison, and forgive missing quotes."""
        return self.tag.strip('"') == other.tag.strip('"')

    def same_but_for_coding(self, other: ETag) -> bool:
        """Compare weakly, forgiving the suffix that servers add for a content coding (``"tag-gzip"``)."""
        return _bare(self.tag) == _bare(other.tag)

    def __str__(self) -> str:
        """Return the tag as a header shows it."""
        return f"W/{self.tag}" if self.weak else self.tag


def parse_etag(value: str) -> ETag | None:
    """Parse the value of an ``ETag`` field; None where it is empty, over-long, or not printable ASCII.

    Lax on purpose: a tag without quotes, with blanks or quotes inside, an empty one (``""``: a constant identifies
    nothing) or two fields joined by a comma is kept, but as weak, because what breaks the grammar cannot be sent back
    in ``If-Range``.
    """
    text = value.strip(" \t")
    weak = text[:2] in {"W/", "w/"}
    tag = text[2:] if weak else text
    if _PRINTABLE.fullmatch(tag) is None:
        return None
    return ETag(tag, weak=weak or _OPAQUE_TAG.fullmatch(tag) is None)


def parse_http_date(value: str) -> float | None:
    """Return the seconds since the epoch of an HTTP-date in any of its three forms (RFC 9110 5.6.7), else None.

    A date without a zone (the asctime form) is GMT. Two-digit years below 69 are 20xx. Never raises.
    """
    if len(value) > _LONGEST_DATE or not value.isascii():
        return None
    try:
        fields = parsedate_tz(value)
        if fields is None:
            return None
        year, month, day, hour, minute, second = fields[:6]
        # A leap second (RFC 9110 allows :60) counts as the second before it.
        moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
        return (moment - timedelta(seconds=fields[9] or 0)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):  # parsedate_tz has raised each of these on garbage
        return None


class Representation(Struct, frozen=True, kw_only=True):
    """The identity of what an origin serves: a later answer must agree with it before its bytes join the ones kept."""

    etag: ETag | None = None
    """Of the final answer only: tags of redirects (``X-Linked-ETag``) name other things, never compared with it."""
    last_modified: str | None = None
    """As sent: ``If-Range`` must repeat it to the letter (RFC 9110 13.1.5)."""
    last_modified_strong: bool = False
    """By RFC 9110 8.8.2.2: the same answer's ``Date`` is at least a second later, so that second is over."""
    complete_length: int | None = None
    """Bytes of the whole representation; None where the origin did not say."""
    content_type: str | None = None
    """Media type in lower case, without parameters. A hint about web pages, not part of the identity."""
    content_encoding: str | None = None
    """Content coding in lower case, where the file itself is stored encoded (``x.tar.gz``); None for identity."""
    sha256: str | None = None
    """SHA-256 of the whole representation in lower-case hex, stated by the origin."""
    sha256_source: str | None = None
    """The field that stated ``sha256``."""

    @classmethod
    def from_headers(
        cls,
        headers: Mapping[str, str],
        complete_length: int | None,
        hops_headers: Iterable[Mapping[str, str]] = (),
        *,
        status: int = 206,
    ) -> Representation:
        """Read the identity from an answer's headers (names in lower case) and its redirects' headers. Never raises.

        ``status`` decides which digests speak of the whole file; 206, the default, trusts the fewest.
        """
        modified, strong = _last_modified(headers)
        digest, source = stated_sha256(headers, hops_headers, status=status) or (None, None)
        return cls(
            etag=parse_etag(headers.get("etag", "")),
            last_modified=modified,
            last_modified_strong=strong,
            complete_length=complete_length,
            content_type=_media_type(headers.get("content-type", "")),
            content_encoding=_coding(headers.get("content-encoding", "")),
            sha256=digest,
            sha256_source=source,
        )

    def to_json(self) -> dict[str, str | int | bool]:
        """Return a dict for the store: JSON-safe, without what is unknown."""
        fields: dict[str, str | int | bool | None] = {
            "etag": None if self.etag is None else str(self.etag),
            "last_modified": self.last_modified,
            "last_modified_strong": self.last_modified_strong or None,
            "complete_length": self.complete_length,
            "content_type": self.content_type,
            "content_encoding": self.content_encoding,
            "sha256": self.sha256,
            "sha256_source": self.sha256_source,
        }
        return {name: value for name, value in fields.items() if value is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Representation:
        """Read what ``to_json`` wrote. Unknown keys, and values that make no sense, count as absent. Never raises."""
        etag, modified = data.get("etag"), _text(data, "last_modified")
        length, strong = data.get("complete_length"), data.get("last_modified_strong") is True
        sound = isinstance(length, int) and not isinstance(length, bool) and 0 <= length <= MAX_LENGTH
        digest = _sha256(data.get("sha256"))
        return cls(
            etag=parse_etag(etag) if isinstance(etag, str) else None,
            last_modified=modified,
            last_modified_strong=strong and modified is not None and parse_http_date(modified) is not None,
            complete_length=length if sound and isinstance(length, int) else None,
            content_type=_media_type(_text(data, "content_type") or ""),
            content_encoding=_coding(_text(data, "content_encoding") or ""),
            sha256=digest,
            sha256_source=None if digest is None else _text(data, "sha256_source"),
        )


def has_validator(rep: Representation) -> bool:
    """Whether a later answer can be shown to carry the same bytes: by a strong tag, or a strong date and a length.

    A weak tag does not count, but does not spoil the date: equal strong dates are a strong validator of their own.
    """
    strong_tag = rep.etag is not None and not rep.etag.weak
    return strong_tag or (rep.last_modified_strong and rep.complete_length is not None)


def if_range_value(rep: Representation) -> str | None:
    """Return what may go into ``If-Range`` (RFC 9110 13.1.5): a strong tag; a strong date only without any tag."""
    if rep.etag is not None:
        return None if rep.etag.weak else rep.etag.tag
    return rep.last_modified if rep.last_modified_strong else None


def differs(known: Representation, new: Representation) -> str | None:
    """Return a plain reason why ``new`` is not ``known`` (``size 10 -> 12``), None where nothing says so.

    None is not a proof: see ``confirms``. Silence is no difference: a node of a CDN may leave out the tag, a 206 the
    length.
    """
    tags = known.etag, new.etag
    if tags[0] is not None and tags[1] is not None and not tags[0].same_but_for_coding(tags[1]):
        return f"etag {tags[0]} -> {tags[1]}"
    if None not in (known.complete_length, new.complete_length) and known.complete_length != new.complete_length:
        return f"size {known.complete_length} -> {new.complete_length}"
    # Only an equal strong tag outweighs a date: the nodes of a cluster rarely agree on modification times.
    if not _same_strong_tag(known, new) and _dates_differ(known, new):
        return f"last-modified {known.last_modified} -> {new.last_modified}"
    # Two fields may disagree because one is wrongly computed; the same field saying two things is a change.
    if (
        known.sha256_source == new.sha256_source
        and None not in (known.sha256, new.sha256)
        and known.sha256 != new.sha256
    ):
        return f"sha-256 {known.sha256} -> {new.sha256}"
    return None


def confirms(known: Representation, new: Representation) -> bool:
    """Whether a strong validator shows that ``new`` is ``known`` (RFC 9110 15.3.7.3), and nothing contradicts it."""
    if differs(known, new) is not None:
        return False
    return _same_strong_tag(known, new) or _same_strong_date(known, new)


def only_tag_differs(known: Representation, new: Representation) -> bool:
    """Whether the tags differ while a strong date and the length agree: several nodes, or a swift replacement.

    Apache's ``FileETag INode`` on a cluster does this. An overlap check is worth its bytes before gigabytes are given
    up.
    """
    if known.etag is None or new.etag is None or known.etag.same_but_for_coding(new.etag):
        return False
    return _same_strong_date(known, new)


def weakened(rep: Representation) -> Representation:
    """Return ``rep`` for an origin whose validators have contradicted each other, or ceased to come.

    They vouch for nothing any more: the tag goes, and the date only tells of a change. Bytes have to prove the rest.
    """
    return replace(rep, etag=None, last_modified_strong=False)


def elsewhere(rep: Representation) -> Representation:
    """Return what ``rep`` says of the file at another origin: validators of two origins say nothing of each other."""
    return replace(rep, etag=None, last_modified=None, last_modified_strong=False)


def completed(known: Representation, new: Representation) -> Representation:
    """Return ``known``, with the length, type and digest that only ``new`` states.

    Tags and dates are not taken over: they would vouch for bytes that came without them.
    """
    digest_from = new if known.sha256 is None else known
    return Representation(
        etag=known.etag,
        last_modified=known.last_modified,
        last_modified_strong=known.last_modified_strong,
        complete_length=new.complete_length if known.complete_length is None else known.complete_length,
        content_type=new.content_type if known.content_type is None else known.content_type,
        content_encoding=known.content_encoding,
        sha256=digest_from.sha256,
        sha256_source=digest_from.sha256_source,
    )


def proof(rep: Representation, *, compared: bool = False) -> Proof:
    """Return the best evidence there is that bytes fetched by several requests belong together.

    ``compared``: where no validator vouched, bytes on both sides of a break were fetched twice and were the same.
    """
    if rep.sha256 is not None:
        return "digest"
    if rep.etag is not None and not rep.etag.weak:
        return "etag"
    if has_validator(rep):
        return "last-modified"
    return "overlap" if compared else "length"


def _bare(tag: str) -> str:
    return _CODING_SUFFIX.sub("", tag.strip('"'))


def _same_strong_tag(known: Representation, new: Representation) -> bool:
    return known.etag is not None and new.etag is not None and known.etag.strong_equal(new.etag)


def _dates_differ(known: Representation, new: Representation) -> bool:
    if known.last_modified is None or new.last_modified is None or known.last_modified == new.last_modified:
        return False
    dates = parse_http_date(known.last_modified), parse_http_date(new.last_modified)
    return dates[0] is None or dates[0] != dates[1]


def _same_strong_date(known: Representation, new: Representation) -> bool:
    return (
        known.last_modified_strong
        and new.last_modified_strong
        and not _dates_differ(known, new)
        and known.complete_length is not None
        and known.complete_length == new.complete_length
    )


def _last_modified(headers: Mapping[str, str]) -> tuple[str | None, bool]:
    modified = headers.get("last-modified", "").strip(" \t")
    if _PRINTABLE.fullmatch(modified) is None:
        return None, False
    changed, sent = parse_http_date(modified), parse_http_date(headers.get("date", ""))
    return modified, changed is not None and sent is not None and sent - changed >= 1.0


def _media_type(value: str) -> str | None:
    media_type = value.partition(";")[0].strip(" \t").lower()
    return media_type if _MEDIA_TYPE.fullmatch(media_type) else None


def _coding(value: str) -> str | None:
    coding = value.strip(" \t").lower()
    return coding if coding != "identity" and _CODING.fullmatch(coding) else None


def _text(data: Mapping[str, object], name: str) -> str | None:
    value = data.get(name)
    return value if isinstance(value, str) and _PRINTABLE.fullmatch(value) else None


def _sha256(value: object) -> str | None:
    try:
        return parse_sha256(value) if isinstance(value, str) else None
    except ValueError:
        return None
