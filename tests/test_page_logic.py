"""What the page's pure modules decide, run by the browser that will run them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from recovery.states import State
from recovery.verdict import UserAction
from resumable_ui.quantities import format_duration, format_size
from tests.browsing import comes_true, opened
from tests.page_host import STATIC, page_host
from tests.page_records import EXPIRED, FULL, GB, MB, STOPPED, failure, record, snapshot

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """Return a page that has the modules on hand as ``m``."""
    async with page_host() as url, opened(browser) as page:
        await page.goto(url)
        await comes_true(page, "window.store")
        await page.evaluate(
            """async () => {
              const names = "quantities projection packets strings actions dialogs store requests".split(" ");
              const found = await Promise.all(names.map((name) => import(`./static/${name}.js`)));
              window.m = Object.assign({}, ...found);
            }"""
        )
        yield page


# -- words and numbers -----------------------------------------------------------------------------------------------

SIZES = [
    0,
    1,
    999,
    999.4,
    999.6,
    1000,
    64_000,
    99_949_999,
    99_950_000,
    999_499_999,
    999_500_000,
    3_912_345_678,
    10**15,
    10**16,
]


async def test_sizes_read_as_in_the_terminal(page: Page) -> None:
    """The page and the command say the same of the same bytes."""
    assert [format_size(size) for size in SIZES] == await page.evaluate("sizes => sizes.map(m.formatSize)", SIZES)


DURATIONS = [0, 0.4, 0.94, 0.96, 1, 59.4, 59.6, 60, 61, 140, 3599, 3600, 3660, 86_399, 86_400, 90_000, 10**7]


async def test_durations_read_as_in_the_terminal(page: Page) -> None:
    """The page and the command say the same of the same seconds."""
    assert [format_duration(one) for one in DURATIONS] == await page.evaluate(
        "all => all.map(m.formatDuration)", DURATIONS
    )


PERCENT = [
    ((0, 100), 0),
    ((999, 1000), 99),  # rounded down: 100 means all of it
    ((1000, 1000), 100),
    ((0, 0), 100),
    ((5, None), None),
    ((11, 10), 100),
]


async def test_percent_never_says_all_before_it_is_all(page: Page) -> None:
    """Rounded down, within bounds, unknown without a size."""
    assert [want for _, want in PERCENT] == await page.evaluate(
        "all => all.map((a) => m.percentOf(...a))", [a for a, _ in PERCENT]
    )


async def test_every_state_and_action_of_the_wire_has_a_word(page: Page) -> None:
    """A state or a button that is new in Python must not come up as a raw word."""
    words = await page.evaluate(
        "([s, a]) => [...s.map((x) => `state.${x}`), ...a.map((x) => `action.${x}`)].filter((k) => !(k in m.ENGLISH))",
        [[state.value for state in State], [action.value for action in UserAction]],
    )
    assert words == []


async def test_every_word_of_the_table_is_said_somewhere() -> None:
    """A translator's work is not for nothing. Keys put together at run time are those of the wire's words."""
    table = (STATIC / "strings.js").read_text().partition("/** @typedef")[0]
    code = "".join(path.read_text() for path in STATIC.rglob("*.js") if path.name != "strings.js")
    keys = re.findall(r'^  "?([\w.\-]+)"?: ', table, re.MULTILINE)
    composed = ("state.", "action.", "proof.", "filter.", "status.")
    assert len(keys) >= 140
    assert [key for key in keys if f'"{key}"' not in code and not key.startswith(composed)] == []


async def test_plurals_follow_the_number(page: Page) -> None:
    """One retry, two retries; and a host's own table is laid over ours."""
    said = await page.evaluate("""() => {
      const before = [1, 2].map((n) => m.say("retries", { n }));
      m.setStrings({ retries: { one: "{n} Versuch", other: "{n} Versuche" } }, "de");
      const after = [1, 2].map((n) => m.say("retries", { n }));
      m.setStrings({});
      return [...before, ...after, m.say("action.pause")];
    }""")
    assert said == ["1 retry", "2 retries", "1 Versuch", "2 Versuche", "Pause"]


