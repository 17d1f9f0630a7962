// A place where a device lives: a phone or a web window. It holds the SDK's client and what the page shows of it; when a
// device is ended and another one is linked here, the place stays.

import { Keepstep, indexedDB, memory } from "/sdk/keepstep.js";
import { RECEIPTS } from "./conversation.js";
import { Receipts } from "./receipts.js";
import { Timeline } from "./timeline.js";
import { Line } from "./wire.js";

const PAGE = 100;
const NEW = { state: "idle", text: "", code: null, retryIn: null, lastSeen: null, error: null };

export class Station {
  client = null;
  storage = null;
  status = NEW;
  /** What a bootstrap has brought so far; null: none is under way. */
  progress = null;
  airplane = false;
  /** Of web windows: how far the linking is. Of phones: who asks. */
  link = null;
  /** The phone has asked for this device's end: nothing is asked in its name any more. */
  removing = false;
  /** The termination that ended the device that was here. */
  ending = null;
  /** The server has said what the chats are, or can't be asked. Before that a web window has nothing to show them by. */
  known = false;
  /** The chat that is shown. */
  open = null;
  /** The side chat's id. */
  side = null;
  /** What the phone gave to a web window a moment ago. */
  lent = null;
  refusal = null;
  /** The page lets go of everything: no device comes here any more. */
  retired = false;
  infos = new Map();
  line = new Line();
  receipts = new Receipts();
  #timelines = new Map();
  #typing = new Map();
  #listeners = new Map();

  /** `kind`: phone or web. `name`: what people call it. `user`: whose it is. */
  constructor({ id, kind, name, user }) {
    Object.assign(this, { id, kind, name, user });
  }

  /** `change`: draw it again. `heard`: messages or offsets moved. `frame`: one of the protocol's. `ready`: the device is connected. */
  on(name, listener) {
    this.#listeners.set(name, [...(this.#listeners.get(name) ?? []), listener]);
  }

  tell(name, payload) {
    for (const listener of this.#listeners.get(name) ?? []) listener(payload);
  }

  get device() { return this.client?.device ?? null; }
  get online() { return this.status.state === "online"; }
  /** A connection is there, though it may be in doubt. */
  get connected() { return ["online", "booting", "checking"].includes(this.status.state); }
  /** A device is here, whether it is connected or not. */
  get alive() { return Boolean(this.client) && !["terminated", "unauthorized", "failed"].includes(this.status.state); }
  /** Another tab has it. */
  get elsewhere() { return this.status.state === "replaced"; }

  /** A new client here. `options`: a token or a registration. Rejects as `connect` does. */
  async start(options) {
    await this.leave();
    if (this.retired) return;
    // A phone keeps its history; a web window keeps nothing beyond this page: it borrows again.
    this.storage = this.kind === "phone" ? indexedDB(`keepstep-demo-${this.user}`) : memory();
    this.client = new Keepstep({ ...options, storage: this.storage, WebSocket: this.line.WebSocket, bootstrap: PAGE });
    this.status = this.client.status;
    this.link = null;
    this.ending = null;
    this.removing = false;
    this.#listen(this.client);
    this.tell("change");
    await this.client.connect();
  }

  /** Ends the client, not the device. */
  async leave() {
    const client = this.client;
    this.client = null;
    this.#forget();
    await client?.close();
  }

  /** The same for good. */
  retire() {
    this.retired = true;
    return this.leave();
  }

  /** What its storage has lost, and the server may still have, comes back. */
  async recover() {
    this.refusal = null;
    try {
      const { lost } = await this.client.recover();
      if (lost.length > 0) this.refusal = "The server doesn't hold all of it any more.";
    } catch (error) {
      this.refusal = error.message;
    }
    this.tell("change");
  }

  /** Its storage was emptied, and it has more to say of its chats than it holds. */
  get lost() { return this.client?.chats().some((chat) => chat.lost) ?? false; }

  #forget() {
    this.#timelines.clear();
    this.#typing.clear();
    this.receipts.clear();
    this.infos.clear();
    this.status = NEW;
    this.progress = null;
    this.known = false;
    this.open = null;
    this.side = null;
  }

  timeline(chat) {
    let timeline = this.#timelines.get(chat);
    if (!timeline) this.#timelines.set(chat, (timeline = new Timeline()));
    return timeline;
  }

  /** The chats that people see, in a fixed order. */
  conversations() {
    if (this.kind === "web" && !this.known) return [];
    const all = this.client?.chats().filter((chat) => chat.joined && chat.id !== this.side) ?? [];
    return all.sort((one, other) => (one.kind === other.kind ? one.id.localeCompare(other.id) : one.kind === "direct" ? -1 : 1));
  }

  unread() { return this.conversations().reduce((sum, chat) => sum + chat.unread, 0); }

