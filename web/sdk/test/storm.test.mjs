import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { IDBFactory } from "fake-indexeddb";
import "fake-indexeddb/auto";
import { indexedDB, memory } from "../keepstep.js";
import { startProxy } from "./support/proxy.mjs";
import { startServer } from "./support/server.mjs";
import { METHODS, chance, eventually, sleep, told, world } from "./support/world.mjs";

let server;
before(async () => { server = await startServer("--creates-per-minute", "1000"); });
after(() => server?.stop());

test("a hundred forced disconnects at random moments end with equal histories on all devices", async (t) => {
  const random = chance(t);
  const { device, user } = world(t, server);
  const [alice, bob] = [user("alice"), user("bob")];
  const proxies = await Promise.all(Array.from({ length: 4 }, () => startProxy(server.port)));
  t.after(() => Promise.all(proxies.map((proxy) => proxy.stop())));
  const urls = proxies.map(({ url }) => url);
  const timing = { pause: 20, pauseMax: 100, open: 1_000, silence: 500, patience: 500, call: 1_000 };
  const phone = await device(alice, "main", { url: urls[0], timing, storage: indexedDB("phone", { factory: new IDBFactory() }) });
  const web = await device(alice, "sub", { url: urls[1], timing, bootstrap: 1_000, storage: indexedDB("web", { factory: new IDBFactory() }) });
  const bobs = await device(bob, "main", { url: urls[2], timing });
  const { id: direct } = await phone.createChat({ kind: "direct", with: bob });
  const { id: group } = await bobs.createChat({ kind: "group", name: user("group") });
  await bobs.invite(group, alice);
  await eventually("all know both chats", () => [phone, web, bobs].every((client) => client.chats().length === 2));

  // Everybody talks while connections break, and a second web session comes in the middle of it.
  let cuts = 0;
  let late;
  const sent = { [direct]: [], [group]: [] };
  let talking = true;
  const talk = async (client, name) => {
    for (let n = 1; talking; n++) {
      const chat = random.next() < 0.5 ? direct : group;
      const content = `${name} ${n}`;
      sent[chat].push(client.send(chat, content).then((one) => ({ ...one, content })));
      if (random.next() < 0.2) client.read(chat);
      await sleep(random.below(30));
    }
  };
  const talkers = [talk(phone, "phone"), talk(web, "web"), talk(bobs, "bob")];
  while (cuts < 100) {
    if (cuts >= 40 && !late) {
      late = device(alice, "sub", { url: urls[3], timing, bootstrap: 1_000 });
      late.catch(() => {}); // waited for below
    }
    const victim = proxies[random.below(4)];
    if (random.next() < 0.1) victim.freeze();
    else if (victim.cut() === 0) await sleep(1);
    else cuts++;
    await sleep(random.below(40));
  }
  talking = false;
  await Promise.all(talkers);
  const all = [phone, web, bobs, await late];
  for (const chat of [direct, group]) {
    const messages = await Promise.all(sent[chat]);
    await eventually("all have all", () => all.every((client) => client.chat(chat)?.top === messages.length && client.outbox().length === 0), { within: 20_000 });
    // What the server numbered is what was said, each once …
    const expected = messages.sort((one, other) => one.seq - other.seq).map(({ seq, content }) => `#${seq} ${content}`);
    assert.deepEqual(expected.map((line) => Number(/\d+/.exec(line)[0])), expected.map((_, n) => n + 1));
    for (const client of all) {
      const { messages: history } = await client.history(chat, { limit: 100_000 });
      assert.deepEqual(history.map(({ seq, content }) => `#${seq} ${content}`), expected);
      // … and told once, in order.
      assert.deepEqual(client.notes.wrong, []);
    }
    for (const client of [phone, bobs, web]) assert.deepEqual(client.notes.seqs.get(chat), expected.map((_, n) => n + 1));
    // Each one's messages stand in the order they were said.
    for (const name of ["phone", "web", "bob"]) {
      const numbers = expected.map((line) => new RegExp(` ${name} (\\d+)$`).exec(line)).filter(Boolean).map(([, n]) => Number(n));
      assert.deepEqual(numbers, [...numbers].sort((one, other) => one - other));
    }
    await eventually("read offsets agree", () => new Set([phone, web, all[3]].map((client) => client.chat(chat).read)).size === 1);
    await eventually("unread counts agree", () => new Set([phone, web, all[3]].map((client) => client.chat(chat).unread)).size === 1);
  }
  t.diagnostic(`${cuts} cuts, ${sent[direct].length + sent[group].length} messages`);
});

