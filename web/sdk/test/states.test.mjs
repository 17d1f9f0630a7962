import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { Keepstep, memory } from "../keepstep.js";
import { ending } from "../lib/errors.js";
import { startProxy } from "./support/proxy.mjs";
import { startServer } from "./support/server.mjs";
import { tampered } from "./support/tampered.mjs";
import { eventually, stays, told, watch, world } from "./support/world.mjs";

let server;
before(async () => { server = await startServer(); });
after(() => server?.stop());

/** A phone that has made a chat, said something there, and stored it. */
async function talked({ device }, user, content, options) {
  const phone = await device(user, "main", options);
  const { id: chat } = await phone.createChat({ kind: "group" });
  await phone.send(chat, content);
  await eventually("stored", () => phone.chat(chat).top === 1);
  return { phone, chat };
}

const names = (client) => client.notes.states.map(({ state }) => state);

test("every close code of docs/protocol.md ends in the state that the declarations promise", () => {
  const page = readFileSync(new URL("../../../docs/protocol.md", import.meta.url), "utf8");
  const codes = [...page.split("## Close codes")[1].split("\n## ")[0].matchAll(/^\| (4[34]\d\d) \| `(\w+)`/gm)];
  assert.ok(codes.length >= 13, `${codes.length} codes`);
  const types = readFileSync(new URL("../keepstep.d.ts", import.meta.url), "utf8");
  const promised = new Map([...types.matchAll(/^ \* \| `(\w+)` \| ([^|]+) \| (tries again|stops)/gm)].flatMap(([, state, listed, tries]) =>
    [...listed.matchAll(/\d{4}/g)].map(([code]) => [Number(code), { state, stops: tries === "stops" }])));
  for (const [, text, name] of codes) {
    const code = Number(text);
    const end = ending(code, name);
    const { state, stops } = promised.get(code) ?? {};
    assert.deepEqual([end.state, end.error !== null], [state, stops], `${code} ${name}`);
    assert.equal(stops, code >= 4400, `${code} ${name}`);
    assert.ok(/^[A-Z].*\.$/.test(end.text), `words for ${code}: ${end.text}`);
  }
  for (const code of [1000, 1001, 1002, 1006, 1007, 1011, 4399]) assert.equal(ending(code, "").state, "offline");
  assert.equal(ending(4499, "of_a_newer_server").state, "failed");
  assert.equal(ending(4303, "not JSON").lastSeen, null);
});

test("a wrong device token ends in unauthorized, and isn't tried again", async (t) => {
  const { device, user } = world(t, server);
  for (const [token, code] of [["garbage", 4401], ["not a token\n", null]]) {
    const client = await device(user("alice"), "main", { token, register: undefined, connect: false });
    await assert.rejects(client.connect(), { code: "unauthorized", retry: false });
    await stays(client, "unauthorized");
    assert.deepEqual(names(client), ["connecting", "unauthorized"]);
    assert.equal(client.status.code, code);
    assert.match(client.status.text, /register/);
  }
  const none = await device(user("alice"), "main", { register: undefined, connect: false });
  await assert.rejects(none.connect(), { code: "no_token" });
  assert.equal(none.state, "unauthorized");
});

test("a wrong or expired user token ends in unauthorized; a good one later goes on with the same device id", async (t) => {
  const { device, user } = world(t, server);
  const alice = user("alice");
  let userToken = server.userToken(alice, -60);
  const register = { userToken: () => userToken, kind: "main", name: "Phone", platform: "test" };
  const storage = memory();
  const client = await device(alice, "main", { register, storage, connect: false });
  await assert.rejects(client.connect(), { code: "unauthorized", status: 401 });
  assert.equal(client.state, "unauthorized");
  const { values } = await storage.load();
  userToken = server.userToken(alice);
  await client.connect();
  assert.equal(client.device, values.registering);
});

test("a token that is no good any more is got again by registering, with the same id and all that is stored", async (t) => {
  const users = world(t, server);
  const { device, user } = users;
  const storage = memory();
  const { phone, chat } = await talked(users, user("alice"), "kept", { storage });
  await phone.close();
  await storage.write({ values: { token: "of-another-secret" } });
  const again = await device(user("alice"), "main", { storage });
  assert.deepEqual([again.state, again.device], ["online", phone.device]);
  assert.deepEqual(await told(again, chat), [`#1 ${user("alice")}: kept`]);
  assert.notEqual((await storage.load()).values.token, "of-another-secret");
});

