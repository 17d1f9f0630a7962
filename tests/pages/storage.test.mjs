// What a real Chromium does to a device's storage: it is cleared under an open page, and tabs share it or copy from each other. The
// SDK in a page of the tests' own, and the demo.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import "./support/evidence.mjs";
import { launch, open } from "./support/browser.mjs";
import { clearable } from "./support/clearing.mjs";
import { Demo, until } from "./support/demo.mjs";
import { start, token } from "./support/server.mjs";

let server;
let browser;
before(async () => { [server, browser] = await Promise.all([start(), launch()]); });
after(async () => { await browser?.close(); await server?.stop(); });

let people = 0;
const somebody = (name) => `${name}-${process.pid}-${++people}`;

/**
 * An app in a page of the server's: it has the SDK as `sdk`, and what a client tells in `told`. (A page that the test makes up itself
 * isn't let into the local network by Chromium; the console does nothing before somebody signs in.)
 */
const PAGE = "/admin";
const furnish = (page) => page.evaluate(async () => {
  globalThis.sdk = await import("/sdk/keepstep.js");
  globalThis.told = [];
  globalThis.device = (options) => {
    const client = new sdk.Keepstep({ timing: { pause: 50, pauseMax: 500 }, ...options });
    for (const name of ["state", "message", "history_lost", "error"]) {
      client.on(name, (payload) => told.push({ ...payload, name, error: payload.error?.code, at: performance.now() }));
    }
    return (globalThis.client = client);
  };
});

/** Opens the app in a context; `page` in place of a new one: it goes there. */
async function app(context, page) {
  const one = page ?? await context.newPage();
  await one.goto(server.url + PAGE);
  await furnish(one);
  return one;
}

async function profile(t) {
  const context = await browser.newContext();
  t.after(() => context.close());
  return context;
}

const state = (page) => page.evaluate(() => globalThis.client?.state);
const registration = (user, kind) => ({ userToken: token(user), kind, name: "In Chromium", platform: "web" });

/** A phone in IndexedDB with three messages in a chat. */
async function phone(page, user) {
  return page.evaluate(async (register) => {
    const phone = device({ storage: sdk.indexedDB("phone"), register });
    await phone.connect();
    const { id } = await phone.createChat({ kind: "group" });
    for (const text of ["one", "two", "three"]) await phone.send(id, text);
    while (phone.chat(id).top < 3) await new Promise((resolve) => setTimeout(resolve, 10));
    return { id: phone.device, chat: id };
  }, registration(user, "main"));
}

const clear = {
  "the browser clears the site's data": async (page) => {
    const session = await page.context().newCDPSession(page);
    await session.send("Storage.clearDataForOrigin", { origin: server.url, storageTypes: "all" });
  },
  "the page deletes its own database": (page) => page.evaluate(() => new Promise((resolve, reject) => {
    const asked = indexedDB.deleteDatabase("keepstep.phone");
    asked.onsuccess = resolve;
    asked.onerror = reject;
  })),
};

for (const [how, wipe] of Object.entries(clear)) {
  test(`${how}: an idle phone notices, stays the same device, and gets back what the server has`, async (t) => {
    const context = await profile(t);
    const page = await app(context);
    const { id, chat } = await phone(page, somebody("alice"));
    const begun = await page.evaluate(() => performance.now());
    await wipe(page);
    const loss = await until("it is told", () => page.evaluate(() => told.find(({ name }) => name === "history_lost")));
    t.diagnostic(`noticed after ${Math.round(loss.at - begun)} ms`);
    assert.ok(loss.at - begun < 2_000, `${loss.at - begun} ms`);
    const now = await until("it is connected again", () => page.evaluate((of) => (client.state === "online" && client.chat(of)?.lost ? { device: client.device, ...client.chat(of) } : null), chat));
    assert.deepEqual([now.device, now.lost, now.complete, now.low], [id, true, false, 4]);
    assert.deepEqual(await page.evaluate(() => client.recover()), { messages: 3, lost: [] });
    // After a reload it is all there, and the device, too.
    await app(context, page);
    const again = await page.evaluate(async (of) => {
      await device({ storage: sdk.indexedDB("phone") }).connect();
      const { messages } = await client.history(of);
      return { device: client.device, contents: messages.map(({ content }) => content), complete: client.chat(of).complete };
    }, chat);
    assert.deepEqual(again, { device: id, contents: ["one", "two", "three"], complete: true });
  });
}

