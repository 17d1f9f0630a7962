// One device on the page: its head, its chats, its messages, what it has to say. Phones and web windows are the same.

import { draw, eachFrame, h } from "/shared/dom.js";
import { devices } from "./devices.js";
import { approval, asking } from "./linking.js";
import { List } from "./list.js";
import { icon, row, rows } from "./message.js";
import { fromFile } from "./picture.js";
import { ago, count, person, sentence, stateWord } from "./words.js";

const FILLING = 700;
const STOPPED = ["terminated", "replaced", "kicked", "unauthorized", "failed"];

export class Pane {
  #list = null;

  /** `page`: what panes ask of the page: `hold`, `scan`, `decide`, `link`, `remove`, `receipt`, `say`, `takeOver`. */
  constructor(root, station, page) {
    Object.assign(this, { root, station, page });
    station.on("change", () => this.redraw());
    // Somebody came or went: the list of devices is another one.
    station.on("device", () => { if (station.panel) devices.load(station); });
    root.addEventListener("focusin", () => page.hold(this));
    root.addEventListener("pointerdown", () => page.hold(this));
    this.redraw();
  }

  /** The user looks at this one. */
  held = false;

  redraw = eachFrame(() => this.#draw());

  #draw() {
    const { station } = this;
    this.root.classList.toggle("pane--held", this.held);
    this.root.dataset.state = station.client ? station.status.state : "none";
    if (this.held && document.visibilityState === "visible") station.seen();
    draw(this.root, this.#head(), ...this.#body());
    this.#messages();
  }

  #head() {
    const { station, page } = this;
    const { word, tone } = stateWord(station);
    return h(
      "header",
      { class: "pane__head" },
      icon(station.kind, "icon--large"),
      h("h2", { id: `${station.id}-name`, class: "pane__name" }, station.name),
      h("span", { class: `state ${tone && `state--${tone}`}`, role: "status" }, word),
      h("span", { class: "pane__tools" },
        station.kind === "phone" && station.alive && !station.elsewhere && h("button", {
          type: "button", class: "tool", "aria-pressed": String(station.airplane), title: "Airplane mode",
          "aria-label": "Airplane mode", onclick: () => page.airplane(station),
        }, icon("plane")),
        station.kind === "phone" && station.alive && !station.elsewhere && h("button", {
          type: "button", class: "tool", "aria-expanded": String(Boolean(station.panel)), title: "Linked devices",
          "aria-label": "Linked devices", onclick: () => devices.toggle(station),
        }, icon("devices")),
      ),
    );
  }

