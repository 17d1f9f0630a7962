// A storage in memory: gone with the page. See `Storage` in keepstep.d.ts.

export function memory() {
  let values = new Map();
  let chats = new Map();
  let outbox = new Map();
  // Per chat a list ascending by seq.
  let messages = new Map();
  // What is given and taken are copies, as with a real one: nobody changes what is stored behind its back.
  const copy = (value) => structuredClone(value);

  function store(message) {
    if (!messages.has(message.chat)) messages.set(message.chat, []);
    const list = messages.get(message.chat);
    const at = place(list, message.seq);
    list.splice(at, list[at]?.seq === message.seq ? 1 : 0, message);
  }

  return {
    async load() {
      const waiting = [...outbox.values()].sort((one, other) => one.n - other.n);
      return copy({ values: Object.fromEntries(values), chats: [...chats.values()], outbox: waiting });
    },
    async write(changes) {
      const all = copy(changes);
      for (const [name, value] of Object.entries(all.values ?? {})) {
        if (value === null) values.delete(name);
        else values.set(name, value);
      }
      for (const id of all.removeChats ?? []) {
        chats.delete(id);
        messages.delete(id);
      }
      for (const chat of all.chats ?? []) chats.set(chat.id, chat);
      for (const message of all.messages ?? []) store(message);
      for (const key of all.removeOutbox ?? []) outbox.delete(key);
      for (const entry of all.outbox ?? []) outbox.set(entry.key, entry);
    },
    async messages(chat, { before, limit }) {
      const list = messages.get(chat) ?? [];
      const end = place(list, before);
      return copy(list.slice(Math.max(0, end - limit), end));
    },
    async clear() {
      values = new Map();
      chats = new Map();
      outbox = new Map();
      messages = new Map();
    },
    async close() {},
  };
}

/** Where in an ascending list the first seq at or above this one is. */
function place(list, seq) {
  let low = 0;
  let high = list.length;
  if (high === 0 || list[high - 1].seq < seq) return high; // nearly always
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle].seq < seq) low = middle + 1;
    else high = middle;
  }
  return low;
}
