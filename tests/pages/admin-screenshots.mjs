// Pictures of every state of the console, from a real server over Redis and two nsqd, for people to look at:
// screenshots/admin/, at two widths, light and dark. `node admin-screenshots.mjs [part of a name]` keeps only those; with AXE=1
// axe-core looks at each too, which takes minutes more (the tests do so in every state).

import { randomUUID } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { World, findings, launch, open, until } from "./support/world.mjs";

const FOLDER = fileURLToPath(new URL("./screenshots/admin/", import.meta.url));
const only = process.argv[2] ?? "";
const SIZES = [{ width: 1440, height: 900 }, { width: 390, height: 844 }];
const BROWSERS = ["Firefox on Linux", "Chrome on Windows", "Safari on Mac"];
let complaints = 0;
let talk;

async function fill(world) {
  const names = ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy"];
  const people = Array.from({ length: 340 }, (_, n) => (n < 10 ? names[n] : `${names[n % 10]}.${Math.floor(n / 10)}`));
  const online = [];
  await world.each(people, async (user) => {
    const phone = await world.device(user, "main", `${user.split(".")[0]}’s phone`);
    const web = await world.device(user, "sub", BROWSERS[user.length % 3]);
    await world.device(user, "sub", BROWSERS[(user.length + 1) % 3]);
    if (/[13579]$|^[b-j][a-z]+$/.test(user)) online.push([phone, user.length % 2 ? web : null]);
  });
  const groups = await Promise.all(["Book club", "Lunch", "Announcements"].map((name, n) => world.publicGroup(names[n], name)));
  await world.each(people, async (user) => {
    if (user !== names[0]) await world.join(user, groups[0]);
    if (user.endsWith("1") && user !== names[1]) await world.join(user, groups[1]);
  });
  for (let n = 0; n < 24; n += 1) await world.say("alice", await world.direct("alice", people[20 + n]), 1 + (n % 5) * 3);
  await world.say("alice", groups[0], 7);
  await world.say("bob", groups[1], 40);
  return { online, groups };
}

/** Holds the sockets of devices, acknowledges what comes, as apps do. Web windows come after their phone. */
async function hold(world, online) {
  const page = await open(browser, `${world.url}/admin`);
  await page.evaluate(async (pairs) => {
    const connect = ({ token, kind }) => new Promise((resolve) => {
      const socket = new WebSocket(`${location.origin.replace("http", "ws")}/v1/socket`, ["keepstep.v1", `bearer.${token}`]);
      socket.onclose = () => resolve();
      socket.onmessage = ({ data }) => {
        const { type, chat, seq } = JSON.parse(data);
        if (type === "welcome") { if (kind === "sub") socket.send("{\"type\":\"ready\"}"); resolve(); }
        if (type === "message") socket.send(JSON.stringify({ type: "ack", chat, seq }));
      };
    });
    for (const [phone, web] of pairs) { await connect(phone); if (web) await connect(web); }
  }, online);
  return page;
}

/** People talk now and then, so that the lines have something to show. */
function chatter(world, groups) {
  let n = 0;
  return setInterval(() => { n += 1; world.say(["bob", "carol"][n % 2], groups[0], 1 + (n % 3)).catch(() => {}); }, 700);
}

async function orphans(world) {
  const { items } = await world.call("GET", "/admin/v1/devices?user=alice&search=phone");
  const queues = (await world.call("GET", `/admin/v1/devices/${items[0].device}/channels`)).items;
  for (let n = 0; n < 12; n += 1) {
    const { node, topic } = n % 4 ? queues[n] : { ...queues[n], topic: `c.${randomUUID().replaceAll("-", "")}` };
    for (const what of ["topic", "channel"]) {
      await fetch(`http://${node}/${what}/create?topic=${topic}&channel=d.${randomUUID().replaceAll("-", "")}`, { method: "POST" });
    }
  }
  await until("the orphans to be seen", async () => (await world.call("GET", "/admin/v1/channels/orphans")).total >= 12, 60_000);
}

