// The moment in which a browser closes a database under an open page, and hasn't told the page yet.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import "fake-indexeddb/auto";
import { indexedDB } from "../keepstep.js";
import { clearing } from "./support/clearing.mjs";
import { startServer } from "./support/server.mjs";
import { eventually, told, world } from "./support/world.mjs";

let server;
before(async () => { server = await startServer(); });
after(() => server?.stop());

const DATABASE = "keepstep.phone";

/** Alice's phone in a page, and a chat in which she has said three things. */
async function talked(t) {
  const { device, user } = world(t, server);
  const site = clearing();
  const phone = await device(user("alice"), "main", { storage: indexedDB("phone", { factory: site.factory, locks: null }) });
  const { id: chat } = await phone.createChat({ kind: "group" });
  for (const text of ["one", "two", "three"]) await phone.send(chat, text);
  await eventually("all is there", () => phone.chat(chat).top === 3);
  const losses = [];
  phone.on("history_lost", (loss) => losses.push(loss));
  return { phone, chat, site, losses };
}

/** What becomes of a promise: null while it isn't settled. */
function outcome(promise) {
  const result = { now: null };
  promise.then((value) => { result.now = { value }; }, ({ code }) => { result.now = { code }; });
  return result;
}

test("what is asked of a storage in the moment in which it is cleared gets an answer; what is written then is sent, once", async (t) => {
  const { phone, chat, site, losses } = await talked(t);
  const id = phone.device;
  const tell = site.close(DATABASE);
  const asked = outcome(phone.history(chat));
  const sent = outcome(phone.send(chat, "in that moment"));
  const read = outcome(phone.read(chat, 2));
  await tell({ clear: true });
  await eventually("the question is answered", () => asked.now);
  assert.deepEqual(asked.now, { code: "storage_lost" });
  await eventually("the message is sent", () => sent.now);
  assert.equal(sent.now.value?.seq, 4, JSON.stringify(sent.now));
  await eventually("the offset is settled", () => read.now);
  await eventually("it is connected again", () => phone.state === "online" && phone.chat(chat)?.top === 4);
  assert.deepEqual([phone.device, phone.chat(chat).lost, losses], [id, true, [{ kind: "main", chats: null }]]);
  await phone.recover();
  assert.deepEqual((await told(phone, chat)).map((line) => line.split(": ")[1]), ["one", "two", "three", "in that moment"]);
  assert.deepEqual([phone.notes.errors, phone.notes.wrong, phone.outbox()], [[], [], []]);
});

test("a database that the browser closes without clearing it goes on: nothing fails, nothing is lost", async (t) => {
  const { phone, chat, site, losses } = await talked(t);
  const tell = site.close(DATABASE);
  const asked = outcome(phone.history(chat));
  const sent = outcome(phone.send(chat, "four"));
  await tell({ clear: false });
  await eventually("the question is answered", () => asked.now);
  assert.deepEqual(asked.now.value?.messages.map(({ content }) => content), ["one", "two", "three"]);
  await eventually("the message is sent", () => sent.now);
  assert.equal(sent.now.value?.seq, 4);
  await eventually("it is stored", () => phone.chat(chat).top === 4);
  assert.equal((await told(phone, chat)).length, 4);
  assert.deepEqual([losses, phone.notes.errors, phone.notes.wrong], [[], [], []]);
});

test("a client whose storage is just being cleared can be closed", async (t) => {
  const { phone, chat, site } = await talked(t);
  const tell = site.close(DATABASE);
  phone.read(chat, 3).catch(() => {});
  await tell({ clear: true });
  const closed = outcome(phone.close());
  await eventually("it is closed", () => closed.now);
  assert.deepEqual(closed.now, { value: undefined });
});

test("a storage that is cleared once more while the phone makes itself anew: whenever that is, it is the same device, and connected", async (t) => {
  let steps = 0;
  for (let step = 1; step <= 12; step++) {
    const { phone, chat, site, losses } = await talked(t);
    const id = phone.device;
    let begun = 0;
    let again = null;
    site.begun = () => {
      begun += 1;
      if (begun !== step) return;
      const tell = site.close(DATABASE);
      again = new Promise((resolve) => { setTimeout(() => resolve(tell({ clear: true }))); });
    };
    await site.close(DATABASE)({ clear: true });
    await eventually(`${step}: it was cleared again, or needs fewer steps`, () => again !== null || (phone.state === "online" && phone.chat(chat)?.lost));
    if (again === null) break;
    steps = step;
    await again;
    await eventually(`${step}: it is connected again`, () => phone.state === "online" && phone.chat(chat)?.lost);
    assert.equal(phone.device, id);
    assert.deepEqual(await phone.recover(), { messages: 3, lost: [] }, `at step ${step}`);
    assert.ok(losses.length >= 1 && losses.length <= 2, `${step}: ${losses.length}`);
    assert.ok(phone.notes.states.every(({ state }) => !["failed", "unauthorized"].includes(state)), `${step}: ${JSON.stringify(phone.notes.states)}`);
  }
  assert.ok(steps >= 4, `it was cleared at ${steps} steps only`);
});
