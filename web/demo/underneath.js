// The strip: the same moment as NSQ and the store see it.

import { draw, eachFrame, h } from "/shared/dom.js";
import { icon } from "./message.js";
import { channels } from "./server.js";
import { clockExact } from "./words.js";

const TERMS = {
  Device: "Device: a phone or a web window. Each one is known to the server, and each has queues of its own.",
  Topic: "Topic: one per chat. Every message of the chat is published there, once.",
  Channel: "Channel: one per device on a topic. nsqd copies every message of the topic into each channel, so no device waits for another.",
  Edge: "Edge: the server process that holds the device's socket. A device may move; its queues stay.",
  Depth: "Depth: messages that wait in this channel because the device is away, or has 256 in flight.",
  "In flight": "In flight: sent to the device and not acknowledged yet. They come again if the connection breaks.",
  Cursor: "Cursor: everything up to here is stored on the device. A new connection goes on behind it.",
  Read: "Read offset: how far the person has read, one for all their devices. It moves the badges everywhere, and never goes back.",
};
const PERIOD = 2000;
const AT_MOST = 1200;

export class Underneath {
  #views = new Map();
  #looks = new Map();
  #trace = null;
  #frames = new Map();
  #word = null;
  #timer = null;
  #last = 0;

  constructor(root, stations, all, shown) {
    Object.assign(this, { root, stations, shown });
    for (const station of all) station.on("frame", (frame) => this.#frame(station, frame));
    for (const station of stations) {
      station.on("heard", () => this.#ask());
      station.on("change", () => {
        if (station.removing) this.#looks.get(station)?.abort();
        this.redraw();
      });
    }
    setInterval(() => this.#ask(), PERIOD);
    this.redraw();
  }

  redraw = eachFrame(() => this.#draw());

  // Looks at the queues, not too often: each look asks every nsqd.
  #ask() {
    if (this.#timer || document.visibilityState !== "visible" || !this.root.offsetParent) return;
    this.#timer = setTimeout(async () => {
      this.#last = Date.now();
      await Promise.all(this.stations.map((station) => this.#look(station)));
      this.#timer = null;
      this.redraw();
    }, Math.max(150, this.#last + AT_MOST - Date.now()));
  }

  async #look(station) {
    const { client, device } = station;
    if (!station.alive || station.removing || !device || !client.token) return this.#views.delete(station);
    const look = new AbortController();
    this.#looks.set(station, look);
    const view = await channels(device, client.token, AbortSignal.any([look.signal, AbortSignal.timeout(5000)])).catch(() => null);
    if (view) this.#views.set(station, view.items);
  }

  // Follows the newest message on its way, by the frames that this page sends and gets.
  #frame(station, { direction, frame }) {
    const now = performance.now();
    if (direction === "out" && frame.type === "send" && !String(frame.kind).startsWith("x.")) {
      this.#trace = { key: frame.key, chat: frame.chat, id: frame.id, by: station, text: words(frame), start: now, at: Date.now(), seq: null, logged: null, devices: new Map() };
    }
    const trace = this.#trace;
    if (direction === "in" && frame.type === "message" && !String(frame.kind).startsWith("x.")) {
      // One of elsewhere, newer than what is shown. An own one that has no number yet is newer than anything that comes.
      const older = trace && (trace.seq === null || (frame.chat === trace.chat ? frame.seq <= trace.seq : frame.at <= trace.at));
      if (frame.key !== trace?.key && !older) this.#trace = { key: frame.key, chat: frame.chat, id: null, by: null, text: words(frame), start: now, at: frame.at, seq: frame.seq, logged: null, devices: new Map() };
      if (frame.key === this.#trace?.key) {
        this.#trace.seq = frame.seq;
        this.#trace.devices.set(station, { got: now - this.#trace.start, acked: null });
        this.redraw();
      }
    } else if (trace && direction === "in" && frame.type === "reply" && station === trace.by && frame.id === trace.id && trace.logged === null && frame.ok) {
      Object.assign(trace, { seq: frame.ok.seq, logged: now - trace.start });
      this.redraw();
    } else if (trace && direction === "out" && frame.type === "ack" && frame.chat === trace.chat && frame.seq >= trace.seq) {
      const one = trace.devices.get(station);
      if (one && one.acked === null) one.acked = now - trace.start;
      this.redraw();
    }
  }

  #draw() {
    const chat = this.shown();
    draw(this.root, this.#way(), this.#table(chat), h("p", { class: "strip__word", id: "strip-word" }, this.#word ? TERMS[this.#word] : "Rest on a word of the table, or move there with the tab key, and it explains itself."));
  }

  #way() {
    const trace = this.#trace;
    if (!trace) return h("p", { class: "way quiet" }, "Write something, and its way is shown here.");
    const ms = (time) => `${time < 10 ? time.toFixed(1) : Math.round(time)} ms`;
    return h("ol", { class: "way", "aria-label": "The way of the newest message" },
      h("li", { class: "way__step" }, h("strong", null, trace.seq ? `#${trace.seq}` : "#…"), ` “${trace.text}” `, h("span", { class: "quiet" }, trace.by ? `sent by ${trace.by.name} ${clockExact(trace.at)}` : `came ${clockExact(trace.at)}`)),
      trace.logged !== null && h("li", { class: "way__step" }, "in the log ", h("span", { class: "way__time" }, ms(trace.logged))),
      h("li", { class: "way__step" }, "topic ", h("span", { class: "mono" }, short(`c.${trace.chat.replaceAll("-", "")}`))),
      [...this.stations].filter((station) => station.alive).map((station) => {
        const one = trace.devices.get(station);
        const borrowed = trace.seq !== null && station.timeline(trace.chat).borrowed >= trace.seq;
        const [state, time] = !one && borrowed ? ["borrowed it", null] : !one ? [station.online ? "in flight" : "waits in its queue", null] : one.acked === null ? ["got it", one.got] : ["acknowledged", one.acked];
        return h("li", { key: station.id, class: `way__step way__step--device ${one?.acked != null ? "way__step--done" : ""}` }, `${station.name} ${state} `, time !== null && h("span", { class: "way__time" }, ms(time)));
      }));
  }

  #table(chat) {
    const term = (name, more = {}) => h("th", { scope: "col", ...more }, h("button", {
      type: "button", class: "term", "aria-describedby": "strip-word",
      onmouseenter: () => this.#explain(name), onfocus: () => this.#explain(name), onmouseleave: () => this.#explain(null), onblur: () => this.#explain(null), onclick: () => this.#explain(name),
    }, name));
    const number = { class: "number" };
    return h("div", { class: "table-frame", tabindex: "0", role: "region", "aria-label": "Queues of your devices" },
      h("table", { class: "table strip__table" },
        h("thead", null, h("tr", null, ["Device", "Topic", "Channel", "Edge"].map((name) => term(name)), ["Depth", "In flight", "Cursor", "Read"].map((name) => term(name, number)))),
        h("tbody", null, this.stations.filter((station) => station.alive).map((station) => this.#row(station, chat)))));
  }

  #row(station, chat) {
    const own = station.client.chat(chat ?? "");
    const item = this.#views.get(station)?.find((one) => one.chat === chat);
    const num = (value, busy) => h("td", { class: `number ${busy ? "number--busy" : ""}` }, value ?? "–");
    return h("tr", { key: station.id, "data-station": station.id },
      h("th", { scope: "row" }, icon(station.kind), station.name),
      h("td", { class: "mono", title: item?.topic }, item ? short(item.topic) : "–"),
      h("td", { class: "mono", title: item?.channel }, item ? short(item.channel) : "–"),
      h("td", { class: "mono" }, station.connected ? station.client.welcome?.edge ?? "–" : "none"),
      num(item?.depth, item?.depth > 0),
      num(item?.in_flight, item?.in_flight > 0),
      num(item?.cursor ?? null),
      num(own?.read ?? null));
  }

  #explain(name) {
    this.#word = name;
    this.redraw();
  }
}

const short = (name) => `${name.slice(0, 6)}…`;
const words = ({ kind, content }) => {
  const text = typeof content === "string" ? content : kind === "media" ? "a picture" : kind;
  return text.length > 28 ? `${text.slice(0, 27)}…` : text;
};
