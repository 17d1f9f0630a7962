// A TCP proxy in front of a server, to break connections as networks do.
import net from "node:net";

export async function startProxy(port) {
  const pairs = new Set();
  let target = port;
  let refusing = false;
  let latency = 0;
  const server = net.createServer((client) => {
    if (refusing) return client.destroy();
    const upstream = net.connect(target, "127.0.0.1");
    const pair = { client, upstream, frozen: false, muted: false };
    pairs.add(pair);
    const relay = (from, to) => {
      const pass = (data) => {
        if (!pair.frozen && !(pair.muted && from === client) && !to.destroyed) to.write(data);
      };
      from.on("data", (data) => {
        if (latency > 0) setTimeout(pass, latency, data);
        else pass(data);
      });
      from.on("end", () => pair.frozen || to.end());
      from.on("error", () => {});
      from.on("close", () => {
        // Of a frozen pair the other side notices nothing; it is kept, to be ended in the end.
        // After an orderly end what is under way still arrives.
        if (!pair.frozen && !from.readableEnded) to.destroy();
        if (from.destroyed && to.destroyed) pairs.delete(pair);
      });
    };
    relay(client, upstream);
    relay(upstream, client);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    /** Breaks all connections at once, without a word of WebSocket. */
    cut() {
      const count = pairs.size;
      for (const { client, upstream } of pairs) {
        client.destroy();
        upstream.destroy();
      }
      return count;
    },
    /** Half-open: the connections stay, nothing passes any more. New ones work. */
    freeze() {
      for (const pair of pairs) pair.frozen = true;
    },
    /** Everything takes so many milliseconds longer, each way; nothing overtakes. */
    delay(ms) {
      latency = ms;
    },
    /** What clients say goes nowhere; what the server says comes. New connections work. */
    mute() {
      for (const pair of pairs) pair.muted = true;
    },
    /** Takes nothing more from the server, so that its buffers fill up; `flow()` takes it again. */
    stall() {
      for (const { upstream } of pairs) upstream.pause();
    },
    flow() {
      for (const { upstream } of pairs) upstream.resume();
    },
    /** New connections go to another server. */
    point(to) {
      target = to;
    },
    refuse(yes) {
      refusing = yes;
    },
    connections: () => pairs.size,
    stop() {
      for (const { client, upstream } of pairs) {
        client.destroy();
        upstream.destroy();
      }
      return new Promise((resolve) => server.close(resolve));
    },
  };
}
