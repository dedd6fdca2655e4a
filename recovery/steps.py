"""Steps inside an operation: each is done once, remembered, and undone newest first if the operation is given up.

::

    @recoverable(journal="imports.db", key="import:{name}")
    async def import_workflow(name: str) -> None:
        op = current_operation()
        archive = await op.step("fetch", lambda: fetch(name))
        folder = await op.step("unpack", lambda: unpack(archive), undo=remove_folder)
        if "index" not in op.restored:
            await op.checkpoint("index", await build_index(folder))

The next attempt, in this process or (with a journal) after ``kill -9`` in another one, goes through the same lines:
what is done is returned from memory, and work begins where it stopped. A step that was interrupted runs again, so it
must bear that. This is no workflow engine: nothing is replayed, and the code between the steps runs every time.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, TypeVar, cast, overload

from recovery.stepbook import StepBook, Undo
from recovery.taxonomy.machine import VALIDATION

__all__ = [
    "CURRENT",
    "NoOperation",
    "NothingNew",
    "RunningOperation",
    "RunningSyncOperation",
    "Undo",
    "current_operation",
    "current_sync_operation",
]

T = TypeVar("T")


class NothingNew(BaseException):
    """Ends the body of an operation that was given up: its steps are to be taken back, and no new one is to be done.

    Not an Exception, so that ``except Exception`` around a step does not stop it.
    """


class NoOperation(RuntimeError):  # noqa: N818 - names what happened
    """The code asked for the operation it is part of, and is part of none, or of one of the other style."""

    recovery_hint = VALIDATION


class RunningOperation:
    """The operation that is being run here, as its own code sees it; ``current_operation()`` returns it."""

    __slots__ = ("_book", "_restored", "_used", "attempt", "key", "operation_id", "progressed")

    def __init__(self, operation_id: str = "", key: str = "", book: StepBook | None = None) -> None:
        """``book`` None: one in memory is made when it is needed."""
        self.operation_id = operation_id
        """Of the row in the journal; empty where there is none."""
        self.key = key
        self.attempt = 1
        """The number of this attempt, from 1, counted over all processes."""
        self.progressed = False
        """Whether this attempt has done or checkpointed something new."""
        self._book = book
        self._restored: Mapping[str, Any] | None = None
        self._used: set[str] | None = None

    def __repr__(self) -> str:
        """Show what it is and how far it has come."""
        done = 0 if self._book is None else len(self._book.done)
        return f"<operation {self.key or self.operation_id or 'in memory'}: attempt {self.attempt}, {done} steps done>"

    @property
    def restored(self) -> Mapping[str, Any]:
        """What steps returned and checkpoints held when this attempt began, by name."""
        if self._restored is None:
            self._restored = self._snapshot()
        return self._restored

    @overload
    async def step(self, name: str, function: Callable[[], Awaitable[T]], undo: Undo | None = None) -> T: ...

    @overload
    async def step(self, name: str, function: Callable[[], T], undo: Undo | None = None) -> T: ...

    async def step(self, name: str, function: Callable[[], Any], undo: Undo | None = None) -> Any:
        """Call ``function`` (async or not), remember what it returned, and return that; at once, if it is remembered.

        With a journal the result must be plain JSON (``recovery.plainjson``). ``undo`` gets the result and takes it
        back if the operation is given up; a step that failed itself is not undone, and cleans up on its own.

        Raises:
            ValueError: the name is empty, begins with ``~``, or was used before in this attempt; or the result cannot
                be stored.
            Fenced: another owner has taken the operation over.
        """
        book = self.claim(name, undo)
        if name in book.done:
            return book.done[name].value
        result = function()
        if inspect.isawaitable(result):
            result = await result
        await self.keep(name, result, undo=undo is not None)
        return result

    async def checkpoint(self, name: str, data: Any = None) -> None:
        """Remember ``data`` under ``name``, in place of what was there; the next attempt finds it in ``restored``.

        Raises:
            ValueError: the name is empty or begins with ``~``, or the data cannot be stored.
            Fenced: another owner has taken the operation over.
        """
        self.require_name(name)
        if self.book.given_up is not None:
            raise NothingNew
        await self.keep(name, data, undo=False)

    # -- for whoever runs it ------------------------------------------------------------------------------------------

    def begin_attempt(self, number: int) -> None:
        """Start over with what is remembered."""
        self.attempt = number
        self.progressed = False
        self._restored = self._snapshot()
        self._used = None

    @property
    def book(self) -> StepBook:
        """What its steps returned."""
        if self._restored is None:
            self._restored = self._snapshot()
        if self._book is None:
            self._book = StepBook()
        return self._book

    @property
    def has_steps(self) -> bool:
        """Whether there is anything in the book, without making one."""
        return self._book is not None

    def claim(self, name: str, undo: Undo | None) -> StepBook:
        """Take a step's name for this attempt, and learn its undo.

        Raises:
            NothingNew: the operation was given up, and all that had to be learned for its undoing is known now.
        """
        self.require_name(name)
        if self._used is None:
            self._used = set()
        if name in self._used:
            msg = f"there is a step {name!r} already; in a loop, number the names, or all but the first are skipped"
            raise ValueError(msg)
        self._used.add(name)
        book = self.book
        if undo is not None:
            book.undos[name] = undo
        if book.given_up is not None and (name not in book.done or book.knows_every_undo):
            raise NothingNew
        return book

    async def keep(self, name: str, data: Any, *, undo: bool) -> None:
        """Remember a result; the error of what cannot be stored says where it came from."""
        try:
            news = await self.book.keep(name, data, undo=undo)
        except ValueError as exc:
            msg = f"what {name!r} leaves cannot be stored: {exc}"
            raise ValueError(msg) from exc
        self.progressed = self.progressed or news

    @staticmethod
    def require_name(name: str) -> None:
        """Refuse the names that are ours."""
        if not name or name.startswith("~"):
            msg = f"a step needs a name that does not begin with '~', not {name!r}"
            raise ValueError(msg)

    def _snapshot(self) -> Mapping[str, Any]:
        done = {} if self._book is None else self._book.done
        return MappingProxyType({name: each.value for name, each in done.items()})


class RunningSyncOperation:
    """The same for functions that are not async; ``current_sync_operation()`` returns it."""

    __slots__ = ("_operation", "_wait_for")

    def __init__(self, operation: RunningOperation, wait_for: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        """``wait_for`` runs what is to be stored to its end; it raises where the operation is to stop."""
        self._operation = operation
        self._wait_for = wait_for

    def __repr__(self) -> str:
        """Show what it is and how far it has come."""
        return repr(self._operation)

    @property
    def operation_id(self) -> str:
        """Of the row in the journal; empty where there is none."""
        return self._operation.operation_id

    @property
    def key(self) -> str:
        """What makes it the same operation when it is called again."""
        return self._operation.key

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1, counted over all processes."""
        return self._operation.attempt

    @property
    def restored(self) -> Mapping[str, Any]:
        """What steps returned and checkpoints held when this attempt began, by name."""
        return self._operation.restored

    def step(self, name: str, function: Callable[[], T], undo: Undo | None = None) -> T:
        """See ``RunningOperation.step``."""
        operation = self._operation
        book = operation.claim(name, undo)
        if name in book.done:
            return cast("T", book.done[name].value)
        result = function()
        if inspect.iscoroutine(result):
            result.close()
            msg = f"step {name!r} is async, but its operation is not"
            raise TypeError(msg)
        self._wait_for(operation.keep(name, result, undo=undo is not None))
        return result

    def checkpoint(self, name: str, data: Any = None) -> None:
        """See ``RunningOperation.checkpoint``."""
        self._wait_for(self._operation.checkpoint(name, data))


CURRENT: ContextVar[RunningOperation | RunningSyncOperation] = ContextVar("recovery.current_operation")
"""Set by whoever calls the body of an operation."""


def current_operation() -> RunningOperation:
    """Return the operation that the running async function is the body of; also in tasks it has started.

    Raises:
        NoOperation: there is none: the function was not called through ``@recoverable``, or it is not async.
    """
    operation = CURRENT.get(None)
    if isinstance(operation, RunningOperation):
        return operation
    raise NoOperation(_NOT_HERE if operation is None else "use current_sync_operation() in a function without async")


def current_sync_operation() -> RunningSyncOperation:
    """Return the operation that the running function is the body of.

    Raises:
        NoOperation: there is none: the function was not called through ``@recoverable``, or it is async.
    """
    operation = CURRENT.get(None)
    if isinstance(operation, RunningSyncOperation):
        return operation
    raise NoOperation(_NOT_HERE if operation is None else "use current_operation() in an async function")


_NOT_HERE = "no operation is running here: call the function through @recoverable"
