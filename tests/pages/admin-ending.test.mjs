// What the console ends: devices, sockets, orphans. First in memory, then over Redis and two nsqd.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import "./support/evidence.mjs";
import { page, rows, settled, sit, texts, visit } from "./support/console.mjs";
import { World, until } from "./support/world.mjs";

const LIST = /\/admin\/v1\/devices\?/;
const ENDING = /\/v1\/terminations\//;

sit();

describe("what the console ends, over an embedded server", () => {
  let world;
  before(async () => { world = await World.start(); });
  after(() => world?.end());

  test("ending a device: what will happen, then how far, then the receipt, and nothing is left", async () => {
    const device = await world.device("ending", "main", "Old phone");
    const chat = await world.direct("ending", "user-0001");
    await world.say("user-0001", chat, 4);
    await visit(world, "#/users/ending");
    const button = page.getByRole("button", { name: /End Old phone/ });
    await button.click();
    const sheet = page.getByRole("dialog");
    await sheet.getByRole("heading", { name: "End Old phone?" }).waitFor();
    const said = await sheet.innerText();
    for (const part of [/Closes no socket/, /Deletes 1 queue of 1 chat/, /4 undelivered messages/, /This is the phone/, /can’t be undone/]) assert.match(said, part);
    await settled();
    // Escape leaves all as it is, and one is where one was.
    await page.keyboard.press("Escape");
    await sheet.waitFor({ state: "hidden" });
    assert.equal(await button.evaluate((node) => document.activeElement === node), true);
    assert.equal((await world.call("GET", `/admin/v1/devices/${device.id}/channels`)).items.length, 1);
    await button.click();
    await sheet.getByRole("heading", { name: "End Old phone?" }).waitFor();
    // The focus goes round inside of the sheet.
    for (let n = 0; n < 8; n += 1) {
      await page.keyboard.press("Tab");
      assert.equal(await page.evaluate(() => document.activeElement === document.body || Boolean(document.activeElement.closest("dialog"))), true);
    }
    // The list may be some seconds old: here it is, for as long as it takes.
    const old = await world.call("GET", "/admin/v1/devices?user=ending");
    await page.route(LIST, (route) => route.fulfill({ json: old }));
    // It is under way for as long as it is looked at.
    await page.route(ENDING, async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...(await response.json()), state: "accepted" } });
    });
    await sheet.getByRole("button", { name: "End this device" }).click();
    await sheet.getByRole("heading", { name: "Ending Old phone" }).waitFor();
    await sheet.getByText("Queues are deleted").waitFor();
    assert.ok(await sheet.getByRole("progressbar").count() >= 1);
    await settled();
    await page.unroute(ENDING);
    await sheet.getByRole("heading", { name: "Receipt" }).waitFor();
    assert.match(await sheet.innerText(), /1 queue deleted, 0 remain/);
    await settled();
    const [file] = await Promise.all([page.waitForEvent("download"), sheet.getByRole("button", { name: "Download" }).click()]);
    const receipt = JSON.parse(await readFile(await file.path(), "utf8"));
    assert.equal(receipt.device, device.id);
    assert.equal(receipt.state, "done");
    assert.deepEqual([receipt.channels_deleted, receipt.receipt.remaining, receipt.receipt.channels.length], [1, 0, 1]);
    await sheet.getByRole("button", { name: "Done" }).click();
    await rows().getByText("ended").waitFor();
    await page.unroute(LIST);
    await page.getByRole("heading", { name: "No devices" }).waitFor();
    await assert.rejects(world.call("GET", `/admin/v1/devices/${device.id}/channels`), { status: 404 });
    // Its own place says so too, without an error.
    await page.goto(`${world.url}/admin#/users/ending/${device.id}`);
    await page.getByRole("heading", { name: "This device is gone" }).waitFor();
  });

  test("all of a user’s sockets are closed", async () => {
    const device = await world.device("kicked", "main", "Phone");
    await visit(world, "#/users/kicked");
    await page.evaluate(([url, key]) => new Promise((resolve, reject) => {
      const socket = new WebSocket(`${url.replace("http", "ws")}/v1/socket`, ["keepstep.v1", `bearer.${key}`]);
      globalThis.code = new Promise((done) => { socket.onclose = ({ code }) => done(code); });
      socket.onmessage = resolve;
      socket.onerror = () => reject(new Error("no socket"));
    }), [world.url, device.token]);
    await page.getByText("on edge-1").waitFor();
    await page.getByRole("button", { name: /Close all sockets/ }).click();
    await page.getByRole("dialog").getByText("4410").waitFor();
    await settled();
    await page.getByRole("button", { name: "Close the sockets" }).click();
    await page.getByText("Every edge is told.").waitFor();
    assert.equal(await page.evaluate(() => globalThis.code), 4410);
  });
});

