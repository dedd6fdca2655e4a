/**
 * `<recovery-banner>`: says, once for the whole page, what is recovering, what needs a person, and when the page
 * itself is cut off. Nothing to say, nothing shown.
 */
import { act, actionWords, inOrder, refusalWords } from "../actions.js";
import { icon, make, setAttribute, setChildren, setHidden, setText } from "../dom.js";
import { attemptWords, countdownWords, nameOf, reasonOf, statusWords, troubleKey } from "../projection.js";
import { StoreElement } from "../store-element.js";
import { say } from "../strings.js";
import { BANNER } from "./recovery-banner-style.js";

/** @typedef {import("../types.js").Download} Download */

const DISMISSED = "resumable.dismissed";
const MOST_LISTED = 20;
const MOST_KEPT = 500;
/** Ids in one request: a server takes no packet of any length. */
const MOST_ASKED = 500;

export class RecoveryBanner extends StoreElement {
  /** @type {Set<string>} */
  #dismissed = new Set();
  #open = false;

  constructor() {
    super(BANNER);
    this.line = make("p", { class: "line" });
    this.counts = make("p", { class: "counts" });
    // The node stays, and its text changes with the counts only: that is when a screen reader speaks.
    this.status = make("div", { role: "status", "aria-live": "polite", "aria-atomic": "true" }, this.line, this.counts);
    this.again = this.#button("banner.again", () => this.store?.reconnect?.());
    this.retry = this.#button("banner.retry", () => void this.retryAll());
    this.more = this.#button("banner.details", () => this.toggle());
    this.more.append(icon("chevron"));
    setAttribute(this.more, "aria-expanded", "false");
    setAttribute(this.more, "aria-controls", "details");
    this.dismiss = this.#button("banner.dismiss", () => this.dismissAll());
    this.answer = make("p", { class: "answer", role: "alert" });
    this.list = make("ul", { id: "details" });
    this.bar = make(
      "section",
      { "aria-label": say("banner.label"), class: "banner", part: "banner", tabindex: "-1" },
      make("div", { class: "top" },
        make("span", { class: "sign" }, icon("alert"), icon("again"), icon("unplugged")),
        this.status,
        make("div", { class: "buttons" }, this.again, this.retry, this.more, this.dismiss),
      ),
      this.answer,
      this.list,
    );
    this.root.append(this.bar);
    this.list.hidden = this.answer.hidden = true;
  }

  /** @override */
  start() {
    this.#dismissed = new Set(remembered());
    this.watch("any", () => this.draw());
    this.watch("countdown", () => this.#drawList(this.#troubled()));
    this.draw();
  }

  /** @override */
  draw() {
    const { store } = this;
    if (store === null) return;
    const { status } = store;
    const held = this.root.activeElement;
    const troubled = this.#troubled();
    const help = troubled.filter(({ trouble }) => trouble === "help").length;
    const recovering = troubled.length - help;
    const line = status === "lost" ? say("banner.lost") : status === "polling" ? say("banner.polling") : "";
    const counts = [
      recovering ? say("banner.recovering", { n: recovering }) : "",
      help ? say("banner.help", { n: help }) : "",
    ].filter(Boolean).join(" ");
    setText(this.line, line);
    setText(this.counts, counts);
    setHidden(this.line, line === "");
    setHidden(this.counts, counts === "");
    const tone = status === "lost" ? "lost" : help ? "bad" : recovering ? "warn" : status === "polling" ? "quiet" : "none";
    setAttribute(this.bar, "class", `banner ${tone}`);
    const retryable = troubled.some(({ download }) => mayRetry(download));
    setHidden(this.again, status !== "lost");
    setHidden(this.retry, store.role === "viewer" || !retryable);
    setHidden(this.more, troubled.length === 0);
    setHidden(this.dismiss, troubled.length === 0);
    if (troubled.length === 0) {
      this.#show(false);
      this.#say("");
    }
    this.#drawList(troubled);
    // What had the keyboard is gone with the trouble: go on from here, not from the top of the page.
    const now = this.root.activeElement;
    if (held !== null && (now === null || now.getClientRects().length === 0)) this.bar.focus();
  }

  /** The downloads in trouble that nobody has dismissed. */
  #troubled() {
    // What another server, or this one before, said is nobody's business now; nor can anything be asked.
    if (this.store?.status === "unauthorized") return [];
    const { help = [], recovering = [] } = this.store?.summary() ?? {};
    const all = [
      ...help.map((download) => ({ download, trouble: "help" })),
      ...recovering.map((download) => ({ download, trouble: "recovering" })),
    ];
    return all.filter(({ download }) => !this.#dismissed.has(troubleKey(download)));
  }

  /** @param {{download: Download}[]} troubled */
  #drawList(troubled) {
    if (!this.#open) return;
    const known = new Map(/** @type {HTMLElement[]} */ ([...this.list.children]).map((item) => [item.dataset.key, item]));
    const focused = /** @type {HTMLElement|null} */ (this.root.activeElement);
    const held = /** @type {HTMLElement|null|undefined} */ (focused?.closest("li"));
    const shown = troubled.slice(0, MOST_LISTED).map(({ download }) => this.#drawItem(download, known));
    const rest = troubled.length - shown.length;
    const more = rest > 0 ? [make("li", { class: "rest" }, say("banner.more", { n: rest }))] : [];
    setChildren(this.list, [...shown, ...more]);
    if (!held || this.root.activeElement === focused) return;
    // Never on to another download's button: whoever presses Enter now means this one.
    const again = shown.find((item) => item.dataset.id === held.dataset.id);
    const action = `[data-action="${focused?.dataset.action}"]`;
    /** @type {HTMLElement} */ (again?.querySelector(action) ?? again?.querySelector("button") ?? this.bar).focus();
  }

  /** @param {Download} download @param {Map<string|undefined, HTMLElement>} known */
  #drawItem(download, known) {
    const key = `${download.download_id}/${download.actions.join()}`;
    const item = known.get(key) ?? this.#makeItem(download, key);
    const now = this.store?.serverNow() ?? 0;
    const [name, facts, reason] = item.querySelectorAll("b, .facts, .reason");
    setText(name, nameOf(download));
    const countdown = countdownWords(download, now);
    const words = download.state === "waiting" && !download.stale ? attemptWords(download) : statusWords(download);
    setText(facts, [words, countdown].filter(Boolean).join(", "));
    setText(reason, reasonOf(download, now));
    return item;
  }

  /** @param {Download} download @param {string} key */
  #makeItem(download, key) {
    const name = nameOf(download);
    const actions = this.store?.role === "viewer" ? [] : inOrder(download.actions).filter((action) => action !== "pause");
    const buttons = actions.map((action) =>
      make(
        "button",
        {
          type: "button",
          "data-action": action,
          "aria-label": say("action.of", { action: actionWords(action), name }),
          click: () => void this.#act(download.download_id, action),
        },
        actionWords(action),
      ),
    );
    return make(
      "li",
      { "data-key": key, "data-id": download.download_id },
      make("div", { class: "what" },
        make("div", { class: "who" }, make("b"), make("span", { class: "facts" })),
        make("p", { class: "reason" }),
      ),
      make("div", { class: "buttons" }, ...buttons),
    );
  }

