// What the console's tests stand on: a real server (in memory, or on a Redis and two nsqd of its own), people with devices in
// it, a page of a real Chromium. Everything on free ports of the loopback and in temporary folders; `end()` ends all of it.

import { spawn } from "node:child_process";
import { createHmac, randomUUID } from "node:crypto";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import axe from "axe-core";
import { launch, open as openPage } from "./browser.mjs";
import { start } from "./server.mjs";
import { until } from "./until.mjs";

export { launch, until };

// These tests bring a Redis of their own, or none: not one that the environment names for others.
for (const name of ["KEEPSTEP_REDIS_URL", "KEEPSTEP_NSQD", "KEEPSTEP_NSQLOOKUPD"]) delete process.env[name];

const REPOSITORY = fileURLToPath(new URL("../../..", import.meta.url));
const SECRET = "the pages' tests sign with these bytes";

// Below the range out of which the system takes ports for outgoing connections: one that is free stays so.
function freePort(tries = 50) {
  const port = 12_000 + Math.floor(Math.random() * 20_000);
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", (error) => (tries > 0 ? freePort(tries - 1).then(resolve, reject) : reject(error)));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(port)));
  });
}

function program(variable, name) {
  if (process.env[variable]) return process.env[variable];
  const found = (process.env.PATH ?? "").split(":").map((folder) => join(folder, name)).find((path) => existsSync(path));
  if (!found) throw new Error(`${name} isn't there: put it on PATH, or name it in ${variable} (scripts/setup gets it)`);
  return found;
}

/** What runs under a server. */
class Daemon {
  constructor(name, file, args) {
    Object.assign(this, { name, log: "" });
    this.child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"] });
    const keep = (chunk) => { this.log = (this.log + chunk).slice(-20_000); };
    this.child.stdout.on("data", keep);
    this.child.stderr.on("data", keep);
    this.gone = new Promise((resolve) => { this.child.once("exit", resolve); this.child.once("error", (error) => { keep(String(error)); resolve(null); }); });
  }

  ready(url) {
    return until(`${this.name} to answer`, async () => {
      if (this.child.exitCode !== null) throw new Error(`${this.name} ended:\n${this.log}`);
      return (await fetch(url)).ok;
    });
  }

  signal(name) { this.child.kill(name); }

  async end() {
    this.signal("SIGCONT");
    this.signal("SIGTERM");
    const late = setTimeout(() => this.signal("SIGKILL"), 12_000);
    await this.gone;
    clearTimeout(late);
  }
}

const base64url = (value) => Buffer.from(value).toString("base64url");

export function token(user, claims = {}) {
  const body = `${base64url(JSON.stringify({ alg: "HS256", typ: "JWT" }))}.${base64url(JSON.stringify({ sub: user, exp: Math.floor(Date.now() / 1000) + 3600, ...claims }))}`;
  return `${body}.${createHmac("sha256", SECRET).update(body).digest("base64url")}`;
}

/** A server and what is under it. */
export class World {
  daemons = [];
  folders = [];
  nsqd = [];

  /** @param {{stack?: boolean, settings?: object}} how `stack`: on a Redis and two nsqd; else in memory */
  static async start({ stack = false, settings = {} } = {}) {
    const world = new World();
    try {
      const env = { KEEPSTEP_JWT_SECRET: SECRET, KEEPSTEP_EDGE: "edge-1", ...settings };
      if (stack) Object.assign(env, await world.#startStack());
      world.server = await start(env);
      world.url = world.server.url;
      await until("the server to answer", () => world.call("GET", "/admin/v1/overview"));
      return world;
    } catch (error) {
      await world.end();
      throw error;
    }
  }

  #run(...args) {
    const daemon = new Daemon(...args);
    this.daemons.push(daemon);
    return daemon;
  }

