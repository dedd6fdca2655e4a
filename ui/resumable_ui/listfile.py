"""Reads list files in the plain forms of wget and aria2 (``-i LIST``).

Pure. One link a line (wget); tab-separated links on one line are mirrors of the same file, and indented
``name=value`` lines below it are its options (aria2). Not aria2's metalink, and not wget's ``--force-html``.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from resumable_ui.inputs import parse_header, parse_sha256, parse_url

# What aria2 writes into its session files and what only tunes aria2 itself: nothing about which bytes are fetched.
_HARMLESS: Final = frozenset(
    {
        "allow-overwrite",
        "always-resume",
        "auto-file-renaming",
        "conditional-get",
        "connect-timeout",
        "continue",
        "file-allocation",
        "gid",
        "lowest-speed-limit",
        "max-connection-per-server",
        "max-file-not-found",
        "max-tries",
        "min-split-size",
        "parameterized-uri",
        "pause",
        "piece-length",
        "remote-time",
        "retry-wait",
        "split",
        "stream-piece-selector",
        "timeout",
        "uri-selector",
    }
)


class ListEntry(Struct, frozen=True, kw_only=True):
    """One file of a list. ``urls`` and ``headers`` may hold secrets."""

    line: int
    """Where it stands in the list, from 1."""
    urls: tuple[str, ...]
    """The link and its mirrors; at least one."""
    out: str | None = None
    """Relative file name, None where the answer or the link names it."""
    directory: str | None = None
    """Below the target directory."""
    sha256: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


def parse_list(text: str) -> list[ListEntry]:
    """Return the files of a list; raise ValueError naming the first wrong line."""
    entries: list[ListEntry] = []
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        stripped = raw.strip()
        if not stripped or stripped.startswith("#"):
            continue
        try:
            if raw[0] not in " \t":
                urls = tuple(parse_url(part) for part in raw.split("\t") if part.strip())
                entries.append(ListEntry(line=number, urls=urls))
            elif entries:
                entries[-1] = _with_option(entries[-1], stripped)
            else:
                msg = "an option line stands before any link"
                raise ValueError(msg)  # noqa: TRY301 - one place adds the line number
        except ValueError as error:
            msg = f"line {number}: {error}"
            raise ValueError(msg) from None
    return entries


def _with_option(entry: ListEntry, text: str) -> ListEntry:
    name, equals, value = text.partition("=")
    name, value = name.strip(), value.strip()
    if not equals:
        msg = f"not an option: {name[:40]!r} (write it as name=value)"
        raise ValueError(msg)
    match name:
        case "out":
            return replace(entry, out=_inside(value))
        case "dir":
            return replace(entry, directory=_below(value))
        case "checksum":
            return replace(entry, sha256=_checksum(value))
        case "header":
            key, header = parse_header(value)
            return replace(entry, headers={**entry.headers, key: header})
        case _ if name in _HARMLESS:
            return entry
    msg = f"option {name[:40]!r} is not supported (out, dir, checksum, header are)"
    raise ValueError(msg)


def _inside(value: str) -> str:
    """A list may come from somebody else: its names stay below the target directory."""
    parts = value.replace("\\", "/").split("/")
    if not value or value.startswith(("/", "~")) or ".." in parts or parts[-1] in {"", "."}:
        msg = f"out={value[:80]!r} is not a file name below the target directory"
        raise ValueError(msg)
    return value


def _below(value: str) -> str:
    parts = value.replace("\\", "/").split("/")
    if not value or value.startswith(("/", "\\", "~")) or ":" in parts[0] or ".." in parts:
        msg = f"dir={value[:80]!r} is not a folder below the target directory (-d)"
        raise ValueError(msg)
    return value


def _checksum(value: str) -> str:
    kind, _, digest = value.partition("=")
    if kind.strip().lower() not in {"sha-256", "sha256"}:
        msg = f"checksum {kind.strip()[:20]!r} is not supported (sha-256 is)"
        raise ValueError(msg)
    return parse_sha256(digest)
