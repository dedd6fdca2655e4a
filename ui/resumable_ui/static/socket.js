/**
 * A small Socket.IO client: one websocket, the default namespace, JSON, acknowledgements both ways, auth, detection
 * of a dead line by the server's pings, reconnecting with backoff. It has the part of socket.io-client's interface
 * that the rest of the page uses, so a host may pass its own client instead.
 */
import { DISCONNECT, PONG, ackFrame, connectFrame, decode, eventFrame } from "./packets.js";

/** Refusals that another try does not change; the client waits until it is told to connect again. */
const FINAL = new Set(["unauthorized", "version"]);
const HANDSHAKE_MS = 10_000;
/** Waits before the next try; the last two are for a server that has been gone for a minute. */
const BACKOFF_MS = [200, 400, 800];
const STEADY_MS = 1_200;
const PATIENT_MS = 8_000;
const PATIENT_AFTER_MS = 60_000;

/** What the server said when it refused; `code` is `unauthorized`, `version`, `busy`, or empty where it is the line. */
export class Refusal extends Error {
  /** @param {string} message @param {string} code */
  constructor(message, code) {
    super(message);
    this.name = "Refusal";
    this.code = code;
    this.data = { code };
  }

  get final() {
    return FINAL.has(this.code);
  }
}

/**
 * @typedef {object} SocketOptions
 * @property {() => object} [auth] asked before each connection
 * @property {typeof WebSocket} [WebSocket]
 * @property {() => number} [random]
 */

export class Socket {
  connected = false;
  /** @type {WebSocket|null} */
  #line = null;
  /** @type {Map<string, Set<(...args: any[]) => void>>} */
  #listeners = new Map();
  /** @type {Map<number, (...args: any[]) => void>} */
  #acks = new Map();
  #nextId = 0;
  #failures = 0;
  #lostAt = 0;
  #holdOffMs = 0;
  #alive = 0;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #deadline;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #retry;
  #wanted = false;

  /**
   * @param {string|URL} url the hub's base, ending in a slash: `socket.io/` is below it
   * @param {SocketOptions} [options]
   */
  constructor(url, { auth = () => ({}), WebSocket: Line = globalThis.WebSocket, random = Math.random } = {}) {
    const address = new URL("socket.io/?EIO=4&transport=websocket", url);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    this.url = address.href;
    this.auth = auth;
    this.Line = Line;
    this.random = random;
    this.wake = () => this.#wake();
  }

  /** Open the line and keep it open until `disconnect`. */
  connect() {
    if (!this.#wanted) {
      this.#wanted = true;
      globalThis.addEventListener?.("online", this.wake);
      globalThis.document?.addEventListener("visibilitychange", this.wake);
    }
    if (this.#line === null) this.#open();
    return this;
  }

  disconnect() {
    this.#wanted = false;
    globalThis.removeEventListener?.("online", this.wake);
    globalThis.document?.removeEventListener("visibilitychange", this.wake);
    clearTimeout(this.#retry);
    if (this.connected) this.#line?.send(DISCONNECT);
    this.#end("io client disconnect");
    return this;
  }

  /** Do not come back before `delayMs` have passed: the server said that it goes away for that long. @param {number} delayMs */
  holdOff(delayMs) {
    this.#holdOffMs = Math.max(0, Math.min(delayMs, PATIENT_MS));
  }

  /** @param {string} event @param {(...args: any[]) => void} listener */
  on(event, listener) {
    const found = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, found.add(listener));
    return this;
  }

  /** @param {string} event @param {(...args: any[]) => void} listener */
  off(event, listener) {
    this.#listeners.get(event)?.delete(listener);
    return this;
  }

  /**
   * Send an event; a function as the last argument is called with the server's answer. Nothing is kept for later:
   * while there is no line, nothing is sent.
   * @param {string} event
   * @param {...any} args
   */
  emit(event, ...args) {
    if (!this.connected) return this;
    let id = null;
    if (typeof args.at(-1) === "function") {
      id = this.#nextId++;
      this.#acks.set(id, args.pop());
    }
    this.#line?.send(eventFrame([event, ...args], id));
    return this;
  }

  #open() {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    /** @type {WebSocket} */
    let line;
    try {
      line = new this.Line(this.url);
    } catch (error) {
      // A browser or an extension may forbid websockets altogether: SecurityError, or no such class.
      this.#tell("connect_error", new Refusal(String(error), ""));
      this.#again();
      return;
    }
    this.#line = line;
    this.#expectWithin(HANDSHAKE_MS, "timeout");
    line.onmessage = ({ data }) => line === this.#line && this.#receive(data);
    line.onclose = () => line === this.#line && this.#end("transport close");
  }

