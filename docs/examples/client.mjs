// KEEPSTEP_TOKEN=<user token> node client.mjs main|sub [message]   Node 22 or newer; Node 20: node --experimental-websocket
import { existsSync, readFileSync, writeFileSync } from "node:fs";
const { KEEPSTEP_URL: base = "http://127.0.0.1:8080", KEEPSTEP_TOKEN } = process.env;
const [kind = "main", content] = process.argv.slice(2), file = `.keepstep-${kind}`, key = crypto.randomUUID();
if (!existsSync(file)) writeFileSync(file, crypto.randomUUID()); // a device keeps its id: its queues wait under it
const post = async (path, body) => (await fetch(base + path, {
  method: "POST", headers: { authorization: `Bearer ${KEEPSTEP_TOKEN}` }, body: JSON.stringify(body) })).json();
const device = { id: readFileSync(file, "utf8"), kind, name: "Node", platform: "node" };
const { token, detail } = await post("/v1/devices", device);
if (!token) throw new Error(detail);
const { id: chat } = await post("/v1/chats", { kind: "direct", with: "bob" }); // the same chat each time
let unsent = content && { type: "send", id: 1, chat, key, kind: "text", content }, pause = 1000;
(function connect() {
  const socket = new WebSocket(base.replace("http", "ws") + "/v1/socket", ["keepstep.v1", `bearer.${token}`]);
  const put = (frame) => frame && socket.send(JSON.stringify(frame));
  const on = {
    welcome() { pause = 1000; if (kind === "sub") put({ type: "ready" }); put(unsent); }, // again, under the same key
    message({ chat, seq, from, content }) { console.log(`#${seq} ${from}: ${content}`); put({ type: "ack", chat, seq }); },
    reply({ error }) { if (!error?.retry) unsent = undefined; if (error) console.error(error.message); },
  };
  socket.onmessage = ({ data }) => { const frame = JSON.parse(data); on[frame.type]?.(frame); };
  let over = false; // Node 20 tells a refused connection by `error` alone, others by `error` and `close`
  socket.onerror = socket.onclose = ({ code = 1006, reason = "" }) => {
    if (over) return; else over = true;
    console.error("closed:", code, reason);
    if (code >= 4400 && code < 4500) return; // 44xx: not by yourself. All else: again, ever more slowly
    setTimeout(connect, pause * (0.5 + Math.random())); pause = Math.min(pause * 2, 30_000);
  };
})();
