// Users -> devices -> chats: one table that one goes down into.

import { Refusal, get } from "./api.js";
import { h } from "/shared/dom.js";
import { endDevice, markEnded } from "./ending.js";
import { count, number, short, span } from "./format.js";
import { kickUser } from "./kicking.js";
import { address, badge, bar, empty, icon, id, time } from "./parts.js";
import { listing, orderOf, pageSize } from "./table.js";

const SLOW = "The server looks at every queue. With 100,000 of them the first look takes some seconds; those after it don’t.";

/** What a list asks for. */
function asked(place, columns, fallback) {
  const { search, after } = place.query;
  return { search, after, limit: pageSize(place), ...orderOf(place, columns, fallback) };
}

/** For bars: the largest amount on the page. */
const largest = (data) => Math.max(0, ...(data?.items ?? []).map((item) => item.undelivered ?? item.depth + item.in_flight));
const userHref = (user) => `#/users/${encodeURIComponent(user)}`;
const deviceHref = (user, device) => `${userHref(user)}/${device}`;

function crumbs(trail, title, actions = null) {
  return h("div", { class: "view__head" },
    h("div", null,
      trail.length ? h("nav", { "aria-label": "Where you are", class: "crumbs small" }, h("ol", null, trail.map(([label, href]) =>
        h("li", null, h("a", { href }, label), icon("right"))))) : null,
      h("h1", { tabindex: -1 }, title)),
    actions ? h("div", { class: "view__actions" }, actions) : null);
}

const waits = (item) => (item.oldest_ms === null || item.oldest_ms === undefined ? h("span", { class: "quiet" }, "–") : span(item.oldest_ms));

// ---------------------------------------------------------------------------------------------------- users

const USERS = [
  { label: "User", sort: "user", up: true, lead: true, cell: (item) => h("a", { class: "into", href: userHref(item.user) }, item.user) },
  { label: "Devices", sort: "devices", number: true, cell: (item) => number(item.devices) },
  { label: "Online", sort: "online", number: true, cell: (item) => (item.online ? badge("good", number(item.online), "check") : h("span", { class: "quiet" }, "0")) },
  { label: "Last seen", sort: "last_seen", cell: (item) => time(item.last_seen) },
  { label: "Chats", sort: "chats", number: true, title: "The most that any of the devices has", cell: (item) => number(item.chats) },
  { label: "Undelivered", sort: "undelivered", number: true, title: "Messages in the devices’ queues, those in flight too", cell: (item, { top }) => bar(item.undelivered, top) },
  { label: "Oldest", number: true, title: "How long the oldest of them has waited", cell: waits },
];

export const users = {
  name: "users",
  title: () => "Users",
  every: 5000,
  slow: SLOW,
  load: (place, signal) => get("/admin/v1/users", { query: asked(place, USERS, "user"), signal }),
  head: () => crumbs([], "Users"),
  body: (ctx, data) => listing(ctx, data, {
    label: "Users", columns: USERS, fallback: "user", key: (item) => item.user, page: { top: largest(data) },
    search: { label: "Search users", placeholder: "User or part of it" },
    nothing: { title: "No users yet", words: "A user is here as soon as the first device is registered: POST /v1/devices." },
    noMatch: { title: "No user matches", words: "The name or a part of it, in any case." }, clear: { search: "", after: "" },
  }),
};

// ---------------------------------------------------------------------------------------------------- devices

const kind = (item) => h("span", { class: "kind" }, icon(item.kind === "main" ? "phone" : "web"), item.kind === "main" ? "phone" : "web");

function presence(item) {
  if (item.state === "ended") return badge("", "ended", "check");
  if (item.state && item.state !== "active") return badge("warning", "being ended", "wait");
  return item.online ? badge("good", item.edge ? `on ${item.edge}` : "online", "check") : badge("", "offline");
}

const deviceColumns = (withUser, refresh) => [
  { label: "Device", lead: true, cell: (item) => h("span", { class: "device" },
    h("a", { class: "into", href: deviceHref(item.user, item.device) }, item.name), h("span", { class: "device__id" }, id(item.device, "device id"))) },
  withUser ? { label: "User", sort: "user", up: true, cell: (item) => h("a", { href: userHref(item.user) }, item.user) } : null,
  { label: "Kind", cell: kind },
  { label: "State", cell: presence },
  { label: "Last seen", sort: "last_seen", cell: (item) => (item.online ? h("span", null, "now") : time(item.last_seen)) },
  { label: "Chats", sort: "chats", number: true, title: "Its queues", cell: (item) => number(item.chats) },
  { label: "Undelivered", sort: "undelivered", number: true, title: "Messages in its queues, those in flight too", cell: (item, { top }) => bar(item.undelivered, top) },
  { label: "Oldest", sort: "oldest", number: true, title: "How long the oldest of them has waited", cell: waits },
  { label: "Requeues", sort: "requeues", number: true, title: "Times that messages were given back", cell: (item) => number(item.requeues) },
  { label: "End", tail: true, cell: (item) => item.state !== "ended" && h("button", { type: "button", class: "button button--small", "aria-label": `End ${item.name} of ${item.user}…`, onclick: () => endDevice(item.device, refresh) }, "End…") },
].filter(Boolean);

const DEVICE_SEARCH = { label: "Search devices", placeholder: "User, device id or name" };
const ALL_DEVICES = (ctx) => deviceColumns(true, ctx?.refresh);

