"""How well the store does its work, in one word."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Health"]


class Health(StrEnum):
    """Whether what the store is given outlives this process. The operations go on whatever it is."""

    OK = "ok"
    DEGRADED = "degraded"
    """Kept in memory; will be caught up when the file works again, unless the reason says otherwise."""
    MEMORY_ONLY = "memory_only"
    """Kept in memory, and more came in than can be caught up: some of it will be lost."""
