// Listeners by name, and small helpers about waiting.
import { KeepstepError } from "./errors.js";

export class Events {
  #listeners = new Map();

  on(name, listener) {
    if (typeof listener !== "function") throw new TypeError(`on("${name}") needs a function`);
    if (!this.#listeners.has(name)) this.#listeners.set(name, new Set());
    this.#listeners.get(name).add(listener);
    return () => this.off(name, listener);
  }

  off(name, listener) {
    this.#listeners.get(name)?.delete(listener);
  }

  once(name, filter = () => true, { signal } = {}) {
    return new Promise((resolve, reject) => {
      const end = this.on(name, (payload) => {
        if (!filter(payload)) return;
        end();
        signal?.removeEventListener("abort", aborted);
        resolve(payload);
      });
      const aborted = () => {
        end();
        reject(signal.reason);
      };
      if (signal?.aborted) aborted();
      else signal?.addEventListener("abort", aborted, { once: true });
    });
  }

  /** A listener that throws stops neither the others nor the client; the mistake is reported like an uncaught one. */
  emit(name, payload) {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        listener(payload);
      } catch (error) {
        if (globalThis.reportError) globalThis.reportError(error);
        else queueMicrotask(() => { throw error; });
      }
    }
  }
}

/** A promise with its ends outside. A rejection that nobody looks at isn't reported. */
export function deferred() {
  const ends = {};
  ends.promise = new Promise((resolve, reject) => Object.assign(ends, { resolve, reject }));
  ends.promise.catch(() => {});
  return ends;
}

/** Waits; ends early, without complaint, when the signal is aborted. */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener("abort", end, { once: true });
  });
}

/** Aborted as soon as one of several is; `end` lets go of them. */
export function either(...signals) {
  const all = new AbortController();
  const abort = () => all.abort();
  for (const signal of signals) {
    if (signal?.aborted) abort();
    else signal?.addEventListener("abort", abort, { once: true });
  }
  return { signal: all.signal, end: () => signals.forEach((signal) => signal?.removeEventListener("abort", abort)) };
}

/** What a promise gives, or what `reason` makes as soon as the signal is aborted. What the promise stands for goes on. */
export function unless(signal, promise, reason) {
  return new Promise((resolve, reject) => {
    const aborted = () => reject(reason());
    const end = () => signal?.removeEventListener("abort", aborted);
    promise.finally(end).then(resolve, reject);
    if (signal?.aborted) aborted();
    else signal?.addEventListener("abort", aborted, { once: true });
  });
}

/** A random UUID, also in pages without TLS (where `crypto.randomUUID` isn't there). */
export function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** Runs jobs one after the other; `run` resolves or rejects as its job does, and a failed one doesn't stop the next. */
export class Serial {
  #tail = Promise.resolve();

  run(job) {
    const done = this.#tail.then(job);
    this.#tail = done.catch(() => {});
    return done;
  }
}

export const closed = () => new KeepstepError("closed", "this client was closed: make a new one");
export const offline = () => new KeepstepError("offline", "there is no connection to the server now", { retry: true });
