// A site's data that the browser clears at a moment of the test's choice: right before a page begins a transaction. The page stands still
// while that is done, so it can't have heard of it. Without this the moment lasts about a millisecond, more on a busy machine.

const ASKED = "/clear-the-data";

/**
 * For `addInitScript`: `clearBefore(database, caller)` waits for the next transaction on a database with this in its name that comes
 * from code with this in its file's name.
 */
function standStill(asked) {
  const begin = IDBDatabase.prototype.transaction;
  Error.stackTraceLimit = 50;
  let awaited = null;
  globalThis.clearBefore = (database, caller) => { awaited = { database, caller }; };
  globalThis.clearNow = () => {
    const question = new XMLHttpRequest();
    question.open("GET", asked, false);
    question.send();
  };
  IDBDatabase.prototype.transaction = function (...args) {
    if (awaited && this.name.includes(awaited.database) && new Error().stack.includes(awaited.caller)) {
      awaited = null;
      globalThis.clearNow();
    }
    return begin.apply(this, args);
  };
}

/** Before the page goes anywhere: it gets `clearBefore`, and `clearNow()`, which clears at once. Gives how many times it was done. */
export async function clearable(page) {
  const session = await page.context().newCDPSession(page);
  const done = { times: 0 };
  await page.addInitScript(standStill, ASKED);
  await page.route(`**${ASKED}`, async (route) => {
    await session.send("Storage.clearDataForOrigin", { origin: new URL(route.request().url()).origin, storageTypes: "indexeddb" });
    done.times += 1;
    await route.fulfill({ body: "" });
  });
  return done;
}
