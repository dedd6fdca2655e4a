"""Serves the page's files as the hub does, below a prefix and with its headers, around a store that the test fills."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from playwright.async_api import Page

STATIC = Path(__file__).resolve().parent.parent / "ui" / "resumable_ui" / "static"
PREFIX = "/some/where"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

# The page without its network: the test is the server. What is asked of it is on record, and answered as it says.
_HARNESS = """
import { Store } from "./static/resumable.js";
const store = new Store();
window.store = store;
window.asked = [];
window.answers = {};
store.requester = async (event, data) => {
  window.asked.push([event, data]);
  const answer = window.answers[event];
  return answer === undefined ? { ok: true } : answer;
};
store.reconnect = (token) => window.asked.push(["reconnect", token ?? null]);
for (const element of document.querySelectorAll("recovery-banner, download-list")) element.store = store;
"""


@asynccontextmanager
async def page_host(files: Mapping[str, tuple[str, str]] | None = None, *, policy: str = POLICY) -> AsyncIterator[str]:
    """Serve the files and yield the base address; ``files`` adds paths below it: ``{"x.js": (content type, text)}``."""
    headers = {"Content-Security-Policy": policy} if policy else {}

    async def answer(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if files is not None and name in files:
            kind, text = files[name]
        elif name == "":
            kind, text = "text/html", (STATIC / "index.html").read_text().replace("static/main.js", "harness.js")
        elif name == "harness.js":
            kind, text = "text/javascript", _HARNESS
        else:
            path = STATIC / name.removeprefix("static/")
            if not name.startswith("static/") or not path.is_file():
                raise web.HTTPNotFound
            kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
            kind, text = kinds[path.suffix], path.read_text()
        return web.Response(text=text, content_type=kind, headers=headers)

    app = web.Application()
    app.router.add_get(PREFIX + "/{name:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}{PREFIX}/"
    finally:
        await runner.cleanup()


async def show(page: Page, snapshot: Mapping[str, Any], status: str = "live") -> None:
    """Give the page's store a snapshot and a state of the connection, and wait until both are drawn."""
    await page.evaluate(
        """async ([snapshot, status]) => {
          store.applySnapshot(snapshot);
          store.setStatus(status);
          store.flush();
          await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
        }""",
        [snapshot, status],
    )


async def asked(page: Page) -> list[Any]:
    """Return the requests the page made, ``[event, data]`` each."""
    requests: list[Any] = await page.evaluate("window.asked")
    return requests