  /** @param {unknown} data */
  #receive(data) {
    const frame = decode(data);
    if (frame === null) {
      this.#end("parse error");
      return;
    }
    switch (frame.kind) {
      case "open":
        this.#alive = frame.data.pingInterval + frame.data.pingTimeout;
        this.#line?.send(connectFrame(this.auth()));
        break;
      case "ping":
        this.#line?.send(PONG);
        if (this.connected) this.#expectWithin(this.#alive, "ping timeout");
        break;
      case "connect":
        this.connected = true;
        this.#failures = 0;
        this.#lostAt = 0;
        this.#expectWithin(this.#alive, "ping timeout");
        this.#tell("connect");
        break;
      case "connect_error":
        this.#refused(frame.data);
        break;
      case "event":
        this.#event(frame.id, frame.args);
        break;
      case "ack":
        this.#acks.get(frame.id)?.(...frame.args);
        this.#acks.delete(frame.id);
        break;
      case "disconnect":
        this.#end("io server disconnect");
        break;
      case "close":
        this.#end("transport close");
    }
  }

  /** @param {number|null} id @param {any[]} args */
  #event(id, [name, ...args]) {
    const line = this.#line;
    const answer = (/** @type {any[]} */ ...values) => {
      if (line === this.#line && id !== null) line?.send(ackFrame(id, values));
    };
    this.#tell(name, ...args, ...(id === null ? [] : [answer]));
  }

  /** @param {any} data */
  #refused(data) {
    const code = data?.data?.code ?? data?.code ?? "";
    const refusal = new Refusal(data?.message ?? "refused", code);
    if (refusal.final) this.#wanted = false;
    else this.holdOff(PATIENT_MS);
    this.#tell("connect_error", refusal);
    this.#end("refused");
  }

  /** @param {number} ms @param {string} reason */
  #expectWithin(ms, reason) {
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.#end(reason), ms);
  }

  /** @param {string} reason */
  #end(reason) {
    clearTimeout(this.#deadline);
    const line = this.#line;
    const wasConnected = this.connected;
    this.#line = null;
    this.connected = false;
    this.#acks.clear();
    line?.close();
    if (wasConnected) {
      this.#lostAt = Date.now();
      this.#tell("disconnect", reason);
    } else if (line !== null && reason !== "refused" && this.#wanted) {
      this.#tell("connect_error", new Refusal(reason, ""));
    }
    if (this.#wanted && this.#line === null) this.#again();
  }

  #again() {
    this.#lostAt ||= Date.now();
    const gone = Date.now() - this.#lostAt;
    const step = gone > PATIENT_AFTER_MS ? PATIENT_MS : (BACKOFF_MS[this.#failures] ?? STEADY_MS);
    this.#failures += 1;
    // Jitter takes up to a quarter off: the tabs of a browser do not come back as one.
    const delay = Math.max(step * (1 - this.random() / 4), this.#holdOffMs);
    this.#holdOffMs = 0;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#open(), delay);
  }

  #wake() {
    if (this.#wanted && this.#retry !== undefined && this.#line === null && !globalThis.document?.hidden) {
      this.#open();
    }
  }

  /** @param {string} event @param {...any} args */
  #tell(event, ...args) {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) {
      try {
        listener(...args);
      } catch (error) {
        // One listener's fault must not keep the others, or the line, from working; it is still reported.
        globalThis.reportError(error);
      }
    }
  }
}
