// Sweeping orphans: a dry run first, then batch after batch with what became of each.

import { call } from "./api.js";
import { h } from "/shared/dom.js";
import { stumble } from "./ending.js";
import { count, list, number } from "./format.js";
import { address, badge, copyButton, download, icon, note, skeleton } from "./parts.js";
import { REASONS } from "./orphans.js";
import { openSheet, pause } from "./sheet.js";
import { table } from "./table.js";

const BATCH = 200;
const LINES = 100;
const TITLE = "Sweep orphans";

const keyOf = (item) => `${item.node} ${item.topic} ${item.channel}`;

// What went when, by the server's clock. The list of orphans is some seconds old and may still have it.
const swept = new Map();

/** A page of orphans, without those that went after the server looked. */
export function withoutSwept(page) {
  const items = page.items.filter((item) => !(swept.get(keyOf(item)) >= page.as_of));
  return { ...page, items, total: page.total - (page.items.length - items.length) };
}

/** @param {() => void} after when the sheet is closed */
export async function sweep(after, foreign = false) {
  const sheet = openSheet(after);
  const cancel = h("button", { type: "button", class: "button", key: "cancel", onclick: () => sheet.close() }, "Leave them");
  sheet.show({ step: "look", title: TITLE, body: [h("p", { class: "quiet" }, "Looking twice, more than a second apart: what is just coming or going isn’t an orphan…"), skeleton(4)], foot: cancel });
  let plan;
  try {
    plan = await call("POST", "/admin/v1/channels/sweep", { query: { dry_run: true, foreign, limit: 1000 }, signal: sheet.signal });
  } catch (problem) {
    return stumble(sheet, problem, TITLE, () => sweep(after, foreign));
  }
  const doomed = plan.items.filter((item) => item.result === "would_remove");
  sheet.show({
    step: "preview", title: TITLE,
    body: [
      doomed.length
        ? h("p", null, "Deletes ", h("strong", null, count(doomed.length, "queue")), plan.left ? ` of ${number(doomed.length + plan.left)}` : "", ", which hold ", h("strong", null, count(held(doomed), "message")), " that no device is owed.")
        : note("good", "check", h("p", null, h("strong", null, "There is nothing to sweep. "), plan.foreign ? `${count(plan.foreign, "foreign queue")} stay${plan.foreign === 1 ? "s" : ""}.` : "What was seen is gone already, or is wanted again.")),
      doomed.length ? table({ label: "What is deleted, and why", items: groups(doomed), key: (group) => group.key, columns: [
        { label: "Server", lead: true, cell: (group) => address(group.node) },
        { label: "Why", cell: (group) => REASONS[group.reason] ?? group.reason },
        { label: "Queues", number: true, cell: (group) => number(group.queues) },
        { label: "Held", number: true, title: "Messages in them", cell: (group) => number(group.depth) },
      ] }) : null,
      plan.foreign || foreign ? h("label", { class: "check card" },
        h("input", { type: "checkbox", checked: foreign, onchange: (event) => sweep(after, event.target.checked) }),
        h("span", null, h("strong", null, foreign ? "Foreign ones too. " : `${count(plan.foreign, "foreign one")} too. `), "This store never knew their device or their chat. If another deployment uses the same nsqd, they are its own, and it loses what they hold.")) : null,
      lost(plan.unreachable),
      doomed.length ? h("p", { class: "quiet" }, "Each gets a last look before it is deleted, everywhere and durably. This can’t be undone.") : null,
    ],
    foot: [cancel, doomed.length ? h("button", { type: "button", class: "button button--danger", key: "go",
      onclick: (event) => { event.currentTarget.disabled = true; run(sheet, foreign, doomed.length + plan.left).catch((problem) => stumble(sheet, problem, TITLE, () => sweep(after, foreign))); } }, `Delete ${count(doomed.length + plan.left, "queue")}`) : null],
  });
}

const held = (items) => items.reduce((sum, item) => sum + (item.depth ?? 0) + (item.in_flight ?? 0), 0);

const lost = (unreachable) => (unreachable.length ? note("warning", "wait", h("p", null, h("strong", null, `${list(unreachable)} can’t be reached. `), "What stands there isn’t swept now; sweep again once it answers, or leave it to the server, which does so by itself.")) : null);

function groups(items) {
  const by = new Map();
  for (const item of items) {
    const key = `${item.node} ${item.reason}`;
    if (!by.has(key)) by.set(key, { key, node: item.node, reason: item.reason, queues: 0, depth: 0 });
    by.get(key).queues += 1;
    by.get(key).depth += item.depth ?? 0;
  }
  return [...by.values()];
}

