"""Every state of the page: judged by axe-core in light and dark, fits a phone, and leaves a picture to look at."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.browsing import DESK, PHONE, comes_true, opened, picture, unfold, violations
from tests.page_host import page_host, show
from tests.page_records import (
    EXPIRED,
    FOLDER,
    FULL,
    MB,
    OFFLINE,
    RETRIED,
    SIGN_IN,
    attempts,
    every_state,
    failure,
    record,
    snapshot,
)

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = pytest.mark.asyncio(loop_scope="session")

Steps = Callable[["Page"], Awaitable[Any]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """Return the page around an empty store, with words for ``operation_details``."""
    async with page_host() as url, opened(browser, base_url=url) as page:
        yield page


async def fresh(page: Page) -> None:
    """Open the page anew."""
    await page.set_viewport_size(DESK)
    await page.emulate_media(color_scheme="light", forced_colors="none")
    await page.goto("./")
    await comes_true(page, "window.store")
    await page.evaluate("() => sessionStorage.clear()")
    await page.evaluate(
        "attempts => { answers.operation_details = { ok: true, attempts }; }",
        attempts(time.time()),
    )


def press(*names: str) -> Steps:
    """Return the pressing of buttons, one after the other."""

    async def steps(page: Page) -> None:
        for name in names:
            await page.get_by_role("button", name=name, exact=True).first.click()

    return steps


async def wrong_link(page: Page) -> None:
    """Try to start what is no link."""
    await press("Add download")(page)
    await page.get_by_label("Links, one per line").fill("https://example.org/model.bin\nmodel.bin")
    await press("Start")(page)


async def refused(page: Page) -> None:
    """Press a button whose request the server refuses."""
    await page.evaluate("""() => {
      answers.download_action = { ok: false, error: { code: "not_allowed", message: "it is running: nothing to do" } };
    }""")
    await press("Pause: a.safetensors")(page)


async def choose_failed(page: Page) -> None:
    """Look at those that failed, of which there are none."""
    await page.get_by_role("radio", name="Failed").check(force=True)


async def as_viewer(page: Page) -> None:
    """Be somebody who may look only."""
    await page.evaluate("store.setRole('viewer')")


RUNNING = record("a", bytes_done=40 * MB, bytes_received=40 * MB, speed=3 * MB, eta=20)
DONE = record(
    "a",
    "complete",
    bytes_done=6900 * MB,
    bytes_total=6900 * MB,
    bytes_resumed=2100 * MB,
    bytes_received=4800 * MB,
    breaks=[900 * MB, 2100 * MB],
    attempt=4,
    attempts=4,
    verified_by="digest",
    sha256="ab" * 32,
)
NO_FOLDER = record("a", "parked", error=FOLDER, actions=["choose_folder", "retry_now", "cancel"])
GIVEN_UP = failure("no-progress", "No byte came in three tries in a row. The part already on disk is kept.")
EXPIRED_ONE = record("a", "failed", bytes_done=40 * MB, error=EXPIRED, actions=["new_link", "retry_now", "cancel"])
FULL_ONE = record("a", "parked", bytes_done=9 * MB, error=FULL, actions=["free_space", "choose_folder", "cancel"])
SIGN_IN_ONE = record("a", "failed", error=SIGN_IN, actions=["log_in", "new_link", "cancel"])

STATES: list[tuple[str, list[dict[str, Any]] | None, str, Steps | None]] = [
    ("loading", None, "connecting", None),
    ("empty", [], "live", None),
    ("every-state", every_state(), "live", None),
    ("banner-open", every_state()[1:7], "live", press("Details")),
    ("running", [RUNNING], "live", None),
    ("history", [RETRIED], "live", press("Details: a.safetensors")),
    ("queued", [record("a", "queued")], "live", None),
    ("resumed", [RUNNING | {"bytes_resumed": 20 * MB, "bytes_received": 20 * MB}], "live", None),
    ("waiting", every_state()[1:2], "live", None),
    ("parked", [record("a", "parked", bytes_done=9 * MB, error=OFFLINE)], "live", None),
    ("parked-disk-full", [FULL_ONE], "live", None),
    ("paused", [record("a", "paused", bytes_done=44 * MB, bytes_received=44 * MB)], "live", None),
    ("verifying", [record("a", "verifying", bytes_done=100 * MB, bytes_received=100 * MB)], "live", None),
    ("complete", [DONE], "live", None),
    ("complete-history", [DONE], "live", press("Details: a.safetensors")),
    ("failed", [record("a", "failed", bytes_done=40 * MB, attempts=3, attempt=3, error=GIVEN_UP)], "live", None),
    ("cancelled", [record("a", "cancelled", bytes_done=12 * MB)], "live", None),
    ("stale", [RUNNING | {"stale": True, "speed": 0.0, "eta": None, "actions": ["resume", "cancel"]}], "live", None),
    ("refused", [RUNNING], "live", refused),
    ("viewer", [RUNNING], "live", as_viewer),
    ("filtered-to-none", [RUNNING], "live", choose_failed),
    ("viewer-empty", [], "live", as_viewer),
    ("add", [RUNNING], "live", press("Add download")),
    ("add-wrong", [RUNNING], "live", wrong_link),
    ("relink", [EXPIRED_ONE], "live", press("New link…: a.safetensors")),
    ("relink-wrong", [EXPIRED_ONE], "live", press("New link…: a.safetensors", "Use this link")),
    ("free-space", [FULL_ONE], "live", press("Free space…: a.safetensors")),
    ("choose-folder", [FULL_ONE], "live", press("Choose folder…: a.safetensors")),
    ("repair-folder", [NO_FOLDER], "live", press("Choose folder…: a.safetensors")),
    ("sign-in", [SIGN_IN_ONE], "live", press("Sign in…: a.safetensors")),
    ("delete", [RUNNING], "live", press("Details: a.safetensors", "Cancel and delete what is on disk…")),
    ("lost", every_state()[:4], "lost", None),
    ("lost-banner-open", every_state()[1:7], "lost", press("Details")),
    ("polling", [RUNNING], "polling", None),
    ("no-access", [], "unauthorized", None),
]  # fmt: skip


@pytest.mark.parametrize(("downloads", "status", "steps", "name"), [
    pytest.param(downloads, status, steps, name, id=name) for name, downloads, status, steps in STATES
])  # fmt: skip
async def test_state(page: Page, downloads: Any, status: str, steps: Steps | None, name: str) -> None:
    """No violation in light and dark, no sideways scroll on a phone; three pictures."""
    await fresh(page)
    if name == "complete-history":
        await page.evaluate(
            "now => Object.assign(answers.operation_details.attempts[3], { to: 6.9e9, ended_at: now - 5 })", time.time()
        )
    if downloads is not None:
        for one in downloads:
            one["retry_at"] = time.time() + 17 if one["state"] == "waiting" else None
        await show(page, snapshot(downloads), status)
    if steps is not None:
        await steps(page)
        await page.wait_for_timeout(30)
    await unfold(page)
    assert await violations(page) == []
    await picture(page, f"{name}-light")
    await page.emulate_media(color_scheme="dark")
    assert await violations(page, "color-contrast") == []  # nothing else differs
    await picture(page, f"{name}-dark")
    await page.emulate_media(color_scheme="light")
    await page.set_viewport_size(PHONE)
    await unfold(page)
    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    await picture(page, f"{name}-phone")


@pytest.mark.parametrize("status", ["live", "lost", "polling"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_reasons_in_the_banner_are_not_of_the_colour_behind_them(page: Page, scheme: Any, status: str) -> None:
    """For axe-core a text in the colour of its background is undecided, not a violation."""
    await fresh(page)
    await page.emulate_media(color_scheme=scheme)
    await show(page, snapshot(every_state()[1:7]), status)
    await press("Details")(page)
    ink, card = await page.locator("recovery-banner .reason").first.evaluate(
        "reason => [getComputedStyle(reason).color, getComputedStyle(reason.closest('ul')).backgroundColor]"
    )
    assert ink != card


async def test_forced_colours(page: Page) -> None:
    """Meaning survives where the system chooses the colours: nothing axe finds, and a picture."""
    await fresh(page)
    await show(page, snapshot(every_state()))
    await page.emulate_media(forced_colors="active")
    await unfold(page)
    assert await violations(page) == []
    await picture(page, "every-state-forced-colours")


async def test_a_phone_in_the_dark_with_everything_open(page: Page) -> None:
    """The worst case of a narrow page: fits, and axe finds nothing."""
    await fresh(page)
    await show(page, snapshot(every_state()))
    await page.emulate_media(color_scheme="dark")
    await press("Details", "Details: sd_xl_base_1.0.safetensors", "Add download")(page)
    await page.set_viewport_size(PHONE)
    await unfold(page)
    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert await violations(page) == []
    await picture(page, "everything-open-dark-phone")


LONG = "a-very-long-name-without-any-place-to-break-" * 6


async def test_long_names_break_nothing(page: Page) -> None:
    """A name of 264 characters, a link and a reason as long: they wrap."""
    await fresh(page)
    error = EXPIRED | {"message": LONG, "detail": LONG}
    long = record("a", "failed", filename=LONG, url=f"https://h/{LONG}", dest=f"/{LONG}", error=error, project_id=LONG)
    await show(page, snapshot([long]))
    await press("Details", f"Details: {LONG}")(page)
    await page.set_viewport_size(PHONE)
    await unfold(page)
    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    await picture(page, "long-names-phone")


async def test_motion_stops_where_people_ask_for_that(page: Page) -> None:
    """Nothing runs or slides under prefers-reduced-motion; otherwise the bar of unknown length moves."""
    await fresh(page)
    await show(page, snapshot([record("a", bytes_total=None, bytes_done=5, speed=1)]))
    style = """() => {
      const run = document.querySelector("download-list").shadowRoot.querySelector("project-card").shadowRoot
        .querySelector("download-progress").shadowRoot.querySelector(".run");
      return [getComputedStyle(run).animationName, getComputedStyle(run).transitionDuration];
    }"""
    assert await page.evaluate(style) == ["to-and-fro", "0.12s"]
    await page.emulate_media(reduced_motion="reduce")
    assert await page.evaluate(style) == ["none", "0s"]
    await page.emulate_media(reduced_motion="no-preference")
