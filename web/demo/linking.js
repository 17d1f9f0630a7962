// Linking: a web window shows a code, the phone looks at who asks and decides how much of the past goes along.

import { Keepstep } from "/sdk/keepstep.js";
import { h } from "/shared/dom.js";
import { icon } from "./message.js";
import { left } from "./words.js";

function platform() {
  const text = navigator.userAgent;
  const browser = /Firefox/.test(text) ? "Firefox" : /Edg\//.test(text) ? "Edge" : /Chrome\//.test(text) ? "Chromium" : /Safari/.test(text) ? "Safari" : "A browser";
  const system = /Android/.test(text) ? "Android" : /iPhone|iPad/.test(text) ? "iOS" : /Mac/.test(text) ? "macOS" : /Windows/.test(text) ? "Windows" : /Linux/.test(text) ? "Linux" : null;
  return system ? `${browser} on ${system}` : browser;
}

/** Asks for a code, and waits until the phone has decided; then the device starts. */
export async function ask(station) {
  await station.leave();
  station.ending = null;
  station.link?.cancel?.();
  const link = { state: "asking" };
  station.link = link;
  station.tell("change");
  try {
    const request = await Keepstep.requestLink({ name: station.name, platform: platform() });
    if (station.link !== link) return request.cancel();
    Object.assign(link, { state: "shown", code: request.code, qr: request.qr, until: Date.now() + request.expiresIn * 1000, cancel: request.cancel });
    station.tell("change");
    const { token } = await request.result;
    if (station.link === link) await station.start({ token });
  } catch (error) {
    // A client says by its state what became of it.
    if (station.link === link) Object.assign(link, { state: error.code === "refused" || error.code === "expired" ? error.code : "failed", text: error.message });
  }
  station.tell("change");
}

const WORDS = {
  refused: "The phone refused this window. Nothing was shared with it.",
  expired: "Nobody approved this code within two minutes, so it is worth nothing any more.",
};

/** The web window's side. */
export function asking(station, page) {
  const { link } = station;
  if (!link) {
    return h("div", { key: "link", class: "pane__card" }, icon("web", "icon--huge"),
      h("p", null, "A second window. Each has queues of its own on the server."),
      h("button", { type: "button", class: "button", onclick: () => page.link(station) }, "Show a code"));
  }
  if (link.state === "asking") return h("p", { key: "link", class: "pane__wait" }, "Asking for a code …");
  if (link.state !== "shown") {
    return h("div", { key: "link", class: "pane__card", role: "status" }, icon("wait", "icon--huge"), h("p", null, WORDS[link.state] ?? `No code can be had: ${link.text}`),
      h("button", { type: "button", class: "button button--primary", onclick: () => page.link(station) }, "New code"));
  }
  const { size, path } = link.qr;
  return h(
    "div",
    { key: "link", class: "linking" },
    h("svg", { class: "linking__qr", viewBox: `-4 -4 ${size + 8} ${size + 8}`, role: "img", "aria-label": `QR code for ${link.code}`, "shape-rendering": "crispEdges" },
      h("rect", { x: "-4", y: "-4", width: size + 8, height: size + 8, fill: "#fff" }), h("path", { d: path, fill: "#000" })),
    h("p", { class: "linking__code" }, h("span", { class: "unseen" }, "Code "), link.code),
    h("p", { class: "linking__hint" }, "This window knows nothing yet. Approve it on the phone and it borrows its past from there."),
    h("button", { type: "button", class: "button button--primary", onclick: () => page.scan(station) }, icon("scan"), "Scan with the phone"),
    h("p", { class: "small quiet" }, `Good for ${left(link.until)} more, once`),
  );
}

const CHOICES = [
  ["all", "Everything", null],
  ["100", "The last 100 of each chat", 100],
  ["none", "Nothing from before", 0],
];

/** The phone's side: who asks, and what it would get. */
export function approval(station, page) {
  const { request } = station.link;
  const decide = (approve) => (event) => {
    event.preventDefault();
    page.decide(station, approve, CHOICES.find(([value]) => value === request.history)[2]);
  };
  return h(
    "form",
    { key: "approval", class: "approval", role: "dialog", "aria-labelledby": `${station.id}-asks`, onsubmit: decide(true) },
    h("h3", { id: `${station.id}-asks`, tabindex: "-1" }, `Link ${request.name}?`),
    h("p", { class: "small quiet" }, `${request.platform} · code `, h("span", { class: "mono" }, request.code), ` · ${left(request.until)} left`),
    h("fieldset", null, h("legend", { class: "small" }, "It gets from this phone"),
      CHOICES.map(([value, text]) => h("label", { class: "choice" }, h("input", { type: "radio", name: "history", value, checked: value === request.history, onchange: () => { request.history = value; } }), text))),
    station.link.error && h("p", { class: "notice notice--warning", role: "status" }, station.link.error),
    h("div", { class: "approval__buttons" },
      h("button", { type: "button", class: "button button--small", onclick: decide(false), disabled: request.busy }, "Refuse"),
      h("button", { class: "button button--small button--primary", disabled: request.busy }, "Approve")),
  );
}