  #body() {
    const { station, page } = this;
    if (!station.client) return station.kind === "web" ? [asking(station, page)] : [h("p", { class: "pane__wait" }, "One moment …")];
    if (STOPPED.includes(station.status.state)) return [this.#stopped()];
    const chats = station.conversations();
    const chat = chats.find(({ id }) => id === station.open) ?? chats[0];
    if (station.panel) return [devices.view(station, page)];
    return [
      station.link?.request && approval(station, page),
      this.#notice(),
      chats.length === 0 && (station.connected && station.known ? this.#first() : h("div", { key: "empty", class: "pane__wait" })),
      chat && h("nav", { key: "chats", class: "chats", "aria-label": `Chats on ${station.name}` }, chats.map((one) => this.#tab(one, one === chat))),
      chat && h("div", {
        // Of each chat its own: the list draws in it by itself.
        key: `list ${chat.id}`, class: "messages", tabindex: "0", role: "region", "aria-label": `${station.title(chat, person)}, messages on ${station.name}`, memo: chat.id,
      }),
      chat && this.#line(chat),
      chat && this.#composer(chat),
    ];
  }

  // Somebody who came with an own token, and has no chats.
  #first() {
    const { station } = this;
    const submit = (event) => {
      event.preventDefault();
      const user = event.currentTarget.elements.with.value.trim();
      station.refusal = null;
      station.client.createChat({ kind: "direct", with: user }).catch((error) => {
        station.refusal = error.message;
        this.redraw();
      });
    };
    return h("form", { key: "first", class: "pane__card", onsubmit: submit },
      h("p", null, "No chats yet."),
      h("label", { class: "field" }, h("span", null, "Start one with the user"), h("input", { name: "with", class: "input input--small", autocomplete: "off", required: true, maxlength: "64" })),
      h("button", { class: "button button--primary" }, "Start"));
  }

  #tab(chat, open) {
    const { station } = this;
    return h(
      "button",
      { key: chat.id, type: "button", class: "chats__tab", "aria-current": open ? "true" : null, onclick: () => this.#show(chat.id) },
      h("span", null, station.title(chat, person)),
      chat.unread > 0 && h("span", { class: "badge badge--count", "data-unread": chat.unread }, String(chat.unread), h("span", { class: "unseen" }, " unread")),
    );
  }

  #show(chat) {
    this.station.open = chat;
    this.#list?.toEnd();
    this.redraw();
  }

  // What isn't as usual, in a sentence.
  #notice() {
    const { station } = this;
    const { state } = station.status;
    if (station.progress && station.connected) {
      const { total } = station.progress;
      const done = this.#shown(station.progress);
      return h(
        "div",
        { key: "notice", class: "notice notice--boot" },
        h("label", { for: `${station.id}-boot`, role: "status" }, done < total || state === "booting" ? `Borrowing the past from the phone: ${done} of ${total}` : `${count(total, "message")} borrowed from the phone`),
        h("progress", { id: `${station.id}-boot`, class: "progress", value: String(done), max: String(Math.max(1, total)) }),
      );
    }
    const lent = station.lent && Date.now() - station.lent.at < 4000 ? station.lent : null;
    if (lent && state === "online") return h("p", { key: "notice", class: "notice", role: "status" }, icon("lend"), `Lent ${count(lent.count, "message")} to a web window`);
    const text = station.refusal ?? sentence(station);
    if (!text && station.online && station.lost) {
      return h("p", { key: "notice", class: "notice notice--warning notice--act", role: "status" }, icon("alert"),
        h("span", null, "This phone's storage was cleared. What it had from before isn't lent to anybody."),
        h("button", { type: "button", class: "button button--small", onclick: () => station.recover() }, "Get it from the server"));
    }
    if (!text) return null;
    const tone = station.refusal || state === "offline" || state === "main_offline" || station.airplane ? "notice--warning" : "";
    return h("p", { key: "notice", class: `notice ${tone}`, role: "status" }, icon(station.airplane ? "plane" : "wait"), text);
  }

