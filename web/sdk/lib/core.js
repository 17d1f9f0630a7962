// The parts put together: storage, the life of connections, and what each frame of the server sets off.
import { Connection } from "./connection.js";
import { KeepstepError, ending } from "./errors.js";
import { Events, closed, deferred, offline, pause, uuid } from "./events.js";
import { Api } from "./http.js";
import { memory } from "./memory.js";
import { Outbox } from "./outbox.js";
import { Pages } from "./pages.js";
import { PresenceBook } from "./presence.js";
import { Room, blank } from "./room.js";

const TIMING = { pause: 1_000, pauseMax: 30_000, open: 15_000, silence: undefined, patience: 10_000, call: 20_000 };
/** For the server to end the connection of a sub whose main went while it booted. */
const GOODBYE = 5_000;
/** What a token may be made of, to be carried as a subprotocol. */
const TOKEN = /^[A-Za-z0-9._~+-]+$/;
const TEXTS = {
  idle: "Not connected yet.",
  connecting: "Connecting…",
  booting: "Getting the history from the phone…",
  online: "Connected.",
  closed: "Disconnected.",
};

export class Core {
  events = new Events();
  rooms = new Map();
  connection = null;
  welcome = null;
  main = null;
  user = null;
  device = null;
  kind = null;
  token = null;
  /** Why nothing more is taken: the device was ended, or the client closed. Else null. */
  ended = null;
  status = { state: "idle", text: TEXTS.idle, code: null, retryIn: null, lastSeen: null, error: null };
  closed = false;
  #opening = null;
  #values = {};
  #running = null;

  constructor(options) {
    this.options = options;
    this.timing = { ...TIMING, ...options.timing };
    this.storage = options.storage ?? memory();
    this.bootstrap = options.bootstrap ?? 100;
    this.api = new Api({ url: options.url, fetch: options.fetch, timeout: this.timing.call, token: () => this.token });
    this.outbox = new Outbox(this);
    this.pages = new Pages(this);
    this.presence = new PresenceBook(this);
  }

  emit(name, payload) {
    this.events.emit(name, payload);
  }

  /** Something failed that nobody waits for. */
  report(cause) {
    this.emit("error", KeepstepError.of(cause));
  }

  /** What can't be stored isn't acknowledged; the next connection brings it again. */
  storageFailed(cause) {
    this.report(new KeepstepError("storage", `the storage failed: ${cause?.message ?? cause}`, { retry: true, cause }));
    this.connection?.lose({ fault: true });
  }

  pause(ms, signal) {
    return pause(ms, signal);
  }

  /** Why nothing can be asked now. */
  offline() {
    const { state, text, lastSeen } = this.status;
    return state === "main_offline" ? new KeepstepError("main_offline", text, { retry: true, lastSeen }) : offline();
  }

  // ---- storage