# -- a download in words ---------------------------------------------------------------------------------------------

WAITING = record("a", "waiting", attempt=1, attempts=1, retry_at=112.2, error=STOPPED, bytes_done=27 * MB)
STATUS = [
    (record("a"), "Downloading"),
    (record("a", attempt=3), "Downloading · 2 retries"),
    (WAITING, "Retrying · 1 retry"),
    (record("a", "waiting", attempt=3, attempts=2), "Retrying · 2 retries"),  # a wait for the host is no attempt
    (record("a", "waiting", attempt=3, attempts=0), "Waiting"),
    (record("a", attempt=2, attempts=2, retries=0), "Downloading"),  # it went on after a pause
    (record("a", attempt=4, attempts=4, retries=2), "Downloading · 2 retries"),
    (WAITING | {"attempt": 3, "attempts": 3, "retries": 1}, "Retrying · 2 retries"),
    (WAITING | {"attempts": 0, "retries": 0}, "Waiting"),  # for its host, before it was ever asked
    (record("a", "waiting", stale=True), "Not responding · 1 retry"),
    (record("a", attempt=2, error=STOPPED, bytes_done=5, breaks=[5]), "Retrying · 1 retry"),  # nothing gained yet
    (record("a", attempt=2, error=STOPPED, bytes_done=6, breaks=[5]), "Downloading · 1 retry"),
    (record("a", "parked", error=FULL), "Waiting for disk space"),
    (record("a", "parked", error=failure("throttled", "")), "On hold"),
    (record("a", "failed", attempt=4), "Failed · 3 retries"),
    (record("a", "complete"), "Complete"),
    (record("a", "verifying"), "Checking"),
    (record("a", stale=True), "Not responding"),
    (record("a", "complete", stale=True), "Complete"),
    (record("a") | {"state": "unheard-of"}, "unheard-of"),
]


async def test_status_words(page: Page) -> None:
    """State and retry count, in the words of the wireframe."""
    assert [want for _, want in STATUS] == await page.evaluate("all => all.map(m.statusWords)", [a for a, _ in STATUS])


FIGURES = [
    (
        record(
            "a",
            bytes_done=int(3.9 * GB),
            bytes_total=int(6.9 * GB),
            bytes_resumed=int(2.1 * GB),
            speed=21.4 * MB,
            eta=140,
        ),
        ["56%", "3.9 GB of 6.9 GB", "resumed at 2.1 GB", "21.4 MB/s", "2 min 20 s left"],
    ),
    (WAITING, ["27%", "27.0 MB of 100 MB", "Attempt 2 of 50", "next try in 13 s"]),
    (WAITING | {"retry_at": 100.0}, ["27%", "27.0 MB of 100 MB", "Attempt 2 of 50", "next try now"]),
    (WAITING | {"retry_at": 90.0}, ["27%", "27.0 MB of 100 MB", "Attempt 2 of 50", "waiting for a free slot"]),
    (WAITING | {"attempt": 4, "attempts": 0}, ["27%", "27.0 MB of 100 MB", "Attempt 1 of 50", "next try in 13 s"]),
    (WAITING | {"attempts": 52}, ["27%", "27.0 MB of 100 MB", "Attempt 53", "next try in 13 s"]),
    (WAITING | {"stale": True}, ["27%", "27.0 MB of 100 MB"]),
    (record("a", bytes_total=None, bytes_done=120 * MB, speed=MB), ["120 MB, size unknown", "1.0 MB/s"]),
    (record("a", bytes_total=None, bytes_received=3 * MB, speed=MB), ["3.0 MB, size unknown", "1.0 MB/s"]),
    (record("a", speed=MB), ["0%", "0 B of 100 MB", "1.0 MB/s", "time left unknown"]),  # never "0 s left"
    (record("a", bytes_done=100 * MB, speed=MB, eta=0), ["100%", "100 MB of 100 MB", "1.0 MB/s"]),
    (record("a", "complete", verified_by="digest"), ["100 MB", "checked by SHA-256"]),
    (record("a", "failed", bytes_total=None), []),
    (record("a", "paused", speed=5 * MB, eta=3), ["0%", "0 B of 100 MB"]),  # no speed while nothing moves
]


