// A storage in the browser's IndexedDB. See `Storage` in keepstep.d.ts.
//
// Each transaction reads a *mark* first: which store this is, and whose it is. A store that was emptied under an open page has
// none any more, or another's; one that another tab has taken has that tab's. Nothing is written then, and nothing that was
// read counts. So this holds without Web Locks, too; they only decide who may take it.
import { KeepstepError } from "./errors.js";
import { pause, uuid } from "./events.js";
import { Lock } from "./lock.js";

const STORES = ["values", "chats", "messages", "outbox"];
/** A name in `values` that no client's is. */
const MARK = "\u0000mark";
/** Between two looks at a database that was closed: ever more, for a minute in all. */
const LOOK_AGAIN = 20;
const LOOK_LAST = 30_000;
/** Milliseconds that a transaction waits for such a look at most. */
const LOOK_WAIT = 2_000;
/** A transaction that the browser ends runs so many times at most. */
const TRIES = 3;

/** The browser ended a transaction, or closed its database: it may be clearing the site's data. */
class Ended extends KeepstepError {
  constructor(cause) {
    super("storage", `IndexedDB: ${cause?.message ?? "the browser closed the database"}`, { cause });
  }
}

export function indexedDB(name, { factory = globalThis.indexedDB, locks = globalThis.navigator?.locks } = {}) {
  if (!factory) throw new KeepstepError("storage", "there is no IndexedDB here: use memory(), or a storage of your own");
  const lock = new Lock(`keepstep.${name}`, locks);
  let opening = null;
  let closed = false;
  /** `{store, owner}`, as this one wrote it; null: it hasn't yet. */
  let mine = null;
  /** Who wants to know when it is gone. */
  let watcher = () => {};

  const open = () => {
    if (opening) return opening;
    const forget = (connection) => { if (opening === connection) opening = null; };
    const connection = openDatabase(factory, `keepstep.${name}`, {
      failed: () => forget(connection),
      gone: () => {
        forget(connection);
        look();
      },
    });
    return (opening = connection);
  };

  /** The look that is under way, else null. */
  let looking = null;

  /** The browser closed the database: whether anything is left of it, the mark says. While it is being cleared nobody can read that. */
  function look() {
    return (looking ??= search().finally(() => { looking = null; }));
  }

  async function search() {
    for (let wait = LOOK_AGAIN; !closed && wait <= LOOK_LAST; wait *= 2) {
      try {
        await attempt("readonly", ["values"], () => {});
        return;
      } catch (error) {
        if (error.code === "storage_lost" || error.code === "replaced") return watcher(error);
      }
      await pause(wait);
    }
  }

  /** Waits for the look that is under way, `LOOK_WAIT` at most. */
  async function looked() {
    const over = new AbortController();
    await Promise.race([looking, pause(LOOK_WAIT, over.signal)]);
    over.abort();
  }

  /**
   * Runs a transaction; resolves when it is on disk, with what `work` put into its first argument. `take`: the store becomes this one's.
   * A transaction that the browser ended runs again behind a look at the mark: either the store is there, or it is known to be cleared.
   * Later ones wait for that look, too: all keep their order.
   */
  async function transaction(mode, stores, work, how = {}) {
    const before = mine;
    for (let left = TRIES; ; left--) {
      if (looking) await looked();
      // It waited while this client took the store anew: what it knows is of before.
      if (before !== null && mine !== before) throw new KeepstepError("storage", "the storage was opened anew meanwhile");
      try {
        return await attempt(mode, stores, work, how);
      } catch (error) {
        if (!(error instanceof Ended) || left === 1) throw error;
        look();
      }
    }
  }

  /** Runs a transaction once. */
  async function attempt(mode, stores, work, { take = false } = {}) {
    if (closed) throw new KeepstepError("closed", "this storage was closed");
    const connection = open();
    const { db, running } = await connection;
    if (closed) throw new KeepstepError("closed", "this storage was closed");
    return new Promise((resolve, reject) => {
      const result = {};
      let tx = null;
      let wrong = null;
      const guarded = (job) => {
        try {
          job();
        } catch (error) {
          if (!tx && opening !== connection) return reject(new Ended(error)); // it was closed while this one waited for its turn
          // Without a transaction the database was closed: a newer version of the page wants it.
          const text = tx ? error.message : `the database was closed, reload the page (${error.message})`;
          wrong ??= new KeepstepError("storage", `IndexedDB: ${text}`, { cause: error });
          if (!tx) return reject(wrong);
          try {
            tx.abort();
          } catch {
            // it was over already
          }
        }
      };
      const before = mine;
      let marked;
      const over = (error) => {
        running.delete(end);
        if (!error) return resolve(result);
        if (mine === marked) mine = before; // it isn't written
        reject(error);
      };
      const end = () => over(wrong ?? new Ended());
      guarded(() => {
        tx = db.transaction([...new Set(["values", ...stores])], mode, { durability: "strict" });
        running.add(end);
        tx.oncomplete = () => over(null);
        tx.onabort = () => over(wrong ?? aborted(tx.error));
        const values = tx.objectStore("values");
        values.get(MARK).onsuccess = ({ target }) => guarded(() => {
          const mark = target.result?.value ?? null;
          if (take || (mine === null && mode === "readwrite")) {
            mine = marked = { store: mark?.store ?? uuid(), owner: uuid() };
            values.put({ name: MARK, value: mine });
          } else if (mine !== null && mark?.store !== mine.store) {
            wrong = new KeepstepError("storage_lost", "what this device had stored is gone: the site's data was cleared");
            return tx.abort();
          } else if (mine !== null && mark.owner !== mine.owner) {
            wrong = new KeepstepError("replaced", "another tab or window has opened this device");
            return tx.abort();
          }
          work(result, ...stores.map((store) => tx.objectStore(store)));
        });
      });
    });
  }

  return {
    /** See `Storage.claim`. */
    async claim({ force = false, wait, watch = () => {} } = {}) {
      closed = false;
      watcher = watch;
      return lock.take({ force, wait, lost: () => watcher(new KeepstepError("replaced", "another tab or window has opened this device")) });
    },
    async load() {
      closed = false;
      const found = await transaction("readwrite", ["values", "chats", "outbox"], (result, values, chats, outbox) => {
        values.getAll().onsuccess = ({ target }) => { result.values = target.result; };
        chats.getAll().onsuccess = ({ target }) => { result.chats = target.result; };
        outbox.getAll().onsuccess = ({ target }) => { result.outbox = target.result; };
      }, { take: true });
      return {
        values: Object.fromEntries(found.values.filter(({ name: called }) => called !== MARK).map((entry) => [entry.name, entry.value])),
        chats: found.chats,
        outbox: found.outbox.sort((one, other) => one.n - other.n),
      };
    },
    async write(changes) {
      await transaction("readwrite", STORES, (_, values, chats, messages, outbox) => {
        for (const [called, value] of Object.entries(changes.values ?? {})) {
          if (value === null) values.delete(called);
          else values.put({ name: called, value });
        }
        for (const id of changes.removeChats ?? []) {
          chats.delete(id);
          messages.delete(range(id, Infinity));
        }
        for (const chat of changes.chats ?? []) chats.put(chat);
        for (const message of changes.messages ?? []) messages.put(message);
        for (const key of changes.removeOutbox ?? []) outbox.delete(key);
        for (const entry of changes.outbox ?? []) outbox.put(entry);
      });
    },
    async messages(chat, { before, limit }) {
      const { found } = await transaction("readonly", ["messages"], (result, messages) => {
        result.found = [];
        messages.openCursor(range(chat, before), "prev").onsuccess = ({ target: { result: cursor } }) => {
          if (!cursor) return;
          result.found.push(cursor.value);
          if (result.found.length < limit) cursor.continue();
        };
      });
      return found.reverse();
    },
    async clear() {
      await transaction("readwrite", STORES, (_, ...stores) => {
        stores.forEach((store) => store.clear());
        stores[0].put({ name: MARK, value: mine });
      });
    },
    async close() {
      closed = true; // whoever still asks mustn't open it again: it may be about to be deleted
      const connection = await opening?.catch(() => null);
      opening = null;
      connection?.db.close(); // lets what is under way end first
      lock.release();
    },
  };
}

