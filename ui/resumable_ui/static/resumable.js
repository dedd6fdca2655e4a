/**
 * Everything a host needs, in one import: registers the elements and connects to a hub.
 *
 *     import { connect } from "./static/resumable.js";
 *     document.querySelector("recovery-banner").store = connect({ token });
 */
import { AddDownload } from "./elements/add-download.js";
import { AttemptHistory } from "./elements/attempt-history.js";
import { DownloadList } from "./elements/download-list.js";
import { DownloadProgress } from "./elements/download-progress.js";
import { ProjectCard } from "./elements/project-card.js";
import { RecoveryBanner } from "./elements/recovery-banner.js";

const ELEMENTS = /** @type {[string, CustomElementConstructor][]} */ ([
  ["attempt-history", AttemptHistory],
  ["download-progress", DownloadProgress],
  ["project-card", ProjectCard],
  ["recovery-banner", RecoveryBanner],
  ["add-download", AddDownload],
  ["download-list", DownloadList],
]);

for (const [name, element] of ELEMENTS) {
  if (customElements.get(name) === undefined) customElements.define(name, element);
}

export { Connection, connect, storeOf } from "./connection.js";
export { Socket } from "./socket.js";
export { Store } from "./store.js";
export { setStrings } from "./strings.js";
export { AddDownload, AttemptHistory, DownloadList, DownloadProgress, ProjectCard, RecoveryBanner };
