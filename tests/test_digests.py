"""Which stated digest speaks of the whole file, and which must not be believed to."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumable.digests import parse_digest_field, parse_sha256, stated_sha256

RAW = hashlib.sha256(b"the file").digest()
HEX = RAW.hex()
B64 = base64.b64encode(RAW).decode()
OTHER = hashlib.sha256(b"another file").hexdigest()

STATED: list[tuple[str, int, Mapping[str, str], tuple[Mapping[str, str], ...], tuple[str, str] | None]] = [
    ("Repr-Digest is of the whole, also on a 206", 206, {"repr-digest": f"sha-256=:{B64}:"}, (), (HEX, "Repr-Digest")),
    (
        "other algorithms beside it do not matter",
        206,
        {"repr-digest": f"sha-512=:AAAA:, sha-256=:{B64}:"},
        (),
        (HEX, "Repr-Digest"),
    ),
    ("sha-512 alone is parsed and left out", 206, {"repr-digest": "sha-512=:AAAA:"}, (), None),
    ("a digest of the wrong size is none", 206, {"repr-digest": "sha-256=:AAAA:"}, (), None),
    ("Content-Digest of a 206 is of the part only", 206, {"content-digest": f"sha-256=:{B64}:"}, (), None),
    (
        "Content-Digest of a 200 is of the whole",
        200,
        {"content-digest": f"sha-256=:{B64}:"},
        (),
        (HEX, "Content-Digest"),
    ),
    ("the legacy Digest is believed on a 200", 200, {"digest": f"SHA-256={B64}"}, (), (HEX, "Digest")),
    ("the legacy Digest of a 206 may be of the part", 206, {"digest": f"SHA-256={B64}"}, (), None),
    ("S3 on a 200", 200, {"x-amz-checksum-sha256": B64}, (), (HEX, "x-amz-checksum-sha256")),
    ("S3 on a 206 may state the checksum of a stored part", 206, {"x-amz-checksum-sha256": B64}, (), None),
    (
        "S3 says on a 206 that it is of the full object",
        206,
        {"x-amz-checksum-sha256": B64, "x-amz-checksum-type": "FULL_OBJECT"},
        (),
        (HEX, "x-amz-checksum-sha256"),
    ),
    ("S3's composite checksum is a digest of digests", 200, {"x-amz-checksum-sha256": f"{B64}-4"}, (), None),
    (
        "S3 says composite, without the suffix",
        200,
        {"x-amz-checksum-sha256": B64, "x-amz-checksum-type": "COMPOSITE"},
        (),
        None,
    ),
    (
        "Google states crc32c and md5 only",
        200,
        {"x-goog-hash": "crc32c=n03x6A==, md5=Ojk9c3dhfxgoKVVHYwFbHQ=="},
        (),
        None,
    ),
    (
        "Google would be believed about SHA-256",
        206,
        {"x-goog-hash": f"crc32c=n03x6A==, sha256={B64}"},
        (),
        (HEX, "x-goog-hash"),
    ),
    (
        "Google's hash is of the stored bytes, which are gzip here",
        200,
        {"x-goog-hash": f"sha256={B64}", "x-goog-stored-content-encoding": "gzip"},
        (),
        None,
    ),
    ("Artifactory states it in hex", 206, {"x-checksum-sha256": HEX.upper()}, (), (HEX, "X-Checksum-SHA256")),
    ("an OCI registry", 206, {"docker-content-digest": f"sha256:{HEX}"}, (), (HEX, "Docker-Content-Digest")),
    ("an OCI registry with sha512", 206, {"docker-content-digest": "sha512:" + "a" * 128}, (), None),
    ("Hugging Face, on the redirect", 206, {"etag": '"x"'}, ({"x-linked-etag": f'"{HEX}"'},), (HEX, "X-Linked-ETag")),
    ("Hugging Face, on the answer itself", 200, {"x-linked-etag": f'W/"{HEX}"'}, (), (HEX, "X-Linked-ETag")),
    ("a git object id is not a SHA-256", 206, {}, ({"x-linked-etag": '"' + "a" * 40 + '"'},), None),
    ("an ETag of 64 hex digits promises nothing", 206, {"etag": f'"{HEX}"'}, (), None),
    ("a redirect's Repr-Digest is of the redirect's own body", 206, {}, ({"repr-digest": f"sha-256=:{B64}:"},), None),
    (
        "Repr-Digest goes before X-Linked-ETag",
        206,
        {"repr-digest": f"sha-256=:{B64}:"},
        ({"x-linked-etag": f'"{OTHER}"'},),
        (HEX, "Repr-Digest"),
    ),
    ("nothing is stated", 200, {}, ({},), None),
]


@pytest.mark.parametrize(("why", "status", "headers", "hops", "expected"), STATED, ids=[row[0] for row in STATED])
def test_what_is_believed_of_the_whole_file(
    why: str,
    status: int,
    headers: Mapping[str, str],
    hops: tuple[Mapping[str, str], ...],
    expected: tuple[str, str] | None,
) -> None:
    """Each field is believed only where it speaks of the whole file."""
    assert expected == stated_sha256(headers, hops, status=status), why


FIELDS: list[tuple[str, str, dict[str, bytes]]] = [
    ("RFC 9530", f"sha-256=:{B64}:", {"sha-256": RAW}),
    ("RFC 3230, upper case", f"SHA-256={B64}", {"sha-256": RAW}),
    ("a parameter is ignored", f"sha-256=:{B64}:;q=1", {"sha-256": RAW}),
    ("blanks around the member", f"  sha-256=:{B64}:  ", {"sha-256": RAW}),
    ("the later of two wins", f"sha-256=:AAAA:, sha-256=:{B64}:", {"sha-256": RAW}),
    ("a broken member does not spoil the others", f"sha-512=:$$:, ,=, sha-256=:{B64}:", {"sha-256": RAW}),
    ("base64 without padding", "sha-256=:AAA:", {}),
    ("not ASCII", "sha-256=:é:", {}),
    ("empty", "", {}),
    ("a decimal checksum of RFC 3230", "UNIXsum=30637", {}),
]


@pytest.mark.parametrize(("why", "value", "expected"), FIELDS, ids=[row[0] for row in FIELDS])
def test_a_digest_field_is_parsed(why: str, value: str, expected: dict[str, bytes]) -> None:
    """Both notations are read, and what is broken is left out."""
    assert expected == parse_digest_field(value), why


@pytest.mark.parametrize(
    "text", [HEX, HEX.upper(), f"  {HEX}\n", f"sha256:{HEX}", f"SHA-256={HEX.upper()}", f"sha256: {HEX}"]
)
def test_a_callers_digest_is_read_in_each_usual_form(text: str) -> None:
    """What people paste is accepted and made canonical."""
    assert parse_sha256(text) == HEX


@pytest.mark.parametrize(
    "text", ["", HEX[:-1], HEX + "0", "sha512:" + HEX, "md5:" + HEX, HEX[:-1] + "g", HEX[:-1] + "٣", B64]
)
def test_a_callers_digest_is_refused_before_anything_starts(text: str) -> None:
    """A typing error must not surface after gigabytes."""
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        parse_sha256(text)


@given(st.text(max_size=200), st.sampled_from([200, 206, 404]))
def test_no_header_makes_it_raise(value: str, status: int) -> None:
    """An origin's text is data, never an exception."""
    names = ("repr-digest", "content-digest", "digest", "x-amz-checksum-sha256", "x-goog-hash", "x-checksum-sha256")
    headers = dict.fromkeys((*names, "docker-content-digest", "x-linked-etag"), value)
    stated = stated_sha256(headers, (headers,), status=status)
    assert stated is None or (len(stated[0]) == 64 and stated[0] == parse_sha256(stated[0]))
