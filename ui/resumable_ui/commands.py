"""What clients can make a hub do: steer downloads of any process, add one, look at an operation's past."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from recovery.states import ACTIVE, TERMINAL, IllegalTransition, State
from recovery.verdict import UserAction
from resumable.errors import DownloadError
from resumable.events import DownloadView
from resumable_ui.board import Board
from resumable_ui.orderform import parse_order
from resumable_ui.refusals import Code, Refused, is_text
from resumable_ui.shelf import Shelf
from resumable_ui.wire import ACTION_NAMES, attempt_wire, operation_wire

if TYPE_CHECKING:
    from resumable.manager import DownloadManager

OWNER_ANSWERS_S: Final = 20.0
"""How long an owner may take to obey: longer than a lease lasts without a heartbeat, so that afterwards it is gone."""
_LOOK_S: Final = 0.5
_AT_ONCE: Final = 16
"""Of several downloads: each waits for the state file a few times."""

_GOING_ON: Final = frozenset({State.RUNNING, State.VERIFYING, State.COMPLETE, State.QUEUED})
_GOAL: Final[Mapping[UserAction, frozenset[State]]] = {
    UserAction.PAUSE: frozenset({State.PAUSED}) | TERMINAL,
    UserAction.CANCEL: TERMINAL,
    UserAction.RETRY_NOW: _GOING_ON,
    UserAction.RESUME: _GOING_ON,
}
"""Where a download stands once its owner has done what it was told."""
_OPERATION_GOAL: Final[Mapping[UserAction | None, State]] = {
    UserAction.PAUSE: State.PAUSED,
    UserAction.CANCEL: State.CANCELLED,
    UserAction.RETRY_NOW: State.QUEUED,
    UserAction.RESUME: State.QUEUED,
}


class Commands:
    """Acts through one manager; shows what it did on the board."""

    def __init__(
        self, manager: DownloadManager, board: Board, shelf: Shelf, *, show: Callable[[DownloadView], None]
    ) -> None:
        """``show`` is told how a download stands after an action."""
        self._manager = manager
        self._board = board
        self._shelf = shelf
        self._show = show
        self._following: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Stop waiting for owners that were told something."""
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)

    async def act_form(self, form: Mapping[str, Any]) -> dict[str, Any]:
        """Do what ``{download_id, action, args?, if_rev?}`` asks for; see ``act``."""
        name, action, args, if_rev = form.get("download_id"), form.get("action"), form.get("args"), form.get("if_rev")
        if not isinstance(name, str) or not isinstance(action, str):
            raise Refused(Code.BAD_REQUEST, "download_id and action must be texts")
        if args is not None and not isinstance(args, dict):
            raise Refused(Code.BAD_REQUEST, "args must be an object")
        if if_rev is not None and not isinstance(if_rev, int):
            raise Refused(Code.BAD_REQUEST, "if_rev must be a number")
        return await self.act(name, action, args or {}, if_rev=if_rev)

    async def bulk_form(self, form: Mapping[str, Any]) -> dict[str, Any]:
        """Do what ``{action, filter, args?}`` asks for; see ``bulk``."""
        action, args = form.get("action"), form.get("args")
        if not isinstance(action, str) or not (args is None or isinstance(args, dict)):
            raise Refused(Code.BAD_REQUEST, "action must be a text, args an object")
        return await self.bulk(action, form.get("filter", form.get("ids")), args or {})

    # -- one download --------------------------------------------------------------------------------------------------

    async def act(
        self, download_id: str, action: str, args: Mapping[str, Any], *, if_rev: int | None = None
    ) -> dict[str, Any]:
        """Do one action; return ``{state, rev}`` and, where another process was told to do it, ``pending``.

        Raises:
            Refused: with the reason.
        """
        wish = ACTION_NAMES.get(action)
        _require_text(download_id)
        if wish is None:
            raise Refused(Code.BAD_REQUEST, f"no action {action[:40]!r}; there are {', '.join(ACTION_NAMES)}")
        view = self._board.view(download_id)
        if view is None:
            return await self._act_on_operation(download_id, wish)
        if if_rev is not None and self._board.rev(download_id) > if_rev:
            raise Refused(Code.CONFLICT, "it has changed since; look again")
        require_possible(view, wish)
        try:
            pending = await self._do(view, wish, args)
        except LookupError:
            raise Refused(Code.NOT_FOUND, f"{download_id} is not known any more") from None
        except (DownloadError, IllegalTransition, ValueError) as error:
            raise Refused(Code.NOT_ALLOWED, str(error)) from None
        except OSError as error:
            raise Refused(Code.FAILED, f"this machine: {error.strerror or type(error).__name__}") from None
        with contextlib.suppress(LookupError):
            self._show(await self._manager.find(download_id))
        after = self._board.view(download_id) or view
        answer: dict[str, Any] = {"state": after.state.value, "rev": self._board.rev(download_id)}
        if pending and after.state not in _GOAL.get(wish, frozenset()):
            answer["pending"] = True
        return answer

    async def _act_on_operation(self, operation_id: str, wish: UserAction) -> dict[str, Any]:
        """Steer an operation that is no download: its owner is told, or its row is changed where it has none."""
        operation = await self._manager.journal.get(operation_id)
        goal = _OPERATION_GOAL.get(wish)
        if operation is None or goal is None:
            raise Refused(Code.NOT_FOUND, f"no download {operation_id[:40]!r}")
        try:
            after = await self._manager.journal.set_idle_state(operation_id, goal, now=time.time())
        except (IllegalTransition, LookupError) as error:
            raise Refused(Code.NOT_ALLOWED, str(error)) from None
        answer: dict[str, Any] = {"state": after.state.value, "rev": after.rev}
        if after.state is not goal:
            answer["pending"] = True
        return answer

    async def _do(self, view: DownloadView, wish: UserAction, args: Mapping[str, Any]) -> bool:
        """Carry a wish out; return whether another process has to."""
        name, manager = view.download_id, self._manager
        match wish:
            case UserAction.PAUSE:
                await manager.pause(name)
                return self._followed(name, wish, lambda: manager.pause(name))
            case UserAction.CANCEL:
                delete = args.get("delete_part") is True
                cancel = partial(manager.cancel, name, delete_part=delete)
                await cancel()
                return self._followed(name, wish, cancel, finish=delete)
            case UserAction.NEW_LINK:
                await manager.relink(name, _text(args, "url"))
                if view.state in {State.PAUSED, State.FAILED} or view.stale:
                    await self._run_here(name)
                return False
            case _:
                return await self._go_on(view)

    async def _go_on(self, view: DownloadView) -> bool:
        """Resume or retry: hurry whoever runs it, and run it here where nobody does."""
        name, manager = view.download_id, self._manager
        if view.state in {State.WAITING, State.PARKED, State.RUNNING, State.VERIFYING} and not view.stale:
            await manager.retry(name)
            return self._followed(name, UserAction.RETRY_NOW, lambda: self._run_here(name))
        await self._run_here(name)
        return False

    async def _run_here(self, download_id: str) -> None:
        """Run a download that nobody runs, from where it stopped; raises DownloadError."""
        handle = self._manager.handle(download_id)
        if handle is not None:
            await handle.resume()  # and not another one: whoever awaits it goes on waiting
        elif not await self._manager.recover([download_id]):
            raise DownloadError("what was asked for is not known any more")

    def _followed(
        self, download_id: str, wish: UserAction, again: Callable[[], Awaitable[Any]], *, finish: bool = False
    ) -> bool:
        """Where another process was told, see to it that it obeys or is gone; return whether one was told. Once it has
        obeyed, there is something to ``finish`` by doing it again.
        """
        handle = self._manager.handle(download_id)
        if handle is not None and not handle.ended:
            return False
        task = asyncio.create_task(self._see_to_it(download_id, wish, again, finish=finish))
        self._following.add(task)
        task.add_done_callback(self._following.discard)
        return True

    async def _see_to_it(
        self, download_id: str, wish: UserAction, again: Callable[[], Awaitable[Any]], *, finish: bool
    ) -> None:
        """Wait until the owner has obeyed; one whose lease ran out meanwhile is gone, and the wish is done here."""
        before = self._board.view(download_id)
        # Another attempt is all that who asked for one can want; a pause is not done by it.
        attempts = before.attempts if wish is UserAction.RETRY_NOW and before is not None else math.inf
        deadline = asyncio.get_running_loop().time() + OWNER_ANSWERS_S
        while asyncio.get_running_loop().time() < deadline:
            view = self._board.view(download_id)
            if view is None or view.attempts > attempts:
                return
            obeyed = view.state in _GOAL[wish]
            if obeyed and not (finish and view.bytes_done):
                return
            if obeyed or view.stale:
                with contextlib.suppress(DownloadError, LookupError, IllegalTransition, OSError):
                    await again()
                return
            await asyncio.sleep(_LOOK_S)

    # -- several -------------------------------------------------------------------------------------------------------

    async def bulk(self, action: str, which: object, args: Mapping[str, Any]) -> dict[str, Any]:
        """Do one action to several downloads; return ``{done: [ids], refused: [{id, code, message}]}``."""
        if ACTION_NAMES.get(action) is None or ACTION_NAMES[action] is UserAction.NEW_LINK:
            raise Refused(Code.BAD_REQUEST, f"no action {action[:40]!r} for several downloads")
        picked = self._picked(which)
        refusals: dict[str, Refused] = {}
        turns = asyncio.Semaphore(_AT_ONCE)

        async def one(download_id: str) -> None:
            async with turns:
                try:
                    await self.act(download_id, action, args)
                except Refused as refusal:
                    refusals[download_id] = refusal

        async with asyncio.TaskGroup() as group:
            for download_id in picked:
                group.create_task(one(download_id))
        refused = [{"id": name, **refusals[name].to_wire()} for name in picked if name in refusals]
        return {"done": [name for name in picked if name not in refusals], "refused": refused}

    def _picked(self, which: object) -> Sequence[str]:
        if isinstance(which, str):
            states = _FILTERS.get(which)
            if states is None:
                raise Refused(
                    Code.BAD_REQUEST, f"no filter {which[:40]!r}; there are {', '.join(_FILTERS)}, or give ids"
                )
            return [view.download_id for view in self._board.views() if view.state in states]
        if not isinstance(which, Sequence) or not all(isinstance(name, str) for name in which) or len(which) > 10_000:
            raise Refused(Code.BAD_REQUEST, "filter must be a word or a list of ids")
        return list(dict.fromkeys(which))

    # -- new -----------------------------------------------------------------------------------------------------------

    async def add(self, form: Mapping[str, Any]) -> dict[str, Any]:
        """Start a download below the served folder; return ``{download_id, state, rev}``."""
        order = parse_order(form)
        folder, name = await asyncio.to_thread(self._shelf.place, order.directory, order.filename)
        try:
            handle = self._manager.start(
                order.url,
                None if name is None else str(folder / name),
                directory=folder,
                project=order.project,
                mirrors=order.mirrors,
                headers=order.headers,
                sha256=order.sha256,
            )
        except (ValueError, DownloadError) as error:
            raise Refused(Code.BAD_REQUEST, str(error)) from None
        self._show(handle.view)
        name = handle.download_id
        return {"download_id": name, "state": handle.view.state.value, "rev": self._board.rev(name)}

    # -- looking -------------------------------------------------------------------------------------------------------

    async def statistics(self) -> dict[str, Any]:
        """Return recovery in numbers."""
        found = await self._manager.journal.statistics()
        return {
            "operations": found.operations,
            "by_state": {state.value: count for state, count in found.by_state.items()},
            "by_category": {category.value: count for category, count in found.by_category.items()},
            "attempts": found.attempts,
            "retried": found.retried,
            "recovered": found.recovered,
            "success_rate": found.success_rate,
            "next_due_at": found.next_due_at,
            "health": self._manager.health.value,
            "health_reason": self._manager.health_reason,
        }

    async def details(self, operation_id: str) -> dict[str, Any]:
        """Return an operation and its attempts, oldest first."""
        _require_text(operation_id)
        operation = await self._manager.journal.get(operation_id)
        if operation is None:
            raise Refused(Code.NOT_FOUND, f"no operation {operation_id[:40]!r}")
        attempts = await self._manager.history(operation_id)
        return {
            "operation": operation_wire(operation),
            "download": self._board.download(operation_id),
            "attempts": [attempt_wire(attempt) for attempt in attempts],
        }


