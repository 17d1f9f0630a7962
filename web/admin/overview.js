// The deployment at a glance: does it live, how busy is it, does anything wait.

import { get } from "./api.js";
import { h } from "/shared/dom.js";
import { bytes, count, fine, list, number, span } from "./format.js";
import { badge, note, sparkline, time } from "./parts.js";
import { table } from "./table.js";

export const overview = {
  title: () => "Overview",
  every: 5000,
  load: (_, signal) => get("/admin/v1/overview", { signal }),
  body: (ctx, data) => [
    verdict(data, ctx.stale),
    h("section", { class: "tiles", "aria-label": "Figures of the last ten minutes", key: "tiles" }, tiles(data)),
    h("section", { class: "section", key: "servers" }, h("h2", null, "Servers"), servers(data)),
    h("section", { class: "section", key: "edges" }, h("h2", null, "Edges"), edges(data)),
  ],
};

/** One sentence for all, then each thing that is wrong with what to do about it. Of an old answer nobody says that all is well. */
function verdict(data, stale) {
  const wrong = [
    ...(data.redis?.problem ? [["Redis", data.redis.problem]] : []),
    ...(!data.redis && !data.store ? [["The store", "doesn’t answer"]] : []),
    ...data.broker.filter((server) => server.problem).map((server) => [`${server.role} ${server.node}`, server.problem]),
  ];
  const waiting = data.terminations_unfinished;
  const nsqd = data.broker.filter((server) => server.role === "nsqd").length;
  const all = [count(data.cluster.edges, "edge"), data.redis?.role === "redis" ? "Redis" : null, nsqd ? `${number(nsqd)} nsqd` : "the broker in memory"].filter(Boolean);
  return h("div", { class: "verdict", key: "verdict" },
    wrong.length
      ? wrong.map(([who, what]) => note("danger", "alert", h("p", null, h("strong", null, `${who}: `), what)))
      : stale ? note("", "wait", h("p", null, "All was well at the last look: ", `${list(all)} answered.`))
        : note("good", "check", h("p", null, h("strong", null, "All is well. "), `${list(all)} answer.`)),
    waiting ? note("warning", "wait", h("p", null, h("strong", null, `${count(waiting, "device")} being ended. `),
      "That goes on by itself, also when a server is away for now. ", h("a", { href: "#/audit?action=device.end" }, "See who ended what"), ".")) : null);
}

function tiles(data) {
  const samples = data.history.samples;
  const last = samples.at(-1);
  const line = (of) => samples.map((sample) => ({ at: sample.at, value: of(sample) }));
  const all = data.cluster;
  // Where nothing is sent there is no latency: the last there was.
  const p99 = samples.findLast((sample) => sample.p99_ms !== null && sample.p99_ms !== undefined)?.p99_ms;
  const measured = p99 !== undefined;
  const deliveries = (sample) => sample.deliveries_nsq + sample.deliveries_log;
  const share = last && deliveries(last) > 0 ? Math.round((100 * last.deliveries_log) / deliveries(last)) : null;
  return [
    tile("Connections", number(all.mains + all.subs), `${count(all.mains, "phone")}, ${number(all.subs)} web`, line((s) => s.mains + s.subs)),
    tile("Sends", fine(last?.sends), "a second", line((s) => s.sends)),
    tile("Deliveries", fine(last && deliveries(last)), share ? `a second, ${share} % from the log` : "a second", line(deliveries)),
    tile("Latency, p99", measured ? `${fine(p99)} ms` : "–", measured ? "send to receive" : "nothing was sent in the last ten minutes", measured ? line((s) => s.p99_ms) : null),
    tile("Outbox", number(all.outbox), outboxWords(all), line((s) => s.outbox), { tone: all.outbox_oldest_ms > 10_000 || all.unpublishable ? "warning" : "", title: all.unpublishable ? "Messages above nsqd’s --max-msg-size are in no queue; devices get them from the log" : null }),
    tile("Refills", fine(last?.refills), `a second; ${number(all.refills)} so far`, line((s) => s.refills), { title: "Holes that were filled from the log, because NSQ was late or had lost something" }),
    tile("Gaps", fine(last?.gaps), `a second; ${number(all.gaps)} so far`, line((s) => s.gaps), { title: "Messages that the log didn’t hold any more: the device asks its phone", tone: all.gaps ? "warning" : "" }),
  ];
}

