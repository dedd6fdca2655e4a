/**
 * What the buttons do. The server says which are possible; a host may take any of them over by listening to the
 * `rui-action` event and calling `preventDefault()` (a folder chooser or a sign-in page of its own).
 */
import { ask, linkProblem } from "./dialogs.js";
import { nameOf } from "./projection.js";
import { formatSize } from "./quantities.js";
import { say, sayIfKnown } from "./strings.js";

/** @typedef {import("./types.js").Download} Download */
/** @typedef {import("./types.js").Answer} Answer */

/** Buttons whose request has another name on the wire; those that are missing here ask a person first. */
const WIRE = /** @type {Record<string, string>} */ ({
  pause: "pause",
  resume: "resume",
  retry_now: "retry",
  cancel: "cancel",
});

/** What only a person can do: first, in the server's order, for the first is what helps most. */
const ASKS = ["new_link", "log_in", "free_space", "choose_folder"];
/** The others always stand in the same order: buttons must not jump about. */
const USUAL = ["resume", "retry_now", "pause", "cancel"];

/** The buttons this page knows, in the order in which they stand. @param {string[]} actions */
export function inOrder(actions) {
  return [...actions.filter((action) => ASKS.includes(action)), ...USUAL.filter((action) => actions.includes(action))];
}

/** @param {string} action */
export function actionWords(action) {
  return sayIfKnown(`action.${action}`, action);
}

/**
 * Do what a button says.
 * @param {import("./store-element.js").StoreElement} element whose button it is
 * @param {Download} download
 * @param {string} action
 * @returns {Promise<Answer|null>} null where nothing was asked of the server
 */
export async function act(element, download, action) {
  const detail = { action, download };
  const event = new CustomEvent("rui-action", { detail, bubbles: true, composed: true, cancelable: true });
  if (!element.dispatchEvent(event) || element.store === null) return null;
  switch (action) {
    case "new_link":
      return relink(element, download, say("relink.title"), say("relink.why"), say("relink.link"));
    case "log_in":
      return relink(element, download, say("help.login.title"), say("help.login"), say("help.login.link"));
    case "free_space":
      return explain(element, download, say("help.space.title"), say(download.state === "failed" ? "help.space.failed" : "help.space"));
    case "choose_folder":
      // On a full disk nothing is wrong with the folder but where it is.
      return download.error?.category === "disk-full"
        ? explain(element, download, say("help.folder.other.title"), say("help.folder.other"))
        : explain(element, download, say("help.folder.title"), say("help.folder"));
    case "delete":
      return deletePart(element, download);
    default:
      return action in WIRE ? send(element, download, WIRE[action]) : null;
  }
}

/**
 * @param {import("./store-element.js").StoreElement} element
 * @param {Download} download
 * @param {string} action as the wire calls it
 * @param {Record<string, unknown>} [args]
 * @returns {Promise<Answer|null>}
 */
async function send(element, download, action, args) {
  const data = { download_id: download.download_id, action, ...(args ? { args } : {}) };
  return (await element.store?.request("download_action", data)) ?? null;
}

/**
 * @param {import("./store-element.js").StoreElement} element
 * @param {Download} download
 * @param {string} title
 * @param {string} text
 * @param {string} label
 */
async function relink(element, download, title, text, label) {
  const field = { label, placeholder: "https://", check: linkProblem };
  const url = await ask(element.root, { title, text, field, confirm: say("relink.go") });
  return url === null ? null : send(element, download, "relink", { url });
}

/**
 * @param {import("./store-element.js").StoreElement} element
 * @param {Download} download
 * @param {string} title
 * @param {string} text
 */
async function explain(element, download, title, text) {
  const confirm = download.actions.includes("retry_now") ? say("action.retry_now") : undefined;
  const words = download.dest ? `${text}\n${download.dest}` : text;
  const answer = await ask(element.root, { title, text: words, confirm, decline: say("dialog.close") });
  return answer === null ? null : send(element, download, "retry");
}

/** @param {import("./store-element.js").StoreElement} element @param {Download} download */
async function deletePart(element, download) {
  const size = formatSize(download.bytes_done);
  const answer = await ask(element.root, {
    title: say("cancel.title"),
    text: say("cancel.why", { size, name: nameOf(download) }),
    confirm: say("cancel.go", { size }),
    decline: say("cancel.keep"),
    danger: true,
  });
  return answer === null ? null : send(element, download, "cancel", { delete_part: true });
}

/** Why a request was refused, in words; empty where it was not. @param {Answer|null} answer */
export function refusalWords(answer) {
  if (answer === null || answer.ok) return "";
  const { code = "", message = "" } = answer.error ?? {};
  if (code === "no_answer" || code === "not_connected") return message || say("not-connected");
  return say("refused", { reason: message || code });
}
