// The contract of a storage, as tests. For one of your own: give it a function that makes an empty one.
import assert from "node:assert/strict";
import { test } from "node:test";

const message = (chat, seq, more = {}) => ({ type: "message", chat, seq, key: `k${seq}`, from: "alice", device: null, at: seq, kind: "text", content: `${seq}`, ...more });
const waiting = (key, n) => ({ key, chat: "a", n, at: n, body: { kind: "text", content: key } });
const seqs = async (storage, chat, options) => (await storage.messages(chat, options)).map(({ seq }) => seq);

export function contract(name, make) {
  test(`${name}: empty at first`, async () => {
    const storage = await make();
    assert.deepEqual(await storage.load(), { values: {}, chats: [], outbox: [] });
    assert.deepEqual(await storage.messages("a", { before: 10, limit: 10 }), []);
  });

  test(`${name}: gives back what was written, also after it was closed; the newer takes the place of the older`, async () => {
    const storage = await make();
    await storage.load();
    await storage.write({
      values: { token: "t", device: "d", list: [1, { two: 2 }] },
      chats: [{ id: "a", top: 1, own: { field: [1] } }, { id: "b", top: 0 }],
      messages: [message("a", 1, { meta: { deep: { er: true } } })],
      outbox: [waiting("second", 2), waiting("first", 1)],
    });
    await storage.write({ values: { token: "u", device: null }, chats: [{ id: "a", top: 2 }], messages: [message("a", 1, { content: "again" })], outbox: [waiting("third", 3)], removeOutbox: ["second"] });
    await storage.close();
    const { values, chats, outbox } = await storage.load();
    assert.deepEqual(values, { token: "u", list: [1, { two: 2 }] });
    assert.deepEqual(chats.sort((one, other) => (one.id < other.id ? -1 : 1)), [{ id: "a", top: 2 }, { id: "b", top: 0 }]);
    assert.deepEqual(outbox, [waiting("first", 1), waiting("third", 3)]);
    assert.deepEqual(await storage.messages("a", { before: 10, limit: 10 }), [message("a", 1, { content: "again" })]);
  });

  test(`${name}: pages of messages end below \`before\`, ascend, are of one chat, in whatever order they were written`, async () => {
    const storage = await make();
    await storage.load();
    const numbers = Array.from({ length: 40 }, (_, n) => ((n * 17) % 40) + 1);
    await storage.write({ messages: [...numbers.map((seq) => message("a", seq)), message("b", 5), message("aa", 6)] });
    assert.deepEqual(await seqs(storage, "a", { before: Number.MAX_SAFE_INTEGER, limit: 3 }), [38, 39, 40]);
    assert.deepEqual(await seqs(storage, "a", { before: 11, limit: 4 }), [7, 8, 9, 10]);
    assert.deepEqual(await seqs(storage, "a", { before: 3, limit: 10 }), [1, 2]);
    assert.deepEqual(await seqs(storage, "a", { before: 1, limit: 10 }), []);
    assert.deepEqual(await seqs(storage, "b", { before: 100, limit: 10 }), [5]);
    assert.equal((await seqs(storage, "a", { before: 100, limit: 1_000 })).length, 40);
  });

  test(`${name}: writes take effect in their order, and reading sees all that were called before`, async () => {
    const storage = await make();
    await storage.load();
    const writes = Array.from({ length: 50 }, (_, n) => storage.write({ values: { last: n }, messages: [message("a", n + 1)] }));
    const read = seqs(storage, "a", { before: 1_000, limit: 1_000 });
    assert.equal((await read).length, 50);
    await Promise.all(writes);
    assert.equal((await storage.load()).values.last, 49);
  });

  test(`${name}: all of a write or nothing`, async () => {
    const storage = await make();
    await storage.load();
    await storage.write({ values: { token: "t" }, messages: [message("a", 1)] });
    await assert.rejects(async () => storage.write({ values: { token: "u" }, chats: [{ id: "a" }], messages: [message("a", 2), message("a", 3, { meta: () => "not JSON" })] }));
    assert.deepEqual(await storage.load(), { values: { token: "t" }, chats: [], outbox: [] });
    assert.deepEqual(await seqs(storage, "a", { before: 100, limit: 10 }), [1]);
    await storage.write({ messages: [message("a", 2)] }); // and it goes on working
    assert.deepEqual(await seqs(storage, "a", { before: 100, limit: 10 }), [1, 2]);
  });

  test(`${name}: a chat goes with its messages, and no other's; clear leaves nothing`, async () => {
    const storage = await make();
    await storage.load();
    await storage.write({ chats: [{ id: "a" }, { id: "b" }], messages: [message("a", 1), message("a", 2), message("b", 1)], values: { token: "t" }, outbox: [waiting("k", 1)] });
    await storage.write({ removeChats: ["a"] });
    assert.deepEqual((await storage.load()).chats, [{ id: "b" }]);
    assert.deepEqual(await seqs(storage, "a", { before: 100, limit: 10 }), []);
    assert.deepEqual(await seqs(storage, "b", { before: 100, limit: 10 }), [1]);
    await storage.clear();
    assert.deepEqual(await storage.load(), { values: {}, chats: [], outbox: [] });
    assert.deepEqual(await seqs(storage, "b", { before: 100, limit: 10 }), []);
    await storage.write({ messages: [message("b", 7)] });
    assert.deepEqual(await seqs(storage, "b", { before: 100, limit: 10 }), [7]);
  });

  test(`${name}: what it gives is a copy`, async () => {
    const storage = await make();
    await storage.load();
    await storage.write({ messages: [message("a", 1)], chats: [{ id: "a", list: [1] }] });
    (await storage.messages("a", { before: 9, limit: 1 }))[0].content = "changed";
    (await storage.load()).chats[0].list.push(2);
    assert.equal((await storage.messages("a", { before: 9, limit: 1 }))[0].content, "1");
    assert.deepEqual((await storage.load()).chats[0].list, [1]);
  });
}
