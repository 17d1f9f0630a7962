// KEEPSTEP_TOKEN=<user token> node client.mjs [main|sub]      Node 22 or newer; Node 20: node --experimental-websocket
import { existsSync, readFileSync, writeFileSync } from "node:fs";
const { KEEPSTEP_URL: base = "http://127.0.0.1:8080", KEEPSTEP_TOKEN } = process.env;
const kind = process.argv[2] ?? "main", file = `.keepstep-${kind}`, unsent = new Map(); // unsent: key -> frame
if (!existsSync(file)) writeFileSync(file, crypto.randomUUID()); // a device keeps its id: its queues wait under it
const post = async (path, body) => {
  const init = { method: "POST", headers: { authorization: `Bearer ${KEEPSTEP_TOKEN}` }, body: JSON.stringify(body) };
  const answer = await fetch(base + path, init);
  return answer.ok ? answer.json() : Promise.reject(new Error(await answer.text()));
};
const { token } = await post("/v1/devices", { id: readFileSync(file, "utf8"), kind, name: "Node", platform: "node" });
const { id: chat } = await post("/v1/chats", { kind: "direct", with: "bob" }); // the same chat each time
let socket, pause = 1000;
const put = (frame) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(frame));
const on = {
  welcome() { pause = 1000; if (kind === "sub") put({ type: "ready" }); unsent.forEach(put); }, // again, same keys
  message({ chat, seq, from, content }) { console.log(`#${seq} ${from}: ${content}`); put({ type: "ack", chat, seq }); },
  reply({ id, error }) { if (error) console.error(error.message); if (!error?.retry) unsent.delete(id); },
};
(function connect() {
  socket = new WebSocket(base.replace("http", "ws") + "/v1/socket", ["keepstep.v1", `bearer.${token}`]);
  socket.onmessage = ({ data }) => { const frame = JSON.parse(data); on[frame.type]?.(frame); };
  socket.onclose = ({ code, reason }) => {
    console.error(`closed: ${code} ${reason}`);
    if (code >= 4400 && code < 4500) process.exit(1); // 44xx: not by yourself. All else: again, ever more slowly
    setTimeout(connect, pause * (0.5 + Math.random())); pause = Math.min(pause * 2, 30_000);
  };
})();
process.stdin.setEncoding("utf8").on("data", (line) => { // what is typed is sent
  const key = crypto.randomUUID(), frame = { type: "send", id: key, chat, key, kind: "text", content: line.trim() };
  unsent.set(key, frame); put(frame);
});
