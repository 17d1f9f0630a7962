// One WebSocket, from its begin to its end: frames in and out, questions with their replies, signs of life.
import { KeepstepError } from "./errors.js";
import { deferred, offline } from "./events.js";

/** For the reply to a frame; the server's own deadlines are shorter. */
const REPLY = 30_000;
/** A connection whose `error` isn't followed by `close` (Node 20, when it is refused) is over after this. */
const ERROR_ALONE = 100;

export class Connection {
  #socket;
  #hooks;
  #timing;
  #asked = new Map();
  #nextId = 1;
  #heard = Date.now();
  #timer;
  #abort = new AbortController();
  /** How the socket is let go of. */
  #let = (socket) => socket.close();
  /** Whether `welcome` came. */
  welcomed = false;
  /** Whether this client ended it because it couldn't go on: the next one may end the same way, so it shouldn't come at once. */
  fault = false;

  /**
   * Begins to connect. `onFrame(frame, connection)` gets every frame but replies and pongs, `onOver({code, reason})` the
   * end, once; not after `close()`.
   */
  constructor({ WebSocket, url, token, timing, onFrame, onOver, onTraffic }) {
    this.#timing = timing;
    this.#hooks = { onFrame, onOver, onTraffic };
    const socket = new WebSocket(url, ["keepstep.v1", `bearer.${token}`]);
    this.#socket = socket;
    socket.onopen = () => { this.#heard = Date.now(); };
    socket.onmessage = ({ data }) => this.#onText(data);
    socket.onclose = ({ code, reason }) => this.#over(code ?? 1006, String(reason ?? ""));
    socket.onerror = () => setTimeout(() => this.#over(1006, ""), ERROR_ALONE);
    this.#timer = setTimeout(() => this.lose(), timing.open);
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
      this.#socket.send(JSON.stringify(frame));
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
    const answer = deferred();
    if (!this.put({ ...frame, id })) {
      answer.reject(offline());
      return answer.promise;
    }
    answer.timer = setTimeout(() => {
      this.#asked.delete(id);
      answer.reject(new KeepstepError("timeout", `the server didn't answer ${type} within ${REPLY / 1000} s`, { retry: true }));
    }, REPLY);
    this.#asked.set(id, answer);
    return answer.promise;
  }

  /** Takes `welcome` over: from now on silence is noticed. */
  begin(heartbeat) {
    this.welcomed = true;
    this.#watch(this.#timing.silence ?? Math.min(heartbeat * 1000 || 25_000, 25_000));
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

  /** After a time of silence a ping goes out; if nothing at all comes then, the connection is half-open. */
  #watch(silence) {
    clearTimeout(this.#timer);
    const quiet = Date.now() - this.#heard;
    if (quiet < silence) {
      this.#timer = setTimeout(() => this.#watch(silence), silence - quiet);
      return;
    }
    const asked = this.#heard;
    this.put({ type: "ping" });
    this.#timer = setTimeout(() => {
      if (this.#heard === asked) this.lose();
      else this.#watch(silence);
    }, this.#timing.patience);
  }

  #onText(data) {
    if (this.#abort.signal.aborted) return;
    this.#heard = Date.now();
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return this.lose(); // half a frame is no frame: the next connection brings it again
    }
    this.#hooks.onTraffic("in", frame);
    if (frame.type === "pong") return;
    if (frame.type !== "reply") return this.#hooks.onFrame(frame, this);
    const answer = this.#asked.get(frame.id);
    if (!answer) return;
    this.#asked.delete(frame.id);
    clearTimeout(answer.timer);
    if (frame.error) answer.reject(KeepstepError.from(frame.error));
    else answer.resolve(frame.ok);
  }

  #over(code, reason) {
    if (this.#abort.signal.aborted) return;
    clearTimeout(this.#timer);
    this.#abort.abort();
    const socket = this.#socket;
    // Kept as functions that do nothing: some sockets throw an `error` that nobody listens to.
    socket.onopen = socket.onmessage = socket.onclose = socket.onerror = () => {};
    try {
      this.#let(socket);
    } catch {
      // it was closed already
    }
    for (const answer of this.#asked.values()) {
      clearTimeout(answer.timer);
      answer.reject(offline());
    }
    this.#asked.clear();
    this.#hooks.onOver({ code, reason });
  }
}
