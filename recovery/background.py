"""An event loop in a thread of its own, for programs that have none: made when it is first needed, one per process.

It is a daemon: it ends with the program, and never keeps it from ending. A forked child makes its own.
"""

from __future__ import annotations

import asyncio
import os
import threading

__all__ = ["background_loop"]


class _Background:
    lock = threading.Lock()
    pid = 0
    loop: asyncio.AbstractEventLoop | None = None


def background_loop() -> asyncio.AbstractEventLoop:
    """Return the running loop of this process's background thread."""
    with _Background.lock:
        if _Background.loop is None or _Background.pid != os.getpid():
            _Background.loop = _start()
            _Background.pid = os.getpid()
        return _Background.loop


def _start() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    running = threading.Event()
    loop.call_soon(running.set)
    threading.Thread(target=loop.run_forever, name="recovery", daemon=True).start()
    running.wait()
    return loop


def _new_lock_after_fork() -> None:
    _Background.lock = threading.Lock()  # the parent's may have been held


os.register_at_fork(after_in_child=_new_lock_after_fork)