/** Batch after batch, until nothing is left, nothing more goes, or somebody says stop. */
async function run(sheet, foreign, expected) {
  const seen = [];
  const sums = { removed: 0, kept: 0, failed: 0 };
  const unreachable = new Set();
  let stopped = false;
  let left = expected;
  let spared = 0;
  const show = () => sheet.show({
    step: "progress", title: TITLE,
    body: [
      h("p", null, h("strong", null, `${number(sums.removed)} of ${number(expected)} deleted`), sums.failed ? `, ${number(sums.failed)} failed` : ""),
      h("progress", { class: "progress", max: Math.max(expected, 1), value: Math.min(sums.removed, expected), "aria-label": "Queues deleted" }),
      h("p", { class: "quiet small" }, "Up to 200 at a time, each looked at once more before it goes."),
    ],
    foot: h("button", { type: "button", class: "button", key: "stop", onclick: () => { stopped = true; } }, "Stop after these"),
  });
  while (sheet.isOpen && !stopped) {
    show();
    const answer = await call("POST", "/admin/v1/channels/sweep", { query: { foreign, limit: BATCH }, signal: sheet.signal });
    for (const name of Object.keys(sums)) sums[name] += answer[name];
    for (const node of answer.unreachable) unreachable.add(node);
    // What is kept is looked at again in each batch; it counts once.
    const keys = new Set(answer.items.map(keyOf));
    for (let at = seen.length - 1; at >= 0; at -= 1) if (keys.has(keyOf(seen[at]))) seen.splice(at, 1);
    for (const item of answer.items) if (item.result === "removed" || item.result === "gone") swept.set(keyOf(item), answer.at);
    seen.push(...answer.items.filter((item) => item.result !== "later"));
    ({ left, foreign: spared } = answer);
    show();
    sheet.say(`${number(sums.removed)} of ${number(expected)} deleted`);
    if (!left || !answer.removed) break;
    await pause(50, sheet.signal);
  }
  sums.kept = seen.filter((item) => item.result === "kept").length;
  sums.failed = seen.filter((item) => item.result === "failed").length;
  receipt(sheet, { at: Date.now(), ...sums, left, foreign: spared, unreachable: [...unreachable], items: seen });
}

const RESULTS = { removed: ["good", "deleted", "check"], gone: ["", "gone already", "check"], kept: ["", "kept", "info"], failed: ["danger", "failed", "alert"] };

function receipt(sheet, result) {
  const text = () => JSON.stringify(result, null, 2);
  sheet.show({
    step: "receipt", title: "Swept",
    body: [
      note(result.failed ? "danger" : "good", result.failed ? "alert" : "check", h("p", null, h("strong", null, `${count(result.removed, "queue")} deleted. `),
        [result.kept ? `${number(result.kept)} kept: wanted again, or still holding what their devices need.` : null, result.failed ? `${number(result.failed)} failed; the server tries them again by itself.` : null, result.left ? `${number(result.left)} left for another sweep.` : result.foreign ? `${count(result.foreign, "foreign one")} left alone.` : "No orphan is left."].filter(Boolean).join(" "))),
      lost(result.unreachable),
      result.items.length ? table({ label: "What became of each", items: result.items.slice(0, LINES), key: keyOf, columns: [
        { label: "Queue", lead: true, cell: (item) => h("code", { title: `${item.topic} ${item.channel}` }, `${item.topic.slice(0, 10)}… ${item.channel.slice(0, 10)}…`) },
        { label: "On", cell: (item) => address(item.node) },
        { label: "Result", cell: (item) => [badge(...(RESULTS[item.result] ?? ["", item.result])), item.detail ? h("p", { class: "small" }, item.detail) : null] },
      ] }) : null,
      result.items.length > LINES ? h("p", { class: "small quiet" }, `And ${number(result.items.length - LINES)} more, in the copy and the file.`) : null,
    ],
    foot: [
      copyButton("Copy the result", text, { shown: "Copy", className: "button copy-wide" }),
      h("button", { type: "button", class: "button", key: "save", onclick: () => download("keepstep-sweep.json", "application/json", text()) }, icon("save"), "Download"),
      h("button", { type: "button", class: "button button--primary", key: "done", onclick: () => sheet.close() }, "Done"),
    ],
  });
  sheet.say(`${number(result.removed)} deleted`);
}
