// What can go wrong, in words.

/** See keepstep.d.ts. */
export class KeepstepError extends Error {
  constructor(code, message, { retry = false, status, lastSeen, requestId, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "KeepstepError";
    this.code = code;
    this.retry = retry;
    if (status !== undefined) this.status = status;
    if (lastSeen !== undefined) this.lastSeen = lastSeen;
    if (requestId !== undefined) this.requestId = requestId;
  }

  /** Whatever was thrown, as one of ours. */
  static of(cause) {
    return cause instanceof KeepstepError ? cause : new KeepstepError("failed", cause?.message ?? String(cause), { cause });
  }

  /** From the server's `{code, message|detail, retry?, last_seen?, request_id?}`. */
  static from(problem, { status, retry = problem?.retry === true } = {}) {
    const code = typeof problem?.code === "string" ? problem.code : "failed";
    const message = problem?.message ?? problem?.detail ?? `the server refused: ${code}`;
    return new KeepstepError(code, message, { retry, status, lastSeen: problem?.last_seen, requestId: problem?.request_id });
  }
}

const STOPS = {
  4400: ["failed", "bad_frame", "The server didn't understand this client. That is a bug: please report it."],
  4401: ["unauthorized", "unauthorized", "This device isn't known to the server: register or link it again."],
  4403: ["terminated", "terminated", "This device was ended. Nothing of it is left here; register or link a new one."],
  4409: ["replaced", "replaced", "This device was opened elsewhere. Connect again to use it here."],
  4410: ["kicked", "kicked", "An administrator closed this connection. Connect again if you want to go on."],
  4413: ["failed", "frame_too_large", "This client sent too much at once. That is a bug: please report it."],
  4429: ["failed", "too_many_requests", "This client was too fast for the server. Connect again later."],
};
const RETRIES = {
  4300: "The server restarts.",
  4301: "This device took its messages too slowly.",
  4302: "The server heard nothing of this device.",
  4304: "The server can't reach its store.",
  4305: "A message wasn't stored in time.",
};

/**
 * What the end of a connection means: `{state, text, lastSeen, error}`. `error` is null if it is tried again: 43xx, and
 * all that isn't 44xx. `blamed`: one message was at fault, and has been refused; it goes on without that.
 */
export function ending(code, reason, { blamed = false } = {}) {
  if (blamed) return { state: "offline", text: "A message was too large for the server.", lastSeen: null, error: null };
  if (code === 4303) {
    const lastSeen = lastSeenOf(reason);
    const text = "The phone is offline: open Keepstep on it. This window waits for it.";
    return { state: "main_offline", text, lastSeen, error: null };
  }
  if (code >= 4400 && code < 4500) {
    const [state, name, text] = STOPS[code] ?? ["failed", "failed", `The server ended the connection: ${reason || code}.`];
    return { state, text, lastSeen: null, error: new KeepstepError(name, text) };
  }
  return { state: "offline", text: RETRIES[code] ?? "No connection to the server.", lastSeen: null, error: null };
}

function lastSeenOf(reason) {
  try {
    return JSON.parse(reason).last_seen ?? null;
  } catch {
    return null; // an older or a stranger server's reason
  }
}
