// The receipt of an ended device: what was removed where, and when it was looked at again.

import { draw, h } from "/shared/dom.js";
import { icon } from "./message.js";
import { count, moment } from "./words.js";

export function showReceipt(sheet, station) {
  const termination = station.ending;
  const { channels = [], remaining = 0, verified_at } = termination.receipt ?? {};
  const copy = async (event) => {
    const button = event.currentTarget;
    const text = JSON.stringify(termination, null, 2);
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "The browser doesn't allow it";
    }
  };
  draw(sheet,
    h("header", { class: "sheet__head" }, h("h2", { id: "sheet-title" }, `The end of ${station.name}`),
      h("button", { type: "button", class: "button button--small", onclick: () => sheet.close() }, icon("close"), "Close")),
    h("div", { class: "sheet__body" },
      h("p", { class: "note note--good" }, icon("sent"), `${count(channels.length, "queue")} removed, ${remaining === 0 ? "nothing left" : `${remaining} left`}. Looked at again on ${moment(verified_at)}.`),
      h("dl", { class: "facts" },
        h("dt", null, "Device"), h("dd", { class: "mono" }, termination.device),
        h("dt", null, "Ended by"), h("dd", null, termination.by === "main" ? "the phone" : termination.by),
        h("dt", null, "Accepted"), h("dd", null, moment(termination.accepted_at)),
        h("dt", null, "Receipt"), h("dd", { class: "mono" }, termination.id)),
      h("div", { class: "table-frame", tabindex: "0", role: "region", "aria-label": "Removed queues" }, h("table", { class: "table" },
        h("thead", null, h("tr", null, h("th", { scope: "col" }, "Server"), h("th", { scope: "col" }, "Topic"), h("th", { scope: "col", class: "number" }, "Undelivered"))),
        h("tbody", null, channels.map((one) => h("tr", null, h("td", null, one.node), h("td", { class: "mono", title: one.topic }, `${one.topic.slice(0, 14)}…`), h("td", { class: "number" }, one.depth.toLocaleString()))))))),
    h("footer", { class: "sheet__foot" }, h("button", { type: "button", class: "button", onclick: copy }, "Copy as JSON")));
  sheet.showModal();
}
