// Who plays here: two made-up users, remembered for a day; or somebody with a token; or an invited Bob.

import { hasPlayground, playground } from "./server.js";
import { madeUp } from "./words.js";

const KEY = "keepstep-demo";
/** The SDK's name for what a phone calls `keepstep-demo-…`, see station.js. */
const DATABASE = "keepstep.keepstep-demo-";
const DAY = 23 * 3600 * 1000;
/** So long a database that another connection still holds is waited for, in milliseconds. */
const PATIENCE = 5000;

const read = (store) => { try { return JSON.parse(store().getItem(KEY)); } catch { return null; } };
const write = (store, value) => {
  try {
    if (value) store().setItem(KEY, JSON.stringify(value));
    else store().removeItem(KEY);
  } catch { /* A browser that keeps nothing: then it is for this page only. */ }
};
const lasting = () => localStorage;
const passing = () => sessionStorage;

/**
 * `{users: [{user, token}], second_edge?}` with one user or two, and `invited: true` for a guest; null: this server has no
 * playground, and there is no token.
 */
export async function open() {
  const invited = /^#join=([\w.-]+)$/.exec(location.hash);
  if (invited) {
    // A token doesn't belong into an address that somebody may copy.
    history.replaceState(null, "", location.pathname);
    // Where users are real, whoever follows a link must not become somebody else by that, and write as them.
    if (await hasPlayground()) return keep(passing, { invited: true, users: [{ user: subject(invited[1]), token: invited[1] }] });
  }
  const guest = read(passing);
  if (guest?.until > Date.now() && await hasPlayground()) return guest;
  const known = read(lasting);
  if (known?.until > Date.now()) return known;
  if (known) await forget();
  sweep();
  const made = await playground();
  return made && keep(lasting, made);
}

/** With a token that somebody pasted. Throws if it is none. */
export function withToken(token) {
  return keep(lasting, { users: [{ user: subject(token), token }] });
}

/** The address that lets another browser be this user, too. */
export const invitation = ({ token }) => `${location.origin}/#join=${token}`;

/** Forgets the users and what their phones keep here. */
export async function forget() {
  const users = read(lasting)?.users ?? [];
  write(lasting, null);
  write(passing, null);
  await Promise.all(users.map(({ user }) => new Promise((resolve) => {
    const asked = indexedDB.deleteDatabase(DATABASE + user);
    asked.onsuccess = asked.onerror = resolve;
    // Blocked is no end: it is deleted once the last connection to it has closed, if this page is still there then.
    setTimeout(resolve, PATIENCE);
  })));
}

// What made-up users who were forgotten have left here all the same, because the page went before it was deleted: they can't come
// back. (What a page that is open uses is held by a lock of the same name.)
async function sweep() {
  const [left = [], { held = [] } = {}] = await Promise.all([indexedDB.databases?.().catch(() => []), navigator.locks?.query().catch(() => ({}))]);
  for (const { name } of left) {
    if (!name?.startsWith(DATABASE) || !madeUp(name.slice(DATABASE.length)) || held.some((lock) => lock.name === name)) continue;
    indexedDB.deleteDatabase(name);
  }
}

function keep(store, session) {
  const whole = { ...session, until: Date.now() + DAY };
  write(store, whole);
  return whole;
}

// Only to show a name: who somebody is, the server decides.
function subject(token) {
  try {
    const [, claims] = token.split(".");
    const { sub } = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(claims.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0))));
    if (typeof sub === "string" && sub) return sub;
  } catch { /* told below */ }
  throw new Error("This isn't a user token: paste the whole text, such as eyJ… with two dots in it.");
}