  open() {
    if (this.closed) return Promise.reject(closed());
    this.#opening ??= this.#load().catch((cause) => {
      this.#opening = null;
      throw new KeepstepError("storage", `the storage can't be opened: ${cause?.message ?? cause}`, { cause });
    });
    return this.#opening;
  }

  async #load() {
    const { values, chats, outbox } = await this.storage.load();
    this.#values = values;
    this.user = values.user ?? null;
    this.device = values.device ?? null;
    this.kind = values.kind ?? null;
    this.token = this.options.token ?? values.token ?? null;
    for (const record of chats) {
      const room = new Room(this, { ...blank(record.id), ...record });
      this.rooms.set(record.id, room);
      [room.last = null] = await this.storage.messages(record.id, { before: Number.MAX_SAFE_INTEGER, limit: 1 });
    }
    this.outbox.load(outbox);
  }

  async #keep(values) {
    const known = this.#values; // of this device: it may be ended meanwhile
    await this.storage.write({ values }).catch((cause) => {
      throw new KeepstepError("storage", `the device couldn't be stored: ${cause?.message ?? cause}`, { cause });
    });
    Object.assign(known, values);
  }

  /** Ends everything, waits for what is being stored, and closes the storage: nothing touches that any more. */
  async close() {
    this.closed = true;
    this.disconnect();
    this.ended = closed();
    await this.#opening?.catch(() => {});
    const rooms = [...this.rooms.values()];
    await Promise.all(rooms.map((room) => room.change(() => null)));
    for (const room of rooms) room.gone = true;
    await this.storage.close();
  }

  // ---- the life of connections

  connect() {
    if (this.closed) {
      const refused = deferred();
      refused.reject(closed());
      return refused.promise;
    }
    if (this.#running) {
      this.#running.hurry.abort();
      return this.#running.ready.promise;
    }
    const run = { ready: deferred(), hurry: new AbortController(), over: new AbortController(), socket: null };
    this.#running = run;
    this.ended = null;
    this.#live(run).catch((error) => this.#stop(run, "failed", error));
    return run.ready.promise;
  }

  disconnect() {
    const run = this.#running;
    if (run) this.#stop(run, "closed", new KeepstepError("closed", "the client was disconnected"));
    else if (this.status.state === "idle") this.#tell("closed");
  }

  /** Tries for as long as it may. */
  async #live(run) {
    this.#tell("connecting");
    await this.open();
    let wait = this.timing.pause;
    let registered = false; // again after 4401, once until a connection stands
    while (this.#running === run) {
      if (this.status.state !== "connecting") this.#tell("connecting");
      let over;
      try {
        await this.#credentials(run.over.signal);
        if (this.#running !== run) return;
        over = await this.#session(run);
      } catch (cause) {
        if (this.#running !== run) return;
        const error = KeepstepError.of(cause);
        if (!error.retry) return this.#stop(run, error.code === "unauthorized" || error.code === "no_token" ? "unauthorized" : "failed", error);
        over = { code: null, reason: "", welcomed: false, text: error.code === "no_token" ? "This device can't sign in now." : undefined };
      }
      if (this.#running !== run) return;
      if (over.welcomed) {
        if (!over.fault) wait = this.timing.pause;
        registered = false;
      }
      const { state, text, lastSeen, error } = ending(over.code, over.reason);
      if (state === "unauthorized" && this.options.register && !registered) {
        registered = true;
        this.token = null; // with the same id: the server may have lost its word, or the secret changed
        continue;
      }
      if (error) {
        if (state === "terminated") await this.#forget(error);
        return this.#stop(run, state, error, { code: over.code, text });
      }
      const retryIn = Math.round(wait * (0.5 + Math.random()));
      wait = Math.min(wait * 2, this.timing.pauseMax);
      this.#tell(state, { text: over.text ?? text, code: over.code, retryIn, lastSeen });
      if (state === "main_offline") this.#mainIs({ device: this.main?.device ?? null, online: false, lastSeen });
      await this.#rest(run, retryIn);
    }
  }

  /** Waits; less long when somebody asks for it, or the browser says that the network is back. */
  async #rest(run, ms) {
    run.hurry = new AbortController();
    const hurry = () => run.hurry.abort();
    globalThis.addEventListener?.("online", hurry);
    await pause(ms, run.hurry.signal);
    globalThis.removeEventListener?.("online", hurry);
  }

  #stop(run, state, error, { code = null, text = error.message } = {}) {
    if (this.#running !== run) return;
    this.#running = null;
    run.hurry.abort();
    run.over.abort();
    run.socket?.close(); // what waits for its end is forgotten with it
    this.connection = null;
    this.#tell(state, { code, text: state === "closed" ? TEXTS.closed : text, error });
    run.ready.reject(error);
  }

  #tell(state, { text = TEXTS[state], code = null, retryIn = null, lastSeen = null, error = null } = {}) {
    this.status = { state, text, code, retryIn, lastSeen, error };
    this.emit("state", { ...this.status });
  }

  /** A device token: given, stored, or by registering. */
  async #credentials(signal) {
    if (this.token !== null) return;
    const how = this.options.register;
    if (!how) {
      const message = "there is no device token: give one by the option `token`, or say how to register by `register`";
      throw new KeepstepError("no_token", message);
    }
    for (let attempt = 1; ; attempt++) {
      const id = this.device ?? this.#values.registering ?? uuid();
      if (this.device === null) await this.#keep({ registering: id }); // before it is used: a retry has the same
      try {
        const { device, token } = await this.api.register({ ...how, id, signal });
        await this.#keep({ token, device: device.id, kind: device.kind, registering: null });
        Object.assign(this, { token, device: device.id, kind: device.kind });
        return;
      } catch (error) {
        // The id was used up by an earlier life of this device: a new one, if nothing hangs on the old one.
        if (error.code !== "conflict" || this.device !== null || attempt > 1) throw error;
        await this.#keep({ registering: null });
      }
    }
  }

  /** One connection, until it is over. */
  #session(run) {
    const WebSocket = this.options.WebSocket ?? globalThis.WebSocket;
    if (typeof WebSocket !== "function") {
      throw new KeepstepError("no_websocket", "there is no WebSocket here: start Node 20 with --experimental-websocket, take Node 22, "
        + "or give a constructor by the option `WebSocket`, such as that of the package `ws`");
    }
    if (!TOKEN.test(this.token)) throw new KeepstepError("unauthorized", "the device token has characters that no token has: register or link again");
    return new Promise((resolve) => {
      const connection = new Connection({
        WebSocket,
        url: this.api.socketUrl,
        token: this.token,
        timing: this.timing,
        onFrame: (frame, from) => this.#onFrame(frame, from, run),
        onTraffic: (direction, frame) => this.emit("frame", { direction, frame }),
        onOver: (over) => {
          if (this.connection === connection) this.connection = null;
          resolve({ ...over, welcomed: connection.welcomed, fault: connection.fault });
        },
      });
      run.socket = connection;
    });
  }

  // ---- frames

  #onFrame(frame, connection, run) {
    if (frame.type === "welcome") return this.#onWelcome(frame, connection, run);
    if (!connection.welcomed) return;
    switch (frame.type) {
      case "message":
      case "gap": return this.rooms.get(frame.chat)?.push(frame, connection);
      case "read": return void this.rooms.get(frame.chat)?.readElsewhere(frame.seq, frame.device);
      case "chat": return this.#onChat(frame, connection);
      case "device": return this.#onDevice(frame);
      case "history_request": return void this.pages.serve(frame, connection);
      case "presence": return this.presence.heard(frame);
      case "typing": return this.emit("typing", { chat: frame.chat, user: frame.user });
      case "link_request": return this.emit("link_request", { code: frame.code, name: frame.name, platform: frame.platform });
      case "error": return this.report(KeepstepError.from(frame.error));
      default: // of a newer server
    }
  }

  #onWelcome(welcome, connection, run) {
    const { user, device, kind, chats, main, heartbeat_s: heartbeat } = welcome;
    if (this.device !== null && this.#values.user && (this.device !== device || this.user !== user)) {
      const message = `this storage is of the device ${this.device} of ${this.user}, the token of ${device} of ${user}: give each device a storage of its own`;
      return this.#stop(run, "failed", new KeepstepError("storage_mismatch", message));
    }
    Object.assign(this, { user, device, kind, connection });
    this.welcome = { ...welcome, chats: undefined, main: undefined, type: undefined };
    connection.begin(heartbeat);
    this.#keep({ user, device, kind, token: this.token }).catch((cause) => this.storageFailed(cause));
    if (kind === "sub") this.#mainIs({ device: main?.device ?? null, online: main?.online ?? true, lastSeen: main?.last_seen ?? null });
    const there = new Set(chats.map(({ id }) => id));
    const adopted = chats.map((entry) => this.#room(entry.id).adopt(entry, connection));
    for (const room of this.rooms.values()) if (!there.has(room.id)) this.#leave(room);
    this.outbox.flushAll();
    this.presence.tellServer(connection, false);
    const complete = kind === "main" || this.#values.ready === true;
    if (complete) this.#ready(connection, run);
    else this.#tell("booting");
    this.#complete(adopted, connection, run, complete).catch((error) => {
      this.report(error);
      connection.lose({ fault: true }); // the next one goes on where this one failed
    });
  }

  /** A sub gets what it lacks; a new one isn't ready before. */
  async #complete(adopted, connection, run, complete) {
    if (this.kind === "main") return;
    await Promise.all(adopted);
    const there = await this.pages.boot([...this.rooms.values()], connection);
    if (!connection.alive) return;
    if (!complete) {
      if (!there) {
        // Said `ready` now, it would stay without its history. The server closes 4303, unless the main is back already.
        await pause(GOODBYE, connection.signal);
        return connection.lose({ fault: true });
      }
      await this.#keep({ ready: true });
      if (connection.alive) this.#ready(connection, run);
    }
    await this.pages.fillHoles(this.rooms.values());
  }

  #ready(connection, run) {
    if (this.kind === "sub") connection.put({ type: "ready" });
    this.#tell("online");
    run.ready.resolve();
    this.emit("ready", { user: this.user, device: this.device, kind: this.kind });
  }

  #room(id) {
    if (!this.rooms.has(id)) this.rooms.set(id, new Room(this, blank(id)));
    return this.rooms.get(id);
  }

  #onChat({ event, chat, user, entry }, connection) {
    if (event === "joined" && entry) {
      const room = this.#room(chat);
      const adopted = room.adopt(entry, connection, event);
      this.presence.met(connection);
      if (this.kind === "sub") {
        adopted.then(() => this.pages.boot([room], connection)).catch((error) => this.report(error));
      }
      return;
    }
    if (event === "left") {
      const room = this.rooms.get(chat);
      return room && this.#leave(room);
    }
    if (event === "member_joined") this.presence.met(connection);
    this.emit("chat", { event, chat, ...(user === undefined ? {} : { user }) });
  }

  /** What was said stays, until `forgetChat`. */
  async #leave(room) {
    let left = false;
    const stored = await room.change(() => {
      left = room.record.joined; // looked at in turn: a `joined` that came right before may only just be stored
      return left ? { patch: { joined: false } } : null;
    });
    if (left && stored) this.emit("chat", { event: "left", chat: room.id });
  }

  #onDevice({ event, device, at }) {
    this.emit("device", { event, device, ...(at === undefined ? {} : { at }) });
    if (this.kind !== "sub" || device !== this.main?.device) return;
    if (event === "online") {
      this.#mainIs({ device, online: true, lastSeen: at ?? null });
      this.pages.fillHoles(this.rooms.values());
    } else if (event === "offline" || event === "terminated") {
      this.#mainIs({ device, online: false, lastSeen: at ?? this.main.lastSeen });
    }
  }

  #mainIs(main) {
    const before = this.main;
    this.main = main;
    if (before?.online !== main.online || before?.device !== main.device) this.emit("main", { ...main });
  }

  // ---- the end of the device

  /** It was ended: nothing of it stays here. */
  async #forget(error) {
    this.ended = error;
    for (const room of this.rooms.values()) room.gone = true;
    this.outbox.clear(error);
    this.rooms.clear();
    this.#values = {};
    Object.assign(this, { device: null, kind: null, token: null, user: null, main: null });
    await this.storage.clear().catch((cause) => this.report(new KeepstepError("storage", `the ended device's data couldn't be deleted: ${cause.message}`, { cause })));
  }
}