test("a second main is refused in words, with a way on: it takes the place by wish, and the first is terminated", async (t) => {
  const { device, user } = world(t, server);
  const alice = user("alice");
  const first = await device(alice, "main");
  const second = await device(alice, "main", { connect: false });
  await assert.rejects(second.connect(), { code: "main_exists", status: 409 });
  assert.deepEqual([second.state, second.status.error.code], ["unauthorized", "main_exists"]);
  assert.match(second.status.text, /take its place/);
  await second.connect({ replace: true });
  await eventually("the first has ended", () => first.state === "terminated");
  // So does one that was told so from the beginning.
  const register = { userToken: server.userToken(alice), kind: "main", name: "New phone", platform: "test", replace: true };
  await device(alice, "main", { register });
  await eventually("the second has ended", () => second.state === "terminated");
});

test("a web session too many is told so, and gets in when another one was ended", async (t) => {
  const { device, user } = world(t, server);
  const alice = user("alice");
  const phone = await device(alice, "main");
  const webs = [];
  for (let n = 0; n < 5; n++) webs.push(await device(alice, "sub"));
  const sixth = await device(alice, "sub", { connect: false });
  await assert.rejects(sixth.connect(), { code: "limit_reached" });
  assert.deepEqual([sixth.state, sixth.status.error.code], ["unauthorized", "limit_reached"]);
  assert.match(sixth.status.text, /End one/);
  await phone.removeDevice(webs[0].device);
  await sixth.connect();
  assert.equal(sixth.state, "online");
});

test("terminated: the device stops, its storage is empty, there is a receipt; connecting again makes a new device", async (t) => {
  const { device, user } = world(t, server);
  const alice = user("alice");
  const phone = await device(alice, "main");
  const { id: chat } = await phone.createChat({ kind: "group" });
  const storage = memory();
  const web = await device(alice, "sub", { storage });
  await phone.send(chat, "hello");
  await eventually("it came", () => web.chat(chat)?.top === 1);
  const told = [];
  phone.on("device", ({ event, device: which }) => which === web.device && told.push(event));
  assert.deepEqual((await phone.devices()).map(({ id, kind, online }) => ({ id, kind, online })).sort((a, b) => (a.kind < b.kind ? -1 : 1)), [
    { id: phone.device, kind: "main", online: true }, { id: web.device, kind: "sub", online: true }]);

  const id = web.device;
  const { id: termination, state } = await phone.removeDevice(id);
  assert.equal(state, "accepted");
  await eventually("the web session has ended", () => web.state === "terminated");
  assert.equal(web.status.code, 4403);
  assert.equal(web.token, null);
  assert.deepEqual(web.chats(), []);
  await eventually("nothing is left", async () => JSON.stringify(await storage.load()) === '{"values":{},"chats":[],"outbox":[]}');
  assert.deepEqual(await storage.messages(chat, { before: 100, limit: 10 }), []);
  await assert.rejects(web.send(chat, "too late"), { code: "terminated" });

  const states = [];
  const receipt = await phone.receipt(termination, { onState: ({ state: now }) => states.push(now) });
  assert.deepEqual([receipt.state, receipt.by, receipt.receipt.remaining, states.at(-1)], ["done", "main", 0, "done"]);
  assert.deepEqual(await phone.termination(termination), receipt);
  assert.equal(told[0], "terminated");

  await web.connect();
  assert.notEqual(web.device, id);
  assert.equal((await web.history(chat, { limit: 10 })).messages.length, 1);
});

test("a receipt is waited for over a lost network and a server that is asked too much; not for one that isn't there", async (t) => {
  const { device, user } = world(t, server);
  let failures = [];
  const flaky = async (url, options) => {
    if (!url.includes("/v1/terminations/") || failures.length === 0) return fetch(url, options);
    if (failures.shift() === 429) return new Response(JSON.stringify({ code: "too_many_requests", detail: "slowly" }), { status: 429 });
    throw new TypeError("fetch failed");
  };
  const phone = await device(user("alice"), "main", { fetch: flaky });
  const web = await device(user("alice"), "sub");
  const { id } = await phone.removeDevice(web.device);
  failures = [429, ...Array(7).fill("offline")]; // more than the four tries of one call
  const states = [];
  assert.equal((await phone.receipt(id, { onState: ({ state }) => states.push(state) })).state, "done");
  assert.deepEqual([failures.length, states.at(-1)], [0, "done"]);
  await assert.rejects(phone.receipt(phone.device), { code: "not_found" });

  failures = Array(1_000).fill("offline");
  const end = new AbortController();
  const given = phone.receipt(id, { signal: end.signal });
  end.abort();
  await assert.rejects(given, { code: "cancelled" });
  const open = phone.receipt(id);
  await phone.close();
  await assert.rejects(open, { code: "closed" });
});

