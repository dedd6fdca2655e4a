"""Paints a frame for the terminal that is there: colours by rich, blocks or ASCII by its encoding.

Writing is not done here: a terminal stopped with Ctrl-S must not hold up a download (``output.py``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from io import StringIO
from typing import TYPE_CHECKING, Final

from resumable_ui.frame import ASCII, BLOCKS, Charset, Frame, Piece, Tone, columns

if TYPE_CHECKING:
    from rich.console import Console as Painter

__all__ = ["Canvas", "charset_for"]

_STYLES: Final = {
    Tone.PLAIN: "",
    Tone.QUIET: "dim",
    Tone.RESUMED: "green",
    Tone.FRESH: "blue",
    Tone.EMPTY: "bright_black",
    Tone.TROUBLE: "yellow",
    Tone.BAD: "red",
    Tone.GOOD: "green",
    Tone.STRONG: "bold",
}


def charset_for(encoding: str | None) -> Charset:
    """Return blocks for UTF-8, ASCII for everything else."""
    return BLOCKS if (encoding or "").lower().replace("-", "").replace("_", "") == "utf8" else ASCII


class Canvas:
    """Turns frames into text with escape codes, and knows how many columns each of its lines takes."""

    def __init__(self, environ: Mapping[str, str] = os.environ, *, encoding: str | None = "utf-8") -> None:
        """Decide on colours: ``NO_COLOR`` (https://no-color.org), ``TERM``, ``COLORTERM``; plain without rich."""
        self.charset = charset_for(encoding)
        self._painter = _painter(environ)

    def paint(self, frame: Frame) -> list[tuple[str, int]]:
        """Return a line of text a row, with the columns that it takes."""
        return [(self._styled(row), sum(columns(text) for text, _ in row)) for row in frame]

    def _styled(self, row: list[Piece]) -> str:
        if self._painter is None:
            return "".join(text for text, _ in row)
        from rich.text import Text

        with self._painter.capture() as captured:
            self._painter.print(Text.assemble(*((text, _STYLES[tone]) for text, tone in row)), end="", soft_wrap=True)
        return captured.get()


def _painter(environ: Mapping[str, str]) -> Painter | None:
    if environ.get("NO_COLOR"):
        return None
    try:
        from rich.console import Console
    except ImportError:  # the ``cli`` extra is not installed
        return None
    painter = Console(file=StringIO(), force_terminal=True, _environ=dict(environ), legacy_windows=False)
    return painter if painter.color_system is not None else None
