// The parts put together: storage, the life of connections, and what each frame of the server sets off.
import { Connection } from "./connection.js";
import { KeepstepError, ending } from "./errors.js";
import { Events, closed, deferred, offline, pause, uuid } from "./events.js";
import { Api } from "./http.js";
import { memory } from "./memory.js";
import { Outbox } from "./outbox.js";
import { Pages } from "./pages.js";
import { told } from "./people.js";
import { PresenceBook } from "./presence.js";
import { Slowness } from "./pulse.js";
import { Room, blank } from "./room.js";
import { Vault } from "./vault.js";
import { onWake } from "./wake.js";

const TIMING = { pause: 1_000, pauseMax: 30_000, open: 15_000, silence: undefined, patience: 4_500, call: 20_000 };
/** For the server to end the connection of a sub whose main went while it booted. */
const GOODBYE = 5_000;
/** What a token may be made of, to be carried as a subprotocol. */
const TOKEN = /^[A-Za-z0-9._~+-]+$/;
const TEXTS = {
  idle: "Not connected yet.",
  connecting: "Connecting…",
  booting: "Getting the history from the phone…",
  online: "Connected.",
  checking: "The server isn't heard: asking whether the line still works…",
  closed: "Disconnected.",
};
/** Refused registrations, and what may be done about them. */
const REFUSED = {
  main_exists: "You have a phone already. This one can take its place, or be linked to it as a web session.",
  limit_reached: "You have as many web sessions as there may be. End one of them on the phone, and try again.",
};
/** Registrations that the user can do something about. */
const signIn = ({ code }) => code === "unauthorized" || code === "no_token" || code in REFUSED;

export class Core {
  events = new Events();
  rooms = new Map();
  /** In which order chats moved on this device, by no clock: rises with each connection and each message that comes on it. */
  order = 0;
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
  #running = null;
  /** What the state was before the line came into doubt. */
  #undoubted = null;
  #slowness = new Slowness();
  #lossTold = false;
  /** When all that the connection began with has been taken over. */
  #adopted = null;

