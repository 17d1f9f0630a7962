// The server's HTTP calls: tokens, deadlines, problem details, lists page by page.
import { KeepstepError } from "./errors.js";
import { either, pause } from "./events.js";

const TRIES = 4;

export class Api {
  #base;
  #fetch;
  #timeout;

  /** `token()` gives the device token, or null. */
  constructor({ url = globalThis.location?.origin, fetch = globalThis.fetch, timeout = 20_000, token = () => null }) {
    if (!/^https?:\/\//.test(url ?? "")) {
      throw new KeepstepError("bad_field", `url must begin with http:// or https://, as in "https://chat.example.com"; it is ${url}`);
    }
    if (typeof fetch !== "function") throw new KeepstepError("failed", "there is no fetch here: give one by the option `fetch`");
    this.#base = url.replace(/\/+$/, "");
    this.#fetch = fetch;
    this.#timeout = timeout;
    this.token = token;
  }

  get socketUrl() {
    return `${this.#base.replace(/^http/, "ws")}/v1/socket`;
  }

  /**
   * One call. `again`: may be repeated when it isn't known whether it happened (it has an id of the client's, or reads).
   * `token`: another than the device's; null: none.
   */
  async call(method, path, { body, token = this.token(), headers = {}, again = method !== "POST", signal, timeout = this.#timeout } = {}) {
    if (token === null && !("x-link-secret" in headers) && path !== "/v1/links") {
      throw new KeepstepError("no_token", "this device isn't registered yet: connect() first");
    }
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#once(method, path, { body, token, headers, signal, timeout });
      } catch (error) {
        const repeat = again && error.retry && error.code !== "too_many_requests" && attempt < TRIES && !signal?.aborted;
        if (!repeat) throw error;
        await pause(200 * 2 ** attempt * (0.5 + Math.random()), signal);
      }
    }
  }

  async #once(method, path, { body, token, headers, signal, timeout }) {
    const clock = AbortSignal.timeout(timeout);
    const ends = either(clock, signal);
    let answer, text;
    try {
      // Called without `this`: a page's own fetch insists on it.
      const fetch = this.#fetch;
      answer = await fetch(this.#base + path, {
        method,
        headers: {
          ...(token ? { authorization: `Bearer ${token}` } : {}),
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...headers,
        },
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: ends.signal,
        cache: "no-store",
      });
      text = await answer.text();
    } catch (cause) {
      if (signal?.aborted) throw new KeepstepError("cancelled", "the call was cancelled", { cause });
      if (clock.aborted) throw new KeepstepError("timeout", `the server didn't answer within ${timeout} ms`, { retry: true, cause });
      throw new KeepstepError("offline", "the server can't be reached", { retry: true, cause });
    } finally {
      ends.end();
    }
    let json;
    try {
      json = JSON.parse(text);
    } catch (cause) {
      const message = `not an answer of Keepstep (HTTP ${answer.status}): is the url right?`;
      throw new KeepstepError("failed", message, { status: answer.status, retry: answer.status >= 500, cause });
    }
    if (answer.ok) return json;
    const { status } = answer;
    throw KeepstepError.from(json, { status, retry: status === 429 || status >= 500 });
  }

  /** All items of a list. */
  async list(path) {
    const items = [];
    for (let after; ;) {
      const query = after === undefined ? "" : `&after=${encodeURIComponent(after)}`;
      const page = await this.call("GET", `${path}?limit=1000${query}`);
      items.push(...page.items);
      if (page.next === undefined || page.next === null) return items;
      after = page.next;
    }
  }

  /** Registers a device: safe to repeat, because it has its id. */
  async register({ id, kind, name, platform, replace, userToken, signal }) {
    const token = typeof userToken === "function" ? await asked(userToken) : userToken;
    if (!token) throw new KeepstepError("no_token", "a user token is needed to register a device");
    const body = { id, kind, name, platform, ...(replace === undefined ? {} : { replace }) };
    return this.call("POST", "/v1/devices", { body, token, again: true, signal });
  }
}

/** The app's own function: what it throws is mostly its network's, and may be over the next time. */
async function asked(userToken) {
  try {
    return await userToken();
  } catch (cause) {
    if (cause instanceof KeepstepError) throw cause;
    throw new KeepstepError("no_token", `the app's \`userToken\` failed: ${cause?.message ?? cause}`, { retry: true, cause });
  }
}

/** An id in a path. */
export const part = (id) => encodeURIComponent(id);
