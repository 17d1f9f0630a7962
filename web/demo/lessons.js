// The buttons that teach. Each says in one sentence what it did, and undoes itself: after a while, or when it is pressed
// again.

import { draw, h } from "/shared/dom.js";
import { icon } from "./message.js";
import { person } from "./words.js";

const AWAY = 30_000;
const SLOW = 800;
const CHATTER = ["One", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "that was quick"];

export class Lessons {
  #said = "Each of these does something real, says what, and undoes itself.";
  #running = new Map();

  /** `page`: `phone`, `webs`, `bob`, `second`, `end`, `held`. */
  constructor(root, page) {
    Object.assign(this, { root, page });
    this.draw();
  }

  /** The web window that is meant: the one in hand, else the first that is linked. */
  #web() {
    const linked = this.page.webs.filter((web) => web.alive);
    return linked.find((web) => web === this.page.held()?.station) ?? linked[0] ?? null;
  }

  draw() {
    const { second } = this.page;
    const button = (name, symbol, text, run) => {
      const until = this.#running.get(name)?.until;
      const left = until ? ` · ${Math.max(0, Math.ceil((until - Date.now()) / 1000))} s` : "";
      return h("button", { key: name, type: "button", class: "button button--small", "aria-pressed": this.#running.has(name) ? "true" : null, "data-lesson": name, onclick: run }, icon(symbol), `${text}${left}`);
    };
    draw(this.root,
      h("div", { class: "lessons__buttons", role: "group", "aria-label": "Try what happens" },
        button("airplane", "plane", "Airplane mode", () => this.airplane()),
        button("lock", "lock", "Lock web out", () => this.lock()),
        button("slow", "slow", "Slow reader", () => this.slow()),
        button("cut", "cut", "Cut a connection", () => this.cut()),
        second && button("edge", "edge", "Second edge", () => this.edge()),
        button("end", "ended", "End a web window", () => this.end())),
      h("p", { class: "lessons__said", role: "status" }, this.#said));
  }

  say(text) {
    this.#said = text;
    this.draw();
  }

  // Runs until it is pressed again or its time is over.
  #toggle(name, begin, undo) {
    const running = this.#running.get(name);
    if (running) return running.end();
    const said = begin();
    if (!said) return;
    const end = () => {
      clearTimeout(timer);
      this.#running.delete(name);
      this.say(undo());
    };
    const timer = setTimeout(end, AWAY);
    this.#running.set(name, { until: Date.now() + AWAY, end });
    this.say(said);
  }

  #needsWeb() {
    this.say("Link a web window first: scan its code with the phone.");
  }

  /** Ends what takes the phone away, however it began. */
  back() {
    for (const name of ["airplane", "lock"]) this.#running.get(name)?.end();
  }

  airplane() {
    const { phone } = this.page;
    if (!this.#running.has("airplane") && phone.airplane) return this.back();
    const name = phone.name;
    this.#toggle("airplane",
      () => {
        phone.setAirplane(true);
        return `${name} is off the network: a web window that has its past goes on, a new one isn't let in, and what is said meanwhile waits in the phone's own queues.`;
      },
      () => {
        phone.setAirplane(false);
        return `${name} is back: it took what waited in its queues, acknowledged it, and sent what waited in its outbox.`;
      });
  }

  /** Waits until the server has told a web window that the phone is gone: before that it would let it in. */
  async #phoneGone(web) {
    const { client } = web;
    if (client.main?.online === false) return;
    await client.once("main", ({ online }) => !online, { signal: AbortSignal.timeout(AWAY) });
  }

  lock() {
    const { phone } = this.page;
    const web = this.#web();
    if (!web && !this.#running.has("lock")) return this.#needsWeb();
    if (!this.#running.has("lock") && phone.airplane) this.back();
    this.#toggle("lock",
      () => {
        const gone = this.#phoneGone(web);
        phone.setAirplane(true);
        // The window comes anew, and is refused.
        gone.then(() => {
          if (!this.#running.has("lock") || !phone.airplane) return;
          web.line.cut();
          web.client?.connect().catch(() => {});
        }, () => {});
        return `${web.name} has to connect anew while the phone is away, and the server refuses it: a window that borrows its past is nothing without the phone.`;
      },
      () => {
        phone.setAirplane(false);
        setTimeout(() => web.client?.connect().catch(() => {}), 700);
        return `The phone is back, so ${web.name} is let in again and goes on where it stopped.`;
      });
  }

  slow() {
    const web = this.#web();
    if (!web && !this.#running.has("slow")) return this.#needsWeb();
    const { bob } = this.page;
    this.#toggle("slow",
      () => {
        web.line.slow(SLOW);
        const chat = bob?.conversations()[0];
        if (chat) CHATTER.forEach((text) => bob.client.send(chat.id, text).catch(() => {}));
        return `${web.name} takes one frame in ${SLOW / 1000} s: what it hasn't acknowledged stays in flight on its own channel, and nobody else waits for it.`;
      },
      () => {
        web.line.slow(0);
        return `${web.name} reads at full speed again: its channel is empty, and nothing was lost or doubled.`;
      });
  }

  cut() {
    const web = this.#web() ?? this.page.phone;
    if (!web.line.cut()) return this.say(`${web.name} isn't connected now.`);
    this.say(`The connection of ${web.name} was cut: it connects again by itself and goes on behind its cursor, so nothing is missing and nothing comes twice.`);
  }

  edge() {
    const { second, phone } = this.page;
    const web = this.#web() ?? phone;
    this.#toggle("edge",
      () => {
        web.line.edge = second;
        web.line.cut();
        return `${web.name} connects to a second edge, another server over the same store and queues: it goes on behind its cursor.`;
      },
      () => {
        web.line.edge = null;
        web.line.cut();
        return `${web.name} is on the first edge again, with the same cursor.`;
      });
  }

  async end() {
    const web = this.#web();
    if (!web) return this.#needsWeb();
    if (this.page.phone.airplane) this.back();
    this.say(`${person(web.user)}'s phone ends ${web.name}: its token dies at once, its queues are deleted on every server, and there is a receipt. Link it again whenever you like.`);
    await this.page.end(web);
  }
}
