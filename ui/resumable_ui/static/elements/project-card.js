/** `<project-card project-id="…">`: the downloads of one project, how far they are, and whether any needs attention. */
import { make, setAttribute, setChildren, setHidden, setText } from "../dom.js";
import { bucketOf, troubleOf } from "../projection.js";
import { percentOf } from "../quantities.js";
import { StoreElement } from "../store-element.js";
import { say } from "../strings.js";
import { sheet } from "../styles.js";
import { DownloadProgress } from "./download-progress.js";

/** @typedef {import("../types.js").Download} Download */
/** @typedef {"all"|"active"|"recovering"|"failed"|"done"} Filter */

const CARD = sheet(`
section { background: var(--_card); border: 1px solid var(--_line); border-radius: var(--_radius); overflow: clip; }
header { display: flex; align-items: center; gap: 4px 12px; flex-wrap: wrap; padding: 12px 18px; }
h2 { font-size: 15px; font-weight: 650; line-height: 1.4; min-width: 0; overflow-wrap: anywhere; }
.count { color: var(--_muted); }
.pills { display: flex; flex-wrap: wrap; gap: 6px; margin-left: auto; }
li { border-top: 1px solid var(--_line); }
.outdated .pill { background: var(--_hover); color: var(--_muted); }
@media (max-width: 560px) { header { padding: 12px 14px; } .pills { margin-left: 0; } }
`);

export class ProjectCard extends StoreElement {
  static observedAttributes = ["project-id", "filter"];

  /** @type {Map<string, {item: HTMLLIElement, row: DownloadProgress}>} */
  #rows = new Map();

  constructor() {
    super(CARD);
    this.title_ = make("h2", { id: "title", part: "title" });
    this.count = make("span", { class: "count" });
    this.recovering = make("span", { class: "pill warn" });
    this.help = make("span", { class: "pill bad" });
    this.list = make("ul");
    this.section = make(
      "section",
      { "aria-labelledby": "title", part: "card" },
      make("header", {}, this.title_, this.count, make("div", { class: "pills" }, this.recovering, this.help)),
      this.list,
    );
    this.root.append(this.section);
  }

  attributeChangedCallback() {
    this.restart();
  }

  get projectId() {
    return this.getAttribute("project-id") ?? "";
  }

  set projectId(id) {
    this.setAttribute("project-id", id);
  }

  /** @returns {Filter} which downloads it shows; its header counts them all */
  get filter() {
    return /** @type {Filter} */ (this.getAttribute("filter") ?? "all");
  }

  set filter(filter) {
    if (filter !== this.filter) this.setAttribute("filter", filter);
  }

  /** @override */
  start(/** @type {import("../store.js").Store} */ store) {
    for (const { row } of this.#rows.values()) row.store = store;
    this.watch(`project:${this.projectId}`, () => this.draw());
    this.watch("status", () => this.draw());
    this.draw();
  }

  /** @override */
  draw() {
    const { store } = this;
    if (store === null) return;
    const downloads = store.inProject(this.projectId);
    const shown = downloads.filter((download) => passes(download, this.filter)).sort(byAge);
    setHidden(this, shown.length === 0);
    const project = store.projects.get(this.projectId);
    setText(this.title_, project?.name || this.projectId || say("card.none"));
    setText(this.count, countWords(downloads));
    setAttribute(this.section, "class", store.current ? null : "outdated");
    this.#pill(this.recovering, "card.recovering", downloads, "recovering");
    this.#pill(this.help, "card.help", downloads, "help");
    setChildren(this.list, shown.map((download) => this.#row(download).item));
    const present = new Set(downloads.map((download) => download.download_id));
    for (const id of [...this.#rows.keys()]) if (!present.has(id)) this.#rows.delete(id);
    setAttribute(this, "data-count", String(shown.length));
  }

  /**
   * @param {HTMLElement} pill
   * @param {import("../strings.js").Key} key
   * @param {Download[]} downloads
   * @param {"recovering"|"help"} trouble
   */
  #pill(pill, key, downloads, trouble) {
    const n = downloads.filter((download) => troubleOf(download) === trouble).length;
    setHidden(pill, n === 0);
    if (n > 0) setText(pill, say(key, { n }));
  }

  /** @param {Download} download */
  #row(download) {
    const known = this.#rows.get(download.download_id);
    if (known !== undefined) return known;
    const row = /** @type {DownloadProgress} */ (document.createElement("download-progress"));
    row.downloadId = download.download_id;
    row.store = this.store;
    const made = { item: make("li", {}, row), row };
    this.#rows.set(download.download_id, made);
    return made;
  }
}

/** @param {Download} download @param {Filter} filter */
export function passes(download, filter) {
  if (filter === "all") return true;
  return filter === "recovering" ? troubleOf(download) === "recovering" : bucketOf(download) === filter;
}

/** `1 of 3 done · 62%` of the bytes, where all sizes are known; nothing where all are cancelled. @param {Download[]} downloads */
function countWords(downloads) {
  const counted = downloads.filter((download) => download.state !== "cancelled");
  if (counted.length === 0) return "";
  const done = counted.filter((download) => download.state === "complete").length;
  const words = say("card.done", { done, all: counted.length });
  if (done === counted.length || counted.some((download) => download.bytes_total === null)) return words;
  const total = counted.reduce((sum, download) => sum + (download.bytes_total ?? 0), 0);
  const percent = percentOf(counted.reduce((sum, download) => sum + download.bytes_done, 0), total);
  return `${words} · ${percent}%`;
}

/** The newest first, and never another order: rows that move are rows one misses. @param {Download} a @param {Download} b */
export function byAge(a, b) {
  return b.created_at - a.created_at || (a.download_id < b.download_id ? -1 : 1);
}
