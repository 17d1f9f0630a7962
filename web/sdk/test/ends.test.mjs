// What a client leaves behind when it ends, and what mustn't end it.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { getEventListeners } from "node:events";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { memory } from "../keepstep.js";
import { PresenceBook } from "../lib/presence.js";
import { startProxy } from "./support/proxy.mjs";
import { startServer } from "./support/server.mjs";
import { tampered } from "./support/tampered.mjs";
import { METHODS, eventually, stays, world } from "./support/world.mjs";

let server;
before(async () => { server = await startServer(); });
after(() => server?.stop());

/** A storage that notes what is asked of it after it was closed. */
function watched(storage) {
  const late = [];
  let closed = false;
  const method = (name) => (...args) => {
    if (closed) late.push(name);
    closed ||= name === "close";
    return storage[name](...args);
  };
  return { storage: Object.fromEntries(METHODS.map((name) => [name, method(name)])), late };
}

test("a closed client refuses everything, and leaves its storage alone", async (t) => {
  const { device, user } = world(t, server);
  const { storage, late } = watched(memory());
  const phone = await device(user("alice"), "main", { storage });
  const { id: chat } = await phone.createChat({ kind: "group" });
  const sending = Array.from({ length: 20 }, (_, n) => phone.send(chat, `${n}`));
  await sending[3]; // in the middle of it
  await phone.close();
  assert.equal(phone.state, "closed");
  for (const call of [() => phone.connect(), () => phone.open(), () => phone.send(chat, "late"), () => phone.history(chat), () => phone.read(chat)]) {
    await assert.rejects(call, { code: "closed" });
  }
  await stays(phone, "closed");
  assert.deepEqual(late, []);
});

test("a client that is closed while it registers stops there", async (t) => {
  const { device, user } = world(t, server);
  const { storage, late } = watched(memory());
  let asked;
  const asking = new Promise((resolve) => { asked = resolve; });
  let signal;
  const hanging = (_, options) => new Promise((_, reject) => {
    ({ signal } = options);
    signal.addEventListener("abort", () => reject(signal.reason));
    asked();
  });
  const phone = await device(user("alice"), "main", { storage, fetch: hanging, connect: false });
  const connecting = phone.connect();
  await asking;
  await phone.close();
  await assert.rejects(connecting, { code: "closed" });
  assert.equal(signal.aborted, true, "the call was given up");
  assert.deepEqual(late, []);
});

test("closed, also in the middle of a conversation, nothing keeps Node running", async (t) => {
  const proxy = await startProxy(server.port);
  t.after(() => proxy.stop());
  const program = `
    import { Keepstep } from "./keepstep.js";
    const { URL_, TOKEN } = process.env;
    const client = new Keepstep({ url: URL_, register: { userToken: TOKEN, kind: "main", name: "n", platform: "test" } });
    await client.connect();
    client.watch(["somebody"]);
    const { id } = await client.createChat({ kind: "group" });
    for (let n = 0; n < 50; n++) client.send(id, String(n));
    await client.once("message");
    client.typing(id);
    await client.close();
    console.log("closed");
  `;
  const cwd = fileURLToPath(new URL("..", import.meta.url));
  const env = { ...process.env, URL_: proxy.url, TOKEN: server.userToken(`closing-${Math.random()}`) };
  const args = ["--experimental-websocket", "--no-warnings", "--input-type=module", "-e", program];
  const begun = Date.now();
  const { stdout, stderr } = await promisify(execFile)(process.execPath, args, { cwd, env, timeout: 30_000 });
  assert.deepEqual([stdout, stderr], ["closed\n", ""]);
  assert.ok(Date.now() - begun < 15_000, "well before any of its deadlines");
});

test("an app that can't get a user token now is asked again; one that has none stops", async (t) => {
  const { device, user } = world(t, server);
  let asked = 0;
  const userToken = async () => {
    if (++asked < 3) throw new TypeError("fetch failed");
    return server.userToken(user("alice"));
  };
  const register = { userToken, kind: "main", name: "Phone", platform: "test" };
  const phone = await device(user("alice"), "main", { register });
  assert.equal(asked, 3);
  assert.deepEqual(phone.notes.states.map(({ state }) => state).filter((state) => state !== "connecting"), ["offline", "offline", "online"]);
  assert.match(phone.notes.states.find(({ state }) => state === "offline").text, /sign in/);
  const nobody = await device(user("bob"), "main", { register: { ...register, userToken: async () => null }, connect: false });
  await assert.rejects(nobody.connect(), { name: "KeepstepError", code: "no_token" });
  assert.equal(nobody.state, "unauthorized");
});

