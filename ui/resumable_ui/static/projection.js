/**
 * What a person sees of a download: records of the wire into words and measures. Pure; the elements only put them on
 * the screen. Its sibling for the terminal is `projection.py`.
 */
import { formatDuration, formatRate, formatSize, percentOf } from "./quantities.js";
import { say, sayIfKnown } from "./strings.js";

/** @typedef {import("./types.js").Download} Download */
/** @typedef {"recovering"|"help"|null} Trouble */

/** What only a person can do; beside it the download stands still, whatever its state is called. */
const ASKS = new Set(["new_link", "free_space", "choose_folder", "log_in"]);
const MOST_DOTS = 8;
/** So long after its time a try that has not begun waits for something else: a slot. Seconds; clocks differ a little. */
const OVERDUE_S = 2;
const HOLD = /** @type {Record<string, string>} */ ({ "disk-full": "space", offline: "network", auth: "login" });

/** @param {Download} download */
export function nameOf(download) {
  if (download.filename) return download.filename;
  const end = download.url.split(/[?#]/)[0].replace(/\/+$/, "").split("/").at(-1) ?? "";
  try {
    return decodeURIComponent(end) || download.url || download.download_id;
  } catch {
    return end;
  }
}

/**
 * Whether it stands in the banner, and as what. A running download is still recovering until it has got further than
 * where it broke off: the banner must not come and go with every try.
 * @param {Download} download
 * @returns {Trouble}
 */
export function troubleOf(download) {
  // Nobody runs it any more: it recovers from nothing until somebody resumes it.
  if (download.stale && isMoving(download)) return "help";
  switch (download.state) {
    case "failed":
      return "help";
    case "parked":
      return download.actions.some((action) => ASKS.has(action)) ? "help" : "recovering";
    case "waiting":
      return "recovering";
    case "running":
      return stillRecovering(download) ? "recovering" : null;
    default:
      return null;
  }
}

/** @param {Download} download */
function stillRecovering(download) {
  return download.attempt > 1 && download.error !== null && download.bytes_done <= (download.breaks.at(-1) ?? 0);
}

/** Whether it gets on without a person, now or later. @param {Download} download */
export function goesOn(download) {
  return isMoving(download) && troubleOf(download) !== "help";
}

/** Whether its wait is over and nothing has begun: there are others before it. @param {Download} download @param {number} now */
function waitsForSlot(download, now) {
  return download.state === "waiting" && download.retry_at !== null && now - download.retry_at > OVERDUE_S;
}

/** The name of this trouble: dismissing it hides no later one. @param {Download} download */
export function troubleKey(download) {
  return `${download.download_id}:${download.episode ?? 0}:${troubleOf(download)}`;
}

/** Under which filter it stands beside "All"; what was cancelled is neither done nor going to be. @param {Download} download @returns {"active"|"failed"|"done"|null} */
export function bucketOf({ state }) {
  if (state === "cancelled") return null;
  if (state === "failed") return "failed";
  return state === "complete" ? "done" : "active";
}

/** @param {Download} download @returns {"good"|"bad"|"warn"|"info"|"plain"} */
export function toneOf(download) {
  if (download.state === "complete") return "good";
  if (download.state === "failed") return "bad";
  if (troubleOf(download) !== null || download.stale) return "warn";
  return download.state === "running" || download.state === "verifying" ? "info" : "plain";
}

/** @param {Download} download */
export function labelOf(download) {
  const { state } = download;
  if (download.stale && isMoving(download)) return say("state.stale");
  if (state === "waiting" && endedTries(download) === 0) return say("state.waiting.first");
  if (state === "running" && stillRecovering(download)) return say("state.waiting");
  if (state === "parked") {
    const condition = HOLD[download.error?.category ?? ""];
    return condition ? sayIfKnown(`state.parked.${condition}`, say("state.parked")) : say("state.parked");
  }
  return sayIfKnown(`state.${state}`, state);
}

/** While it waits: a wait for a host or a slot is no attempt. @param {Download} download */
function endedTries(download) {
  return download.attempts ?? download.attempt;
}

/** How often it was, or is about to be, tried again. @param {Download} download */
export function retriesOf(download) {
  const { state, retries } = download;
  return state === "waiting" ? Math.min(retries + 1, endedTries(download)) : retries;
}

/** `Downloading · 2 retries`. @param {Download} download */
export function statusWords(download) {
  const retries = retriesOf(download);
  return retries ? `${labelOf(download)} · ${say("retries", { n: retries })}` : labelOf(download);
}

/** The attempt that is under way, or the one that comes. @param {Download} download */
export function attemptWords(download) {
  const n = download.state === "waiting" ? endedTries(download) + 1 : Math.max(download.attempt, 1);
  // Beyond the limit: each time a person asks, it counts anew.
  return n <= download.max_attempts ? say("attempt", { n, most: download.max_attempts }) : say("attempt.bare", { n });
}

/** `next try in 12 s`; empty where no time is known. @param {Download} download @param {number} now server's clock */
export function countdownWords(download, now) {
  if (download.state !== "waiting" && download.state !== "parked") return "";
  if (download.retry_at === null || download.stale) return "";
  if (waitsForSlot(download, now)) return say("next.slot");
  const left = Math.ceil(download.retry_at - now);
  return left < 1 ? say("next.now") : say("next.in", { time: formatDuration(left) });
}

/**
 * The facts below the bar, in reading order.
 * @param {Download} download
 * @param {number} now server's clock
 * @param {{speed: number, eta: number|null}} [rate] what to show as its rate, where that is steadied
 * @returns {string[]}
 */
export function figuresOf(download, now, rate = download) {
  const { state, bytes_total: total, bytes_done: done } = download;
  const figures = [];
  const percent = percentOf(done, total);
  if (percent !== null && state !== "complete") figures.push(`${percent}%`);
  if (state === "complete") figures.push(formatSize(total ?? done));
  else if (total !== null) figures.push(say("amount", { done: formatSize(done), total: formatSize(total) }));
  else if (done || state === "running") figures.push(say("amount.unknown", { done: formatSize(soFar(download)) }));
  if (download.bytes_resumed > 0) figures.push(say("resumed", { size: formatSize(download.bytes_resumed) }));
  if (state === "running" && !download.stale) figures.push(...rateWords(download, rate));
  if (state === "waiting" && !download.stale) figures.push(attemptWords(download));
  const countdown = countdownWords(download, now);
  if (countdown) figures.push(countdown);
  if (state === "complete" && download.verified_by) {
    figures.push(say("checked", { proof: proofWords(download.verified_by) }));
  }
  return figures;
}

/**
 * How much of a download without a known size is here: nothing of it may be safe before its end, where the server sends
 * only whole files, and it moves all the same.
 * @param {Download} download
 */
function soFar({ state, bytes_done: done, bytes_received: received }) {
  return state === "running" ? Math.max(done, received) : done;
}

/** @param {Download} download @param {{speed: number, eta: number|null}} rate */
function rateWords(download, { speed, eta }) {
  if (download.bytes_total === null) return [formatRate(speed)];
  const left = eta === null ? say("left.unknown") : say("left", { time: formatDuration(Math.max(1, eta)) });
  return download.bytes_done < download.bytes_total ? [formatRate(speed), left] : [formatRate(speed)];
}

/** @param {string} proof */
export function proofWords(proof) {
  return sayIfKnown(`proof.${proof}`, proof);
}

/**
 * Why it stands still or began again, in plain words; empty while all is well.
 * @param {Download} download
 * @param {number} now server's clock
 */
export function reasonOf(download, now) {
  if (download.stale && isMoving(download)) return say("stale");
  // What went wrong the last time is not what it waits for.
  if (waitsForSlot(download, now)) return "";
  const speaks = ["waiting", "parked", "failed"].includes(download.state) || stillRecovering(download);
  if (speaks && download.error !== null) return download.error.message;
  if (download.restarted && isMoving(download)) return say("restarted", { reason: download.restarted });
  return "";
}

/** @param {Download} download */
export function isMoving(download) {
  return !["complete", "failed", "cancelled", "paused"].includes(download.state);
}

/**
 * The bar in fractions of its width: what former runs left, what is safe by now, where tries broke off.
 * @param {Download} download
 * @returns {{known: boolean, resumed: number, done: number, breaks: number[]}}
 */
export function barOf(download) {
  const total = download.bytes_total;
  if (total === null || total === undefined) return { known: false, resumed: 0, done: 0, breaks: [] };
  const share = (/** @type {number} */ bytes) => (total === 0 ? 1 : Math.max(0, Math.min(1, bytes / total)));
  const done = download.state === "complete" ? 1 : share(download.bytes_done);
  const breaks = download.breaks.map(share).filter((at) => at > 0.004 && at < 0.996 && at <= done);
  return { known: true, resumed: Math.min(share(download.bytes_resumed), done), done, breaks: [...new Set(breaks)] };
}

/** What a screen reader says of the bar. @param {Download} download */
export function valueWords(download) {
  const percent = percentOf(download.bytes_done, download.bytes_total);
  const words = [labelOf(download)];
  words.push(percent === null ? say("amount.unknown", { done: formatSize(soFar(download)) }) : `${percent}%`);
  if (download.attempt > 1 || download.state === "waiting") words.push(attemptWords(download));
  if (download.bytes_resumed > 0) words.push(say("resumed", { size: formatSize(download.bytes_resumed) }));
  return words.join(", ");
}

/** @typedef {"ended"|"failed"|"now"|"next"|"good"|"left"} Dot */

/** The dot of the present try, where it is not under way. @type {Partial<Record<string, Dot>>} */
const PRESENT = { complete: "good", failed: "failed", waiting: "next", parked: "next", queued: "next", paused: "left", cancelled: "left" };

/**
 * The tries as dots: those that ended, the one under way or to come, and those left before it gives up. The nearer
 * limit counts: tries in a row without progress, or tries in all.
 * @param {Download} download
 * @returns {{folded: number, dots: Dot[]}}
 */
export function dotsOf(download) {
  const { state, attempt } = download;
  const retries = retriesOf(download);
  if (retries === 0 && state !== "failed") return { folded: 0, dots: [] };
  const ended = state === "waiting" ? endedTries(download) : Math.max(attempt - 1, 0);
  const shown = Math.min(ended, MOST_DOTS - 3);
  const now = PRESENT[state] ?? "now";
  const left = state === "complete" || state === "failed" || state === "cancelled" ? 0 : triesLeft(download, ended + 1);
  const spare = Math.max(0, Math.min(left, MOST_DOTS - shown - 1));
  return { folded: ended - shown, dots: [...repeat("ended", shown), now, ...repeat("left", spare)] };
}

/** @param {Download} download @param {number} used */
function triesLeft(download, used) {
  const inAll = used <= download.max_attempts ? download.max_attempts - used : Infinity;
  const barren = download.max_no_progress ?? 0;
  const inARow = barren ? barren - (download.no_progress ?? 0) : Infinity;
  return Math.max(0, Math.min(inAll, inARow, MOST_DOTS));
}

/** @param {Dot} dot @param {number} times @returns {Dot[]} */
function repeat(dot, times) {
  return Array.from({ length: times }, () => dot);
}