async def test_figures(page: Page) -> None:
    """How much, from where, how fast, how long, or when the next try comes; only what is known."""
    assert [want for _, want in FIGURES] == await page.evaluate(
        "all => all.map((d) => m.figuresOf(d, 100))", [a for a, _ in FIGURES]
    )


TROUBLE = [
    (record("a"), None),
    (record("a", attempt=2, error=STOPPED, bytes_done=5, breaks=[5]), "recovering"),
    (record("a", attempt=2, error=STOPPED, bytes_done=6, breaks=[5]), None),
    (record("a", stale=True), "help"),
    (record("a", "waiting", stale=True), "help"),
    (record("a", "complete", stale=True), None),
    (record("a", "waiting"), "recovering"),
    (record("a", "parked"), "recovering"),
    (record("a", "parked", actions=["free_space", "cancel"]), "help"),
    (record("a", "failed"), "help"),
    (record("a", "paused"), None),
    (record("a", "cancelled"), None),
    (record("a", "complete"), None),
]


async def test_a_reason_that_is_over_is_not_said(page: Page) -> None:
    """Once its time has come, a download waits for a slot, not for the server that was away."""
    said = await page.evaluate("d => [100, 113, 120].map((now) => m.reasonOf(d, now))", WAITING)
    assert said == [STOPPED["message"], STOPPED["message"], ""]


RUN = record("a", bytes_done=5 * MB, bytes_total=10 * MB, speed=1.0 * MB, eta=5)
TOTALS = [
    ([RUN], 5, 50),
    ([RUN, record("b", "failed")], 5, 50),
    ([RUN, record("b", "paused")], 5, 50),
    ([RUN, record("b", stale=True, speed=9.0 * MB)], 5, 50),
    ([RUN, record("b", "parked", actions=["free_space"])], 5, 50),
    ([RUN, record("b", "failed", bytes_total=None)], 5, 50),
    ([RUN, record("b", "waiting", bytes_total=10 * MB)], 15, 25),
    ([RUN, record("b", "queued", bytes_total=None)], None, None),
    ([RUN, record("b", "complete", bytes_done=10 * MB, bytes_total=10 * MB)], 5, 75),
    ([record("b", "paused")], None, None),
]


async def test_the_time_left_is_that_of_what_goes_on(page: Page) -> None:
    """What failed, is paused or has lost its process is not waited for; an unknown size makes it unknown."""
    found = await page.evaluate(
        """(all) => all.map((downloads) => {
          const store = new m.Store();
          store.applySnapshot({ epoch: "e", seq: 1, ts: 1, downloads });
          return [store.summary().eta, store.summary().percent];
        })""",
        [downloads for downloads, _, _ in TOTALS],
    )
    assert found == [[eta, percent] for _, eta, percent in TOTALS]


async def test_each_filter_counts_what_it_shows(page: Page) -> None:
    """What was cancelled is not done, nor anything else that has a filter of its own: it stands under "All"."""
    states = ("queued", "running", "waiting", "parked", "paused", "verifying", "complete", "failed", "cancelled")
    downloads = [record(state, state) for state in states]
    counts, shown = await page.evaluate(
        """async (downloads) => {
          const { passes } = await import("./static/elements/project-card.js");
          const store = new m.Store();
          store.applySnapshot({ epoch: "e", seq: 1, ts: 1, downloads });
          const { counts } = store.summary();
          const names = (filter) => downloads.filter((one) => passes(one, filter)).map((one) => one.state);
          return [counts, Object.fromEntries(Object.keys(counts).map((filter) => [filter, names(filter)]))];
        }""",
        downloads,
    )
    assert (shown["done"], shown["failed"]) == (["complete"], ["failed"])
    assert shown["active"] == ["queued", "running", "waiting", "parked", "paused", "verifying"]
    assert shown["recovering"] == ["waiting", "parked"]
    assert shown["all"] == list(states)
    assert counts == {word: len(names) for word, names in shown.items()}


