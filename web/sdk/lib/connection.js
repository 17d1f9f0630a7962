// One WebSocket, from its begin to its end: frames in and out, questions with their replies, signs of life.
import { KeepstepError } from "./errors.js";
import { deferred, offline } from "./events.js";
import { Pulse } from "./pulse.js";

/** For the reply to a frame; the server's own deadlines are shorter. */
const REPLY = 30_000;
/** The close code for a frame that is too large. */
const TOO_LARGE = 4413;
/** No server finds a frame of so few bytes too large. */
const SMALL = 8_192;
/** A connection whose `error` isn't followed by `close` (Node 20, when it is refused) is over after this. */
const ERROR_ALONE = 100;

export class Connection {
  #socket;
  #hooks;
  #timing;
  #slowness;
  #asked = new Map();
  #nextId = 1;
  #opening;
  #pulse = null;
  #abort = new AbortController();
  /** How the socket is let go of. */
  #let = (socket) => socket.close();
  /** Whether `welcome` came. */
  welcomed = false;
  /** Whether this client ended it because it couldn't go on: the next one may end the same way, so it shouldn't come at once. */
  fault = false;
  /** The bytes of the largest page of history that was given on it. */
  #page = 0;

  /**
   * Begins to connect. `onFrame(frame, connection)` gets every frame but replies and pongs, `onDoubt(yes)` whether the line can't
   * be trusted just now, `onOver({code, reason, blamed})` the end, once (`blamed`: it was a
   * message's fault, which was refused for that); not after `close()`.
   */
  constructor({ WebSocket, url, token, timing, slowness, onFrame, onDoubt, onOver, onTraffic }) {
    this.#timing = timing;
    this.#slowness = slowness;
    this.#hooks = { onFrame, onDoubt, onOver, onTraffic };
    const socket = new WebSocket(url, ["keepstep.v1", `bearer.${token}`]);
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#onText(data);
    socket.onclose = ({ code, reason }) => this.#over(code ?? 1006, String(reason ?? ""));
    socket.onerror = () => setTimeout(() => this.#over(1006, ""), ERROR_ALONE);
    this.#opening = setTimeout(() => this.lose(), timing.open);
  }

  /** Aborted when the connection is over. */
  get signal() {
    return this.#abort.signal;
  }

  get alive() {
    return this.welcomed && !this.#abort.signal.aborted;
  }

  /** Sends a frame; false: the connection is over. */
  put(frame) {
    if (this.#abort.signal.aborted || this.#socket.readyState !== 1) return false;
    this.#hooks.onTraffic("out", frame);
    try {
      const text = JSON.stringify(frame);
      if (frame.type === "history_page") this.#page = Math.max(this.#page, text.length);
      this.#socket.send(text);
    } catch {
      this.lose(); // whatever it is, this connection doesn't carry frames any more
      return false;
    }
    return true;
  }

  /** Sends a frame and waits for its reply: `ok`, or a KeepstepError. */
  ask(frame) {
    const id = this.#nextId++;
    const { type } = frame;
    const answer = Object.assign(deferred(), { frame });
    if (!this.put({ ...frame, id })) {
      answer.reject(offline());
      return answer.promise;
    }
    answer.timer = setTimeout(() => {
      this.#asked.delete(id);
      answer.reject(new KeepstepError("timeout", `the server didn't answer ${type} within ${REPLY / 1000} s`, { retry: true }));
    }, REPLY);
    this.#asked.set(id, answer);
    this.#pulse?.question();
    return answer.promise;
  }

  /**
   * The server says that something was too large, and not what: that was the largest message that waits for its answer, which is
   * refused. False: there is none that it could be.
   */
  blame(error) {
    const sends = [...this.#asked].filter(([, { frame: { type } }]) => type === "send").map(([id, answer]) => ({ id, answer, size: JSON.stringify(answer.frame).length }));
    const largest = sends.reduce((one, other) => (other.size > one.size ? other : one), { size: Math.max(SMALL, this.#page) });
    if (!largest.answer) return false;
    this.#asked.delete(largest.id);
    clearTimeout(largest.answer.timer);
    largest.answer.reject(error);
    return true;
  }

  /** Takes `welcome` over: from now on it is noticed when the line goes half-open. */
  begin(heartbeat) {
    this.welcomed = true;
    clearTimeout(this.#opening);
    this.#pulse = new Pulse({
      timing: this.#timing,
      heartbeat: Math.min(heartbeat * 1000 || 25_000, 25_000),
      slowness: this.#slowness,
      acts: {
        ping: () => this.put({ type: "ping" }),
        doubt: (yes) => this.#hooks.onDoubt(yes),
        dead: () => this.lose(),
      },
    });
  }

  /** There is a reason to ask whether the line still works. */
  check() {
    this.#pulse?.ask();
  }

  /** Somebody wants to know how it is at this moment. */
  glance() {
    this.#pulse?.glance();
  }

  /** It doesn't work any more, whatever the socket thinks: as if the network had broken it. `fault`: see there. */
  lose({ fault = false } = {}) {
    if (!this.#abort.signal.aborted) this.fault = fault;
    // No goodbye can be said on it. `ws` knows how to let go at once; a browser's socket does so after a while.
    this.#let = (socket) => (typeof socket.terminate === "function" ? socket.terminate() : socket.close());
    this.#over(1006, "");
  }

  /** Ends it without a word to `onOver`. */
  close() {
    this.#hooks.onOver = () => {};
    this.#over(1000, "");
  }

  #onText(data) {
    if (this.#abort.signal.aborted) return;
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return this.lose(); // half a frame is no frame: the next connection brings it again
    }
    const answer = frame.type === "reply" ? this.#asked.get(frame.id) : undefined;
    this.#pulse?.heard({ answer: frame.type === "pong" || frame.type === "reply", waiting: this.#asked.size - (answer ? 1 : 0) });
    if (this.#abort.signal.aborted) return; // ended by somebody who was told that it is trusted again
    this.#hooks.onTraffic("in", frame);
    if (frame.type === "pong") return;
    if (frame.type !== "reply") return this.#hooks.onFrame(frame, this);
    if (!answer) return;
    this.#asked.delete(frame.id);
    clearTimeout(answer.timer);
    if (frame.error) answer.reject(KeepstepError.from(frame.error));
    else answer.resolve(frame.ok);
  }

  #over(code, reason) {
    if (this.#abort.signal.aborted) return;
    clearTimeout(this.#opening);
    this.#pulse?.stop();
    this.#abort.abort();
    const socket = this.#socket;
    // Kept as functions that do nothing: some sockets throw an `error` that nobody listens to.
    socket.onopen = socket.onmessage = socket.onclose = socket.onerror = () => {};
    try {
      this.#let(socket);
    } catch {
      // it was closed already
    }
    const blamed = code === TOO_LARGE && this.blame(new KeepstepError("too_large", "the message is larger than the server takes"));
    for (const answer of this.#asked.values()) {
      clearTimeout(answer.timer);
      answer.reject(offline());
    }
    this.#asked.clear();
    this.#hooks.onOver({ code, reason, blamed });
  }
}
