"""Lines to stdout and stderr that never hold up a download.

A pipe whose reader sleeps, or a terminal stopped with Ctrl-S, blocks whoever writes to it. Here that is a thread of its
own; the event loop only queues. What may be lost (progress) is replaced by what is newer while it waits, so the queue
stays as short as the number of downloads and their changes of state.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

_CLEAR: Final = "\r\x1b[K"
_UP_AND_CLEAR: Final = "\r\x1b[{}A\x1b[J"


Drawn = tuple[str, int]
"""A line with its escape codes, and the columns that it takes."""


class _Line:
    """A queued line; ``text`` is replaced while it waits if it has a key."""

    __slots__ = ("key", "text")

    def __init__(self, text: str, key: str | None) -> None:
        self.text = text
        self.key = key


class LineWriter:
    """Writes lines to one descriptor from one thread, in order."""

    def __init__(self, descriptor: int | None, columns: Callable[[], int] = lambda: 80) -> None:
        """``descriptor`` None (a closed stream) swallows everything; ``columns`` tells the terminal's width now."""
        self._descriptor = descriptor
        self._columns = columns
        self.on_error: Callable[[OSError], None] | None = None
        """Called once, from the thread, when the descriptor cannot be written."""
        self._queue: deque[_Line] = deque()
        self._replaceable: dict[str, _Line] = {}
        self._drawing: Sequence[Drawn] | None = None
        self._drawn: Sequence[Drawn] = ()
        self._change = threading.Condition()
        self._closing = descriptor is None
        self._thread: threading.Thread | None = None
        self.error: OSError | None = None

    def line(self, text: str, *, key: str | None = None, replaceable: bool = False) -> None:
        """Queue a line. A replaceable one gives way to a newer one of its key that comes while it still waits."""
        with self._change:
            if self._closing:
                return
            waiting = self._replaceable.get(key) if key is not None else None
            if replaceable and waiting is not None:
                waiting.text = text
                return
            entry = _Line(text, key)
            self._queue.append(entry)
            if key is not None:
                # A line that stays must not be overtaken: what comes after it queues behind it.
                self._replaceable.pop(key, None)
                if replaceable:
                    self._replaceable[key] = entry
            self._wake()

    def draw(self, lines: Sequence[Drawn]) -> None:
        """Keep ``lines`` at the bottom of a terminal, in place of those drawn before; none removes them.

        Each comes with the columns that it takes, so that it is found again after the terminal became narrower.
        """
        with self._change:
            if not self._closing:
                self._drawing = lines
                self._wake()

    def close(self, timeout_s: float | None = None) -> bool:
        """Write what is queued, waiting at most ``timeout_s``, and no more after it; return whether all was written."""
        with self._change:
            if not self._closing and (self._drawn or self._drawing):
                self._drawing = ()  # also in place of what was to be drawn and has not been yet
            self._closing = True
            self._change.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)
            return not self._thread.is_alive() and self.error is None
        return True

    def _wake(self) -> None:
        if self._thread is None:
            # A daemon: a reader that never comes back must not keep the process.
            self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
            self._thread.start()
        self._change.notify()

    def _run(self) -> None:
        while True:
            with self._change:
                while not self._queue and self._drawing is None and not self._closing:
                    self._change.wait()
                if not self._queue and self._drawing is None:
                    return
                lines = list(self._queue)
                self._queue.clear()
                self._replaceable.clear()
                drawing, self._drawing = self._drawing, None
                last = self._drawn if drawing is None else drawing
                text = self._erasing() + "".join(f"{entry.text}\n" for entry in lines)
                text += "\n".join(drawn for drawn, _ in last)
                self._drawn = last
            try:
                self._write(text.encode("utf-8", "surrogateescape"))
            except OSError as error:
                self._fail(error)
                return

    def _erasing(self) -> str:
        """Return what takes away the lines drawn before; a terminal that became narrower has wrapped them."""
        if not self._drawn:
            return ""
        width = max(1, self._columns())
        rows = sum(max(1, -(-taken // width)) for _, taken in self._drawn)
        return _CLEAR if rows == 1 else _UP_AND_CLEAR.format(rows - 1)

    def _write(self, data: bytes) -> None:
        assert self._descriptor is not None
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # a pipe that somebody else made non-blocking
                select.select([], [self._descriptor], [])

    def _fail(self, error: OSError) -> None:
        with self._change:
            self.error = error
            self._closing = True
            self._queue.clear()
            self._replaceable.clear()
        if self.on_error is not None:
            self.on_error(error)
