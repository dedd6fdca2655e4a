/**
 * Sizes, rates, durations and times as people read them. Pure. The rounding is that of `quantities.py`, so that page,
 * terminal and log say the same; a test compares them.
 */
import { say } from "./strings.js";

const UNITS = ["kB", "MB", "GB", "TB"];

/**
 * `999 B`, `64 kB`, `3.9 GB`, `210 MB`: decimal units.
 * @param {number} size bytes
 */
export function formatSize(size) {
  let value = Math.max(Number(size) || 0, 0);
  if (value < 999.5) return `${Math.round(value)} B`;
  for (const unit of UNITS) {
    value /= 1000;
    const digits = unit === "kB" || value >= 99.95 ? 0 : 1;
    if (Number(value.toFixed(digits)) < 1000) return `${value.toFixed(digits)} ${unit}`;
  }
  return `${(value / 1000).toFixed(1)} PB`;
}

/** @param {number} rate bytes per second */
export function formatRate(rate) {
  return `${formatSize(rate)}/s`;
}

/**
 * `45 s`, `2 min 20 s`, `1 h 5 min`, `3 d 4 h`.
 * @param {number} seconds
 */
export function formatDuration(seconds) {
  if (seconds < 0.95) return say("unit.s", { n: Math.max(seconds, 0).toFixed(1) });
  const whole = Math.round(Math.min(seconds, 1e12));
  if (whole < 60) return say("unit.s", { n: whole });
  if (whole < 3600) return two("unit.min", Math.floor(whole / 60), "unit.s", whole % 60);
  if (whole < 86_400) return two("unit.h", Math.floor(whole / 3600), "unit.min", Math.floor(whole / 60) % 60);
  return two("unit.d", Math.floor(whole / 86_400), "unit.h", Math.floor(whole / 3600) % 24);
}

/**
 * @param {import("./strings.js").Key} bigUnit
 * @param {number} big
 * @param {import("./strings.js").Key} smallUnit
 * @param {number} small
 */
function two(bigUnit, big, smallUnit, small) {
  const first = say(bigUnit, { n: big });
  return small ? `${first} ${say(smallUnit, { n: small })}` : first;
}

/**
 * Whole percent, rounded down: 100 means all of it. Null while the size is not known.
 * @param {number} done
 * @param {number|null} total
 */
export function percentOf(done, total) {
  if (total === null || total === undefined) return null;
  return total === 0 ? 100 : Math.max(0, Math.min(100, Math.floor((done * 100) / total)));
}

/**
 * The time of day, with the date where it is another day than `now`'s.
 * @param {number} at seconds since the epoch
 * @param {number} now
 */
export function formatTime(at, now) {
  const then = new Date(at * 1000);
  const time = then.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const sameDay = then.toDateString() === new Date(now * 1000).toDateString();
  return sameDay ? time : `${then.toLocaleDateString([], { day: "numeric", month: "short" })}, ${time}`;
}