describe("what the console ends, over Redis and two nsqd", () => {
  let world;
  // The server would remove the orphans of these tests by itself, and sooner than they are looked at.
  const settings = { KEEPSTEP_RECONCILE: "1h" };

  before(async () => { world = await World.start({ stack: true, settings }); });
  after(() => world?.end());

  /** Every queue of a device, on every nsqd, asked of nsqd itself. */
  async function channels(device) {
    const name = `d.${device.replaceAll("-", "")}`;
    const found = [];
    for (const { node } of world.nsqd) {
      const { topics } = await (await fetch(`http://${node}/stats?format=json`)).json();
      for (const topic of topics) for (const channel of topic.channels) if (channel.channel_name === name) found.push(`${node} ${topic.topic_name}`);
    }
    return found;
  }

  /** A device with a chat on each nsqd at least, and messages that wait. */
  async function busy(user) {
    const device = await world.device(user, "main", "Phone");
    for (let n = 0; n < 8; n += 1) await world.say(`${user}-friend-${n}`, await world.direct(user, `${user}-friend-${n}`), 2);
    await until("16 messages to wait", async () => (await world.call("DELETE", `/admin/v1/devices/${device.id}?dry_run=true`)).undelivered === 16);
    const on = new Set((await channels(device.id)).map((found) => found.split(" ")[0]));
    assert.equal(on.size, 2, "chats on both nsqd");
    return device;
  }

  async function orphan(node, chat, device = randomUUID()) {
    const names = `topic=c.${chat.replaceAll("-", "")}&channel=d.${device.replaceAll("-", "")}`;
    for (const what of ["topic", "channel"]) assert.equal((await fetch(`http://${node}/${what}/create?${names}`, { method: "POST" })).status, 200);
    return device;
  }

  test("ending a device: each nsqd with its own progress, 0 channels afterwards, and it is in the audit log", async () => {
    const device = await busy("dora");
    await visit(world, `#/users/dora/${device.id}`);
    await page.getByRole("table", { name: "Queues of this device" }).waitFor();
    assert.equal(await rows().count(), 8);
    await page.getByRole("button", { name: "End this device…" }).click();
    const sheet = page.getByRole("dialog");
    await sheet.getByText("Deletes 8 queues of 8 chats on 2 servers.").waitFor();
    await sheet.getByText("16 undelivered messages").waitFor();
    const where = await texts(sheet.locator("tbody tr"));
    assert.deepEqual(where.map((line) => line.split(/\s/)[0]).sort(), world.nsqd.map(({ node }) => node).sort());
    await sheet.getByRole("button", { name: "End this device" }).click();
    await sheet.getByRole("heading", { name: "Receipt" }).waitFor();
    await sheet.getByText("8 queues deleted, 0 remain").waitFor();
    assert.deepEqual(await channels(device.id), []);
    await page.getByRole("button", { name: "Done" }).click();

    await page.getByRole("link", { name: "Audit", exact: true }).click();
    const line = rows().filter({ hasText: "Ended a device" }).filter({ hasText: "dora" });
    await line.waitFor();
    assert.match(await line.innerText(), /root[\s\S]*done/);
    await settled();
    await line.getByRole("button", { name: "Receipt" }).click();
    await sheet.getByText("8 queues deleted, 0 remain").waitFor();
    await page.keyboard.press("Escape");
    // Filters are of the server; the export holds what they leave.
    await page.getByLabel("What").selectOption("user.kick");
    await page.getByRole("heading", { name: "Nothing matches" }).waitFor();
    await page.getByLabel("What").selectOption("device.end");
    await line.waitFor();
    const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Export JSON lines" }).click()]);
    const lines = (await readFile(await file.path(), "utf8")).trim().split("\n").map((text) => JSON.parse(text));
    assert.ok(lines.some((entry) => entry.who === "root" && entry.device === device.id && entry.result === "ok" && !entry.dry_run));
    assert.ok(lines.every((entry) => entry.action === "device.end"));
    await page.getByRole("searchbox").fill("somebody");
    await page.getByRole("heading", { name: "Nothing matches" }).waitFor();
  });

  test("an nsqd that is away: the sheet says so, waits, and ends with the receipt once it is back", async () => {
    const device = await busy("emil");
    const away = world.nsqd[1];
    await visit(world, "#/users/emil");
    away.daemon.signal("SIGSTOP");
    try {
      // Before that, what the server saw of it a moment ago still counts.
      await page.getByText("1 server can’t be reached").waitFor();
      await page.getByRole("button", { name: /^End Phone of emil/ }).click();
      const sheet = page.getByRole("dialog");
      await sheet.getByText(`${away.node} can’t be reached.`).waitFor();
      await settled();
      await sheet.getByRole("button", { name: "End this device" }).click();
      await sheet.getByText("waiting", { exact: true }).waitFor();
      await sheet.getByText("as soon as it is back").waitFor();
      await sheet.getByText("You may close this").waitFor();
      await settled();
      away.daemon.signal("SIGCONT");
      await sheet.getByRole("heading", { name: "Receipt" }).waitFor();
      assert.deepEqual(await channels(device.id), []);
    } finally {
      away.daemon.signal("SIGCONT");
    }
  });

  test("orphans: seen, looked at twice, swept; foreign ones only when told", async () => {
    const phone = await world.device("fred", "main", "Phone");
    const chat = await world.direct("fred", "gina");
    const { node } = (await world.call("GET", `/admin/v1/devices/${phone.id}/channels`)).items[0];
    await visit(world, "#/orphans");
    await page.getByRole("heading", { name: "No orphans" }).waitFor();
    await settled();
    const [ours, foreign] = [await orphan(node, chat), await orphan(node, randomUUID())];
    await until("both to be seen", async () => (await rows().count()) === 2);
    await page.getByText("Some are foreign").waitFor();
    await settled();
    await page.getByRole("button", { name: "Sweep…" }).click();
    const sheet = page.getByRole("dialog");
    await sheet.getByText(/Deletes 1 queue, which/).waitFor();
    assert.deepEqual([(await channels(ours)).length, (await channels(foreign)).length], [1, 1], "a dry run changes nothing");
    await settled();
    await sheet.getByRole("button", { name: "Delete 1 queue" }).click();
    await sheet.getByRole("heading", { name: "Swept" }).waitFor();
    await sheet.getByText("1 queue deleted.").waitFor();
    await settled();
    assert.deepEqual([(await channels(ours)).length, (await channels(foreign)).length], [0, 1]);
    await sheet.getByRole("button", { name: "Done" }).click();
    // The other one, with its own tick.
    await page.getByRole("button", { name: "Sweep…" }).click();
    await sheet.getByText("There is nothing to sweep.").waitFor();
    await sheet.getByRole("checkbox").click();
    await sheet.getByText(/Deletes 1 queue, which/).waitFor();
    await sheet.getByRole("button", { name: "Delete 1 queue" }).click();
    await sheet.getByText("1 queue deleted.").waitFor();
    assert.deepEqual(await channels(foreign), []);
    await sheet.getByRole("button", { name: "Done" }).click();
    await page.getByRole("heading", { name: "No orphans" }).waitFor();
    await page.getByRole("link", { name: "Audit", exact: true }).click();
    await rows().filter({ hasText: "Swept orphans" }).filter({ hasText: "1 deleted" }).first().waitFor();
    await rows().filter({ hasText: "Looked at sweeping orphans" }).first().waitFor();
    // fred's own queue is untouched.
    assert.equal((await channels(phone.id)).length, 1);
  });
});
