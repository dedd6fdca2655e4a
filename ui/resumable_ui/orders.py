"""What ``resumable get`` was asked for, one order a file. Pure: the texts of lists and header files are handed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePath

from msgspec import Struct, field

from resumable_ui.arguments import Arguments, UsageError
from resumable_ui.inputs import parse_header_lines
from resumable_ui.listfile import ListEntry, parse_list

ReadText = Callable[[str], str]
"""Returns the text of a named file, ``-`` for stdin; raises OSError."""


class Order(Struct, frozen=True, kw_only=True):
    """One file to get. ``url``, ``mirrors`` and ``headers`` may hold secrets."""

    url: str
    dest: str | None = None
    directory: str | None = None
    mirrors: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    sha256: str | None = None


def orders_of(arguments: Arguments, read_text: ReadText) -> list[Order]:
    """Return what to get, links first, then lists, in order; raise UsageError before anything was begun."""
    headers = _headers(arguments, read_text)
    orders = [
        Order(
            url=url,
            dest=arguments.out,
            directory=arguments.directory,
            mirrors=arguments.mirrors,
            headers=headers,
            sha256=arguments.sha256,
        )
        for url in arguments.urls
    ]
    for name in arguments.lists:
        try:
            entries = parse_list(_text(name, read_text))
        except ValueError as error:
            msg = f"resumable get: {_shown(name)}: {error}"
            raise UsageError(msg) from None
        orders += [_listed(entry, arguments.directory, headers) for entry in entries]
    return orders


def _listed(entry: ListEntry, directory: str | None, headers: Mapping[str, str]) -> Order:
    """An order from a list; folders in its name (``out=a/b.bin``) become part of the directory."""
    if entry.directory is not None:
        directory = str(PurePath(directory or ".") / entry.directory)
    dest = None if entry.out is None else PurePath(entry.out)
    if dest is not None and len(dest.parts) > 1:
        directory = str(PurePath(directory or ".") / dest.parent)
    return Order(
        url=entry.urls[0],
        dest=None if dest is None else dest.name,
        directory=directory,
        mirrors=entry.urls[1:],
        headers={**headers, **entry.headers},
        sha256=entry.sha256,
    )


def _headers(arguments: Arguments, read_text: ReadText) -> dict[str, str]:
    lines: list[str] = []
    for line in arguments.headers:
        lines += _text(line[1:], read_text).splitlines() if line.startswith("@") else [line]
    try:
        return parse_header_lines(lines)
    except ValueError as error:
        msg = f"resumable get: {error}"
        raise UsageError(msg) from None


def _text(name: str, read_text: ReadText) -> str:
    try:
        return read_text(name)
    except OSError as error:
        msg = f"resumable get: cannot read {_shown(name)}: {error.strerror or error}"
        raise UsageError(msg) from None


def _shown(name: str) -> str:
    return "standard input" if name == "-" else repr(name)
