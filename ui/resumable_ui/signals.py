"""Ctrl-C, ``kill`` and a closed terminal: stop gently once, at once the second time, and die of the signal in the end.

Dying of the signal, where others exit with a number, is how shells, ``make`` and service managers learn that a command
was interrupted rather than that it failed.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from types import FrameType, TracebackType

TYPE_CHECKING = False  # type checkers take it for True; importing it from typing would cost 10 ms
if TYPE_CHECKING:
    from typing import NoReturn, Self

SAME_S = 0.3
"""A second signal this soon is the same one: ``timeout`` and process groups deliver one wish twice."""


def handled() -> list[signal.Signals]:
    """Return the signals that ask to stop, less those ignored when we started (``nohup``, ``&`` in a script)."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    wanted = [signal.Signals[name] for name in names if name in signal.Signals.__members__]
    return [number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN]


class StopSignals:
    """While entered, calls ``on_stop(number)`` at the first signal; a later one kills the process on the spot."""

    def __init__(self, on_stop: Callable[[signal.Signals], None]) -> None:
        """``on_stop`` runs in the main thread between two instructions of whatever runs there: it only hands over."""
        self._on_stop = on_stop
        self._first_at: float | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        """Take over the signals that are not ignored."""
        self._before = {number: signal.signal(number, self._receive) for number in handled()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give them back."""
        for number, before in self._before.items():
            # None: the handler was not installed from Python and cannot be put back from here.
            signal.signal(number, signal.SIG_DFL if before is None else before)  # type: ignore[arg-type]

    def _receive(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        now = time.monotonic()
        if self._first_at is None:
            self._first_at = now
            self._on_stop(signal.Signals(number))
        elif now - self._first_at > SAME_S:
            die_of(number)


def die_of(number: int) -> NoReturn:
    """End this process by the signal, without clean-up."""
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # only where a sandbox swallowed it


def interrupts_kill() -> None:
    """Let Ctrl-C end the process without a traceback until something better is in place; ignored stays ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
