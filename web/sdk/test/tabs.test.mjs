// Two tabs with one storage, and a storage for each tab. (In a real browser: tests/pages/tabs.test.mjs.)
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { IDBFactory } from "fake-indexeddb";
import "fake-indexeddb/auto";
import { indexedDB, tabStorage } from "../keepstep.js";
import { lockManager } from "./support/locks.mjs";
import { startServer } from "./support/server.mjs";
import { eventually, stays, told, world } from "./support/world.mjs";

let server;
before(async () => { server = await startServer(); });
after(() => server?.stop());

/** Tabs of one browser: what they share. `tab(name)` is the storage that a page in a tab of its own opens. */
function browser({ locks = lockManager() } = {}) {
  const factory = new IDBFactory();
  return { factory, locks, tab: (name) => indexedDB(name, { factory, locks }) };
}

/** What a tab keeps for itself; a duplicate begins with a copy. */
function session(copied) {
  const all = new Map(copied?.all);
  return { all, getItem: (key) => all.get(key) ?? null, setItem: (key, value) => void all.set(key, value) };
}

test("a second tab with the same device is told so, disturbs nobody, and takes it over by wish; the first can take it back", async (t) => {
  const { device, user } = world(t, server);
  const { tab } = browser();
  const alice = user("alice");
  const first = await device(alice, "main", { storage: tab("phone") });
  const { id: chat } = await first.createChat({ kind: "group" });
  await first.send(chat, "from the first");
  await eventually("it is stored", () => first.chat(chat).top === 1);
  const second = await device(alice, "main", { storage: tab("phone"), connect: false });
  await assert.rejects(second.connect(), { code: "replaced" });
  assert.deepEqual([second.state, second.status.code, second.status.error.code], ["replaced", null, "replaced"]);
  assert.match(second.status.text, /another tab/);
  await stays(second, "replaced");
  for (const call of [() => second.open(), () => second.history(chat), () => second.send(chat, "x")]) await assert.rejects(call, { code: "replaced" });
  assert.deepEqual([first.state, first.notes.states.length], ["online", 2]);

  // Somebody presses "use it here".
  await second.connect();
  await eventually("the first knows", () => first.state === "replaced");
  assert.equal(second.device, first.device);
  assert.deepEqual(await told(second, chat), [`#1 ${alice}: from the first`]);
  await second.send(chat, "from the second");
  await eventually("it is stored", () => second.chat(chat).top === 2);
  await assert.rejects(first.send(chat, "not from here"), { code: "replaced" });
  await stays(first, "replaced");

  // And back: it reads what the other one has stored meanwhile, and is told nothing of it twice.
  await first.connect();
  await eventually("the second knows", () => second.state === "replaced");
  assert.deepEqual(await told(first, chat), [`#1 ${alice}: from the first`, `#2 ${alice}: from the second`]);
  assert.deepEqual(first.notes.seqs.get(chat), [1]);
  assert.deepEqual([...first.notes.errors, ...second.notes.errors], []);
});

test("what waits in the outbox of a tab that loses its device is sent by the one that has it, once", async (t) => {
  const { device, user } = world(t, server);
  const { tab } = browser();
  const alice = user("alice");
  const first = await device(alice, "main", { storage: tab("phone") });
  const { id: chat } = await first.createChat({ kind: "group" });
  first.disconnect();
  const waiting = first.send(chat, "written in the first");
  await eventually("it waits", () => first.outbox().length === 1);
  const second = await device(alice, "main", { storage: tab("phone"), connect: false });
  await assert.rejects(second.connect(), { code: "replaced" });
  await second.connect();
  await assert.rejects(waiting, { code: "replaced" });
  await eventually("it is sent", () => second.outbox().length === 0 && second.chat(chat).top === 1);
  assert.deepEqual(await told(second, chat), [`#1 ${alice}: written in the first`]);
  assert.equal(first.state, "replaced");
});

