// Keepstep's client: see keepstep.d.ts for what everything means, README.md for examples.
import { Core } from "./lib/core.js";
import { KeepstepError } from "./lib/errors.js";
import { closed, either, uuid } from "./lib/events.js";
import { Api, part } from "./lib/http.js";
import { requestLink } from "./lib/link.js";
import * as people from "./lib/people.js";

export { KeepstepError } from "./lib/errors.js";
export { indexedDB } from "./lib/indexeddb.js";
export { memory } from "./lib/memory.js";
export { tabStorage } from "./lib/tabs.js";

/** For the connection to tell what HTTP has answered already. */
const KNOWN = 5_000;

export class Keepstep {
  #core;

  constructor(options = {}) {
    this.#core = new Core(options);
  }

  static requestLink(options) {
    return requestLink(options);
  }

  static register({ url, fetch, id = uuid(), ...registration }) {
    return new Api({ url, fetch }).register({ ...registration, id });
  }

  get state() { return this.status.state; }
  get status() {
    this.#core.connection?.glance(); // timers may be late: what is told is how it is now
    return { ...this.#core.status };
  }
  get user() { return this.#core.user; }
  get device() { return this.#core.device; }
  get kind() { return this.#core.kind; }
  get token() { return this.#core.token; }
  get main() { return this.#core.main && { ...this.#core.main }; }
  get welcome() { return this.#core.welcome && structuredClone(this.#core.welcome); }

  // ---- connection
  open() { return this.#core.open(); }
  connect(options) { return this.#core.connect(options); }
  disconnect() { this.#core.disconnect(); }
  close() { return this.#core.close(); }

  // ---- events
  on(name, listener) { return this.#core.events.on(name, listener); }
  off(name, listener) { this.#core.events.off(name, listener); }
  once(name, filter, options) { return this.#core.events.once(name, filter, options); }

  // ---- messages
  send(chat, draft) {
    const sent = this.#core.open().then(() => {
      if (this.#core.ended) throw this.#core.ended;
      return this.#core.outbox.add(chat, draft);
    });
    sent.catch(() => {}); // the event `refused` tells those who don't wait
    return sent;
  }
  outbox(chat) { return this.#core.outbox.list(chat); }
  async unsend(key) {
    await this.#core.open();
    return this.#core.outbox.remove(key);
  }
  async history(chat, options) {
    await this.#core.open();
    return this.#core.pages.history(this.#room(chat), options);
  }

  async recover(options) {
    await this.#core.open();
    return this.#core.pages.recover(options);
  }
  async restoreHistory(chat, messages, { complete = false } = {}) {
    await this.#core.open();
    return this.#core.pages.restore(this.#room(chat), messages, complete);
  }

  // ---- chats
  chats() {
    const all = [...this.#core.rooms.values()].filter(({ record }) => record.from !== null);
    // By the order in which they moved here. Only what came together, from before a connection, is told apart by the clocks of edges.
    const newer = (one, other) => other.record.order - one.record.order || (other.last?.at ?? 0) - (one.last?.at ?? 0) || (one.id < other.id ? -1 : 1);
    return all.sort(newer).map((room) => room.view());
  }
  chat(id) {
    const room = this.#core.rooms.get(id);
    return room && room.record.from !== null ? room.view() : undefined;
  }
  async read(chat, seq) {
    await this.#core.open();
    return this.#room(chat).readTo(seq);
  }
  async createChat({ id = uuid(), ...chat }) {
    return this.#known(await this.#core.api.call("POST", "/v1/chats", { body: { ...chat, id }, again: true }));
  }
  async joinChat(chat, password) {
    const path = typeof chat === "string" ? `/v1/chats/${part(chat)}/join` : "/v1/chats/join";
    const body = { ...(typeof chat === "string" ? {} : { name: chat.name }), ...(password === undefined ? {} : { password }) };
    return this.#known(await this.#core.api.call("POST", path, { body, again: true }));
  }
  async leaveChat(chat) {
    await this.#core.api.call("POST", `/v1/chats/${part(chat)}/leave`);
  }
  listChats() { return this.#core.api.list("/v1/chats"); }
  getChat(chat) { return this.#core.api.call("GET", `/v1/chats/${part(chat)}`); }
  invite(chat, user) {
    return this.#core.api.call("POST", `/v1/chats/${part(chat)}/members`, { body: { user }, again: true });
  }
  async removeMember(chat, user) {
    await this.#core.api.call("DELETE", `/v1/chats/${part(chat)}/members/${part(user)}`);
  }
  async forgetChat(chat) {
    await this.#core.open();
    if (this.#room(chat).record.joined) throw new KeepstepError("conflict", "the user is in this chat: leave it first");
    this.#room(chat).gone = true; // what is under way for it stores nothing any more
    this.#core.rooms.delete(chat);
    await this.#core.storage.write({ removeChats: [chat] });
  }

  // ---- invitations and blocks
  invitations() { return people.invitations(this.#core.api); }
  async acceptInvitation(chat) { return this.#known(await people.accept(this.#core.api, chat)); }
  async declineInvitation(chat) { await people.decline(this.#core.api, chat); }
  blocks() { return people.blocks(this.#core.api); }
  block(user) { return people.block(this.#core.api, user); }
  async unblock(user) { await people.unblock(this.#core.api, user); }

  // ---- devices
  devices() { return this.#core.api.list("/v1/devices"); }
  async removeDevice(device) {
    return (await this.#core.api.call("DELETE", `/v1/devices/${part(device)}`)).termination;
  }
  termination(id) { return this.#core.api.call("GET", `/v1/terminations/${part(id)}`); }
  async receipt(id, { onState, signal } = {}) {
    for (let wait = 200, told = ""; ; wait = Math.min(wait * 1.5, 5_000)) {
      if (this.#core.closed) throw closed();
      const now = await this.#termination(id, signal);
      if (now && JSON.stringify(now) !== told) onState?.(now);
      told = now ? JSON.stringify(now) : told;
      if (now?.state === "done") return now;
      await this.#core.pause(wait, signal);
    }
  }
  /** How far it is; null when that can't be told now. */
  async #termination(id, signal) {
    try {
      return await this.#core.api.call("GET", `/v1/terminations/${part(id)}`, { signal });
    } catch (error) {
      if (error.retry) return null;
      throw error;
    }
  }

  // ---- presence and typing
  typing(chat) { this.#core.presence.typing(chat); }
  watch(users) { this.#core.presence.watch(users); }
  presence(user) { return this.#core.presence.of(user); }

  // ---- linking, on the main
  lookupLink(code) { return this.#core.api.call("GET", `/v1/links/${part(code)}`); }
  approveLink(code, { approve = true, history } = {}) {
    const body = { approve, ...(history === undefined ? {} : { history }) };
    return this.#core.api.call("POST", `/v1/links/${part(code)}/approve`, { body, again: true });
  }

  #room(chat) {
    const room = this.#core.rooms.get(chat);
    if (!room) throw new KeepstepError("not_found", `this device knows no chat ${chat}`);
    return room;
  }

  /** Waits until the connection has told of a chat, too, if there is one. */
  async #known(info) {
    const { connection, events } = this.#core;
    if (connection?.alive && !this.chat(info.id)?.joined) {
      const { signal, end } = either(connection.signal, AbortSignal.timeout(KNOWN));
      await events.once("chat", ({ chat }) => chat === info.id && this.chat(info.id)?.joined === true, { signal }).catch(() => {});
      end();
    }
    return info;
  }
}
