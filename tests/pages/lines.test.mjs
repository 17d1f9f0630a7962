// Lines that go silent under the pages, in a real Chromium: nothing breaks, and nothing comes any more. No page says that it is
// connected for longer than 10 s.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import "./support/evidence.mjs";
import { startProxy } from "../../web/sdk/test/support/proxy.mjs";
import { launch, open } from "./support/browser.mjs";
import { KEY } from "./support/console.mjs";
import { Demo, until } from "./support/demo.mjs";
import { start } from "./support/server.mjs";

const AT_MOST = 10_000;
/** What a page needs to be drawn, and this test to look at it. */
const LOOKING = 500;
/** The same in frames, at 60 a second. */
const FRAMES = LOOKING / 1000 * 60;

let server;
let browser;
before(async () => { [server, browser] = await Promise.all([start(), launch()]); });
after(async () => { await browser?.close(); await server?.stop(); });

/** A page that stands behind a line of its own. */
async function behind(t, path, options, one = browser) {
  const proxy = await startProxy(Number(new URL(server.url).port));
  const { page, context } = await open(one, proxy.url + path, { ...options, test: t.name });
  t.after(async () => {
    await context.close();
    if (one !== browser) await one.close();
    await proxy.stop();
  });
  return { page, proxy };
}

/** From now on, what `look` (run in the page, at each frame) finds: `[{at, found}]`, `at` by the page's clock. */
async function record(page, look) {
  await page.evaluate((source) => {
    const looking = new Function(`return (${source})()`);
    globalThis.seen = [];
    const frame = () => {
      globalThis.seen.push({ at: Date.now(), found: looking() });
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }, String(look));
  return () => page.evaluate(() => globalThis.seen);
}

/** What the pane of each device says of its line. */
const states = () => Object.fromEntries([...document.querySelectorAll(".pane")].map((pane) => [pane.id, pane.querySelector(".state")?.textContent]));

/** When a device first said from then on that it isn't online; undefined: it hasn't. */
const offline = (seen, pane, from) => seen.find(({ at, found }) => at >= from && found[pane] !== "online")?.at;

describe("lines", { concurrency: true }, () => {
  test("the demo: every device says within 10 s that its line is silent, and comes back on another", async (t) => {
    const { page, proxy } = await behind(t, "/");
    const it = new Demo(page);
    await it.opened();
    await it.link(it.web1);
    await it.openBob();
    await it.phone.getByText("Bob: online").waitFor();
    const seen = await record(page, states);
    const begun = Date.now();
    proxy.freeze();
    for (const pane of ["phone", "web1", "bob"]) {
      const at = await until(`${pane} to say so`, async () => offline(await seen(), pane, begun));
      t.diagnostic(`${pane} said for ${at - begun} ms that it is online`);
      assert.ok(at - begun <= AT_MOST + LOOKING, `${pane}: ${at - begun} ms`);
    }
    for (const pane of [it.phone, it.web1, it.bob]) await it.state(pane, "online");
    await it.write(it.bob, "and nothing is lost");
    for (const pane of [it.phone, it.web1]) await it.says(pane, "and nothing is lost");
  });

  test("the demo: a machine that slept while its line went silent: it isn't shown as connected from the moment it wakes", async (t) => {
    const own = await launch();
    const { page, proxy } = await behind(t, "/", {}, own);
    const it = new Demo(page);
    await it.opened();
    const seen = await record(page, states);
    const { processInfo } = await (await own.newBrowserCDPSession()).send("SystemInfo.getProcessInfo");
    const renderers = processInfo.filter(({ type }) => type === "renderer").map(({ id }) => id);
    assert.ok(renderers.length > 0);
    const signal = (name) => renderers.forEach((pid) => process.kill(pid, name));
    proxy.freeze();
    // What was on its way arrives before it falls asleep: later it would look like a sign of life (docs/limitations.md).
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    signal("SIGSTOP");
    await new Promise((resolve) => setTimeout(resolve, AT_MOST + 1_000));
    const woken = Date.now();
    signal("SIGCONT");
    for (const pane of ["phone", "bob"]) {
      const at = await until(`${pane} to say so`, async () => offline(await seen(), pane, woken));
      // Counted in what was drawn: on a busy machine a page that has just woken waits for the processor first.
      const wrong = (await seen()).filter((one) => one.at >= woken && one.at < at).length;
      t.diagnostic(`${pane} noticed ${at - woken} ms and ${wrong} frames after it woke`);
      assert.ok(wrong <= FRAMES, `${pane}: ${wrong} frames in ${at - woken} ms`);
      const then = (await seen()).find((one) => one.at === at).found[pane];
      assert.match(then, /checking the line|connection lost/);
    }
    await it.state(it.phone, "online");
  });

  test("the demo: a phone without a line knows of nobody whether they are there", async (t) => {
    const { page, proxy } = await behind(t, "/");
    const it = new Demo(page);
    await it.opened();
    await it.link(it.web1);
    await it.phone.getByText("Bob: online").waitFor();
    await it.phone.getByRole("button", { name: "Linked devices" }).click();
    const there = it.phone.locator(".panel__list");
    await there.getByText("· online").first().waitFor();
    proxy.refuse(true);
    proxy.cut();
    await it.state(it.phone, "connection lost");
    await until("nobody is said to be online", async () => !/online/.test(await there.textContent()) && await page.getByText("Bob: online").count() === 0);
    proxy.refuse(false);
    await it.state(it.phone, "online");
    await there.getByText("· online").first().waitFor();
  });

  test("the console: within 10 s it stops saying that all is well, and says it again when the server answers", async (t) => {
    const signedIn = (opened) => opened.addInitScript(([key, value]) => { if (location.protocol === "http:") sessionStorage.setItem(key, value); }, [KEY, server.admin()]);
    const { page, proxy } = await behind(t, "/admin", { before: signedIn });
    await page.getByText("All is well.").waitFor();
    const live = page.getByRole("button", { name: "Live" });
    await live.locator(".dot--on").waitFor();
    const seen = await record(page, () => ({ well: document.body.textContent.includes("All is well."), dot: Boolean(document.querySelector(".live .dot--on")), good: [...document.querySelectorAll(".badge--good")].some((badge) => badge.closest(".view--stale") === null) }));
    const begun = Date.now();
    proxy.freeze();
    await page.getByText("The server doesn’t answer just now.").waitFor();
    const last = (await seen()).findLast(({ found }) => found.well || found.dot || found.good).at - begun;
    t.diagnostic(`it looked as if the server answered for ${last} ms`);
    assert.ok(last <= AT_MOST + LOOKING, `${last} ms`);
    await page.getByText("All was well at the last look").waitFor();
    await page.getByText("Not live").waitFor();
    proxy.cut();
    await page.getByText("All is well.").waitFor();
    await live.locator(".dot--on").waitFor();
    assert.equal(await page.getByText("doesn’t answer").count(), 0);
  });
});
