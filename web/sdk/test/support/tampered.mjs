// A WebSocket with somebody in between who changes what the server says.

/** `change(frame, inject)` gives the frames that the client gets instead: a list, or undefined for the frame as it is. */
export function tampered(change) {
  const open = new Set();
  class Tampered {
    #socket;
    onopen = () => {};
    onmessage = () => {};
    onclose = () => {};
    onerror = () => {};
    constructor(url, protocols) {
      const socket = new WebSocket(url, protocols);
      this.#socket = socket;
      open.add(socket);
      socket.onopen = (event) => this.onopen(event);
      socket.onclose = (event) => {
        open.delete(socket);
        this.onclose(event);
      };
      socket.onerror = (event) => this.onerror(event);
      socket.onmessage = ({ data }) => {
        const frame = JSON.parse(data);
        for (const one of change(frame) ?? [frame]) this.onmessage({ data: JSON.stringify(one) });
      };
    }
    get readyState() { return this.#socket.readyState; }
    send(text) { this.#socket.send(text); }
    close() { this.#socket.close(); }
  }
  /** Says something to the server that the client doesn't. */
  Tampered.say = (text) => open.forEach((socket) => socket.send(text));
  return Tampered;
}
