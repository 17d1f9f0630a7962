// What a list of chats shows: how many are unread, and which chat moved last.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { memory } from "../keepstep.js";
import { startServer } from "./support/server.mjs";
import { tampered } from "./support/tampered.mjs";
import { eventually, world } from "./support/world.mjs";

let server;
before(async () => { server = await startServer("--frames-per-second", "1000000", "--frames-burst", "1000000"); });
after(() => server?.stop());

test("more than 1,000 unread messages are counted exactly, wherever one reads, on all devices and after a reload", async (t) => {
  const { device, user } = world(t, server);
  const storage = memory();
  const phone = await device(user("alice"), "main", { storage });
  const web = await device(user("alice"), "sub");
  const bobs = await device(user("bob"), "main");
  const { id: chat } = await bobs.createChat({ kind: "direct", with: user("alice") });
  // Every tenth is alice's own.
  for (let n = 1; n <= 2_500; n++) await (n % 10 === 0 ? phone : bobs).send(chat, `${n}`);
  const both = [phone, web];
  await eventually("all is there", () => both.every((client) => client.chat(chat)?.top === 2_500));
  const unread = () => both.map((client) => client.chat(chat).unread);
  assert.deepEqual(unread(), [2_250, 2_250]);
  for (const [seq, left] of [[15, 2_236], [100, 2_160], [1_000, 1_350], [1_001, 1_349], [2_400, 90]]) {
    await web.read(chat, seq);
    await eventually("the phone knows", () => phone.chat(chat).read === seq);
    assert.deepEqual(unread(), [left, left], `read up to ${seq}`);
  }
  await phone.close();
  await web.read(chat, 2_450);
  const again = await device(user("alice"), "main", { storage });
  await eventually("it is told", () => again.chat(chat).read === 2_450);
  assert.equal(again.chat(chat).unread, 45);
  await again.read(chat);
  assert.equal(again.chat(chat).unread, 0);
});

test("what an earlier version counted up to 1,000 only is counted anew when somebody reads", async (t) => {
  const { device, user } = world(t, server);
  const storage = memory();
  const phone = await device(user("alice"), "main", { storage });
  const bobs = await device(user("bob"), "main");
  const { id: chat } = await bobs.createChat({ kind: "direct", with: user("alice") });
  for (let n = 1; n <= 1_200; n++) await bobs.send(chat, `${n}`);
  await eventually("all is there", () => phone.chat(chat)?.top === 1_200);
  await phone.close();
  const { counted, order, newest, ...old } = (await storage.load()).chats[0];
  assert.deepEqual([counted, typeof order, newest], [true, "number", 1_200]);
  await storage.write({ chats: [{ ...old, unread: 1_000 }] });
  const again = await device(user("alice"), "main", { storage });
  await again.read(chat, 10);
  assert.equal(again.chat(chat).unread, 1_190);
});

test("an edge whose clock is an hour ahead doesn't hold its chats on top", async (t) => {
  const { device, user } = world(t, server);
  const storage = memory();
  let ahead; // the chat whose messages came over that edge
  const skewed = () => tampered((frame) => (frame.type === "message" && frame.chat === ahead ? [{ ...frame, at: frame.at + 3_600_000 }] : undefined));
  const phone = await device(user("alice"), "main", { storage, WebSocket: skewed() });
  const bobs = await device(user("bob"), "main");
  const chats = [];
  for (let n = 0; n < 3; n++) {
    chats.push((await bobs.createChat({ kind: "group" })).id);
    await bobs.invite(chats[n], user("alice"));
  }
  await eventually("all are known", () => phone.chats().length === 3);
  const [first, second, third] = chats;
  ahead = first;
  const shown = (client) => client.chats().map(({ id }) => ["first", "second", "third"][chats.indexOf(id)]);
  const say = async (client, chat) => {
    const { seq } = await bobs.send(chat, "hello");
    await eventually("it came", () => client.chat(chat).top === seq);
  };
  for (const chat of [third, first, second]) await say(phone, chat);
  assert.deepEqual(shown(phone), ["second", "first", "third"]);
  await say(phone, third);
  assert.deepEqual(shown(phone), ["third", "second", "first"]);

  // So after a reload, and with what came while the page was closed.
  await phone.close();
  await bobs.send(second, "meanwhile");
  const again = await device(user("alice"), "main", { storage, WebSocket: skewed(), connect: false });
  await again.open();
  assert.deepEqual(shown(again), ["third", "second", "first"]);
  await again.connect();
  await eventually("it came", () => again.chat(second).top === 2);
  assert.deepEqual(shown(again), ["second", "third", "first"]);
  await say(again, third);
  assert.deepEqual(shown(again), ["third", "second", "first"]);
});

test("what was said while a device was away is in the order of time, above all that it had", async (t) => {
  const { device, user } = world(t, server);
  const phone = await device(user("alice"), "main");
  const bobs = await device(user("bob"), "main");
  const chats = [];
  for (let n = 0; n < 3; n++) {
    chats.push((await bobs.createChat({ kind: "group" })).id);
    await bobs.invite(chats[n], user("alice"));
  }
  await eventually("all are known", () => phone.chats().length === 3);
  const [first, second, third] = chats;
  await bobs.send(third, "live");
  await eventually("it came", () => phone.chat(third).top === 1);
  phone.disconnect();
  const { at } = await bobs.send(second, "away");
  await eventually("a moment later", () => Date.now() > at + 2);
  await bobs.send(first, "away, later");
  await phone.connect();
  await eventually("both came", () => [first, second].every((id) => phone.chat(id).top === 1));
  assert.deepEqual(phone.chats().map(({ id }) => id), [first, second, third]);
  // A web session that boots has never been there: by time.
  const web = await device(user("alice"), "sub");
  assert.deepEqual(web.chats().map(({ id }) => id), [first, second, third]);
});
