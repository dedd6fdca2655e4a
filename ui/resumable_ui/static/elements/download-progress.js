/** `<download-progress download-id="…">`: one download, its bar, its tries, its buttons. */
import { act, actionWords, inOrder, refusalWords } from "../actions.js";
import { icon, make, setAttribute, setChildren, setHidden, setText, setTexts } from "../dom.js";
import {
  barOf,
  dotsOf,
  figuresOf,
  nameOf,
  reasonOf,
  statusWords,
  toneOf,
  troubleOf,
  valueWords,
} from "../projection.js";
import { percentOf } from "../quantities.js";
import { SteadyRate } from "../rate.js";
import { StoreElement } from "../store-element.js";
import { say } from "../strings.js";
import { DownloadDetails } from "./download-details.js";
import { ROW } from "./download-progress-style.js";

/** @typedef {import("../types.js").Download} Download */

/** A row that nobody sees is drawn this often: its text is still there for a screen reader. */
const UNSEEN_MS = 1_000;
const OTHER_PROCESS_MS = 10_000;

export class DownloadProgress extends StoreElement {
  static observedAttributes = ["download-id"];

  #rate = new SteadyRate();
  /** @type {Map<string, HTMLButtonElement>} */
  #buttons = new Map();
  /** What was asked for and not yet answered, or not yet done by another process: `from` is how it stood before.
   * @type {{action: string, from: string, until: number}|null} */
  #pending = null;
  #unseen = false;
  #drawnAt = 0;
  /** @type {DownloadDetails|null} */
  #details = null;

  constructor() {
    super(ROW);
    this.name = make("h3", { class: "name", id: "name", part: "name" });
    this.dots = make("span", { class: "dots", "aria-hidden": "true" });
    this.pill = make("span", { class: "pill", part: "status" });
    this.run = make("div", { class: "run" });
    this.resumed = make("div", { class: "resumed" });
    this.breaks = make("div", { class: "breaks" });
    this.bar = make(
      "div",
      { class: "bar", part: "bar", role: "progressbar", "aria-labelledby": "name", "aria-valuemin": 0, "aria-valuemax": 100 },
      this.run,
      this.resumed,
      this.breaks,
    );
    this.figures = make("p", { class: "figures facts-row", part: "figures" });
    this.more = make(
      "button",
      { type: "button", class: "quiet more", "aria-expanded": "false", click: () => this.toggleDetails() },
      say("action.details"),
      icon("chevron"),
    );
    this.buttons = make("div", { class: "buttons", part: "buttons" });
    this.reason = make("p", { class: "reason", part: "reason" });
    this.answer = make("p", { class: "answer", role: "alert" });
    this.article = make(
      "article",
      { "aria-labelledby": "name", tabindex: "-1" },
      make("div", { class: "head" }, this.name, make("div", { class: "marks" }, this.dots, this.pill)),
      this.bar,
      make("div", { class: "foot" }, this.figures, this.reason, this.buttons),
      this.answer,
    );
    this.answer.hidden = true;
    this.root.append(this.article);
    this.addEventListener("contentvisibilityautostatechange", (event) => {
      this.#unseen = /** @type {any} */ (event).skipped;
      if (!this.#unseen) this.draw();
    });
  }

  attributeChangedCallback() {
    this.restart();
  }

  get downloadId() {
    return this.getAttribute("download-id") ?? "";
  }

  set downloadId(id) {
    this.setAttribute("download-id", id);
  }

  /** @returns {Download|undefined} */
  get download() {
    return this.store?.downloads.get(this.downloadId);
  }

  /** @override */
  start() {
    this.watch(`download:${this.downloadId}`, () => {
      const waitMs = this.#unseen ? this.#drawnAt + UNSEEN_MS - Date.now() : 0;
      if (waitMs <= 0) this.draw();
      else this.drawIn(waitMs);
    });
    this.watch("status", () => this.draw());
    this.draw();
  }

  /** @override */
  draw() {
    const { download, store } = this;
    setHidden(this, download === undefined);
    if (download === undefined || store === null) return;
    this.#drawnAt = Date.now();
    setText(this.name, nameOf(download));
    setText(this.pill, statusWords(download));
    setAttribute(this.pill, "class", `pill ${toneOf(download)}`);
    setAttribute(this.article, "class", `${download.state} ${toneOf(download)}${store.current ? "" : " outdated"}`);
    this.#drawDots(download);
    this.#drawBar(download);
    setTexts(this.figures, figuresOf(download, store.serverNow(), this.#steadyRate(download)));
    const reason = reasonOf(download, store.serverNow());
    setHidden(this.reason, reason === "");
    setText(this.reason, reason);
    this.#drawButtons(download);
    this.#details?.draw(download, store);
  }

  /** @param {Download} download */
  #steadyRate(download) {
    const now = Date.now();
    const shown = this.#rate.at(download, now);
    const waitMs = this.#rate.heldBackMs(download, now);
    if (waitMs !== null) this.drawIn(waitMs);
    return shown;
  }

  /** @param {Download} download */
  #drawDots(download) {
    const { folded, dots } = dotsOf(download);
    const key = `${folded}/${dots.join()}`;
    if (this.dots.dataset.key === key) return;
    this.dots.dataset.key = key;
    this.dots.replaceChildren(...(folded ? [`+${folded}`] : []), ...dots.map((dot) => icon(`dot-${dot}`)));
  }

  /** @param {Download} download */
  #drawBar(download) {
    const { known, resumed, done, breaks } = barOf(download);
    const percent = percentOf(download.bytes_done, download.bytes_total);
    const unknown = download.state === "running" ? "moving" : download.bytes_done ? "" : "nothing";
    setAttribute(this.bar, "class", known ? "bar" : `bar unknown ${unknown}`);
    setAttribute(this.bar, "aria-valuenow", percent === null ? null : String(percent));
    setAttribute(this.bar, "aria-valuetext", valueWords(download));
    // Only transforms change with the bytes: they cost no layout.
    this.run.style.transform = `translateX(${(done - 1) * 100}%)`;
    this.resumed.style.transform = `translateX(${(resumed - 1) * 100}%)`;
    const key = breaks.map((at) => at.toFixed(3)).join();
    if (this.breaks.dataset.key === key) return;
    this.breaks.dataset.key = key;
    this.breaks.replaceChildren(
      ...breaks.map((at) => {
        const gap = make("i");
        gap.style.left = `${at * 100}%`;
        return gap;
      }),
    );
  }

