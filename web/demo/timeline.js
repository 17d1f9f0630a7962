// The messages of one chat that a device has shown so far: ascending by seq, each once. Pure.

export class Timeline {
  /** Ascending. */
  messages = [];
  /** There is nothing older to be had. */
  complete = false;
  /** The highest seq that was borrowed from the phone; null: nothing was. */
  borrowed = null;
  /** How many were borrowed. */
  count = 0;
  version = 0;

  get low() { return this.messages[0]?.seq ?? null; }
  get top() { return this.messages.at(-1)?.seq ?? 0; }

  add(messages) {
    let changed = false;
    for (const message of messages) changed = this.#put(message) || changed;
    if (changed) this.version += 1;
    return changed;
  }

  #put(message) {
    const all = this.messages;
    if (all.length === 0 || message.seq > all.at(-1).seq) {
      all.push(message);
      return true;
    }
    const at = position(all, message.seq);
    if (all[at]?.seq === message.seq) return false;
    all.splice(at, 0, message);
    return true;
  }
}

/** Where `seq` is, or would be, in an ascending list. */
export function position(messages, seq) {
  let low = 0;
  let high = messages.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (messages[middle].seq < seq) low = middle + 1;
    else high = middle;
  }
  return low;
}
