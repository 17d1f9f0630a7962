// Ending a device: what will happen, one button, how far it is on each nsqd, the receipt.

import { Refusal, call, get } from "./api.js";
import { h } from "/shared/dom.js";
import { count, list, number, short, span } from "./format.js";
import { address, badge, copyButton, download, failure, icon, id, note, skeleton, time } from "./parts.js";
import { openSheet, pause } from "./sheet.js";
import { table } from "./table.js";

// Between two looks at a termination that is under way.
const LOOK_AGAIN = 500;
// More lines than this are in the file, not on the page.
const LINES = 100;

const BY = { user: "the user", main: "the user’s phone", self: "the device itself", admin: "an admin", replaced: "a new phone in its place", expired: "itself: nobody had seen it for too long" };

// What this page saw the end of. Lists are some seconds old and may still have it.
const ended = new Set();

/** A page of devices, with those marked whose end was seen here. */
export function markEnded(page) {
  return ended.size ? { ...page, items: page.items.map((item) => (ended.has(item.device) ? { ...item, state: "ended", online: false } : item)) } : page;
}

/** Opens the sheet with what would happen. @param {() => void} after when the sheet is closed */
export async function endDevice(device, after) {
  const sheet = openSheet(after);
  const cancel = h("button", { type: "button", class: "button", key: "cancel", onclick: () => sheet.close() }, "Keep it");
  sheet.show({ step: "look", title: "End a device", body: [h("p", { class: "quiet" }, "Looking at what would be deleted…"), skeleton(4)], foot: cancel });
  let plan;
  try {
    plan = await call("DELETE", `/admin/v1/devices/${encodeURIComponent(device)}`, { query: { dry_run: true }, signal: sheet.signal });
  } catch (problem) {
    return stumble(sheet, problem, "End a device", () => endDevice(device, after));
  }
  const end = async (event) => {
    const button = event.currentTarget;
    button.disabled = true;
    try {
      const answer = await call("DELETE", `/admin/v1/devices/${encodeURIComponent(device)}`, { signal: sheet.signal });
      await follow(sheet, answer.termination.id, plan);
    } catch (problem) {
      button.disabled = false;
      stumble(sheet, problem, "End a device", () => endDevice(device, after));
    }
  };
  sheet.show({ step: "preview", title: `End ${plan.device.name}?`, body: preview(plan),
    foot: [cancel, h("button", { type: "button", class: "button button--danger", key: "end", onclick: end }, "End this device")] });
}

function preview(plan) {
  const { device, nodes, unreachable } = plan;
  const main = device.kind === "main";
  const line = (mark, ...words) => h("li", null, icon(mark), h("span", null, ...words));
  return [
    h("div", null,
      h("p", null, main ? "The phone of " : "A web window of ", h("strong", null, plan.user), device.online ? ", online." : [", last seen ", time(device.last_seen), "."]),
      h("p", { class: "small quiet" }, "Device ", id(device.id, "device id"))),
    h("ul", { class: "plan" },
      plan.sockets
        ? line("close", "Closes ", h("strong", null, count(plan.sockets, "socket")), plan.edge ? [" on ", h("strong", null, plan.edge)] : null, ".")
        : line("close", "Closes no socket: it isn’t connected."),
      line("close", "Deletes ", h("strong", null, count(plan.queues, "queue")), ` of ${count(plan.chats, "chat")}`, nodes.length ? [" on ", h("strong", null, `${number(nodes.length)} ${nodes.length === 1 ? "server" : "servers"}`)] : null, "."),
      plan.undelivered
        ? line("alert", h("strong", null, count(plan.undelivered, "undelivered message")), plan.oldest_ms === null ? "" : [", the oldest ", h("strong", null, span(plan.oldest_ms)), " old,"], " will not reach this device.")
        : line("check", "Nothing is undelivered."),
      line("info", "The user’s other devices keep all of theirs.")),
    nodes.length ? table({ label: "What is deleted where", items: nodes, key: (node) => node.node, columns: [
      { label: "Server", lead: true, cell: (node) => address(node.node) },
      { label: "Queues", number: true, cell: (node) => number(node.queues) },
      { label: "Undelivered", number: true, cell: (node) => number(node.undelivered) },
    ] }) : null,
    unreachable.length ? note("warning", "wait",
      h("p", null, h("strong", null, `${list(unreachable)} can’t be reached.`), " What stands there isn’t counted here."),
      h("p", null, "The device is refused everywhere at once all the same. Its queues there are deleted as soon as the server is back; until then this stays pending.")) : null,
    main ? note("warning", "alert", h("p", null, h("strong", null, "This is the phone, "), "which alone holds the user’s history. Web windows that are not ready yet stop booting until the user has a phone again.")) : null,
    h("p", { class: "quiet" }, "This can’t be undone. The device’s token dies, its id is never used again; the user may register a new one."),
  ];
}

