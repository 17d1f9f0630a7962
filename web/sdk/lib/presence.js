// Who is there and who types: transient, never stored, nothing waits for it.
import { KeepstepError } from "./errors.js";
import { pause } from "./events.js";

const WATCHED = 100;
const TYPING_EVERY = 3_000;
/** Between two looks for users who may be watched only now. The server takes 60 a minute. */
const TOLD_AGAIN = 2_000;

export class PresenceBook {
  #core;
  #watched = [];
  #known = new Map();
  #typed = new Map();
  #waits = false;

  constructor(core) {
    this.#core = core;
  }

  watch(users) {
    const set = [...new Set(users)];
    if (set.length > WATCHED) throw new KeepstepError("bad_range", `at most ${WATCHED} users can be watched; it is ${set.length}`);
    this.#watched = set;
    for (const user of this.#known.keys()) if (!set.includes(user)) this.#known.delete(user);
    if (this.#core.connection?.alive) this.tellServer(this.#core.connection, true);
  }

  of(user) {
    const known = this.#known.get(user);
    return known && { ...known };
  }

  /** The connection is over: who is there isn't known any more. */
  forget() {
    this.#known.clear();
  }

  /** Says whom to watch; at the begin of a connection only if there is somebody. */
  async tellServer(connection, even) {
    if (this.#watched.length === 0 && !even) return;
    try {
      const { presence = [] } = await connection.ask({ type: "watch", users: this.#watched });
      presence.forEach((one) => this.heard(one));
    } catch (error) {
      // A lost connection says it again by itself.
      if (error.retry) this.#later(connection, TOLD_AGAIN * 2);
      else this.#core.report(error);
    }
  }

  /** Somebody new shares a chat with the user: only now the server tells of them. */
  met(connection) {
    if (this.#watched.some((user) => !this.#known.has(user))) this.#later(connection, TOLD_AGAIN);
  }

  /** Once for many reasons: the server counts. */
  #later(connection, ms) {
    if (this.#waits || !connection.alive) return;
    this.#waits = true;
    pause(ms, connection.signal).then(() => {
      this.#waits = false;
      if (connection.alive) this.tellServer(connection, false);
    });
  }

  heard({ user, online, last_seen: lastSeen = null }) {
    if (!this.#watched.includes(user)) return;
    const presence = { user, online, last_seen: lastSeen };
    this.#known.set(user, presence);
    this.#core.emit("presence", { ...presence });
  }

  typing(chat) {
    const { connection } = this.#core;
    const now = Date.now();
    if (!connection?.alive || now - (this.#typed.get(chat) ?? -Infinity) < TYPING_EVERY) return;
    // Only what still counts is remembered.
    for (const [other, at] of this.#typed) if (now - at >= TYPING_EVERY) this.#typed.delete(other);
    this.#typed.set(chat, now);
    connection.put({ type: "typing", chat });
  }
}