export const allDevices = {
  name: "devices",
  title: () => "Devices",
  every: 5000,
  slow: SLOW,
  load: (place, signal) => get("/admin/v1/devices", { query: asked(place, ALL_DEVICES(), "undelivered"), signal }).then(markEnded),
  head: () => crumbs([], "Devices"),
  body: (ctx, data) => listing(ctx, data, {
    label: "Devices", columns: ALL_DEVICES(ctx), fallback: "undelivered", key: (item) => item.device, page: { top: largest(data) },
    search: DEVICE_SEARCH,
    nothing: { title: "No devices yet", words: "The first phone that registers stands here: POST /v1/devices." },
    noMatch: { title: "No device matches", words: "Search looks for a part of the user, the device’s id or its name, in any case." }, clear: { search: "", after: "" },
  }),
};

export const userDevices = {
  name: "user",
  title: ({ parts }) => parts[1],
  every: 5000,
  slow: SLOW,
  load: (place, signal) => get("/admin/v1/devices", { query: { ...asked(place, deviceColumns(false), "undelivered"), user: place.parts[1] }, signal }).then(markEnded),
  head: (ctx) => crumbs([["Users", "#/users"]], ctx.place.parts[1],
    h("button", { type: "button", class: "button", onclick: () => kickUser(ctx.place.parts[1], ctx.refresh) }, "Close all sockets…")),
  body: (ctx, data) => listing(ctx, data, {
    label: `Devices of ${ctx.place.parts[1]}`, columns: deviceColumns(false, ctx.refresh), fallback: "undelivered", key: (item) => item.device, page: { top: largest(data) },
    search: DEVICE_SEARCH,
    nothing: { title: "No devices", words: "This user has none, or none any more. The audit log says who ended what." },
    noMatch: { title: "No device matches", words: "Search looks for a part of the device’s id or its name, in any case." }, clear: { search: "", after: "" },
  }),
};

// ---------------------------------------------------------------------------------------------------- chats

const CHATS = [
  { label: "Chat", sort: "chat", up: true, lead: true, cell: (item) => id(item.chat, "chat id") },
  { label: "On", cell: (item) => (item.node ? address(item.node) : badge("warning", "no server shows it", "alert")) },
  { label: "Waiting", sort: "undelivered", number: true, title: "Depth: messages in the queue that nobody has taken", cell: (item, { top }) => bar(item.depth, top) },
  { label: "In flight", number: true, title: "Sent to the device, not acknowledged", cell: (item) => number(item.in_flight) },
  { label: "Oldest", sort: "oldest", number: true, title: "How long the oldest message that isn’t acknowledged has waited", cell: waits },
  { label: "Requeues", sort: "requeues", number: true, title: "Times that a message was given back", cell: (item) => number(item.requeues) },
  { label: "Consumer", title: "Which edge takes from it", cell: (item) => (item.consumers ? (item.consumer ?? count(item.consumers, "consumer")) : h("span", { class: "quiet" }, "none")) },
  { label: "Cursor", number: true, title: "The highest seq that the device acknowledged", cell: (item) => number(item.cursor) },
  { label: "Head", number: true, title: "The highest seq of the chat", cell: (item) => number(item.head) },
];

export const deviceChats = {
  name: "chats",
  title: ({ parts }) => `Device ${short(parts[2])} of ${parts[1]}`,
  every: 3000,
  async load(place, signal) {
    const [, user, device] = place.parts;
    const found = await get(`/admin/v1/users/${encodeURIComponent(user)}/devices`, { query: { limit: 1000 }, signal });
    const known = found.items.find((item) => item.id === device);
    if (!known) return { items: [], gone: true };
    try {
      const page = await get(`/admin/v1/devices/${encodeURIComponent(device)}/channels`, { query: asked(place, CHATS, "chat"), signal });
      return { ...page, device: known };
    } catch (problem) {
      // It ended between the two questions.
      if (problem instanceof Refusal && problem.status === 404) return { items: [], gone: true };
      throw problem;
    }
  },
  head: (ctx, data) => crumbs([["Users", "#/users"], [ctx.place.parts[1], userHref(ctx.place.parts[1])]],
    data?.device?.name ?? short(ctx.place.parts[2]),
    data && !data.gone ? h("button", { type: "button", class: "button", onclick: () => endDevice(ctx.place.parts[2], ctx.refresh) }, "End this device…") : null),
  body: (ctx, data) => (data.gone ? empty("This device is gone", "It was ended, or there never was one with this id. Nothing of it is left: no queue, no token. The audit log has the receipt.",
    h("a", { class: "button", href: "#/audit?action=device.end" }, "See the audit log")) : [
    data.device ? facts(data.device) : null,
    listing(ctx, data, {
      label: "Queues of this device", columns: CHATS, fallback: "chat", key: (item) => `${item.chat} ${item.node}`, page: { top: Math.max(0, ...(data?.items ?? []).map((item) => item.depth)) },
      search: { label: "Search chats", placeholder: "Part of a chat’s id" },
      nothing: { title: "No queues", words: "The device’s user is in no chat, so no queue is kept for it. It gets one with the first chat." },
      noMatch: { title: "No chat matches", words: "Search looks for a part of the chat’s id." }, clear: { search: "", after: "" },
    }),
  ]),
};

function facts(device) {
  const fact = (label, ...value) => h("div", null, h("dt", null, label), h("dd", null, ...value));
  return h("dl", { class: "facts", key: "facts" },
    fact("State", presence(device)),
    fact("Kind", kind(device)),
    fact("Platform", device.platform),
    fact("Id", id(device.id, "device id")),
    fact("Last seen", device.online ? "now" : time(device.last_seen)),
    fact("Registered", time(device.created)),
    device.expires ? fact("Expires", time(device.expires)) : null);
}
