import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { memory } from "../keepstep.js";
import { startServer } from "./support/server.mjs";
import { tampered } from "./support/tampered.mjs";
import { eventually, held, told, world } from "./support/world.mjs";

let server;
before(async () => { server = await startServer(); });
after(() => server?.stop());

/** Alice's phone with `count` messages in a chat with bob, said by both. */
async function talked(t, count, content = (n) => `message ${n}`) {
  const { user, device } = world(t, server);
  const [alice, bob] = [user("alice"), user("bob")];
  const phone = await device(alice, "main");
  const bobs = await device(bob, "main");
  const { id: chat } = await phone.createChat({ kind: "direct", with: bob });
  await eventually("bob knows the chat", () => bobs.chat(chat));
  await Promise.all(Array.from({ length: count }, (_, n) => (n % 2 ? bobs : phone).send(chat, content(n + 1))));
  await eventually("all is said", () => [phone, bobs].every((client) => client.chat(chat).top === count));
  return { alice, bob, phone, bobs, chat, device };
}

test("a new web session borrows the newest messages from the phone, with progress, then is ready; older ones on demand", async (t) => {
  const { alice, phone, chat, device } = await talked(t, 350);
  const served = [];
  phone.on("history_served", (page) => served.push(page));
  const web = await device(alice, "sub", { connect: false, bootstrap: 150 });
  const progress = [];
  const pages = [];
  web.on("progress", (step) => progress.push(step));
  web.on("history", (page) => pages.push(page));
  await web.connect();

  assert.deepEqual(web.notes.states.map(({ state }) => state), ["connecting", "booting", "online"]);
  assert.deepEqual(progress.map(({ reason, done, total }) => [reason, done, total]), [["bootstrap", 0, 150], ["bootstrap", 100, 150], ["bootstrap", 150, 150]]);
  assert.deepEqual(pages.map(({ messages, more, reason }) => [messages[0].seq, messages.at(-1).seq, more, reason]), [[251, 350, true, "bootstrap"], [201, 250, true, "bootstrap"]]);
  assert.deepEqual(served.map(({ device: to, from, count, more }) => [to, from, count, more]), [[web.device, 251, 100, true], [web.device, 201, 50, true]]);
  assert.deepEqual([web.chat(chat).low, web.chat(chat).top, web.chat(chat).complete], [201, 350, false]);
  assert.equal(web.chat(chat).last.seq, 350);
  assert.deepEqual(web.notes.seqs.size, 0); // nothing of it is news

  // What it has is given without asking.
  const near = await web.history(chat, { limit: 20 });
  assert.deepEqual([near.messages.length, near.messages[0].seq, near.more], [20, 331, true]);
  assert.equal(served.length, 2);

  // What it hasn't is asked for, page by page.
  progress.length = 0;
  const steps = [];
  const older = await web.history(chat, { before: 211, limit: 180, onProgress: (done, total) => steps.push([done, total]) });
  assert.deepEqual(older.messages.map(({ seq }) => seq), Array.from({ length: 180 }, (_, n) => n + 31));
  assert.equal(older.more, true);
  assert.deepEqual(steps, [[110, 180], [180, 180]]);
  assert.deepEqual(progress.map(({ reason, chat: of, done, total }) => [reason, of, done, total]), [["asked", chat, 110, 180], ["asked", chat, 180, 180]]);

  // To the beginning.
  const all = await web.history(chat, { limit: 1_000 });
  assert.deepEqual([all.messages.length, all.more, web.chat(chat).complete], [350, false, true]);
  assert.deepEqual(await told(web, chat), await told(phone, chat));
});

test("a page of the phone is at most 256 KiB, so fewer messages than asked for come when they are large", async (t) => {
  const { alice, phone, chat, device } = await talked(t, 12, (n) => `${n}`.padEnd(30_000, "é\"x"));
  const served = [];
  phone.on("history_served", (page) => served.push(page));
  const web = await device(alice, "sub");
  assert.deepEqual(await told(web, chat), await told(phone, chat));
  assert.ok(served.length >= 3, `${served.length} pages`);
  assert.ok(served.every(({ count }) => count >= 1));
  assert.deepEqual(phone.notes.errors, []);
});