test("what a page asks of its storage in the moment in which the browser clears it is answered; what it writes then is sent, once", async (t) => {
  const context = await profile(t);
  const page = await context.newPage();
  await clearable(page);
  await app(context, page);
  const { id, chat } = await phone(page, somebody("alice"));
  await page.evaluate((of) => {
    globalThis.settled = {};
    const note = (name, promise) => promise.then(() => { settled[name] = "done"; }, ({ code }) => { settled[name] = code; });
    clearNow();
    // Chromium has closed the database, and the page hasn't heard of it yet.
    note("history", client.history(of));
    note("read", client.read(of, 3));
    note("send", client.send(of, "in that moment"));
  }, chat);
  const settled = await until("all of it is settled", () => page.evaluate(() => Object.keys(settled).length === 3 && settled));
  assert.deepEqual(settled, { history: "storage_lost", read: "done", send: "done" });
  await until("it is connected again", () => page.evaluate((of) => client.state === "online" && client.chat(of)?.top === 4, chat));
  await page.evaluate(() => client.recover());
  const now = await page.evaluate(async (of) => ({ device: client.device, contents: (await client.history(of)).messages.map(({ content }) => content), told: told.filter(({ name }) => name === "error" || name === "history_lost").map(({ name }) => name) }), chat);
  assert.deepEqual(now, { device: id, contents: ["one", "two", "three", "in that moment"], told: ["history_lost"] });
  assert.equal(await page.evaluate(() => client.close().then(() => "closed")), "closed");
});

test("a phone whose storage was cleared while its page was closed: the app is asked, and goes on in its place", async (t) => {
  const context = await profile(t);
  const page = await app(context);
  const user = somebody("alice");
  const { id, chat } = await phone(page, user);
  await page.goto("about:blank");
  await clear["the browser clears the site's data"](page);
  await app(context, page);
  const refused = await page.evaluate(async (register) => {
    const phone = device({ storage: sdk.indexedDB("phone"), register });
    const code = await phone.connect().catch((error) => error.code);
    return [code, phone.state, phone.status.error.code];
  }, registration(user, "main"));
  assert.deepEqual(refused, ["main_exists", "unauthorized", "main_exists"]);
  const now = await page.evaluate(async (of) => {
    await client.connect({ replace: true });
    const { messages } = await client.history(of);
    return { device: client.device, contents: messages.map(({ content }) => content) };
  }, chat);
  assert.notEqual(now.device, id);
  assert.deepEqual(now.contents, ["one", "two", "three"]);
});

test("a second tab with the same device says so and takes it over by wish; a reload keeps it; a closed tab lets go", async (t) => {
  const context = await profile(t);
  const first = await app(context);
  const { id } = await phone(first, somebody("alice"));
  const open = (page) => page.evaluate(() => device({ storage: sdk.indexedDB("phone") }).connect().then(() => "connected", ({ code }) => code));
  const second = await app(context);
  assert.equal(await open(second), "replaced");
  assert.deepEqual([await state(first), await state(second)], ["online", "replaced"]);
  assert.equal(await second.evaluate(() => client.connect().then(() => client.device)), id);
  await until("the first knows", async () => (await state(first)) === "replaced");

  // The one that has it is reloaded: it has it again, however quickly the new page asks.
  for (let n = 0; n < 3; n++) {
    await app(context, second);
    assert.equal(await open(second), "connected");
  }
  assert.equal(await state(first), "replaced");
  await second.close();
  assert.equal(await first.evaluate(() => client.connect().then(() => client.device)), id);
});

test("a duplicated tab is a device of its own, each keeps its own over a reload, and a closed tab's is used again", async (t) => {
  const context = await profile(t);
  const user = somebody("alice");
  const phones = await app(context);
  await phone(phones, user);
  const open = (page) => page.evaluate(async (register) => {
    await device({ storage: await sdk.tabStorage("web"), register }).connect();
    return client.device;
  }, registration(user, "sub"));
  const first = await app(context);
  const one = await open(first);
  // As "Duplicate tab": a page opened by another begins with a copy of its sessionStorage.
  const [twin] = await Promise.all([context.waitForEvent("page"), first.evaluate((path) => { globalThis.opened = window.open(path); }, PAGE)]);
  await twin.waitForLoadState();
  await furnish(twin);
  assert.deepEqual(await twin.evaluate(() => Object.values({ ...sessionStorage })), ["web"], "it believes to be its twin");
  const two = await open(twin);
  assert.notEqual(two, one);
  assert.deepEqual([await state(first), await state(twin)], ["online", "online"]);
  for (const [page, id] of [[twin, two], [first, one]]) {
    await app(context, page);
    assert.equal(await open(page), id);
  }
  await twin.close();
  const third = await app(context);
  assert.equal(await open(third), two);
  assert.equal(await state(first), "online");
});

/** Messages in the phone's database. */
const stored = (page) => page.evaluate(async () => {
  const { name } = (await indexedDB.databases()).find((one) => one.name.includes("alice")) ?? {};
  return name && new Promise((resolve, reject) => {
    const asked = indexedDB.open(name);
    asked.onerror = reject;
    asked.onsuccess = () => {
      const count = asked.result.transaction("messages").objectStore("messages").count();
      count.onsuccess = () => resolve(count.result);
      count.onerror = reject;
      asked.result.close();
    };
  });
});

/** A phone and a web window that hold the same; the phone's queue in the strip. */
async function linked(it) {
  await it.opened();
  await it.link(it.web1);
  await until("the badge compares both", async () => (await it.badge.textContent()).startsWith("Both devices agree at #11"));
  // Before the strip has asked it shows none.
  return until("the strip shows the phone's queue", async () => {
    const { channel } = await it.strip("phone");
    return channel.startsWith("d.") && channel;
  });
}

