// What nobody should have to look for by hand: accessibility, weight, speed, and that nothing complains.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";

import "./support/evidence.mjs";
import { launch, open } from "./support/browser.mjs";
import { Demo, until } from "./support/demo.mjs";
import { start } from "./support/server.mjs";
import { best } from "./support/until.mjs";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const FAST = { KEEPSTEP_FRAMES_PER_SECOND: "1000000", KEEPSTEP_FRAMES_BURST: "1000000" };

let server;
let browser;
before(async () => { [server, browser] = await Promise.all([start(FAST), launch()]); });
after(async () => { await browser?.close(); await server?.stop(); });

async function findings(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return violations
    .filter(({ impact }) => ["serious", "critical"].includes(impact))
    .map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html, any }) => `${html.slice(0, 200)} ${any[0]?.message ?? ""}`).join(" | ")}`);
}

for (const [colorScheme, viewport] of [["light", { width: 1440, height: 900 }], ["dark", { width: 1440, height: 900 }], ["light", { width: 390, height: 844 }]]) {
  test(`no serious finding of axe-core, ${colorScheme}, ${viewport.width} wide`, async () => {
    const { page, context, complaints } = await open(browser, server.url, { colorScheme, viewport });
    const it = new Demo(page);
    const show = async (name) => { if (viewport.width < 900) await page.locator("#tabs").getByRole("button", { name }).click(); };
    const clean = async (what) => assert.deepEqual(await findings(page), [], what);
    await it.says(it.phone, "bring your charger");
    await clean("first open");
    await show("Web 1");
    await it.web1.getByRole("button", { name: "Scan with the phone" }).click();
    await it.phone.getByRole("button", { name: "Approve" }).waitFor();
    await clean("the phone is asked");
    await it.phone.getByRole("button", { name: "Approve" }).click();
    await show("Web 1");
    await it.state(it.web1, "online");
    await it.lesson("lock").click();
    await it.state(it.web1, "waits for the phone");
    await clean("refused");
    await it.endLesson("lock");
    await it.state(it.web1, "online");
    await it.badge.click();
    await clean("the badge's details");
    await it.badge.click();
    await it.lesson("end").click();
    await it.web1.getByRole("button", { name: "See the receipt" }).click();
    await page.getByRole("dialog").getByText("nothing left").waitFor();
    await clean("the receipt");
    await page.getByRole("dialog").getByRole("button", { name: "Close" }).click();
    await page.locator("#help").click();
    await clean("what this is");
    assert.deepEqual(complaints, []);
    await context.close();
  });
}

test("the page weighs less than 150 KB, is painted within a second, and needs no inline script or style", async (t) => {
  // As it travels: bodies as they are encoded, and the heads of the answers. Without images and the calls of the API.
  const weighed = [];
  const { page, context } = await open(browser, server.url, {
    before: (page) => page.on("requestfinished", (request) => {
      const path = new URL(request.url()).pathname;
      if (path.startsWith("/v1/") || request.resourceType() === "image") return;
      weighed.push(Promise.all([request.sizes(), request.response().then((response) => response.body())])
        .then(([{ responseBodySize, responseHeadersSize }, body]) => ({ path, travels: responseBodySize + responseHeadersSize, unpacked: body.length })));
    }),
  });
  await new Demo(page).opened();
  const files = await Promise.all(weighed);
  const [weight, unpacked] = ["travels", "unpacked"].map((which) => files.reduce((sum, file) => sum + file[which], 0));
  t.diagnostic(`${files.length} files, ${weight} bytes as they travel, ${unpacked} unpacked`);
  assert.ok(unpacked > weight && weight > 20_000, "they were counted, and are compressed");
  assert.ok(weight < 150 * 1024, `${weight} bytes: ${files.map(({ path, travels }) => `${path} ${travels}`).join(", ")}`);
  const painted = await best(3, 1000, async () => {
    const visit = await open(browser, server.url);
    await new Demo(visit.page).opened();
    const at = await visit.page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime);
    await visit.context.close();
    return at;
  });
  assert.ok(painted < 1000, `first paint after ${painted} ms`);
  const html = await (await fetch(server.url)).text();
  assert.doesNotMatch(html, /\sstyle=|<style|\son[a-z]+=|<script(?![^>]*\ssrc=)/);
  await context.close();
});

test("the page is used by keyboard alone", async () => {
  const { page, context } = await open(browser, server.url);
  const it = new Demo(page);
  await it.opened();
  const focused = () => page.evaluate(() => document.activeElement?.textContent?.trim().slice(0, 60) || document.activeElement?.getAttribute("aria-label"));
  const tabTo = async (name) => {
    for (let i = 0; i < 60; i++) {
      await page.keyboard.press("Tab");
      if (name.test(await focused() ?? "")) return;
    }
    assert.fail(`the tab key never comes to ${name}`);
  };
  await tabTo(/Scan with the phone/);
  await page.keyboard.press("Enter");
  await until("the focus on who asks", async () => /Link Web 1/.test(await focused() ?? ""));
  await tabTo(/^Approve$/);
  await page.keyboard.press("Enter");
  await it.state(it.web1, "online");
  await tabTo(/Airplane mode/);
  await page.keyboard.press("Space");
  await it.state(it.phone, "airplane mode");
  await page.keyboard.press("Space");
  await it.state(it.phone, "online");
  await tabTo(/^Channel$/);
  await page.getByText("Channel: one per device on a topic").waitFor();
  await context.close();
});

test("with 5,000 messages in a chat and a quarter of the processor, typing stays smooth", async () => {
  const { page, context } = await open(browser, server.url);
  const it = new Demo(page);
  await it.opened();
  await it.link(it.web1);
  const { users } = await page.evaluate(() => JSON.parse(localStorage.getItem("keepstep-demo")));
  const call = (path, body) => fetch(server.url + path, { method: body ? "POST" : "GET", headers: { authorization: `Bearer ${users[1].token}`, "content-type": "application/json" }, body: body && JSON.stringify(body) });
  const chat = (await (await call("/v1/chats")).json()).items.find(({ kind }) => kind === "direct").id;
  let next = 0;
  await Promise.all(Array.from({ length: 25 }, async () => {
    while (next < 5000) {
      const n = ++next;
      const sent = await call(`/v1/chats/${chat}/messages`, { key: crypto.randomUUID(), kind: "text", content: `message ${n}, ${"and so on ".repeat(n % 12)}` });
      assert.equal(sent.status, 200, await sent.text());
    }
  }));
  for (const station of ["phone", "web1"]) await until(`${station} to have all`, async () => (await it.strip(station)).cursor === "5011", 120_000);
  await until("all to agree", async () => /Both devices agree at #5011/.test(await it.badge.textContent()));
  assert.ok(await it.phone.locator(".row").count() < 80, "only what can be seen is in the page");

  const session = await context.newCDPSession(page);
  await session.send("Emulation.setCPUThrottlingRate", { rate: 4 });
  await it.phone.locator("input[name=text]").click();
  await page.evaluate(() => {
    globalThis.slow = [];
    new PerformanceObserver((list) => globalThis.slow.push(...list.getEntries().filter(({ name }) => name.startsWith("key") || name === "input").map(({ duration }) => duration))).observe({ type: "event", durationThreshold: 16 });
  });
  const sentence = "a sentence that somebody types while five thousand are there";
  const field = it.phone.locator("input[name=text]");
  const worst = await best(3, 200, async () => {
    await field.fill("");
    const before = await page.evaluate(() => { globalThis.slow.length = 0; return performance.eventCounts.get("keydown") ?? 0; });
    await page.keyboard.type(sentence, { delay: 40 });
    await page.waitForTimeout(300);
    assert.equal(await field.inputValue(), sentence);
    assert.ok(await page.evaluate(() => performance.eventCounts.get("keydown")) - before >= sentence.length, "the browser timed no keys");
    return page.evaluate(() => Math.max(0, ...globalThis.slow));
  });
  assert.ok(worst <= 200, `a key took ${worst} ms until it was painted`);
  // Up to the first message: rows are drawn as they come into view.
  await session.send("Emulation.setCPUThrottlingRate", { rate: 1 });
  const list = it.phone.locator(".messages");
  await until("the first message of all", async () => {
    await list.evaluate((element) => { element.scrollTop = 0; });
    return it.phone.locator(".bubble", { hasText: "Morning! Still up for lunch today?" }).count();
  }, 60_000);
  await context.close();
});