test("a tab that is closed, or reloaded, lets go of its device", async (t) => {
  const { device, user } = world(t, server);
  const { tab } = browser();
  const alice = user("alice");
  const first = await device(alice, "main", { storage: tab("phone") });
  // The page that is there after a reload asks before the old one is quite gone.
  const second = await device(alice, "main", { storage: tab("phone"), connect: false });
  const connecting = second.connect();
  await new Promise((resolve) => setTimeout(resolve, 50));
  await first.close();
  await connecting;
  assert.deepEqual([second.state, second.device, second.notes.states.length], ["online", first.device, 2]);
});

test("without Web Locks who opens it last has it; the other one writes nothing any more, and is told by its next step", async (t) => {
  const { device, user } = world(t, server);
  const { tab, factory } = browser({ locks: null });
  const alice = user("alice");
  const first = await device(alice, "main", { storage: tab("phone") });
  const { id: chat } = await first.createChat({ kind: "group" });
  await first.send(chat, "one");
  await eventually("it is stored", () => first.chat(chat).top === 1);
  const second = await device(alice, "main", { storage: tab("phone") });
  assert.equal(second.device, first.device);
  await eventually("the first knows", () => first.state === "replaced"); // by the server: 4409
  await assert.rejects(first.send(chat, "not from here"), { code: "replaced" });
  await second.send(chat, "two");
  await eventually("it is stored", () => second.chat(chat).top === 2);
  const { chats, outbox } = await indexedDB("phone", { factory, locks: null }).load();
  assert.deepEqual([chats[0].top, outbox], [2, []]);
  assert.deepEqual([...first.notes.errors, ...second.notes.errors], []);
});

test("each tab has a storage of its own, the same after a reload; a duplicate gets another, and that of a closed tab is used again", async () => {
  const { factory, locks } = browser();
  const open = async (own) => {
    const storage = await tabStorage("web", { factory, locks, session: own });
    await storage.load();
    return storage;
  };
  const mark = async (storage, whose) => storage.write({ values: { whose } });
  const whose = async (storage) => (await storage.load()).values.whose;
  const sessions = [session(), session()];
  const first = await open(sessions[0]);
  await mark(first, "first");
  const second = await open(sessions[1]);
  assert.equal(await whose(second), undefined);
  await mark(second, "second");

  const copied = session(sessions[0]);
  const duplicate = await open(copied);
  assert.equal(await whose(duplicate), undefined);
  await mark(duplicate, "duplicate");
  assert.deepEqual([await whose(first), await whose(second), await whose(duplicate)], ["first", "second", "duplicate"]);

  // Reloads: each finds its own again.
  await first.close();
  assert.equal(await whose(await open(sessions[0])), "first");
  await duplicate.close();
  assert.equal(await whose(await open(copied)), "duplicate");

  // A closed tab's is used again by the next new one.
  await second.close();
  assert.equal(await whose(await open(session())), "second");
  assert.equal((await factory.databases()).length, 3);
});

test("a duplicated tab is a web session of its own", async (t) => {
  const { device, user } = world(t, server);
  const { factory, locks } = browser();
  const alice = user("alice");
  const phone = await device(alice, "main");
  const { id: chat } = await phone.createChat({ kind: "group" });
  await phone.send(chat, "hello");
  await eventually("stored", () => phone.chat(chat).top === 1);
  const own = session();
  const first = await device(alice, "sub", { storage: await tabStorage("web", { factory, locks, session: own }) });
  const twin = await device(alice, "sub", { storage: await tabStorage("web", { factory, locks, session: session(own) }) });
  assert.notEqual(twin.device, first.device);
  await phone.send(chat, "for both");
  await eventually("both have it", () => [first, twin].every((client) => client.chat(chat).top === 2));
  assert.deepEqual([first.state, twin.state], ["online", "online"]);
  assert.ok(![first, twin].some((client) => client.notes.states.some(({ state }) => state === "replaced")));
});
