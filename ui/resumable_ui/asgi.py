"""The hub as an ASGI application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from resumable_ui.access import SECURITY_HEADERS
from resumable_ui.httpmessage import HttpAnswer, HttpRequest, refusal_answer
from resumable_ui.refusals import Refused

if TYPE_CHECKING:
    from resumable_ui.hub import Hub

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


def make_app(hub: Hub, other: AsgiApp | None, prefix: str) -> AsgiApp:
    """Return the application; requests outside of ``prefix``, and lifespan events, go to ``other``."""
    root = "/" + prefix.strip("/") if prefix.strip("/") else ""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await (_lifespan(hub, receive, send) if other is None else other(scope, receive, send))
            return
        path = below(scope, root)
        if path is None:
            if other is None:
                await _send(send, scope, HttpAnswer(status=404, body=b"{}"))
            else:
                await other(scope, receive, send)
            return
        await hub.start()
        await _respond(hub, scope, receive, send, path)

    return app


def below(scope: Scope, root: str) -> str | None:
    """Return the path below where the hub is mounted and below ``root``; None where it is elsewhere."""
    path: str = scope["path"]
    mounted: str = scope.get("root_path", "").rstrip("/")
    # Servers and frameworks disagree on whether ``path`` still holds ``root_path`` (ASGI 2.x left it open).
    if mounted and (path == mounted or path.startswith(mounted + "/")):
        path = path[len(mounted) :]
    if path != root and not path.startswith(root + "/"):
        return None
    return path[len(root) :]


async def _respond(hub: Hub, scope: Scope, receive: Receive, send: Send, path: str) -> None:
    asked = HttpRequest(
        method=scope.get("method", "GET"),
        path=path or "/",
        query=scope.get("query_string", b"").decode("latin-1"),
        headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]},
        read=lambda most: _read_body(receive, most),
    )
    if path == "" and scope["type"] == "http":
        folder = scope["path"].rstrip("/").rpartition("/")[2] + "/"
        await _send(send, scope, HttpAnswer(status=308, headers={"Location": folder}))
        return
    if asked.path.rstrip("/") == "/socket.io":
        try:
            hub.check_socket(asked)
        except Refused as refusal:
            await _send(send, scope, refusal_answer(refusal))
            return
        await hub.socket(scope, receive, send)
        return
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    await _send(send, scope, await hub.answer(asked))


async def _read_body(receive: Receive, most: int) -> bytes:
    parts, size = [], 0
    while size <= most:
        message = await receive()
        if message["type"] != "http.request":
            break
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if not message.get("more_body"):
            break
    return b"".join(parts)


async def _send(send: Send, scope: Scope, answer: HttpAnswer) -> None:
    if scope["type"] == "websocket":
        # A refusal before the handshake; servers without the extension answer 403 of their own.
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008})
            return
        kind = "websocket.http.response"
    else:
        kind = "http.response"
    fields = {
        "Content-Type": answer.content_type,
        "Content-Length": str(len(answer.body)),
        **SECURITY_HEADERS,
        **answer.headers,
    }
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()]
    await send({"type": f"{kind}.start", "status": answer.status, "headers": headers})
    body = b"" if scope.get("method") == "HEAD" else answer.body
    await send({"type": f"{kind}.body", "body": body})


async def _lifespan(hub: Hub, receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await hub.start()
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await hub.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