  #folder() {
    const folder = mkdtempSync(join(tmpdir(), "keepstep-pages-"));
    this.folders.push(folder);
    return folder;
  }

  async #startStack() {
    const redis = await freePort();
    this.#run("redis", program("KEEPSTEP_REDIS_BIN", "redis-server"), ["--port", String(redis), "--dir", this.#folder(), "--bind", "127.0.0.1",
      "--daemonize", "no", "--save", "", "--maxmemory-policy", "noeviction", "--appendonly", "yes", "--appendfsync", "always"]);
    for (let n = 0; n < 2; n += 1) {
      const [tcp, http] = [await freePort(), await freePort()];
      const daemon = this.#run(`nsqd ${n}`, program("KEEPSTEP_NSQD_BIN", "nsqd"), [`--config=${join(REPOSITORY, "nsq/conf/nsqd.cfg")}`, `--data-path=${this.#folder()}`,
        `--node-id=${n}`, "--broadcast-address=127.0.0.1", `--tcp-address=127.0.0.1:${tcp}`, `--http-address=127.0.0.1:${http}`]);
      await daemon.ready(`http://127.0.0.1:${http}/ping`);
      this.nsqd.push({ node: `127.0.0.1:${http}`, daemon });
    }
    return { KEEPSTEP_REDIS_URL: `redis://127.0.0.1:${redis}/`, KEEPSTEP_NSQD: this.nsqd.map(({ node }) => node).join(",") };
  }

  async end() {
    await this.server?.stop();
    for (const daemon of this.daemons.reverse()) await daemon.end();
    for (const folder of this.folders) rmSync(folder, { recursive: true, force: true });
  }

  /** One call as somebody; fails unless the status is 2xx. */
  async call(method, path, { as = this.admin, body } = {}) {
    const response = await fetch(this.url + path, { method, headers: { authorization: `Bearer ${as}`, ...(body ? { "content-type": "application/json" } : {}) }, body: body ? JSON.stringify(body) : undefined });
    const text = await response.text();
    if (!response.ok) throw Object.assign(new Error(`${method} ${path}: ${response.status} ${text}`), { status: response.status });
    return text ? JSON.parse(text) : {};
  }

  admin = token("root", { admin: true });

  async device(user, kind, name, platform = kind === "main" ? "android" : "web") {
    const { device, token: key } = await this.call("POST", "/v1/devices", { as: token(user), body: { kind, name, platform } });
    return { ...device, token: key, user };
  }

  async direct(user, other) { return (await this.call("POST", "/v1/chats", { as: token(user), body: { kind: "direct", with: other } })).id; }

  async publicGroup(user, name) { return (await this.call("POST", "/v1/chats", { as: token(user), body: { kind: "group", name, public: true } })).id; }

  join(user, chat) { return this.call("POST", `/v1/chats/${chat}/join`, { as: token(user), body: {} }); }

  async say(user, chat, times = 1) {
    for (let n = 0; n < times; n += 1) {
      await this.call("POST", `/v1/chats/${chat}/messages`, { as: token(user), body: { key: randomUUID(), kind: "text", content: `Message ${n + 1}` } });
    }
  }

  /** Does `work` for each of `items`, eight at a time. */
  async each(items, work) {
    const rest = [...items];
    await Promise.all(Array.from({ length: 8 }, async () => { while (rest.length) await work(rest.shift()); }));
  }
}

/**
 * A page in a profile of its own.
 * @returns page with `page.wrong()`: what it complained about that nobody expected; `page.expected`: patterns of what a test
 *   brings about
 */
export async function open(browser, url, options = {}) {
  const { page, complaints } = await openPage(browser, url, options);
  page.expected = [];
  page.wrong = () => complaints.filter((complaint) => !page.expected.some((pattern) => pattern.test(complaint)));
  return page;
}

/** Serious findings of axe-core, as lines. */
export async function findings(page) {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations.filter(({ impact }) => ["serious", "critical", "moderate"].includes(impact))
    .map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map((node) => node.html.slice(0, 120)).join(" | ")}`);
}
