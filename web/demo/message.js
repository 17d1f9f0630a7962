// How one row of a conversation looks.

import { h } from "/shared/dom.js";
import { clock, count, dayOf, moment, person } from "./words.js";

export const icon = (name, more = "") => h("svg", { class: `icon ${more}`, "aria-hidden": "true" }, h("use", { href: `#i-${name}` }));

const TICKS = {
  waiting: ["clock", "waits in the outbox"],
  sent: ["sent", "sent: it can't be lost any more"],
  delivered: ["delivered", "delivered: it is on the other phone"],
  read: ["read", "read"],
};

/** The rows of a chat on a device: days, the border of what was borrowed, messages, what waits in the outbox. */
export function rows(station, chat) {
  const timeline = station.timeline(chat);
  const outbox = station.client?.outbox(chat) ?? [];
  const sign = `${timeline.version} ${outbox.map(({ key }) => key)} ${dayOf(Date.now())}`;
  if (timeline.rows?.sign !== sign) timeline.rows = { sign, rows: build(station, timeline, outbox) };
  return timeline.rows.rows;
}

function build(station, timeline, outbox) {
  const out = [];
  let day = null;
  const dayRow = (at) => {
    const name = dayOf(at);
    if (name !== day) out.push({ key: `day ${name}`, day: name });
    day = name;
  };
  let border = timeline.borrowed !== null;
  const borrowed = () => {
    border = false;
    out.push({ key: "borrowed", borrowed: timeline.count });
  };
  for (const message of timeline.messages) {
    if (border && message.seq > timeline.borrowed) borrowed();
    dayRow(message.at);
    out.push({ key: message.key, message });
  }
  if (border) borrowed();
  const there = new Set(timeline.messages.slice(-50).map((message) => message.key));
  for (const waiting of outbox) {
    if (there.has(waiting.key)) continue;
    out.push({ key: waiting.key, message: { ...waiting.body, key: waiting.key, from: station.user, at: waiting.at, seq: null } });
  }
  return out;
}

/** Describes one row. */
export function row(station, chat, one, index, all) {
  const place = { key: one.key, role: "listitem", "aria-setsize": all, "aria-posinset": index + 1 };
  if (one.day) return h("div", { ...place, class: "row row--day", memo: one.key }, h("span", null, one.day));
  if (one.borrowed !== undefined) {
    const text = `${count(one.borrowed, "message")} borrowed from the phone`;
    return h("div", { ...place, class: "row row--border", memo: text }, h("span", null, icon("phone"), text));
  }
  const { message } = one;
  const own = message.from === station.user;
  const tick = !own ? null : message.seq === null ? "waiting" : station.receipts.tick(chat.id, message.seq, station.others(chat.id));
  const sender = !own && chat.kind === "group" ? person(message.from) : null;
  return h(
    "div",
    { ...place, class: own ? "row row--own" : "row", memo: `${message.seq} ${tick} ${index} ${all}` },
    h(
      "div",
      { class: message.media ? "bubble bubble--media" : "bubble" },
      h("span", { class: "unseen" }, own ? "You: " : `${person(message.from)}: `),
      sender && h("span", { class: "bubble__sender", "aria-hidden": "true" }, sender),
      message.media && picture(message.media),
      body(message) && h("span", { class: "bubble__text" }, body(message)),
      h(
        "span",
        { class: "bubble__foot" },
        h("time", { datetime: new Date(message.at).toISOString(), title: message.seq ? `#${message.seq}, ${moment(message.at)}` : moment(message.at) }, clock(message.at)),
        tick && h("span", { class: `tick tick--${tick}`, title: TICKS[tick][1] }, icon(TICKS[tick][0], "icon--tick"), h("span", { class: "unseen" }, `, ${TICKS[tick][1]}`)),
      ),
    ),
  );
}

function picture({ preview, width, height, name }) {
  const [w, t] = [width ?? 4, height ?? 3];
  // Only what a preview may be: a small picture inside the message. An address of elsewhere would tell it who looks.
  if (!preview?.startsWith("data:image/")) return h("span", { class: "bubble__file" }, icon("picture"), name ?? "a file");
  return h("img", { class: "bubble__picture", src: preview, alt: name ? `Picture: ${name}` : "A picture", width: Math.round((w / Math.max(w, t)) * 216), height: Math.round((t / Math.max(w, t)) * 216) });
}

function body({ kind, content }) {
  if (kind === "text" || kind === "media") return typeof content === "string" ? content : null;
  return `(${kind})`;
}
