// A new web session asks to be linked; the phone approves.
import { KeepstepError } from "./errors.js";
import { deferred, pause } from "./events.js";
import { Api, part } from "./http.js";

/** Seconds that the server may hold a question. */
const HOLD = 25;
/** Seconds beyond the code's time: the server says itself that it has expired, and an approved device may still be in the making. */
const BEYOND = 120;

export async function requestLink({ url, name, platform, userToken, fetch } = {}) {
  const api = new Api({ url, fetch });
  const asked = await api.call("POST", "/v1/links", { body: { name, platform }, token: userToken ?? null });
  const { link, code, secret, expires_in: expiresIn, qr } = asked;
  const answer = deferred();
  const ends = new AbortController();
  wait(api, { link, secret, until: Date.now() + (expiresIn + BEYOND) * 1000 }, ends.signal).then(answer.resolve, answer.reject);
  return { code, link, qr, expiresIn, result: answer.promise, cancel: () => ends.abort() };
}

/** Asks until it is decided, however often the connection breaks. */
async function wait(api, { link, secret, until }, signal) {
  const headers = { "x-link-secret": secret };
  while (Date.now() < until) {
    if (signal.aborted) break;
    const begun = Date.now();
    try {
      const path = `/v1/links/${part(link)}?wait=${HOLD}`;
      const { state, device, token } = await api.call("GET", path, { token: null, headers, signal, timeout: (HOLD + 10) * 1000, again: false });
      if (state === "approved") return { device, token };
      if (state === "refused") throw new KeepstepError("refused", "the phone refused to link this window");
      if (state === "expired") break;
    } catch (error) {
      if (error.code === "not_found") break; // the server has forgotten it
      if (!error.retry) throw error;
    }
    // A server that doesn't hold the question isn't asked without a breath in between.
    if (Date.now() - begun < 1_000) await pause(1_000, signal);
  }
  if (signal.aborted) throw new KeepstepError("cancelled", "the link was cancelled");
  throw new KeepstepError("expired", "the code has expired: ask for a new one");
}
