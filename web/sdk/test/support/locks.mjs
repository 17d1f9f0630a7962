// Web Locks as browsers have them, of as many tabs as a test likes: all that share one of these.

export function lockManager() {
  const held = new Map(); // name -> {steal}
  const queues = new Map();

  const next = (name) => {
    const waiting = queues.get(name)?.shift();
    if (waiting) waiting();
  };

  async function hold(name, callback) {
    let stolen;
    const theft = new Promise((_, reject) => { stolen = reject; });
    const mine = { steal: () => stolen(new DOMException("Lock broken by another request with the 'steal' option.", "AbortError")) };
    held.set(name, mine);
    try {
      return await Promise.race([callback({ name, mode: "exclusive" }), theft]);
    } finally {
      if (held.get(name) === mine) {
        held.delete(name);
        next(name);
      }
    }
  }

  return {
    async request(name, { steal = false, ifAvailable = false, signal } = {}, callback) {
      if (steal) {
        const before = held.get(name);
        const got = hold(name, callback);
        before?.steal();
        return got;
      }
      if (!held.has(name)) return hold(name, callback);
      if (ifAvailable) return callback(null);
      await new Promise((resolve, reject) => {
        const queue = queues.get(name) ?? [];
        queues.set(name, queue);
        queue.push(resolve);
        signal?.addEventListener("abort", () => {
          const at = queue.indexOf(resolve);
          if (at < 0) return;
          queue.splice(at, 1);
          reject(signal.reason);
        });
      });
      return hold(name, callback);
    },
  };
}