  // A whole past comes in a blink here. The bar takes a moment for it, so that it can be seen; it is never ahead.
  #shown({ done, total, since }) {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return done;
    const shown = Math.min(done, Math.ceil((total * (Date.now() - since)) / FILLING));
    if (shown < done) this.redraw();
    return shown;
  }

  // Who types, who is there.
  #line(chat) {
    const { station } = this;
    const [other] = station.others(chat.id);
    const typing = station.typing(chat.id);
    // Nobody is shown as online by a device that can't know.
    const seen = other && station.online && station.client.presence(other);
    return h(
      "p",
      { key: "line", class: "line" },
      typing.length > 0
        ? [h("span", { class: "dots", "aria-hidden": "true" }, h("i"), h("i"), h("i")), `${typing.map(person).join(" and ")} is typing`]
        : seen && [h("span", { class: seen.online ? "dot dot--on" : "dot", "aria-hidden": "true" }), `${person(other)}: ${seen.online ? "online" : ago(seen.last_seen)}`],
    );
  }

  #composer(chat) {
    const { station } = this;
    const label = `Message to ${station.title(chat, person)}`;
    const submit = (event) => {
      event.preventDefault();
      const field = event.currentTarget.elements.text;
      const text = field.value.trim();
      field.value = "";
      if (text) this.#send(chat.id, text);
    };
    return h(
      "form",
      { key: "composer", class: "composer", onsubmit: submit },
      h("label", { class: "tool tool--file", title: "Send a picture" }, icon("picture"), h("span", { class: "unseen" }, "Send a picture"),
        h("input", { type: "file", accept: "image/*", class: "unseen", onchange: (event) => this.#picture(chat.id, event.currentTarget) })),
      h("input", {
        name: "text", class: "input input--small", autocomplete: "off", "aria-label": `${label}, on ${station.name}`, placeholder: "Message …", maxlength: "4000",
        oninput: () => station.client?.typing(chat.id),
      }),
      h("button", { class: "tool tool--send", "aria-label": "Send", title: "Send" }, icon("send")),
    );
  }

  async #picture(chat, input) {
    const [file] = input.files;
    input.value = "";
    if (!file) return;
    try {
      this.#send(chat, { kind: "media", media: await fromFile(file) });
    } catch {
      this.station.refusal = "This file isn't a picture that the browser can read: choose another.";
      this.redraw();
    }
  }

  #send(chat, draft) {
    this.station.refusal = null;
    this.#list?.toEnd();
    // What becomes of it is told by events: the outbox, `sent`, `refused`.
    this.station.client.send(chat, draft).catch(() => {});
  }

  // The device isn't one any more, or not here.
  #stopped() {
    const { station, page } = this;
    const { state } = station.status;
    if (state === "terminated") return this.#ended();
    const button = (text, onclick) => h("button", { type: "button", class: "button button--primary", onclick }, text);
    const { code } = station.status.error ?? {};
    if (code === "main_exists") {
      return h("div", { key: "card", class: "pane__card", role: "status" }, icon("phone", "icon--huge"), h("p", null, sentence(station)),
        button("Take its place", () => station.client.connect({ replace: true }).catch(() => {})));
    }
    const again = {
      replaced: () => button("Use it here", () => page.takeOver(station)),
      kicked: () => button("Connect again", () => station.client.connect().catch(() => {})),
      unauthorized: () => button(code === "limit_reached" ? "Try again" : station.kind === "web" ? "Link it again" : "Start over", () => page.link(station)),
      failed: () => button("Try again", () => page.link(station)),
    }[state];
    return h("div", { key: "card", class: "pane__card", role: "status" }, icon("wait", "icon--huge"), h("p", null, sentence(station)), again());
  }

  #ended() {
    const { station, page } = this;
    const termination = station.ending;
    const done = termination?.state === "done";
    const removed = done ? ` (${count(termination.receipt?.channels.length ?? 0, "queue")} removed)` : "";
    const by = termination || station.kind === "web" ? "by the phone" : "by another phone";
    return h(
      "div",
      { key: "card", class: "pane__card", role: "status" },
      icon("ended", "icon--huge"),
      h("p", null, `This session was ended ${by}. `, done ? `Nothing of it is left on the server${removed}.` : termination ? "Its queues are being removed …" : "Nothing of it is left here."),
      h("div", { class: "pane__buttons" },
        done && h("button", { type: "button", class: "button", onclick: () => page.receipt(station) }, "See the receipt"),
        h("button", { type: "button", class: "button button--primary", onclick: () => page.link(station) }, station.kind === "web" ? "Link it again" : "Start over"),
      ),
    );
  }

  #messages() {
    const { station } = this;
    const root = this.root.querySelector(".messages");
    if (!root) {
      this.#list = null;
      return;
    }
    const chats = station.conversations();
    const chat = chats.find(({ id }) => id === station.open) ?? chats[0];
    if (this.#list?.root !== root) {
      this.#list = new List(root, {
        row: (one, index, all) => row(station, this.chat, one, index, all),
        top: () => { if (this.chat && station.online) station.older(this.chat.id); },
      });
    }
    this.chat = chat;
    this.#list.set(rows(station, chat.id));
  }
}