  constructor(options) {
    this.options = options;
    this.timing = { ...TIMING, ...options.timing };
    this.vault = new Vault(this, options.storage ?? memory());
    this.storage = this.vault.storage;
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
    if (this.vault.isGone(cause)) return; // told already
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

  async open() {
    try {
      await this.vault.open();
    } catch (error) {
      if (error.code === "replaced" && !this.#running) this.#tell("replaced", { text: error.message, error });
      throw error;
    }
  }

  /** Another tab has this device now. */
  taken(error) {
    this.outbox.clear(error); // what waited there waits in the storage, for whoever has it
    if (this.#running) this.#stop(this.#running, "replaced", error);
    else this.#tell("replaced", { text: error.message, error });
  }

  /** The storage was emptied under this client: it is still the same device, without a past. */
  emptied() {
    this.rooms.clear();
    this.#lossTold = true;
    this.emit("history_lost", { kind: this.kind, chats: null });
    const run = this.#running;
    if (!run) return void this.vault.open().catch((error) => this.report(error));
    run.again = true;
    run.socket?.lose();
  }

  /** A main finds by what it has acknowledged that it had more of a chat. */
  lacksHistory(chat) {
    if (!this.#lossTold) this.emit("history_lost", { kind: this.kind, chats: [chat] });
  }

  /** Waits until a connection has told which chats there are; fails when none is tried. */
  async met(signal) {
    while (!this.connection?.alive) {
      if (!this.#running) throw this.status.error ?? this.offline();
      await this.events.once("state", undefined, { signal });
    }
    await this.#adopted;
  }

  /** Ends everything, waits for what is being stored, and closes the storage: nothing touches that any more. */
  async close() {
    this.closed = true;
    this.disconnect();
    this.ended = closed();
    await this.vault.settled();
    const rooms = [...this.rooms.values()];
    await Promise.all(rooms.map((room) => room.change(() => null)));
    for (const room of rooms) room.gone = true;
    await this.storage.close();
  }

  // ---- the life of connections

  connect({ replace = false } = {}) {
    if (this.closed) {
      const refused = deferred();
      refused.reject(closed());
      return refused.promise;
    }
    if (this.#running) {
      this.#running.replace ||= replace;
      this.#running.hurry.abort();
      this.connection?.check();
      return this.#running.ready.promise;
    }
    // Somebody wants it here, and knows that it is elsewhere.
    const force = this.status.state === "replaced";
    const run = { ready: deferred(), hurry: new AbortController(), over: new AbortController(), socket: null, again: false, force, replace };
    this.#running = run;
    this.ended = null;
    this.#live(run).catch((error) => this.#stop(run, error.code === "replaced" ? "replaced" : "failed", error));
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
    await this.vault.open({ force: run.force });
    let wait = this.timing.pause;
    let registered = false; // again after 4401, once until a connection stands
    let emptied = 0;
    // At once; unless it is emptied again and again.
    const again = () => pause(Math.min(100 * 2 ** emptied++ - 100, this.timing.pauseMax), run.over.signal);
    while (this.#running === run) {
      if (this.status.state !== "connecting") this.#tell("connecting");
      let over;
      run.again = false;
      try {
        await this.vault.open(); // it may have been emptied since
        await this.#credentials(run);
        if (this.#running !== run) return;
        over = await this.#session(run);
      } catch (cause) {
        if (this.#running !== run) return;
        const error = KeepstepError.of(cause);
        if (run.again) {
          await again();
          continue;
        }
        if (error.code === "replaced") return this.#stop(run, "replaced", error);
        if (!error.retry) return this.#stop(run, signIn(error) ? "unauthorized" : "failed", error, { text: REFUSED[error.code] });
        over = { code: null, reason: "", welcomed: false, text: error.code === "no_token" ? "This device can't sign in now." : undefined };
      }
      if (this.#running !== run) return;
      if (run.again) {
        await again();
        continue;
      }
      if (over.welcomed) {
        if (!over.fault) wait = this.timing.pause;
        registered = false;
      }
      const { state, text, lastSeen, error } = ending(over.code, over.reason, over);
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

  /** Waits; less long when somebody asks for it, looks again, or the network is back. */
  async #rest(run, ms) {
    run.hurry = new AbortController();
    const end = onWake(() => run.hurry.abort());
    await pause(ms, run.hurry.signal);
    end();
  }

  #stop(run, state, error, { code = null, text = error.message } = {}) {
    if (this.#running !== run) return;
    this.#running = null;
    run.hurry.abort();
    run.over.abort();
    run.socket?.close(); // what waits for its end is forgotten with it
    this.connection = null;
    this.presence.forget();
    this.#tell(state, { code, text: state === "closed" ? TEXTS.closed : text, error });
    run.ready.reject(error);
  }

  /** The line of a connection is in doubt, or is trusted again. */
  #doubt(yes) {
    const { state } = this.status;
    if (yes && (state === "online" || state === "booting")) {
      this.#undoubted = state;
      this.#tell("checking");
    } else if (!yes && state === "checking") {
      this.#tell(this.#undoubted);
    }
  }

  #tell(state, { text = TEXTS[state], code = null, retryIn = null, lastSeen = null, error = null } = {}) {
    this.status = { state, text, code, retryIn, lastSeen, error };
    this.emit("state", { ...this.status });
  }

  /** A device token: given, stored, or by registering. */
  async #credentials({ over: { signal }, replace }) {
    if (this.token !== null) return;
    const { register } = this.options;
    const how = register && { ...register, ...(replace && register.kind === "main" ? { replace } : {}) };
    if (!how) {
      const message = "there is no device token: give one by the option `token`, or say how to register by `register`";
      throw new KeepstepError("no_token", message);
    }
    for (let attempt = 1; ; attempt++) {
      const id = this.device ?? this.vault.values.registering ?? uuid();
      if (this.device === null) await this.vault.keep({ registering: id }); // before it is used: a retry has the same
      try {
        const { device, token } = await this.api.register({ ...how, id, signal });
        await this.vault.keep({ token, device: device.id, kind: device.kind, registering: null });
        Object.assign(this, { token, device: device.id, kind: device.kind });
        return;
      } catch (error) {
        // The id was used up by an earlier life of this device: a new one, if nothing hangs on the old one.
        if (error.code !== "conflict" || this.device !== null || attempt > 1) throw error;
        await this.vault.keep({ registering: null });
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
        slowness: this.#slowness,
        onDoubt: (yes) => {
          if (this.#running === run) this.#doubt(yes);
        },
        onFrame: (frame, from) => this.#onFrame(frame, from, run),
        onTraffic: (direction, frame) => this.emit("frame", { direction, frame }),
        onOver: (over) => {
          if (this.connection === connection) this.connection = null;
          this.presence.forget();
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
      case "invitation": return this.emit("invitation", told(frame));
      case "link_request": return this.emit("link_request", { code: frame.code, name: frame.name, platform: frame.platform });
      case "error": return this.#onError(frame, connection);
      default: // of a newer server
    }
  }

  #onError({ frame, error: problem }, connection) {
    const error = KeepstepError.from(problem);
    // It was too large to be read for its id.
    const blamed = error.code === "too_large" && (frame === null || frame === "send") && connection.blame(error);
    if (!blamed) this.report(error);
  }

  #onWelcome(welcome, connection, run) {
    const { user, device, kind, chats, main, heartbeat_s: heartbeat } = welcome;
    if (this.device !== null && this.vault.values.user && (this.device !== device || this.user !== user)) {
      const message = `this storage is of the device ${this.device} of ${this.user}, the token of ${device} of ${user}: give each device a storage of its own`;
      return this.#stop(run, "failed", new KeepstepError("storage_mismatch", message));
    }
    Object.assign(this, { user, device, kind, connection });
    this.welcome = { ...welcome, chats: undefined, main: undefined, type: undefined };
    this.order++;
    connection.begin(heartbeat);
    this.vault.keep({ user, device, kind, token: this.token }).catch((cause) => this.storageFailed(cause));
    if (kind === "sub") this.#mainIs({ device: main?.device ?? null, online: main?.online ?? true, lastSeen: main?.last_seen ?? null });
    const there = new Set(chats.map(({ id }) => id));
    const adopted = chats.map((entry) => this.#room(entry.id).adopt(entry, connection));
    this.#adopted = Promise.all(adopted);
    for (const room of this.rooms.values()) if (!there.has(room.id)) this.#leave(room);
    this.outbox.flushAll();
    this.presence.tellServer(connection, false);
    const complete = kind === "main" || this.vault.values.ready === true;
    if (complete) this.#ready(connection, run);
    else this.#tell("booting");
    this.#complete(adopted, connection, run, complete).catch((error) => {
      this.report(error);
      connection.lose({ fault: true }); // the next one goes on where this one failed
    });
  }

  /** A sub gets what it lacks; a new one isn't ready before. */
  async #complete(adopted, connection, run, complete) {
    await Promise.all(adopted);
    if (this.kind === "main") return this.pages.unreadFromLog(this.rooms.values(), connection);
    const there = await this.pages.boot([...this.rooms.values()], connection);
    if (!connection.alive) return;
    if (!complete) {
      if (!there) {
        // Said `ready` now, it would stay without its history. The server closes 4303, unless the main is back already.
        await pause(GOODBYE, connection.signal);
        return connection.lose({ fault: true });
      }
      await this.vault.keep({ ready: true });
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
      } else {
        adopted.then(() => this.pages.unreadFromLog([room], connection));
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
    Object.assign(this, { device: null, kind: null, token: null, user: null, main: null });
    await this.vault.forget().catch((cause) => this.report(new KeepstepError("storage", `the ended device's data couldn't be deleted: ${cause.message}`, { cause })));
  }
}
