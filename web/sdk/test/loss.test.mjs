// Storage that goes away under an open page: the browser needs room, somebody clears the site's data. And phones without a past.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { IDBFactory } from "fake-indexeddb";
import "fake-indexeddb/auto";
import { Keepstep, indexedDB, memory } from "../keepstep.js";
import { startServer } from "./support/server.mjs";
import { FAST, eventually, told, watch, world } from "./support/world.mjs";

let server;
before(async () => { server = await startServer(); });
after(() => server?.stop());

/** Clears the site's data. */
const wipe = (factory, name) => new Promise((resolve, reject) => {
  const asked = factory.deleteDatabase(`keepstep.${name}`);
  asked.onsuccess = resolve;
  asked.onerror = asked.onblocked = reject;
});

/** Empties one object store, as a developer's tools do. */
const emptyStore = (factory, name, store) => new Promise((resolve, reject) => {
  const asked = factory.open(`keepstep.${name}`);
  asked.onerror = reject;
  asked.onsuccess = () => {
    const tx = asked.result.transaction(store, "readwrite");
    tx.objectStore(store).clear();
    tx.oncomplete = () => {
      asked.result.close();
      resolve();
    };
  };
});

const kept = (factory, name) => indexedDB(name, { factory, locks: null });

/** Alice's phone in a page, and bob's, with `count` messages said by bob. */
async function talked(t, count, options = {}) {
  const { device, user } = world(t, server);
  const [alice, bob] = [user("alice"), user("bob")];
  const factory = new IDBFactory();
  const phone = await device(alice, "main", { storage: kept(factory, "phone"), ...options });
  const bobs = await device(bob, "main");
  const { id: chat } = await bobs.createChat({ kind: "direct", with: alice });
  for (let n = 1; n <= count; n++) await bobs.send(chat, `${n}`);
  await eventually("all is there", () => phone.chat(chat)?.top === count);
  const losses = [];
  phone.on("history_lost", (loss) => losses.push(loss));
  return { alice, bob, phone, bobs, chat, factory, device, losses, wipe: () => wipe(factory, "phone") };
}

/** What a phone answers to questions for history. */
function answers(phone) {
  const all = [];
  phone.on("frame", ({ direction, frame }) => {
    if (direction !== "out" || !frame.type.startsWith("history_")) return;
    all.push(frame.code ?? { seqs: frame.messages.map(({ seq }) => seq), more: frame.more });
  });
  return all;
}

/** A log of which only what is above `kept` is left. */
const short = (kept) => async (url, options) => {
  const answer = await fetch(url, options);
  if (!url.includes("/messages?")) return answer;
  const { items, ...rest } = await answer.json();
  return new Response(JSON.stringify({ ...rest, items: items.filter(({ seq }) => seq > kept), more: rest.more && items[0]?.seq > kept }));
};

test("a phone whose storage is cleared under the page says so at once, serves nothing, and is the same device still", async (t) => {
  const { alice, phone, bobs, chat, device, losses, wipe: clear } = await talked(t, 5);
  const id = phone.device;
  const given = answers(phone);
  await clear();
  await eventually("it is told, although nothing happens", () => losses.length > 0, { within: 1_000 });
  assert.deepEqual(losses, [{ kind: "main", chats: null }]);
  await eventually("it is connected again", () => phone.state === "online" && phone.chat(chat));
  assert.deepEqual([phone.device, phone.chat(chat).lost, phone.chat(chat).complete, phone.chat(chat).low, phone.chat(chat).last], [id, true, false, 6, null]);
  assert.ok(!phone.notes.states.some(({ state }) => ["failed", "unauthorized"].includes(state)));

  // A web session isn't told that there is nothing, and nothing that isn't so.
  const web = await device(alice, "sub");
  assert.ok(given.length > 0 && given.every((answer) => answer === "unavailable"), JSON.stringify(given));
  assert.deepEqual([web.state, web.chat(chat).complete], ["online", false]);
  await assert.rejects(web.history(chat), { code: "unavailable", retry: true });

  // What is said from now on it has, and serves: with more that is older.
  await bobs.send(chat, "6");
  await eventually("it came", () => phone.chat(chat).top === 6);
  given.length = 0;
  const late = await device(alice, "sub");
  assert.deepEqual([given[0], late.chat(chat).complete, late.chat(chat).low], [{ seqs: [6], more: true }, false, 6]);
  assert.deepEqual(losses.length, 1);
});

test("what a phone has lost it gets back from the server's log, by wish: then it serves again", async (t) => {
  const { alice, phone, chat, device, wipe: clear } = await talked(t, 250);
  await clear();
  await eventually("it is connected again", () => phone.chat(chat)?.lost);
  const steps = [];
  const pages = [];
  phone.on("history", ({ messages, reason }) => pages.push([reason, messages.length]));
  assert.deepEqual(await phone.recover({ onProgress: (count) => steps.push(count) }), { messages: 250, lost: [] });
  assert.deepEqual([steps, pages], [[100, 200, 250], [["recovered", 100], ["recovered", 100], ["recovered", 50]]]);
  assert.deepEqual([phone.chat(chat).lost, phone.chat(chat).complete, phone.chat(chat).low, phone.chat(chat).unread], [false, true, 1, 250]);
  assert.deepEqual(phone.notes.seqs.get(chat).length, 250, "nothing of it is news");
  const web = await device(alice, "sub");
  assert.deepEqual(await told(web, chat), await told(phone, chat));
  assert.deepEqual(await phone.recover(), { messages: 0, lost: [] });
});

