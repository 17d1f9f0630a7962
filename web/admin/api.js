// The admin API, and what its refusals mean in words. The token lives in sessionStorage: this tab, until it is closed.

import { setClock } from "./format.js";

const KEY = "keepstep-admin-token";
// Longer than the server takes for any answer; what hangs longer won't come.
const PATIENCE = 20_000;

export const session = {
  get token() { return sessionStorage.getItem(KEY); },
  keep(token) { sessionStorage.setItem(KEY, token); },
  clear() { sessionStorage.removeItem(KEY); },
};

/** What went wrong: `words` for people, `hint` what to do next, `code` and `status` as the server said (status 0: no answer). */
export class Refusal extends Error {
  constructor(status, code, words, hint) {
    super(words);
    Object.assign(this, { status, code, words, hint });
  }

  /** Signing in again is the only way on. */
  get signIn() { return this.status === 401 || this.status === 403; }
}

const WORDS = {
  401: ["The server doesn’t accept this token: it has expired, or wasn’t signed with this server’s secret.", "Make a new one and sign in with it."],
  403: ["This token is good, but it isn’t an admin’s.", "Make one with --admin: that puts “admin”: true into it."],
  404: ["The server doesn’t know this.", "It may have been removed meanwhile. Go back and look again."],
  405: ["This server has no such call.", "Page and server are of different versions: reload the page."],
  429: ["The server was asked too often.", "Wait a moment; the page tries again by itself."],
  503: ["The server can’t reach its store just now.", "Nothing is lost. The page tries again by itself."],
};

async function refusal(response) {
  let problem = {};
  try { problem = await response.json(); } catch { /* a proxy's page instead of ours */ }
  const [words, hint] = WORDS[response.status] ?? [`The server answered ${response.status}.`, "If it stays so, look at the server’s log."];
  // Own words where the page knows more than the server; the server's own sentence for all else.
  const own = [401, 403, 405].includes(response.status) || !problem.detail;
  return new Refusal(response.status, problem.code ?? "unknown", own ? words : sentence(problem.detail), hint);
}

function sentence(text) {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

/**
 * One call.
 * @param {string} method
 * @param {string} path e.g. `/admin/v1/overview`
 * @param {{query?: object, body?: object, signal?: AbortSignal, token?: string, text?: boolean}} options query: empty values
 *   are left out; text: the answer isn't JSON
 * @returns the answer's JSON, or its text
 * @throws {Refusal} and AbortError when `signal` aborts
 */
export async function call(method, path, { query = {}, body, signal, token = session.token, text = false } = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const search = given.length ? `?${new URLSearchParams(given)}` : "";
  const late = AbortSignal.timeout(PATIENCE);
  const headers = { accept: "application/json", authorization: `Bearer ${token}` };
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path + search, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, late]) : late, cache: "no-store", credentials: "omit", redirect: "error",
    });
    setClock(response.headers.get("date"));
    if (response.ok) return await (text ? response.text() : response.json());
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal(0, "unreachable",
      late.aborted ? "The server took too long to answer." : "The server can’t be reached.",
      "The page tries again by itself. If it stays so, see whether the server runs and the network is up.");
  }
  throw await refusal(response);
}

export const get = (path, options) => call("GET", path, options);