function outboxWords(all) {
  const waiting = all.outbox ? `${all.outbox_chats ? `in ${count(all.outbox_chats, "chat")}, ` : ""}oldest ${span(all.outbox_oldest_ms)}` : "nothing waits for NSQ";
  return all.unpublishable ? `${waiting}; ${number(all.unpublishable)} too large for it` : waiting;
}

function tile(label, value, words, points, { title = null, tone = "" } = {}) {
  return h("div", { class: `card tile${tone ? ` tile--${tone}` : ""}`, key: label, title },
    h("h2", { class: "tile__label" }, label),
    h("p", { class: "tile__value" }, value),
    h("p", { class: "tile__words small quiet" }, words),
    points ? sparkline(points, label) : h("p", { class: "spark spark--empty quiet small" }, ""));
}

const state = (problem) => (problem ? badge("danger", "Trouble", "alert") : badge("good", "Answers", "check"));

function servers(data) {
  const redis = data.redis ? [{ node: data.redis.role === "embedded" ? "Store" : "Redis", role: data.redis.role, problem: data.redis.problem, redis: data.redis }] : [];
  return table({
    label: "Servers",
    items: [...redis, ...data.broker],
    key: (server) => `${server.role} ${server.node}`,
    page: { as_of: data.broker_as_of },
    columns: [
      { label: "Server", lead: true, cell: (server) => h("span", { class: "server" }, h("strong", null, server.node), h("span", { class: "quiet" }, server.role === "embedded" ? "in this process’s memory" : server.redis ? "" : server.role)) },
      { label: "State", cell: (server) => state(server.problem) },
      { label: "What matters", number: true, cell: matters },
      { label: "Besides", cell: (server) => h("span", { class: "quiet" }, besides(server)) },
    ],
  });
}

/** The one number of each. */
function matters(server) {
  if (server.redis) return server.redis.ping_ms === null ? "–" : [h("strong", null, `${fine(server.redis.ping_ms)} ms`), " to answer"];
  if (server.depth === null || server.depth === undefined) return "–";
  return [h("strong", null, number(server.depth)), server.depth === 1 ? " message waits" : " messages wait"];
}

function besides(server) {
  const { redis } = server;
  if (redis) {
    if (redis.used_memory === null) return "Nothing of it survives the process";
    const log = { ok: "append-only file is well", off: "no append-only file", failing: "append-only file fails to write" }[redis.aof];
    const memory = redis.max_memory ? `${bytes(redis.used_memory)} of ${bytes(redis.max_memory)}` : bytes(redis.used_memory);
    return [memory, count(redis.clients, "client"), log].filter(Boolean).join(" · ");
  }
  if (server.queues === null || server.queues === undefined) return server.problem ? "Not known while it doesn’t answer" : "";
  return `${count(server.queues, "queue")} · ${number(server.in_flight)} in flight`;
}

function edges(data) {
  return table({
    label: "Edges",
    items: data.edges,
    key: (edge) => edge.edge,
    columns: [
      { label: "Edge", lead: true, cell: (edge) => [h("strong", null, edge.edge), edge.edge === data.edge ? h("span", { class: "quiet" }, " answers you") : null] },
      { label: "Heard", cell: (edge) => time(edge.at) },
      { label: "Runs since", cell: (edge) => time(edge.started) },
      { label: "Phones", number: true, cell: (edge) => number(edge.mains) },
      { label: "Web", number: true, cell: (edge) => number(edge.subs) },
      { label: "Chats", number: true, cell: (edge) => number(edge.chats) },
      { label: "Sends", number: true, title: "Since it began", cell: (edge) => number(edge.sends) },
      { label: "By NSQ", number: true, title: "Deliveries since it began", cell: (edge) => number(edge.deliveries_nsq) },
      { label: "By the log", number: true, title: "Deliveries since it began", cell: (edge) => number(edge.deliveries_log) },
      { label: "Outbox", number: true, cell: (edge) => number(edge.outbox) },
    ],
  });
}
