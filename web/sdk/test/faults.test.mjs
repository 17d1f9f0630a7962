// A storage that fails, hangs or is emptied under way; an app that does two things at once. (Slow ones: codes.test.mjs, 4305.)
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { memory } from "../keepstep.js";
import { startServer } from "./support/server.mjs";
import { eventually, held, ofMessages, world } from "./support/world.mjs";

let server;
before(async () => { server = await startServer(); });
after(() => server?.stop());

const EMPTY = { values: {}, chats: [], outbox: [] };

/** Alice's phone, bob's, and a chat of both. */
async function two(t, options) {
  const { device, user } = world(t, server);
  const phone = await device(user("alice"), "main", options);
  const bobs = await device(user("bob"), "main");
  const { id: chat } = await bobs.createChat({ kind: "direct", with: user("alice") });
  await eventually("alice knows the chat", () => phone.chat(chat));
  return { phone, bobs, chat, device, user };
}

/** A storage of which `fails(name, ...args)` says what doesn't work. */
const failing = (storage, fails) => Object.fromEntries(Object.entries(storage).map(([name, method]) =>
  [name, async (...args) => { if (fails(name, ...args)) throw new Error("disk full"); return method(...args); }]));

test("of a device that was ended nothing is stored, whatever was under way", async (t) => {
  const disk = memory();
  const { storage, hold } = held(disk, ofMessages);
  const { phone, bobs, chat, device, user } = await two(t);
  const web = await device(user("alice"), "sub", { storage });
  await eventually("it knows the chat", () => web.chat(chat));
  const release = hold();
  let came = 0;
  web.on("frame", ({ direction, frame }) => { if (direction === "in" && frame.type === "message") came++; });
  for (const content of ["one", "two", "three"]) await bobs.send(chat, content);
  await eventually("all came", () => came === 3);
  await phone.removeDevice(web.device);
  await eventually("it heard of it", () => web.device === null);
  release();
  await eventually("it says so", () => web.state === "terminated");
  await storage.messages(chat, { before: 10, limit: 10 }); // behind all that was called
  assert.deepEqual(await disk.load(), EMPTY);
  assert.deepEqual(await disk.messages(chat, { before: 10, limit: 10 }), []);
});

test("what is sent while an ended device is being emptied is refused, not stored", async (t) => {
  const disk = memory();
  const { storage, hold } = held(disk, (name) => name === "clear");
  const { phone, chat, device, user } = await two(t);
  const web = await device(user("alice"), "sub", { storage });
  const release = hold();
  await phone.removeDevice(web.device);
  await eventually("it heard of it", () => web.device === null);
  const late = web.send(chat, "too late");
  release();
  await assert.rejects(late, { code: "terminated" });
  await eventually("it says so", () => web.state === "terminated");
  assert.deepEqual(await disk.load(), EMPTY);
});

test("a storage that can't be read is told as an error, and costs a connection, not the process", async (t) => {
  let broken = false;
  const { phone, bobs, chat, device, user } = await two(t, { storage: failing(memory(), (name) => broken && name === "messages") });
  const web = await device(user("alice"), "sub");
  for (const content of ["one", "two", "three"]) await bobs.send(chat, content);
  await eventually("both have it", () => [phone, web].every((client) => client.chat(chat)?.top === 3));
  broken = true;
  await web.read(chat, 1); // the phone counts anew what is unread, and can't
  await eventually("it is told", () => phone.notes.errors.some(({ code, message }) => code === "storage" && /disk full/.test(message)));
  await eventually("the next connection failed, too", () => phone.notes.errors.length >= 2);
  broken = false;
  await eventually("it counts again", () => phone.chat(chat).read === 1 && phone.chat(chat).unread === 2);
});

test("a storage that stays full doesn't make the client connect again and again at full speed", async (t) => {
  let broken = false;
  const storage = failing(memory(), (name, changes) => broken && ofMessages(name, changes));
  const { phone, bobs, chat } = await two(t, { storage, timing: { pause: 20, pauseMax: 320 } });
  const waits = () => phone.notes.states.filter(({ state }) => state === "offline").map(({ retryIn }) => retryIn);
  broken = true;
  await bobs.send(chat, "where to?");
  await eventually("five tries", () => waits().length >= 5);
  assert.ok(waits()[4] >= 160, `each waits longer: ${waits()}`);
  broken = false;
  await phone.connect();
  await eventually("it came", () => phone.chat(chat).top === 1);
  assert.deepEqual(phone.notes.contents.get(chat), ["where to?"]);
});

test("a message that couldn't be stored holds up none behind it", async (t) => {
  const disk = memory();
  let fail;
  const storage = { ...disk, write: (changes) => (changes.outbox?.[0].body.content === "first" ? new Promise((_, reject) => { fail = reject; }) : disk.write(changes)) };
  const { phone, chat } = await two(t, { storage });
  const first = phone.send(chat, "first");
  const second = phone.send(chat, "second");
  await eventually("the second is stored", () => phone.outbox(chat).length === 1);
  fail(new Error("disk full"));
  await assert.rejects(first, { code: "storage" });
  assert.equal((await second).seq, 1);
});