test("a web session that was away goes on where it was: nothing is asked twice, ready at once", async (t) => {
  const { alice, phone, bobs, chat, device } = await talked(t, 30);
  const storage = memory();
  const web = await device(alice, "sub", { storage });
  await web.close();
  await bobs.send(chat, "while it was closed");
  const served = [];
  phone.on("history_served", (page) => served.push(page));
  const again = await device(alice, "sub", { storage });
  assert.equal(again.device, web.device);
  assert.deepEqual(again.notes.states.map(({ state }) => state), ["connecting", "online"]);
  await eventually("it came", () => again.chat(chat).top === 31);
  assert.deepEqual(again.notes.contents.get(chat), ["while it was closed"]);
  assert.deepEqual(served, []);
  assert.deepEqual(await told(again, chat), await told(phone, chat));
});

test("a bootstrap that was broken off goes on with what is missing", async (t) => {
  const { alice, phone, chat, device } = await talked(t, 300);
  const storage = memory();
  const served = [];
  phone.on("history_served", (page) => served.push(page.from));
  const web = await device(alice, "sub", { storage, bootstrap: 300, connect: false });
  web.on("history", () => web.disconnect()); // at the first page
  await assert.rejects(web.connect(), { code: "closed" });
  await web.close();
  const again = await device(alice, "sub", { storage, bootstrap: 300 });
  assert.ok(again.notes.states.some(({ state }) => state === "booting"));
  assert.deepEqual(await told(again, chat), await told(phone, chat));
  // The first page was stored, so nobody asked for it again; the second may have been on its way.
  assert.deepEqual(served.filter((from) => from === 201).length, 1, `${served}`);
});

/** The server's answers to a web session's questions for history: `refuse(frame)` gives an error in place of the page, or nothing. */
const refusing = (refuse) => tampered((frame) => {
  if (frame.type !== "reply" || !frame.ok?.messages) return undefined;
  const code = refuse(frame);
  return code ? [{ type: "reply", id: frame.id, error: { code, message: "not now", retry: true } }] : undefined;
});

/** What a web session says and shows while it boots: `ready` is what the server is told. */
function steps(web) {
  const all = [];
  web.on("state", ({ state }) => all.push(state));
  web.on("frame", ({ direction, frame }) => { if (direction === "out" && frame.type === "ready") all.push("ready"); });
  return all;
}

test("the phone goes while a new web session boots: it says so, waits for it, and is ready only with its history", async (t) => {
  const { alice, phone, chat, device } = await talked(t, 30);
  let away = false;
  const WebSocket = refusing(() => {
    if (away) return undefined;
    away = true;
    phone.disconnect();
    return "main_offline"; // as the server answers until it closes the connection
  });
  const web = await device(alice, "sub", { WebSocket, connect: false });
  const all = steps(web);
  const connected = web.connect();
  await eventually("it waits for the phone", () => web.state === "main_offline");
  assert.deepEqual(all, ["connecting", "booting", "main_offline"]);
  await phone.connect();
  await connected;
  assert.deepEqual(all.slice(-3), ["booting", "ready", "online"]);
  assert.equal(all.filter((step) => step === "ready").length, 1);
  assert.equal(web.chat(chat).complete, true);
  assert.deepEqual(await told(web, chat), await told(phone, chat));
});

test("a phone that was away for a moment of the boot, and which the server didn't miss: the web session connects again for the rest", async (t) => {
  const { alice, phone, chat, device } = await talked(t, 30);
  let refused = 0;
  const web = await device(alice, "sub", { WebSocket: refusing(() => (refused++ === 0 ? "main_offline" : undefined)), connect: false });
  const all = steps(web);
  await web.connect();
  assert.deepEqual(all, ["connecting", "booting", "offline", "connecting", "booting", "ready", "online"]);
  assert.deepEqual([web.chat(chat).low, web.chat(chat).top], [1, 30]);
  assert.deepEqual(await told(web, chat), await told(phone, chat));
});

test("one chat whose page is never right doesn't hold a new web session out", async (t) => {
  const { alice, phone, chat, device } = await talked(t, 3);
  const { id: broken } = await phone.createChat({ kind: "group" });
  await phone.send(broken, "lost");
  await eventually("it is stored", () => phone.chat(broken)?.top === 1);
  const web = await device(alice, "sub", { WebSocket: refusing(({ ok }) => (ok.messages[0]?.chat === broken ? "bad_main" : undefined)) });
  assert.deepEqual(web.notes.states.map(({ state }) => state), ["connecting", "booting", "online"]);
  assert.deepEqual(web.notes.errors.map(({ code }) => code), ["bad_main"]);
  assert.deepEqual([web.chat(chat).low, web.chat(broken).complete], [1, false]);
});

