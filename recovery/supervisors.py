"""Which supervisor runs the calls of a recoverable function: the one that was given, or one made for a journal or file.

A state file named by its path is opened when it is first needed, once per event loop, and closed when that loop ends.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from recovery.logbook import JournalPort
from recovery.supervisor import Supervisor

if TYPE_CHECKING:
    from recovery.database import Database

__all__ = ["Source", "close_state_files", "settled", "supervisor_for"]

Given: TypeAlias = "Supervisor | JournalPort | str | os.PathLike[str]"
Opened: TypeAlias = "tuple[Supervisor, Database]"
Source: TypeAlias = "Given | Callable[[], Given | None] | Callable[[], Awaitable[Given | None]]"
"""What ``journal=`` takes. A callable is asked at every call, since journals are opened long after functions are
decorated; None means that this call is not durable.
"""

_of_journals: weakref.WeakValueDictionary[int, Supervisor] = weakref.WeakValueDictionary()
_of_files: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Task[Opened]]] = (
    weakref.WeakKeyDictionary()
)


async def supervisor_for(source: Source) -> Supervisor | None:
    """Return the supervisor behind ``source``, for the running event loop; None when a callable says so.

    Raises:
        TypeError: it is nothing of the kind.
    """
    given: Any = source
    if callable(given):
        given = given()
        if inspect.isawaitable(given):
            given = await given
    if given is None or isinstance(given, Supervisor):
        return given
    if isinstance(given, str | os.PathLike):
        return await _for_file(cast("str", settled(given)))
    if not hasattr(given, "begin_and_claim"):
        msg = f"journal= takes a Journal, a Supervisor, a path, or a function that returns one, not {given!r}"
        raise TypeError(msg)
    return _for_journal(cast("JournalPort", given))


def _for_journal(journal: JournalPort) -> Supervisor:
    supervisor = _of_journals.get(id(journal))
    if supervisor is None or supervisor.journal is not journal:
        supervisor = _of_journals[id(journal)] = Supervisor(journal)
    return supervisor


def settled(source: Source) -> Source:
    """Return the source with a path made absolute: a program that changes its directory keeps its state file."""
    if not isinstance(source, str | os.PathLike):
        return source
    path = os.path.expanduser(source)
    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)


async def _for_file(path: str) -> Supervisor:
    loop = asyncio.get_running_loop()
    for other in [each for each in _of_files if each.is_closed()]:
        del _of_files[other]
    opened = _of_files.setdefault(loop, {})
    task = opened.get(path)
    if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
        task = opened[path] = loop.create_task(_open(Path(path)))
    supervisor, _ = await asyncio.shield(task)
    return supervisor


async def close_state_files() -> None:
    """Close the state files that were opened by their paths in the running event loop; the next call opens them again.

    Not needed at the end of a program: the loop's end closes them.
    """
    for task in _of_files.pop(asyncio.get_running_loop(), {}).values():
        supervisor, database = await task
        await supervisor.close()
        await database.close()


async def _open(path: Path) -> Opened:
    from recovery.database import Database
    from recovery.journal import JOURNAL, Journal

    database = await Database.open(path, [JOURNAL])
    return Supervisor(Journal(database)), database
