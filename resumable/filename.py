"""A safe file name from what an origin or a URL suggests: one path component, whatever was written there.

It makes names, not paths, and never looks at a disk: where the file goes, and whether the name is taken, is decided
elsewhere.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

LONGEST_NAME: Final = 200
"""Bytes of a name in UTF-8: leaves room below the usual limit of 255 for ``.part``, ``.suspect`` and a number."""
FALLBACK: Final = "download"
PART_SUFFIX: Final = ".part"
"""Of unfinished files; no finished one may have it, or it would stand in the place of another's part file."""

_LONGEST_RAW: Final = 8192
_LONGEST_SUFFIX: Final = 24
# Compiled by ``re`` at their first use: few downloads need a name, and these take 2 ms.
# RFC 6266 4.1, with the quoted-string's end optional: a header that was cut off still names its file.
_PARAMETER: Final = r"""(?s)(?:^|;)\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"?|([^;]*))"""
_EXTENDED: Final = r"(?is)(utf-8|iso-8859-1)'[^']*'(.*)"  # RFC 8187 3.2.1
_BAD_ESCAPE: Final = r"%(?![0-9A-Fa-f]{2})"
_URL_PATH: Final = r"(?s)(?:[A-Za-z][A-Za-z0-9+.-]*:)?(?://[^/?#\\]*)?([^?#]*)"
_DRIVE: Final = r"^(?:[A-Za-z]:)+"
_FORBIDDEN: Final = r'[<>:"/\\|?*]'  # by Windows; ":" also opens an alternate data stream there
_DEVICE: Final = r"(?i)(?:con|prn|aux|nul|clock\$|conin\$|conout\$|(?:com|lpt)[0-9¹²³])\s*"
_OUTER: Final = r"^[\s.]+|[\s.]+$"
_NO_BYTE: Final = "[\ud800-\udc7f\udd00-\udfff]"
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_COMPRESSED: Final = (".gz", ".bz2", ".xz", ".zst", ".z", ".br", ".lz4", ".lzma")


def name_from(url: str, headers: Mapping[str, str]) -> str:
    """Return a safe name for an answer: from ``Content-Disposition``, else its final URL's path, else ``download``.

    ``filename*`` (RFC 8187) goes before ``filename`` (RFC 6266 4.3), whatever their order. Header names are lower
    case. Never raises.
    """
    for raw in (*_disposed(headers.get("content-disposition", "")), _path_of(url)):
        name = safe_name(raw)
        if name is not None:
            return name
    return FALLBACK


def safe_name(raw: str) -> str | None:
    """Return the last component of ``raw``, made harmless, or None where nothing is left of it.

    The result is no path (neither kind of separator, no drive, not ``.`` or ``..``), is not hidden, holds no control,
    format or bidirectional character, is not a device of Windows, is NFC, and has at most ``LONGEST_NAME`` bytes.
    Percent-encoding is decoded once, before the path is cut: an encoded separator must not survive (CVE-2025-11563 in
    wcurl). Never raises.
    """
    text = unicodedata.normalize("NFC", _decoded(raw[-_LONGEST_RAW:]))
    text = text.replace("\\", "/").rpartition("/")[2]
    text = "".join(char for char in text if unicodedata.category(char) not in _UNSEEN)
    text = re.sub(_FORBIDDEN, "_", re.sub(_DRIVE, "", text))
    # Leading dots hide a file; Windows drops trailing dots and blanks, so that two names become one.
    text = re.sub(_OUTER, "", text)
    # Again: with the unseen characters gone, neighbours may compose.
    text = unicodedata.normalize("NFC", text)
    if not text:
        return None
    stem, suffix = _split(text)
    # Windows takes "nul.tar.gz" for the device too.
    if re.fullmatch(_DEVICE, text.partition(".")[0]):
        stem = f"_{stem}"
    name = _fitted(stem, suffix)
    if name.lower().endswith(PART_SUFFIX):
        name = f"{name if len(name.encode()) < LONGEST_NAME else name[:-1]}_"
    return name


def numbered(name: str, n: int) -> str:
    """Return ``name`` with a number before its suffix: ``model.tar.gz`` and 1 give ``model.1.tar.gz``."""
    stem, suffix = _split(name)
    return _fitted(stem, f".{n}{suffix}")


def _disposed(value: str) -> list[str]:
    """Return the names in a ``Content-Disposition``, best first; of two equal parameters the first counts."""
    found: dict[str, str] = {}
    for match in re.finditer(_PARAMETER, value[:_LONGEST_RAW]):
        quoted, token = match[2], match[3]
        # Only \" and \\ are escapes: a backslash before anything else is a path of Windows (RFC 6266, appendix D).
        text = re.sub(r'\\(["\\])', r"\1", quoted) if quoted is not None else token.strip()
        found.setdefault(match[1].lower(), text)
    extended = _extended(found.get("filename*", ""))
    return [name for name in (extended, found.get("filename")) if name is not None]


def _extended(value: str) -> str | None:
    match = re.fullmatch(_EXTENDED, value)
    if match is None or re.search(_BAD_ESCAPE, match[2]) or not match[2].isascii():
        return None
    try:
        return unquote_to_bytes(match[2]).decode(match[1])
    except UnicodeDecodeError:
        return None


def _path_of(url: str) -> str:
    # Not urlsplit, which raises on some garbage. The pattern takes any text.
    match = re.match(_URL_PATH, url)
    assert match is not None
    return match[1]


def _decoded(raw: str) -> str:
    """Undo percent-encoding; bytes that are not UTF-8, encoded or as aiohttp hands them over, are Latin-1."""
    data = unquote_to_bytes(re.sub(_NO_BYTE, "", raw).encode("utf-8", "surrogateescape"))
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _split(name: str) -> tuple[str, str]:
    """Return stem and suffix; ``.tar.gz`` is one suffix, and what is too long to be a suffix is none."""
    stem, _, suffix = name.rpartition(".")
    if not stem or not suffix or " " in suffix or len(suffix.encode()) >= _LONGEST_SUFFIX:
        return name, ""
    suffix = f".{suffix}"
    if suffix.lower() in _COMPRESSED and stem.lower().endswith(".tar") and len(stem) > len(".tar"):
        return stem[: -len(".tar")], stem[-len(".tar") :] + suffix
    return stem, suffix


def _fitted(stem: str, suffix: str) -> str:
    """Join them, cutting whole characters from the stem's end until the name fits."""
    room = LONGEST_NAME - len(suffix.encode())
    cut = stem.encode()[:room].decode(errors="ignore")
    return (cut if cut == stem else re.sub(_OUTER, "", cut)) + suffix
