// Every close code of docs/protocol.md that no other test provokes, given by a real server: what the client tells, and what it
// does then. (4401, 4403, 4409, 4410, 4413, 4303 and 1006: states.test.mjs.)
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { memory } from "../keepstep.js";
import { startProxy } from "./support/proxy.mjs";
import { startServer } from "./support/server.mjs";
import { startStack } from "./support/stack.mjs";
import { tampered } from "./support/tampered.mjs";
import { eventually, held, ofMessages, stays, told, world } from "./support/world.mjs";

let server;
before(async () => { server = await startServer("--heartbeat", "1s", "--ack-timeout", "1s"); });
after(() => server?.stop());

/** The next end of a client's connection, as the app is told of it. */
const ended = (client) => client.once("state", ({ state }) => !["connecting", "booting", "online"].includes(state));

/** 43xx: told as `offline` with its code, and tried again by itself. */
async function comesBack(client, status, code, words) {
  assert.deepEqual([status.state, status.code, status.error], ["offline", code, null]);
  assert.match(status.text, words);
  assert.ok(status.retryIn > 0);
  await eventually("it is back", () => client.state === "online");
}

/** 44xx: told as `failed` with its code, and not tried again by itself; by wish it is. */
async function stops(client, status, code, name) {
  assert.deepEqual([status.state, status.code, status.retryIn, status.error?.code], ["failed", code, null, name]);
  await stays(client, "failed");
  await client.connect();
  assert.equal(client.state, "online");
}

/** Two phones in a chat; alice's over a proxy if there is one. */
async function talking(t, on, { url, ...options } = {}) {
  const { user, device } = world(t, on);
  const phone = await device(user("alice"), "main", { ...(url ? { url } : {}), ...options });
  const bobs = await device(user("bob"), "main");
  const { id: chat } = await bobs.createChat({ kind: "direct", with: user("alice") });
  await eventually("alice knows the chat", () => phone.chat(chat));
  return { phone, bobs, chat, device, user };
}

test("4300: an edge that stops says so; the client finds another one, and nothing is lost", async (t) => {
  const stack = await startStack(t);
  const first = await stack.edge("--drain-acks", "100ms");
  const second = await stack.edge();
  const proxy = await startProxy(first.port);
  t.after(() => proxy.stop());
  const { phone, bobs, chat } = await talking(t, second, { url: proxy.url });
  await bobs.send(chat, "before");
  await eventually("it came", () => phone.chat(chat).top === 1);
  assert.notEqual(phone.welcome.edge, bobs.welcome.edge);
  const end = ended(phone);
  proxy.point(second.port);
  first.drain();
  await comesBack(phone, await end, 4300, /restarts/);
  assert.equal(phone.welcome.edge, bobs.welcome.edge);
  await bobs.send(chat, "after");
  await eventually("it came", () => phone.chat(chat).top === 2);
  assert.deepEqual(phone.notes.contents.get(chat), ["before", "after"]);
});

test("4301: what the network didn't let through in time comes after the reconnection, each once", async (t) => {
  const own = await startServer("--write-timeout", "500ms", "--unacked-window", "1024");
  t.after(() => own.stop());
  const proxy = await startProxy(own.port);
  t.after(() => proxy.stop());
  const { phone, bobs, chat } = await talking(t, own, { url: proxy.url });
  const end = ended(phone);
  proxy.stall();
  proxy.mute(); // what a client says to a closed socket may cost it the reason: that would be 1006, and the same to the app
  const slow = 'keepstep_closes_total{code="slow_consumer"}';
  assert.equal(await own.metric(slow), 0);
  // More than all buffers on the way hold.
  const big = "x".repeat(60_000);
  let said = 0;
  for (; (await own.metric(slow)) === 0; said++) {
    assert.ok(said < 800, "48 MB, and it isn't closed");
    await bobs.send(chat, big);
  }
  proxy.flow();
  await comesBack(phone, await end, 4301, /too slowly/);
  await eventually("all came", () => phone.chat(chat).top === said);
  assert.deepEqual(phone.notes.wrong, []);
  assert.deepEqual(phone.notes.seqs.get(chat), Array.from({ length: said }, (_, n) => n + 1));
});