/** The phone whose storage was cleared says so, and has all of it again by its button. */
async function regains(it, channel) {
  await it.phone.getByText("This phone's storage was cleared.").waitFor();
  assert.ok((await stored(it.page)) < 6, "a receipt that was told since, at most");
  await until("the badge says so", async () => (await it.badge.textContent()).startsWith("Alice's phone lost its past"));
  await it.phone.getByRole("button", { name: "Get it from the server" }).click();
  await until("they are on its disk again", async () => (await stored(it.page)) >= 17);
  await until("the badge compares both again", async () => (await it.badge.textContent()).startsWith("Both devices agree at #11"));
  await it.says(it.phone, "bring your charger");
  await until("the strip shows the same queue", async () => (await it.strip("phone")).channel === channel);
  await it.state(it.phone, "online");
}

test("the demo: the phone's storage is cleared under the page, and what the server has comes back by a button", async () => {
  const { page, context, complaints } = await open(browser, server.url);
  const it = new Demo(page);
  const channel = await linked(it);
  const session = await context.newCDPSession(page);
  await session.send("Storage.clearDataForOrigin", { origin: server.url, storageTypes: "indexeddb" });
  await regains(it, channel);
  await it.openBob();
  await it.write(it.bob, "still the same phone");
  for (const pane of [it.phone, it.web1]) await it.says(pane, "still the same phone");
  assert.deepEqual(complaints, []);
  await context.close();
});

test("the demo: the phone's storage is cleared in the moment in which the badge reads it, and the badge goes on", async () => {
  let cleared;
  const { page, context, complaints } = await open(browser, server.url, { before: async (opened) => { cleared = await clearable(opened); } });
  const it = new Demo(page);
  const channel = await linked(it);
  await page.evaluate(() => clearBefore("alice", "/badge.js"));
  await it.badge.click(); // it looks anew
  await regains(it, channel);
  assert.equal(cleared.times, 1);
  assert.deepEqual(complaints, []);
  await context.close();
});

test("the demo: what the server has no more is said on the phone, and isn't lent", async () => {
  let gone = false;
  const forgetful = (opened) => opened.route("**/v1/chats/*/messages?*", (route) => (gone ? route.fulfill({ json: { items: [], more: false } }) : route.continue()));
  const { page, context, complaints } = await open(browser, server.url, { before: forgetful });
  const it = new Demo(page);
  await it.opened();
  gone = true;
  const session = await context.newCDPSession(page);
  await session.send("Storage.clearDataForOrigin", { origin: server.url, storageTypes: "indexeddb" });
  await it.phone.getByText("This phone's storage was cleared.").waitFor();
  await until("the badge says so", async () => /Alice.s phone lost its past/.test(await it.badge.textContent()));
  assert.equal(await it.badge.getAttribute("data-agree"), "danger");
  assert.equal(await it.phone.locator(".bubble").count(), 0);
  await it.phone.getByRole("button", { name: "Get it from the server" }).click();
  await it.phone.getByText("The server doesn't hold all of it any more.").waitFor();
  assert.deepEqual(complaints, []);
  await context.close();
});

test("the demo: a second tab says that its phones are open elsewhere, and takes them over by a button", async () => {
  const { page, context, complaints } = await open(browser, server.url);
  const it = new Demo(page);
  await it.opened();
  const second = new Demo(await context.newPage());
  await second.page.goto(server.url);
  await second.phone.getByText("This phone is open elsewhere").waitFor();
  await it.state(it.phone, "online");
  await second.phone.getByRole("button", { name: "Use it here" }).click();
  await second.opened();
  await it.phone.getByText("This phone is open elsewhere").waitFor();
  // What it holds is no news of that phone any more.
  await page.locator("#agree").getByText("The phone is open elsewhere").waitFor();
  assert.equal(await second.page.locator("#trouble").isVisible(), false);
  assert.deepEqual(complaints, []);
  await context.close();
});

test("the demo: a real user's second phone is asked whether it takes the first one's place", async () => {
  const real = await start({ KEEPSTEP_PLAYGROUND: "false" });
  try {
    const user = somebody("carol");
    const enter = async () => {
      const one = await open(browser, real.url);
      await one.page.getByLabel("User token").fill(token(user));
      await one.page.getByRole("button", { name: "Come in" }).click();
      return one;
    };
    const first = await enter();
    await new Demo(first.page).state(first.page.locator("#phone"), "online");
    const second = await enter();
    const pane = second.page.locator("#phone");
    await pane.getByText("You have a phone already").waitFor();
    assert.equal(await second.page.locator("#trouble").isVisible(), false);
    await pane.getByRole("button", { name: "Take its place" }).click();
    await new Demo(second.page).state(pane, "online");
    await first.page.locator("#phone").getByText("This session was ended by another phone").waitFor();
    await second.page.locator("#web1").getByRole("button", { name: "Scan with the phone" }).waitFor();
    for (const { context } of [first, second]) await context.close();
  } finally {
    await real.stop();
  }
});
