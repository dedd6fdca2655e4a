"""The page as people use it: by keyboard alone, with a screen reader, with 200 downloads, and fed by strangers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.browsing import DESK, comes_true, opened
from tests.page_host import STATIC, asked, page_host, show
from tests.page_records import EXPIRED, FULL, MB, SIGN_IN, STOPPED, record, snapshot

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(browser: Browser) -> AsyncIterator[Page]:
    """Return the page of this module."""
    async with page_host() as url, opened(browser, base_url=url) as page:
        yield page


@pytest_asyncio.fixture(loop_scope="session")
async def page(shared: Page) -> Page:
    """Return that page opened anew."""
    await shared.set_viewport_size(DESK)
    await shared.goto("./")
    await comes_true(shared, "window.store")
    await shared.evaluate("() => sessionStorage.clear()")
    return shared


_FOCUSED = """() => {
  let one = document.activeElement;
  while (one?.shadowRoot?.activeElement) one = one.shadowRoot.activeElement;
  if (one === null) return "";
  const text = one.localName === "input" ? one.value : one.textContent.trim();
  return one.getAttribute("aria-label") || text || one.localName;
}"""


async def focused(page: Page) -> str:
    """Return the name of what has the keyboard."""
    name: str = await page.evaluate(_FOCUSED)
    return name


async def tab_to(page: Page, name: str, key: str = "Tab") -> None:
    """Go on with the keyboard until something of that name has the focus."""
    met = []
    for _ in range(60):
        await page.keyboard.press(key)
        met.append(await focused(page))
        if met[-1] == name:
            return
    pytest.fail(f"{name!r} is out of the keyboard's reach; reached: {met}")


async def dialog_opens(page: Page, key: str) -> None:
    """Press a key that opens a dialog; says what the page looked like when none came."""
    await page.keyboard.press(key)
    for _ in range(160):
        if await page.get_by_role("dialog").count():
            return
        await asyncio.sleep(0.05)
    row = page.locator("download-progress")
    found = await row.evaluate("one => [one.shadowRoot.querySelectorAll('dialog').length, one.buttons.outerHTML]")
    pytest.fail(f"no dialog; focused: {await focused(page)!r}; asked: {await asked(page)}; row: {found}")


async def push(page: Page, seq: int, *downloads: dict[str, Any]) -> None:
    """Send the page a ``progress_batch`` and wait until it is drawn."""
    items = [{"project_id": one["project_id"], "progress": one} for one in downloads]
    await page.evaluate(
        """async (batch) => {
          store.applyBatch(batch);
          await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
        }""",
        {"epoch": "e1", "seq": seq, "items": items},
    )


# -- by keyboard alone ---------------------------------------------------------------------------------------------

ACTIONS = [
    (record("a"), "Pause: a.safetensors", "download_action", {"action": "pause"}),
    (record("a"), "Cancel: a.safetensors", "download_action", {"action": "cancel"}),
    (record("a", "paused"), "Resume: a.safetensors", "download_action", {"action": "resume"}),
    (record("a", "waiting", error=STOPPED), "Retry now: a.safetensors", "download_action", {"action": "retry"}),
    (record("a", "failed", error=STOPPED), "Retry all", "bulk_action", {"action": "retry", "filter": ["a"]}),
]


@pytest.mark.parametrize(("download", "name", "event", "data"), ACTIONS, ids=[name for _, name, _, _ in ACTIONS])
async def test_a_button_by_keyboard(page: Page, download: Any, name: str, event: str, data: dict[str, Any]) -> None:
    """Tab to it, Enter, and exactly that is asked of the server, with no question in between."""
    await show(page, snapshot([download]))
    await tab_to(page, name)
    await page.keyboard.press("Enter")
    expected = data if event == "bulk_action" else {"download_id": "a", **data}
    assert await asked(page) == [[event, expected]]


DIALOGS = [
    (record("a", "failed", error=EXPIRED, actions=["new_link", "cancel"]), "New link…: a.safetensors", "https://h/new",
     {"action": "relink", "args": {"url": "https://h/new"}}),
    (record("a", "failed", error=SIGN_IN, actions=["log_in", "cancel"]), "Sign in…: a.safetensors", "https://h/mine",
     {"action": "relink", "args": {"url": "https://h/mine"}}),
    (record("a", "parked", error=FULL, actions=["free_space", "retry_now"]), "Free space…: a.safetensors", None,
     {"action": "retry"}),
    (record("a", "parked", error=FULL, actions=["choose_folder", "retry_now"]), "Choose folder…: a.safetensors", None,
     {"action": "retry"}),
]  # fmt: skip


@pytest.mark.parametrize(("download", "name", "text", "data"), DIALOGS, ids=[name for _, name, _, _ in DIALOGS])
async def test_a_dialog_by_keyboard(page: Page, download: Any, name: str, text: str | None, data: Any) -> None:
    """Escape leaves it, with nothing asked and the focus where it was; confirmed, exactly that is asked."""
    await show(page, snapshot([download]))
    await tab_to(page, name)
    await dialog_opens(page, "Enter")
    await page.keyboard.press("Escape")
    await page.locator("dialog").wait_for(state="detached")
    assert await focused(page) == name
    assert await asked(page) == []
    await dialog_opens(page, "Enter")
    if text is None:
        await tab_to(page, "Retry now")
    else:
        await page.keyboard.type(text)
    await page.keyboard.press("Enter")
    await page.locator("dialog").wait_for(state="detached")
    assert await asked(page) == [["download_action", {"download_id": "a", **data}]]


async def test_deleting_asks_first(page: Page) -> None:
    """The one action that destroys bytes; the answer that destroys nothing has the focus."""
    await show(page, snapshot([record("a", bytes_done=40 * MB)]))
    await tab_to(page, "Details: a.safetensors")
    await page.keyboard.press("Enter")
    await tab_to(page, "Cancel and delete what is on disk…")
    await page.keyboard.press("Enter")
    assert await focused(page) == "Keep it"
    await page.keyboard.press("Enter")
    await page.locator("dialog").wait_for(state="detached")  # a closed one is hidden first, and gone a task later
    assert [event for event, _ in await asked(page)] == ["operation_details"]
    await tab_to(page, "Cancel and delete what is on disk…")
    await page.keyboard.press("Enter")
    await tab_to(page, "Delete 40.0 MB")
    await page.keyboard.press("Enter")
    await comes_true(page, "asked.length > 1")
    data = {"download_id": "a", "action": "cancel", "args": {"delete_part": True}}
    assert (await asked(page))[-1] == ["download_action", data]


async def test_adding_by_keyboard(page: Page) -> None:
    """Open, two links, a project, a folder, start: two requests, the form closes, the focus is back at its button."""
    await show(page, snapshot([]))
    await tab_to(page, "Add download")
    await page.keyboard.press("Enter")
    await page.keyboard.type("https://h/a\nhttps://h/b")
    await page.keyboard.press("Tab")
    await page.keyboard.type("mine")
    await page.keyboard.press("Tab")
    await page.keyboard.type("sdxl")
    await page.keyboard.press("Enter")
    await comes_true(page, "asked.length === 2")
    orders = [["add_download", {"url": f"https://h/{name}", "project": "mine", "directory": "sdxl"}] for name in "ab"]
    assert await asked(page) == orders
    assert await focused(page) == "Add download"


async def test_a_refused_link_stays_in_the_form(page: Page) -> None:
    """With the reason; those that were taken are gone from it. A server that wants it slower is given time."""
    await show(page, snapshot([]))
    await page.evaluate("""() => {
      const refuse = (code, message) => ({ ok: false, error: { code, message } });
      const said = [refuse("rate_limited", ""), { ok: true }, refuse("forbidden", "outside of the folder")];
      store.requester = async (event, data) => { asked.push([event, data]); return said.shift(); };
    }""")
    await page.get_by_role("button", name="Add download").click()
    await page.get_by_label("Links, one per line").fill("https://h/a\nhttps://h/b")
    await page.get_by_role("button", name="Start").click()
    await page.get_by_text("https://h/b: That did not work: outside of the folder").wait_for()
    assert await page.get_by_label("Links, one per line").input_value() == "https://h/b"
    assert [data["url"] for _, data in await asked(page)] == ["https://h/a", "https://h/a", "https://h/b"]


async def test_filtering_by_keyboard(page: Page) -> None:
    """One stop for Tab, arrows between; the rows that do not belong are gone."""
    done, failed = record("b", "complete", project_id="other"), record("c", "failed", error=STOPPED)
    await show(page, snapshot([record("a"), done, failed]))
    await tab_to(page, "all")
    for _ in range(3):
        await page.keyboard.press("ArrowRight")
    assert await focused(page) == "failed"
    assert await page.get_by_role("progressbar").count() == 1
    assert await page.get_by_role("heading", level=3).all_inner_texts() == ["c.safetensors"]
    await page.keyboard.press("ArrowRight")
    assert await page.get_by_role("heading", level=3).all_inner_texts() == ["b.safetensors"]


async def test_the_focus_outlives_the_button(page: Page) -> None:
    """Pause becomes Resume: whoever pressed it by keyboard is on Resume, not back at the top of the page."""
    await show(page, snapshot([record("a")]))
    await tab_to(page, "Pause: a.safetensors")
    await page.keyboard.press("Enter")
    await push(page, 2, record("a", "paused", rev=2))
    assert await focused(page) == "Resume: a.safetensors"
    await push(page, 3, record("a", bytes_done=5, rev=3))
    assert await focused(page) == "Pause: a.safetensors"


async def test_the_focus_in_the_banner_stays_with_its_download(page: Page) -> None:
    """The row above leaves, the buttons change, the row itself leaves: Enter never meets another download."""
    a, b, c = (record(name, "waiting", error=STOPPED, created_at=9.0 - n) for n, name in enumerate("abc"))
    await show(page, snapshot([a, b, c]))
    await page.get_by_role("button", name="Details", exact=True).first.click()
    await page.locator("recovery-banner").get_by_role("button", name="Cancel: b.safetensors").focus()
    await push(page, 2, record("a", "paused", rev=2))
    assert await focused(page) == "Cancel: b.safetensors"
    await push(page, 3, b | {"actions": ["cancel"], "rev": 3})
    assert await focused(page) == "Cancel: b.safetensors"
    await push(page, 4, record("b", "paused", rev=4))
    assert await focused(page) == "Recovery"


@pytest.mark.parametrize("name", ["Retry now: a.safetensors", "Dismiss"])
async def test_the_focus_outlives_the_banner(page: Page, name: str) -> None:
    """The trouble is over, or dismissed: the next Tab leads into the list, not to the top of the page."""
    await show(page, snapshot([record("a", "waiting", error=STOPPED, episode=7)]))
    await page.get_by_role("button", name="Details", exact=True).first.click()
    await page.locator("recovery-banner").get_by_role("button", name=name).focus()
    if name == "Dismiss":
        await page.keyboard.press("Enter")
    else:
        await push(page, 2, record("a", bytes_done=5, rev=2))
    assert await focused(page) == "Recovery"


# -- what was asked and what became of it --------------------------------------------------------------------------


async def test_a_button_waits_for_its_answer(page: Page) -> None:
    """Pressed twice it asks once; a refusal is said where it was pressed, and the button works again."""
    await show(page, snapshot([record("a")]))
    await page.evaluate("""() => {
      store.requester = (event, data) => new Promise((done) => { asked.push([event, data]); window.reply = done; });
    }""")
    button = page.get_by_role("button", name="Pause: a.safetensors")
    await button.click()
    await button.dispatch_event("click")
    assert await button.get_attribute("aria-disabled") == "true"
    assert len(await asked(page)) == 1
    await page.evaluate("reply({ ok: false, error: { code: 'conflict', message: 'it has changed since' } })")
    await page.get_by_role("alert").get_by_text("That did not work: it has changed since").wait_for()
    assert await button.get_attribute("aria-disabled") is None


async def test_another_process_is_given_time_to_obey(page: Page) -> None:
    """It says that it was asked, until the state changes; mere bytes are no answer."""
    await show(page, snapshot([record("a")]))
    await page.evaluate("() => { answers.download_action = { ok: true, pending: true }; }")
    await page.get_by_role("button", name="Pause: a.safetensors").click()
    note = page.get_by_text("Asked the process that runs it…")
    await note.wait_for()
    await push(page, 2, record("a", bytes_done=5, rev=2))
    assert await note.is_visible()
    await push(page, 3, record("a", "paused", bytes_done=5, rev=3))
    assert not await note.is_visible()


async def test_a_host_may_take_an_action_over(page: Page) -> None:
    """A folder chooser of its own: preventDefault on rui-action, and nothing of ours opens."""
    await show(page, snapshot([record("a", "parked", error=FULL, actions=["choose_folder"])]))
    await page.evaluate("""() => addEventListener("rui-action", (event) => {
      window.taken = [event.detail.action, event.detail.download.download_id];
      event.preventDefault();
    })""")
    await page.get_by_role("button", name="Choose folder…: a.safetensors").click()
    assert await page.evaluate("taken") == ["choose_folder", "a"]
    assert await page.get_by_role("dialog").count() == 0


# -- with a screen reader ------------------------------------------------------------------------------------------


async def test_the_bar_says_what_it_shows(page: Page) -> None:
    """State, percent, attempt and where it resumed; no number where there is none."""
    one = record("a", bytes_done=56 * MB, bytes_resumed=20 * MB, attempt=3)
    await show(page, snapshot([one, record("b", bytes_total=None, bytes_done=MB, created_at=1.0)]))
    bar, unknown = await page.get_by_role("progressbar").all()
    assert await bar.get_attribute("aria-valuenow") == "56"
    assert await bar.get_attribute("aria-valuetext") == "Downloading, 56%, Attempt 3 of 50, resumed at 20.0 MB"
    assert await unknown.get_attribute("aria-valuenow") is None
    assert await unknown.get_attribute("aria-valuetext") == "Downloading, 1.0 MB, size unknown"
    assert await page.get_by_role("progressbar", name="a.safetensors").count() == 1


async def test_it_speaks_when_the_counts_change_and_only_then(page: Page) -> None:
    """Percent, countdown and retries go by in silence; a screen reader that read them would never stop."""
    waiting = record("a", "waiting", error=STOPPED, retry_at=9e9)
    await show(page, snapshot([waiting, record("b")]))
    status = page.get_by_role("status")
    assert await status.count() == 1
    assert await status.inner_text() == "1 download is recovering."
    await page.evaluate("""() => {
      const node = document.querySelector("recovery-banner").shadowRoot.querySelector("[role=status]");
      window.spoken = [];
      new MutationObserver(() => spoken.push(node.textContent)).observe(node,
        { childList: true, characterData: true, subtree: true, attributes: true });
    }""")
    for n in range(5):
        await push(page, 2 + n, waiting | {"attempt": n + 2, "rev": n + 2}, record("b", bytes_done=n * MB, rev=n + 2))
    assert await page.evaluate("spoken") == []
    await push(page, 20, record("b", "failed", error=EXPIRED, rev=20))
    assert (await page.evaluate("spoken"))[-1] == "1 download is recovering. 1 download needs your help."


# -- the banner ----------------------------------------------------------------------------------------------------


async def test_dismissed_means_this_trouble(page: Page) -> None:
    """It stays away over a reload; a new episode, or the same download failing for good, brings it back."""
    dismiss = page.get_by_role("button", name="Dismiss")
    waiting = record("a", "waiting", error=STOPPED, episode=1)
    await show(page, snapshot([waiting]))
    await dismiss.click()
    assert not await dismiss.is_visible()
    await page.reload()
    await comes_true(page, "window.store")
    await show(page, snapshot([waiting | {"attempt": 2}]))
    assert not await dismiss.is_visible()
    for seq, worse in enumerate([waiting | {"episode": 2}, record("a", "failed", error=STOPPED, episode=2)], 2):
        await push(page, seq, worse | {"rev": seq})
        assert await dismiss.is_visible()
        await dismiss.click()


async def test_retry_all_says_what_was_refused(page: Page) -> None:
    """Both are asked for in one request; what could not be done is said, with the reason."""
    await show(
        page, snapshot([record("a", "failed", error=STOPPED), record("b", "waiting", error=STOPPED), record("c")])
    )
    await page.evaluate("""() => {
      answers.bulk_action = { ok: true, done: ["b"], refused: [{ id: "a", code: "not_allowed", message: "gone" }] };
    }""")
    await page.get_by_role("button", name="Retry all").click()
    await page.get_by_text("1 download could not be retried: gone").wait_for()
    assert await asked(page) == [["bulk_action", {"action": "retry", "filter": ["a", "b"]}]]


async def test_retry_all_of_thousands_is_asked_in_parts(page: Page) -> None:
    """A packet has a largest size; and what was said of troubles goes when they do."""
    many = [record(f"d{n:04}", "failed", error=STOPPED) for n in range(1200)]
    await show(page, snapshot(many))
    await page.evaluate("""() => {
      answers.bulk_action = { ok: true, done: [], refused: [{ id: "a", code: "not_allowed", message: "gone" }] };
    }""")
    await page.get_by_role("button", name="Retry all").click()
    answer = page.get_by_text("3 downloads could not be retried: gone")
    await answer.wait_for()
    parts = [data["filter"] for _, data in await asked(page)]
    assert [len(part) for part in parts] == [500, 500, 200]
    assert sorted(name for part in parts for name in part) == [one["download_id"] for one in many]
    await show(page, snapshot([], seq=2))
    assert not await answer.is_visible()


async def test_retry_all_takes_over_from_a_process_that_is_gone(page: Page) -> None:
    """It needs help, and Resume is its button."""
    await show(page, snapshot([record("a", stale=True, actions=["resume", "cancel"])]))
    assert await page.get_by_role("status").inner_text() == "1 download needs your help."
    await page.get_by_role("button", name="Retry all").click()
    assert await asked(page) == [["bulk_action", {"action": "retry", "filter": ["a"]}]]


async def test_cut_off_it_says_so(page: Page) -> None:
    """It cannot be dismissed, greys the figures, and offers to try at once; back again, all that is gone."""
    await show(page, snapshot([record("a")]), "lost")
    await page.get_by_text("Connection to the server lost. Figures may be out of date.").wait_for()
    assert not await page.get_by_role("button", name="Dismiss").is_visible()
    assert await page.locator("article.outdated").count() == 1
    await page.get_by_role("button", name="Reconnect now").click()
    assert await asked(page) == [["reconnect", None]]
    await show(page, snapshot([record("a")]), "live")
    assert await page.locator("article.outdated").count() == 0
    assert not await page.get_by_text("Connection to the server lost").is_visible()


async def test_without_access_old_trouble_is_not_shown(page: Page) -> None:
    """The server began anew with another token: what the former one said does not stand as current."""
    await show(page, snapshot([record("a", "failed", error=STOPPED)]))
    assert await page.get_by_role("button", name="Retry all").is_visible()
    await show(page, snapshot([record("a", "failed", error=STOPPED)]), "unauthorized")
    assert not await page.get_by_role("button", name="Retry all").is_visible()
    assert await page.locator("recovery-banner").inner_text() == ""


async def test_a_snapshot_says_whether_there_are_buttons(page: Page) -> None:
    """A viewer's page has none, however it follows."""
    await show(page, snapshot([record("a")]) | {"role": "viewer"}, "polling")
    assert await page.get_by_role("button", name="Pause: a.safetensors").count() == 0


