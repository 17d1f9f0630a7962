// Whom others may reach: invitations that wait for an answer, and blocks.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startServer } from "./support/server.mjs";
import { eventually, world } from "./support/world.mjs";

let server;
before(async () => { server = await startServer("--invites", "consent", "--reinvite-after", "0s"); });
after(() => server.stop());

test("an invitation waits for its answer, and is told to all devices", async (t) => {
  const { user, device } = world(t, server);
  const [alice, bob] = [user("alice"), user("bob")];
  const [phone, bobs] = [await device(alice, "main"), await device(bob, "main")];
  const web = await device(bob, "sub");
  const told = [];
  for (const one of [bobs, web]) one.on("invitation", (news) => told.push(news));
  const group = await phone.createChat({ kind: "group", name: "Book club" });
  assert.deepEqual((await phone.invite(group.id, bob)).invited, [bob]);
  await eventually("both were told", () => told.length === 2);
  const [waiting] = await bobs.invitations();
  assert.deepEqual(told, [{ event: "pending", ...waiting }, { event: "pending", ...waiting }]);
  assert.deepEqual([waiting.chat, waiting.by, waiting.name, waiting.kind], [group.id, alice, "Book club", "group"]);
  assert.equal(bobs.chat(group.id), undefined);

  const accepted = await web.acceptInvitation(group.id);
  assert.deepEqual(accepted.members, [alice, bob]);
  assert.equal(web.chat(group.id).joined, true);
  await eventually("it is over", () => told.length === 4);
  assert.deepEqual(told.slice(2), [{ event: "over", chat: group.id }, { event: "over", chat: group.id }]);
  assert.deepEqual(await bobs.invitations(), []);
  await phone.send(group.id, "welcome");
  await eventually("it came", () => bobs.chat(group.id)?.top === 1);

  const direct = await phone.createChat({ kind: "direct", with: bob });
  assert.deepEqual([direct.members, direct.invited], [[alice], [bob]]);
  await bobs.declineInvitation(direct.id);
  await assert.rejects(bobs.declineInvitation(direct.id), { code: "not_found" });
  assert.equal(bobs.chat(direct.id), undefined);
});

test("who is blocked is out of the direct chat, and opens no other", async (t) => {
  const { user, device } = world(t, server);
  const [alice, bob] = [user("alice"), user("bob")];
  const [phone, bobs] = [await device(alice, "main"), await device(bob, "main")];
  const { id: chat } = await phone.createChat({ kind: "direct", with: bob });
  await bobs.acceptInvitation(chat);
  await phone.send(chat, "hello");
  await eventually("it came", () => bobs.chat(chat).top === 1);
  const block = await bobs.block(alice);
  assert.equal(block.user, alice);
  assert.deepEqual(await bobs.blocks(), [block]);
  await eventually("alice is out", () => phone.chat(chat).joined === false);
  await assert.rejects(phone.createChat({ kind: "direct", with: bob }), { code: "forbidden", status: 403, retry: false, requestId: /^[0-9a-f-]{36}$/ });
  await bobs.unblock(alice);
  assert.deepEqual(await bobs.blocks(), []);
  await phone.createChat({ kind: "direct", with: bob, id: chat });
  assert.equal(phone.chat(chat).joined, true);
});
