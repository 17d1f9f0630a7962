// A storage, and with it a device, for each tab.
import { indexedDB } from "./indexeddb.js";
import { uuid } from "./events.js";
import { KeepstepError } from "./errors.js";

/** More tabs than any browser has of one page. */
const MOST = 1_000;
/** Where a tab keeps which one is its own, by the name that it asked for. */
const KEY = "keepstep.tab.";

/** See keepstep.d.ts. */
export async function tabStorage(name, { factory, locks = globalThis.navigator?.locks, session = globalThis.sessionStorage } = {}) {
  const make = (called) => indexedDB(called, { ...(factory ? { factory } : {}), locks });
  const own = session.getItem(KEY + name);
  if (!locks) {
    // Nobody can say which tabs are there, so each has a name at random. One that was duplicated has its twin's, and one of the two is
    // told `replaced`.
    const called = own ?? `${name}.${uuid()}`;
    session.setItem(KEY + name, called);
    return make(called);
  }
  // Its own of before it was reloaded: that may be let go of only now. A duplicated tab begins with the name of its twin, who keeps it.
  if (own !== null) {
    const storage = make(own);
    if (await storage.claim()) return storage;
  }
  for (let n = 1; n <= MOST; n++) {
    const called = n === 1 ? name : `${name}.${n}`;
    const storage = make(called);
    if (called === own || !(await storage.claim({ wait: 0 }))) continue;
    session.setItem(KEY + name, called);
    return storage;
  }
  throw new KeepstepError("limit_reached", `${MOST} tabs have a storage of the name ${name} each`);
}
