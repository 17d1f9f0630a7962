// The phone's list of linked devices: last seen, and remove.

import { h } from "/shared/dom.js";
import { icon } from "./message.js";
import { ago, moment } from "./words.js";

async function load(station) {
  const panel = station.panel;
  try {
    panel.items = await station.client.devices();
    panel.error = null;
  } catch (error) {
    panel.error = error.message;
  }
  station.tell("change");
}

function toggle(station) {
  station.panel = station.panel ? null : { items: null, error: null };
  if (station.panel) load(station);
  station.tell("change");
}

// The list is as old as it is: without a connection nobody knows who is there.
function there(station, { online, last_seen: seen }) {
  if (!online) return ago(seen);
  return station.online ? "online" : "not known just now";
}

function view(station, page) {
  const { items, error } = station.panel;
  return h(
    "div",
    { key: "panel", class: "panel" },
    h("div", { class: "panel__head" }, h("h3", null, "Linked devices"),
      h("button", { type: "button", class: "button button--small", onclick: () => toggle(station) }, "Close")),
    error && h("p", { class: "notice notice--warning", role: "status" }, icon("wait"), `The list can't be had now: ${error}`),
    !items && !error && h("p", { class: "quiet" }, "One moment …"),
    h("ul", { class: "panel__list" }, (items ?? []).map((device) =>
      h("li", { key: device.id },
        icon(device.kind === "main" ? "phone" : "web"),
        h("div", null,
          h("strong", null, device.name), device.id === station.device && " (this one)",
          h("p", { class: "small quiet", title: moment(device.last_seen) }, `${device.platform} · ${there(station, device)}`)),
        device.kind === "sub" && h("button", {
          type: "button", class: "button button--small", "aria-label": `Remove ${device.name}`,
          onclick: async () => { await page.remove(station, device.id); load(station); },
        }, "Remove")))),
    h("form", {
      class: "panel__link",
      onsubmit: (event) => {
        event.preventDefault();
        const code = event.currentTarget.elements.code.value.trim();
        if (code) page.look(station, code).then((found) => { if (found) station.panel = null; station.tell("change"); });
      },
    },
      h("label", { class: "field" }, h("span", null, "Link a device by its code"),
        h("input", { name: "code", class: "input input--small", autocomplete: "off", autocapitalize: "characters", placeholder: "7F3K-92", required: true })),
      h("button", { class: "button button--small" }, "Look it up"),
      station.link?.error && h("p", { class: "small", role: "status" }, station.link.error)),
  );
}

export const devices = { toggle, view, load };