async def test_a_refused_token_can_be_replaced(page: Page) -> None:
    """Pasted as it is, or as the whole link."""
    await show(page, snapshot([record("a")]), "unauthorized")
    assert await page.get_by_role("progressbar").count() == 0
    await page.get_by_label("Access token").fill("http://127.0.0.1:8710/#token=fresh-one")
    await page.keyboard.press("Enter")
    assert await asked(page) == [["reconnect", "fresh-one"]]


# -- fed by strangers ----------------------------------------------------------------------------------------------

EVIL = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"


async def test_names_and_messages_are_text(page: Page) -> None:
    """In every place where something from outside is shown: no element comes of it, and it reads as it was sent."""
    error = STOPPED | {"code": EVIL, "category": EVIL, "message": EVIL, "detail": EVIL}
    hostile = record("a", "failed", filename=EVIL, project_id=EVIL, url=EVIL, dest=EVIL, error=error, restarted=EVIL)
    await page.evaluate(
        """(text) => {
          const attempt = { n: 1, started_at: 1, ended_at: 2, from: 0, to: 1, error: text, delay: 1 };
          answers.operation_details = { ok: true, attempts: [attempt] };
          answers.download_action = { ok: false, error: { message: text } };
        }""",
        EVIL,
    )
    await show(
        page,
        snapshot(
            [hostile | {"owner": EVIL, "verified_by": EVIL, "sha256": EVIL, "can_resume": True, "warnings": [EVIL]}]
        ),
    )
    await page.get_by_role("button", name="Details", exact=True).click()
    await page.get_by_role("button", name="Details: <img").click()
    await page.get_by_role("button", name="Retry now: <img").last.click()
    await page.get_by_text("That did not work: <img").wait_for()
    found = await page.evaluate("""() => {
      const below = (root) => [...root.querySelectorAll("*")].flatMap(
        (one) => [one.localName, ...(one.shadowRoot ? below(one.shadowRoot) : [])]);
      return [below(document).filter((name) => name === "img" || name === "script").length, window.hacked ?? null];
    }""")
    assert found == [1, None]  # the page's own script
    assert await page.get_by_text(EVIL, exact=False).count() >= 8


