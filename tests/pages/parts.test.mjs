// The pure parts of the demo page, without a browser.

import assert from "node:assert/strict";
import { test } from "node:test";

import { compare, digest } from "../../web/demo/agreement.js";
import { Receipts } from "../../web/demo/receipts.js";
import { Timeline } from "../../web/demo/timeline.js";

const message = (seq, content = `m${seq}`) => ({ type: "message", chat: "c", seq, key: `k${seq}`, from: "bob", device: null, at: 1000 + seq, kind: "text", content });
const held = (...messages) => messages.map((one) => ({ seq: one.seq, digest: digest(one) }));
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => message(from + i));

test("devices agree when they hold the same, though one may begin later", () => {
  const phone = { device: "phone", held: held(...range(1, 9)) };
  assert.deepEqual(compare([phone, { device: "web", held: held(...range(4, 9)) }], 9), { seq: 9, differ: [] });
  assert.deepEqual(compare([phone, { device: "web", held: [], from: 9 }], 9), { seq: 9, differ: [] });
});

test("a hole, another content, and being behind are told apart", () => {
  const phone = { device: "phone", held: held(...range(1, 9)) };
  const web = (...messages) => compare([phone, { device: "web", held: held(...messages) }], 9).differ;
  assert.deepEqual(web(...range(1, 4), ...range(6, 9)), [{ device: "web", how: "hole", seq: 5 }]);
  assert.deepEqual(web(...range(1, 4), message(5, "else"), ...range(6, 9)), [{ device: "web", how: "other", seq: 5 }]);
  assert.deepEqual(web(...range(1, 7)), [{ device: "web", how: "behind", seq: 7 }]);
  // The same numbers and the same text, but said by somebody else.
  assert.deepEqual(web(...range(1, 8), { ...message(9), from: "eve" }), [{ device: "web", how: "other", seq: 9 }]);
  // All agree with each other, and all lack what the server has.
  assert.equal(compare([phone], 12).differ[0].how, "behind");
});

test("a timeline is ascending and holds each message once, whatever order they come in", () => {
  const timeline = new Timeline();
  for (const part of [range(5, 8), range(1, 3), [message(4)], range(2, 9)]) timeline.add(part);
  assert.deepEqual(timeline.messages.map(({ seq }) => seq), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  const { version } = timeline;
  assert.equal(timeline.add(range(1, 9)), false);
  assert.equal(timeline.version, version);
});

test("ticks only move forward, and need every other", () => {
  const receipts = new Receipts();
  const told = (from, delivered, read) => receipts.take({ kind: "x.receipt", from, content: { chat: "c", delivered, read } });
  assert.equal(receipts.tick("c", 3, ["bob", "carol"]), "sent");
  assert.equal(told("bob", 5, 3), true);
  assert.equal(receipts.tick("c", 3, ["bob", "carol"]), "sent");
  assert.equal(receipts.tick("c", 3, ["bob"]), "read");
  told("carol", 3, 0);
  assert.equal(receipts.tick("c", 3, ["bob", "carol"]), "delivered");
  assert.equal(told("bob", 4, 2), false, "an older one that comes late");
  assert.equal(receipts.tick("c", 5, ["bob"]), "delivered");
  for (const content of [null, "x", { chat: 1 }, { chat: "c", delivered: -1.5, read: 0 }]) assert.equal(receipts.take({ kind: "x.receipt", from: "eve", content }), false);
});
