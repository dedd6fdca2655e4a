"""SHA-256 digests that an origin or a caller states for a file: reading them, and which one speaks of what.

It computes nothing. What is trusted for the WHOLE file, best first:

=========================  =======================  =================================================================
field                      on                       why, and when not
=========================  =======================  =================================================================
``Repr-Digest``            200 and 206              RFC 9530 3: of the selected representation, also on a 206
``Content-Digest``         200                      RFC 9530 2: of the content; on a 206 that is the part only
``Digest``                 200                      RFC 3230 says instance, many servers send that of the body
``x-amz-checksum-sha256``  200; FULL_OBJECT on 206  ``-N`` is a digest of digests; a 206 may state its part's
``x-goog-hash``            200 and 206              of the stored bytes: not when they are stored encoded
``X-Checksum-SHA256``      200 and 206              Artifactory, Nexus: of the artifact
``Docker-Content-Digest``  200 and 206              OCI distribution: of the blob
``X-Linked-ETag``          answer and redirects     Hugging Face: 64 hex digits are the SHA-256 of the file
=========================  =======================  =================================================================

Nothing but ``X-Linked-ETag`` is read from a redirect: all other fields of a redirect speak of the redirect's own
body. Other algorithms (sha-512, crc32c, md5, ...) are parsed without error and left out: no code here would check
them.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Final

SHA256_BYTES: Final = 32

# Compiled by ``re`` at their first use: most answers state no digest.
_HEX: Final = r"[0-9a-fA-F]{64}"
_STATED: Final = r"(?i)(?:sha-?256\s*[:=]\s*)?([0-9a-f]{64})"
_MEMBER: Final = r"(?i)\s*([a-z*][a-z0-9_.*-]{0,31})\s*=\s*([^\s;]{1,512})\s*(?:;.*)?"


def parse_sha256(text: str) -> str:
    """Return the 64 lower-case hex digits of ``HEX``, ``sha256:HEX`` or ``sha-256=HEX``; blanks around it are ignored.

    Raises ValueError when it is anything else.
    """
    match = re.fullmatch(_STATED, text.strip())
    if match is None:
        msg = f"not a SHA-256 (64 hexadecimal digits): {text[:80]!r}"
        raise ValueError(msg)
    return match[1].lower()


def parse_digest_field(value: str) -> dict[str, bytes]:
    """Parse ``Repr-Digest``, ``Content-Digest``, ``Digest`` or ``x-goog-hash`` into digests by lower-case algorithm.

    RFC 9530 writes ``sha-256=:BASE64:`` (a byte sequence of RFC 9651), RFC 3230 and Google write ``SHA-256=BASE64``.
    A member that does not parse is left out; a later member of the same name wins (RFC 9651 3.2). Never raises.
    """
    found: dict[str, bytes] = {}
    for member in value.split(","):
        match = re.fullmatch(_MEMBER, member)
        digest = None if match is None else _base64(match[2].removeprefix(":").removesuffix(":"))
        if match is not None and digest is not None:
            found[match[1].lower()] = digest
    return found


def stated_sha256(
    headers: Mapping[str, str], hops_headers: Iterable[Mapping[str, str]] = (), *, status: int
) -> tuple[str, str] | None:
    """Return what the origin states as the SHA-256 of the whole file, in hex, and the field that did; None without one.

    ``headers`` are those of the final answer, ``hops_headers`` those of the redirects before it; names in lower case.
    """
    for source, digest in (
        ("Repr-Digest", _from_field(headers, "repr-digest")),
        ("Content-Digest", _from_field(headers, "content-digest") if status == 200 else None),
        ("Digest", _from_field(headers, "digest") if status == 200 else None),
        ("x-amz-checksum-sha256", _from_s3(headers, status)),
        ("x-goog-hash", _from_google(headers)),
        ("X-Checksum-SHA256", _hex(headers.get("x-checksum-sha256", ""))),
        ("Docker-Content-Digest", _hex(headers.get("docker-content-digest", ""))),
        ("X-Linked-ETag", _from_linked_etag((headers, *hops_headers))),
    ):
        if digest is not None:
            return digest, source
    return None


def _base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        return None


def _hex(text: str) -> str | None:
    try:
        return parse_sha256(text)
    except ValueError:
        return None


def _whole(digest: bytes | None) -> str | None:
    return digest.hex() if digest is not None and len(digest) == SHA256_BYTES else None


def _from_field(headers: Mapping[str, str], name: str) -> str | None:
    return _whole(parse_digest_field(headers.get(name, "")).get("sha-256"))


def _from_s3(headers: Mapping[str, str], status: int) -> str | None:
    kind = headers.get("x-amz-checksum-type", "").strip().upper()
    # A ranged answer that matches a stored part carries that part's checksum, with nothing but the type to tell.
    if kind == "COMPOSITE" or (status != 200 and kind != "FULL_OBJECT"):
        return None
    return _whole(_base64(headers.get("x-amz-checksum-sha256", "").strip()))  # "-N" is not base64


def _from_google(headers: Mapping[str, str]) -> str | None:
    if headers.get("x-goog-stored-content-encoding", "identity").strip().lower() != "identity":
        return None
    digests = parse_digest_field(headers.get("x-goog-hash", ""))
    return _whole(digests.get("sha256", digests.get("sha-256")))


def _from_linked_etag(answers: Iterable[Mapping[str, str]]) -> str | None:
    for headers in answers:
        tag = headers.get("x-linked-etag", "").strip().removeprefix("W/").strip('"')
        if re.fullmatch(_HEX, tag):
            return tag.lower()
    return None