/** Opens the sheet on a termination that was begun before. */
export async function showTermination(termination, after) {
  const sheet = openSheet(after);
  sheet.show({ step: "look", title: "A device’s end", body: skeleton(4) });
  try {
    await follow(sheet, termination, null);
  } catch (problem) {
    stumble(sheet, problem, "A device’s end", () => showTermination(termination, after));
  }
}

/** Looks at a termination until it is done or the sheet is closed. */
async function follow(sheet, termination, plan) {
  const begun = Date.now();
  let trouble = null;
  while (sheet.isOpen) {
    try {
      const now = await get(`/v1/terminations/${termination}`, { signal: sheet.signal });
      trouble = null;
      if (now.state === "done") return receipt(sheet, now, plan);
      sheet.show(progress(sheet, now, plan, begun, null));
      sheet.say(now.state === "pending" ? `Waiting for ${list(now.unreachable)}` : `${number(now.channels_deleted)} queues deleted`);
    } catch (problem) {
      // The end goes on, only the look at it failed; but what won't get better is told.
      if (!(problem instanceof Refusal) || problem.signIn || problem.status === 404) throw problem;
      trouble = problem;
      sheet.show(progress(sheet, null, plan, begun, trouble));
    }
    await pause(trouble ? 2000 : LOOK_AGAIN, sheet.signal);
  }
}

/** How many queues of each server are on the receipt. */
function byNode(now, plan) {
  const nodes = new Map((plan?.nodes ?? []).map((node) => [node.node, { node: node.node, deleted: 0, queues: node.queues }]));
  for (const { node } of now?.receipt?.channels ?? []) {
    if (!nodes.has(node)) nodes.set(node, { node, deleted: 0, queues: 0 });
    const entry = nodes.get(node);
    entry.deleted += 1;
    entry.queues = Math.max(entry.queues, entry.deleted);
  }
  for (const node of now?.unreachable ?? []) {
    if (!nodes.has(node)) nodes.set(node, { node, deleted: 0, queues: null });
    nodes.get(node).waits = true;
  }
  return [...nodes.values()].sort((a, b) => a.node.localeCompare(b.node));
}