  /** @param {Download} download */
  #drawButtons(download) {
    const pending = this.#stillPending(download);
    const name = nameOf(download);
    const actions = this.store?.role === "viewer" ? [] : inOrder(download.actions);
    const focused = this.root.activeElement;
    const place = [...this.buttons.children].indexOf(/** @type {Element} */ (focused));
    const shown = actions.map((action) => {
      const button = this.#buttons.get(action) ?? this.#makeButton(action);
      this.#buttons.set(action, button);
      setAttribute(button, "aria-label", say("action.of", { action: actionWords(action), name }));
      setAttribute(button, "aria-disabled", pending === null ? null : "true");
      setAttribute(button, "aria-busy", pending?.action === action ? "true" : null);
      const urged = troubleOf(download) === "help" && action === actions[0];
      setAttribute(button, "class", urged ? "primary" : action === "cancel" ? "quiet" : "plain");
      return button;
    });
    setAttribute(this.more, "aria-label", say("action.of", { action: say("action.details"), name }));
    setChildren(this.buttons, [...shown, this.more]);
    // The button that was pressed is gone: whoever uses the keyboard goes on beside it.
    if (place >= 0 && this.root.activeElement === null) {
      /** @type {HTMLElement} */ (this.buttons.children[Math.min(place, shown.length)] ?? this.article).focus();
    }
  }

  /** @param {string} action */
  #makeButton(action) {
    return make("button", { type: "button", "data-action": action, click: () => void this.press(action) }, actionWords(action));
  }

  /** @param {Download} download */
  #stillPending(download) {
    const pending = this.#pending;
    if (pending !== null && pending.until !== Infinity) {
      if (standing(download) !== pending.from || Date.now() > pending.until) {
        this.#pending = null;
        this.#say("");
      }
    }
    return this.#pending;
  }

  /** Do what a button of this download does. @param {string} action */
  async press(action) {
    const { download } = this;
    if (download === undefined || this.#pending !== null) return;
    const pending = { action, from: standing(download), until: Infinity };
    this.#pending = pending;
    this.#say("");
    this.draw();
    const answer = await act(this, download, action);
    if (this.#pending !== pending) return;
    if (answer?.ok && answer.pending) {
      this.#pending = { ...pending, until: Date.now() + OTHER_PROCESS_MS };
      this.#say(say("pending.other"));
      setTimeout(() => this.draw(), OTHER_PROCESS_MS + 50);
    } else {
      this.#pending = null;
      this.#say(refusalWords(answer));
    }
    this.draw();
  }

  /** @param {string} words */
  #say(words) {
    setHidden(this.answer, words === "");
    setText(this.answer, words);
  }

  toggleDetails() {
    if (this.#details === null) {
      this.#details = new DownloadDetails(this);
      this.article.append(this.#details.node);
    } else {
      this.#details.node.remove();
      this.#details = null;
    }
    setAttribute(this.more, "aria-expanded", String(this.#details !== null));
    this.draw();
  }
}

/** What changes when somebody obeys; bytes alone are no answer. @param {Download} download */
function standing(download) {
  return `${download.state}/${download.attempt}`;
}
