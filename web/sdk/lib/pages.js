// Older messages, page by page: a sub's bootstrap, what it asks for later, gaps; and a main's answers.
import { KeepstepError } from "./errors.js";
import { either, pause, unless } from "./events.js";

/** Messages in one page. */
const PAGE = 100;
/** A page is asked for so many times before it is given up (until somebody asks again, or the next connection). */
const TRIES = 6;
/** … if the main, or the server, says that it can't give it: a main that has lost its history will say so the next time, too. */
const TRIES_UNAVAILABLE = 3;
/** A gap holds up what comes behind it for at most so long, and is held in memory up to so many messages. */
const IN_TURN_TIME = 15_000;
const IN_TURN_COUNT = 1_000;
/** Chats whose bootstrap runs at the same time. */
const TOGETHER = 4;
/** For a main to find what a sub asks for in the server's log; the sub waits for 10 s. */
const SERVE_TIME = 5_000;
/** Bytes of messages in one page of a main, with room for what the server's own count may differ by. */
const PAGE_BYTES = 262_144 - 4_096;

const cancelled = () => new KeepstepError("cancelled", "the question was cancelled");

export class Pages {
  #core;

  constructor(core) {
    this.#core = core;
  }

  // ---- a sub asks

  /** One page of a chat's history from the main, tried again while that may help. One at a time per chat: hold `room.paging`. */
  async #page(room, before, limit, { connection = this.#core.connection, signal, tries = TRIES } = {}) {
    for (let attempt = 1; ; attempt++) {
      if (signal?.aborted) throw cancelled();
      if (!connection?.alive) throw this.#core.offline();
      try {
        return await connection.ask({ type: "history", chat: room.id, before, limit });
      } catch (error) {
        const most = error.code === "unavailable" ? Math.min(tries, TRIES_UNAVAILABLE) : tries;
        const hopeless = !error.retry || ["main_offline", "offline"].includes(error.code) || attempt >= most;
        if (hopeless) throw error;
        await pause(Math.min(250 * 2 ** attempt, 5_000) * (0.5 + Math.random()), connection.signal);
      }
    }
  }

  /** One page of what the server's log still holds of a chat: where a main finds what it never got, or has lost. */
  async #logged(room, before, limit, { connection = this.#core.connection, signal } = {}) {
    if (!connection?.alive) throw this.#core.offline();
    const ends = either(connection.signal, signal);
    try {
      const { items, more } = await this.#core.api.call("GET", `/v1/chats/${room.id}/messages?before=${before}&limit=${limit}`, { signal: ends.signal });
      return { messages: items, more };
    } finally {
      ends.end();
    }
  }

  /** The next page below what this device has: gives how many messages that were. */
  #below(room, limit, { reason, ...how }) {
    const main = this.#core.kind === "main";
    return room.paging.run(async () => {
      const { low } = room.record;
      if (!room.older || limit < 1) return 0;
      const size = Math.min(limit, PAGE);
      const { messages, more } = main ? await this.#logged(room, low, size, how) : await this.#page(room, low, size, how);
      const older = messages.filter(({ seq }) => seq < low);
      const end = !more || older.length === 0;
      const patch = (record) => {
        const lowest = Math.min(record.low, older[0]?.seq ?? record.low);
        if (!main) return { low: lowest, complete: end };
        // A log that ends says nothing of what was there before: a main that has lost its history is whole only when it has all it ever had.
        const lost = record.lost && lowest > record.from + 1;
        return { low: lowest, lost, logEnd: end, complete: end && !lost };
      };
      const stored = await room.addOlder(older, patch, { more, reason });
      if (!stored) throw new KeepstepError("storage", "the page couldn't be stored", { retry: true });
      return older.length;
    });
  }

  /** What the storage has below a seq; it may turn out that the chat's messages are gone from there. */
  async #stored(room, before, limit) {
    const { last } = room;
    const found = await this.#core.storage.messages(room.id, { before, limit });
    const missing = last !== null && last.seq < before && !(found.at(-1)?.seq >= last.seq);
    if (!missing) return found;
    await room.lost();
    return [];
  }

  // ---- bootstrap

  /**
   * Asks for the newest messages of each chat that hasn't got them yet. False when the main went meanwhile, so that chats were left
   * out which it has. (One that fails in another way holds up nobody: the next connection tries it again.)
   */
  async boot(rooms, connection) {
    const want = this.#core.bootstrap;
    const todo = rooms.filter(({ record }) => record.joined && !record.booted);
    const share = (room) => Math.min(want, room.record.bootAt);
    const have = ({ record }) => record.bootAt + 1 - record.low;
    const total = todo.reduce((sum, room) => sum + share(room), 0);
    const tell = (chat) => {
      const done = todo.reduce((sum, room) => sum + (room.record.booted ? share(room) : Math.min(share(room), have(room))), 0);
      this.#core.emit("progress", { reason: "bootstrap", chat, done, total });
    };
    if (todo.length === 0) return true;
    tell(null);
    let there = true;
    let tries = TRIES;
    const queue = [...todo];
    const one = async () => {
      for (let room; (room = queue.shift()) && connection.alive;) {
        try {
          while (!room.record.complete && have(room) < want) {
            await this.#below(room, want - have(room), { reason: "bootstrap", connection, tries });
            if (!room.record.complete && have(room) < want) tell(room.id);
          }
        } catch (error) {
          if (error.code === "main_offline") {
            there = false;
            queue.length = 0; // it has nothing for the others, either
            continue;
          }
          if (error.retry) {
            if (error.code === "unavailable") tries = 1; // a main that has lost its history has lost all of it
            if (connection.alive) this.#core.report(error); // the next connection tries again
            continue;
          }
          // The main doesn't know the chat: there is nothing to be had.
          await room.change(() => ({ patch: { complete: true } }));
        }
        await room.change(() => ({ patch: { booted: true } }));
        tell(room.id);
      }
    };
    await Promise.all(Array.from({ length: Math.min(TOGETHER, todo.length) }, one));
    return there;
  }

  // ---- on demand

  async history(room, { before = Infinity, limit = 50, signal, onProgress } = {}) {
    if (!(limit >= 1)) throw new KeepstepError("bad_range", "limit is at least 1");
    // One more than asked for tells whether there are older ones.
    const stored = () => this.#stored(room, Math.min(before, Number.MAX_SAFE_INTEGER), limit + 1);
    let found = await stored();
    let failed = null;
    let asked = false;
    const tell = (done) => {
      this.#core.emit("progress", { reason: "asked", chat: room.id, done, total: limit });
      onProgress?.(done, limit);
    };
    while (found.length < limit && room.older && !failed) {
      try {
        const page = this.#below(room, before > room.record.low ? limit - found.length : PAGE, { reason: "asked", signal });
        await unless(signal, page, cancelled);
        asked = true;
        found = await stored();
        if (found.length < limit && room.older) tell(found.length);
      } catch (error) {
        failed = error;
      }
    }
    if (failed && (found.length === 0 || failed.code === "cancelled")) throw failed;
    if (asked) tell(limit);
    return { messages: found.slice(-limit), more: found.length > limit || room.older };
  }

  // ---- a main looks into the server's log

  /** What is unread on a phone that took another's place was said before it came: it is counted when it is here. */
  async unreadFromLog(rooms, connection) {
    for (const room of rooms) {
      const wanted = () => room.record.joined && !room.record.lost && room.older && room.record.read < room.record.low - 1;
      try {
        while (wanted() && connection.alive) await this.#below(room, room.record.low - 1 - room.record.read, { reason: "bootstrap", connection });
      } catch (error) {
        if (!connection.alive) return;
        if (!error.retry) this.#core.report(error); // else the next connection tries again
      }
    }
  }

  /** All that the server's log still holds of what this main has lost: how many messages, and which chats aren't whole by that. */
  async recover({ signal, onProgress } = {}) {
    if (this.#core.kind === "sub") return { messages: 0, lost: [] }; // it boots
    await this.#core.met(signal).catch((error) => { throw signal?.aborted ? cancelled() : error; });
    let messages = 0;
    const rooms = [...this.#core.rooms.values()];
    for (const room of rooms) {
      while (room.record.lost && room.older) {
        if (signal?.aborted) throw cancelled();
        messages += await this.#below(room, PAGE, { reason: "recovered", signal });
        onProgress?.(messages);
      }
    }
    return { messages, lost: rooms.filter(({ record }) => record.lost).map(({ id }) => id) };
  }

  /** Older messages that the app got from another device of the user. */
  async restore(room, messages, complete) {
    const { low } = room.record;
    const older = messages.filter(({ seq }) => seq < low).sort((one, other) => one.seq - other.seq);
    const patch = (record) => {
      const lowest = Math.min(record.low, older[0]?.seq ?? record.low);
      const whole = complete || lowest <= record.from + 1;
      return { low: lowest, lost: record.lost && !whole, complete: record.complete || whole };
    };
    const stored = await room.addOlder(older, patch, { more: !complete, reason: "recovered" });
    if (!stored) throw new KeepstepError("storage", "the messages couldn't be stored", { retry: true });
    return older.length;
  }

  // ---- gaps

  /**
   * What `source` ("main", "log": the server's, or null: nobody) has from `from` to `to`, ascending. `whole`: all that the
   * main has; of the log, which forgets: all there was.
   */
  async between(room, { from, to, source, connection }) {
    if (source === null) return { messages: [], whole: false };
    const end = Date.now() + IN_TURN_TIME;
    const messages = [];
    let before = to + 1;
    try {
      while (Date.now() < end && messages.length < IN_TURN_COUNT) {
        const page = source === "main"
          ? await room.paging.run(() => this.#page(room, before, PAGE, { connection }))
          : await this.#logged(room, before, PAGE, { connection });
        messages.unshift(...page.messages);
        before = messages[0]?.seq ?? 0;
        if (!page.more || before <= from) {
          const inside = messages.filter(({ seq }) => seq >= from);
          return { messages: inside, whole: source === "main" || inside.length === to - from + 1 };
        }
      }
    } catch (error) {
      if (source === "log" && error.retry) throw error; // a main must not step over what it can still get
    }
    return { messages: messages.filter(({ seq }) => seq >= from), whole: false };
  }

  /** Gaps that couldn't be filled in their turn, from above. */
  async fillHoles(rooms) {
    for (const room of rooms) {
      if (room.filling || !room.record.joined) continue;
      room.filling = true;
      try {
        while (room.record.holes.length > 0) await this.#hole(room, room.record.holes.at(-1));
      } catch (error) {
        if (!error.retry) this.#core.report(error);
      } finally {
        room.filling = false;
      }
    }
  }

  #hole(room, [from, to]) {
    return room.paging.run(async () => {
      const { messages, more } = await this.#page(room, to + 1, PAGE);
      const inside = messages.filter(({ seq }) => seq >= from);
      const rest = more && messages[0]?.seq > from ? [[from, messages[0].seq - 1]] : [];
      const patch = ({ holes }) => ({ holes: [...holes.filter((hole) => hole[0] !== from), ...rest] });
      const stored = await room.addOlder(inside, patch, { more: rest.length > 0, reason: "gap" });
      if (!stored) throw new KeepstepError("storage", "the page couldn't be stored", { retry: true });
      if (rest.length === 0) this.#core.emit("gap", { chat: room.id, from, to, filled: true });
    });
  }

  // ---- a main answers

  /** Answers a sub's question from storage, on the connection it came on. */
  async serve({ request, chat, before, limit, device = null }, connection) {
    const room = this.#core.rooms.get(chat);
    const refuse = (code) => void connection.put({ type: "history_error", request, code });
    if (!room) return refuse("not_found");
    // The page would lack what is being fetched, and the sub would take it for all there is. It asks again by itself.
    if (room.catchingUp) return refuse("main_busy");
    try {
      const stored = () => this.#stored(room, before, limit + 1);
      let found = await stored();
      // What this main never got it looks for; what it has lost its user decides about.
      for (const end = Date.now() + SERVE_TIME; !room.record.lost && found.length < limit && room.older && Date.now() < end; found = await stored()) {
        const got = await this.#below(room, PAGE, { reason: "asked", connection }).catch(() => null);
        if (got === null) break; // not now: what is here is given, and the sub asks for the rest again
      }
      // An empty page would say that there is nothing older.
      if (found.length === 0 && !room.record.complete) return refuse("unavailable");
      const messages = fitting(found.slice(-limit));
      const more = found.length > messages.length || !room.record.complete;
      connection.put({ type: "history_page", request, messages, more });
      this.#core.emit("history_served", { chat, device, count: messages.length, from: messages[0]?.seq ?? null, more });
    } catch (error) {
      refuse("unavailable");
      if (!this.#core.vault.isGone(error) && connection.alive) this.#core.report(error);
    }
  }
}

/** The newest messages that fit into one page; at least one. */
function fitting(messages) {
  const encoder = new TextEncoder();
  let bytes = 0;
  let first = messages.length;
  while (first > 0) {
    bytes += encoder.encode(JSON.stringify(messages[first - 1])).length + 1;
    if (bytes > PAGE_BYTES && first < messages.length) break;
    first--;
  }
  return messages.slice(first);
}
