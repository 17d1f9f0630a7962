// The page: who is here, which devices stand where, and what they ask of each other.

import { draw, h } from "/shared/dom.js";
import { Badge } from "./badge.js";
import { furnish } from "./conversation.js";
import * as flight from "./flight.js";
import { Lessons } from "./lessons.js";
import { ask } from "./linking.js";
import { icon } from "./message.js";
import { Pane } from "./pane.js";
import { drawn } from "./picture.js";
import { showReceipt } from "./receipt.js";
import { Teller } from "./receipts.js";
import * as session from "./session.js";
import { Station } from "./station.js";
import { Underneath } from "./underneath.js";
import { madeUp, person } from "./words.js";

const byId = (id) => document.getElementById(id);
const say = (text) => { byId("said").textContent = text; };

function place(station, parent, more = "") {
  const root = document.createElement("section");
  root.id = station.id;
  root.className = `pane ${more}`;
  root.setAttribute("aria-labelledby", `${station.id}-name`);
  parent.append(root);
  return root;
}

class Page {
  #panes = [];
  #held = null;

  constructor(players) {
    this.second = players.second_edge ?? null;
    const [me, other] = players.users;
    this.me = me;
    this.guest = players.invited === true;
    const name = person(me.user);
    const web = (n) => new Station({ id: `web${n}`, kind: "web", name: `Web ${n}`, user: me.user });
    if (this.guest) {
      this.phone = null;
      this.webs = [new Station({ id: "web1", kind: "web", name: `${name}'s browser`, user: me.user })];
    } else {
      this.phone = new Station({ id: "phone", kind: "phone", name: `${name}'s phone`, user: me.user });
      this.webs = [web(1), web(2)];
    }
    this.own = [this.phone, ...this.webs].filter(Boolean);
    this.other = other ?? null;
    this.bob = other ? new Station({ id: "bob", kind: "phone", name: `${person(other.user)}'s phone`, user: other.user }) : null;
    this.everyone = [...this.own, this.bob].filter(Boolean);
    this.#furnish();
  }

  held = () => this.#held;