  /** Who of the others types in a chat. */
  typing(chat) { return [...(this.#typing.get(chat) ?? new Map()).keys()]; }

  /** All members of a chat but the own user. */
  others(chat) { return (this.infos.get(chat)?.members ?? []).filter((user) => user !== this.client?.user); }

  /** The own user has seen what is shown. */
  seen() {
    const chat = this.open && this.client?.chat(this.open);
    if (chat?.unread > 0) this.client.read(this.open).catch(() => {});
  }

  /** Older messages of a chat, from the storage or from the phone. */
  async older(chat) {
    const timeline = this.timeline(chat);
    if (timeline.complete || timeline.loading || !this.client) return;
    timeline.loading = true;
    try {
      const page = await this.client.history(chat, { before: timeline.low ?? undefined, limit: PAGE });
      timeline.complete = !page.more;
      timeline.add(page.messages);
    } catch {
      // Asked again when somebody scrolls again; the pane says why the phone isn't there.
    } finally {
      timeline.loading = false;
      this.tell("change");
    }
  }

  setAirplane(on) {
    this.airplane = on;
    if (on) this.client?.disconnect();
    else this.client?.connect().catch(() => {});
    this.tell("change");
  }

  #listen(client) {
    const on = (name, listener) =>
      client.on(name, (payload) => {
        if (client === this.client) listener(payload);
      });
    const changed = () => this.tell("change");
    on("state", (status) => {
      this.status = status;
      if (status.state === "terminated") this.#ended(status);
      if (status.state === "booting" && !this.known) this.#know(client).then(changed);
      if (!["booting", "checking"].includes(status.state)) this.#settle();
      changed();
    });
    on("ready", () => {
      this.#furnish();
      this.tell("ready");
    });
    on("history_lost", () => {
      // What is on the screen isn't on the device any more.
      this.#timelines.clear();
      this.tell("heard");
      changed();
    });
    on("message", (message) => this.#take(message.chat, [message]));
    on("history", ({ chat, messages, reason }) => {
      const timeline = this.timeline(chat);
      if (this.kind === "web" && reason !== "gap" && messages.length) {
        timeline.borrowed = Math.max(timeline.borrowed ?? 0, messages.at(-1).seq);
        timeline.count += messages.length;
      }
      this.#take(chat, messages);
    });
    on("progress", (progress) => {
      if (progress.reason === "bootstrap") this.progress = { since: this.progress?.since ?? Date.now(), ...progress };
      changed();
    });
    for (const name of ["queued", "sent", "main", "presence"]) on(name, changed);
    on("refused", ({ error }) => {
      this.refusal = error.message;
      changed();
    });
    on("read", () => {
      this.tell("heard");
      changed();
    });
    on("chat", ({ event, chat }) => {
      if (event === "joined") this.#furnish();
      else if (event !== "changed") this.#members(chat);
      changed();
    });
    on("device", (event) => {
      this.tell("device", event);
      changed();
    });
    on("typing", ({ chat, user }) => this.#types(chat, user));
    on("link_request", (request) => this.tell("link", request));
    on("history_served", (served) => {
      const now = Date.now();
      const before = this.lent && now - this.lent.at < 2000 && served.chat !== this.side ? this.lent.count : 0;
      if (served.chat !== this.side) this.lent = { count: before + served.count, at: now };
      changed();
    });
    on("frame", (frame) => this.tell("frame", frame));
  }

  #take(chat, messages) {
    if (chat === this.side) messages.forEach((message) => this.receipts.take(message));
    this.timeline(chat).add(messages);
    for (const message of messages) this.#typing.get(chat)?.delete(message.from);
    this.tell("heard", { chat, messages });
    this.tell("change");
  }

  #types(chat, user) {
    const typing = this.#typing.get(chat) ?? new Map();
    this.#typing.set(chat, typing);
    clearTimeout(typing.get(user));
    typing.set(user, setTimeout(() => {
      typing.delete(user);
      this.tell("change");
    }, 5000));
    this.tell("change");
  }

  // What is stored of each chat comes into view; who is in it is asked once.
  async #furnish() {
    const client = this.client;
    const infos = await this.#know(client);
    if (client !== this.client) return;
    for (const { id, joined, lost } of client.chats()) {
      const timeline = this.timeline(id);
      // What was lost comes back when somebody wants it to.
      if (!joined || lost || timeline.messages.length) continue;
      const page = await client.history(id, { limit: PAGE }).catch(() => null);
      if (client !== this.client || !page) continue;
      timeline.complete = !page.more;
      this.#take(id, page.messages);
    }
    if (this.side) this.timeline(this.side).messages.forEach((message) => this.receipts.take(message));
    this.open ??= this.conversations()[0]?.id ?? null;
    client.watch([...new Set(infos.flatMap((info) => info.members))].filter((user) => user !== client.user).slice(0, 100));
    this.tell("heard");
    this.tell("change");
  }

  // What the chats are, and who is in them.
  async #know(client) {
    const infos = await client.listChats().catch(() => []);
    if (client !== this.client) return infos;
    for (const info of infos) this.infos.set(info.id, info);
    this.side = infos.find((info) => info.kind === "group" && info.name === RECEIPTS)?.id ?? this.side;
    this.known = true;
    return infos;
  }

  async #members(chat) {
    const info = await this.client?.getChat(chat).catch(() => null);
    if (info) this.infos.set(chat, info);
    this.tell("change");
  }

  // The bar stays a moment after the last page, so that it can be seen at all.
  #settle() {
    const progress = this.progress;
    if (!progress) return;
    setTimeout(() => {
      if (this.progress === progress) this.progress = null;
      this.tell("change");
    }, 1500);
  }

  #ended(status) {
    this.#forget();
    this.status = status;
  }

  /** What a chat is called. */
  title(chat, person) {
    if (chat.kind === "group") return chat.name ?? "Group";
    return person(this.others(chat.id)[0]);
  }
}