test("the phone is away: what the web session has it gives, what it hasn't is refused in words", async (t) => {
  const { alice, phone, chat, device } = await talked(t, 150);
  const web = await device(alice, "sub", { bootstrap: 20 });
  await web.send(chat, "151"); // a reply behind `ready`: the server has taken that
  await eventually("the phone has it", () => phone.chat(chat).top === 151);
  phone.disconnect();
  await eventually("the web session knows", () => web.main.online === false);
  assert.ok(Number.isInteger(web.main.lastSeen));
  assert.deepEqual((await web.history(chat, { limit: 10 })).messages.length, 10);
  const part = await web.history(chat, { limit: 50 });
  assert.deepEqual([part.messages.length, part.more], [21, true]);
  await assert.rejects(web.history(chat, { before: 131, limit: 50 }), { code: "main_offline", retry: true });
  await phone.connect();
  await eventually("it is back", () => web.main.online);
  assert.equal((await web.history(chat, { limit: 1_000 })).messages.length, 151);
});

test("a question for history that is given up ends at once, while the phone still looks; its page is kept when it comes", async (t) => {
  const { user, device } = world(t, server);
  const { storage, hold } = held(memory(), (name) => name === "messages");
  const phone = await device(user("alice"), "main", { storage });
  const { id: chat } = await phone.createChat({ kind: "group" });
  for (let n = 1; n <= 5; n++) await phone.send(chat, `${n}`);
  await eventually("all is stored", () => phone.chat(chat).top === 5);
  const web = await device(user("alice"), "sub", { bootstrap: 0 });
  const asked = phone.once("frame", ({ frame }) => frame.type === "history_request");
  const release = hold();
  const end = new AbortController();
  const question = web.history(chat, { signal: end.signal });
  await asked;
  let came = false;
  web.on("history", () => { came = true; });
  end.abort();
  await assert.rejects(question, { code: "cancelled" });
  assert.equal(came, false);
  release();
  await eventually("the page came", () => came);
  assert.equal((await web.history(chat)).messages.length, 5);
});

/** A group that alice's phone said `count` messages in, and an older copy of the phone's storage: it ends with message `kept`. */
async function restored({ user, device }, count, kept) {
  const storage = memory();
  const phone = await device(user("alice"), "main", { storage });
  const { id: chat } = await phone.createChat({ kind: "group" });
  for (let n = 1; n <= count; n++) await phone.send(chat, `${n}`);
  await eventually("all is acknowledged", async () => {
    const { items } = await server.admin("GET", `/admin/v1/devices/${phone.device}/channels`);
    return items[0]?.cursor === count;
  });
  await phone.close();
  const { values, chats: [record] } = await storage.load();
  const backup = memory();
  const messages = await storage.messages(chat, { before: kept + 1, limit: count });
  await backup.write({ values, chats: [{ ...record, top: kept, head: kept }], messages });
  return { chat, backup };
}

test("a phone that lost its newest copy gets from the server what that still holds", async (t) => {
  const { user, device } = world(t, server);
  const { chat, backup } = await restored({ user, device }, 5, 2);
  const again = await device(user("alice"), "main", { storage: backup });
  await eventually("it is whole", () => again.chat(chat).top === 5);
  assert.deepEqual(again.notes.seqs.get(chat), [3, 4, 5]);
  assert.deepEqual(await told(again, chat), [1, 2, 3, 4, 5].map((n) => `#${n} ${user("alice")}: ${n}`));
});

test("while a phone fetches what it lost it gives no page with a hole in it: the web session asks again", async (t) => {
  const { user, device } = world(t, server);
  const { chat, backup } = await restored({ user, device }, 5, 2);
  let release;
  const asked = new Promise((resolve) => { release = resolve; });
  const slow = async (url, options) => {
    if (url.includes("/messages?")) await asked;
    return fetch(url, options);
  };
  const again = await device(user("alice"), "main", { storage: backup, fetch: slow });
  const answers = [];
  again.on("frame", ({ direction, frame }) => {
    if (direction !== "out" || !frame.type.startsWith("history_")) return;
    answers.push(frame.code ?? frame.messages.map(({ seq }) => seq));
    release();
  });
  const web = await device(user("alice"), "sub");
  assert.deepEqual(answers, ["main_busy", [1, 2, 3, 4, 5]]);
  assert.deepEqual(await told(web, chat), await told(again, chat));
  assert.deepEqual(web.notes.errors, []);
});