test("terminated while it was away: it hears of it when it comes back", async (t) => {
  const { device, user } = world(t, server);
  const phone = await device(user("alice"), "main");
  const web = await device(user("alice"), "sub");
  web.disconnect();
  await phone.removeDevice(web.device);
  await assert.rejects(web.connect(), { code: "terminated" });
  assert.deepEqual([web.state, web.status.code, web.device], ["terminated", 4403, null]);
});

test("replaced: the older connection of a device stops, and doesn't fight for its place", async (t) => {
  const { device, user } = world(t, server);
  const alice = user("alice");
  const first = await device(alice, "main");
  const second = await device(alice, "main", { token: first.token, register: undefined });
  await eventually("the first knows", () => first.state === "replaced");
  assert.equal(first.status.code, 4409);
  await stays(first, "replaced");
  assert.equal(second.state, "online");
  await first.connect(); // only by wish
  await eventually("the second knows", () => second.state === "replaced");
});

test("main_offline: a web session without its phone says so and waits for it", async (t) => {
  const { device, user } = world(t, server);
  const alice = user("alice");
  const web = await device(alice, "sub", { connect: false });
  const connected = web.connect();
  await eventually("it waits", () => web.state === "main_offline");
  assert.deepEqual([web.status.code, web.status.lastSeen], [4303, null]); // there is no phone yet
  const phone = await device(alice, "main");
  await connected;
  assert.equal(web.state, "online");
  assert.deepEqual(web.main, { device: phone.device, online: true, lastSeen: web.main.lastSeen });

  // It may go once the web session has what it needs; a new connection needs it again.
  web.disconnect();
  phone.disconnect();
  await eventually("the server knows", async () => (await web.devices()).every(({ online }) => !online));
  const again = web.connect();
  await eventually("it waits", () => web.state === "main_offline");
  assert.ok(Number.isInteger(web.status.lastSeen));
  assert.ok(web.status.retryIn > 0);
  assert.match(web.status.text, /phone/);
  await phone.connect();
  await again; // connect() resolved at the first `ready` already: this one is of the second
  await eventually("it is back", () => web.state === "online");
});

test("kicked: stops, and connects again only by wish", async (t) => {
  const { device, user } = world(t, server);
  const alice = user("alice");
  const phone = await device(alice, "main");
  await server.admin("POST", `/admin/v1/users/${alice}/kick`);
  await eventually("it is kicked", () => phone.state === "kicked");
  assert.equal(phone.status.code, 4410);
  await stays(phone, "kicked");
  await phone.connect();
  assert.equal(phone.state, "online");
});

test("offline: it tries ever more slowly, at random a little, and comes back when the server does", async (t) => {
  const { device, user } = world(t, server);
  const proxy = await startProxy(server.port);
  t.after(() => proxy.stop());
  const phone = await device(user("alice"), "main", { url: proxy.url, timing: { pause: 20, pauseMax: 80 } });
  phone.notes.states.length = 0;
  proxy.refuse(true);
  proxy.cut();
  const waits = () => phone.notes.states.filter(({ state }) => state === "offline").map(({ retryIn }) => retryIn);
  await eventually("six tries", () => waits().length >= 6);
  const bases = [20, 40, 80, 80, 80, 80];
  waits().slice(0, 6).forEach((wait, n) => assert.ok(wait >= bases[n] * 0.5 - 1 && wait <= bases[n] * 1.5 + 1, `${waits()}`));
  proxy.refuse(false);
  await eventually("it is back", () => phone.state === "online");
  phone.notes.states.length = 0;
  proxy.cut();
  await eventually("and back", () => phone.state === "online" && waits().length > 0);
  assert.ok(waits()[0] <= 30 + 1, "the pause begins anew after a connection stood");
});

test("a server that stops says so, and it is tried again", async (t) => {
  const own = await startServer("--drain-acks", "100ms", "--drain-deadline", "1s");
  t.after(() => own.stop());
  const { device, user } = world(t, own);
  const phone = await device(user("alice"), "main");
  own.drain();
  await eventually("it knows", () => phone.notes.states.some(({ state, code }) => state === "offline" && code === 4300));
});

