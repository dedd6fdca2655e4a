"""Sizes, rates and durations as people type and read them.

Pure. Typed sizes follow curl, wget and aria2 (``10M`` is 10 times 1024 squared); printed sizes are decimal, as file
managers and disk vendors write them (``3.9 GB``).
"""

from __future__ import annotations

import re
from typing import Final

MAX_BYTES: Final = 2**63 - 1

# Digits are bounded and ASCII: \d takes other alphabets, and int() refuses above 4,300 digits in words of its own.
# Compiled by ``re`` at their first use: most command lines hold no quantity.
_SIZE: Final = r"(?ai)([0-9]{1,19}(?:\.[0-9]{1,9})?)\s*(?:([KMGT])(B|iB)?|B)?"
_DURATION: Final = r"(?ai)(?:[0-9]{1,12}(?:\.[0-9]{1,9})?\s*(?:ms|[smhdw])\s*)+"
_DURATION_PART: Final = r"(?ai)([0-9.]+)\s*(ms|[smhdw])"
_NUMBER: Final = r"(?a)[0-9]{1,12}(?:\.[0-9]{1,9})?"
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_POWERS: Final = {"K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(text: str) -> int:
    """Return bytes for ``1048576``, ``10M`` or ``10MiB`` (1024s), ``10MB`` (1000s); raise ValueError otherwise."""
    match = re.fullmatch(_SIZE, text.strip())
    if match is None:
        msg = f"not a size: {text!r} (examples: 500K, 10M, 1.5G, 10MB)"
        raise ValueError(msg)
    unit, suffix = (match[2] or "").upper(), (match[3] or "").lower()
    scale = (1000 if suffix == "b" else 1024) ** _POWERS[unit] if unit else 1
    size = int(match[1]) * scale if "." not in match[1] else round(float(match[1]) * scale)
    if size > MAX_BYTES:
        msg = f"too large: {text!r}"
        raise ValueError(msg)
    return size


def parse_rate(text: str) -> int | None:
    """Return bytes per second for ``10M`` or ``10M/s``; None for ``0``: no limit, as to curl and aria2."""
    try:
        return parse_size(text.strip().removesuffix("/s")) or None
    except ValueError:
        msg = f"not a rate: {text!r} (examples: 500K, 10M, 1.5G bytes per second; 0 for no limit)"
        raise ValueError(msg) from None


def parse_duration(text: str) -> float:
    """Return seconds for ``90``, ``90s``, ``5m``, ``1h30m`` or ``7d``; raise ValueError for anything else."""
    stripped = text.strip()
    if re.fullmatch(_NUMBER, stripped):
        return float(stripped)
    if re.fullmatch(_DURATION, stripped):
        return sum(float(number) * _SECONDS[unit.lower()] for number, unit in re.findall(_DURATION_PART, stripped))
    msg = f"not a duration: {text!r} (examples: 90, 90s, 5m, 1h30m, 7d)"
    raise ValueError(msg)


def format_size(size: float) -> str:
    """Return bytes as ``999 B``, ``64 kB``, ``3.9 GB``, ``210 MB``: decimal units."""
    value = float(max(size, 0.0))
    if value < 999.5:
        return f"{value:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        digits = 0 if unit == "kB" or value >= 99.95 else 1
        if round(value, digits) < 1000:
            return f"{value:.{digits}f} {unit}"
    return f"{value / 1000:.1f} PB"


def format_rate(rate: float) -> str:
    """Return bytes per second as ``21.4 MB/s``."""
    return f"{format_size(rate)}/s"


def format_duration(seconds: float) -> str:
    """Return seconds as ``0.4 s``, ``45 s``, ``2 min 20 s``, ``1 h 5 min`` or ``3 d 4 h``."""
    if seconds < 0.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(min(seconds, 1e12))
    if whole < 60:
        return f"{whole} s"
    for small, small_name, big, big_name, limit in (
        (1, "s", 60, "min", 3600),
        (60, "min", 3600, "h", 86_400),
        (3600, "h", 86_400, "d", None),
    ):
        if limit is None or whole < limit:
            rest = whole % big // small
            return f"{whole // big} {big_name}" + (f" {rest} {small_name}" if rest else "")
    raise AssertionError
