// Ticks. The protocol tells a sender that a message is durable, and nothing of what becomes of it at others; read offsets
// are the user's own. So phones tell each other, in a chat of its own that nobody sees, as messages of the kind
// `x.receipt`: `{chat, delivered, read}`. See docs/decisions/0012-ticks.md.

const KIND = "x.receipt";
/** Not more often than this, however much is said. */
const CALM = 400;

/** What others have told about a chat: user -> {delivered, read}. */
export class Receipts {
  #told = new Map();

  /** Takes a message of the side chat. True: something moved. */
  take({ kind, from, content }) {
    if (kind !== KIND || typeof content !== "object" || content === null) return false;
    const { chat, delivered, read } = content;
    if (typeof chat !== "string" || !Number.isSafeInteger(delivered) || !Number.isSafeInteger(read)) return false;
    const users = this.#told.get(chat) ?? new Map();
    const before = users.get(from) ?? { delivered: 0, read: 0 };
    const now = { delivered: Math.max(before.delivered, delivered), read: Math.max(before.read, read) };
    if (now.delivered === before.delivered && now.read === before.read) return false;
    this.#told.set(chat, users.set(from, now));
    return true;
  }

  of(chat, user) { return this.#told.get(chat)?.get(user) ?? { delivered: 0, read: 0 }; }

  /** `sent`, `delivered` (on the phone of every other) or `read` (by every other). */
  tick(chat, seq, others) {
    if (others.length === 0) return "sent";
    const all = (field) => others.every((user) => this.of(chat, user)[field] >= seq);
    if (all("read")) return "read";
    return all("delivered") ? "delivered" : "sent";
  }

  clear() { this.#told.clear(); }
}

/** The phone's half: tells the others what it holds and what its user has read. */
export class Teller {
  #station;
  #timer = null;

  constructor(station) {
    this.#station = station;
    station.on("heard", () => this.#soon());
  }

  #soon() {
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#tell();
    }, CALM);
  }

  #tell() {
    const { client, side, receipts, connected } = this.#station;
    if (!side || !connected) return;
    for (const chat of this.#station.conversations()) {
      const messages = this.#station.timeline(chat.id).messages;
      const last = messages.findLast((message) => message.from !== client.user);
      if (!last) continue;
      const before = receipts.of(chat.id, client.user);
      const read = Math.min(chat.read, last.seq);
      if (last.seq <= before.delivered && read <= before.read) continue;
      client.send(side, { kind: KIND, content: { chat: chat.id, delivered: last.seq, read } }).catch(() => {
        // It is told again with the next message.
      });
    }
  }
}
