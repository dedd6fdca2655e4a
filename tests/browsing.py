"""A real browser for tests: Debian's chromium through Playwright, one for the whole session.

Without chromium or Playwright the tests are skipped with the reason; under ``CI=true`` they fail: nothing is skipped
unseen. Pictures go to ``RESUMABLE_ARTIFACTS``, else to a folder of the session.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Page, ViewportSize

CHROMIUM = "/usr/bin/chromium"
# Read before the fixture of conftest.py takes the variables of the user's own away.
ARTIFACTS = Path(os.environ.get("RESUMABLE_ARTIFACTS") or Path(tempfile.gettempdir()) / "resumable-artifacts")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
)
PHONE: ViewportSize = {"width": 390, "height": 844}
DESK: ViewportSize = {"width": 1000, "height": 820}


def require_browser() -> None:
    """Skip the test where there is no browser; fail it in CI."""
    missing = None if shutil.which(CHROMIUM) else "chromium is not installed (apt-get install chromium)"
    try:
        import playwright.async_api  # noqa: F401
    except ImportError:
        missing = "playwright is not installed (pip install -e '.[test]')"
    if missing is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run the browser."""
    require_browser()
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def opened(browser: Browser, *, faults: bool = True, **options: Any) -> AsyncIterator[Page]:
    """Open a page of its own context; uncaught exceptions, CSP violations and console errors in it fail the test."""
    context: BrowserContext = await browser.new_context(**({"viewport": DESK} | options))
    context.set_default_timeout(8_000)
    page = await context.new_page()
    seen: list[str] = []
    page.on("pageerror", lambda error: seen.append(f"exception: {error}"))
    page.on("console", lambda message: seen.append(message.text) if message.type == "error" else None)
    try:
        yield page
    except BaseException:
        await picture(page, "at-the-failure")
        raise
    finally:
        await context.close()
    # A server that is away is told of by the browser itself; that is not the page's fault.
    ours = [text for text in seen if "net::ERR_" not in text and "WebSocket connection" not in text]
    if faults and ours:
        pytest.fail(f"the page complains: {ours}")


async def unfold(page: Page) -> None:
    """Make the window as tall as the page: what is out of sight is not laid out, not painted and not judged."""
    size = page.viewport_size or DESK
    for _ in range(3):  # rows that come into sight take their true height
        height = int(await page.evaluate("Math.max(document.body.scrollHeight, 600)"))
        await page.set_viewport_size({"width": size["width"], "height": height})
        await page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


async def comes_true(page: Page, expression: str) -> None:
    """Wait until the JavaScript expression is true in the page; 8 s at most.

    Playwright's own ``wait_for_function`` evaluates again with ``eval``, which a page's Content Security Policy
    forbids: it works only for what is true at once.
    """
    for _ in range(400):
        if await page.evaluate(f"() => Boolean({expression})"):
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"the page never came to {expression}")


async def picture(page: Page, name: str) -> Path:
    """Keep a picture of what is in the window as ``name.png``; returns its path."""
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    path = ARTIFACTS / f"{name}.png"
    await page.screenshot(path=path, animations="disabled")
    return path


async def violations(page: Page, *rules: str) -> list[str]:
    """Return what axe-core finds wrong on the page, one line each; by all its rules, or by these only."""
    from axe_playwright_python.async_playwright import Axe

    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = {"type": "rule", "values": list(rules)}
    found = await Axe().run(page, options=options)
    lines = []
    for one in found.response["violations"]:
        targets = [node["target"] for node in one["nodes"]][:5]
        lines.append(f"{one['id']}: {one['help']}: {targets} {one['nodes'][0].get('failureSummary', '')}")
    return lines
