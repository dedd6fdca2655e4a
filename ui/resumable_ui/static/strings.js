/**
 * Every word the page says, in one table. `setStrings` lays another language (or another tone) over it.
 * A value is a text with `{names}`, or one text for each plural category of the number `n`.
 */

export const ENGLISH = {
  "state.queued": "Queued",
  "state.running": "Downloading",
  "state.waiting": "Retrying",
  "state.waiting.first": "Waiting",
  "state.parked": "On hold",
  "state.parked.space": "Waiting for disk space",
  "state.parked.network": "Waiting for the network",
  "state.parked.login": "Waiting for a sign-in",
  "state.paused": "Paused",
  "state.verifying": "Checking",
  "state.complete": "Complete",
  "state.failed": "Failed",
  "state.cancelled": "Cancelled",
  "state.stale": "Not responding",
  "retries": { one: "{n} retry", other: "{n} retries" },
  "dots": { one: "{n} attempt so far", other: "{n} attempts so far" },

  "amount": "{done} of {total}",
  "amount.unknown": "{done}, size unknown",
  "resumed": "resumed at {size}",
  "left": "{time} left",
  "left.unknown": "time left unknown",
  "attempt": "Attempt {n} of {most}",
  "attempt.bare": "Attempt {n}",
  "next.in": "next try in {time}",
  "next.now": "next try now",
  "next.slot": "waiting for a free slot",
  "stale": "The process that runs it has ended or does not answer.",
  "restarted": "Begun again from the start: {reason}",
  "checked": "checked by {proof}",
  "proof.digest": "SHA-256",
  "proof.etag": "the server's ETag",
  "proof.last-modified": "the server's date",
  "proof.length": "its length",
  "proof.overlap": "comparing overlapping bytes",

  "action.pause": "Pause",
  "action.resume": "Resume",
  "action.retry_now": "Retry now",
  "action.cancel": "Cancel",
  "action.new_link": "New link…",
  "action.free_space": "Free space…",
  "action.choose_folder": "Choose folder…",
  "action.log_in": "Sign in…",
  "action.details": "Details",
  "action.of": "{action}: {name}",
  "pending.other": "Asked the process that runs it…",
  "refused": "That did not work: {reason}",
  "no-answer": "No answer from the server. Please try again.",
  "not-connected": "Not connected to the server. Please try again in a moment.",

  "detail.code": "Reason code",
  "detail.detail": "Technical reason",
  "detail.url": "Link",
  "detail.dest": "File",
  "detail.received": "Received in this run",
  "detail.done": "Safe on disk",
  "detail.resumed": "From before this run",
  "detail.warnings": "What was odd",
  "detail.broke": "Broke off at",
  "detail.patience": "Gives up after",
  "patience": { one: "{n} try in a row without progress ({so} so far)", other: "{n} tries in a row without progress ({so} so far)" },
  "detail.can_resume": "Can continue after a break",
  "yes": "yes",
  "no.range": "no, the server sends only whole files",
  "detail.restarted": "Begun again because",
  "detail.proof": "Checked by",
  "detail.sha256": "SHA-256",
  "detail.created": "Added",
  "detail.owner": "Run by",
  "delete": "Cancel and delete what is on disk…",

  "history": "Attempts",
  "history.loading": "Loading the attempts…",
  "history.empty": "No attempt has ended yet.",
  "history.unavailable": "The attempts cannot be shown: {reason}",
  "history.span": "from {from} to {to}",
  "history.gained": "gained {size}",
  "history.nothing": "gained nothing",
  "history.took": "took {time}",
  "history.instant": "took under 0.1 s",
  "history.running": "under way",
  "history.running.since": "under way since {time}",
  "history.waited": "then waited {time}",
  "history.waited.of": "then waited {time} of {planned}",
  "history.waits": "waits {time} before the next",
  "history.http": "HTTP {status}",
  "history.ok": "Finished.",

  "banner.recovering": { one: "{n} download is recovering.", other: "{n} downloads are recovering." },
  "banner.help": { one: "{n} download needs your help.", other: "{n} downloads need your help." },
  "banner.lost": "Connection to the server lost. Figures may be out of date.",
  "banner.polling": "Live updates are off. Figures are refreshed every 2 seconds.",
  "banner.label": "Recovery",
  "banner.retry": "Retry all",
  "banner.details": "Details",
  "banner.dismiss": "Dismiss",
  "banner.again": "Reconnect now",
  "banner.refused": { one: "{n} download could not be retried: {reason}", other: "{n} downloads could not be retried: {reason}" },
  "banner.more": "and {n} more",

  "card.none": "Single files",
  "card.done": "{done} of {all} done",
  "card.recovering": { one: "{n} recovering", other: "{n} recovering" },
  "card.help": { one: "{n} needs your help", other: "{n} need your help" },

  "list.title": "Downloads",
  "list.total": "{done} of {total}",
  "list.shown": "{shown} of {all} shown",
  "filter": "Show",
  "filter.all": "All",
  "filter.active": "Active",
  "filter.recovering": "Recovering",
  "filter.failed": "Failed",
  "filter.done": "Done",
  "filter.none": "Nothing here under “{filter}”.",
  "empty.title": "Nothing to download",
  "empty.how": "Add a link here, or start a download with one of these:",
  "empty.how.viewer": "Downloads started with one of these show up here:",
  "status.connecting": "Connecting…",
  "status.live": "Live",
  "status.polling": "Every 2 s",
  "status.lost": "Not connected",
  "status.unauthorized": "No access",
  "loading": "Loading downloads…",

  "add": "Add download",
  "add.links": "Links, one per line",
  "add.project": "Project",
  "add.filename": "File name",
  "add.directory": "Folder",
  "add.sha256": "SHA-256",
  "add.optional": "optional",
  "add.one-only": "Only with a single link.",
  "add.start": "Start",
  "add.close": "Close",
  "add.bad": "This is not an http or https link: {link}",
  "add.missing": "Enter at least one link.",
  "add.missing.one": "Enter a link.",
  "add.sha-bad": "A SHA-256 has 64 hexadecimal digits.",
  "add.refused": "{link}: {reason}",

  "relink.title": "Give it a new link",
  "relink.why": "The part already on disk is kept. What the new link serves is checked against it first.",
  "relink.link": "New link",
  "relink.go": "Use this link",
  "cancel.title": "Delete what is on disk?",
  "cancel.why": "{size} of {name} will be deleted and cannot be continued later.",
  "cancel.go": "Delete {size}",
  "cancel.keep": "Keep it",
  "help.space.title": "Free some disk space",
  "help.space.failed": "The disk that holds this file is full. Remove what you no longer need there, then press “Retry now”: the download goes on where it stopped.",
  "help.space": "The disk that holds this file is full. Remove what you no longer need there; the download goes on by itself, or at once with “Retry now”.",
  "help.folder.title": "This folder does not work",
  "help.folder": "The file cannot be written here. Give the program write permission for this folder and choose “Retry now”, or cancel and add the link again with another file name or folder.",
  "help.folder.other.title": "Put it into another folder",
  "help.folder.other": "A download stays in its folder. To have this file elsewhere, cancel it here and add the link again with another folder or file name.",
  "help.login.title": "Sign in at the server",
  "help.login": "The server wants to know who is asking. Sign in there with your browser, copy the download link it gives you, and paste it here.",
  "help.login.link": "Link from the signed-in page",
  "dialog.close": "Close",
  "dialog.back": "Back",

  "token.title": "This page needs its access token",
  "token.how": "Open the link that “resumable serve” printed, or paste the token from it.",
  "token.label": "Access token",
  "token.go": "Connect",
  "token.wrong": "The server refused this token.",

  "unit.s": "{n} s",
  "unit.min": "{n} min",
  "unit.h": "{n} h",
  "unit.d": "{n} d",
};

/** @typedef {keyof typeof ENGLISH} Key */
/** @typedef {string | Record<string, string>} Entry */

/** @type {Record<string, Entry>} */
let table = ENGLISH;
let plural = new Intl.PluralRules("en");

/**
 * Lay another table over the English one, for all elements of the page; set it before the first element is made.
 * @param {Record<string, Entry>} strings
 * @param {string} [locale] whose plural rules hold
 */
export function setStrings(strings, locale = "en") {
  table = { ...ENGLISH, ...strings };
  plural = new Intl.PluralRules(locale);
}

/**
 * Return a text of the table, its `{names}` filled in.
 * @param {Key} key
 * @param {Record<string, string|number>} [values]
 * @returns {string}
 */
export function say(key, values = {}) {
  const entry = table[key];
  const text = typeof entry === "string" ? entry : (entry[plural.select(Number(values.n))] ?? entry.other);
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/**
 * Return a text whose key is put together at run time, or `otherwise` where the table has no such key.
 * @param {string} key
 * @param {string} otherwise
 */
export function sayIfKnown(key, otherwise) {
  return key in table ? say(/** @type {Key} */ (key)) : otherwise;
}
