/**
 * The words of the wire, for editors and `tsc --noEmit --checkJs`; nothing here runs. Sizes are bytes, speeds bytes
 * per second, times seconds since the epoch, delays seconds.
 *
 * @typedef {"queued"|"running"|"waiting"|"parked"|"paused"|"verifying"|"complete"|"failed"|"cancelled"} State
 *
 * @typedef {object} Failure
 * @property {string} code  Stable name of what went wrong.
 * @property {string} category
 * @property {string} message  Plain language: what happened and what to do.
 * @property {string} [detail]  Technical one-liner, redacted by the server.
 * @property {boolean} retryable
 *
 * @typedef {object} Download
 * @property {string} download_id
 * @property {string} project_id
 * @property {string} [operation_id]
 * @property {string} filename
 * @property {string} dest
 * @property {string} url  Redacted by the server.
 * @property {State} state
 * @property {string} [status]  The six words of older front ends.
 * @property {number} bytes_done  Checkpointed; falls only together with `restarted`.
 * @property {number|null} bytes_total
 * @property {number} bytes_resumed  On disk when this run started.
 * @property {number} bytes_received  On the wire in this run.
 * @property {number[]} breaks  Byte counts at which connections or attempts ended, the newest 20.
 * @property {number} attempt  The attempt under way, or the last one made.
 * @property {number} [attempts]  Those that have ended.
 * @property {number} max_attempts
 * @property {number} [no_progress]  Attempts in a row that gained nothing.
 * @property {number} [max_no_progress]
 * @property {number} retries  How often it was tried again after a failure; an attempt after a pause is none.
 * @property {number|null} retry_at
 * @property {number|null} retry_delay
 * @property {number} speed
 * @property {number|null} eta
 * @property {Failure|null} error
 * @property {boolean|null} [can_resume]
 * @property {string|null} restarted  Why bytes were given up.
 * @property {string|null} [verified_by]
 * @property {string|null} [sha256]
 * @property {string[]} actions  What the server says is possible now; the page never guesses.
 * @property {string} owner
 * @property {boolean} stale  Its process does not answer.
 * @property {number} [episode]  Rises with each new trouble.
 * @property {number} rev
 * @property {number} created_at
 * @property {number} updated_at
 * @property {number} [elapsed]
 * @property {string[]} [warnings]  What was odd and did not stop it.
 *
 * @typedef {object} Project
 * @property {string} project_id
 * @property {string} [name]
 *
 * @typedef {object} Snapshot
 * @property {boolean} [ok]
 * @property {string} epoch  Another one means another server: all that was known is void.
 * @property {number} seq
 * @property {number} ts  The server's clock.
 * @property {string} [role]  What this page may do: `operator` or `viewer`.
 * @property {Project[]} [projects]
 * @property {Download[]} downloads
 * @property {number} [left_out]  Ended downloads that are not among them.
 *
 * @typedef {{epoch?: string, seq?: number, ts?: number}} Stamp
 * @typedef {Stamp & {project_id: string, progress: Download}} ProgressUpdate
 * @typedef {Stamp & {items: {project_id: string, progress: Download}[]}} ProgressBatch
 *
 * @typedef {object} Attempt
 * @property {number} n
 * @property {number} started_at
 * @property {number|null} ended_at
 * @property {number} from  Durable bytes when it began.
 * @property {number} to  Durable bytes when it ended.
 * @property {string|Partial<Failure>|null} error
 * @property {string} [outcome]
 * @property {number|null} [http_status]
 * @property {number|null} delay  How long the next attempt was put off.
 *
 * @typedef {object} Answer  What the server says to a request.
 * @property {boolean} ok
 * @property {{code: string, message: string}} [error]
 * @property {boolean} [pending]  Another process was told and will act.
 * @property {number} [rev]
 *
 * @typedef {"connecting"|"live"|"polling"|"lost"|"unauthorized"} Status
 *
 * @typedef {object} SocketLike  What is asked of a socket: ours, or the host's own socket.io-client.
 * @property {boolean} connected
 * @property {(event: string, listener: (...args: any[]) => void) => unknown} on
 * @property {(event: string, listener: (...args: any[]) => void) => unknown} off
 * @property {(event: string, ...args: any[]) => unknown} emit
 * @property {() => unknown} [connect]
 */
export {};