async def test_who_stands_in_the_banner(page: Page) -> None:
    """And as what: recovering by itself, or in need of a person."""
    assert [want for _, want in TROUBLE] == await page.evaluate("all => all.map(m.troubleOf)", [a for a, _ in TROUBLE])


BARS = [
    (
        record("a", bytes_done=50 * MB, bytes_resumed=20 * MB, breaks=[10 * MB, 20 * MB, 20 * MB]),
        (True, 0.2, 0.5, [0.1, 0.2]),
    ),
    (
        record("a", bytes_done=10 * MB, bytes_resumed=20 * MB),
        (True, 0.1, 0.1, []),
    ),  # restarted: never more resumed than done
    (record("a", bytes_done=200 * MB), (True, 0, 1, [])),
    (record("a", bytes_total=None, bytes_done=5), (False, 0, 0, [])),
    (record("a", bytes_total=0), (True, 1, 1, [])),
    (record("a", bytes_done=50 * MB, breaks=[0, 90 * MB, 100 * MB]), (True, 0, 0.5, [])),  # none beyond what is there
    (record("a", "complete", bytes_done=99 * MB), (True, 0, 1, [])),
]


async def test_the_bar(page: Page) -> None:
    """What is resumed, done and broken off, as fractions that stay within the bar."""
    got = await page.evaluate(
        "all => all.map((d) => { const b = m.barOf(d); return [b.known, b.resumed, b.done, b.breaks]; })",
        [a for a, _ in BARS],
    )
    assert [list(want) for _, want in BARS] == got


DOTS = [
    (record("a"), ""),
    (record("a", attempt=3, no_progress=0), "ended ended now left left left"),
    (record("a", attempt=2, attempts=2, retries=0), ""),
    (WAITING | {"no_progress": 1}, "ended next left left"),
    (WAITING | {"no_progress": 3}, "ended next"),
    (record("a", attempt=5, max_attempts=5), "ended ended ended ended now"),
    (record("a", "failed", attempt=4), "ended ended ended failed"),
    (record("a", "failed", attempt=1), "failed"),
    (record("a", "complete", attempt=2), "ended good"),
    (record("a", "paused", attempt=2, no_progress=3), "ended left"),
    (record("a", attempt=40, no_progress=0), "+34 ended ended ended ended ended now left left"),
]


async def test_the_tries_as_dots(page: Page) -> None:
    """Those that ended, the one now, those left before it gives up; never more than eight."""
    got = await page.evaluate(
        """all => all.map((download) => {
          const { folded, dots } = m.dotsOf(download);
          return [...(folded ? [`+${folded}`] : []), ...dots].join(" ");
        })""",
        [a for a, _ in DOTS],
    )
    assert [want for _, want in DOTS] == got


NAMES = [
    (record("a", filename="x.bin"), "x.bin"),
    (record("a", filename="", url="https://h/dir/a%20b.bin?sig=***"), "a b.bin"),
    (record("a", filename="", url="https://h/%E0%A4%A"), "%E0%A4%A"),
    (record("a", filename="", url=""), "a"),
]


async def test_names_while_the_name_is_not_known(page: Page) -> None:
    """The end of the link, as a name would be written; a broken escape is no exception."""
    assert [want for _, want in NAMES] == await page.evaluate("all => all.map(m.nameOf)", [a for a, _ in NAMES])