test("a message that couldn't be taken out of the outbox stays there, and is sent", async (t) => {
  let broken = false;
  const storage = failing(memory(), (name, changes) => broken && name === "write" && changes.removeOutbox);
  const { phone, bobs, chat } = await two(t, { storage });
  phone.disconnect();
  const sent = phone.send(chat, "shall I?");
  const [{ key }] = await eventually("it waits", () => phone.outbox().length === 1 && phone.outbox());
  broken = true;
  await assert.rejects(phone.unsend(key), { code: "storage" });
  broken = false;
  assert.deepEqual(phone.outbox().map((entry) => entry.key), [key]);
  await phone.connect();
  assert.equal((await sent).key, key);
  await eventually("bob has it", () => bobs.chat(chat).top === 1);
});

test("a chat that is forgotten stays forgotten, whatever was under way in it", async (t) => {
  const disk = memory();
  const { storage, hold } = held(disk, (name, { chats } = {}) => name === "write" && chats?.length > 0);
  const { phone, bobs, chat } = await two(t, { storage });
  await bobs.send(chat, "1");
  await bobs.send(chat, "2");
  await eventually("both came", () => phone.chat(chat).top === 2);
  await phone.leaveChat(chat);
  await eventually("out", () => phone.chat(chat).joined === false);
  const release = hold();
  const reads = [phone.read(chat, 1), phone.read(chat, 2)];
  await new Promise(setImmediate); // the first is being written now
  const forgotten = phone.forgetChat(chat);
  release();
  await Promise.all([...reads, forgotten]);
  assert.equal(phone.chat(chat), undefined);
  assert.deepEqual((await disk.load()).chats, []);
});

test("a connection writes the chats in which something changed, and no others", async (t) => {
  const disk = memory();
  const written = [];
  const storage = { ...disk, write: (changes) => { written.push(...(changes.chats ?? []).map(({ id }) => id)); return disk.write(changes); } };
  const { phone, bobs, chat } = await two(t, { storage });
  const others = [];
  for (let n = 1; n <= 5; n++) others.push((await phone.createChat({ kind: "group" })).id);
  await phone.send(others[0], "a note");
  await eventually("it is stored", () => phone.chat(others[0]).top === 1);
  phone.disconnect();
  await bobs.send(chat, "while you were away");
  written.length = 0;
  const told = [];
  phone.on("chat", ({ event, chat: of }) => told.push(`${event} ${of}`));
  await phone.connect();
  await eventually("it came", () => phone.chat(chat).top === 1 && others.every((id) => told.includes(`changed ${id}`)));
  await phone.read(chat, 1); // behind all that was called
  assert.deepEqual(written.filter((id) => id !== chat), []);
  assert.ok(written.includes(chat));
});

test("who is put out right behind coming back is out, also when storing that takes its time", async (t) => {
  const { storage, hold } = held(memory(), (name, { chats } = {}) => name === "write" && chats?.length > 0);
  const { phone, bobs, user } = await two(t, { storage });
  const { id: group } = await bobs.createChat({ kind: "group" });
  await bobs.invite(group, user("alice"));
  await eventually("in", () => phone.chat(group)?.joined);
  await bobs.removeMember(group, user("alice"));
  await eventually("out", () => !phone.chat(group).joined);
  const came = [];
  const told = [];
  phone.on("frame", ({ direction, frame }) => { if (direction === "in" && frame.chat === group && frame.type === "chat") came.push(frame.event); });
  phone.on("chat", ({ chat: of, event }) => { if (of === group && ["joined", "left"].includes(event)) told.push(event); });
  const release = hold();
  await bobs.invite(group, user("alice"));
  await eventually("it heard of the one", () => came.includes("joined"));
  await bobs.removeMember(group, user("alice"));
  await eventually("and of the other", () => came.includes("left"));
  release();
  await eventually("both are told", () => told.length === 2);
  assert.deepEqual([told, phone.chat(group).joined], [["joined", "left"], false]);
});

test("a storage that fails at the very end of a web session's boot costs a connection; the next one makes it ready", async (t) => {
  let broken = true;
  const storage = failing(memory(), (name, changes) => broken && name === "write" && changes.values?.ready);
  const { phone, bobs, chat, device, user } = await two(t);
  await bobs.send(chat, "hello");
  await eventually("the phone has it", () => phone.chat(chat).top === 1);
  const web = await device(user("alice"), "sub", { storage, connect: false });
  const connected = web.connect();
  await eventually("a second connection failed the same way", () => web.notes.errors.length >= 2);
  assert.deepEqual([...new Set(web.notes.errors.map(({ code }) => code))], ["storage"]);
  assert.deepEqual([...new Set(web.notes.states.map(({ state }) => state))], ["connecting", "booting", "offline"]);
  broken = false;
  await connected;
  assert.deepEqual([web.state, (await storage.load()).values.ready, web.chat(chat).top], ["online", true, 1]);
});

test("a storage that can't keep a new device's id ends in words", async (t) => {
  const { device, user } = world(t, server);
  const storage = failing(memory(), (name) => name === "write");
  const phone = await device(user("alice"), "main", { storage, connect: false });
  await assert.rejects(phone.connect(), { name: "KeepstepError", code: "storage" });
  assert.deepEqual([phone.state, phone.status.error.code], ["failed", "storage"]);
});
