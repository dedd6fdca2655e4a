/** What is behind "Details": the technical facts of a download, its attempts, and the button that deletes. */
import { make, setHidden, setText } from "../dom.js";
import { isMoving, proofWords } from "../projection.js";
import { formatSize, formatTime } from "../quantities.js";
import { say } from "../strings.js";
import { AttemptHistory } from "./attempt-history.js";

/** @typedef {import("../types.js").Download} Download */
/** @typedef {import("../strings.js").Key} Key */

export class DownloadDetails {
  /** @param {import("./download-progress.js").DownloadProgress} owner */
  constructor(owner) {
    this.facts = make("dl", { class: "facts" });
    this.history = /** @type {AttemptHistory} */ (document.createElement("attempt-history"));
    this.delete = make(
      "button",
      { type: "button", class: "delete", click: () => void owner.press("delete") },
      say("delete"),
    );
    this.node = make("div", { class: "details", part: "details" }, this.facts, this.history, this.delete);
  }

  /** @param {Download} download @param {import("../store.js").Store} store */
  draw(download, store) {
    const facts = factsOf(download, store.serverNow());
    while (this.facts.children.length > facts.length * 2) this.facts.lastElementChild?.remove();
    facts.forEach(([key, fact], index) => {
      const [term, value] = [this.facts.children[2 * index], this.facts.children[2 * index + 1]];
      if (value === undefined) {
        this.facts.append(make("dt", {}, say(key)), make("dd", {}, fact));
        return;
      }
      setText(term, say(key));
      setText(value, fact);
    });
    const possible = store.role !== "viewer" && download.actions.includes("cancel") && download.bytes_done > 0;
    setHidden(this.delete, !possible);
    this.history.store = store;
    this.history.downloadId = download.download_id;
  }
}

/** @param {Download} download @param {number} now @returns {[Key, string][]} */
function factsOf(download, now) {
  const { error } = download;
  const patience = download.max_no_progress ?? 0;
  /** @type {[Key, string][]} */
  const facts = [
    ["detail.detail", error?.detail ?? ""],
    ["detail.code", error === null ? "" : error.code],
    ["detail.warnings", (download.warnings ?? []).join("\n")],
    ["detail.url", download.url],
    ["detail.dest", download.dest],
    ["detail.done", formatSize(download.bytes_done)],
    ["detail.resumed", download.bytes_resumed ? formatSize(download.bytes_resumed) : ""],
    ["detail.received", formatSize(download.bytes_received)],
    ["detail.broke", [...new Set(download.breaks.map(formatSize))].join(", ")],
    ["detail.patience", patience && isMoving(download) ? say("patience", { n: patience, so: download.no_progress ?? 0 }) : ""],
    ["detail.can_resume", canResume(download)],
    ["detail.restarted", download.restarted ?? ""],
    ["detail.proof", download.verified_by ? proofWords(download.verified_by) : ""],
    ["detail.sha256", download.sha256 ?? ""],
    ["detail.created", download.created_at ? formatTime(download.created_at, now) : ""],
    ["detail.owner", isMoving(download) ? download.owner : ""],
  ];
  return facts.filter(([, fact]) => fact !== "");
}

/** @param {Download} download */
function canResume(download) {
  if (download.can_resume === null || download.can_resume === undefined) return "";
  return download.can_resume ? say("yes") : say("no.range");
}
