"""The hub over HTTP, for scripts and for pages without websockets: one table of routes, read by the OpenAPI document
too.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from msgspec import Struct

from resumable_ui.answers import Answers
from resumable_ui.board import Board
from resumable_ui.clients import Bucket, Role
from resumable_ui.commands import Commands
from resumable_ui.httpmessage import HttpAnswer, HttpRequest, json_answer
from resumable_ui.refusals import Code, Refused

Handler = Callable[[HttpRequest, Mapping[str, str]], Awaitable[HttpAnswer]]

MOST_LISTED: Final = 1000


class Route(Struct, frozen=True):
    """One line of the table."""

    method: str
    path: str
    name: str
    """Of the handler, and the OpenAPI operationId."""
    summary: str
    role: Role | None = Role.VIEWER
    """What a client must be at least; None: anybody."""

    def match(self, path: str) -> Mapping[str, str] | None:
        """Return the path's variables, None where it is another path."""
        found = re.fullmatch(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]{1,200})", self.path), path)
        return None if found is None else found.groupdict()


_ACTIONS: Final = ("pause", "resume", "cancel", "retry", "relink")

ROUTES: Final[Sequence[Route]] = (
    Route("GET", "/api/openapi.json", "openapi", "This document", None),
    Route("GET", "/api/snapshot", "snapshot", "Everything a page shows; what a page without websockets polls"),
    Route("GET", "/api/downloads", "list_downloads", "Downloads, newest first"),
    Route("POST", "/api/downloads", "add_download", "Start a download", Role.OPERATOR),
    Route("GET", "/api/downloads/{id}", "get_download", "One download"),
    *(
        Route(
            "POST",
            f"/api/downloads/{{id}}/{action}",
            f"{action}_download",
            f"{action.capitalize()} a download",
            Role.OPERATOR,
        )
        for action in _ACTIONS
    ),
    Route("POST", "/api/bulk", "bulk_action", "Do one action to several downloads", Role.OPERATOR),
    Route("GET", "/api/recovery/status", "recovery_status", "Recovery in numbers"),
    Route("GET", "/api/recovery/operations", "list_operations", "Operations that have not ended well, newest first"),
    Route("GET", "/api/recovery/operations/{id}", "get_operation", "One operation with its attempts"),
    Route("POST", "/api/recovery/operations/{id}/retry", "retry_operation", "Retry an operation now", Role.OPERATOR),
    Route("POST", "/api/recovery/operations/{id}/cancel", "cancel_operation", "Cancel an operation", Role.OPERATOR),
)