async def test_buttons_stand_in_an_order_of_their_own(page: Page) -> None:
    """What helps most first, the usual ones always alike; what this page does not know is left out."""
    got = await page.evaluate(
        "all => all.map(m.inOrder)",
        [["cancel", "pause", "retry_now"], ["log_in", "new_link", "retry_now", "cancel"], ["explode", "cancel"]],
    )
    assert got == [["retry_now", "pause", "cancel"], ["log_in", "new_link", "retry_now", "cancel"], ["cancel"]]


LINKS = [
    ("https://h/x", True),
    ("http://h", True),
    ("", False),
    ("javascript:alert(1)", False),
    ("ftp://h/x", False),
    ("h/x", False),
]


async def test_only_web_links_are_links(page: Page) -> None:
    """Anything else is refused before it is sent."""
    assert [good for _, good in LINKS] == await page.evaluate(
        "all => all.map((link) => m.linkProblem(link) === '')", [a for a, _ in LINKS]
    )


LINES = [
    ("https://h/a\nhttps://h/b", ["https://h/a", "https://h/b"]),
    (" https://h/a  https://h/b\r\n\n\thttps://h/c ", ["https://h/a", "https://h/b", "https://h/c"]),
    ("https://h/a\nnot a link", ["https://h/a", "not a link"]),
    ("https://h/my file.bin", ["https://h/my file.bin"]),
    (" \n ", []),
]


async def test_a_line_that_is_no_link_is_named_whole(page: Page) -> None:
    """Not by its first word; links may share a line."""
    texts = [text for text, _ in LINES]
    assert [links for _, links in LINES] == await page.evaluate("all => all.map(m.linksIn)", texts)
    wrong = ["not a link", "https://h/my file.bin"]
    shown = [f"This is not an http or https link: {link}" for link in wrong]
    assert shown == await page.evaluate("all => all.map(m.linkProblem)", wrong)


# -- frames ----------------------------------------------------------------------------------------------------------

OPEN = {"sid": "s", "upgrades": [], "pingInterval": 10_000, "pingTimeout": 5_000}
FRAMES: list[tuple[Any, Any]] = [
    ('0{"sid":"s","upgrades":[],"pingInterval":10000,"pingTimeout":5000}', {"kind": "open", "data": OPEN}),
    ("2", {"kind": "ping"}),
    ("1", {"kind": "close"}),
    ("6", {"kind": "noop"}),
    ('40{"sid":"x"}', {"kind": "connect", "data": {"sid": "x"}}),
    ("41", {"kind": "disconnect"}),
    ('42["e",{"a":1}]', {"kind": "event", "id": None, "args": ["e", {"a": 1}]}),
    ('4212["e"]', {"kind": "event", "id": 12, "args": ["e"]}),
    ('430[{"ok":true}]', {"kind": "ack", "id": 0, "args": [{"ok": True}]}),
    ('44{"message":"no"}', {"kind": "connect_error", "data": {"message": "no"}}),
    ('42["a\\u0000é漢🚀"]', {"kind": "event", "id": None, "args": ["a\0é漢🚀"]}),
    ("", None),
    ("0", None),
    ('0{"pingInterval":0,"pingTimeout":1}', None),
    ("9", None),
    ("42", None),
    ("42{}", None),
    ("42[1]", None),
    ("42[", None),
    ("43[]", None),
    ('42/admin,["e"]', None),
    ('451-["e",{"_placeholder":true,"num":0}]', None),
    ("11", None),
]


async def test_frames_are_read(page: Page) -> None:
    """Each kind of the protocol, and null for everything this client does not speak."""
    assert [want for _, want in FRAMES] == await page.evaluate("all => all.map(m.decode)", [a for a, _ in FRAMES])
    assert None is await page.evaluate("m.decode(new ArrayBuffer(3))")


