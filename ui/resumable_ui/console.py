"""Where the command prints: results to stdout, all else to stderr, both without ever waiting."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from resumable_ui.output import LineWriter


@dataclass(frozen=True, slots=True)
class Console:
    """The two streams, and what is known of the terminal behind stderr."""

    results: LineWriter
    notes: LineWriter
    terminal: bool = False
    """Whether a line on stderr can be overwritten."""

    def width(self) -> int:
        """Columns of the terminal; ``COLUMNS`` wins."""
        # shutil.get_terminal_size asks stdout, which is a pipe as often as not, and costs 8 ms to import.
        given = os.environ.get("COLUMNS", "")
        if given.isascii() and given.isdigit() and int(given) > 0:
            return int(given)
        try:
            return os.get_terminal_size(sys.__stderr__.fileno()).columns if sys.__stderr__ is not None else 80
        except (OSError, ValueError):
            return 80

    def close(self, timeout_s: float | None = None) -> None:
        """Write what is queued; a reader that sleeps is waited for, at most ``timeout_s`` for each stream."""
        self.results.close(timeout_s)
        self.notes.close(timeout_s)


def open_console(environ: Mapping[str, str]) -> Console:
    """Return the console of this process."""
    notes = _descriptor(sys.stderr)
    return Console(
        LineWriter(_descriptor(sys.stdout)),
        LineWriter(notes),
        terminal=notes is not None and os.isatty(notes) and environ.get("TERM", "") not in {"", "dumb"},
    )


def _descriptor(stream: TextIO | None) -> int | None:
    """A stream that was closed when the process began is None in Python; its number may belong to a database by now."""
    if stream is None:
        return None
    stream.flush()
    return stream.fileno()
