// Linking, presence and typing.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Keepstep, memory } from "../keepstep.js";
import { startServer } from "./support/server.mjs";
import { FAST, eventually, watch, world } from "./support/world.mjs";

let server;
before(async () => { server = await startServer(); });
after(() => server?.stop());

/** A web session with the token that a link gave it. */
async function linked(t, token, options = {}) {
  const web = watch(new Keepstep({ url: server.url, token, storage: memory(), timing: FAST, ...options }));
  t.after(() => web.close());
  await web.connect();
  return web;
}

test("a web session shows a code, the phone looks at it and approves: it is a device of the user, with its history", async (t) => {
  const { device, user } = world(t, server);
  const phone = await device(user("alice"), "main");
  const { id: chat } = await phone.createChat({ kind: "group" });
  for (let n = 1; n <= 5; n++) await phone.send(chat, `${n}`);
  await eventually("all is stored", () => phone.chat(chat).top === 5);

  const link = await Keepstep.requestLink({ url: server.url, name: "Firefox", platform: "web" });
  assert.match(link.code, /^[0-9A-Z]{4}-[0-9A-Z]{2}$/);
  assert.ok(link.expiresIn > 60 && link.expiresIn <= 120);
  assert.ok(link.qr.size >= 21 && /^M/.test(link.qr.path));
  const { expires_in: left, ...asked } = await phone.lookupLink(link.code);
  assert.deepEqual(asked, { code: link.code, name: "Firefox", platform: "web" });
  assert.ok(left > 60);
  await phone.approveLink(link.code);
  const { device: made, token } = await link.result;
  assert.equal(made.kind, "sub");

  const web = await linked(t, token);
  assert.equal(web.device, made.id);
  assert.equal((await web.history(chat)).messages.length, 5);
  assert.deepEqual((await phone.devices()).map(({ name }) => name).sort(), ["Firefox", `${user("alice")}'s main`]);
  await assert.rejects(phone.lookupLink(link.code), { code: "not_found" }); // a code is good once
});

test("the phone says how much of the past a web session may ask for", async (t) => {
  const { device, user } = world(t, server);
  const phone = await device(user("alice"), "main");
  const { id: chat } = await phone.createChat({ kind: "group" });
  for (let n = 1; n <= 9; n++) await phone.send(chat, `${n}`);
  await eventually("all is stored", () => phone.chat(chat).top === 9);
  for (const [history, seqs] of [[3, [7, 8, 9]], [0, []], [null, [1, 2, 3, 4, 5, 6, 7, 8, 9]]]) {
    const link = await Keepstep.requestLink({ url: server.url, name: "Firefox", platform: "web" });
    await phone.approveLink(link.code, { history });
    const web = await linked(t, (await link.result).token);
    const page = await web.history(chat, { limit: 50 });
    assert.deepEqual(page.messages.map(({ seq }) => seq), seqs);
    assert.equal(page.more, false);
    assert.equal(web.chat(chat).complete, true);
    assert.deepEqual(web.notes.errors, []);
  }
});

test("the phone refuses; a page that knows its user is announced to the phone; a page gives up", async (t) => {
  const { device, user } = world(t, server);
  const phone = await device(user("alice"), "main");
  const heard = phone.once("link_request");
  const link = await Keepstep.requestLink({ url: server.url, name: "Safari", platform: "web", userToken: server.userToken(user("alice")) });
  assert.deepEqual(await heard, { code: link.code, name: "Safari", platform: "web" });
  await phone.approveLink(link.code, { approve: false });
  await assert.rejects(link.result, { code: "refused" });

  const other = await Keepstep.requestLink({ url: server.url, name: "Safari", platform: "web" });
  other.cancel();
  await assert.rejects(other.result, { code: "cancelled" });
  await assert.rejects(phone.approveLink("0000-00"), { code: "not_found" });
});

/** A server of which only links are seen: `polls` are its answers to the questions what became of one, at these seconds of its life. */
function linkServer(t, ...polls) {
  t.mock.timers.enable({ apis: ["Date"], now: 1 });
  const answer = (status, json) => new Response(JSON.stringify(json), { status });
  return async (_, { method }) => {
    if (method === "POST") return answer(201, { link: "l", code: "7F3K-92", secret: "s", expires_in: 120, qr: { size: 25, path: "M0 0" } });
    const [at, status, json] = polls.shift() ?? assert.fail("asked for nothing");
    t.mock.timers.setTime(1 + at * 1_000);
    return answer(status, json);
  };
}
const LINK = { url: "http://127.0.0.1:1", name: "Firefox", platform: "web" };
const PENDING = { state: "pending" };

test("a link that was approved in time is waited for beyond the code's time: its device may be in the making", async (t) => {
  const made = { device: { id: "d" }, token: "t" };
  const fetch = linkServer(t, [119, 200, PENDING], [150, 200, PENDING], [200, 200, { state: "approved", ...made }]);
  assert.deepEqual(await (await Keepstep.requestLink({ ...LINK, fetch })).result, made);
});

test("a link ends in `expired` whether the server says so, has forgotten it, or never decides", async (t) => {
  const ends = [[[121, 200, { state: "expired" }]], [[121, 404, { code: "not_found", detail: "no such link" }]], [[121, 200, PENDING], [241, 200, PENDING]]];
  for (const polls of ends) {
    const { result } = await Keepstep.requestLink({ ...LINK, fetch: linkServer(t, ...polls) });
    await assert.rejects(result, { code: "expired" });
    t.mock.timers.reset();
  }
});

test("presence of those who are watched, also over a reconnect, and of whom one meets later", async (t) => {
  const { device, user } = world(t, server);
  const phone = await device(user("alice"), "main");
  const bobs = await device(user("bob"), "main");
  const { id: chat } = await phone.createChat({ kind: "direct", with: user("bob") });
  await eventually("bob knows the chat", () => bobs.chat(chat));
  phone.watch([user("bob"), user("carol")]);
  await eventually("bob is here", () => phone.presence(user("bob"))?.online === true);
  const went = phone.once("presence");
  bobs.disconnect();
  const { user: who, online, last_seen: seen } = await went;
  assert.deepEqual([who, online, Number.isInteger(seen)], [user("bob"), false, true]);

  phone.disconnect();
  await phone.connect();
  await bobs.connect();
  await eventually("bob is back", () => phone.presence(user("bob")).online);
  const carols = await device(user("carol"), "main");
  assert.equal(phone.presence(user("carol")), undefined); // nobody she shares a chat with
  await carols.createChat({ kind: "direct", with: user("alice") });
  await eventually("carol is here", () => phone.presence(user("carol"))?.online === true);
  assert.throws(() => phone.watch(Array.from({ length: 101 }, (_, n) => `user-${n}`)), { code: "bad_range" });
});

test("typing reaches the others, at most once in 3 s", async (t) => {
  const { device, user } = world(t, server);
  const phone = await device(user("alice"), "main");
  const bobs = await device(user("bob"), "main");
  const { id: chat } = await phone.createChat({ kind: "direct", with: user("bob") });
  await eventually("bob knows the chat", () => bobs.chat(chat));
  const heard = bobs.once("typing");
  let said = 0;
  phone.on("frame", ({ direction, frame }) => { if (direction === "out" && frame.type === "typing") said++; });
  for (let n = 0; n < 20; n++) phone.typing(chat);
  assert.equal(said, 1);
  assert.deepEqual(await heard, { chat, user: user("alice") });
});