test("an app that asks for it at once, as in the guide, has its phone whole again in a moment; without a connection it is told so", async (t) => {
  const { phone, bobs, chat, wipe: clear } = await talked(t, 5);
  const back = new Promise((resolve) => phone.on("history_lost", async () => resolve(await phone.recover())));
  await clear();
  assert.deepEqual(await back, { messages: 5, lost: [] });
  assert.deepEqual(await told(phone, chat), await told(bobs, chat));
  phone.disconnect();
  await assert.rejects(phone.recover(), { code: "closed" });
});

test("what the log has no more comes from another device of the user, brought by the app", async (t) => {
  const { alice, phone, chat, device, wipe: clear } = await talked(t, 5, { fetch: short(3) });
  const web = await device(alice, "sub");
  await clear();
  await eventually("it is connected again", () => phone.chat(chat)?.lost);
  assert.deepEqual(await phone.recover(), { messages: 2, lost: [chat] });
  const page = await phone.history(chat);
  assert.deepEqual([page.messages.map(({ seq }) => seq), page.more, phone.chat(chat).complete], [[4, 5], false, false]);
  // Lent is what is there; that there was more isn't kept from anybody.
  const given = answers(phone);
  const other = await device(alice, "sub");
  assert.deepEqual(given[0], { seqs: [4, 5], more: true });
  assert.equal(given[1], "unavailable");
  assert.equal(other.chat(chat).complete, false);

  const older = await web.history(chat, { before: phone.chat(chat).low, limit: 1_000 });
  assert.equal(await phone.restoreHistory(chat, older.messages, { complete: !older.more }), 3);
  assert.deepEqual([phone.chat(chat).lost, phone.chat(chat).complete, phone.chat(chat).low], [false, true, 1]);
  assert.deepEqual(await told(phone, chat), await told(web, chat));
  assert.equal(await phone.restoreHistory(chat, older.messages), 0, "a second time nothing is older");
});

test("a reload of the page knows that the history was lost, and whose phone this is", async (t) => {
  const { alice, phone, bobs, chat, device, factory, wipe: clear } = await talked(t, 3);
  await clear();
  await eventually("it is connected again", () => phone.chat(chat)?.lost);
  await phone.close();
  const again = await device(alice, "main", { storage: kept(factory, "phone"), register: undefined });
  assert.deepEqual([again.device, again.chat(chat).lost, again.chat(chat).complete], [phone.device, true, false]);
  await bobs.send(chat, "4");
  await eventually("it goes on", () => again.chat(chat).top === 4);
  assert.deepEqual(again.notes.seqs.get(chat), [4]);
});

test("what waited to be sent when the storage was cleared is sent, once; also what is written in that moment, and offline", async (t) => {
  const { phone, bobs, chat, losses, wipe: clear } = await talked(t, 1);
  phone.disconnect();
  const before = phone.send(chat, "before");
  await eventually("it waits", () => phone.outbox().length === 1);
  const cleared = clear();
  const meanwhile = phone.send(chat, "meanwhile");
  await cleared;
  await eventually("it is told", () => losses.length > 0);
  const behind = phone.send(chat, "behind");
  await eventually("all wait", () => phone.outbox().length === 3);
  assert.equal(phone.state, "closed");
  await phone.connect();
  assert.deepEqual((await Promise.all([before, meanwhile, behind])).map(({ seq }) => seq), [2, 3, 4]);
  await eventually("bob has them", () => bobs.chat(chat).top === 4);
  assert.deepEqual(bobs.notes.contents.get(chat).slice(1), ["before", "meanwhile", "behind"]);
  assert.equal(losses.length, 1);
});

test("a web session whose storage is cleared boots again", async (t) => {
  const { alice, phone, bobs, chat, device } = await talked(t, 30);
  const factory = new IDBFactory();
  const web = await device(alice, "sub", { storage: kept(factory, "web") });
  const losses = [];
  web.on("history_lost", (loss) => losses.push(loss));
  const id = web.device;
  web.notes.states.length = 0;
  await wipe(factory, "web");
  await eventually("it has booted", () => web.state === "online" && web.notes.states.some(({ state }) => state === "booting"));
  assert.deepEqual(losses, [{ kind: "sub", chats: null }]);
  assert.deepEqual(web.notes.states.map(({ state }) => state), ["connecting", "booting", "online"]);
  assert.deepEqual([web.device, web.chat(chat).complete], [id, true]);
  await bobs.send(chat, "31");
  await eventually("live goes on", () => web.chat(chat).top === 31 && phone.chat(chat).top === 31);
  assert.deepEqual(await told(web, chat), await told(phone, chat));
  assert.deepEqual(web.notes.wrong, []);
});

