/**
 * Requests that want an answer. Each has a name of its own, so that asking again after the line broke does not act
 * twice; one that gets no answer in time ends with words instead.
 */
import { say } from "./strings.js";

/** @typedef {import("./types.js").Answer & Record<string, any>} Answer */

export const ANSWER_WITHIN_MS = 8_000;
/** One action to hundreds of downloads takes its time. */
const BULK_WITHIN_MS = 60_000;

export class Requests {
  /** @type {Map<string, {event: string, data: Record<string, unknown>, done: (answer: Answer) => void}>} */
  #open = new Map();

  /** @param {import("./types.js").SocketLike} socket @param {number} [withinMs] */
  constructor(socket, withinMs = ANSWER_WITHIN_MS) {
    this.socket = socket;
    this.withinMs = withinMs;
  }

  /**
   * @param {string} event
   * @param {Record<string, unknown>} data
   * @returns {Promise<Answer>}
   */
  send(event, data) {
    if (!this.socket.connected) return Promise.resolve(failure("not_connected", say("not-connected")));
    const id = randomId();
    return new Promise((resolve) => {
      const timer = setTimeout(() => done(failure("no_answer", say("no-answer"))), waitFor(event, this.withinMs));
      /** @param {Answer} answer */
      const done = (answer) => {
        clearTimeout(timer);
        if (this.#open.delete(id)) resolve(isAnswer(answer) ? answer : failure("bad_answer", say("no-answer")));
      };
      this.#open.set(id, { event, data: { request_id: id, ...data }, done });
      this.#emit(id);
    });
  }

  /** Ask again what was not answered before the line broke. */
  resend() {
    for (const id of this.#open.keys()) this.#emit(id);
  }

  /** @param {string} id */
  #emit(id) {
    const request = this.#open.get(id);
    if (request !== undefined) this.socket.emit(request.event, request.data, request.done);
  }
}

/** How long an answer may take. @param {string} event @param {number} usualMs */
export function waitFor(event, usualMs) {
  return event === "bulk_action" ? Math.max(BULK_WITHIN_MS, usualMs) : usualMs;
}

/** @param {string} code @param {string} message @returns {Answer} */
export function failure(code, message) {
  return { ok: false, error: { code, message } };
}

/** @param {any} value */
function isAnswer(value) {
  return value !== null && typeof value === "object" && typeof value.ok === "boolean";
}

/** Not `crypto.randomUUID`: browsers offer that on https and loopback only. */
function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
