// One chat of this device: what is stored of it, and the order in which things happen to it.
//
// Everything that changes the chat's record runs as a job of `#jobs`, one after the other; each writes the record together
// with what it is about, and only then is it true. So storage never falls behind what was acknowledged or told.
import { Serial } from "./events.js";

/** Messages that are read at once to be counted. */
const COUNTED = 500;

export class Room {
  #core;
  #jobs = new Serial();
  #inbox = [];
  #draining = false;
  /** While an entry is taken over or a gap filled, nothing behind it is looked at. Who holds it up, else null. */
  #busy = null;
  /** Per connection the highest seq that came on it: more may not be acknowledged there. */
  #came = { connection: null, seq: 0, acked: 0 };
  /** What came before this connection, up to a seq: newer than all that this device had then, in no order among chats but by time. */
  #backlog = { upTo: 0, order: 0 };
  /** Pages of history come one at a time. */
  paging = new Serial();
  /** The device was ended, the chat forgotten or the client closed: nothing of it may be stored any more. */
  gone = false;
  record;
  last = null;

  constructor(core, record) {
    this.#core = core;
    this.record = record;
  }

  get id() {
    return this.record.id;
  }

  /** What is stored has a hole that is just being filled. */
  get catchingUp() {
    return this.#busy !== null;
  }

  view() {
    const { id, kind, name, head, top, low, complete, lost, read, unread, joined } = this.record;
    // Messages this device hasn't got may be unread, too.
    const unreadMore = read < low - 1;
    return { id, kind, name, head, top, low, complete, lost, read, unread, unreadMore, last: this.last && structuredClone(this.last), joined };
  }

  /** Whether there may be older messages somewhere that can be asked: a sub asks the main, a main the server's log. */
  get older() {
    return !this.record.complete && !this.record.logEnd;
  }

  /** The chat's messages are gone from the storage, though its record is there: a main has lost them, a sub boots again. */
  async lost() {
    const { top } = this.record;
    const main = this.#core.kind === "main";
    this.last = null;
    const stored = await this.change(() => ({
      patch: { low: top + 1, bootAt: top, newest: 0, holes: [], unread: 0, complete: false, logEnd: false, booted: main, lost: main },
    }));
    if (!stored) return;
    this.#core.emit("history_lost", { kind: this.#core.kind, chats: [this.id] });
    this.#core.emit("chat", { event: "changed", chat: this.id });
  }