test("a web session that has no phone to boot from says so, in place of showing an empty past", async (t) => {
  const { alice, phone, chat, device } = await talked(t, 3);
  const factory = new IDBFactory();
  const web = await device(alice, "sub", { storage: kept(factory, "web") });
  await web.send(chat, "4"); // behind `ready`: the server lets it stay without the phone
  phone.disconnect();
  await eventually("the phone is gone", () => web.main.online === false);
  await wipe(factory, "web");
  await eventually("it waits for the phone", () => web.state === "main_offline");
  assert.deepEqual(web.chats(), []);
  await phone.connect();
  await eventually("it has booted", () => web.state === "online" && web.chat(chat)?.complete);
  assert.equal((await web.history(chat)).messages.length, 4);
});

test("messages that are emptied behind their chat's back are missed: by the next question, and by the next life of the page", async (t) => {
  const { alice, phone, chat, factory, device, losses } = await talked(t, 3, { fetch: short(100) });
  const given = answers(phone);
  await emptyStore(factory, "phone", "messages");
  const web = await device(alice, "sub");
  assert.deepEqual(losses, [{ kind: "main", chats: [chat] }]);
  assert.ok(given.length > 0 && given.every((answer) => answer === "unavailable"), JSON.stringify(given));
  assert.deepEqual([phone.chat(chat).lost, phone.chat(chat).complete, web.chat(chat).complete], [true, false, false]);

  await phone.send(chat, "4");
  await eventually("it is stored", () => phone.chat(chat).top === 4);
  await phone.close();
  await emptyStore(factory, "phone", "messages");
  const again = await device(alice, "main", { storage: kept(factory, "phone"), connect: false });
  const told = [];
  again.on("history_lost", (loss) => told.push(loss));
  await again.open();
  assert.deepEqual([told, again.chat(chat).last, again.chat(chat).low], [[{ kind: "main", chats: [chat] }], null, 5]);
});

test("a phone that comes back with its token and an empty storage knows that it had more", async (t) => {
  const { phone, chat } = await talked(t, 3);
  const { token } = phone;
  await phone.close();
  const again = watch(new Keepstep({ url: server.url, token, storage: memory(), timing: FAST }));
  t.after(() => again.close());
  const told = [];
  again.on("history_lost", (loss) => told.push(loss));
  await again.connect();
  await eventually("it knows its chat", () => again.chat(chat));
  assert.deepEqual([told, again.chat(chat).lost, again.chat(chat).complete], [[{ kind: "main", chats: [chat] }], true, false]);
});

test("a phone that takes another's place has the unread messages, and finds older ones in the server's log", async (t) => {
  const { alice, phone, bobs, chat, device } = await talked(t, 260);
  await phone.read(chat, 10);
  await eventually("the server knows", async () => (await phone.getChat(chat)).read === 10);
  await phone.close();
  const next = await device(alice, "main", { storage: memory(), connect: false });
  await assert.rejects(next.connect(), { code: "main_exists" });
  await next.connect({ replace: true });
  await eventually("they are counted", () => next.chat(chat).unread === 250);
  assert.deepEqual([next.chat(chat).unreadMore, next.chat(chat).low, next.chat(chat).last.seq], [false, 11, 260]);
  assert.deepEqual([next.chat(chat).lost, next.chat(chat).complete, next.notes.seqs.size], [false, false, 0]);
  await bobs.send(chat, "261");
  await eventually("it came", () => next.chat(chat).unread === 251);
  // Its web sessions get what the log has, too.
  const web = await device(alice, "sub", { bootstrap: 1_000 });
  assert.equal((await web.history(chat, { limit: 1_000 })).messages.length, 261);
  assert.equal(web.chat(chat).complete, true);
  const page = await next.history(chat, { limit: 1_000 });
  assert.deepEqual([page.messages.length, page.more, next.chat(chat).complete], [261, false, true]);
});

test("a storage that was closed stays closed: who is late opens nothing, and so leaves nothing behind", async (t) => {
  const factory = new IDBFactory();
  const { device, user } = world(t, server);
  const storage = kept(factory, "gone");
  const phone = await device(user("alice"), "main", { storage });
  const { id: chat } = await phone.createChat({ kind: "group" });
  await phone.send(chat, "one");
  await eventually("stored", () => phone.chat(chat).top === 1);
  const late = [];
  const ask = (question) => late.push(question.then(() => "given", ({ code }) => code));
  ask(phone.history(chat)); // as the page is left
  ask(storage.messages(chat, { before: 10, limit: 1 }));
  await phone.close();
  ask(storage.messages(chat, { before: 10, limit: 1 }));
  ask(storage.write({ values: { late: true } }));
  await wipe(factory, "gone");
  ask(storage.messages(chat, { before: 10, limit: 1 }));
  assert.deepEqual((await Promise.all(late)).slice(2), ["closed", "closed", "closed"]);
  assert.deepEqual(await factory.databases(), []);
});