/** A storage of a page that can be closed in the middle of anything: what is asked of it afterwards isn't done. */
function crashable(storage) {
  let gone = false;
  const never = new Promise(() => {});
  const guard = (method) => (...args) => (gone ? never : method(...args));
  return {
    storage: Object.fromEntries(METHODS.map((name) => [name, guard(storage[name])])),
    crash: () => { gone = true; },
  };
}

for (const [kind, make] of [["memory", memory], ["IndexedDB", () => indexedDB("reload", { factory: new IDBFactory() })]]) {
  test(`a page that is reloaded in the middle of sending loses and doubles nothing (${kind})`, async (t) => {
    const random = chance(t);
    const { device, user } = world(t, server);
    const [alice, bob] = [user("alice"), user("bob")];
    const bobs = await device(bob, "main");
    const { id: chat } = await bobs.createChat({ kind: "direct", with: alice });
    const disk = make();
    const accepted = new Map(); // key -> content: what the page showed as "in the outbox"
    const shown = []; // per life of the page the messages it was told
    let sentLive = 0;
    let before = [];
    // On a fast machine little waits over a reload: then it lives more often.
    const told = () => sentLive > 5 && before.length > 5;
    for (let life = 0; life < 25 || (!told() && life < 100); life++) {
      const proxy = await startProxy(server.port);
      const { storage, crash } = crashable(disk);
      const page = await device(alice, "main", { connect: false, storage, url: proxy.url });
      page.on("queued", ({ key, body }) => accepted.set(key, body.content));
      page.on("sent", () => sentLive++);
      await page.open();
      // What was accepted is either waiting still, or known to the server.
      before = [...new Set([...before, ...page.outbox().map(({ key }) => key)])];
      if (random.next() < 0.8) page.connect();
      const count = random.below(6);
      for (let n = 0; n < count; n++) {
        page.send(chat, `life ${life}, message ${n}`);
        if (random.next() < 0.5) await sleep(random.below(8));
      }
      if (random.next() < 0.7) await sleep(random.below(200));
      crash();
      proxy.cut();
      shown.push(page.notes);
      page.disconnect();
      await proxy.stop();
    }
    assert.ok(told(), `${sentLive} were sent in a life, ${before.length} waited over a reload: that tests little`);
    const last = await device(alice, "main", { storage: disk });
    await eventually("the outbox is empty", () => last.outbox().length === 0);
    const end = await last.send(chat, "the end");
    await eventually("bob has all", () => bobs.chat(chat).top === end.seq && last.chat(chat).top === end.seq);
    const { messages } = await bobs.history(chat, { limit: 10_000 });
    const keys = messages.map(({ key }) => key);
    assert.equal(new Set(keys).size, keys.length, "nothing is doubled");
    for (const [key, content] of accepted) assert.ok(keys.includes(key), `lost: ${content}`);
    assert.ok(accepted.size > 20, `only ${accepted.size} messages`);
    const order = messages.slice(0, -1).map(({ content }) => content.match(/\d+/g).map(Number)).map(([life, n]) => life * 100 + n);
    assert.deepEqual(order, [...order].sort((one, other) => one - other));
    assert.deepEqual(await told(last, chat), await told(bobs, chat));
    // No life of the page was told what an earlier one had stored and told.
    const seqs = [...shown, last.notes].flatMap((notes) => notes.seqs.get(chat) ?? []);
    assert.equal(new Set(seqs).size, seqs.length, `${seqs}`);
    t.diagnostic(`${accepted.size} messages in 25 lives, ${sentLive} answered in them, ${before.length} of them waited over a reload`);
  });
}
