// Lines that go half-open: nothing breaks, nothing comes any more. A device isn't shown as connected over one for longer than 10 s.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { startProxy } from "./support/proxy.mjs";
import { startServer } from "./support/server.mjs";
import { tampered } from "./support/tampered.mjs";
import { eventually, sleep, world } from "./support/world.mjs";

let server;
before(async () => { server = await startServer(); });
after(() => server?.stop());

/** The limit that is promised. */
const CONNECTED_AT_MOST = 10_000;
/** Node begins a WebSocket on an HTTP connection that it has kept, and a frozen one is that, too. A browser's is always a new one. */
const OPEN = 1_000;

/** Alice's phone behind a proxy of its own, in a group. */
async function behind(t, options = {}) {
  const { device, user } = world(t, server);
  const proxy = await startProxy(server.port);
  t.after(() => proxy.stop());
  const phone = await device(user("alice"), "main", { url: proxy.url, ...options });
  const { id: chat } = await phone.createChat({ kind: "group" });
  return { phone, chat, proxy, device, user };
}

/** How long a client is shown as connected from now on, in milliseconds. */
async function connectedFor(client) {
  const begun = performance.now();
  const end = await client.once("state", ({ state }) => state !== "online", { signal: AbortSignal.timeout(60_000) });
  return { ms: performance.now() - begun, state: end.state };
}

/** What a client says from now on. */
function said(client, type) {
  const all = [];
  client.on("frame", ({ direction, frame }) => { if (direction === "out" && frame.type === type) all.push(performance.now()); });
  return all;
}

describe("lines", { concurrency: true }, () => {
  test("an idle line that goes silent is shown as connected for 10 s at most, and another one is made", async (t) => {
    const { phone, chat, proxy } = await behind(t);
    await phone.send(chat, "before"); // the last sign of life
    proxy.freeze();
    const { ms } = await connectedFor(phone);
    assert.ok(ms <= CONNECTED_AT_MOST, `connected for ${Math.round(ms)} ms`);
    await eventually("it is back", () => phone.state === "online");
    assert.equal((await phone.send(chat, "after")).seq, 2);
  });

  test("a message without an answer is a reason to ask after 5 s, however quiet a line may be", async (t) => {
    const { phone, chat, proxy } = await behind(t, { timing: { silence: 60_000 } });
    const pings = said(phone, "ping");
    proxy.freeze();
    const begun = performance.now();
    const sent = phone.send(chat, "do you hear me?");
    const { ms } = await connectedFor(phone);
    assert.equal(pings.length, 1);
    assert.ok(pings[0] - begun >= 4_900 && pings[0] - begun <= 7_000, `asked after ${Math.round(pings[0] - begun)} ms`);
    assert.ok(ms <= CONNECTED_AT_MOST + 1_500, `connected for ${Math.round(ms)} ms`);
    assert.equal((await sent).seq, 1);
  });

  test("a message without an answer, and a line that is well: it is asked, and stays", async (t) => {
    const { device, user } = world(t, server);
    let held = null;
    const WebSocket = tampered((frame) => {
      if (frame.type !== "reply" || frame.ok?.seq === undefined || held) return undefined;
      held = frame;
      return [];
    });
    const phone = await device(user("alice"), "main", { WebSocket, timing: { silence: 60_000 } });
    const { id: chat } = await phone.createChat({ kind: "group" });
    const pings = said(phone, "ping");
    phone.notes.states.length = 0;
    phone.send(chat, "the reply to this is late").catch(() => {});
    await eventually("it asks", () => pings.length > 0, { within: 8_000 });
    await sleep(1_500); // three looks of the clock later
    assert.deepEqual([pings.length, phone.state, phone.notes.states], [1, "online", []]);
  });

  test("a machine that slept finds its line dead: from the moment it wakes it isn't shown as connected", async (t) => {
    const proxy = await startProxy(server.port);
    t.after(() => proxy.stop());
    const program = `
      import { Keepstep } from "./keepstep.js";
      const { URL_, TOKEN } = process.env;
      const timing = { silence: 400, patience: 400, pause: 100, pauseMax: 100, open: ${OPEN} };
      const client = new Keepstep({ url: URL_, timing, register: { userToken: TOKEN, kind: "main", name: "n", platform: "test" } });
      await client.connect();
      setInterval(() => console.log(Date.now(), client.state), 20);
    `;
    const child = spawn(process.execPath, ["--experimental-websocket", "--no-warnings", "--input-type=module", "-e", program], {
      cwd: fileURLToPath(new URL("..", import.meta.url)),
      env: { ...process.env, URL_: proxy.url, TOKEN: server.userToken(`sleeper-${Math.random()}`) },
      stdio: ["ignore", "pipe", "inherit"],
    });
    t.after(() => child.kill("SIGKILL"));
    let text = "";
    child.stdout.on("data", (data) => { text += data; });
    const looks = () => text.split("\n").slice(0, -1).map((line) => line.split(" ")).map(([at, state]) => ({ at: Number(at), state }));
    await eventually("it is connected", () => looks().at(-1)?.state === "online");
    proxy.freeze();
    child.kill("SIGSTOP");
    await sleep(3_000);
    const woken = Date.now();
    child.kill("SIGCONT");
    await eventually("another line", () => looks().some(({ at, state }) => at >= woken && state === "online"));
    const states = looks().filter(({ at }) => at >= woken).map(({ state }) => state);
    assert.equal(states[0], "checking");
    assert.ok(states.indexOf("offline") > 0 && states.indexOf("offline") < states.indexOf("online"), `${states}`);
  });

  test("a line that is slow and alive isn't torn again and again: the client learns how slow it is", async (t) => {
    const { phone, chat, proxy } = await behind(t, { timing: { silence: 100, patience: 200 } });
    proxy.delay(500); // an answer takes a second: five times what a line is given at first
    const lost = () => phone.notes.states.filter(({ state }) => state === "offline").length;
    await eventually("it was given up at first", () => lost() > 0);
    const pongs = [];
    phone.on("frame", ({ direction, frame }) => { if (direction === "in" && frame.type === "pong") pongs.push(lost()); });
    // Four signs of life in a row on one connection.
    await eventually("it stays", () => pongs.length >= 4 && pongs.at(-4) === lost(), { within: 30_000 });
    assert.ok(lost() <= 4, `given up ${lost()} times`);
    assert.ok(phone.notes.states.some(({ state }) => state === "checking"), "meanwhile it wasn't shown as connected");
    assert.equal((await phone.send(chat, "slowly")).seq, 1);
  });

  test("who is there isn't known without a connection: nobody is shown as online over a line that is gone", async (t) => {
    const { phone, proxy, device, user } = await behind(t);
    await device(user("bob"), "main");
    await phone.createChat({ kind: "direct", with: user("bob") });
    phone.watch([user("bob")]);
    await eventually("bob is there", () => phone.presence(user("bob"))?.online);
    proxy.refuse(true);
    proxy.cut();
    await eventually("the line is gone", () => phone.state === "offline");
    assert.equal(phone.presence(user("bob")), undefined);
    proxy.refuse(false);
    await eventually("bob is there again", () => phone.presence(user("bob"))?.online);
  });
});