test("whatever a WebSocket throws at its making ends in a KeepstepError", async (t) => {
  const { device, user } = world(t, server);
  class Refusing { constructor() { throw new SyntaxError("not here"); } }
  const phone = await device(user("alice"), "main", { WebSocket: Refusing, connect: false });
  await assert.rejects(phone.connect(), { name: "KeepstepError", code: "failed", message: "not here" });
  assert.equal(phone.state, "failed");
});

test("a WebSocket that throws when it is to send costs the connection, not the message", async (t) => {
  const { device, user } = world(t, server);
  let broken = false;
  class Throwing extends WebSocket {
    send(text) {
      if (broken && text.includes('"send"')) {
        broken = false;
        throw new Error("the bridge is gone");
      }
      super.send(text);
    }
  }
  const phone = await device(user("alice"), "main", { WebSocket: Throwing });
  const { id: chat } = await phone.createChat({ kind: "group" });
  broken = true;
  const sent = await phone.send(chat, "over the bridge");
  assert.equal(sent.seq, 1);
  assert.ok(phone.notes.states.some(({ state }) => state === "offline"));
});

test("a half-open connection is let go of at once where the WebSocket can: no goodbye would come", async (t) => {
  const { device, user } = world(t, server);
  const proxy = await startProxy(server.port);
  t.after(() => proxy.stop());
  let terminated = 0;
  class Ws extends WebSocket { // that of the package `ws` has this, too
    terminate() {
      terminated++;
      super.close();
    }
  }
  const phone = await device(user("alice"), "main", { WebSocket: Ws, url: proxy.url, timing: { silence: 100, patience: 1_000 } });
  proxy.freeze();
  const lost = phone.once("state", ({ state }) => state === "offline");
  await lost;
  assert.equal(terminated, 1);
  await phone.close();
  assert.equal(terminated, 1, "a goodbye is said where it can be");
});

test("a gap that was stepped over before is acknowledged again: the server may not have heard of it", async (t) => {
  const { device, user } = world(t, server);
  const storage = memory();
  const phone = await device(user("alice"), "main", { storage });
  const { id: chat } = await phone.createChat({ kind: "group" });
  for (const content of ["1", "2", "3"]) await phone.send(chat, content);
  await eventually("all is stored", () => phone.chat(chat).top === 3);
  await phone.close();
  // The acknowledgement got lost with the connection, so the server tells the gap again.
  const WebSocket = tampered((frame) => frame.type === "welcome"
    ? [{ ...frame, chats: frame.chats.map((entry) => ({ ...entry, cursor: 1 })) }, { type: "gap", chat, from: 2, to: 3 }]
    : undefined);
  const again = await device(user("alice"), "main", { storage, WebSocket, connect: false });
  const acked = again.once("frame", ({ direction, frame }) => direction === "out" && frame.type === "ack", { signal: AbortSignal.timeout(10_000) });
  await again.connect();
  assert.deepEqual((await acked).frame, { type: "ack", chat, seq: 3 });
  assert.deepEqual(again.notes.errors, []);
});

test("a long connection doesn't gather listeners while people come and go", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const end = new AbortController();
  let asked = 0;
  const connection = { alive: true, signal: end.signal, ask: async () => { asked++; return { presence: [] }; } };
  const book = new PresenceBook({ connection, emit() {}, report: assert.fail });
  book.watch(["bob"]);
  for (let n = 0; n < 50; n++) {
    book.met(connection); // somebody joined; bob isn't known yet
    t.mock.timers.tick(2_000);
    await new Promise(setImmediate);
  }
  assert.ok(asked >= 50, `asked ${asked} times`);
  assert.ok(getEventListeners(end.signal, "abort").length <= 1);
});
