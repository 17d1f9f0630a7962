// What stands in the chats when somebody comes: short, and said over real sockets by the two phones.

import { drawn } from "./picture.js";

/** The side chat that carries receipts; it is in no list of chats. */
export const RECEIPTS = "receipts";
export const GROUP = "Lake trip";

const A = 0;
const B = 1;
const DIRECT = [
  [B, "Morning! Still up for lunch today?"],
  [A, "Yes! Somewhere with soup, it's freezing"],
  [B, "The ramen place on Mill Street?"],
  [A, "Perfect. Half past twelve?"],
  [B, "Works. I'll get us the table by the window"],
  [A, { kind: "media", content: "Found this on my way to work" }],
  [B, "Oh! The lake?"],
  [A, "The lake, an hour ago. I was nearly late"],
  [B, "Worth it"],
  [A, "See you at 12:30"],
  [B, "See you! And bring your charger, please"],
];
const TRIP = [
  [A, "I made us a group for Saturday"],
  [B, "Good. Train at 9:10 or at 10:10?"],
  [A, "10:10. I'm not a morning person"],
  [B, "Noted. I'll bring the stove"],
  [A, "And I bring coffee, obviously"],
  [B, "Sun until four, they say"],
];

/** Makes the three chats if they aren't there, and lets both talk if nobody has yet. */
export async function furnish(alice, bob) {
  const infos = await alice.listChats();
  const group = async (name) =>
    infos.find((chat) => chat.kind === "group" && chat.name === name) ?? alice.createChat({ kind: "group", name });
  const direct = await alice.createChat({ kind: "direct", with: bob.user });
  const trip = await group(GROUP);
  const side = await group(RECEIPTS);
  for (const chat of [trip, side]) if (!chat.members?.includes(bob.user)) await alice.invite(chat.id, bob.user);
  if (direct.head > 0) return;
  await Promise.all([direct, trip, side].map((chat) => known(bob, chat.id)));
  const both = [alice, bob];
  for (const [chat, lines] of [[trip, TRIP], [direct, DIRECT]]) {
    for (const [who, line] of lines) {
      const draft = typeof line === "string" ? line : { ...line, media: await drawn() };
      await both[who].send(chat.id, draft);
    }
    await Promise.all(both.map((client) => holds(client, chat.id, lines.length)));
    // All but the last was read, so that there is something to be read.
    await alice.read(chat.id, lines.length - 1);
    await bob.read(chat.id, lines.length);
  }
}

const patience = () => ({ signal: AbortSignal.timeout(10_000) });

async function known(client, chat) {
  if (client.chat(chat)?.joined) return;
  await client.once("chat", ({ event, chat: which }) => event === "joined" && which === chat, patience());
}

async function holds(client, chat, seq) {
  if (client.chat(chat)?.top >= seq) return;
  await client.once("message", (message) => message.chat === chat && message.seq >= seq, patience());
}
