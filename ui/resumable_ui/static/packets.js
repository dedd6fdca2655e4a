/**
 * Frames of Engine.IO 4 with Socket.IO 5 inside, as far as this page needs them: websocket, JSON, the default
 * namespace. Pure. Source: socket.io-protocol revision 5, engine.io-protocol revision 4.
 */

/**
 * @typedef {{kind: "open", data: {pingInterval: number, pingTimeout: number}}
 *   | {kind: "ping"} | {kind: "close"} | {kind: "noop"}
 *   | {kind: "connect", data: any} | {kind: "disconnect"} | {kind: "connect_error", data: any}
 *   | {kind: "event", id: number|null, args: any[]} | {kind: "ack", id: number, args: any[]}} Frame
 */

export const PONG = "3";

/** @type {Record<string, "ping"|"close"|"noop">} */
const ENGINE = { 1: "close", 2: "ping", 6: "noop" };

/**
 * Read one frame; null for what the protocol does not allow, or this client does not speak (binary, other namespaces).
 * @param {unknown} text
 * @returns {Frame|null}
 */
export function decode(text) {
  if (typeof text !== "string" || text === "") return null;
  if (text[0] in ENGINE) return text.length === 1 || text[0] === "2" ? { kind: ENGINE[text[0]] } : null;
  if (text[0] === "0") return openFrame(text.slice(1));
  if (text[0] !== "4") return null;
  const match = /^([0-4])(\d*)([\s\S]*)$/.exec(text.slice(1));
  if (match === null || match[3].startsWith("/")) return null;
  return messageFrame(match[1], match[2] === "" ? null : Number(match[2]), match[3]);
}

/** @param {string} body @returns {Frame|null} */
function openFrame(body) {
  const data = parse(body);
  const usable = data !== null && typeof data === "object" && data.pingInterval > 0 && data.pingTimeout > 0;
  return usable ? { kind: "open", data } : null;
}

/**
 * @param {string} type
 * @param {number|null} id
 * @param {string} body
 * @returns {Frame|null}
 */
function messageFrame(type, id, body) {
  if (type === "1") return { kind: "disconnect" };
  const data = body === "" ? {} : parse(body);
  if (data === undefined) return null;
  if (type === "0") return { kind: "connect", data };
  if (type === "4") return { kind: "connect_error", data };
  if (!Array.isArray(data)) return null;
  if (type === "3") return id === null ? null : { kind: "ack", id, args: data };
  return typeof data[0] === "string" ? { kind: "event", id, args: data } : null;
}

/** @param {string} text @returns {any} undefined where it is no JSON */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** @param {unknown} auth */
export function connectFrame(auth) {
  return `40${auth === undefined ? "" : JSON.stringify(auth)}`;
}

/**
 * @param {any[]} args the event's name first
 * @param {number|null} id asks for an acknowledgement
 */
export function eventFrame(args, id) {
  return `42${id ?? ""}${JSON.stringify(args)}`;
}

/** @param {number} id @param {any[]} args */
export function ackFrame(id, args) {
  return `43${id}${JSON.stringify(args)}`;
}

export const DISCONNECT = "41";
