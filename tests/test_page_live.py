"""The page of a real hub, over real downloads from a real flaky origin: what it shows is so, and its buttons act."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browsing import opened, picture, unfold, violations
from tests.hubs import TOKEN, command
from tests.origin import Behaviour, Content, Origin
from tests.servers import free_port

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.blocking]

CONTENT = Content(24 << 20, seed=5)
SLOW = Behaviour(rate=1_500_000)
AWAY = Behaviour(status=503, retry_after=40)


@pytest.fixture
def origin() -> Iterator[Origin]:
    """Return an origin that serves one file, slowly."""
    with Origin() as running:
        running.put("/model.bin", CONTENT, SLOW)
        yield running


@contextlib.asynccontextmanager
async def watching(browser: Browser, url: str, *, token: str = TOKEN) -> AsyncIterator[Page]:
    """Open the hub's page with its token, as the printed link does, and wait until it is live."""
    async with opened(browser) as page:
        await page.goto(f"{url}/#token={token}")
        await page.get_by_text("Live", exact=True).wait_for()
        assert page.url == f"{url}/"
        yield page


async def add(page: Page, origin: Origin) -> None:
    """Start the download with the page's own form."""
    await page.get_by_role("button", name="Add download").click()
    await page.get_by_label("Links, one per line").fill(origin.url("/model.bin"))
    await page.get_by_label("Project").fill("live")
    await page.get_by_role("button", name="Start").click()


async def percent(page: Page) -> int:
    """Return what the bar says."""
    return int(await page.get_by_role("progressbar").get_attribute("aria-valuenow") or -1)


async def until(condition: Callable[[], Any], what: str, within_s: float = 15.0) -> Any:
    """Wait for something this side can see."""
    for _ in range(int(within_s / 0.05)):
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"never came true: {what}")


async def moving(page: Page) -> None:
    """Wait until the bar has moved twice."""
    first = await until(lambda: percent_above(page, 0), "the bar leaves zero")
    await until(lambda: percent_above(page, first), "the bar moves on")


async def percent_above(page: Page, bound: int) -> int:
    """Return the percentage if it is above the bound, else 0."""
    now = await percent(page)
    return now if now > bound else 0


async def countdown(page: Page) -> int:
    """Return the seconds to the next try."""
    text = await page.get_by_text(re.compile("next try in")).first.inner_text()
    found = re.search(r"next try in (?:(\d+) min ?)?(?:(\d+) s)?", text)
    assert found is not None, text
    return 60 * int(found[1] or 0) + int(found[2] or 0)


def whole(path: Path) -> bool:
    """Return whether the file is there, byte for byte."""
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == CONTENT.sha256()


async def test_an_origin_that_goes_away(browser: Browser, origin: Origin, tmp_path: Path) -> None:
    """Bar, retry count, countdown, banner; another tab, a reload, a restart tell the same; Retry now gets the file."""
    port = str(free_port())
    with contextlib.ExitStack() as hubs:
        process, url = hubs.enter_context(command(tmp_path, "--port", port, "--resume"))
        async with watching(browser, url) as page:
            await add(page, origin)
            await moving(page)
            await picture(page, "live-running")

            origin.behave("/model.bin", AWAY)
            origin.drop()
            await page.get_by_text(re.compile(r"^Retrying · \d+ retr")).wait_for()
            await page.get_by_role("status").get_by_text("1 download is recovering.").wait_for()
            before = await until(lambda: long_wait(page), "the server's 40 s are waited for")
            assert before <= 40
            await until(lambda: lower(page, before), "the countdown counts")
            kept, pill = await percent(page), await page.get_by_text(re.compile("^Retrying · ")).inner_text()
            assert kept > 0
            await picture(page, "live-waiting")

            async with watching(browser, url) as other:
                await other.get_by_text(pill, exact=True).wait_for()
                assert await percent(other) == kept
                assert abs(await countdown(other) - await countdown(page)) <= 1
            await page.reload()
            await page.get_by_text(pill, exact=True).wait_for()
            assert await percent(page) == kept

            process.send_signal(signal.SIGKILL)
            await page.get_by_text("Connection to the server lost. Figures may be out of date.").wait_for()
            await picture(page, "live-lost")
            hubs.enter_context(command(tmp_path, "--port", port, "--resume"))
            await page.get_by_text("Live", exact=True).wait_for(timeout=10_000)
            await page.get_by_text(re.compile("Retrying · ")).wait_for()
            assert await percent(page) == kept

            origin.behave("/model.bin", Behaviour())
            await page.get_by_role("button", name="Retry now: model.bin").click()
            await page.get_by_text(re.compile("Complete · ")).wait_for(timeout=20_000)
            assert not await page.get_by_role("button", name="Retry all").is_visible()
            assert whole(tmp_path / "model.bin")
            await page.get_by_role("button", name="Details: model.bin").click()
            history = page.locator("attempt-history li")
            await until(history.count, "the attempts are listed")
            assert await history.count() >= 2
            assert await page.get_by_text(re.compile("^from 0 B to ")).count() == 1
            # "Retry now" cut it short.
            assert await page.get_by_text(re.compile("^then waited .* of 40 s$")).count() == 1
            await unfold(page)
            await picture(page, "live-history")
            assert await violations(page) == []


