"""When an operation is given up: another way if there is one, else what was done is taken back, the newest first.

The journal knows about it before the first undo and after each one, so an undo that is interrupted by a crash goes on
where it stopped. How to undo is known to the code only: a new process learns it by running the body once more up to
the first step that is not remembered.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace

from recovery.notes import note_on
from recovery.redaction import describe
from recovery.stepbook import StepBook, Undo
from recovery.taxonomy import machine
from recovery.verdict import Action

__all__ = ["GaveUp", "UndoUnknown", "take_back"]

log = logging.getLogger("recovery.steps")

CallUndo = Callable[[Undo, Any], Awaitable[object]]


class GaveUp(Exception):  # noqa: N818 - names what happened
    """The operation had been given up before this call, which only took back what was left; call again to start over.

    ``reason`` is the redacted line about why.
    """

    recovery_hint = replace(
        machine.UNKNOWN,
        action=Action.FAIL,
        limit=None,
        code="given-up",
        message="This was given up earlier, and what it had done was being taken back when the program died. That is"
        " finished now. Start it again if it is still wanted.",
    )

    def __init__(self, reason: str) -> None:
        """Keep the reason."""
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        """Return that it was given up, and why."""
        return f"given up earlier: {self.reason}"


class UndoUnknown(Exception):  # noqa: N818 - names what happened
    """A step was done by a former process, and this one did not come to the line that says how to take it back."""

    recovery_hint = replace(
        machine.UNKNOWN,
        action=Action.FAIL,
        limit=None,
        code="undo-unknown",
        message="A step that was done cannot be taken back, because the program did not get as far again.",
    )


async def take_back(book: StepBook, call_undo: CallUndo, error: BaseException) -> None:
    """Undo what was done, the newest first, and forget it with all that came after; stops at the first undo that fails.

    What could not be taken back is noted on ``error``, stays in the journal and is taken up by the next call. Where no
    step has an undo nothing is done: then the steps are kept, for whoever calls again.
    """
    if not book.to_undo:
        await _clean(book)
        return
    if book.given_up is None:
        await book.give_up(describe(error))
    oldest = min(book.done[name].number for name in book.to_undo)
    later = sorted((done.number, name) for name, done in book.done.items() if done.number >= oldest)
    for _, name in reversed(later):
        done = book.done[name]
        if done.undo:
            try:
                await _undo(book, name, call_undo, done.value)
            except Exception as exc:  # noqa: BLE001 - the user's undo: the error that led here matters more
                # Not its traceback: that ends in the text of a stranger's exception, with what secrets it holds.
                log.error("undo-failed", extra={"step": name, "error": describe(exc)})  # noqa: TRY400
                note_on(error, f"step {name!r} could not be taken back, nor what came before it: {describe(exc)}")
                return
        await book.forget(name)
    await _clean(book)


async def _undo(book: StepBook, name: str, call_undo: CallUndo, value: Any) -> None:
    undo = book.undos.get(name)
    if undo is None:
        msg = f"how to take back {name!r} is not known"
        raise UndoUnknown(msg)
    await call_undo(undo, value)


async def _clean(book: StepBook) -> None:
    """Leave nothing behind that would keep the next call from starting normally."""
    if book.given_up is not None:
        await book.give_up(None)
    if book.alternative:
        await book.turn_to(0)
