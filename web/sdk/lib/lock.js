// One tab, one device: a Web Lock says which tab has it. Where there are none (a page without TLS, Node) everybody gets it.

/** A page that is being reloaded lets go of its lock a moment after the new one asks for it. */
const RELOAD = 1_000;

export class Lock {
  #name;
  #locks;
  /** Lets go of it; null: it isn't held. */
  #free = null;
  #lost = () => {};

  constructor(name, locks) {
    this.#name = name;
    this.#locks = locks;
  }

  /**
   * True: it is held. `wait`: milliseconds to wait for whoever holds it. `force`: takes it from them. `lost` is called when
   * somebody else has done that.
   */
  take({ force = false, wait = RELOAD, lost = () => {} } = {}) {
    this.#lost = lost;
    if (!this.#locks || this.#free) return Promise.resolve(true);
    return new Promise((resolve, reject) => {
      let free = null;
      const hold = (lock) => {
        if (lock === null) return resolve(false);
        const end = new Promise((over) => { free = over; });
        this.#free = free;
        resolve(true);
        return end;
      };
      const how = force ? { steal: true } : wait > 0 ? { signal: AbortSignal.timeout(wait) } : { ifAvailable: true };
      this.#locks.request(this.#name, how, hold).catch((error) => {
        if (free && this.#free === free) {
          this.#free = null;
          this.#lost();
        } else if (!free && (error?.name === "TimeoutError" || error?.name === "AbortError")) {
          resolve(false);
        } else {
          reject(error);
        }
      });
    });
  }

  release() {
    this.#free?.();
    this.#free = null;
  }
}
