/**
 * What the page knows: the newest record of every download, and who wants to hear of it. It knows no network; a
 * `Connection` feeds it and carries its requests. Subscribers are called once per frame, for what changed only.
 */
import { bucketOf, goesOn, troubleOf } from "./projection.js";
import { percentOf } from "./quantities.js";

/** @typedef {import("./types.js").Download} Download */
/** @typedef {import("./types.js").Status} Status */
/** @typedef {import("./types.js").Answer} Answer */

const HIDDEN_MS = 1_000;
const COUNTDOWN_MS = 250;

/**
 * @typedef {object} Summary
 * @property {{all: number, active: number, recovering: number, failed: number, done: number}} counts
 * @property {Download[]} recovering
 * @property {Download[]} help
 * @property {number} done  bytes
 * @property {number} total  bytes, of the downloads whose size is known
 * @property {number} speed
 * @property {number|null} eta  seconds until all that goes on by itself is done
 * @property {number|null} percent  of the bytes of what is done or goes on by itself
 */

export class Store {
  /** @type {Map<string, Download>} */
  downloads = new Map();
  /** @type {Map<string, import("./types.js").Project>} */
  projects = new Map();
  epoch = "";
  seq = -1;
  /** @type {Status} */
  status = "connecting";
  /** Whether a snapshot ever arrived: before it, nothing to show does not mean nothing there. */
  ready = false;
  /** Ended downloads that the server did not send: the oldest of many. */
  leftOut = 0;
  /** @type {"operator"|"viewer"} */
  role = "operator";
  /** @type {((event: string, data: Record<string, unknown>) => Promise<Answer & Record<string, any>>)|null} */
  requester = null;
  /** Try to reach the server at once, or with another token. @type {((token?: string) => void)|null} */
  reconnect = null;

  /** End the connection that feeds it; a host's own socket stays open. @type {(() => void)|null} */
  close = null;

  /** @type {Map<string, Set<() => void>>} */
  #topics = new Map();
  /** @type {Set<string>} */
  #dirty = new Set();
  /** @type {Map<string, number>} */
  #seqOf = new Map();
  /** @type {Summary|null} */
  #summary = null;
  /** @type {(() => void)|null} */
  #cancelFlush = null;
  /** @type {ReturnType<typeof setInterval>|undefined} */
  #ticking;
  #skew = 0;

