// Queues that are nobody's. The server removes them by itself; here one sees them, and needn't wait.

import { get } from "./api.js";
import { h } from "/shared/dom.js";
import { number } from "./format.js";
import { address, badge, id, note } from "./parts.js";
import { sweep, withoutSwept } from "./sweeping.js";
import { listing, pageSize } from "./table.js";

export const REASONS = {
  terminated: "its device was ended",
  not_a_member: "its user isn’t in the chat",
  moved: "the chat is on another nsqd",
  unknown_device: "nobody knows its device",
};

const COLUMNS = [
  { label: "Device", lead: true, cell: (item) => (item.device ? id(item.device, "device id") : h("code", null, item.channel)) },
  { label: "Chat", cell: (item) => (item.chat ? id(item.chat, "chat id") : h("code", null, item.topic)) },
  { label: "User", cell: (item) => (item.user ? h("a", { href: `#/users/${encodeURIComponent(item.user)}` }, item.user) : h("span", { class: "quiet" }, "–")) },
  { label: "On", cell: (item) => address(item.node) },
  { label: "Why", cell: (item) => h("span", { class: "why" }, REASONS[item.reason] ?? item.reason, item.foreign ? badge("warning", "foreign", "alert") : null) },
  { label: "Waiting", number: true, cell: (item) => number(item.depth) },
  { label: "In flight", number: true, cell: (item) => number(item.in_flight) },
];

export const orphans = {
  name: "orphans",
  title: () => "Orphans",
  every: 6000,
  slow: "The server looks at every queue of every nsqd. With 100,000 of them that takes some seconds.",
  load: (place, signal) => get("/admin/v1/channels/orphans", { query: { search: place.query.search, after: place.query.after, limit: pageSize(place) }, signal }).then(withoutSwept),
  head: (ctx, data) => h("div", { class: "view__head" },
    h("div", null, h("h1", { tabindex: -1 }, "Orphans"), h("p", { class: "quiet" }, "Queues that no device is owed. The server finds and removes its own by itself, twice looked at; a sweep does it now.")),
    h("div", { class: "view__actions" }, h("button", { type: "button", class: "button", disabled: !data?.total, onclick: () => sweep(ctx.refresh) }, "Sweep…"))),
  body: (ctx, data) => [
    data?.items.some((item) => item.foreign)
      ? h("div", { key: "foreign" }, note("warning", "info", h("p", null, h("strong", null, "Some are foreign: "), "this store never knew their device or their chat. They may be another deployment’s on the same nsqd, so a sweep leaves them unless you say otherwise.")))
      : null,
    listing(ctx, data, {
      label: "Orphans", columns: COLUMNS, key: (item) => `${item.node} ${item.topic} ${item.channel}`,
      search: { label: "Search orphans", placeholder: "User, device, chat or server" },
      nothing: { title: "No orphans", words: "Every queue on every server that answers belongs to a device that is owed it." },
      noMatch: { title: "No orphan matches", words: "Search looks for a part of user, device, chat or server." }, clear: { search: "", after: "" },
    }),
  ],
};