function progress(sheet, now, plan, begun, trouble) {
  const nodes = byNode(now, plan);
  const deleted = nodes.every((node) => !node.waits && node.deleted >= node.queues) && now !== null;
  const step = (done, words, ...more) => h("li", { class: done ? "step step--done" : "step" }, icon(done ? "check" : "wait"), h("div", null, h("p", null, words, h("span", { class: "unseen" }, done ? " (done)" : " (under way)")), ...more));
  return {
    step: "progress",
    title: plan ? `Ending ${plan.device.name}` : "A device’s end",
    body: [
      trouble ? failure(trouble) : null,
      h("ol", { class: "steps", key: "steps" },
        step(true, "Refused on every edge. Its sockets are closed."),
        step(deleted, "Queues are deleted", h("ul", { class: "nodes" }, nodes.map((node) => h("li", { key: node.node, class: "node" },
          address(node.node),
          node.waits ? badge("warning", "waiting", "wait") : h("span", { class: "small quiet number" }, `${number(node.deleted)} of ${number(node.queues)}`),
          node.waits ? h("p", { class: "small" }, "It doesn’t answer. Its queues are deleted as soon as it is back, by whichever edge sees it first.")
            : h("progress", { class: "progress", max: node.queues || 1, value: node.queues ? node.deleted : 1, "aria-label": `Queues deleted on ${node.node}` }))))),
        step(false, "Looked at again after a second, to be sure that nothing came back")),
      now?.state === "pending" || Date.now() - begun > 8000
        ? note("", "info", h("p", null, "You may close this: it goes on without you. The audit log keeps the way to its receipt."))
        : null,
    ],
    foot: h("button", { type: "button", class: "button", key: "close", onclick: () => sheet.close() }, "Close"),
  };
}

function receipt(sheet, now, plan) {
  ended.add(now.device);
  const lines = now.receipt?.channels ?? [];
  const undelivered = lines.reduce((sum, line) => sum + (line.depth ?? 0), 0);
  const text = () => JSON.stringify(now, null, 2);
  const fact = (label, ...value) => h("div", null, h("dt", null, label), h("dd", null, ...value));
  sheet.show({
    step: "receipt",
    title: "Receipt",
    body: [
      note("good", "check", h("p", null, h("strong", null, plan ? `${plan.device.name} of ${plan.user} is ended. ` : "The device is ended. "),
        now.receipt?.remaining ? `${count(now.receipt.remaining, "queue")} left.` : `Nothing of it is left: ${count(now.channels_deleted, "queue")} deleted, 0 remain.`)),
      h("dl", { class: "facts", key: "facts" },
        fact("Device", id(now.device, "device id")),
        fact("Ended by", BY[now.by] ?? now.by),
        fact("Asked", time(now.accepted_at)),
        fact("Verified", time(now.receipt?.verified_at)),
        fact("Queues deleted", number(now.channels_deleted)),
        fact("Messages in them", number(undelivered)),
        fact("Remaining", number(now.receipt?.remaining)),
        fact("Receipt", id(now.id, "termination id"))),
      lines.length ? table({ label: "Deleted queues", items: lines.slice(0, LINES), key: (line) => `${line.node} ${line.topic} ${line.channel}`, columns: [
        { label: "Topic", lead: true, cell: (line) => h("code", { title: line.topic }, `${line.topic.slice(0, 10)}…`) },
        { label: "Server", cell: (line) => address(line.node) },
        { label: "Held", number: true, title: "Messages that it still held", cell: (line) => number(line.depth) },
      ] }) : null,
      lines.length > LINES ? h("p", { class: "small quiet" }, `And ${number(lines.length - LINES)} more, in the copy and the file.`) : null,
    ],
    foot: [
      copyButton("Copy the receipt", text, { shown: "Copy", className: "button copy-wide" }),
      h("button", { type: "button", class: "button", key: "save", onclick: () => download(`keepstep-receipt-${short(now.device)}.json`, "application/json", text()) }, icon("save"), "Download"),
      h("button", { type: "button", class: "button button--primary", key: "done", onclick: () => sheet.close() }, "Done"),
    ],
  });
  sheet.say("Done. Nothing is left.");
}

/** An action that was refused, or whose outcome isn't known. */
export function stumble(sheet, problem, title, again) {
  if (!sheet.isOpen) return;
  if (!(problem instanceof Refusal)) throw problem;
  sheet.show({
    step: "failed", title, body: failure(problem),
    foot: [h("button", { type: "button", class: "button", key: "close", onclick: () => sheet.close() }, "Close"),
      problem.signIn ? null : h("button", { type: "button", class: "button button--primary", key: "again", onclick: again }, "Try again")],
  });
}