async def test_the_policy_is_in_force(browser: Browser) -> None:
    """The pictures and clicks of these tests happened under it: inline style does nothing here, and is noticed."""
    async with page_host() as url, opened(browser, faults=False) as page:
        await page.goto(url)
        broken = await page.evaluate("""async () => {
          const broken = [];
          document.addEventListener("securitypolicyviolation", (event) => { broken.push(event.effectiveDirective); });
          const node = document.createElement("div");
          node.setAttribute("style", "color: red");
          document.body.append(node);
          await new Promise((done) => setTimeout(done, 50));
          return [broken, node.style.color];
        }""")
        assert broken == [["style-src-attr"], ""]


FORBIDDEN = (
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setAttribute\(\"style|DOMParser"
)


async def test_no_source_parses_html() -> None:
    """What is not there cannot be forgotten in one place."""
    sources = [*STATIC.rglob("*.js"), *STATIC.rglob("*.html")]
    assert len(sources) > 20
    assert [path.name for path in sources if re.search(FORBIDDEN, path.read_text())] == []
    assert re.search(r"<script(?![^>]*src=)|style=|\son\w+=", (STATIC / "index.html").read_text()) is None


def addresses(path: Path) -> list[str]:
    """Return what looks like an absolute address in a file of the page; the namespace of SVG is none."""
    text = path.read_text().replace("http://www.w3.org/2000/svg", "")
    return re.findall(r"""(?:src|href)="/[^"]*|from "/[^"]*|fetch\("/[^"]*|https?://[^"'`\s/]+""", text)


async def test_every_address_is_relative() -> None:
    """Below any prefix, behind any proxy, without a network."""
    assert {path.name: found for path in STATIC.rglob("*.*") if (found := addresses(path))} == {}


# -- with many -----------------------------------------------------------------------------------------------------


async def test_200_downloads_draw_what_is_seen(page: Page) -> None:
    """Ten batches of 200 within a second: rows in sight are drawn for each, the others when they come into sight."""
    many = [record(f"d{n:03}", created_at=1000.0 - n, bytes_done=1) for n in range(200)]
    await show(page, snapshot(many))
    await page.evaluate("""async () => {
      const now = Date.now();
      Date.now = () => now;  // this machine may be slow: less than a second passes for the page
      for (let timer = setTimeout(() => 0); timer > 0; timer -= 1) clearTimeout(timer);  // the snapshot's draw later
      window.setTimeout = () => 0;
      for (let frame = 0; frame < 2; frame += 1) await new Promise(requestAnimationFrame);
      window.drawn = new Map();
      const plain = customElements.get("download-progress").prototype;
      const draw = plain.draw;
      plain.draw = function () {
        drawn.set(this.downloadId, (drawn.get(this.downloadId) ?? 0) + 1);
        return draw.call(this);
      };
    }""")
    for tick in range(1, 11):
        await push(page, tick + 1, *(one | {"bytes_done": tick * MB, "rev": tick + 1} for one in many))
    drawn = await page.evaluate("Object.fromEntries(drawn)")
    assert drawn["d000"] == 10
    assert 5 <= len(drawn) <= 40
    assert {one: n for one, n in drawn.items() if n != 10} == {}
    last = page.get_by_role("progressbar", name="d199.safetensors")
    await last.scroll_into_view_if_needed()
    await comes_true(
        page,
        """document.querySelector("download-list").shadowRoot.querySelector("project-card").shadowRoot
          .querySelector("li:last-child download-progress").bar.getAttribute("aria-valuenow") === "10" """,
    )


async def test_a_row_that_did_not_change_is_not_drawn(page: Page) -> None:
    """One download's news are one download's work, whatever else is on the page."""
    await show(page, snapshot([record("a"), record("b")]))
    await page.evaluate("""() => {
      window.touched = [];
      const card = document.querySelector("download-list").shadowRoot.querySelector("project-card");
      for (const row of card.shadowRoot.querySelectorAll("download-progress")) {
        new MutationObserver(() => touched.push(row.downloadId)).observe(row.shadowRoot,
          { childList: true, characterData: true, subtree: true, attributes: true });
      }
    }""")
    await push(page, 2, record("a", bytes_done=9 * MB, rev=2))
    assert set(await page.evaluate("touched")) == {"a"}


FIGURES = """[...document.querySelector("download-list").shadowRoot.querySelector("project-card").shadowRoot
  .querySelectorAll("download-progress")].map((row) => row.figures.textContent)"""


async def test_a_speed_that_is_over_is_not_shown(page: Page) -> None:
    """A standstill shows at once; another speed within a second, with no news after it."""
    fast = record("a", bytes_done=50 * MB, speed=5.0 * MB, eta=10)
    await show(page, snapshot([fast]))
    await push(page, 2, fast | {"speed": 2.0 * MB, "eta": 25, "rev": 2})
    await comes_true(page, f"{FIGURES}[0].includes('2.0 MB/s')")
    await push(page, 3, fast | {"speed": 0.0, "eta": None, "rev": 3})
    (shown,) = await page.evaluate(FIGURES)
    assert "time left unknown" in shown
    assert "2.0 MB/s" not in shown


async def test_the_total_and_the_only_row_have_one_speed(page: Page) -> None:
    """News come ten times a second and are shown once; both change at the same moment."""
    fast = record("a", bytes_done=50 * MB, speed=5.0 * MB, eta=10)
    await show(page, snapshot([fast]))
    speeds = """() => [document.querySelector("download-list").totals, document.querySelector("download-list")
      .shadowRoot.querySelector("project-card").shadowRoot.querySelector("download-progress").figures]
      .map((words) => words.textContent.match(/[0-9.]+ MB\\/s/)?.[0])"""
    seen = set()
    for seq in range(2, 32):
        await push(page, seq, fast | {"speed": seq * MB, "rev": seq})
        total, row = await page.evaluate(speeds)
        assert total == row
        seen.add(row)
        await asyncio.sleep(0.05)
    assert None not in seen
    assert 2 <= len(seen) < 20


async def test_a_row_out_of_sight_keeps_its_last_news(page: Page) -> None:
    """Its text is there for a screen reader: drawn less often, never left at what is over."""
    many = [record(f"d{n:03}", created_at=1000.0 - n, bytes_done=1) for n in range(120)]
    await show(page, snapshot(many))
    await push(page, 2, many[-1] | {"bytes_done": 50 * MB, "rev": 2})
    await push(page, 3, record("d119", "complete", created_at=881.0, bytes_done=100 * MB, rev=3))
    await comes_true(page, f"{FIGURES}.at(-1) === '100 MB'")


async def test_what_the_server_left_out_is_said(page: Page) -> None:
    """A list of the newest is not the whole list."""
    await show(page, snapshot([record("a", "complete"), record("b")]) | {"left_out": 312})
    await page.get_by_text("2 of 314 shown").wait_for()
    await show(page, snapshot([record("b")], seq=2))
    assert await page.get_by_text("shown").count() == 0


async def test_a_tab_that_is_hidden_before_its_frame_goes_on(page: Page) -> None:
    """The frame it was promised never comes; its title and screen reader text change all the same."""
    await page.evaluate("""() => {
      window.calls = 0;
      store.subscribe("any", () => (calls += 1));
      window.requestAnimationFrame = () => 0;
      store.setStatus("lost");
    }""")
    await comes_true(page, "calls === 1")


async def test_the_title_and_the_token(browser: Browser) -> None:
    """The token leaves the address bar and is kept for the tab; without a hub the page says that it has no line."""
    index = ("text/html", (STATIC / "index.html").read_text())
    async with page_host({"page.html": index}) as url, opened(browser, faults=False) as page:
        await page.goto(f"{url}page.html?x=1#token=s3cret%2Btoken%25+%26")
        await comes_true(page, "sessionStorage.length > 0")
        assert page.url == f"{url}page.html?x=1"
        assert await page.evaluate("Object.entries(sessionStorage)") == [
            ["resumable.token:/some/where/", "s3cret+token%+&"]
        ]
        assert "s3cret" not in await page.content()
        await page.get_by_text("Connection to the server lost. Figures may be out of date.").wait_for()
        await page.get_by_text("Loading downloads…").wait_for()


async def test_a_card_that_is_given_another_store_shows_that_one(page: Page) -> None:
    """A host that reconnects to another hub keeps its elements; a row must not stay with the one before."""
    await show(page, snapshot([record("a", bytes_done=10 * MB)]))
    said = await page.evaluate(
        """async (snapshot) => {
          const { Store } = await import("./static/resumable.js");
          const card = document.createElement("project-card");
          card.projectId = snapshot.downloads[0].project_id;
          card.store = store;
          document.body.append(card);
          const other = new Store();
          other.applySnapshot(snapshot);
          card.store = other;
          const row = card.shadowRoot.querySelector("download-progress");
          const said = row.shadowRoot.querySelector(".figures").textContent;
          card.remove();
          return said;
        }""",
        snapshot([record("a", bytes_done=90 * MB)], epoch="other"),
    )
    assert "90.0 MB of 100 MB" in said


# -- the history of one download -----------------------------------------------------------------------------------


async def test_the_history_says_what_was_and_says_it_once(page: Page) -> None:
    """A wait that somebody cut short is not told as it was planned; a status is named once; no try took 0.0 s."""
    rows = [
        {"n": 1, "started_at": 1000.0, "ended_at": 1000.01, "from": 0, "to": 0, "delay": 40.0,
         "error": "the server answered 503", "http_status": 503},
        {"n": 2, "started_at": 1008.0, "ended_at": 1020.0, "from": 0, "to": 5, "delay": 3.0, "error": "it broke",
         "http_status": 502},
        {"n": 3, "started_at": 1023.2, "ended_at": 1030.0, "from": 5, "to": 5, "delay": 12.0, "error": "it broke",
         "http_status": None},
    ]  # fmt: skip
    await page.evaluate("attempts => { answers.operation_details = { ok: true, attempts }; }", rows)
    await show(page, snapshot([record("a", "waiting", error=STOPPED)]))
    await page.get_by_role("button", name="Details: a.safetensors").click()
    entries = page.locator("attempt-history li")
    await entries.nth(2).wait_for()
    said = await entries.all_inner_texts()
    assert [[line for line in words.splitlines() if line][-2:] for words in said] == [
        ["the server answered 503", "then waited 8 s of 40 s"],
        ["it broke (HTTP 502)", "then waited 3 s"],
        ["it broke", "waits 12 s before the next"],
    ]
    assert "took under 0.1 s" in said[0]
