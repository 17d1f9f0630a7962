// What the server holds no more. A real server forgets only after days, or over a real NSQ: here somebody in between swallows
// messages and says `gap` in their place, as the server would. What is asked and answered then is real.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { memory } from "../keepstep.js";
import { startServer } from "./support/server.mjs";
import { tampered } from "./support/tampered.mjs";
import { eventually, told, world } from "./support/world.mjs";

let server;
before(async () => { server = await startServer(); });
after(() => server?.stop());

/** Swallows what `gone` names, and tells it as gaps. */
const forgetting = (gone) => tampered((frame) => {
  if (frame.type !== "message" || !gone.includes(frame.seq)) return undefined;
  const from = Math.min(...gone);
  const to = Math.max(...gone);
  return frame.seq === to ? [{ type: "gap", chat: frame.chat, from, to }] : [];
});

/** Alice's phone and bob's, and her web session's storage, registered and away. */
async function apart(t) {
  const { user, device } = world(t, server);
  const [alice, bob] = [user("alice"), user("bob")];
  const phone = await device(alice, "main");
  const bobs = await device(bob, "main");
  const { id: chat } = await bobs.createChat({ kind: "direct", with: alice });
  const storage = memory();
  const web = await device(alice, "sub", { storage });
  await bobs.send(chat, "1");
  await eventually("it came", () => web.chat(chat)?.top === 1 && phone.chat(chat)?.top === 1);
  await web.close();
  return { alice, bob, phone, bobs, chat, storage, device };
}

const say = async (client, chat, from, to) => {
  for (let n = from; n <= to; n++) await client.send(chat, `${n}`);
};

test("a web session fills a gap from its phone, in turn: nothing behind it is told before", async (t) => {
  const { alice, phone, bobs, chat, storage, device } = await apart(t);
  await say(bobs, chat, 2, 260);
  await eventually("the phone has it", () => phone.chat(chat).top === 260);
  const gone = Array.from({ length: 230 }, (_, n) => n + 11);
  const web = await device(alice, "sub", { storage, WebSocket: forgetting(gone) });
  const gaps = [];
  web.on("gap", (gap) => gaps.push(gap));
  await eventually("all is there", () => web.chat(chat).top === 260);
  assert.deepEqual(web.notes.seqs.get(chat), Array.from({ length: 259 }, (_, n) => n + 2));
  assert.deepEqual(gaps, [{ chat, from: 11, to: 240, filled: true }]);
  assert.deepEqual(await told(web, chat), await told(phone, chat));
  assert.equal(web.chat(chat).unread, 260);
  assert.deepEqual(web.notes.errors, []);
});

test("with the phone away the gap is told and live messages go on; it is filled when the phone is back", async (t) => {
  const { alice, phone, bobs, chat, storage, device } = await apart(t);
  const web = await device(alice, "sub", { storage, WebSocket: forgetting([3, 4]) });
  const events = [];
  web.on("gap", ({ from, to, filled }) => events.push(`gap ${from}-${to} ${filled}`));
  web.on("history", ({ messages, reason }) => events.push(`${reason} ${messages.map(({ seq }) => seq)}`));
  await say(bobs, chat, 2, 2);
  await eventually("both have it", () => web.chat(chat).top === 2 && phone.chat(chat).top === 2);
  await say(web, chat, 3, 3); // replied to behind `ready`, so the web session may stay without the phone
  await eventually("the phone has it", () => phone.chat(chat).top === 3);
  phone.disconnect();
  await eventually("the web session knows", () => web.main.online === false);
  await say(bobs, chat, 4, 5);
  await eventually("what follows came", () => web.chat(chat).top === 5);
  assert.deepEqual(web.notes.seqs.get(chat), [2, 5]);
  assert.deepEqual(events, ["gap 3-4 false"]);
  await phone.connect();
  await eventually("it is filled", () => events.length === 3);
  assert.deepEqual(events, ["gap 3-4 false", "gap 3,4", "gap 3-4 true"]);
  assert.deepEqual(await told(web, chat), await told(phone, chat));
  assert.equal(web.chat(chat).unread, 4); // all but the one that alice said
});

test("a phone has nobody to ask: it is told what is missing, and goes on behind it", async (t) => {
  const { user, device } = world(t, server);
  const bobs = await device(user("bob"), "main");
  const phone = await device(user("alice"), "main", { WebSocket: forgetting([2, 3, 4]) });
  const { id: chat } = await bobs.createChat({ kind: "direct", with: user("alice") });
  const gaps = [];
  phone.on("gap", (gap) => gaps.push(gap));
  await say(bobs, chat, 1, 6);
  await eventually("what follows came", () => phone.chat(chat).top === 6);
  assert.deepEqual(phone.notes.seqs.get(chat), [1, 5, 6]);
  assert.deepEqual(gaps, [{ chat, from: 2, to: 4, filled: false }]);
  assert.equal(phone.chat(chat).unread, 3);
  assert.deepEqual(phone.notes.states.map(({ state }) => state), ["connecting", "online"]); // no connection was lost over it
});

test("a gap of a million numbers costs one page", async (t) => {
  const { alice, phone, bobs, chat, storage, device } = await apart(t);
  await say(bobs, chat, 2, 3);
  await eventually("the phone has it", () => phone.chat(chat).top === 3);
  let pages = 0;
  phone.on("history_served", () => pages++);
  // As after an older copy of the server's data: numbers were skipped, 3 comes as 1000003.
  const skip = 1_000_000;
  const WebSocket = tampered((frame) => {
    if (frame.type === "message" && frame.seq === 2) return [frame, { type: "gap", chat, from: 3, to: skip + 2 }];
    if (frame.type === "message" && frame.seq === 3) return [{ ...frame, seq: skip + 3 }];
    // Its question and its acknowledgement are beyond what this server ever sent: answered in its place.
    if (frame.type === "reply" && frame.error?.code === "bad_range") return [{ type: "reply", id: frame.id, ok: { messages: [], more: false } }];
    return frame.type === "error" ? [] : undefined;
  });
  const web = await device(alice, "sub", { storage, WebSocket });
  await eventually("it goes on", () => web.chat(chat).top === skip + 3);
  assert.deepEqual(web.notes.seqs.get(chat), [2, skip + 3]);
  assert.equal(web.chat(chat).unread, 3);
  assert.ok(pages <= 1, `${pages} pages`);
});

test("a message that is swallowed without a word is noticed: the connection is made anew, and it comes", async (t) => {
  const { user, device } = world(t, server);
  let swallowed = false;
  const WebSocket = tampered((frame) => {
    if (frame.type !== "message" || frame.seq !== 2 || swallowed) return undefined;
    swallowed = true;
    return [];
  });
  const phone = await device(user("alice"), "main", { WebSocket });
  const { id: chat } = await phone.createChat({ kind: "group" });
  await say(phone, chat, 1, 4);
  await eventually("all came", () => phone.chat(chat).top === 4);
  assert.deepEqual(phone.notes.seqs.get(chat), [1, 2, 3, 4]);
  assert.ok(phone.notes.states.some(({ state }) => state === "offline"));
});