  #furnish() {
    document.body.classList.toggle("guest", this.guest);
    byId("panes").replaceChildren();
    byId("bob-place").replaceChildren();
    for (const station of this.own) this.#panes.push(new Pane(place(station, byId("panes")), station, this));
    if (this.bob) this.#panes.push(new Pane(place(this.bob, byId("bob-place"), "pane--flat"), this.bob, this));
    for (const station of this.everyone) station.on("heard", (heard) => this.#announce(station, heard));
    for (const { station, root } of this.#panes) flight.watch(station, root, byId("underneath-title"));
    for (const station of [this.phone, this.bob].filter(Boolean)) new Teller(station);
    this.badge = new Badge(byId("agree"), byId("agree-said"), this.own);
    this.strip = new Underneath(byId("strip"), this.own, this.everyone, () => this.#shown());
    this.phone?.on("link", ({ code }) => this.look(this.phone, code));
    if (!this.guest) this.lessons = new Lessons(byId("lessons"), this);
    this.#tabs();
    this.#who();
    // Clocks, and who was seen when.
    setInterval(() => {
      for (const pane of this.#panes) pane.redraw();
      this.lessons?.draw();
    }, 1000);
    document.addEventListener("visibilitychange", () => this.#panes.forEach((pane) => pane.redraw()));
  }

  async start() {
    if (this.guest) {
      const [web] = this.webs;
      await web.start({ register: { userToken: this.me.token, kind: "sub", name: "Another browser", platform: "Keepstep demo" } });
      return;
    }
    const phones = [[this.phone, this.me], [this.bob, this.other]].filter(([station]) => station);
    await Promise.all(phones.map(([station, player]) => this.#up(station, player)));
    if (this.bob) {
      await furnish(this.phone.client, this.bob.client);
      this.phone.client.watch([this.other.user]);
    }
    await this.link(this.webs[0]);
  }

  // A made-up user's phone lives in this browser; where its history was lost, a new one takes its place. A real user's
  // phone is never taken away.
  #phone(station, { token, user }) {
    return station.start({ register: { userToken: token, kind: "main", name: station.name, platform: "Keepstep demo", replace: madeUp(user) } });
  }

  /** Waits until a phone is here, also when somebody has to decide something first: its pane says what, and offers it. */
  async #up(station, player) {
    const ready = new Promise((resolve) => { station.on("ready", resolve); });
    try {
      await this.#phone(station, player);
    } catch (error) {
      if (!["replaced", "unauthorized"].includes(station.status.state)) throw error;
      await ready;
    }
  }

  #shown() {
    const pane = this.#held && this.own.includes(this.#held.station) ? this.#held.station : this.own[0];
    return pane.open ?? this.own[0].open;
  }

  /** The pane that somebody looks at: what it shows counts as read. */
  hold(pane) {
    if (this.#held === pane) return;
    const before = this.#held;
    this.#held = pane;
    for (const one of [before, pane]) {
      if (!one) continue;
      one.held = one === pane;
      one.redraw();
    }
    this.strip.redraw();
  }

  airplane(station) {
    if (station === this.phone) return this.lessons.airplane();
    station.setAirplane(!station.airplane);
  }

  /** A new code for a web window, or a new life for what can't go on. */
  link(station) {
    if (station === this.phone || station === this.bob) return this.#phone(station, station === this.phone ? this.me : this.other).catch(() => {});
    if (this.guest) return station.start({ register: { userToken: this.me.token, kind: "sub", name: "Another browser", platform: "Keepstep demo" } }).catch(() => {});
    ask(station);
    return Promise.resolve();
  }

  /** The phone scans what a web window shows. */
  async scan(station) {
    if (this.phone.airplane) this.lessons.back();
    this.phone.panel = null;
    await this.look(this.phone, station.link.code);
    byId("phone-asks")?.focus();
    if (matchMedia("(max-width: 900px)").matches) this.#tab(this.phone);
  }

  /** The phone looks at who asks under a code. True: somebody does. */
  async look(phone, code) {
    try {
      const { name, platform, code: exact, expires_in } = await phone.client.lookupLink(code);
      phone.link = { request: { name, platform, code: exact, until: Date.now() + expires_in * 1000, history: "all" } };
      phone.tell("change");
      await new Promise(requestAnimationFrame);
      await new Promise(requestAnimationFrame);
      return true;
    } catch (error) {
      phone.link = { error: error.message };
      phone.refusal = error.message;
      phone.tell("change");
      return false;
    }
  }

  async decide(phone, approve, history) {
    const { link } = phone;
    link.request.busy = true;
    phone.refusal = null;
    phone.tell("change");
    try {
      await phone.client.approveLink(link.request.code, approve ? { approve, history } : { approve });
      say(approve ? `${link.request.name} is linked.` : `${link.request.name} was refused.`);
      phone.link = null;
    } catch (error) {
      link.error = error.message;
      link.request.busy = false;
    }
    phone.tell("change");
  }

  /** The phone ends a device, and keeps the receipt where the device was. */
  async remove(phone, device) {
    // Before it is asked for: the window may hear of its end first, and then knows its own id no more.
    const station = this.webs.find((web) => web.device === device);
    const removing = (on) => {
      if (!station) return;
      station.removing = on;
      station.tell("change");
    };
    removing(true);
    try {
      const termination = await phone.client.removeDevice(device);
      if (!station) return;
      const keep = (state) => {
        station.ending = state;
        station.tell("change");
      };
      keep(termination);
      phone.client.receipt(termination.id, { onState: keep, signal: AbortSignal.timeout(60_000) }).then(keep, () => {});
    } catch (error) {
      removing(false);
      phone.refusal = `It can't be ended now: ${error.message}`;
      phone.tell("change");
    }
  }

  end(station) { return this.remove(this.phone, station.device); }

  receipt(station) { showReceipt(byId("sheet"), station); }

  // This page is where the devices are again.
  takeOver(station) {
    const all = this.everyone.filter((one) => one.status.state === "replaced");
    for (const one of station.kind === "phone" ? all : [station]) one.client.connect().catch(() => {});
  }

  // New messages are read out once, not by every pane.
  #announce(station, heard) {
    if (!heard || station !== (this.#held?.station ?? this.own[0]) || heard.chat === station.side || heard.messages.length !== 1) return;
    const [message] = heard.messages;
    if (message.from === station.user) return;
    say(`${person(message.from)}: ${typeof message.content === "string" ? message.content : "a picture"}`);
  }

  // ------------------------------------------------------------------ on a phone's screen: one device at a time

  #tabs() {
    const bar = byId("tabs");
    const paint = () => draw(bar, this.everyone.map((station) => h("button", {
      type: "button", class: "tabs__tab", "aria-current": document.body.dataset.shown === station.id ? "true" : null, onclick: () => this.#tab(station),
    }, icon(station.kind), station.name.replace("'s phone", ""), station.unread() > 0 && h("span", { class: "badge badge--count" }, String(station.unread()), h("span", { class: "unseen" }, " unread")))));
    this.paintTabs = paint;
    for (const station of this.everyone) station.on("change", paint);
    document.body.dataset.shown = this.own[0].id;
    paint();
  }

  #tab(station) {
    document.body.dataset.shown = station.id;
    this.paintTabs();
    this.#panes.find((pane) => pane.station === station)?.redraw();
  }

  // ------------------------------------------------------------------ who is who

  #who() {
    draw(byId("who"), h("details", { class: "menu" },
      h("summary", { class: "button button--small button--plain" }, h("span", { class: "wide" }, "You are "), h("strong", null, person(this.me.user)), icon("down")),
      h("div", { class: "menu__body card" },
        h("p", { class: "small quiet" }, this.guest ? "You came by an invitation: this browser is one of Bob's web windows." : "A made-up person with a phone and two web windows, real devices on this server."),
        h("p", { class: "small mono" }, this.me.user),
        h("button", { type: "button", class: "button button--small", onclick: async () => { await Promise.all(this.everyone.map((one) => one.retire())); await session.forget(); location.reload(); } }, "Start over with new people"))));
    if (!this.other) { byId("bob").hidden = true; return; }
    const name = person(this.other.user);
    draw(byId("bob-head"),
      h("h2", null, icon("phone"), `Somebody to talk to: ${name}`),
      h("span", { class: "bob__tools" },
        h("button", { type: "button", class: "button button--small", onclick: () => this.#bobSays("Are you there?") }, `Let ${name} say something`),
        h("button", { type: "button", class: "button button--small", onclick: async () => this.#bobSays({ kind: "media", content: "Look at this", media: await drawn() }) }, "Send a picture"),
        h("button", { type: "button", class: "button button--small", onclick: (event) => this.#invite(event.currentTarget) }, "Invite another browser"),
        h("button", { type: "button", class: "button button--small", "aria-expanded": "false", "aria-controls": "bob-place", onclick: (event) => this.#unfold(event.currentTarget) }, icon("down"), h("span", null, "Open"))));
  }

  #bobSays(draft) {
    const chat = this.bob.conversations()[0];
    if (chat) this.bob.client.send(chat.id, draft).catch(() => {});
  }

  async #invite(button) {
    const address = session.invitation(this.other);
    const field = byId("invitation");
    byId("invite").hidden = false;
    field.value = address;
    field.focus();
    field.select();
    try {
      await navigator.clipboard.writeText(address);
      say("The invitation is on the clipboard.");
    } catch {
      say("Copy the invitation from the field.");
    }
    button.blur();
    field.focus();
  }

  #unfold(button) {
    const folded = byId("bob").classList.toggle("bob--open");
    button.setAttribute("aria-expanded", String(folded));
    button.lastElementChild.textContent = folded ? "Fold" : "Open";
    this.#panes.find((pane) => pane.station === this.bob)?.redraw();
  }
}

async function begin() {
  byId("help").addEventListener("click", () => byId("about").showModal());
  byId("about").addEventListener("click", (event) => { if (event.target === byId("about") || event.target.closest("[data-close]")) byId("about").close(); });
  try {
    const players = await session.open();
    if (!players) return door();
    await run(players);
  } catch (error) {
    trouble(error);
  }
}

async function run(players) {
  byId("door").hidden = true;
  byId("stage").hidden = false;
  await new Page(players).start();
}

// No playground here: who has a token may come in with it.
function door(error = null) {
  byId("door").hidden = false;
  byId("door-error").textContent = error ?? "";
  byId("door-form").onsubmit = (event) => {
    event.preventDefault();
    try {
      run(session.withToken(byId("door-token").value.trim())).catch(trouble);
    } catch (refused) {
      door(refused.message);
      byId("door-token").focus();
    }
  };
}

function trouble(error) {
  // A device's own trouble stands in its pane.
  byId("trouble").hidden = false;
  byId("trouble-text").textContent = `The demo couldn't start as it should: ${error.message}`;
}

begin();
