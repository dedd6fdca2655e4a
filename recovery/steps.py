"""Steps inside an operation: each is done once, remembered, and undone newest first if the operation is given up.

::

    @recoverable(journal=journal, key="import:{name}")
    async def import_workflow(name: str) -> None:
        op = current_operation()
        archive = await op.step("fetch", lambda: fetch(name))
        folder = await op.step("unpack", lambda: unpack(archive), undo=remove_folder)
        if "index" not in op.restored:
            await op.checkpoint("index", await build_index(folder))

The next attempt, in this process or (with a journal) after ``kill -9`` in another one, goes through the same lines:
what is done
is returned from memory, and work begins where it stopped. A step that was interrupted runs again, so it must bear
that. This is no
workflow engine: nothing is replayed, and the code between the steps runs every time.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

__all__ = [
    "MemorySteps",
    "RunningOperation",
    "RunningSyncOperation",
    "StepStore",
    "Undo",
    "current_operation",
    "current_sync_operation",
]

T = TypeVar("T")

Undo = Callable[[Any], Awaitable[None] | None]
"""Takes what the step returned and takes it back; called at least once, so a second call must do no harm."""

log = logging.getLogger("recovery.steps")
