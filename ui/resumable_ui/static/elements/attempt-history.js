/**
 * `<attempt-history download-id="…">`: the attempts of one download as a timeline: when, from which byte to which,
 * why each ended, how long it waited.
 */
import { icon, make, setHidden } from "../dom.js";
import { formatDuration, formatSize, formatTime } from "../quantities.js";
import { StoreElement } from "../store-element.js";
import { say } from "../strings.js";
import { sheet } from "../styles.js";

/** @typedef {import("../types.js").Attempt} Attempt */
/** @typedef {import("../types.js").Download} Download */

const REDRAW_MS = 1_000;
/** So much sooner than planned the next one began by somebody's wish, seconds. */
const SOONER_S = 1;

const TIMELINE = sheet(`
h4 { margin: 0 0 8px; font-size: 13px; font-weight: 600; }
ol { display: grid; font-size: 13px; }
li { position: relative; display: grid; gap: 3px; padding: 0 0 14px 26px; }
li::before { content: ""; position: absolute; left: 7px; top: 18px; bottom: 0; width: 2px; background: var(--_line); }
li:last-child { padding-bottom: 2px; }
li:last-child::before { display: none; }
li > .icon { position: absolute; left: 0; top: 1px; }
.bad > .icon { color: var(--_warn); }
.good > .icon { color: var(--_good); }
.now > .icon { color: var(--_accent); }
.title { display: flex; flex-wrap: wrap; gap: 0 12px; align-items: baseline; }
.title b { font-weight: 600; }
.track { position: relative; height: 5px; border-radius: 99px; background: var(--_track); overflow: hidden; max-width: 420px; }
.track i { position: absolute; top: 0; bottom: 0; min-width: 3px; border-radius: 99px; background: var(--_accent); }
.bad .track i { background: var(--_warn-fill); }
.good .track i { background: var(--_good); }
.reason, .wait { overflow-wrap: anywhere; }
.wait { font-style: normal; color: var(--_muted); }
@media (forced-colors: active) {
  .track { forced-color-adjust: none; background: Canvas; border: 1px solid CanvasText; height: 7px; }
  .track i { background: Highlight !important; }
  li::before { background: CanvasText; }
}
`);

export class AttemptHistory extends StoreElement {
  static observedAttributes = ["download-id"];

  /** What was asked for last; it is asked for again when the download has another. */
  #asked = "";
  /** @type {Attempt[]|null} */
  #attempts = null;
  #problem = "";
  #drawnAt = 0;

  constructor() {
    super(TIMELINE);
    this.list = make("ol", { "aria-labelledby": "title" });
    this.note = make("p", { class: "muted" });
    this.root.append(make("h4", { id: "title" }, say("history")), this.note, this.list);
  }

  attributeChangedCallback() {
    this.#asked = "";
    this.restart();
  }

  get downloadId() {
    return this.getAttribute("download-id") ?? "";
  }

  set downloadId(id) {
    if (id !== this.downloadId) this.setAttribute("download-id", id);
  }

