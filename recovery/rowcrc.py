"""A CRC in the last column of every row: a bit that flips on disk makes a row absent, never a different decision.

SQLite has no page digests of its own, so a flipped bit inside a value reads as a different value. Not a protection
against people: CRC-32 is no signature.

>>> row = sealed(("gone with the wind", 1939, None))
>>> intact(row)
True
>>> intact(("gone with the wine", *row[1:]))
False
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

__all__ = ["Cell", "intact", "row_crc", "sealed"]

Cell = int | float | str | bytes | None


def row_crc(cells: Sequence[object]) -> int:
    """Return the CRC-32 of a row's other columns, in order.

    The cells must have the types SQLite gives back: ``float`` (not ``int``) for REAL columns, ``int`` (not
    ``bool``) for INTEGER, and no ``-0.0``, which SQLite may store as ``0.0``.
    """
    # repr() is unambiguous for these types, the same in every Python 3, and the fastest canonical form there is in C.
    return zlib.crc32(repr(tuple(cells)).encode("utf-8", "surrogatepass"))


def sealed(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Return the cells with their CRC behind them, ready for an INSERT."""
    return (*cells, row_crc(cells))


def intact(row: Sequence[object]) -> bool:
    """Return whether the last cell is the CRC of the cells before it."""
    return row[-1] == row_crc(row[:-1])