async def test_frames_are_written(page: Page) -> None:
    """As python-socketio reads them."""
    got = await page.evaluate(
        "[m.connectFrame({ token: 't' }), m.eventFrame(['e', 1], null), m.eventFrame(['e'], 7), m.ackFrame(3, ['x'])]"
    )
    assert got == ['40{"token":"t"}', '42["e",1]', '427["e"]', '433["x"]']


# -- the store -------------------------------------------------------------------------------------------------------

_STORE = """([steps, topics]) => {
  const store = new m.Store();
  const heard = [];
  for (const topic of topics) store.subscribe(topic, () => heard.push(topic));
  const seen = [];
  for (const [what, value] of steps) {
    const known = what === "snapshot" ? (store.applySnapshot(value), true)
      : what === "batch" ? store.applyBatch(value) : (store.remove(value), true);
    seen.push([known, ...[...store.downloads.values()].map((d) => `${d.download_id}:${d.bytes_done}`)]);
    store.flush();
  }
  return [seen, heard];
}"""


def batch(seq: int, *downloads: dict[str, Any], epoch: str = "e1") -> tuple[str, dict[str, Any]]:
    """Return a ``progress_batch``."""
    items = [{"project_id": one["project_id"], "progress": one} for one in downloads]
    return "batch", {"epoch": epoch, "seq": seq, "ts": 1.0, "items": items}


def at(download_id: str, done: int, rev: int = 1) -> dict[str, Any]:
    """Return a download with so many bytes."""
    return record(download_id, bytes_done=done, rev=rev)


def full(*downloads: dict[str, Any], epoch: str = "e1", seq: int = 1) -> tuple[str, dict[str, Any]]:
    """Return a snapshot as a step."""
    return "snapshot", snapshot(list(downloads), epoch=epoch, seq=seq)


STORE = [
    ("newer wins", [full(at("a", 1)), batch(2, at("a", 2, rev=2))], ["a:2"]),
    ("an older rev is dropped", [full(at("a", 5, rev=5)), batch(2, at("a", 2, rev=2))], ["a:5"]),
    ("the same rev, a later message", [full(at("a", 1)), batch(2, at("a", 2))], ["a:2"]),
    ("the same rev, an earlier message", [full(at("a", 9), seq=5), batch(2, at("a", 2))], ["a:9"]),
    ("a new one comes", [full(), batch(2, at("a", 2))], ["a:2"]),
    ("what a snapshot lacks is gone", [full(at("a", 1), at("b", 1)), full(at("b", 1), seq=2)], ["b:1"]),
    ("unless it is newer than it", [full(), batch(9, at("a", 2)), full(seq=3)], ["a:2"]),
    ("another epoch voids all", [full(at("a", 9, rev=99)), full(at("a", 1), epoch="e2")], ["a:1"]),
    ("news of another epoch are not taken", [full(at("a", 1)), batch(2, at("a", 5, rev=9), epoch="e2")], ["a:1"]),
    ("removed", [full(at("a", 1)), ("remove", "a")], []),
]


@pytest.mark.parametrize(("steps", "want"), [pytest.param(steps, want, id=name) for name, steps, want in STORE])
async def test_the_store_keeps_the_newest(page: Page, steps: list[Any], want: list[str]) -> None:
    """By rev, then by message; a snapshot is the whole truth of its epoch."""
    seen, _ = await page.evaluate(_STORE, [steps, []])
    assert want == seen[-1][1:]


async def test_news_of_another_server_call_for_everything(page: Page) -> None:
    """The store says so; its connection then subscribes again."""
    seen, _ = await page.evaluate(
        _STORE, [[("snapshot", snapshot([at("a", 1)])), batch(2, at("a", 5, rev=9), epoch="e2")], []]
    )
    assert [taken for taken, *_ in seen] == [True, False]