  /**
   * Take the whole truth. Of the same server, records that are newer than it stay; another epoch voids everything.
   * @param {import("./types.js").Snapshot} snapshot
   */
  applySnapshot(snapshot) {
    if (snapshot.epoch !== this.epoch) this.#forgetAll();
    if (snapshot.role !== undefined) this.setRole(snapshot.role);
    this.epoch = snapshot.epoch;
    this.#skew = snapshot.ts - Date.now() / 1000;
    const present = new Set(snapshot.downloads.map((download) => download.download_id));
    for (const id of [...this.downloads.keys()]) {
      if (!present.has(id) && (this.#seqOf.get(id) ?? -1) <= snapshot.seq) this.remove(id);
    }
    this.projects = new Map((snapshot.projects ?? []).map((project) => [project.project_id, project]));
    for (const download of snapshot.downloads) this.#take(download, snapshot.seq);
    this.seq = Math.max(this.seq, snapshot.seq);
    this.leftOut = snapshot.left_out ?? 0;
    if (!this.ready) this.#mark("list");
    this.ready = true;
    this.#mark("any");
  }

  /**
   * Take `progress_update`s. False where they are another server's: then everything has to be asked for again.
   * @param {import("./types.js").ProgressBatch} batch
   */
  applyBatch(batch) {
    if (batch.epoch !== undefined && batch.epoch !== this.epoch) return false;
    const seq = batch.seq ?? this.seq + 1;
    // A message is never faster than light: the largest difference seen is the truest.
    if (batch.ts !== undefined) this.#skew = Math.max(this.#skew, batch.ts - Date.now() / 1000);
    for (const { progress } of batch.items) this.#take(progress, seq);
    this.seq = Math.max(this.seq, seq);
    return true;
  }

  /** @param {string} id */
  remove(id) {
    const download = this.downloads.get(id);
    if (download === undefined) return;
    this.downloads.delete(id);
    this.#seqOf.delete(id);
    this.#mark(`download:${id}`, `project:${download.project_id}`, "list", "any");
  }

  /** @param {Status} status */
  setStatus(status) {
    if (status === this.status) return;
    this.status = status;
    this.#mark("status", "any");
  }

  /** @param {string} role what the server lets this page do */
  setRole(role) {
    if (role !== "viewer" && role !== "operator") return;
    this.role = role;
    this.#mark("status", "any");
  }

  /** Whether the figures are of this moment. */
  get current() {
    return this.status === "live" || this.status === "polling";
  }

  /** The server's clock, seconds since the epoch. */
  serverNow() {
    return Date.now() / 1000 + this.#skew;
  }

  /**
   * Call back after changes, at most once per frame. Topics: `download:ID`, `project:ID` (anything in it), `list`
   * (downloads came or went), `status` (of the connection), `any`.
   * @param {string} topic
   * @param {() => void} callback
   * @returns {() => void} ends it
   */
  subscribe(topic, callback) {
    const found = this.#topics.get(topic) ?? new Set();
    this.#topics.set(topic, found.add(callback));
    return () => {
      found.delete(callback);
      if (found.size === 0 && this.#topics.get(topic) === found) this.#topics.delete(topic);
    };
  }

  /**
   * Ask the server for something; answers with what it acknowledged, and never throws.
   * @param {string} event
   * @param {Record<string, unknown>} data
   * @returns {Promise<Answer & Record<string, any>>}
   */
  async request(event, data) {
    if (this.requester === null) return { ok: false, error: { code: "not_connected", message: "" } };
    return this.requester(event, data);
  }

  /** @param {string} project */
  inProject(project) {
    return [...this.downloads.values()].filter((download) => download.project_id === project);
  }

  /** All downloads in numbers. @returns {Summary} */
  summary() {
    this.#summary ??= summarise(this.downloads.values());
    return this.#summary;
  }

  /** @param {Download} download @param {number} seq */
  #take(download, seq) {
    const id = download.download_id;
    const known = this.downloads.get(id);
    if (known !== undefined) {
      const older = download.rev < known.rev || (download.rev === known.rev && seq < (this.#seqOf.get(id) ?? -1));
      if (older) return;
      if (known.project_id !== download.project_id) this.#mark(`project:${known.project_id}`, "list");
    } else {
      this.#mark("list");
    }
    this.downloads.set(id, download);
    this.#seqOf.set(id, seq);
    this.#mark(`download:${id}`, `project:${download.project_id}`, "any");
    if (download.retry_at !== null) this.#tickWhileWaiting();
  }

  #forgetAll() {
    for (const id of [...this.downloads.keys()]) this.remove(id);
    this.seq = -1;
  }

  /** @param {string[]} topics */
  #mark(...topics) {
    for (const topic of topics) this.#dirty.add(topic);
    this.#summary = null;
    this.#cancelFlush ??= onNextFrame(() => this.flush());
  }

  /** Call everybody who is due, now. */
  flush() {
    this.#cancelFlush?.();
    this.#cancelFlush = null;
    const dirty = this.#dirty;
    this.#dirty = new Set();
    for (const topic of dirty) {
      for (const callback of [...(this.#topics.get(topic) ?? [])]) {
        try {
          callback();
        } catch (error) {
          // One element's fault must not freeze the others; it is still reported.
          globalThis.reportError(error);
        }
      }
    }
  }

  /** Countdowns move without news from the server. */
  #tickWhileWaiting() {
    this.#ticking ??= setInterval(() => {
      const counting = [...this.downloads.values()].filter((download) => download.retry_at !== null);
      for (const { download_id: id } of counting) this.#mark(`download:${id}`, "countdown");
      if (counting.length === 0) {
        clearInterval(this.#ticking);
        this.#ticking = undefined;
      }
    }, COUNTDOWN_MS);
  }
}

/**
 * A hidden tab gets no frames, and may be hidden before the frame it was promised; but its title and its screen reader
 * text go on.
 * @param {() => void} callback
 */
function onNextFrame(callback) {
  let frame = 0;
  const cancel = () => {
    clearTimeout(timer);
    cancelAnimationFrame(frame);
  };
  const now = () => {
    cancel();
    callback();
  };
  const timer = setTimeout(now, HIDDEN_MS);
  if (!document.hidden) frame = requestAnimationFrame(now);
  return cancel;
}

/** @param {Iterable<Download>} downloads @returns {Summary} */
function summarise(downloads) {
  /** @type {Summary} */
  const sum = {
    counts: { all: 0, active: 0, recovering: 0, failed: 0, done: 0 },
    recovering: [],
    help: [],
    done: 0,
    total: 0,
    speed: 0,
    eta: null,
    percent: null,
  };
  const going = { left: 0, done: 0, total: 0, known: true };
  for (const download of downloads) {
    sum.counts.all += 1;
    const bucket = bucketOf(download);
    if (bucket !== null) sum.counts[bucket] += 1;
    const trouble = troubleOf(download);
    if (trouble === "recovering") sum.counts.recovering += 1;
    if (trouble !== null) sum[trouble].push(download);
    const goes = goesOn(download);
    if (goes && download.bytes_total === null) going.known = false;
    if (download.state === "running" && !download.stale) sum.speed += download.speed;
    if (download.state === "cancelled" || download.bytes_total === null) continue;
    sum.done += download.bytes_done;
    sum.total += download.bytes_total;
    if (!goes && download.state !== "complete") continue;
    going.done += download.bytes_done;
    going.total += download.bytes_total;
    if (goes) going.left += download.bytes_total - download.bytes_done;
  }
  if (going.known && going.total > 0) sum.percent = percentOf(going.done, going.total);
  if (going.known && sum.speed > 0 && going.left > 0) sum.eta = going.left / sum.speed;
  return sum;
}
