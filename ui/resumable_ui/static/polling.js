/**
 * For places where websockets are blocked: the same truth from `GET api/snapshot` every two seconds, and requests as
 * `POST`s. Slower, and the page says so.
 */
import { ANSWER_WITHIN_MS, failure, waitFor } from "./requests.js";
import { say } from "./strings.js";

/** @typedef {import("./types.js").Answer & Record<string, any>} Answer */

const EVERY_MS = 2_000;

export class Polling {
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #next;
  #running = false;
  /** @type {AbortController|null} */
  #fetching = null;

  /**
   * @param {string|URL} base
   * @param {() => string} token
   * @param {(result: {snapshot?: import("./types.js").Snapshot, status?: number}) => void} tell
   */
  constructor(base, token, tell) {
    this.base = base;
    this.token = token;
    this.tell = tell;
  }

  get running() {
    return this.#running;
  }

  start() {
    if (this.#running) return;
    this.#running = true;
    void this.#round();
  }

  stop() {
    this.#running = false;
    clearTimeout(this.#next);
    this.#fetching?.abort();
  }

  async #round() {
    const result = await this.#snapshot();
    if (!this.#running) return;
    this.tell(result);
    this.#next = setTimeout(() => void this.#round(), EVERY_MS);
  }

  async #snapshot() {
    this.#fetching = new AbortController();
    try {
      const signal = AbortSignal.any([this.#fetching.signal, AbortSignal.timeout(4 * EVERY_MS)]);
      const response = await fetch(new URL("api/snapshot", this.base), { headers: this.#headers(), signal });
      return response.ok ? { snapshot: await response.json() } : { status: response.status };
    } catch {
      // The line, not the program: fetch reports every kind of it as TypeError, an abort as DOMException.
      return { status: 0 };
    }
  }

  /**
   * Carry one request of the page; what has no REST twin is refused in words.
   * @param {string} event
   * @param {Record<string, any>} data
   * @returns {Promise<Answer>}
   */
  async request(event, data) {
    const [method, path, body] = restOf(event, data);
    if (path === "") return failure("not_connected", say("not-connected"));
    try {
      const response = await fetch(new URL(path, this.base), {
        method,
        headers: { ...this.#headers(), ...(body ? { "Content-Type": "application/json" } : {}) },
        ...(body ? { body: JSON.stringify(body) } : {}),
        signal: AbortSignal.timeout(waitFor(event, ANSWER_WITHIN_MS)),
      });
      const answer = await response.json();
      return typeof answer.ok === "boolean" ? answer : { ...answer, ok: response.ok };
    } catch {
      // No line, no answer in time, or an answer that is no JSON: to a person it is all the same.
      return failure("no_answer", say("no-answer"));
    }
  }

  /** @returns {Record<string, string>} */
  #headers() {
    const token = this.token();
    return token ? { Authorization: `Bearer ${token}` } : {};
  }
}

/**
 * @param {string} event
 * @param {Record<string, any>} data
 * @returns {["GET"|"POST", string, Record<string, unknown>?]}
 */
function restOf(event, data) {
  const id = encodeURIComponent(data.download_id ?? data.operation_id ?? "");
  switch (event) {
    case "download_action":
      return ["POST", `api/downloads/${id}/${encodeURIComponent(data.action)}`, data.args ?? {}];
    case "add_download":
      return ["POST", "api/downloads", data];
    case "bulk_action":
      return ["POST", "api/bulk", data];
    case "operation_details":
      return ["GET", `api/recovery/operations/${id}`];
    default:
      return ["GET", ""];
  }
}
