// What is stored of this device beside its chats' messages: who it is, opened once, and what happens when the storage goes away
// under it: emptied by the browser or by hand, or taken by another tab.
import { KeepstepError } from "./errors.js";
import { closed } from "./events.js";
import { Room, known } from "./room.js";

/** Codes of a storage that isn't this client's any more. */
const GONE = ["storage_lost", "replaced"];
const NEWEST = { before: Number.MAX_SAFE_INTEGER, limit: 1 };
/** A storage that is cleared while it is being opened is opened so many times. */
const TRIES = 5;

export class Vault {
  #core;
  #raw;
  #opening = null;
  #open = false;
  /** What the storage has under names. */
  values = {};
  /** The app's storage; what it says of its own end is heard. */
  storage;

  constructor(core, raw) {
    this.#core = core;
    this.#raw = raw;
    const heard = (name) => async (...args) => {
      try {
        return await raw[name](...args);
      } catch (error) {
        if (GONE.includes(error?.code)) this.#gone(error);
        throw error;
      }
    };
    this.storage = { load: heard("load"), write: heard("write"), messages: heard("messages"), clear: heard("clear"), close: () => raw.close() };
  }

  /** `force`: takes it from another tab. */
  open({ force = false } = {}) {
    if (this.#core.closed) return Promise.reject(closed());
    this.#opening ??= this.#loaded(force).then(() => { this.#open = true; }).catch((cause) => {
      this.#opening = null;
      if (cause?.code === "replaced") throw cause;
      throw new KeepstepError("storage", `the storage can't be opened: ${cause?.message ?? cause}`, { cause });
    });
    return this.#opening;
  }

  /** Waits for an opening that is under way. */
  async settled() {
    await this.#opening?.catch(() => {});
  }

  async #loaded(force) {
    for (let left = TRIES; ; left--) {
      try {
        return await this.#load(force);
      } catch (error) {
        if (error?.code !== "storage_lost" || left === 1) throw error; // it was cleared once more
      }
    }
  }

  async #load(force) {
    const core = this.#core;
    if (await this.#raw.claim?.({ force, watch: (error) => this.#gone(error) }) === false) throw elsewhere();
    const { values, chats, outbox } = await this.#raw.load();
    core.rooms.clear(); // of before it was taken or lost
    // This life of the client is a device, and its storage has never heard of any: it was emptied. The device is still there.
    if (core.device !== null && values.device === undefined && core.token !== null) return this.#rebuild();
    this.values = values;
    Object.assign(core, { user: values.user ?? null, device: values.device ?? null, kind: values.kind ?? null });
    core.token = core.options.token ?? values.token ?? null;
    const emptied = [];
    for (const record of chats) {
      const room = new Room(core, known(record));
      core.order = Math.max(core.order, room.record.order);
      core.rooms.set(record.id, room);
      [room.last = null] = await this.#raw.messages(record.id, NEWEST);
      if ((room.last?.seq ?? 0) < (record.newest ?? 0)) emptied.push(room);
    }
    core.outbox.load(outbox);
    for (const room of emptied) await room.lost();
  }

  /** The device again, with what it remembers: who it is, and what waits to be sent. Its chats come with the next `welcome`. */
  async #rebuild() {
    const { user, device, kind, token, outbox } = this.#core;
    this.values = { user, device, kind, token };
    await this.#raw.write({ values: this.values, outbox: outbox.entries() });
  }

  async keep(values) {
    const known = this.values; // of this device: it may be ended meanwhile
    await this.storage.write({ values }).catch((cause) => {
      if (GONE.includes(cause?.code)) throw cause;
      throw new KeepstepError("storage", `the device couldn't be stored: ${cause?.message ?? cause}`, { cause });
    });
    Object.assign(known, values);
  }

  /** Nothing of what is in memory may be stored any more: the storage is another's, or another. */
  #gone(error) {
    const core = this.#core;
    if (!this.#open || core.closed || core.ended) return; // known already
    this.#open = false;
    this.#opening = null;
    this.values = {};
    for (const room of core.rooms.values()) room.gone = true;
    if (error.code === "replaced") return core.taken(elsewhere());
    core.emptied();
  }

  /** Whether a failure is the storage's end, which is told in another way. */
  isGone({ code } = {}) {
    return GONE.includes(code);
  }

  /** The device was ended. */
  async forget() {
    this.values = {};
    await this.storage.clear();
  }
}

const elsewhere = () => new KeepstepError("replaced", "This device is open in another tab or window. Connect to use it here.");
