"""Every example of docs/embedding.md, in a browser, inside an application with a hub attached."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from resumable import DownloadManager
from resumable_ui.access import Access
from resumable_ui.hub import Hub
from tests.browsing import opened, picture, violations
from tests.origin import Behaviour, Content, Origin
from tests.page_host import STATIC
from tests.page_packages import installed, node

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.blocking, pytest.mark.timeout(180)]

DOCUMENT = (Path(__file__).resolve().parent.parent / "docs" / "embedding.md").read_text()
TOKEN = "a-token-of-yours"
HTML = re.findall(r"```html\n(.*?)```", DOCUMENT, re.DOTALL)
JSX = dict(re.findall(r"```jsx\n// (react\d+)\.jsx\n(.*?)```", DOCUMENT, re.DOTALL))
REACT_PAGE = (
    '<!doctype html><html lang="en"><title>Models</title><div id="app"></div><script type="module" src="{}"></script>'
)


@asynccontextmanager
async def application(folder: Path, files: dict[str, str | Path]) -> AsyncIterator[str]:
    """Run an application of somebody else's with a hub attached and one download under way; yield its address."""

    async def serve(request: web.Request) -> web.StreamResponse:
        found = files[request.path]
        if isinstance(found, Path):
            return web.FileResponse(found, headers={"Content-Type": "text/javascript"})
        return web.Response(text=found, content_type="text/html" if found.startswith("<") else "text/javascript")

    async def nothing(_request: web.Request) -> web.Response:
        return web.Response(status=204)

    with Origin() as origin:
        origin.put("/base.safetensors", Content(40 << 20, seed=1), Behaviour(rate=500_000))
        async with DownloadManager(state=folder / "state.db") as manager:
            app = web.Application()
            Hub(manager, access=Access(token=TOKEN), root=folder).attach(app, prefix="/downloads")
            for path in files:
                app.router.add_get(path, serve)
            app.router.add_get("/favicon.ico", nothing)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            manager.start(origin.url("/base.safetensors"), folder / "base.safetensors", project="sdxl")
            try:
                yield f"http://127.0.0.1:{runner.addresses[0][1]}"
            finally:
                await runner.cleanup()


async def shows_the_download(browser: Browser, url: str, name: str) -> None:
    """Open the page: the project is there, the bar moves, Pause acts, and axe-core finds nothing."""
    async with opened(browser) as page:
        await page.goto(f"{url}/")
        bar = page.get_by_role("progressbar", name="base.safetensors")
        await bar.wait_for()
        assert await page.get_by_role("heading", name="sdxl").count() == 1
        assert await page.locator("recovery-banner").evaluate("one => one.store !== null")
        assert await page.get_by_text("[object Object]").count() == 0
        await page.get_by_role("button", name="Pause: base.safetensors").click()
        await page.get_by_text("Paused", exact=True).wait_for()
        assert await violations(page) == []
        await picture(page, f"embedded-{name}")


async def test_plain_html(browser: Browser, tmp_path: Path) -> None:
    """Our client, two elements of one store."""
    async with application(tmp_path, {"/": HTML[0]}) as url:
        await shows_the_download(browser, url, "html")


async def test_the_hosts_own_client(browser: Browser, tmp_path: Path) -> None:
    """The official socket.io-client in place of ours."""
    modules = await asyncio.to_thread(installed)
    client = modules / "socket.io-client" / "dist" / "socket.io.esm.min.js"
    async with application(tmp_path, {"/": HTML[1], "/vendor/socket.io.esm.min.js": client}) as url:
        await shows_the_download(browser, url, "socket-io")


@pytest.mark.parametrize("name", ["react18", "react19"])
async def test_react(browser: Browser, tmp_path: Path, name: str) -> None:
    """Bundled by esbuild, with the hub's module left outside, and rendered by that very React."""
    modules = await asyncio.to_thread(installed)
    version = name.removeprefix("react")
    build = tmp_path / "build"
    build.mkdir()
    (build / "app.jsx").write_text(JSX[name])
    # One folder of modules for each version: react-dom asks for "react" by that name.
    for package in ("react", "react-dom"):
        shutil.copytree(modules / f"{package}{version}", build / "node_modules" / package)
    for package in ("scheduler", "loose-envify", "js-tokens"):
        nested = [modules / f"react-dom{version}" / "node_modules" / package, modules / package]
        found = next((path for path in nested if path.exists()), None)
        if found is not None:
            shutil.copytree(found, build / "node_modules" / package, dirs_exist_ok=True)
    words = ["--bundle", "--format=esm", "--jsx=automatic", "--external:/downloads/*", "--outfile=app.js", "--minify"]
    done = await asyncio.to_thread(node, modules / "esbuild" / "bin" / "esbuild", "app.jsx", *words, cwd=build)
    assert done.returncode == 0, done.stderr
    async with application(tmp_path, {"/": REACT_PAGE.format("/app.js"), "/app.js": build / "app.js"}) as url:
        await shows_the_download(browser, url, name)


async def test_the_tokens_are_those_of_the_styles() -> None:
    """Each property the page names is one the stylesheets read, and each they read is named."""
    read = set().union(*(re.findall(r"var\((--rui-[\w-]+)", path.read_text()) for path in STATIC.rglob("*.js")))
    assert set(re.findall(r"--rui-[\w-]+", DOCUMENT)) == read


async def test_the_parts_are_those_of_the_elements() -> None:
    """Each part the page names exists, and each that exists is named."""
    made = set().union(*(re.findall(r'part: "([\w-]+)"', path.read_text()) for path in STATIC.rglob("*.js")))
    (named,) = re.findall(r"there are parts: (.*?)\.\n", DOCUMENT)
    assert set(re.findall(r"`([\w-]+)`", named)) == made