const world = await World.start({ stack: true, settings: { KEEPSTEP_RECONCILE: "1h" } });
const empty = await World.start();
const browser = await launch();
try {
  await mkdir(FOLDER, { recursive: true });
  console.log("filling the server: 1,020 devices …");
  const { online, groups } = await fill(world);
  await hold(world, online);
  talk = chatter(world, groups);
  await orphans(world);
  let turn = 0;
  for (const viewport of SIZES) {
    for (const colorScheme of ["light", "dark"]) {
      const page = await signedIn(world, { viewport, colorScheme });
      const visit = async (place) => { await page.goto(`${world.url}/admin${place}`); await page.locator(".view table, .view .state").first().waitFor(); await page.waitForTimeout(300); };
      const shoot = (name, of = page) => shot(of, `${name}-${viewport.width}-${colorScheme}`);
      const press = (name) => page.getByRole("button", { name }).first().click();
      const person = ["erin.7", "frank.8", "grace.9", "heidi.9"][turn];
      turn += 1;

      await visit("#/");
      await page.locator("svg.spark[role=img]").first().waitFor({ timeout: 20_000 });
      await shoot("overview");
      await visit("#/users");
      await shoot("users");
      await visit("#/devices?limit=1000");
      await page.waitForFunction(() => document.querySelectorAll(".view tbody tr").length === 1000);
      await shoot("devices");
      await visit(`#/users/${person}`);
      await shoot("user");
      await press("Close all sockets…");
      await page.getByRole("dialog").waitFor();
      await shoot("kick");
      await page.keyboard.press("Escape");
      await visit("#/users/alice");
      await page.getByRole("link", { name: "alice’s phone" }).click();
      await page.getByRole("table", { name: "Queues of this device" }).waitFor();
      await shoot("chats");
      await visit(`#/users/${person}`);
      await press(/^End .*phone/);
      await page.getByRole("button", { name: "End this device" }).waitFor();
      await shoot("end");
      await press("End this device");
      await page.getByText("Queues are deleted").waitFor();
      await shoot("ending");
      await page.getByRole("heading", { name: "Receipt" }).waitFor({ timeout: 60_000 });
      await shoot("receipt");
      await press("Done");
      // One nsqd is away.
      world.nsqd[1].daemon.signal("SIGSTOP");
      await page.getByRole("button", { name: /^End (Firefox|Chrome|Safari)/ }).first().click();
      await page.getByText("can’t be reached.").waitFor({ timeout: 60_000 });
      await shoot("end-away");
      await press("End this device");
      await page.getByText("as soon as it is back").waitFor({ timeout: 60_000 });
      await shoot("ending-away");
      await page.keyboard.press("Escape");
      await visit("#/");
      await page.getByText("Trouble").waitFor({ timeout: 30_000 });
      await shoot("overview-away");
      world.nsqd[1].daemon.signal("SIGCONT");
      await visit("#/orphans");
      await page.getByRole("table", { name: "Orphans" }).waitFor({ timeout: 60_000 });
      await shoot("orphans");
      await press("Sweep…");
      await page.getByRole("button", { name: /^Delete/ }).waitFor({ timeout: 60_000 });
      await shoot("sweep");
      await page.keyboard.press("Escape");
      await visit("#/audit");
      await shoot("audit");
      await visit("#/devices?search=nobody");
      await shoot("no-match");
      await page.route("**/admin/v1/users*", (route) => route.abort());
      page.expected.push(/ERR_FAILED/);
      await page.goto(`${world.url}/admin#/users`);
      await page.getByText("can’t be reached").waitFor();
      await shoot("error");
      report(page);
      await page.context().close();

      const signed = await open(browser, `${world.url}/admin`, { viewport, colorScheme });
      await signed.getByLabel("Admin token").waitFor();
      await shoot("sign-in", signed);
      await signed.context().close();
      const bare = await signedIn(empty, { viewport, colorScheme });
      await bare.goto(`${empty.url}/admin#/users`);
      await bare.getByRole("heading", { name: "No users yet" }).waitFor();
      await shoot("empty", bare);
      report(bare);
      await bare.context().close();
    }
  }
} finally {
  clearInterval(talk);
  for (const { daemon } of world.nsqd) daemon.signal("SIGCONT");
  await browser.close();
  await world.end();
  await empty.end();
}
console.log(complaints ? `${complaints} complaints` : "no complaint");
process.exitCode = complaints ? 1 : 0;

async function signedIn(on, options) {
  const before = (page) => page.addInitScript((token) => sessionStorage.setItem("keepstep-admin-token", token), on.admin);
  return open(browser, `${on.url}/admin`, { ...options, before });
}

async function shot(page, name) {
  if (!name.includes(only)) return;
  await page.waitForTimeout(200);
  await page.screenshot({ path: `${FOLDER}${name}.png` });
  if (!process.env.AXE) return;
  for (const finding of await findings(page)) complain(`${name}: ${finding}`);
}

function report(page) {
  for (const wrong of page.wrong()) complain(wrong);
}

function complain(words) {
  complaints += 1;
  console.log(words);
}
