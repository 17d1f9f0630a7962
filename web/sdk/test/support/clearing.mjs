// An IndexedDB that is taken away from under a page as Chromium does it. It closes the databases at once, and the page hears of it a
// moment later: a transaction that the page begins in between is never answered.
import { IDBFactory } from "fake-indexeddb";

/** What Chromium makes of a transaction that begins on a database which it has closed: nothing ever comes of it. */
const unanswered = () => ({ abort() {}, objectStore: () => new Proxy({}, { get: () => () => ({}) }) });

/**
 * `factory`, the pages' IndexedDB. `close(name)` closes a database, and gives the function that tells its pages so; it clears the database
 * first, if it is called with `{clear: true}`. `begun` is called with the database's name when a page begins a transaction.
 */
export function clearing() {
  const real = new IDBFactory();
  const connections = new Map();
  let refused = 0;
  const site = { begun: () => {} };

  const noted = (name, db) => {
    const connection = { db, running: new Set(), closed: false };
    const begin = db.transaction.bind(db);
    db.transaction = (...args) => {
      site.begun(name);
      if (connection.closed) return unanswered();
      const tx = begin(...args);
      connection.running.add(tx);
      for (const event of ["complete", "abort"]) tx.addEventListener(event, () => connection.running.delete(tx));
      return tx;
    };
    connections.set(name, [...(connections.get(name) ?? []), connection]);
  };

  site.factory = {
    open(name, version) {
      if (refused > 0) {
        refused -= 1;
        const request = { error: new DOMException("The connection was closed.", "AbortError") };
        setTimeout(() => request.onerror());
        return request;
      }
      const request = real.open(name, version);
      request.addEventListener("success", () => noted(name, request.result));
      return request;
    },
    deleteDatabase: (name) => real.deleteDatabase(name),
    databases: () => real.databases(),
  };

  site.close = (name) => {
    const closed = connections.get(name) ?? [];
    connections.delete(name);
    for (const connection of closed) {
      connection.closed = true;
      for (const tx of connection.running) tx.abort();
    }
    return async ({ clear }) => {
      for (const { db } of closed) db.close();
      if (clear) await new Promise((resolve, reject) => {
        const asked = real.deleteDatabase(name);
        asked.onsuccess = resolve;
        asked.onerror = asked.onblocked = reject;
      });
      refused = 1; // it comes too early
      for (const { db } of closed) db.onclose(new Event("close"));
    };
  };
  return site;
}
