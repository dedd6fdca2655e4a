"""Notes on exceptions that are somebody else's, where they can be made."""

from __future__ import annotations

__all__ = ["note_on"]


def note_on(error: BaseException, note: str) -> None:
    """Add a note that a traceback shows; none to an exception that lets nothing be set, a frozen dataclass perhaps."""
    try:
        error.add_note(note)
    except Exception:  # noqa: BLE001 - a stranger's __setattr__: what went wrong matters more than a note about it
        return
