"""Where the command prints: results to stdout, all else to stderr, both without ever waiting."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

from msgspec import Struct

from resumable_ui.output import LineWriter

if TYPE_CHECKING:
    from resumable_ui.terminal import Canvas


class Console(Struct, frozen=True):
    """The two streams, and what is known of the terminal behind stderr."""

    results: LineWriter
    notes: LineWriter
    terminal: bool = False
    """Whether lines on stderr can be overwritten."""
    results_terminal: bool = False
    """Whether lines on stdout can be."""
    encoding: str = "utf-8"
    """Of the terminal."""

    def size(self) -> tuple[int, int]:
        """Columns and rows of the terminal; ``COLUMNS`` and ``LINES`` win."""
        return terminal_size(os.environ)

    def canvas(self) -> Canvas:
        """Return what paints bars for this terminal; loads rich."""
        from resumable_ui.terminal import Canvas

        return Canvas(os.environ, encoding=self.encoding)

    def close(self, timeout_s: float | None = None) -> None:
        """Write what is queued; a reader that sleeps is waited for, at most ``timeout_s`` for each stream."""
        self.results.close(timeout_s)
        self.notes.close(timeout_s)


def open_console(environ: Mapping[str, str]) -> Console:
    """Return the console of this process."""
    notes, results = _descriptor(sys.stderr), _descriptor(sys.stdout)

    def width() -> int:
        return terminal_size(environ)[0]

    able = environ.get("TERM", "") not in {"", "dumb"}
    writer = LineWriter(notes, width)
    return Console(
        # On one terminal one writer: a path printed past the bars would stand behind them, and they would not be found.
        writer if _same_terminal(results, notes) else LineWriter(results, width),
        writer,
        terminal=able and notes is not None and os.isatty(notes),
        results_terminal=able and results is not None and os.isatty(results),
        encoding=getattr(sys.stderr, "encoding", None) or "ascii",
    )


def cannot_print(error: OSError) -> str:
    """Say that what was asked for did not get out."""
    return f"cannot write to standard output: {error.strerror}"


def _same_terminal(one: int | None, other: int | None) -> bool:
    if one is None or other is None or not (os.isatty(one) and os.isatty(other)):
        return False
    return os.fstat(one).st_rdev == os.fstat(other).st_rdev


def terminal_size(environ: Mapping[str, str]) -> tuple[int, int]:
    """Return columns and rows of the terminal that stderr, else stdout, is; 80 and 24 where neither is one."""
    # shutil.get_terminal_size asks stdout, which is a pipe as often as not, and costs 8 ms to import.
    columns, rows = _counted(environ.get("COLUMNS")), _counted(environ.get("LINES"))
    if not columns or not rows:
        for stream in (sys.__stderr__, sys.__stdout__):
            try:
                found = os.get_terminal_size(stream.fileno()) if stream is not None else None
            except (OSError, ValueError):
                continue
            if found is not None and found.columns and found.lines:
                return columns or found.columns, rows or found.lines
    return columns or 80, rows or 24


def _counted(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else 0


def _descriptor(stream: TextIO | None) -> int | None:
    """A stream that was closed when the process began is None in Python; its number may belong to a database by now."""
    if stream is None:
        return None
    stream.flush()
    return stream.fileno()
