// What waits to be sent: stored before it is sent, one at a time per chat, under one key until it is answered.
import { KeepstepError } from "./errors.js";
import { deferred, pause, uuid } from "./events.js";

/** More than anybody writes by hand; a program that sends faster than the server takes should hear of it. */
const MOST = 10_000;
/** Fields of the frame that aren't the message's. */
const OURS = ["type", "id", "chat"];
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** As JSON carries it. Half a character (text that was cut in the middle of one) isn't any, and the server couldn't read it. */
function plain(value) {
  const whole = (part) => {
    if (typeof part === "string") return part.replace(/\p{Surrogate}/gu, "\ufffd");
    if (Array.isArray(part)) return part.map(whole);
    if (typeof part !== "object" || part === null) return part;
    return Object.fromEntries(Object.entries(part).map(([name, own]) => [whole(name), whole(own)]));
  };
  try {
    return whole(JSON.parse(JSON.stringify(value)));
  } catch (cause) {
    throw new KeepstepError("bad_field", `the message can't be written as JSON: ${cause.message}`, { cause });
  }
}

export class Outbox {
  #core;
  // By key, in the order of `n`: {entry, answer, stored, tried}. `tried`: it may have arrived.
  #waiting = new Map();
  #working = new Set();
  #last = 0;

  constructor(core) {
    this.#core = core;
  }

  load(entries) {
    for (const entry of entries) {
      if (!this.#waiting.has(entry.key)) this.#waiting.set(entry.key, { entry, answer: deferred(), stored: true, tried: true });
      this.#last = Math.max(this.#last, entry.n);
    }
  }

  /** All of it, for a storage that has lost it. */
  entries() {
    return [...this.#waiting.values()].map(({ entry }) => entry);
  }

  list(chat) {
    const all = [...this.#waiting.values()].filter(({ stored }) => stored).map(({ entry }) => structuredClone(entry));
    return chat === undefined ? all : all.filter((entry) => entry.chat === chat);
  }

  has(key) {
    return this.#waiting.has(key);
  }

  add(chat, draft) {
    const item = { answer: deferred(), stored: false, tried: false };
    try {
      item.entry = this.#entry(chat, draft);
    } catch (error) {
      item.answer.reject(error);
      return item.answer.promise;
    }
    const { key } = item.entry;
    this.#waiting.set(key, item);
    this.#put(item.entry).then(
      () => {
        if (this.#waiting.get(key) !== item) return; // the device was ended meanwhile
        item.stored = true;
        this.#core.emit("queued", structuredClone(item.entry));
        this.flush(chat);
      },
      (cause) => {
        this.#waiting.delete(key);
        item.answer.reject(new KeepstepError("storage", `the message couldn't be stored: ${cause?.message ?? cause}`, { cause }));
        this.flush(chat); // what came behind it has waited for it
      },
    );
    return item.answer.promise;
  }

  /** In a storage that was emptied just now it is stored with all else that is known, once that is open again. */
  async #put(entry) {
    try {
      await this.#core.storage.write({ outbox: [entry] });
    } catch (error) {
      if (error?.code !== "storage_lost") throw error;
      await this.#core.open();
    }
  }

  #entry(chat, draft) {
    const { key = uuid(), kind = "text", ...rest } = typeof draft === "string" ? { content: draft } : draft;
    const ours = OURS.find((field) => rest[field] !== undefined);
    if (ours) throw new KeepstepError("bad_field", `${ours} isn't a field of a message: an id of the app's own is \`key\` (a UUID), or goes into \`meta\``);
    if (!UUID.test(chat)) throw new KeepstepError("bad_field", `the chat's id must be a UUID in lower case; it is ${chat}`);
    if (!UUID.test(key)) throw new KeepstepError("bad_field", `key must be a UUID in lower case; it is ${key}`);
    if (this.#waiting.has(key)) throw new KeepstepError("conflict", "a message with this key is in the outbox already");
    if (this.#waiting.size >= MOST) {
      throw new KeepstepError("limit_reached", `${MOST} messages wait to be sent: wait for the event \`sent\``, { retry: true });
    }
    const body = plain({ kind, ...rest });
    return { key, chat, n: ++this.#last, at: Date.now(), body };
  }

  async remove(key) {
    const item = this.#waiting.get(key);
    if (!item?.stored || item.tried) return false;
    item.stored = false; // so that it isn't sent meanwhile
    let failed = null;
    await this.#core.storage.write({ removeOutbox: [key] }).catch((cause) => {
      failed = new KeepstepError("storage", `the message couldn't be taken out of the outbox: ${cause?.message ?? cause}`, { cause });
    });
    if (failed) item.stored = true; // it's still there, and would be after a reload
    else this.#waiting.delete(key);
    this.flush(item.entry.chat);
    if (failed) throw failed;
    item.answer.reject(new KeepstepError("cancelled", "the message was taken out of the outbox"));
    return true;
  }

  flushAll() {
    for (const chat of new Set([...this.#waiting.values()].map(({ entry }) => entry.chat))) this.flush(chat);
  }

  /** Sends what waits for a chat, one after the other: a later message never overtakes an earlier one. */
  async flush(chat) {
    if (this.#working.has(chat)) return;
    this.#working.add(chat);
    try {
      let wait = 500;
      for (let connection; (connection = this.#core.connection)?.alive;) {
        const item = [...this.#waiting.values()].find(({ entry }) => entry.chat === chat);
        if (!item?.stored) return;
        const outcome = await this.#send(connection, item);
        if (outcome === "again") {
          await pause(wait * (0.5 + Math.random()), connection.signal);
          wait = Math.min(wait * 2, 10_000);
        } else {
          wait = 500;
        }
      }
    } finally {
      this.#working.delete(chat);
    }
  }

  async #send(connection, item) {
    const { key, chat, body } = item.entry;
    const own = { type: "send", chat, key };
    const frame = { ...own, ...body, ...own }; // in this order for people's eyes; ours count
    // A frame over the limit would end the connection, and the next one, too. 64 bytes are for the id.
    const most = this.#core.welcome.limits?.frame_bytes ?? 131_072;
    if (new TextEncoder().encode(JSON.stringify(frame)).length + 64 > most) {
      return this.#refuse(item, new KeepstepError("too_large", `the message is larger than ${most} bytes`));
    }
    item.tried = true;
    try {
      const { seq, at } = await connection.ask(frame);
      await this.settle({ key, chat, seq, at });
    } catch (error) {
      // Not known whether it arrived: again under the same key, on this connection or on the next.
      if (error.retry) return connection.alive ? "again" : "lost";
      await this.#refuse(item, error);
    }
    return "done";
  }

  /** It is numbered: the reply says so, or the message itself came. `forgotten`: the storage knows already. */
  async settle(sent, { forgotten = false } = {}) {
    const item = this.#waiting.get(sent.key);
    if (!item) return;
    if (!forgotten) await this.#forget(sent.key);
    if (!this.#waiting.delete(sent.key)) return;
    this.#core.emit("sent", sent);
    item.answer.resolve(sent);
  }

  async #refuse(item, error) {
    await this.#forget(item.entry.key);
    if (!this.#waiting.delete(item.entry.key)) return;
    this.#core.emit("refused", { ...item.entry, error });
    item.answer.reject(error);
  }

  /** If this fails, it is sent again after a reload: under its key, so it doesn't matter. */
  async #forget(key) {
    await this.#core.storage.write({ removeOutbox: [key] }).catch((cause) => this.#core.report(cause));
  }

  /** The device has ended. */
  clear(error) {
    for (const { answer } of this.#waiting.values()) answer.reject(error);
    this.#waiting.clear();
  }
}
