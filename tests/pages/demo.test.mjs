// The demo page, told as people use it, in a real Chromium against the real server.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";

import "./support/evidence.mjs";
import { launch, open } from "./support/browser.mjs";
import { Demo, holdPages, lingering, until } from "./support/demo.mjs";
import { start, token } from "./support/server.mjs";

let server;
let browser;
before(async () => { [server, browser] = await Promise.all([start(), launch()]); });
after(async () => { await browser?.close(); await server?.stop(); });

async function demo(options) {
  const { context, page, complaints } = await open(browser, server.url, options);
  const it = new Demo(page);
  await it.opened();
  return { it, page, context, complaints };
}

test("link by code, bootstrap 100, chat both ways, badges, airplane mode, refused, back, end with receipt", async () => {
  const { it, page, context, complaints } = await demo();
  // A past of more than one page.
  await it.openBob();
  for (let i = 1; i <= 100; i++) await it.write(it.bob, `old ${i}`);
  await it.says(it.phone, "old 100");

  await it.link(it.web1);
  await it.says(it.web1, "old 100");
  await it.web1.getByText("100 messages borrowed from the phone").waitFor();
  await until("the badge to say that both agree", async () => /Both devices agree at #111/.test(await it.badge.textContent()));

  // Both ways, with ticks, and typing.
  await Promise.all([
    it.web1.getByText("Bob is typing").waitFor(),
    it.bob.locator("input[name=text]").pressSequentially("hm, let me think", { delay: 250 }),
  ]);
  await it.write(it.web1, "from the web");
  for (const pane of [it.phone, it.web1, it.bob]) await it.says(pane, "from the web");
  await until("Bob's phone to have it", async () => /delivered|read/.test(await it.tick(it.web1, "from the web")));
  await it.bob.locator("input[name=text]").click();
  await until("Bob to have read it", async () => (await it.tick(it.phone, "from the web")) === "read");
  await it.write(it.bob, "from Bob");
  for (const pane of [it.phone, it.web1, it.bob]) await it.says(pane, "from Bob");

  // Unread badges move together.
  await until("the same badge on both", async () => (await it.unread(it.phone)) === "1" && (await it.unread(it.web1)) === "1");
  await it.web1.locator(".messages").click();
  await until("no badge on both", async () => (await it.unread(it.phone)) === "" && (await it.unread(it.web1)) === "");

  // The phone goes: its window goes on, and when it has to connect anew it is refused.
  await it.lesson("airplane").click();
  await it.state(it.phone, "airplane mode");
  await it.write(it.phone, "written on the plane");
  await until("a clock beside it", async () => /outbox/.test(await it.tick(it.phone, "written on the plane")));
  await it.endLesson("airplane");
  await it.says(it.bob, "written on the plane");
  await it.lesson("lock").click();
  await it.web1.getByText("Alice's phone is offline. The web window waits for it").waitFor();
  await it.state(it.web1, "waits for the phone");
  await it.write(it.bob, "are you there?");
  await it.endLesson("lock");
  await it.state(it.web1, "online");
  for (const pane of [it.phone, it.web1]) await it.says(pane, "are you there?");
  await until("all to agree", async () => /Both devices agree/.test(await it.badge.textContent()));

  // The end of the window.
  await it.lesson("end").click();
  await it.web1.getByText("This session was ended by the phone. Nothing of it is left on the server (3 queues removed)").waitFor();
  await it.web1.getByRole("button", { name: "See the receipt" }).click();
  await page.getByRole("dialog").getByText("3 queues removed, nothing left").waitFor();
  const device = await page.getByRole("dialog").locator("dd").first().textContent();
  const seen = await fetch(`${server.url}/admin/v1/devices/${device}/channels`, { headers: { authorization: `Bearer ${server.admin()}` } });
  const channels = await seen.json();
  assert.ok(seen.status === 404 ? channels.code === "not_found" : channels.items.length === 0, `an admin sees channels: ${JSON.stringify(channels)}`);
  await page.getByRole("dialog").getByRole("button", { name: "Close" }).click();
  await it.link(it.web1, "Nothing from before");
  // It holds nothing, as it should: for longer than the badge would be patient.
  await until("the window to agree", async () => (await it.badge.textContent()).startsWith("Both devices agree"));
  await page.waitForTimeout(2500);
  assert.match(await it.badge.textContent(), /^Both devices agree/);
  await it.write(it.bob, "and again");
  await it.says(it.web1, "and again");
  assert.equal(await it.web1.locator(".bubble", { hasText: "are you there?" }).count(), 0, "nothing from before");

  // A reload: the phone has its history, and the same people are here.
  await page.reload();
  await it.says(it.phone, "and again");

  // Nothing of them stays when the page is told to forget them.
  const kept = () => page.evaluate(async () => (await indexedDB.databases()).map(({ name }) => name));
  const names = await kept();
  assert.ok(names.length > 0, "the phones keep nothing");
  await page.locator("#who summary").click();
  await Promise.all([page.waitForEvent("load"), page.getByRole("button", { name: "Start over with new people" }).click()]);
  await it.opened();
  assert.deepEqual((await kept()).filter((name) => names.includes(name)), []);
  assert.deepEqual(complaints, []);
  await context.close();
});

test("starting over leaves nothing behind, although something is just being read", async () => {
  // What is read takes its time, and so does what is deleted: as where the machine is busy with something else.
  const slowly = (opened) => opened.addInitScript(() => {
    const slow = (prototype, property, which, ms) => {
      const { set, ...rest } = Object.getOwnPropertyDescriptor(prototype, property);
      Object.defineProperty(prototype, property, { ...rest, set(handler) {
        set.call(this, (event) => {
          if (!globalThis.busy || !which(this)) return handler?.call(this, event);
          globalThis.reading = true;
          setTimeout(() => handler?.call(this, event), ms);
        });
      } });
    };
    const deletions = new WeakSet();
    const { deleteDatabase } = IDBFactory.prototype;
    IDBFactory.prototype.deleteDatabase = function (name) {
      const asked = deleteDatabase.call(this, name);
      deletions.add(asked);
      return asked;
    };
    slow(IDBTransaction.prototype, "oncomplete", ({ mode }) => mode === "readonly", 800);
    slow(IDBRequest.prototype, "onsuccess", (request) => deletions.has(request), 2_500);
  });
  const { it, page, context, complaints } = await demo({ before: slowly });
  const kept = () => page.evaluate(async () => (await indexedDB.databases()).map(({ name }) => name));
  const names = await kept();
  assert.equal(names.length, 2, `${names}`);
  await page.locator("#who summary").click();
  // The badge looks at all that the phones hold, chat by chat.
  await page.evaluate(() => { globalThis.busy = true; });
  await page.getByRole("button", { name: "Let Bob say something" }).click();
  await it.says(it.phone, "Are you there?");
  await until("something is read", () => page.evaluate(() => globalThis.reading));
  await Promise.all([page.waitForEvent("load"), page.getByRole("button", { name: "Start over with new people" }).click()]);
  assert.deepEqual((await kept()).filter((name) => names.includes(name)), []);
  await it.opened();
  assert.deepEqual((await kept()).filter((name) => names.includes(name)), []);
  assert.deepEqual(complaints, []);
  await context.close();
});

test("each chat shows its own messages, to and fro, its newest at the end", async () => {
  const { it, page, context, complaints } = await demo();
  for (const [name, last] of [["Lake trip", "Sun until four, they say"], ["Bob", "bring your charger"], ["Lake trip", "Sun until four, they say"]]) {
    await it.phone.locator(".chats__tab", { hasText: name }).click();
    await it.says(it.phone, last);
    await until("its newest in view", () => it.phone.locator(".bubble", { hasText: last }).evaluate((bubble) => {
      const list = bubble.closest(".messages").getBoundingClientRect();
      return bubble.getBoundingClientRect().bottom <= list.bottom + 1;
    }));
  }
  await it.write(it.phone, "I bring the map");
  await it.says(it.phone, "I bring the map");
  assert.equal(await it.phone.locator(".bubble", { hasText: "bring your charger" }).count(), 0);
  assert.deepEqual(complaints, []);
  await context.close();
});

test("the badge turns when a web window drops a frame, and when it holds something else", async () => {
  const tamper = (page) => page.addInitScript(() => {
    // The window called Web 1 loses, or gets changed, what the test names; everything else passes.
    globalThis.plant = { drop: null, change: null };
    const Real = globalThis.WebSocket;
    globalThis.WebSocket = class extends Real {
      constructor(...given) {
        super(...given);
        let sub = false;
        this.addEventListener("message", (event) => {
          if (event.planted) return;
          const frame = JSON.parse(event.data);
          if (frame.type === "welcome") sub = frame.kind === "sub";
          if (!sub || frame.type !== "message") return;
          const { drop, change } = globalThis.plant;
          if (drop && frame.content === drop) event.stopImmediatePropagation();
          if (change && frame.content === change) {
            event.stopImmediatePropagation();
            const other = new MessageEvent("message", { data: JSON.stringify({ ...frame, content: `${change}?!` }) });
            other.planted = true;
            this.dispatchEvent(other);
          }
        });
      }
    };
  });
  const { it, page, context } = await demo({ before: tamper });
  await it.link(it.web1);
  const agrees = () => it.badge.getAttribute("data-agree");
  await until("both to agree", async () => (await agrees()) === "good");
  await it.openBob();

  await page.evaluate(() => { globalThis.plant.drop = "lost on the way"; });
  await it.write(it.bob, "lost on the way");
  await it.says(it.phone, "lost on the way");
  await until("the badge to say who is behind", async () => /Web 1 is at #11 of #12/.test(await it.badge.textContent()));
  assert.equal(await agrees(), "warning");
  // Found again: the window connects anew, and what it never acknowledged comes again.
  await page.evaluate(() => { globalThis.plant.drop = null; });
  await it.lesson("cut").click();
  await until("both to agree again", async () => (await agrees()) === "good");

  await page.evaluate(() => { globalThis.plant.change = "half past"; });
  await it.write(it.bob, "half past");
  await until("the badge to say what differs", async () => /Web 1 differs at #13/.test(await it.badge.textContent()));
  assert.equal(await agrees(), "danger");
  await context.close();
});

test("while it borrows its past, a web window already calls its chats by their names", async () => {
  const { it, page, context, complaints } = await demo({ before: (opened) => opened.addInitScript(holdPages) });
  await page.evaluate(() => globalThis.hold(true));
  await it.web1.getByRole("button", { name: "Scan with the phone" }).click();
  await it.phone.getByRole("button", { name: "Approve" }).click();
  await it.says(it.web1, "bring your charger");
  await it.state(it.web1, "borrowing its past");
  const names = () => it.web1.locator(".chats__tab > span:first-child").allTextContents();
  assert.deepEqual(await names(), ["Bob", "Lake trip"]);
  await page.evaluate(() => globalThis.hold(false));
  await it.state(it.web1, "online");
  assert.deepEqual(await names(), ["Bob", "Lake trip"]);
  assert.deepEqual(complaints, []);
  await context.close();
});

test("a web window is locked out, however late the server hears that the phone is gone", async () => {
  const { it, page, context, complaints } = await demo({ before: (opened) => opened.addInitScript(lingering) });
  await it.link(it.web1);
  await page.evaluate(() => globalThis.linger(true));
  await it.lesson("lock").click();
  await it.state(it.phone, "airplane mode");
  await page.waitForTimeout(1500); // long enough for a window that comes too early to be let in again
  await page.evaluate(() => globalThis.linger(false));
  await it.state(it.web1, "waits for the phone");
  await it.endLesson("lock");
  await it.state(it.web1, "online");
  assert.deepEqual(complaints, []);
  await context.close();
});

test("what the lessons do can be seen underneath, and ends by itself or by a second press", async () => {
  const { it, context, complaints } = await demo();
  for (const name of ["lock", "slow", "end"]) {
    await it.lesson(name).click();
    assert.match(await it.said(), /Link a web window first/);
  }
  await it.link(it.web1);
  await until("the cursors of both", async () => (await it.strip("phone")).cursor === "11" && (await it.strip("web1")).cursor === "11");

  await it.lesson("slow").click();
  await until("something in flight on its channel alone", async () => Number((await it.strip("web1")).inFlight) > 0 && (await it.strip("phone")).inFlight === "0");
  await it.endLesson("slow");
  await until("nothing in flight", async () => (await it.strip("web1")).inFlight === "0" && (await it.strip("web1")).cursor === (await it.strip("phone")).cursor);

  const first = (await it.strip("web1")).edge;
  await it.lesson("edge").click();
  await until("another edge", async () => { const { edge } = await it.strip("web1"); return edge.startsWith("e-") && edge !== first; });
  await it.page.getByRole("button", { name: "Let Bob say something" }).click();
  await it.says(it.web1, "Are you there?");
  await it.endLesson("edge");
  await until("the first edge", async () => (await it.strip("web1")).edge === first);

  const said = await it.states(it.web1);
  await it.lesson("cut").click();
  await until("it was said that the line is lost, and is there again", async () => /connection lost.*online$/.test((await said()).join(" ")));
  await until("all to agree", async () => (await it.badge.getAttribute("data-agree")) === "good");
  assert.deepEqual(complaints, []);
  await context.close();
});

test("a refusal, a picture, the list of devices, and a guest in another browser", async () => {
  const { it, page, context, complaints } = await demo();
  await it.web1.getByRole("button", { name: "Scan with the phone" }).click();
  await it.phone.getByRole("button", { name: "Refuse" }).click();
  await it.web1.getByText("The phone refused this window").waitFor();
  await it.link(it.web1, "The last 100 of each chat");

  await page.getByRole("button", { name: "Send a picture" }).and(page.locator("button")).click();
  for (const pane of [it.phone, it.web1]) await until("the preview", () => pane.locator("img.bubble__picture").last().evaluate((image) => image.complete && image.naturalWidth > 0));

  await it.phone.getByRole("button", { name: "Linked devices" }).click();
  await it.phone.getByRole("button", { name: "Remove Web 1" }).click();
  await it.web1.getByText("This session was ended by the phone").waitFor();
  await it.phone.getByRole("button", { name: "Close" }).click();

  await page.getByRole("button", { name: "Invite another browser" }).click();
  const invitation = await page.locator("#invitation").inputValue();
  const guest = await open(browser, invitation);
  assert.equal(new URL(guest.page.url()).hash, "", "the token doesn't stay in the address");
  const theirs = guest.page.locator("#web1");
  await theirs.locator(".bubble", { hasText: "bring your charger" }).waitFor();
  await theirs.locator("input[name=text]").fill("hello from elsewhere");
  await theirs.locator("input[name=text]").press("Enter");
  await it.says(it.phone, "hello from elsewhere");
  assert.deepEqual([...complaints, ...guest.complaints], []);
  await guest.context.close();
  await context.close();
});

test("nothing is asked in the name of a device whose end was asked for", async () => {
  const { it, page, context, complaints } = await demo();
  await it.link(it.web1);
  await until("its row", async () => (await it.strip("web1")).cursor === "11");
  // A look at the queues of both is under way, and takes until one of them is ended.
  let release;
  const ended = new Promise((resolve) => { release = resolve; });
  const asked = new Set();
  await page.route("**/v1/devices/*/channels*", async (route) => {
    asked.add(new URL(route.request().url()).pathname);
    await ended;
    // One that the page has given up can't be continued.
    await route.continue().catch(() => {});
  });
  await until("a look at both", () => asked.size === 2);
  await it.lesson("end").click();
  await it.web1.getByText("This session was ended by the phone").waitFor();
  release();
  await it.web1.getByRole("button", { name: "See the receipt" }).waitFor();
  await page.unrouteAll({ behavior: "wait" });
  assert.deepEqual(complaints, []);
  await context.close();
});

test("without a playground the page says so, and a user token opens it", async () => {
  const real = await start({ KEEPSTEP_PLAYGROUND: "false" });
  try {
    const { page, context } = await open(browser, real.url);
    await page.getByText("This server makes up no demo users").waitFor();
    await page.getByLabel("User token").fill("nonsense");
    await page.getByRole("button", { name: "Come in" }).click();
    await page.getByText("This isn't a user token").waitFor();
    await page.getByLabel("User token").fill(token(`carol-${randomUUID()}`));
    await page.getByRole("button", { name: "Come in" }).click();
    await page.locator("#web1").getByRole("button", { name: "Scan with the phone" }).waitFor();
    await context.close();
    // A link that somebody sends makes nobody somebody else, and isn't kept for later.
    const victim = await open(browser, `${real.url}/#join=${token(`mallory-${randomUUID()}`)}`);
    await victim.page.getByText("This server makes up no demo users").waitFor();
    assert.equal(await victim.page.evaluate(() => sessionStorage.length + localStorage.length), 0);
    assert.equal(new URL(victim.page.url()).hash, "");
    await victim.context.close();
  } finally {
    await real.stop();
  }
});
