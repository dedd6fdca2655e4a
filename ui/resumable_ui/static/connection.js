/**
 * Keeps a `Store` at the server's truth: subscribes, resyncs after every reconnect, falls back to polling where
 * websockets are blocked, and says what became of the line. Works with our `Socket` and with socket.io-client.
 */
import { Polling } from "./polling.js";
import { Requests } from "./requests.js";
import { Socket } from "./socket.js";
import { Store } from "./store.js";

/** A shorter break than this is not worth a word. */
const GRACE_MS = 1_000;
/** So many websockets in a row that never came up: the way is blocked, or the server is gone. */
const BLOCKED_AFTER = 2;
const SNAPSHOT_WITHIN_MS = 8_000;

/**
 * @typedef {object} ConnectOptions
 * @property {string|URL} [base] the hub's base address; by default where these files come from, one folder up
 * @property {string} [token]
 * @property {import("./types.js").SocketLike & {connect?: () => unknown, disconnect?: () => unknown}} [socket] the
 *   host's own socket.io-client, connected or not; it stays the host's to close
 * @property {boolean} [fallback] poll where websockets are blocked; only with our own client
 */

/**
 * Connect to a hub and return the store that follows it.
 * @param {ConnectOptions} [options]
 */
export function connect(options = {}) {
  const store = new Store();
  new Connection(store, options);
  return store;
}

/** @type {WeakMap<object, Store>} */
const storeOfSocket = new WeakMap();

/**
 * The one store of a host's own socket, shared by all elements that are given it.
 * @param {import("./types.js").SocketLike} socket
 */
export function storeOf(socket) {
  const store = storeOfSocket.get(socket) ?? connect({ socket });
  storeOfSocket.set(socket, store);
  return store;
}

export class Connection {
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #grace;
  #neverUp = 0;
  /** @type {[string, (value: any) => void][]} */
  #heard = [];
  #round = 0;
  /** Whether everything has been asked for and has not come yet. */
  #asking = false;

  /** @param {Store} store @param {ConnectOptions} options */
  constructor(store, { base = new URL("../", import.meta.url), token = "", socket, fallback = socket === undefined }) {
    this.store = store;
    this.token = token;
    this.own = socket === undefined ? new Socket(base, { auth: () => this.auth() }) : null;
    this.socket = socket ?? /** @type {Socket} */ (this.own);
    this.requests = new Requests(this.socket);
    this.polling = fallback ? new Polling(base, () => this.token, (result) => this.#polled(result)) : null;
    store.requester = (event, data) => this.request(event, data);
    store.reconnect = (fresh) => this.reconnect(fresh);
    store.close = () => this.close();
    this.#listen();
    if (this.socket.connected) void this.#resync();
    this.own?.connect();
  }

  auth() {
    return { ...(this.token ? { token: this.token } : {}), v: 1, client: "resumable-ui/1", caps: ["batch"] };
  }

  /** @param {string} event @param {Record<string, unknown>} data */
  request(event, data) {
    return this.polling?.running ? this.polling.request(event, data) : this.requests.send(event, data);
  }

  /** @param {string} [token] */
  reconnect(token) {
    if (token !== undefined) this.token = token;
    if (this.store.status === "unauthorized") this.store.setStatus("connecting");
    if (this.own !== null) this.own.disconnect().connect();
    else if (!this.socket.connected) this.socket.connect?.();
  }

  /** Stop following; what is known stays on the screen, as out of date. */
  close() {
    this.#round += 1;
    clearTimeout(this.#grace);
    for (const [event, listener] of this.#heard) this.socket.off(event, listener);
    this.#heard = [];
    this.polling?.stop();
    this.own?.disconnect();
    this.store.setStatus("lost");
  }

  #listen() {
    const { store } = this;
    this.#on("connect", () => void this.#resync());
    this.#on("connected", ({ role } = {}) => store.setRole(role));
    this.#on("disconnect", () => this.#lineLost());
    this.#on("connect_error", (error) => this.#noLine(error));
    this.#on("progress_batch", (batch) => this.#news(batch));
    this.#on("progress_update", (update) =>
      this.#news({ ...update, items: [{ project_id: update.project_id, progress: update.progress }] }),
    );
    // What a page that could not keep up has missed.
    this.#on("snapshot", (snapshot) => store.ready && store.applySnapshot(snapshot));
    this.#on("download_removed", ({ download_id: id }) => store.remove(id));
    this.#on("server_shutdown", ({ retry_in: seconds } = {}) => this.own?.holdOff((Number(seconds) || 0) * 1000));
  }

  /** @param {string} event @param {(value: any) => void} listener */
  #on(event, listener) {
    this.#heard.push([event, listener]);
    this.socket.on(event, listener);
  }

  /** @param {import("./types.js").ProgressBatch} batch */
  #news(batch) {
    // Before the first snapshot there is nothing to lay it on; the snapshot will hold it. Nor does one that is on its
    // way become better by asking again: each question voids the answer to the one before.
    if (this.store.ready && !this.store.applyBatch(batch) && !this.#asking) void this.#resync();
  }

  /** Ask for everything; whatever changed while the line was down is in the answer. */
  async #resync() {
    const round = ++this.#round;
    this.#asking = true;
    const snapshot = await this.#snapshot();
    if (round !== this.#round || !this.socket.connected) return;
    if (snapshot?.ok !== true) {
      setTimeout(() => round === this.#round && this.socket.connected && void this.#resync(), GRACE_MS);
      return;
    }
    this.#asking = false;
    this.store.applySnapshot(snapshot);
    this.#neverUp = 0;
    this.polling?.stop();
    clearTimeout(this.#grace);
    this.#grace = undefined;
    this.store.setStatus("live");
    this.requests.resend();
  }

  /** @returns {Promise<import("./types.js").Snapshot|null>} */
  #snapshot() {
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(null), SNAPSHOT_WITHIN_MS);
      this.socket.emit("subscribe", { rooms: ["all"] }, (/** @type {any} */ answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
    });
  }

  #lineLost() {
    this.#round += 1;
    if (this.store.status !== "polling") this.#lostSoon();
  }

  #lostSoon() {
    this.#grace ??= setTimeout(() => this.store.setStatus("lost"), GRACE_MS);
  }

  /** @param {Error & {code?: string, data?: {code?: string}}} error */
  #noLine(error) {
    const code = error.data?.code ?? error.code ?? "";
    if (code === "unauthorized") {
      clearTimeout(this.#grace);
      this.#grace = undefined;
      this.polling?.stop();
      this.store.setStatus("unauthorized");
      return;
    }
    this.#neverUp += 1;
    if (this.polling !== null && this.#neverUp >= BLOCKED_AFTER && code === "") this.polling.start();
    else if (this.store.status !== "polling") this.#lostSoon();
  }

  /** @param {{snapshot?: import("./types.js").Snapshot, status?: number}} result */
  #polled({ snapshot, status }) {
    clearTimeout(this.#grace);
    this.#grace = undefined;
    if (snapshot !== undefined) {
      this.store.applySnapshot(snapshot);
      this.store.setStatus("polling");
    } else if (status === 401) {
      this.polling?.stop();
      this.store.setStatus("unauthorized");
    } else {
      this.store.setStatus("lost");
    }
  }
}
