import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { KeepstepError, memory } from "../keepstep.js";
import { startServer } from "./support/server.mjs";
import { eventually, told, world } from "./support/world.mjs";

let server;
before(async () => { server = await startServer(); });
after(() => server?.stop());

test("a phone and a web session of alice, a phone of bob: what one says all have, once and in order", async (t) => {
  const { user, device } = world(t, server);
  const [alice, bob] = [user("alice"), user("bob")];
  const phone = await device(alice, "main");
  const web = await device(alice, "sub");
  const bobs = await device(bob, "main");
  const { id: chat } = await phone.createChat({ kind: "direct", with: bob });
  await eventually("all know the chat", () => [phone, web, bobs].every((client) => client.chat(chat)?.joined));

  for (let n = 1; n <= 10; n++) {
    const sent = await [phone, web, bobs][n % 3].send(chat, `message ${n}`);
    assert.equal(sent.seq, n);
  }
  await eventually("all have ten", () => [phone, web, bobs].every((client) => client.chat(chat).top === 10));
  for (const client of [phone, web, bobs]) {
    assert.deepEqual(client.notes.seqs.get(chat), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert.deepEqual(await told(client, chat), await told(phone, chat));
    assert.deepEqual(client.notes.wrong, []);
    assert.deepEqual(client.notes.errors, []);
    assert.deepEqual(client.outbox(), []);
  }
  assert.equal(phone.chats()[0].last.content, "message 10");
});

test("a message waits in the outbox while offline, and goes out in the order it was written", async (t) => {
  const { user, device } = world(t, server);
  const phone = await device(user("alice"), "main");
  const { id: chat } = await phone.createChat({ kind: "group", name: "Notes" });
  phone.disconnect();
  assert.equal(phone.state, "closed");
  const order = [];
  phone.on("queued", ({ body }) => order.push(`queued ${body.content}`));
  phone.on("sent", ({ seq }) => order.push(`sent ${seq}`));
  const promises = Array.from({ length: 20 }, (_, n) => phone.send(chat, `${n}`));
  await eventually("all wait", () => phone.outbox(chat).length === 20);
  assert.deepEqual(phone.outbox(chat).map(({ body }) => body.content), Array.from({ length: 20 }, (_, n) => `${n}`));
  await phone.connect();
  const seqs = (await Promise.all(promises)).map(({ seq }) => seq);
  assert.deepEqual(seqs, Array.from({ length: 20 }, (_, n) => n + 1));
  assert.deepEqual(order.slice(20), seqs.map((seq) => `sent ${seq}`));
  await eventually("it came back", () => phone.chat(chat).top === 20);
  assert.deepEqual(phone.notes.contents.get(chat), Array.from({ length: 20 }, (_, n) => `${n}`));
});

test("what an earlier version left in the outbox with fields of the frame in it goes out all the same", async (t) => {
  const { user, device } = world(t, server);
  const storage = memory();
  const phone = await device(user("alice"), "main", { storage });
  const { id: chat } = await phone.createChat({ kind: "group" });
  await phone.close();
  const key = randomUUID();
  const body = { kind: "text", content: "from long ago", id: "local-1", type: "read", chat: key };
  await storage.write({ outbox: [{ key, chat, n: 1, at: 1, body }] });
  const again = await device(user("alice"), "main", { storage, connect: false });
  const sending = again.once("frame", ({ direction, frame }) => direction === "out" && frame.content === body.content);
  await again.connect();
  const { frame } = await sending;
  assert.deepEqual([frame.type, typeof frame.id, frame.chat, frame.key], ["send", "number", chat, key]);
  await eventually("it is sent", () => again.outbox().length === 0 && again.chat(chat).top === 1);
  assert.deepEqual(await told(again, chat), [`#1 ${user("alice")}: from long ago`]);
});

test("a message is taken out of the outbox before it was ever tried, and not after", async (t) => {
  const { user, device } = world(t, server);
  const phone = await device(user("alice"), "main");
  const { id: chat } = await phone.createChat({ kind: "group" });
  phone.disconnect();
  const gone = phone.send(chat, "not this");
  const stays = phone.send(chat, "this");
  const [{ key }] = await eventually("both wait", () => phone.outbox().length === 2 && phone.outbox());
  assert.equal(await phone.unsend(key), true);
  assert.equal(await phone.unsend(key), false);
  await assert.rejects(gone, { code: "cancelled" });
  await phone.connect();
  const sent = await stays;
  assert.equal(sent.seq, 1);
  assert.equal(await phone.unsend(sent.key), false);
});

test("what the server refuses for good leaves the outbox with the reason, and holds up nothing behind it", async (t) => {
  const { user, device } = world(t, server);
  const phone = await device(user("alice"), "main");
  const { id: chat } = await phone.createChat({ kind: "group" });
  const refusals = [];
  phone.on("refused", (refusal) => refusals.push(refusal));
  const wrongs = [
    [phone.send(chat, { kind: "nonsense", content: "x" }), "bad_field"],
    [phone.send(chat, "x".repeat(70_000)), "too_large"],
    [phone.send(chat, "x".repeat(1_200_000)), "too_large"], // larger than a frame may be
    [phone.send("0b1c2d3e-0000-4000-8000-000000000001", "hello?"), "not_found"],
  ];
  const good = phone.send(chat, "good");
  for (const [promise, code] of wrongs) {
    await assert.rejects(promise, (error) => error instanceof KeepstepError && error.code === code && error.retry === false);
  }
  assert.equal((await good).seq, 1);
  assert.deepEqual(refusals.map(({ error }) => error.code).sort(), ["bad_field", "not_found", "too_large", "too_large"]);
  assert.deepEqual(phone.outbox(), []);
  assert.equal(phone.state, "online");
  await assert.rejects(phone.send("not an id", "x"), { code: "bad_field" });
  for (const field of ["id", "type", "chat"]) {
    await assert.rejects(phone.send(chat, { content: "x", [field]: "local-1" }), { code: "bad_field", message: new RegExp(`^${field} `) });
  }
});

test("unread counts and the read offset move together on all devices, and never back", async (t) => {
  const { user, device } = world(t, server);
  const [alice, bob] = [user("alice"), user("bob")];
  const phone = await device(alice, "main");
  const web = await device(alice, "sub");
  const bobs = await device(bob, "main");
  const { id: chat } = await bobs.createChat({ kind: "direct", with: alice });
  for (let n = 1; n <= 4; n++) await bobs.send(chat, `${n}`);
  await eventually("four unread on both", () => [phone, web].every((client) => client.chat(chat)?.unread === 4));
  assert.equal(bobs.chat(chat).unread, 0); // one's own aren't unread

  const heard = phone.once("read");
  await web.read(chat, 3);
  assert.equal(web.chat(chat).unread, 1);
  assert.deepEqual(await heard, { chat, seq: 3, device: web.device, unread: 1 });
  await phone.read(chat, 2); // behind: nothing happens
  assert.equal(phone.chat(chat).read, 3);
  await phone.read(chat);
  await eventually("nothing unread on both", () => [phone, web].every((client) => client.chat(chat).unread === 0 && client.chat(chat).read === 4));

  // Read while offline: kept, and told at the next connection.
  await bobs.send(chat, "5");
  await eventually("it came", () => [phone, web].every((client) => client.chat(chat).top === 5));
  web.disconnect();
  await web.read(chat);
  assert.equal(phone.chat(chat).read, 4);
  await web.connect();
  await eventually("the phone knows", () => phone.chat(chat).read === 5 && phone.chat(chat).unread === 0);
});

test("groups: made, joined by name and password, left, forgotten; each tells", async (t) => {
  const { user, device } = world(t, server);
  const [alice, bob] = [user("alice"), user("bob")];
  const phone = await device(alice, "main");
  const bobs = await device(bob, "main");
  const events = [];
  phone.on("chat", ({ event, user: who }) => event !== "changed" && events.push(who ? `${event} ${who}` : event));
  const name = user("Book club");
  const { id: chat } = await phone.createChat({ kind: "group", name, password: "open sesame" });
  assert.equal(phone.chat(chat).name, name);
  await assert.rejects(bobs.joinChat({ name }, "wrong"), { code: "wrong_password", status: 403, retry: false });
  await bobs.joinChat({ name }, "open sesame");
  assert.equal(bobs.chat(chat).joined, true);
  await bobs.send(chat, "hello");
  await eventually("it came", () => phone.chat(chat).top === 1);
  assert.deepEqual((await phone.getChat(chat)).members, [alice, bob]);
  assert.deepEqual((await phone.listChats()).map(({ id }) => id), [chat]);
  await assert.rejects(bobs.forgetChat(chat), { code: "conflict" });
  await bobs.leaveChat(chat);
  await eventually("bob is out", () => bobs.chat(chat).joined === false);
  assert.deepEqual(await told(bobs, chat), [`#1 ${bob}: hello`]); // what was said stays his
  await eventually("alice was told", () => events.length === 3);
  assert.deepEqual(events, ["joined", `member_joined ${bob}`, `member_left ${bob}`]);

  // Back again: what was said in between isn't his.
  await phone.send(chat, "without bob");
  await phone.invite(chat, bob);
  await eventually("bob is back", () => bobs.chat(chat).joined);
  await phone.send(chat, "with bob");
  await eventually("it came", () => bobs.chat(chat).top === 3);
  assert.deepEqual(await told(bobs, chat), [`#1 ${bob}: hello`, `#3 ${alice}: with bob`]);
  await phone.removeMember(chat, bob);
  await eventually("bob is out", () => bobs.chat(chat).joined === false);
  await bobs.forgetChat(chat);
  assert.equal(bobs.chat(chat), undefined);
});
