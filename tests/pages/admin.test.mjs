// The console in a real browser, over a real server: signing in, looking at things, from users down to chats. What is ended
// and swept is in admin-ending.test.mjs.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import "./support/evidence.mjs";
import { KEY, arrive, page, placeNow, rows, settled, sit, texts, visit } from "./support/console.mjs";
import { best } from "./support/until.mjs";
import { World, token } from "./support/world.mjs";

sit();

describe("the console over an embedded server", () => {
  let world;
  const people = Array.from({ length: 500 }, (_, n) => `user-${String(n).padStart(4, "0")}`);

  before(async () => {
    world = await World.start();
    // 1,000 devices of 500 people, a group that all of them are in, and one who is behind.
    await world.each(people, async (user) => {
      await world.device(user, "main", `Phone of ${user}`);
      await world.device(user, "sub", "Firefox on Linux");
    });
    const chat = await world.publicGroup("user-0000", "Everybody");
    await world.each(people.slice(1), (user) => world.join(user, chat));
    await world.say("user-0000", chat, 3);
    const two = await world.direct("user-0007", "user-0008");
    await world.say("user-0008", two, 20);
  });
  after(() => world?.end());

  test("signing in takes an admin’s token, says in words what is wrong with others, and forgets at signing out", async () => {
    await arrive(`${world.url}/admin#/audit`);
    page.expected.push(/status of 40[13]/);
    await page.getByRole("heading", { name: "Sign in" }).waitFor();
    assert.match(await page.locator(".command code").innerText(), /^keepstep token --user root --admin/);
    await settled();
    const field = page.getByLabel("Admin token");
    for (const [given, said] of [
      ["", /Paste a token/], ["no token", /isn’t a token/], ["ey.ey.ey", /doesn’t accept this token/],
      [token("root", { admin: true, exp: 1000 }), /expired/], [token("alice"), /isn’t an admin’s/],
    ]) {
      await field.fill(given);
      await page.getByRole("button", { name: "Sign in" }).click();
      await page.getByRole("alert").filter({ hasText: said }).waitFor();
      assert.equal(await field.evaluate((node) => document.activeElement === node), true, "the field has the focus again");
      assert.equal(await field.getAttribute("aria-invalid"), "true");
      assert.equal(await page.evaluate((key) => sessionStorage.getItem(key), KEY), null, "a refused token isn’t kept");
    }
    await settled();
    await field.fill(`  Bearer ${world.admin}\n`);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Audit" }).waitFor();
    const kept = () => page.evaluate(() => JSON.stringify([Object.values({ ...localStorage }), document.cookie, location.href]));
    assert.equal(await page.evaluate((key) => sessionStorage.getItem(key), KEY), world.admin);
    assert.ok(!(await kept()).includes(world.admin), "it is nowhere but in sessionStorage");
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByRole("heading", { name: "Sign in" }).waitFor();
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    assert.equal(await page.locator("table").count(), 0, "nothing of what was seen stays");
  });

  test("a token that dies while one looks leads back to signing in, with the reason", async () => {
    await visit(world);
    page.expected.push(/status of 401/);
    await page.locator(".tile").first().waitFor();
    await page.route("**/admin/v1/**", (route) => route.fulfill({ status: 401, contentType: "application/problem+json", body: "{\"code\":\"unauthorized\"}" }));
    await page.getByText("You were signed out.").waitFor();
    await settled();
  });

  test("the overview has the figures, their lines, the store and the broker with their state", async () => {
    await visit(world);
    await page.locator(".tile").first().waitFor();
    const labels = await texts(page.locator(".tile__label"));
    assert.deepEqual(labels, ["Connections", "Sends", "Deliveries", "Latency, p99", "Outbox", "Refills", "Gaps"]);
    const servers = page.getByRole("table", { name: "Servers" });
    assert.equal(await servers.getByText("Answers").count(), 2);
    assert.match(await page.getByRole("table", { name: "Edges" }).innerText(), /edge-1/);
    // Two samples make a line.
    await page.locator("svg.spark[role=img]").first().waitFor();
    assert.match(await page.locator("svg.spark[role=img]").first().getAttribute("aria-label"), /^Connections over ten minutes: between/);
    await settled();
  });

  test("from users to devices to chats, and back the same way", async () => {
    await visit(world, "#/users");
    await rows().first().waitFor();
    assert.equal(await rows().count(), 100);
    assert.match(await page.locator(".pager").innerText(), /1–100 of 500/);
    await page.getByRole("button", { name: "Next" }).click();
    await page.getByText("101–200 of 500").waitFor();
    assert.match(placeNow(), /after=/);
    await page.getByRole("link", { name: "user-0107" }).click();
    await page.getByRole("heading", { name: "user-0107", level: 1 }).waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.tagName), "H1", "the new place has the focus");
    await rows().nth(1).waitFor();
    await settled();
    await page.getByRole("link", { name: "Phone of user-0107" }).click();
    await page.getByRole("heading", { name: "Phone of user-0107" }).waitFor();
    await page.getByRole("table", { name: "Queues of this device" }).waitFor();
    assert.equal(await rows().count(), 1);
    assert.match(await rows().first().innerText(), /\b3\b/);
    await settled();
    const deep = page.url();
    await page.goBack();
    await page.getByRole("heading", { name: "user-0107", level: 1 }).waitFor();
    await page.goBack();
    await page.getByText("101–200 of 500").waitFor();
    await page.getByRole("button", { name: "Back" }).click();
    await page.getByText("1–100 of 500").waitFor();
    // An address says where one is, also to somebody else.
    await page.goto("about:blank");
    await page.goto(deep);
    await page.getByRole("heading", { name: "Phone of user-0107" }).waitFor();
  });

  test("the server searches and sorts; the address keeps it; half-typed text and the focus stay", async () => {
    await visit(world, "#/devices");
    await rows().first().waitFor();
    const sorted = page.locator("th[aria-sort]");
    assert.equal((await sorted.innerText()).trim(), "Undelivered");
    assert.equal(await sorted.getAttribute("aria-sort"), "descending");
    assert.match(await rows().first().innerText(), /user-000[78]/, "who is behind most stands first");
    await page.getByRole("button", { name: "User", exact: true }).click();
    await page.locator("th[aria-sort=ascending]").filter({ hasText: "User" }).waitFor();
    await page.waitForFunction(() => document.querySelector(".view tbody tr").innerText.includes("user-0000"));
    await page.getByRole("button", { name: "User", exact: true }).click();
    await page.waitForFunction(() => document.querySelector(".view tbody tr").innerText.includes("user-0499"));
    assert.match(placeNow(), /sort=user&order=desc/);
    const field = page.getByRole("searchbox");
    // Not digits alone: those may stand in a device's id too.
    await field.pressSequentially("r-0042", { delay: 40 });
    await page.getByText("1–2 of 2").waitFor();
    assert.match(placeNow(), /search=r-0042/);
    assert.equal(await field.inputValue(), "r-0042");
    assert.equal(await field.evaluate((node) => document.activeElement === node), true);
    assert.match(await page.locator("#said").textContent(), /2 found/);
    // Two refreshes later nothing of it was lost.
    await page.waitForResponse(/admin\/v1\/devices/);
    await page.waitForResponse(/admin\/v1\/devices/);
    assert.equal(await field.evaluate((node) => document.activeElement === node), true);
    await field.fill("nobody has this");
    await page.getByRole("heading", { name: "No device matches" }).waitFor();
    await settled();
    await page.getByRole("button", { name: "Show all" }).click();
    await page.getByText("of 1,000").waitFor();
  });

  test("a table of 1,000 devices: read anew, it keeps focus, scroll and rows", async () => {
    await visit(world, "#/devices?limit=1000&sort=user");
    await page.waitForFunction(() => document.querySelectorAll(".view tbody tr").length === 1000);
    const target = rows().nth(700).getByRole("button", { name: /^End/ });
    await target.scrollIntoViewIfNeeded();
    await target.focus();
    const before = await page.evaluate(() => { globalThis.kept = document.querySelectorAll(".view tbody tr")[700]; return scrollY; });
    assert.ok(before > 5000);
    // The next is asked for only when the one before has been drawn.
    for (let n = 0; n < 3; n += 1) await page.waitForResponse(/admin\/v1\/devices/);
    const kept = await page.evaluate(() => ({ scroll: scrollY, row: document.querySelectorAll(".view tbody tr")[700] === globalThis.kept, focus: globalThis.kept.contains(document.activeElement) }));
    assert.deepEqual(kept, { scroll: before, row: true, focus: true });
    const took = await best(3, 300, () => page.evaluate(async () => {
      const start = performance.now();
      document.querySelector("[aria-pressed]").click();
      await new Promise(requestAnimationFrame);
      return performance.now() - start;
    }));
    assert.ok(took < 300, `drawing 1,000 rows anew takes ${took} ms`);
  });

  test("an error is told in words, keeps what was there, and goes by itself", async () => {
    await visit(world, "#/users");
    await rows().first().waitFor();
    page.expected.push(/ERR_FAILED/, /status of 503/);
    await page.route("**/admin/v1/users*", (route) => route.abort());
    await page.getByText("The server can’t be reached.").waitFor();
    assert.equal(await rows().count(), 100, "the last answer still stands");
    assert.match(await page.getByRole("alert").filter({ hasText: "as of" }).innerText(), /What you see is as of/);
    await settled();
    await page.unroute("**/admin/v1/users*");
    await page.getByText("The server can’t be reached.").waitFor({ state: "detached" });
    // From the start: no answer at all, then one.
    await page.route("**/admin/v1/devices*", (route) => route.fulfill({ status: 503, contentType: "application/problem+json", body: "{\"code\":\"unavailable\",\"detail\":\"the store can’t be reached\"}" }));
    await page.goto(`${world.url}/admin#/devices`);
    await page.getByText("The store can’t be reached.").waitFor();
    await settled();
    await page.unroute("**/admin/v1/devices*");
    await page.getByRole("button", { name: "Try now" }).click();
    await rows().first().waitFor();
  });

  test("too many, and servers that don’t answer, are said beside the table", async () => {
    await visit(world);
    await page.route("**/admin/v1/devices*", async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...(await response.json()), truncated: true, unreachable: ["10.0.0.7:4151"] } });
    });
    await page.goto(`${world.url}/admin#/devices`);
    await page.getByText("There is more than one look can hold.").waitFor();
    await page.getByText("10.0.0.7:4151").waitFor();
    await settled();
  });

  test("on a phone nothing is wider than the screen, and one can sort, search and end", async () => {
    await visit(world, "", { viewport: { width: 390, height: 844 }, hasTouch: true });
    for (const place of ["", "#/users", "#/devices?limit=50", "#/users/user-0007", "#/orphans", "#/audit"]) {
      await page.goto(`${world.url}/admin${place}`);
      await page.locator(".view table, .view .state").first().waitFor();
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 390, place);
      await settled();
    }
    await page.goto(`${world.url}/admin#/devices?limit=50&search=user-`);
    await page.getByLabel("Sort by").selectOption("user asc");
    await page.waitForFunction(() => document.querySelector(".view tbody tr")?.innerText.includes("user-0000"));
    await page.getByRole("button", { name: /^End Phone of user-0000/ }).click();
    await page.getByRole("button", { name: "End this device" }).waitFor();
    await settled();
    const box = await page.getByRole("dialog").boundingBox();
    assert.ok(box.x >= 0 && box.x + box.width <= 390 && box.y >= 0 && box.y + box.height <= 844.5, JSON.stringify(box));
    // Where the sheet holds more than the screen, it scrolls as a whole: no table in it is squeezed.
    await page.setViewportSize({ width: 390, height: 560 });
    const [frame, table] = await page.getByRole("dialog").locator(".table-frame").evaluate((node) => [node.clientHeight, node.querySelector("table").offsetHeight]);
    assert.ok(frame >= table, `${frame} px for a table of ${table} px`);
  });

  test("light and dark, as the system says or the switch", async () => {
    await visit(world, "#/devices?limit=50", { colorScheme: "dark" });
    await rows().first().waitFor();
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const dark = await ground();
    await settled();
    const button = page.getByRole("button", { name: "Dark colours" });
    assert.equal(await button.getAttribute("aria-pressed"), "true");
    await button.click();
    assert.notEqual(await ground(), dark);
    assert.equal(await button.getAttribute("aria-pressed"), "false");
    await page.reload();
    await rows().first().waitFor();
    assert.notEqual(await ground(), dark, "the choice is kept");
    await settled();
  });

  test("the page is small, and runs nothing but its own files", async () => {
    const files = new Map();
    const before = (opened) => opened.on("response", (response) => files.set(response.url(), response));
    await arrive(`${world.url}/admin`, { before });
    await page.getByRole("heading", { name: "Sign in" }).waitFor();
    await page.waitForLoadState("networkidle");
    const response = files.get(`${world.url}/admin`);
    let weight = 0;
    for (const file of files.values()) weight += (await file.body()).length;
    assert.ok(weight > 10_000 && weight < 150 * 1024, `${weight} bytes`);
    assert.deepEqual([...files.keys()].filter((file) => !file.startsWith(world.url)), []);
    const policy = response.headers()["content-security-policy"];
    assert.match(policy, /default-src 'none'/);
    assert.match(policy, /script-src 'self';/);
    assert.match(policy, /style-src 'self';/);
    const html = await response.text();
    assert.doesNotMatch(html, /<script(?![^>]*\ssrc=)|\sstyle=|\son\w+=/, "nothing inline");
  });
});
