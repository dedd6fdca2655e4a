/** Our own page: takes the token out of the address, connects, hands the store to the elements, keeps the title. */
import { tokenIn } from "./elements/access-form.js";
import { connect } from "./resumable.js";
import { say } from "./strings.js";

/** Two hubs behind one address, told apart by their prefix, have two tokens. */
const KEY = `resumable.token:${new URL("../", import.meta.url).pathname}`;

/** The token from `#token=…`, which then leaves the address bar, or the one this tab had before. */
function takeToken() {
  const given = tokenIn(location.hash);
  if (given !== null) history.replaceState(history.state, "", location.pathname + location.search);
  return given ?? kept();
}

function kept() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return ""; // storage is forbidden here: the token lasts until the page is left
  }
}

/** @param {string} token */
function keep(token) {
  try {
    sessionStorage.setItem(KEY, token);
  } catch {
    // The same.
  }
}

const token = takeToken();
keep(token);
const store = connect({ token });
const reconnect = store.reconnect;
store.reconnect = (/** @type {string|undefined} */ fresh) => {
  if (fresh !== undefined) keep(fresh);
  reconnect?.(fresh);
};
addEventListener("hashchange", () => {
  const given = takeToken();
  if (given !== kept()) store.reconnect?.(given);
});

for (const element of document.querySelectorAll("recovery-banner, download-list")) {
  /** @type {import("./store-element.js").StoreElement} */ (element).store = store;
}

store.subscribe("any", () => {
  const { counts, percent } = store.summary();
  const title = percent === null || counts.active === 0 || store.status === "unauthorized" ? say("list.title") : `${percent}% · ${say("list.title")}`;
  if (document.title !== title) document.title = title;
});