/** The messages of a chat below a seq. */
const range = (chat, before) => IDBKeyRangeOf().bound([chat, -Infinity], [chat, before], false, true);

function IDBKeyRangeOf() {
  if (globalThis.IDBKeyRange) return globalThis.IDBKeyRange;
  throw new KeepstepError("storage", "there is no IDBKeyRange here: a factory of your own needs it as a global");
}

/** Why the browser aborted a transaction. A store that is full isn't being cleared. */
const aborted = (error) => (error?.name === "QuotaExceededError"
  ? new KeepstepError("storage", `IndexedDB: ${error.message}`, { cause: error })
  : new Ended(error ?? new Error("the transaction was aborted")));

/** `{db, running}`; `running`: what ends each transaction that is under way. */
function openDatabase(factory, name, { failed, gone }) {
  return new Promise((resolve, reject) => {
    const request = factory.open(name, 1);
    request.onupgradeneeded = () => {
      const db = request.result;
      db.createObjectStore("values", { keyPath: "name" });
      db.createObjectStore("chats", { keyPath: "id" });
      db.createObjectStore("messages", { keyPath: ["chat", "seq"] });
      db.createObjectStore("outbox", { keyPath: "key" });
    };
    request.onerror = () => {
      failed();
      const { error } = request;
      // Aborted: it is being cleared just now.
      reject(error?.name === "AbortError" ? new Ended(error) : new KeepstepError("storage", `IndexedDB: ${error?.message}`, { cause: error }));
    };
    request.onsuccess = () => {
      const db = request.result;
      const running = new Set();
      // Whoever deletes it, or a newer version of the page, must not wait for this one.
      db.onversionchange = ({ newVersion }) => {
        db.close();
        if (newVersion === null) gone();
      };
      db.onclose = () => {
        gone();
        // Chromium never answers a transaction that began after it had closed the database, and before it told so.
        for (const end of [...running]) end();
      };
      resolve({ db, running });
    };
  });
}