  /** @override */
  start() {
    this.watch(`download:${this.downloadId}`, () => this.#look());
    this.watch("status", () => this.#look());
    this.#look();
  }

  #look() {
    const download = this.store?.downloads.get(this.downloadId);
    if (download === undefined) return;
    const wanted = `${download.state}/${download.attempt}/${this.store?.current}`;
    if (wanted === this.#asked) {
      if (isUnderWay(download) && Date.now() - this.#drawnAt >= REDRAW_MS) this.#draw();
      return;
    }
    this.#asked = wanted;
    void this.#ask(download, wanted);
  }

  /** @param {Download} download @param {string} wanted */
  async #ask(download, wanted) {
    if (this.#attempts === null) this.#draw();
    const operation = download.operation_id ?? download.download_id;
    const answer = await this.store?.request("operation_details", { operation_id: operation });
    if (wanted !== this.#asked || answer === undefined) return;
    this.#problem = answer.ok ? "" : (answer.error?.message ?? "");
    if (answer.ok) this.#attempts = answer.attempts ?? [];
    this.#draw();
  }

  #draw() {
    this.#drawnAt = Date.now();
    const download = this.store?.downloads.get(this.downloadId);
    const attempts = download === undefined ? [] : withCurrent(this.#attempts ?? [], download);
    setHidden(this.note, attempts.length > 0);
    this.note.textContent = this.#problem
      ? say("history.unavailable", { reason: this.#problem })
      : say(this.#attempts === null ? "history.loading" : "history.empty");
    const now = this.store?.serverNow() ?? 0;
    const total = download?.bytes_total ?? Math.max(1, ...attempts.map((attempt) => attempt.to));
    const waits = download?.state === "waiting";
    this.list.replaceChildren(
      ...attempts.map((attempt, index) => entry(attempt, total, now, waitWords(attempt, attempts[index + 1], waits))),
    );
    setHidden(this.list, attempts.length === 0);
  }
}

/** @param {Download} download */
function isUnderWay({ state }) {
  return state === "running" || state === "verifying";
}

/**
 * The attempts the server has written down, and the one under way, which it writes down when it has ended.
 * @param {Attempt[]} ended
 * @param {Download} download
 * @returns {Attempt[]}
 */
function withCurrent(ended, download) {
  if (!isUnderWay(download) || ended.some((attempt) => isOpen(attempt))) return ended;
  const last = ended.at(-1);
  const from = Math.min(last?.to ?? download.bytes_resumed, download.bytes_done);
  const n = Math.max(download.attempt, (last?.n ?? 0) + 1);
  return [...ended, { n, started_at: 0, ended_at: null, from, to: download.bytes_done, error: null, delay: null }];
}

/** @param {Attempt} attempt */
function isOpen(attempt) {
  return attempt.ended_at === null || attempt.ended_at === undefined;
}

/** @param {Attempt} attempt @param {number} total @param {number} now @param {string} wait what came after it */
function entry(attempt, total, now, wait) {
  const gained = Math.max(0, attempt.to - attempt.from);
  const open = isOpen(attempt);
  const reason = reasonOf(attempt);
  const tone = open ? "now" : reason === "" ? "good" : "bad";
  const piece = make("i");
  piece.style.left = `${share(attempt.from, total)}%`;
  piece.style.width = `${share(attempt.to, total) - share(attempt.from, total)}%`;
  const when = open
    ? attempt.started_at ? say("history.running.since", { time: formatTime(attempt.started_at, now) }) : say("history.running")
    : `${formatTime(attempt.started_at, now)}, ${tookWords((attempt.ended_at ?? 0) - attempt.started_at)}`;
  const span = say("history.span", { from: formatSize(attempt.from), to: formatSize(attempt.to) });
  const gain = gained ? say("history.gained", { size: formatSize(gained) }) : say("history.nothing");
  const item = make(
    "li",
    { class: tone },
    icon(open ? "dot-now" : reason === "" ? "dot-good" : "dot-ended"),
    make("div", { class: "title" }, make("b", {}, say("attempt.bare", { n: attempt.n })), make("span", { class: "muted" }, when)),
    make("div", { class: "track", "aria-hidden": "true" }, piece),
    make("p", { class: "muted" }, `${span}, ${gain}`),
  );
  if (!open) item.append(make("p", { class: "reason" }, reason || say("history.ok")));
  if (wait !== "") item.append(make("p", { class: "wait" }, wait));
  return item;
}

/** @param {number} seconds */
function tookWords(seconds) {
  return seconds < 0.05 ? say("history.instant") : say("history.took", { time: formatDuration(seconds) });
}

/**
 * How long it waited then: what was planned, and where the next began before that, because somebody asked, both.
 * @param {Attempt} attempt
 * @param {Attempt|undefined} next
 * @param {boolean} waits the download waits now
 */
function waitWords({ ended_at: ended, delay }, next, waits) {
  if (!delay) return "";
  const planned = formatDuration(delay);
  if (next === undefined) return say(waits ? "history.waits" : "history.waited", { time: planned });
  const waited = ended && next.started_at ? Math.max(0, next.started_at - ended) : delay;
  return delay - waited > SOONER_S
    ? say("history.waited.of", { time: formatDuration(waited), planned })
    : say("history.waited", { time: formatDuration(waited) });
}

/** Why it ended; empty where it ended well. @param {Attempt} attempt */
function reasonOf(attempt) {
  const { error, http_status: status, outcome } = attempt;
  const text = typeof error === "string" ? error : (error?.message ?? error?.detail ?? "");
  if (text) return status && !text.includes(String(status)) ? `${text} (${say("history.http", { status })})` : text;
  if (status && status >= 400) return say("history.http", { status });
  return outcome && outcome !== "complete" && outcome !== "completed" ? outcome : "";
}

/** @param {number} bytes @param {number} total */
function share(bytes, total) {
  return total > 0 ? Math.max(0, Math.min(100, (bytes / total) * 100)) : 0;
}