test("4302: a client whose signs of life don't get through is told so, and comes back", async (t) => {
  const proxy = await startProxy(server.port);
  t.after(() => proxy.stop());
  const { phone, bobs, chat } = await talking(t, server, { url: proxy.url });
  const end = ended(phone);
  proxy.mute();
  const waiting = phone.send(chat, "do you hear me?"); // goes nowhere, at first
  await comesBack(phone, await end, 4302, /heard nothing/);
  assert.equal((await waiting).seq, 1);
  await eventually("bob has it", () => bobs.chat(chat).top === 1);
  assert.deepEqual(bobs.notes.contents.get(chat), ["do you hear me?"]);
});

test("4304: a server that lost its store sends everybody away, and they come back with it; what was written meanwhile goes out", async (t) => {
  const stack = await startStack(t);
  const edge = await stack.edge("--lease", "2s", "--lease-renewal", "500ms");
  const { phone, bobs, chat } = await talking(t, edge);
  const end = ended(phone);
  stack.freeze();
  const waiting = phone.send(chat, "written meanwhile");
  const status = await end;
  assert.deepEqual([status.state, status.code], ["offline", 4304]);
  // While it lasts each try ends the same way, and the next one waits longer.
  await eventually("it tried again", () => phone.notes.states.filter(({ code }) => code === 4304).length >= 2, { within: 30_000 });
  assert.deepEqual(phone.outbox(chat).map(({ body }) => body.content), ["written meanwhile"]);
  stack.thaw();
  await comesBack(phone, status, 4304, /store/);
  assert.equal((await waiting).seq, 1);
  await eventually("bob has it", () => bobs.chat(chat)?.top === 1);
  assert.deepEqual(bobs.notes.contents.get(chat), ["written meanwhile"]);
});

test("4305: a storage that takes too long costs the connection, not the message: it is told once", async (t) => {
  const { storage, hold } = held(memory(), ofMessages);
  const { phone, bobs, chat } = await talking(t, server, { storage });
  const end = ended(phone);
  const release = hold();
  await bobs.send(chat, "slow disk");
  const status = await end;
  assert.equal(phone.chat(chat).top, 0); // told is only what is stored
  assert.deepEqual(phone.notes.contents.get(chat), undefined);
  release();
  await comesBack(phone, status, 4305, /stored in time/);
  await eventually("it is stored", () => phone.chat(chat).top === 1);
  await bobs.send(chat, "fast again");
  await eventually("it goes on", () => phone.chat(chat).top === 2);
  assert.deepEqual(phone.notes.contents.get(chat), ["slow disk", "fast again"]);
  // The server knows that it is acknowledged: another life of the phone isn't sent it again.
  await eventually("acknowledged", async () => {
    phone.disconnect();
    await phone.connect();
    return (await told(phone, chat)).length === 2 && phone.notes.wrong.length === 0;
  });
});

test("4400: ten bad frames in a row are a bug: the client stops", async (t) => {
  const { device, user } = world(t, server);
  const WebSocket = tampered(() => undefined);
  const phone = await device(user("alice"), "main", { WebSocket });
  const end = ended(phone);
  for (let n = 0; n < 10; n++) WebSocket.say("{}");
  await stops(phone, await end, 4400, "bad_frame");
  assert.ok(phone.notes.errors.length >= 9, "each refusal is told, too"); // the last may be overtaken by the end
});

test("4429: questions that nothing can answer don't pile up: the client stops", async (t) => {
  const stack = await startStack(t);
  const edge = await stack.edge();
  const { storage, hold } = held(memory(), ofMessages);
  const WebSocket = tampered(() => undefined);
  const { phone, bobs, chat } = await talking(t, edge, { storage, WebSocket });
  const release = hold();
  const came = phone.once("frame", ({ direction, frame }) => direction === "in" && frame.type === "message");
  await bobs.send(chat, "for the record");
  await came;
  const end = ended(phone);
  stack.freeze();
  for (let id = 1; id <= 1_100; id++) WebSocket.say(JSON.stringify({ type: "ack", id: `${id}`, chat, seq: 1 }));
  const status = await end;
  stack.thaw();
  release();
  await stops(phone, status, 4429, "too_many_requests");
  await eventually("it has the message", () => phone.chat(chat).top === 1);
});
