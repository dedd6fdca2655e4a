// The contract of the hub, spoken by the official JavaScript client: node contract.mjs URL TOKEN PATH FILE
// Prints one JSON line for each thing it saw; exits 1 at the first that does not come.
import { createRequire } from "node:module";
import path from "node:path";

const [url, token, socketPath, file] = process.argv.slice(2);
const require = createRequire(path.join(process.cwd(), "package.json"));
const { io } = require("socket.io-client");

const say = (what, data = {}) => console.log(JSON.stringify({ what, ...data }));
const fail = (why) => {
  say("failed", { why });
  process.exit(1);
};
const within = (promise, what, ms = 15000) =>
  Promise.race([promise, new Promise((_, reject) => setTimeout(() => reject(new Error(`no ${what}`)), ms))]);
const once = (socket, event) => within(new Promise((resolve) => socket.once(event, resolve)), event);
const call = (socket, event, data) => within(socket.timeout(8000).emitWithAck(event, data), `answer to ${event}`);

const connect = (auth, options = {}) =>
  io(url, { path: socketPath, auth, reconnectionDelay: 200, reconnectionDelayMax: 500, ...options });

async function refused(auth) {
  const socket = connect(auth, { reconnection: false });
  const error = await once(socket, "connect_error");
  socket.close();
  return error.data.code;
}

async function main() {
  say("refused", { codes: [await refused({ token: "wrong", v: 1 }), await refused({ token, v: 9 }), await refused({})] });

  const socket = connect({ token, v: 1, client: "npm", caps: ["batch"] });
  const downloads = new Map();
  const take = (download) => {
    const known = downloads.get(download.download_id);
    if (!known || known.rev <= download.rev) downloads.set(download.download_id, download);
  };
  let epoch = null;
  const until = async (condition, what) => {
    const end = Date.now() + 20000;
    while (!condition()) {
      if (Date.now() > end) fail(`never: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };
  socket.on("progress_batch", (batch) => batch.items.forEach((item) => take(item.progress)));
  socket.on("progress_update", (update) => take(update.progress));
  const subscribe = async () => {
    const snapshot = await call(socket, "subscribe", { rooms: ["all"] });
    if (!snapshot.ok) fail("no snapshot");
    if (snapshot.epoch !== epoch) downloads.clear();
    epoch = snapshot.epoch;
    snapshot.downloads.forEach(take);
    return snapshot;
  };

  const hello = await once(socket, "connected");
  say("connected", { role: hello.role, v: hello.v, transport: socket.io.engine.transport.name });
  const snapshot = await subscribe();
  say("snapshot", { keys: Object.keys(snapshot).sort() });

  const added = await call(socket, "add_download", { request_id: "n1", url: file });
  const again = await call(socket, "add_download", { request_id: "n1", url: file });
  const id = added.download_id;
  say("added", { same: JSON.stringify(added) === JSON.stringify(again), ok: added.ok });
  await until(() => downloads.get(id)?.bytes_done > 0, "progress");
  const paused = await call(socket, "download_action", { request_id: "n2", download_id: id, action: "pause" });
  await until(() => downloads.get(id).state === "paused", "paused");
  const kept = downloads.get(id).bytes_done;
  await call(socket, "download_action", { request_id: "n3", download_id: id, action: "resume" });
  await until(() => downloads.get(id).bytes_done > kept, "more");
  const details = await call(socket, "operation_details", { operation_id: id });
  const unknown = await call(socket, "download_action", { request_id: "n4", download_id: "nothing", action: "pause" });
  say("acted", { paused: paused.state, kept, attempts: details.attempts.length, unknown: unknown.error.code });
  say("upgraded", { transport: socket.io.engine.transport.name });

  say("ready"); // now the server is ended and started again
  const goodbye = await within(Promise.race([once(socket, "server_shutdown"), once(socket, "disconnect")]), "goodbye");
  const before = epoch;
  await within(new Promise((resolve) => socket.once("connect", resolve)), "reconnect", 20000);
  await subscribe();
  say("resynced", { other: epoch !== before, retry_in: goodbye.retry_in ?? null, known: downloads.has(id) });
  await call(socket, "download_action", { request_id: "n5", download_id: id, action: "cancel" });
  await until(() => downloads.get(id).state === "cancelled", "cancelled");
  say("done");
  socket.close();
}

main().catch((error) => fail(String(error.stack ?? error)));