_FILTERS: Final[Mapping[str, frozenset[State]]] = {
    "all": frozenset(State),
    "active": ACTIVE,
    "failed": frozenset({State.FAILED}),
    "recovering": frozenset({State.WAITING, State.PARKED}),
    "trouble": frozenset({State.FAILED, State.WAITING, State.PARKED}),
    "paused": frozenset({State.PAUSED}),
}


def require_possible(view: DownloadView, wish: UserAction) -> None:
    """Raise Refused unless ``wish`` does something in the state the download is in."""
    allowed = set(view.actions)
    if view.state in {State.PAUSED, State.FAILED, State.CANCELLED} or view.stale:
        allowed |= {UserAction.RESUME, UserAction.RETRY_NOW}
    if view.state is not State.COMPLETE:
        allowed |= {UserAction.NEW_LINK}
    if wish in allowed:
        return
    raise Refused(Code.NOT_ALLOWED, f"it is {view.state.value}: {wish.value.replace('_', ' ')} would do nothing")


def _require_text(name: str) -> None:
    if not is_text(name):
        raise Refused(Code.BAD_REQUEST, "an id holds half a character")


def _text(args: Mapping[str, Any], name: str) -> str:
    value = args.get(name)
    if not isinstance(value, str) or not value:
        raise Refused(Code.BAD_REQUEST, f"args.{name} is missing")
    return value
