// Legal texts of every kind arrive; one that is too large is told for itself, and holds up nothing behind it.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { memory } from "../keepstep.js";
import { startServer } from "./support/server.mjs";
import { tampered } from "./support/tampered.mjs";
import { eventually, told, world } from "./support/world.mjs";

/** Bytes of content that are legal. As JSON they may be six times as many. */
const MOST = 65_536;
const TEXTS = {
  "letters of one byte": "x",
  "letters of two bytes": "я",
  "letters of four bytes": "😀",
  "quotation marks": '"',
  "line feeds": "\n",
  "control characters": "\u0001",
};
/** So many of them that they are the most there may be. */
const full = (letter) => letter.repeat(MOST / Buffer.byteLength(letter));

let server;
before(async () => { server = await startServer(); });
after(() => server?.stop());

for (const [name, letter] of Object.entries(TEXTS)) {
  test(`65,536 bytes of ${name} arrive, are borrowed from the phone, and end no connection`, async (t) => {
    const { device, user } = world(t, server);
    const phone = await device(user("alice"), "main");
    const bobs = await device(user("bob"), "main");
    const { id: chat } = await phone.createChat({ kind: "direct", with: user("bob") });
    assert.equal((await phone.send(chat, { content: full(letter), memo: letter.repeat(250) })).seq, 1);
    await phone.send(chat, "behind it");
    await eventually("bob has both", () => bobs.chat(chat)?.top === 2);
    await eventually("so has alice", () => phone.chat(chat).top === 2);
    assert.equal(bobs.notes.contents.get(chat)[0], full(letter));
    const web = await device(user("alice"), "sub");
    assert.equal((await web.history(chat)).messages[0].content, full(letter));
    for (const client of [phone, bobs, web]) {
      assert.deepEqual(client.notes.states.map(({ state }) => state).filter((state) => state !== "booting"), ["connecting", "online"]);
      assert.deepEqual(client.notes.errors, []);
    }
  });
}

test("text with half a character in it arrives with the mark for one that can't be read", async (t) => {
  const { device, user } = world(t, server);
  const phone = await device(user("alice"), "main");
  const { id: chat } = await phone.createChat({ kind: "group" });
  const sent = [
    phone.send(chat, "cut in the middle: \ud83d"),
    phone.send(chat, { content: "fine", meta: { "a\ud83d": ["\udc00 b"] } }),
    phone.send(chat, "behind them"),
  ];
  assert.deepEqual((await Promise.all(sent)).map(({ seq }) => seq), [1, 2, 3]);
  await eventually("all came", () => phone.chat(chat).top === 3);
  const { messages } = await phone.history(chat);
  assert.deepEqual([messages[0].content, messages[1].meta], ["cut in the middle: \ufffd", { "a\ufffd": ["\ufffd b"] }]);
  assert.deepEqual(phone.notes.errors, []);
});

test("what the server can't even read is refused for itself, and what is behind it goes on", async (t) => {
  const { device, user } = world(t, server);
  const phone = await device(user("alice"), "main");
  const { id: chat } = await phone.createChat({ kind: "group" });
  const nested = (deep) => JSON.parse("[".repeat(deep) + "]".repeat(deep));
  const refused = [];
  phone.on("refused", ({ error }) => refused.push(error.code));
  const deep = [100, 1_000].map((depth) => phone.send(chat, { kind: "x.deep", content: nested(depth) }));
  const behind = phone.send(chat, "behind them");
  for (const one of deep) await assert.rejects(one, ({ code, retry }) => ["bad_field", "bad_json"].includes(code) && retry === false);
  assert.equal((await behind).seq, 1);
  assert.equal(refused.length, 2);
  assert.equal(phone.state, "online");
});

test("too large for the server is told for that message, however it says so: as a reply, as an error, or by closing", async (t) => {
  const { device, user } = world(t, server);
  const error = { code: "too_large", message: "content has at most 65536 bytes", retry: false };
  // As a server of smaller limits would: it swallows the frame that is named and says so.
  for (const how of ["reply", "error", "close"]) {
    const WebSocket = tampered(() => undefined);
    class Small extends WebSocket {
      send(text) {
        const frame = JSON.parse(text);
        if (frame.content?.length !== 50_000) return super.send(text);
        setImmediate(() => {
          if (how === "reply") this.onmessage({ data: JSON.stringify({ type: "reply", id: frame.id, error }) });
          if (how === "error") this.onmessage({ data: JSON.stringify({ type: "error", frame: null, error }) });
          if (how === "close") this.onclose({ code: 4413, reason: "frame_too_large" });
        });
      }
    }
    const storage = memory();
    const phone = await device(user(`alice-${how}`), "main", { WebSocket: Small, storage });
    const { id: chat } = await phone.createChat({ kind: "group" });
    const { id: other } = await phone.createChat({ kind: "group" });
    const refused = [];
    phone.on("refused", (one) => refused.push(one));
    const all = [phone.send(chat, "before"), phone.send(chat, "x".repeat(50_000)), phone.send(chat, "behind"), phone.send(other, "elsewhere")];
    await assert.rejects(all[1], { code: "too_large", retry: false }, how);
    assert.deepEqual([(await all[0]).seq, (await all[2]).seq, (await all[3]).seq], [1, 2, 1], how);
    assert.deepEqual(refused.map(({ body, error: { code } }) => [body.content.length, code]), [[50_000, "too_large"]], how);
    await eventually("it is connected", () => phone.state === "online");
    await eventually("all came", () => phone.chat(chat).top === 2 && phone.chat(other).top === 1);
    assert.deepEqual(await told(phone, chat), ["before", "behind"].map((text, n) => `#${n + 1} ${phone.user}: ${text}`));
    assert.deepEqual((await storage.load()).outbox, [], how);
    await phone.close();
  }
});
