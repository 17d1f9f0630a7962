// Who did what.

import { call, get, Refusal } from "./api.js";
import { h } from "/shared/dom.js";
import { showTermination } from "./ending.js";
import { count, now, number } from "./format.js";
import { alarm, badge, download, icon, id, say, time } from "./parts.js";
import { listing, pageSize, searchField } from "./table.js";

const ACTIONS = { "device.end": "Ended a device", "user.kick": "Closed a user’s sockets", "channels.sweep": "Swept orphans" };
const PLANS = { "device.end": "Looked at ending a device", "channels.sweep": "Looked at sweeping orphans" };
const SPANS = [["", "Any time"], [String(3600e3), "Last hour"], [String(86400e3), "Last day"], [String(7 * 86400e3), "Last 7 days"]];

/** The page keeps how far back, not since when: a link means the same tomorrow. */
function filter(place) {
  const { who, action, within } = place.query;
  return { who, action, since: within ? Math.max(0, Math.round(now() - Number(within))) : undefined };
}

const WHO = { label: "Who", placeholder: "Admin, exactly", name: "who" };

const columns = (refresh) => [
  { label: "When", lead: true, cell: (item) => time(item.at) },
  { label: "Who", cell: (item) => h("strong", null, item.who) },
  { label: "What", cell: (item) => (item.dry_run ? PLANS[item.action] : ACTIONS[item.action]) ?? item.action },
  { label: "Whom", cell: (item) => h("span", { class: "device" },
    item.user ? h("a", { href: `#/users/${encodeURIComponent(item.user)}` }, item.user) : null,
    item.device ? h("span", { class: "device__id" }, id(item.device, "device id")) : null,
    !item.user && !item.device ? h("span", { class: "quiet" }, "–") : null) },
  { label: "Result", cell: (item) => (item.result === "ok"
    ? badge(item.dry_run ? "" : "good", item.dry_run ? "dry run" : "done", item.dry_run ? "info" : "check")
    : badge("danger", item.code ? `refused: ${item.code}` : "refused", "alert")) },
  { label: "Detail", cell: (item) => detail(item, refresh) },
  { label: "Edge", cell: (item) => h("span", { class: "quiet" }, item.edge) },
];

function detail(item, refresh) {
  const known = item.detail ?? {};
  if (known.termination) {
    return h("button", { type: "button", class: "button button--small", onclick: () => showTermination(known.termination, refresh) }, "Receipt");
  }
  if (typeof known.queues === "number") return `${count(known.queues, "queue")}, ${number(known.undelivered)} undelivered`;
  const sums = [
    typeof known.would_remove === "number" ? `would delete ${number(known.would_remove)}` : null,
    typeof known.removed === "number" ? `${number(known.removed)} deleted` : null,
    known.kept ? `${number(known.kept)} kept` : null,
    known.foreign ? `${number(known.foreign)} foreign` : null,
    known.failed ? `${number(known.failed)} failed` : null,
    known.left ? `${number(known.left)} left` : null,
  ].filter(Boolean);
  if (sums.length) return sums.join(", ");
  return h("span", { class: "quiet" }, "–");
}

let exporting = false;

async function exportAll(ctx) {
  if (exporting) return;
  exporting = true;
  try {
    const lines = await call("GET", "/admin/v1/audit", { query: { ...filter(ctx.place), format: "jsonl" }, text: true });
    download(`keepstep-audit-${new Date().toISOString().slice(0, 10)}.jsonl`, "application/x-ndjson", lines);
    say(`${count(lines.split("\n").filter(Boolean).length, "line")} exported`);
  } catch (problem) {
    if (!(problem instanceof Refusal)) throw problem;
    alarm(`${problem.words} ${problem.hint}`);
    ctx.refresh();
  } finally {
    exporting = false;
  }
}

function choice(ctx, label, name, options) {
  return h("label", { class: "choice small" }, h("span", null, label),
    h("select", { class: "input input--small", value: ctx.place.query[name] ?? "", onchange: (event) => ctx.go({ [name]: event.target.value, after: "" }, { trail: [] }) },
      options.map(([value, words]) => h("option", { value }, words))));
}

export const audit = {
  name: "audit",
  title: () => "Audit",
  every: 5000,
  load: (place, signal) => get("/admin/v1/audit", { query: { ...filter(place), after: place.query.after, limit: pageSize(place) }, signal }),
  head: (ctx) => h("div", { class: "view__head" },
    h("div", null, h("h1", { tabindex: -1 }, "Audit"), h("p", { class: "quiet" }, "What admins did, dry runs and refusals too. Newest first.")),
    h("div", { class: "view__actions" }, h("button", { type: "button", class: "button", onclick: () => exportAll(ctx) }, icon("save"), "Export JSON lines"))),
  body: (ctx, data) => listing(ctx, data, {
    label: "Audit log", columns: columns(ctx.refresh), key: (item) => item.id,
    narrowed: Boolean(ctx.place.query.who || ctx.place.query.action || ctx.place.query.within),
    tools: [
      searchField(ctx, WHO),
      choice(ctx, "What", "action", [["", "Everything"], ["device.end", "Devices ended"], ["user.kick", "Sockets closed"], ["channels.sweep", "Sweeps"]]),
      choice(ctx, "When", "within", SPANS),
    ],
    nothing: { title: "Nothing yet", words: "The first time an admin ends a device, closes sockets or sweeps, it is written here." },
    noMatch: { title: "Nothing matches", words: "Names of admins are compared exactly." }, clear: { who: "", action: "", within: "", after: "" },
  }),
};