test("a half-open connection is noticed by silence, and what was missed comes", async (t) => {
  const { device, user } = world(t, server);
  const proxy = await startProxy(server.port);
  t.after(() => proxy.stop());
  const [alice, bob] = [user("alice"), user("bob")];
  const phone = await device(alice, "main", { url: proxy.url, timing: { silence: 100, patience: 1_000, open: 2_000 } });
  const bobs = await device(bob, "main");
  const { id: chat } = await phone.createChat({ kind: "direct", with: bob });
  // In quiet times pings keep it alive.
  phone.notes.states.length = 0;
  let pongs = 0;
  phone.on("frame", ({ direction, frame }) => { if (direction === "in" && frame.type === "pong") pongs++; });
  await eventually("three signs of life", () => pongs >= 3);
  assert.deepEqual(names(phone), []);
  proxy.freeze();
  await bobs.send(chat, "do you hear me?");
  await eventually("it is noticed", () => names(phone).includes("offline"));
  await eventually("it came", () => phone.chat(chat).top === 1);
  assert.deepEqual(phone.notes.contents.get(chat), ["do you hear me?"]);
});

test("a frame that is too large ends in failed: a bug isn't repeated for ever", async (t) => {
  const { device, user } = world(t, server);
  const WebSocket = tampered(() => undefined);
  const phone = await device(user("alice"), "main", { WebSocket });
  WebSocket.say("x".repeat(2_200_000)); // more than the server reads
  await eventually("it stops", () => phone.state === "failed");
  assert.equal(phone.status.code, 4413);
});

test("without a WebSocket the error says what to do", async (t) => {
  const { device, user } = world(t, server);
  const { WebSocket } = globalThis;
  const phone = await device(user("alice"), "main", { connect: false });
  try {
    delete globalThis.WebSocket;
    await assert.rejects(phone.connect(), (error) => error.code === "no_websocket" && /--experimental-websocket/.test(error.message) && /`ws`/.test(error.message));
  } finally {
    globalThis.WebSocket = WebSocket;
  }
  assert.equal(phone.state, "failed");
});

test("storage of one device isn't used for another", async (t) => {
  const users = world(t, server);
  const { device, user } = users;
  const storage = memory();
  const { phone: alices, chat } = await talked(users, user("alice"), "alice's secret", { storage });
  await alices.close();
  const bobs = await device(user("bob"), "main");
  const wrong = watch(new Keepstep({ url: server.url, token: bobs.token, storage }));
  t.after(() => wrong.close());
  await assert.rejects(wrong.connect(), { code: "storage_mismatch" });
  assert.equal(wrong.state, "failed");
  const [message] = await storage.messages(chat, { before: 10, limit: 10 }); // nothing was changed
  assert.equal(message.content, "alice's secret");
  assert.equal((await storage.load()).values.device, alices.device);
});

test("what can't be stored isn't acknowledged, and comes again", async (t) => {
  const { device, user } = world(t, server);
  const storage = memory();
  let broken = false;
  const failing = { ...storage, write: (changes) => (broken && changes.messages ? Promise.reject(new Error("disk full")) : storage.write(changes)) };
  const phone = await device(user("alice"), "main", { storage: failing });
  const { id: chat } = await phone.createChat({ kind: "group" });
  broken = true;
  await phone.send(chat, "one");
  await eventually("the failure is told", () => phone.notes.errors.some(({ code, message }) => code === "storage" && /disk full/.test(message)));
  assert.equal(phone.chat(chat).top, 0);
  broken = false;
  await eventually("it came again", () => phone.chat(chat).top === 1);
  assert.deepEqual(phone.notes.contents.get(chat), ["one"]);
});

test("a listener that throws is reported, and stops nothing", async (t) => {
  const { device, user } = world(t, server);
  const phone = await device(user("alice"), "main");
  const reported = [];
  const before = globalThis.reportError;
  globalThis.reportError = (error) => reported.push(error.message);
  t.after(() => { globalThis.reportError = before; });
  phone.on("message", () => { throw new Error("a bug of the app"); });
  const { id: chat } = await phone.createChat({ kind: "group" });
  await phone.send(chat, "one");
  await phone.send(chat, "two");
  await eventually("both came", () => phone.chat(chat).top === 2);
  assert.deepEqual(reported, ["a bug of the app", "a bug of the app"]);
});