async def test_only_those_concerned_are_called(page: Page) -> None:
    """One change, one call for its row, its project and whoever watches all; none for other rows and the list."""
    steps = [
        ("snapshot", snapshot([at("a", 1), at("b", 1)])),
        batch(2, at("a", 2, rev=2)),
        batch(3, at("a", 3, rev=3), at("a", 4, rev=4)),
    ]
    _, heard = await page.evaluate(_STORE, [steps, ["download:a", "download:b", "list", "any", "status"]])
    assert sorted_by_flush(heard) == [
        "download:a",
        "download:b",
        "list",
        "any",
        "download:a",
        "any",
        "download:a",
        "any",
    ]


def sorted_by_flush(heard: list[str]) -> list[str]:
    """Return the calls of the first flush in a fixed order; the order within a flush is nobody's business."""
    order = ["download:a", "download:b", "list", "any"]
    first, rest = heard[:4], heard[4:]
    return sorted(first, key=order.index) + [
        one for two in zip(rest[::2], rest[1::2], strict=True) for one in sorted(two, key=order.index)
    ]


async def test_the_servers_clock(page: Page) -> None:
    """Countdowns run by it: a wrong clock here shifts nothing."""
    ahead = await page.evaluate("""() => {
      const store = new m.Store();
      const now = Date.now() / 1000;
      store.applySnapshot({ epoch: "e", seq: 1, ts: now + 3600, downloads: [] });
      store.applyBatch({ epoch: "e", seq: 2, ts: now + 3599, items: [] });  // came a second late
      return store.serverNow() - Date.now() / 1000;
    }""")
    assert 3599.5 < ahead < 3600.5


async def test_a_broken_element_freezes_no_other(page: Page) -> None:
    """The fault is reported and the rest is called."""
    got = await page.evaluate("""async () => {
      const store = new m.Store();
      const told = [];
      const reported = new Promise((done) => {
        addEventListener("error", (event) => { event.preventDefault(); done(event.message); }, { once: true });
      });
      store.subscribe("any", () => { throw new Error("broken on purpose"); });
      store.subscribe("any", () => told.push("ok"));
      store.setStatus("live");
      store.flush();
      return [told, await reported];
    }""")
    assert got[0] == ["ok"]
    assert "broken on purpose" in got[1]


# -- requests --------------------------------------------------------------------------------------------------------


async def test_a_request_that_broke_off_is_asked_again_under_its_name(page: Page) -> None:
    """The server answers the second like the first; nothing is done twice."""
    sent, answer = await page.evaluate("""async () => {
      const sent = [];
      const socket = { connected: true };
      socket.emit = (event, data, ack) => { sent.push([event, data.request_id]); socket.ack = ack; };
      const requests = new m.Requests(socket);
      const answer = requests.send("download_action", { action: "pause" });
      requests.resend();
      socket.ack({ ok: true });
      socket.ack({ ok: false });
      return [sent, await answer];
    }""")
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert answer == {"ok": True}


async def test_a_request_without_an_answer_ends_in_words(page: Page) -> None:
    """The button must not stay grey for ever."""
    answers = await page.evaluate("""async () => {
      const mute = new m.Requests({ connected: true, emit: () => {} }, 20);
      const away = new m.Requests({ connected: false, emit: () => { throw new Error("sent"); } });
      const odd = new m.Requests({ connected: true, emit: (e, d, ack) => ack("hello") });
      return Promise.all([mute, away, odd].map((requests) => requests.send("x", {})));
    }""")
    assert [one["error"]["code"] for one in answers] == ["no_answer", "not_connected", "bad_answer"]
    assert all(one["error"]["message"] for one in answers)


async def test_records_are_those_of_the_wire() -> None:
    """The records these tests are made of have the fields that a view puts on the wire."""
    from resumable.events import DownloadView

    wire = set(DownloadView(download_id="a").to_wire())
    assert set() == wire - set(record("a"))
    assert {"operation_id", "episode"} == set(record("a")) - wire
    assert EXPIRED.keys() == FULL.keys()
