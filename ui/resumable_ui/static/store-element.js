/** What all elements share: a store that may come and go, subscriptions that end with it, styles without a tag. */
import { storeOf } from "./connection.js";
import { BASE } from "./styles.js";

/** @typedef {import("./store.js").Store} Store */

const PROPERTIES = /** @type {const} */ (["store", "socket"]);

export class StoreElement extends HTMLElement {
  /** @type {Store|null} */
  #store = null;
  /** @type {(() => void)[]} */
  #stops = [];
  #started = false;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #later;

  /** @param {CSSStyleSheet[]} sheets */
  constructor(...sheets) {
    super();
    this.root = this.attachShadow({ mode: "open" });
    this.root.adoptedStyleSheets = [BASE, ...sheets];
  }

  get store() {
    return this.#store;
  }

  /** What it shows; may be set, changed and taken away at any time. */
  set store(store) {
    if (store === this.#store) return;
    this.#stop();
    this.#store = store;
    if (this.isConnected) this.#start();
  }

  /** The host's own socket.io-client, instead of a store. */
  set socket(/** @type {import("./types.js").SocketLike|null} */ socket) {
    this.store = socket === null ? null : storeOf(socket);
  }

  connectedCallback() {
    // A property set before the class was there lies on the instance and hides the setter.
    for (const name of PROPERTIES) {
      const own = Object.getOwnPropertyDescriptor(this, name);
      if (own === undefined) continue;
      delete (/** @type {any} */ (this)[name]);
      /** @type {any} */ (this)[name] = own.value;
    }
    this.#start();
  }

  disconnectedCallback() {
    this.#stop();
    clearTimeout(this.#later);
    this.#later = undefined;
  }

  /** Begin again, after an attribute changed what is watched. */
  restart() {
    if (!this.#started) return;
    this.#stop();
    this.#start();
  }

  /** @param {string} topic @param {() => void} callback ends with the store, or when the element leaves the page */
  watch(topic, callback) {
    if (this.#store !== null) this.#stops.push(this.#store.subscribe(topic, callback));
  }

  /** Show what the store says now. */
  draw() {}

  /** What was put off is drawn even if nothing more comes: the last news are the ones that stay. @param {number} ms */
  drawIn(ms) {
    if (!this.isConnected) return;
    this.#later ??= setTimeout(() => {
      this.#later = undefined;
      this.draw();
    }, ms);
  }

  /** Subscribe and draw; called with a store, while in the page. @param {Store} _store */
  start(_store) {}

  #start() {
    if (this.#started || this.#store === null) return;
    this.#started = true;
    this.start(this.#store);
  }

  #stop() {
    for (const stop of this.#stops) stop();
    this.#stops = [];
    this.#started = false;
  }
}
