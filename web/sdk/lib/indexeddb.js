// A storage in the browser's IndexedDB. See `Storage` in keepstep.d.ts.
import { KeepstepError } from "./errors.js";

const STORES = ["values", "chats", "messages", "outbox"];

export function indexedDB(name, { factory = globalThis.indexedDB } = {}) {
  if (!factory) throw new KeepstepError("storage", "there is no IndexedDB here: use memory(), or a storage of your own");
  let opening = null;
  const open = () => (opening ??= openDatabase(factory, `keepstep.${name}`, () => { opening = null; }));

  /** One transaction; resolves when it is on disk, with what `work` put into its first argument. */
  async function transaction(mode, stores, work) {
    const db = await open();
    return new Promise((resolve, reject) => {
      const result = {};
      let tx = null;
      try {
        tx = db.transaction(stores, mode, { durability: "strict" });
        tx.oncomplete = () => resolve(result);
        tx.onabort = () => reject(new KeepstepError("storage", `IndexedDB: ${tx.error?.message ?? "the transaction was aborted"}`, { cause: tx.error }));
        work(result, ...stores.map((store) => tx.objectStore(store)));
      } catch (error) {
        // Without a transaction the database was closed: site data was cleared, or a newer version of the page wants it.
        const text = tx ? error.message : `the database was closed, reload the page (${error.message})`;
        reject(new KeepstepError("storage", `IndexedDB: ${text}`, { cause: error }));
        tx?.abort();
      }
    });
  }

  return {
    async load() {
      const found = await transaction("readonly", ["values", "chats", "outbox"], (result, values, chats, outbox) => {
        values.getAll().onsuccess = ({ target }) => { result.values = target.result; };
        chats.getAll().onsuccess = ({ target }) => { result.chats = target.result; };
        outbox.getAll().onsuccess = ({ target }) => { result.outbox = target.result; };
      });
      return {
        values: Object.fromEntries(found.values.map((entry) => [entry.name, entry.value])),
        chats: found.chats,
        outbox: found.outbox.sort((one, other) => one.n - other.n),
      };
    },
    async write(changes) {
      await transaction("readwrite", STORES, (_, values, chats, messages, outbox) => {
        for (const [name, value] of Object.entries(changes.values ?? {})) {
          if (value === null) values.delete(name);
          else values.put({ name, value });
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
      await transaction("readwrite", STORES, (_, ...stores) => stores.forEach((store) => store.clear()));
    },
    async close() {
      const db = await opening?.catch(() => null);
      opening = null;
      db?.close(); // lets what is under way end first
    },
  };
}

/** The messages of a chat below a seq. */
const range = (chat, before) => IDBKeyRangeOf().bound([chat, -Infinity], [chat, before], false, true);

function IDBKeyRangeOf() {
  if (globalThis.IDBKeyRange) return globalThis.IDBKeyRange;
  throw new KeepstepError("storage", "there is no IDBKeyRange here: a factory of your own needs it as a global");
}

function openDatabase(factory, name, onGone) {
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
      onGone();
      reject(new KeepstepError("storage", `IndexedDB: ${request.error?.message}`, { cause: request.error }));
    };
    request.onsuccess = () => {
      const db = request.result;
      // A newer version of the page, or "clear site data", must not wait for this one.
      db.onversionchange = () => db.close();
      db.onclose = onGone;
      resolve(db);
    };
  });
}