async def long_wait(page: Page) -> int:
    """Return the countdown's seconds once they are of the server's choice: the first waits are ours, and short."""
    seconds = await countdown(page)
    return seconds if seconds > 5 else 0


async def lower(page: Page, than: int) -> bool:
    """Return whether the countdown shows less."""
    return await countdown(page) < than


async def test_pause_and_resume(browser: Browser, origin: Origin, tmp_path: Path) -> None:
    """Nothing comes in while it is paused, whichever tab asked; resumed, it goes on where it stopped."""
    with command(tmp_path) as (_, url):
        async with watching(browser, url) as page, watching(browser, url) as other:
            await add(page, origin)
            await moving(page)
            await page.get_by_role("button", name="Pause: model.bin").click()
            await page.get_by_text("Paused", exact=True).wait_for()
            await other.get_by_text("Paused", exact=True).wait_for()
            await until(lambda: origin.open_connections == 0 or origin.body_bytes_sent(), "the origin is let go")
            sent, kept = origin.body_bytes_sent(), await percent(page)
            assert 0 < kept < 100
            assert await percent(other) == kept
            await asyncio.sleep(0.5)
            assert origin.body_bytes_sent() == sent
            await picture(page, "live-paused")
            origin.behave("/model.bin", Behaviour(rate=4_000_000))
            await other.get_by_role("button", name="Resume: model.bin").click()
            await page.get_by_text(re.compile(r"resumed at \d")).wait_for()
            await picture(page, "live-resumed")
            for tab in (page, other):
                await tab.get_by_text(re.compile("^Complete")).wait_for(timeout=20_000)
            assert whole(tmp_path / "model.bin")
            assert origin.body_bytes_sent() < CONTENT.size + (1 << 20)


async def test_cancelling_asks_before_it_deletes_and_only_then(
    browser: Browser, origin: Origin, tmp_path: Path
) -> None:
    """Cancel keeps the part file and asks nothing; the other button asks, and then it is gone."""
    part = tmp_path / "model.bin.part"
    with command(tmp_path) as (_, url):
        async with watching(browser, url) as page:
            await add(page, origin)
            await moving(page)
            await page.get_by_role("button", name="Cancel: model.bin").click()
            await page.get_by_text("Cancelled", exact=True).wait_for()
            assert part.exists()
            await page.get_by_role("button", name="Retry now: model.bin").click()
            await page.get_by_role("button", name="Pause: model.bin").wait_for()
            await page.get_by_role("button", name="Details: model.bin").click()
            await page.get_by_role("button", name="Cancel and delete what is on disk…").click()
            await page.get_by_role("button", name=re.compile("^Delete ")).click()
            await until(lambda: not part.exists(), "the part file is gone")


async def test_a_new_link_keeps_the_bytes(browser: Browser, origin: Origin, tmp_path: Path) -> None:
    """A link that expired half way: the page asks for another, and only the rest is fetched through that."""
    origin.put("/fresh.bin", CONTENT)
    with command(tmp_path) as (_, url):
        async with watching(browser, url) as page:
            await add(page, origin)
            await moving(page)
            origin.behave("/model.bin", Behaviour(status=410))
            origin.drop()
            # Not the filter, which has the same name.
            await page.locator("download-progress .pill", has_text=re.compile("^Failed")).wait_for()
            await page.get_by_text("1 download needs your help.").wait_for()
            await picture(page, "live-failed")
            await page.get_by_role("button", name="New link…: model.bin").click()
            await page.get_by_role("textbox", name="New link").fill(origin.url("/fresh.bin"))
            await page.get_by_role("button", name="Use this link").click()
            await page.get_by_text(re.compile("^Complete")).wait_for(timeout=20_000)
            assert whole(tmp_path / "model.bin")
            assert origin.body_bytes_sent("/fresh.bin") < CONTENT.size


async def test_a_wrong_token_shows_nothing(browser: Browser, tmp_path: Path) -> None:
    """The page asks for the token; with the right one it is live."""
    with command(tmp_path) as (_, url):
        async with opened(browser) as page:
            await page.goto(f"{url}/#token=not-the-token")
            await page.get_by_label("Access token").fill(TOKEN)
            await page.get_by_role("button", name="Connect").click()
            await page.get_by_text("Live", exact=True).wait_for()
            await page.reload()
            await page.get_by_text("Live", exact=True).wait_for()


async def test_below_a_prefix(browser: Browser, origin: Origin, tmp_path: Path) -> None:
    """Behind a shared host's path: files, socket and actions are found."""
    with command(tmp_path, "--prefix", "/tools/downloads") as (_, url):
        assert url.endswith("/tools/downloads")
        async with watching(browser, url) as page:
            await add(page, origin)
            await moving(page)