// These tell the client that it is in a page: one after the other.
test("a page that becomes visible, is taken out of the cache, or hears that the network is back asks at once", async (t) => {
  const window = new EventTarget();
  const document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  Object.assign(globalThis, {
    document,
    addEventListener: window.addEventListener.bind(window),
    removeEventListener: window.removeEventListener.bind(window),
  });
  t.after(() => ["document", "addEventListener", "removeEventListener"].forEach((name) => { delete globalThis[name]; }));
  const { phone, proxy } = await behind(t, { timing: { silence: 60_000, patience: 500, pause: 20_000, pauseMax: 20_000, open: OPEN } });
  const pings = said(phone, "ping");
  const pongs = [];
  phone.on("frame", ({ direction, frame }) => { if (direction === "in" && frame.type === "pong") pongs.push(frame); });
  for (const [target, name] of [[window, "online"], [window, "pageshow"], [document, "visibilitychange"], [document, "resume"]]) {
    const before = pings.length;
    target.dispatchEvent(new Event(name));
    assert.equal(pings.length, before + 1, name);
    await eventually("it is answered", () => pongs.length === pings.length);
  }
  document.visibilityState = "hidden";
  document.dispatchEvent(new Event("visibilitychange"));
  assert.equal(pings.length, 4, "nobody looks: nothing is asked");
  // A line that is dead is found out by that, and a page that waits for its next try doesn't wait when somebody looks.
  document.visibilityState = "visible";
  proxy.freeze();
  document.dispatchEvent(new Event("visibilitychange"));
  const { ms, state } = await connectedFor(phone);
  assert.equal(state, "offline");
  assert.ok(ms < 3_000, `noticed after ${Math.round(ms)} ms`);
  proxy.cut();
  // Somebody looks again and again: the first tries may still be made on what was just cut.
  await eventually("it is back, long before its time", () => {
    document.dispatchEvent(new Event("visibilitychange"));
    return phone.state === "online";
  }, { within: 5_000 });
});

test("a hidden page asks seldom; when it is looked at again it isn't shown as connected before it has heard something", async (t) => {
  const document = Object.assign(new EventTarget(), { visibilityState: "hidden" });
  globalThis.document = document;
  t.after(() => { delete globalThis.document; });
  const { device, user } = world(t, server);
  const phone = await device(user("alice"), "main");
  const pings = said(phone, "ping");
  await sleep(11_000);
  assert.deepEqual([pings.length, phone.state], [0, "online"]);
  phone.notes.states.length = 0;
  document.visibilityState = "visible";
  document.dispatchEvent(new Event("visibilitychange"));
  assert.equal(phone.state, "checking");
  await eventually("it has heard", () => phone.state === "online");
  assert.deepEqual(phone.notes.states.map(({ state }) => state), ["checking", "online"]);
  assert.match(phone.notes.states[0].text, /isn't heard/);
});