  /**
   * Runs a job that may change the record: it gives `{patch, ...changes}` to be written in one step, or nothing. True when
   * that is stored; false when it couldn't be (the connection is dropped: what wasn't stored comes again), or mustn't any more.
   */
  change(job) {
    return this.#jobs.run(async () => {
      if (this.gone) return false;
      try {
        const result = await job(); // it may read from the storage
        if (!result) return true;
        const { patch, ...changes } = result;
        const record = { ...this.record, ...patch };
        if (this.gone) return false;
        await this.#core.storage.write({ chats: [record], ...changes });
        this.record = record;
      } catch (cause) {
        this.#core.storageFailed(cause);
        return false;
      }
      return !this.gone;
    });
  }

  // ---- what a connection begins with

  /** Takes over the chat's entry of `welcome` or of `joined`. What comes behind it on the connection waits until then. */
  async adopt(entry, connection, event = "changed") {
    const busy = (this.#busy = {});
    this.#inbox = [];
    this.#came = { connection, seq: entry.cursor, acked: entry.cursor };
    this.#backlog = { upTo: entry.head, order: this.#core.order };
    const { read: readBefore, from: fromBefore } = this.record;
    let missing = null;
    await this.change(async () => {
      const { patch, lacks } = this.#adopted(entry);
      missing = lacks;
      // With the offset in one write, or a count that failed would stay wrong.
      if (patch.read > readBefore && fromBefore !== null) Object.assign(patch, { unread: await this.#countUnread(patch.read), counted: true });
      // Mostly nothing has changed: a connection mustn't cost a write for each chat.
      const changed = Object.entries(patch).some(([field, value]) => this.record[field] !== value);
      return changed ? { patch } : null;
    });
    if (fromBefore === null && this.record.lost) this.#core.lacksHistory(this.id);
    if (this.record.read > readBefore && fromBefore !== null) this.#told(null);
    this.#core.emit("chat", { event, chat: this.id });
    this.sendRead();
    if (missing) await this.#fill(missing, connection, { acked: true, busy });
    else this.#free(busy);
  }

  #adopted(entry) {
    const mine = this.record;
    const patch = {
      kind: entry.kind,
      name: entry.name,
      joined: true,
      from: entry.from,
      head: Math.max(mine.head, entry.head),
      read: Math.max(mine.read, entry.read),
      readKnown: Math.max(mine.readKnown, entry.read),
    };
    if (mine.from === null) {
      // New here: a sub borrows what is at or below its cursor, a main may find some of it in the server's log. What a main has
      // acknowledged it had: it has lost that.
      const top = entry.cursor;
      const main = this.#core.kind === "main";
      Object.assign(patch, { top, low: top + 1, bootAt: top, complete: top === 0, booted: main, lost: main && entry.cursor > entry.from });
      return { patch, lacks: null };
    }
    if (mine.from !== entry.from) {
      // A new membership: what was said in between isn't for this user.
      return { patch: { ...patch, top: Math.max(mine.top, entry.cursor), holes: [] }, lacks: null };
    }
    // An older copy of the storage may have come back: what it lacks was acknowledged.
    return { patch, lacks: mine.top < entry.cursor ? { from: mine.top + 1, to: entry.cursor } : null };
  }

  /** What held up the live messages is over; unless something else does by now. */
  #free(busy) {
    if (this.#busy !== busy) return;
    this.#busy = null;
    this.#drain();
  }

  // ---- live

  /** A `message` or `gap` frame came. */
  push(frame, connection) {
    if (this.#came.connection !== connection) return;
    this.#came.seq = Math.max(this.#came.seq, frame.type === "gap" ? frame.to : frame.seq);
    this.#inbox.push(frame);
    this.#drain();
  }

  async #drain() {
    if (this.#draining) return;
    this.#draining = true;
    try {
      while (this.#inbox.length > 0 && !this.#busy) {
        const { connection } = this.#came;
        if (this.#inbox[0].type === "gap") {
          const { from, to } = this.#inbox.shift();
          const gap = { from: Math.max(from, this.record.top + 1), to };
          if (gap.from <= to) this.#fill(gap, connection, { acked: false, busy: (this.#busy = {}) });
          else this.#ack(); // stepped over on an earlier connection, which ended before it could say so
          continue;
        }
        const end = this.#inbox.findIndex((frame) => frame.type === "gap");
        await this.#store(this.#inbox.splice(0, end < 0 ? this.#inbox.length : end), connection);
      }
    } finally {
      this.#draining = false;
    }
  }

  /** Stores a run of live messages, tells of them, acknowledges. */
  async #store(run, connection) {
    let fresh = [];
    let broken = false;
    const stored = await this.change(() => {
      for (const message of run) {
        const top = fresh.at(-1)?.seq ?? this.record.top;
        if (message.seq <= top) continue; // it came on an earlier connection already
        if (message.seq > top + 1) {
          broken = true; // never without a `gap`
          break;
        }
        fresh.push(message);
      }
      return fresh.length > 0 && this.#added(fresh, { top: fresh.at(-1).seq });
    });
    if (!stored) return;
    this.#announce(fresh);
    this.#ack();
    // What is missing was never acknowledged: the next connection brings it.
    if (broken) connection.lose({ fault: true });
  }

  /** What is to be written for new messages at the upper end. */
  #added(messages, patch) {
    const keys = this.#ownKeys(messages);
    const head = Math.max(this.record.head, patch.top);
    const newest = messages.at(-1)?.seq ?? this.record.newest;
    const { upTo, order: behind } = this.#backlog;
    const order = messages.length === 0 ? this.record.order : newest > upTo ? ++this.#core.order : behind;
    return {
      patch: { ...patch, head, newest, order, unread: this.record.unread + this.unreadOf(messages) },
      messages,
      ...(keys.length > 0 ? { removeOutbox: keys } : {}),
    };
  }

  #ownKeys(messages) {
    const own = messages.filter(({ key, from }) => from === this.#core.user && this.#core.outbox.has(key));
    return own.map(({ key }) => key);
  }

  #announce(messages) {
    if (messages.length === 0) return;
    this.last = messages.at(-1);
    for (const message of messages) {
      const { key, chat, seq, at, from } = message;
      if (from === this.#core.user) this.#core.outbox.settle({ key, chat, seq, at }, { forgotten: true });
      this.#core.emit("message", message);
    }
    this.#core.emit("chat", { event: "changed", chat: this.id });
  }

  #ack() {
    const { connection, seq, acked } = this.#came;
    const upTo = Math.min(this.record.top, seq);
    if (upTo <= acked || !connection?.alive) return;
    this.#came.acked = upTo;
    connection.put({ type: "ack", chat: this.id, seq: upTo });
  }

  // ---- gaps

  /**
   * Numbers that come no more by themselves, in turn: what others have of them is told before what follows. `acked`: this
   * device acknowledged them once and has lost them, so a main may find them in the server's log.
   */
  async #fill({ from, to }, connection, { acked, busy }) {
    try {
      const source = this.#core.kind === "sub" ? "main" : acked ? "log" : null;
      const { messages, whole } = await this.#core.pages.between(this, { from, to, source, connection });
      if (connection.signal.aborted) return; // told again on the next connection
      const stored = await this.change(() => {
        const hole = [from, messages.length > 0 ? messages[0].seq - 1 : to];
        const holes = whole || source !== "main" ? this.record.holes : [...this.record.holes, hole];
        return this.#added(messages, { top: Math.max(this.record.top, to), holes });
      });
      if (!stored) return;
      this.#announce(messages);
      this.#core.emit("gap", { chat: this.id, from, to, filled: whole });
      this.#ack();
    } catch (error) {
      this.#core.report(error);
      connection.lose({ fault: true }); // the next one tells the gap again
    } finally {
      this.#free(busy);
    }
  }

  // ---- older messages

  /** Stores a page of older messages; `patch(record, fresh)` says what it means for the record. */
  async addOlder(messages, patch, { more, reason }) {
    const stored = await this.change(() => ({
      patch: {
        ...patch(this.record),
        unread: this.record.unread + this.unreadOf(messages),
        newest: Math.max(this.record.newest, messages.at(-1)?.seq ?? 0),
      },
      messages,
    }));
    if (!stored || messages.length === 0) return stored;
    if (!this.last || this.last.seq < messages.at(-1).seq) this.last = messages.at(-1);
    this.#core.emit("history", { chat: this.id, messages, more, reason });
    this.#core.emit("chat", { event: "changed", chat: this.id });
    return true;
  }

  unreadOf(messages) {
    return messages.filter((message) => message.seq > this.record.read && message.from !== this.#core.user).length;
  }

  // ---- read offsets

  /** The user read up to here, on this device. */
  async readTo(seq) {
    await this.#moveRead(Math.min(seq ?? Infinity, this.record.top), this.#core.device);
    this.sendRead();
  }

  /** The user read on another device. */
  readElsewhere(seq, device) {
    return this.#moveRead(seq, device);
  }

  async #moveRead(seq, device) {
    if (!(seq > this.record.read)) return;
    const before = this.record.read;
    await this.change(async () => (seq > this.record.read ? { patch: { read: seq, unread: await this.#countUnread(seq), counted: true } } : null));
    if (this.record.read > before) this.#told(device);
  }

  #told(device) {
    const { id, read, unread } = this.record;
    this.#core.emit("read", { chat: id, seq: read, device, unread });
    this.#core.emit("chat", { event: "changed", chat: id });
  }

  /** How many are unread behind an offset: by what has been read since the last one, or by what is left, whichever are fewer. */
  async #countUnread(read) {
    const { top, read: before, unread, counted } = this.record;
    if (counted && read > before && read - before < top - read) return Math.max(0, unread - await this.#ofOthers(before, read));
    return this.#ofOthers(read, top);
  }

  /** How many messages of others are here above a seq, up to another. */
  async #ofOthers(above, upTo) {
    let count = 0;
    for (let before = upTo + 1; before > above + 1;) {
      const messages = await this.#core.storage.messages(this.id, { before, limit: COUNTED });
      count += messages.filter(({ seq, from }) => seq > above && from !== this.#core.user).length;
      if (messages.length < COUNTED) break;
      before = messages[0].seq;
    }
    return count;
  }

  /** Tells the server how far the user has read, the latest only, until it knows. */
  async sendRead() {
    if (this.sendingRead) return;
    this.sendingRead = true;
    try {
      for (let connection; (connection = this.#core.connection)?.alive && this.record.joined;) {
        const { read, readKnown } = this.record;
        if (read <= readKnown) return;
        let known = read;
        try {
          known = (await connection.ask({ type: "read", chat: this.id, seq: read })).seq;
        } catch (error) {
          if (error.retry) {
            await this.#core.pause(1_000, connection.signal);
            continue;
          }
          // Refused for good: it would be the next time, too.
        }
        if (!(await this.change(() => ({ patch: { readKnown: Math.max(known, read) } })))) return;
        if (known > read) await this.#moveRead(known, null);
      }
    } finally {
      this.sendingRead = false;
    }
  }
}

/** What is known of a chat before anything is. `from` null: it was never adopted. */
export const blank = (id) => ({
  id, kind: null, name: null, from: null, head: 0, top: 0, low: 1, bootAt: 0, complete: false, booted: false, lost: false, logEnd: false,
  newest: 0, order: 0, read: 0, readKnown: 0, unread: 0, counted: true, joined: true, holes: [],
});

/** A record as an earlier version of this client may have written it: it stopped counting what is unread at 1,000. */
export const known = (record) => ({ ...blank(record.id), counted: false, ...record });