class Api:
    """Answers requests by the table."""

    def __init__(
        self,
        board: Board,
        commands: Commands,
        answers: Answers,
        *,
        time: Callable[[], float],
        monotonic: Callable[[], float],
        settings: Mapping[str, Any],
    ) -> None:
        """``settings`` are shown in snapshots; ``time`` is the epoch's, ``monotonic`` paces the rate limit."""
        self._board = board
        self._commands = commands
        self._answers = answers
        self._time = time
        self._monotonic = monotonic
        self._settings = settings
        self._actions = Bucket(burst=200, rate=50)
        self._handlers: dict[str, Handler] = {
            "openapi": self._openapi,
            "snapshot": self._snapshot,
            "list_downloads": self._list_downloads,
            "add_download": self._add_download,
            "get_download": self._get_download,
            "bulk_action": self._bulk_action,
            "recovery_status": self._recovery_status,
            "list_operations": self._list_operations,
            "get_operation": self._get_operation,
            "retry_operation": partial(self._act, "retry"),
            "cancel_operation": partial(self._act, "cancel"),
            **{f"{action}_download": partial(self._act, action) for action in _ACTIONS},
        }

    def route(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        """Return the route for a request; raises Refused where there is none."""
        wanted = "GET" if method == "HEAD" else method
        others = []
        for route in ROUTES:
            found = route.match(path)
            if found is not None:
                if route.method == wanted:
                    return route, found
                others.append(route.method)
        if others:
            raise Refused(Code.METHOD_NOT_ALLOWED, f"{method[:20]} is not possible here; {', '.join(others)} is")
        raise Refused(Code.NOT_FOUND, "there is nothing at this address")

    async def answer(self, route: Route, request: HttpRequest, variables: Mapping[str, str]) -> HttpAnswer:
        """Return the answer of one route; raises Refused."""
        if route.role is Role.OPERATOR and not self._actions.take(self._monotonic()):
            raise Refused(Code.RATE_LIMITED, "too many actions at once; wait a second")
        return await self._handlers[route.name](request, variables)

    # -- looking -------------------------------------------------------------------------------------------------------

    async def _openapi(self, _request: HttpRequest, _variables: Mapping[str, str]) -> HttpAnswer:
        from resumable_ui.openapi import document

        return json_answer(document())

    async def _snapshot(self, request: HttpRequest, _variables: Mapping[str, str]) -> HttpAnswer:
        project = request.parameter("project")
        rooms = ["all"] if project is None else [f"project:{project}"]
        role = {} if request.role is None else {"role": request.role.value}
        snapshot = self._board.snapshot(rooms, self._time())
        return json_answer({"ok": True, **snapshot, "settings": self._settings, **role})

    async def _list_downloads(self, request: HttpRequest, _variables: Mapping[str, str]) -> HttpAnswer:
        project, state = request.parameter("project"), request.parameter("state")
        limit, offset = _number(request, "limit", 100, MOST_LISTED), _number(request, "offset", 0, 10_000_000)
        views = [
            view
            for view in self._board.views()
            if project in {None, view.project_id} and state in {None, view.state.value}
        ]
        shown = [self._board.download(view.download_id) for view in views[offset : offset + limit]]
        return json_answer({"downloads": shown, "total": len(views)})

    async def _get_download(self, _request: HttpRequest, variables: Mapping[str, str]) -> HttpAnswer:
        download = self._board.download(variables["id"])
        if download is None:
            raise Refused(Code.NOT_FOUND, "no such download")
        return json_answer(download)

    async def _recovery_status(self, _request: HttpRequest, _variables: Mapping[str, str]) -> HttpAnswer:
        return json_answer({**await self._commands.statistics(), "gates": self._board.gates(self._time())})

    async def _list_operations(self, _request: HttpRequest, _variables: Mapping[str, str]) -> HttpAnswer:
        return json_answer({"operations": self._board.operations()})

    async def _get_operation(self, _request: HttpRequest, variables: Mapping[str, str]) -> HttpAnswer:
        return json_answer(await self._commands.details(variables["id"]))

    # -- acting --------------------------------------------------------------------------------------------------------

    async def _add_download(self, request: HttpRequest, _variables: Mapping[str, str]) -> HttpAnswer:
        form = await request.json()
        answer = await self._answers.once("add", form, lambda: self._commands.add(form))
        return json_answer({"ok": True, **answer}, 201)

    async def _bulk_action(self, request: HttpRequest, _variables: Mapping[str, str]) -> HttpAnswer:
        form = await request.json()
        answer = await self._answers.once("bulk", form, lambda: self._commands.bulk_form(form))
        return json_answer({"ok": True, **answer})

    async def _act(self, action: str, request: HttpRequest, variables: Mapping[str, str]) -> HttpAnswer:
        form = await request.json()
        args = {name: value for name, value in form.items() if name in {"url", "delete_part"}}
        form = {**form, "args": form.get("args", args), "action": action, "download_id": variables["id"]}
        answer = await self._answers.once("act", form, lambda: self._commands.act_form(form))
        return json_answer({"ok": True, **answer}, 202 if answer.get("pending") else 200)


def _number(request: HttpRequest, name: str, default: int, most: int) -> int:
    text = request.parameter(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= most):
        raise Refused(Code.BAD_REQUEST, f"{name} must be a whole number up to {most}")
    return int(text)