  /** @param {string} id @param {string} action */
  async #act(id, action) {
    const download = this.store?.downloads.get(id);
    if (download === undefined) return;
    this.#say("");
    this.#say(refusalWords(await act(this, download, action)));
  }

  /** Try again whatever is in trouble and may be tried again. */
  async retryAll() {
    const ids = this.#troubled().filter(({ download }) => mayRetry(download));
    if (ids.length === 0 || this.retry.getAttribute("aria-disabled") === "true") return;
    setAttribute(this.retry, "aria-disabled", "true");
    this.#say("");
    const filter = ids.map(({ download }) => download.download_id);
    /** @type {{code: string, message?: string}[]} */
    const refused = [];
    let answer = null;
    for (let at = 0; at < filter.length && (answer === null || answer.ok); at += MOST_ASKED) {
      const data = { action: "retry", filter: filter.slice(at, at + MOST_ASKED) };
      answer = (await this.store?.request("bulk_action", data)) ?? null;
      refused.push(...(answer?.refused ?? []));
    }
    setAttribute(this.retry, "aria-disabled", null);
    if (answer === null || !answer.ok) this.#say(refusalWords(answer));
    else if (refused.length > 0) {
      this.#say(say("banner.refused", { n: refused.length, reason: refused[0].message ?? refused[0].code }));
    }
    this.draw();
  }

  toggle() {
    this.#show(!this.#open);
    this.draw();
  }

  /** Hide these troubles; a later one, of the same download too, brings the banner back. */
  dismissAll() {
    for (const { download } of this.#troubled()) this.#dismissed.add(troubleKey(download));
    remember([...this.#dismissed].slice(-MOST_KEPT));
    this.#say("");
    this.draw();
    this.dispatchEvent(new CustomEvent("rui-dismissed", { bubbles: true, composed: true }));
  }

  /** @param {boolean} open */
  #show(open) {
    this.#open = open;
    setHidden(this.list, !open);
    setAttribute(this.more, "aria-expanded", String(open));
  }

  /** @param {string} words */
  #say(words) {
    setHidden(this.answer, words === "");
    setText(this.answer, words);
  }

  /** @param {import("../strings.js").Key} key @param {() => void} click */
  #button(key, click) {
    return make("button", { type: "button", click }, say(key));
  }
}

/** Whether trying again, or taking over from a process that is gone, is possible. @param {Download} download */
function mayRetry(download) {
  return download.actions.includes("retry_now") || download.actions.includes("resume");
}

/** @returns {string[]} */
function remembered() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(DISMISSED) ?? "[]");
    return Array.isArray(kept) ? kept.filter((key) => typeof key === "string") : [];
  } catch {
    return []; // storage is forbidden here, or holds something else
  }
}

/** @param {string[]} keys */
function remember(keys) {
  try {
    sessionStorage.setItem(DISMISSED, JSON.stringify(keys));
  } catch {
    // Storage is forbidden or full: dismissed until the page is left.
  }
}
