"""The hub inside an aiohttp application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from aiohttp import web

from resumable_ui.access import SECURITY_HEADERS
from resumable_ui.httpmessage import HttpAnswer, HttpRequest, refusal_answer
from resumable_ui.refusals import Refused

if TYPE_CHECKING:
    from resumable_ui.hub import Hub


def attach(hub: Hub, app: web.Application, prefix: str) -> None:
    """Add the routes below ``prefix``, and the hub's start and stop."""
    root = "/" + prefix.strip("/") if prefix.strip("/") else ""

    async def serve(request: web.Request) -> web.StreamResponse:
        return await respond(hub, request, root)

    async def to_folder(request: web.Request) -> web.StreamResponse:
        # Every link in the page is relative: without the slash they would lead to the folder above.
        raise web.HTTPPermanentRedirect(f"{root.rpartition('/')[2]}/" if request.path == root else root + "/")

    async def life(_app: web.Application) -> AsyncIterator[None]:
        await hub.start()
        yield

    async def shutdown(_app: web.Application) -> None:
        # Not in life(): aiohttp waits for open connections before it comes to that, and ours stay open for ever.
        await hub.stop()

    if root:
        app.router.add_get(root, to_folder)
    app.router.add_route("*", f"{root}/{{tail:.*}}", serve)
    app.cleanup_ctx.append(life)
    app.on_shutdown.append(shutdown)


async def respond(hub: Hub, request: web.Request, root: str) -> web.StreamResponse:
    """Answer one request below ``root``."""
    asked = HttpRequest(
        method=request.method,
        path=request.path[len(root) :] or "/",
        query=request.query_string,
        headers={name.lower(): value for name, value in request.headers.items()},
        read=lambda most: read_body(request, most),
    )
    if asked.path.rstrip("/") == "/socket.io":
        try:
            hub.check_socket(asked)
        except Refused as refusal:
            return response_of(refusal_answer(refusal))
        answer: web.StreamResponse = await hub.socket(request)
        return answer
    return response_of(await hub.answer(asked))


async def read_body(request: web.Request, most: int) -> bytes:
    """Return the body, or as much of it as shows that it is longer than ``most`` bytes."""
    parts, size = [], 0
    async for part in request.content.iter_chunked(16 << 10):
        parts.append(part)
        size += len(part)
        if size > most:
            break
    return b"".join(parts)


def response_of(answer: HttpAnswer) -> web.Response:
    """Return the answer in aiohttp's form."""
    headers = {"Content-Type": answer.content_type, **SECURITY_HEADERS, **answer.headers}
    return web.Response(status=answer.status, body=answer.body, headers=headers)
