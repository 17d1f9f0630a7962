// A device's line to the server: a WebSocket class for the SDK that lessons can slow down, cut, and lead to another edge.
// Nothing else of a device is touched: what the SDK does about it is what it would do on a bad day.

export class Line {
  /** Milliseconds between two frames that are let through; 0: as they come. */
  #pause = 0;
  /** Another edge, as `http://host:port`; null: the server of the page. */
  edge = null;
  #socket = null;
  #waiting = [];
  #timer = null;
  #passed = new WeakSet();

  /** The class to give to the SDK. */
  get WebSocket() {
    const line = this;
    return class extends WebSocket {
      constructor(url, protocols) {
        super(line.#route(url), protocols);
        line.#socket = this;
        line.#waiting = [];
        // First of all listeners, so that it can keep an event from the others.
        this.addEventListener("message", (event) => line.#message(this, event));
        this.addEventListener("close", (event) => line.#close(this, event));
      }
    };
  }

  /** How many frames wait here. */
  get held() { return this.#waiting.length; }

  /** Reads one frame per `pause` milliseconds; 0 lets go of everything. */
  slow(pause) {
    this.#pause = pause;
    clearTimeout(this.#timer);
    this.#timer = null;
    if (pause === 0) while (this.#waiting.length) this.#pass(this.#waiting.shift());
    else this.#next();
  }

  /** Cuts the connection as a lost network does: no word to the SDK but that it is gone. */
  cut() {
    const socket = this.#socket;
    if (!socket || socket.readyState > WebSocket.OPEN) return false;
    this.#socket = null;
    this.#waiting = [];
    socket.close();
    const event = new CloseEvent("close", { code: 1006, wasClean: false });
    this.#passed.add(event);
    socket.dispatchEvent(event);
    return true;
  }

  #route(url) {
    if (!this.edge) return url;
    const there = new URL(url);
    const edge = new URL(this.edge);
    there.protocol = edge.protocol === "https:" ? "wss:" : "ws:";
    there.host = edge.host;
    return there.href;
  }

  #message(socket, event) {
    if (this.#passed.has(event)) return;
    if (socket !== this.#socket) return event.stopImmediatePropagation();
    if (this.#pause === 0 && this.#waiting.length === 0) return;
    event.stopImmediatePropagation();
    this.#waiting.push({ socket, data: event.data });
    this.#next();
  }

  #next() {
    if (this.#timer || this.#waiting.length === 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      const first = this.#waiting.shift();
      if (first) this.#pass(first);
      this.#next();
    }, this.#pause);
  }

  #pass({ socket, data }) {
    const event = new MessageEvent("message", { data });
    this.#passed.add(event);
    socket.dispatchEvent(event);
  }

  #close(socket, event) {
    if (!this.#passed.has(event) && socket !== this.#socket) event.stopImmediatePropagation();
  }
}
