/** `<download-list>`: the whole page below the banner: totals, filter, the form that adds, a card for each project. */
import { icon, make, setAttribute, setChildren, setHidden, setText, setTexts } from "../dom.js";
import { formatDuration, formatRate, formatSize } from "../quantities.js";
import { SteadyRate } from "../rate.js";
import { StoreElement } from "../store-element.js";
import { say } from "../strings.js";
import { AccessForm } from "./access-form.js";
import { LIST } from "./download-list-style.js";
import { byAge, passes } from "./project-card.js";

/** @typedef {import("../types.js").Download} Download */
/** @typedef {import("./project-card.js").Filter} Filter */
/** @typedef {import("./project-card.js").ProjectCard} ProjectCard */

const FILTERS = /** @type {const} */ (["all", "active", "recovering", "failed", "done"]);

export class DownloadList extends StoreElement {
  /** @type {Filter} */
  #filter = "all";
  #rate = new SteadyRate();
  /** @type {Map<string, ProjectCard>} */
  #cards = new Map();

  constructor() {
    super(LIST);
    this.connection = make("span", { class: "connection" });
    this.totals = make("p", { class: "totals facts-row" });
    this.counts = new Map(FILTERS.map((filter) => [filter, make("span", { class: "count" })]));
    this.filters = make(
      "fieldset",
      { class: "filters", change: (/** @type {Event} */ event) => this.#choose(event) },
      make("legend", { class: "hidden-text" }, say("filter")),
      ...FILTERS.map((filter) => this.#option(filter)),
    );
    this.add = make(
      "button",
      { type: "button", class: "primary", "aria-expanded": "false", click: () => this.#openForm(Boolean(this.form.hidden)) },
      icon("plus"),
      say("add"),
    );
    this.form = /** @type {import("./add-download.js").AddDownload} */ (document.createElement("add-download"));
    setHidden(this.form, true);
    this.form.addEventListener("rui-close", () => this.#openForm(false));
    this.cards = make("div", { class: "cards" });
    this.note = make("p", { class: "note" });
    this.how = make("p");
    this.empty = make(
      "div",
      { class: "empty" },
      make("h2", {}, say("empty.title")),
      this.how,
      make("p", {}, make("code", {}, "resumable get URL")),
      make("p", {}, make("code", {}, "await download(url, dest)")),
    );
    this.access = new AccessForm((token) => this.store?.reconnect?.(token));
    this.root.append(
      make(
        "div",
        { class: "head" },
        make("h1", {}, say("list.title")),
        this.connection,
        this.totals,
      ),
      make("div", { class: "tools" }, this.filters, this.add),
      this.form,
      this.access.node,
      this.cards,
      this.note,
      this.empty,
    );
  }

  /** @override */
  start(/** @type {import("../store.js").Store} */ store) {
    this.form.store = store;
    for (const card of this.#cards.values()) card.store = store;
    this.watch("any", () => this.draw());
    this.draw();
  }

  /** @override */
  draw() {
    const { store } = this;
    if (store === null) return;
    const { status } = store;
    const summary = store.summary();
    const locked = status === "unauthorized";
    const empty = store.ready && summary.counts.all === 0;
    setText(this.connection, say(`status.${status}`));
    setAttribute(this.connection, "class", `connection ${status}`);
    const rest = store.leftOut ? [say("list.shown", { shown: summary.counts.all, all: summary.counts.all + store.leftOut })] : [];
    setTexts(this.totals, [...totalWords(summary, this.#steadyRate(summary)), ...rest]);
    for (const filter of FILTERS) setText(/** @type {Element} */ (this.counts.get(filter)), String(summary.counts[filter]));
    setHidden(this.filters, locked || !store.ready || empty);
    setHidden(this.totals, locked || empty);
    setHidden(this.add, locked || store.role === "viewer" || !store.ready);
    if (this.add.hidden) this.form.hidden = true;
    this.access.draw(locked);
    setHidden(this.cards, locked);
    setHidden(this.empty, locked || !empty);
    setText(this.how, say(store.role === "viewer" ? "empty.how.viewer" : "empty.how"));
    this.#drawCards(store);
    this.#drawNote(store.ready, summary.counts.all, locked);
  }

  /** @param {import("../store.js").Summary} summary */
  #steadyRate(summary) {
    const now = Date.now();
    const shown = this.#rate.at(summary, now);
    const waitMs = this.#rate.heldBackMs(summary, now);
    if (waitMs !== null) this.drawIn(waitMs);
    return shown;
  }

  /** @param {import("../store.js").Store} store */
  #drawCards(store) {
    const newest = [...store.downloads.values()].sort(byAge);
    const projects = [...new Set(newest.map((download) => download.project_id))];
    const cards = projects.map((id) => this.#card(id, store));
    for (const [id, card] of this.#cards) {
      card.filter = this.#filter;
      if (!projects.includes(id)) this.#cards.delete(id);
    }
    setChildren(this.cards, cards);
  }

  /** @param {string} id @param {import("../store.js").Store} store */
  #card(id, store) {
    const known = this.#cards.get(id);
    if (known !== undefined) return known;
    const card = /** @type {ProjectCard} */ (document.createElement("project-card"));
    card.projectId = id;
    card.store = store;
    this.#cards.set(id, card);
    return card;
  }

  /** @param {boolean} ready @param {number} all @param {boolean} locked */
  #drawNote(ready, all, locked) {
    const downloads = [...(this.store?.downloads.values() ?? [])];
    const nothing = all > 0 && !downloads.some((download) => passes(download, this.#filter));
    setHidden(this.note, locked || (ready && !nothing));
    setText(this.note, ready ? say("filter.none", { filter: say(`filter.${this.#filter}`) }) : say("loading"));
  }

  /** @param {Filter} filter */
  #option(filter) {
    const input = make("input", { type: "radio", name: "filter", value: filter });
    input.checked = filter === this.#filter;
    return make("label", {}, input, make("span", { class: "name" }, say(`filter.${filter}`)), this.counts.get(filter) ?? "");
  }

  /** @param {Event} event */
  #choose(event) {
    this.#filter = /** @type {Filter} */ (/** @type {HTMLInputElement} */ (event.target).value);
    this.draw();
  }

  /** @param {boolean} open */
  #openForm(open) {
    setHidden(this.form, !open);
    setAttribute(this.add, "aria-expanded", String(open));
    if (open) this.form.focus();
    else this.add.focus();
  }
}

/**
 * `3.2 GB of 10.4 GB`, `38 MB/s`, `4 min left`.
 * @param {import("../store.js").Summary} summary
 * @param {import("../rate.js").Rate} rate
 */
function totalWords({ done, total }, { speed, eta }) {
  const words = [];
  if (total > 0) words.push(say("list.total", { done: formatSize(done), total: formatSize(total) }));
  if (speed > 0) words.push(formatRate(speed));
  if (eta !== null) words.push(say("left", { time: formatDuration(Math.max(1, eta)) }));
  return words;
}
