// What a server stands on in earnest: a Redis that can be frozen, and an nsqd. (Embedded, a server has nothing that can be taken from it.)
import { mkdtemp, rm } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { started } from "./process.mjs";
import { startEdge } from "./server.mjs";

const config = fileURLToPath(new URL("../../../../nsq/conf/nsqd.cfg", import.meta.url));

/** Redis can't choose one itself. */
async function freePort() {
  const server = net.createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A Redis and an nsqd of the test's own; `edge(...flags)` starts servers on them. All end with the test. */
export async function startStack(t) {
  const folder = await mkdtemp(join(tmpdir(), "keepstep-sdk-"));
  const running = [];
  t.after(async () => {
    for (const one of running.reverse()) await one.stop();
    await rm(folder, { recursive: true });
  });
  const daemon = async (variable, program, args, ready) => {
    const bin = process.env[variable] ?? program;
    const one = await started(`${program} (${variable}; scripts/test gets it)`, bin, args, { ready });
    running.push(one);
    return one;
  };
  const port = await freePort();
  const redis = await daemon("KEEPSTEP_REDIS_BIN", "redis-server", [
    "--port", `${port}`, "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "yes", "--appendfsync", "always",
    "--maxmemory-policy", "noeviction",
  ], /ready to accept connections/i);
  const nsqd = await daemon("KEEPSTEP_NSQD_BIN", "nsqd", [
    `--config=${config}`, `--data-path=${folder}`, "--broadcast-address=127.0.0.1", "--tcp-address=127.0.0.1:0",
    "--http-address=127.0.0.1:0", "--node-id=1", "--log-level=info",
  ], /HTTP: listening on (127\.0\.0\.1:\d+)/);
  let secret;
  return {
    async edge(...flags) {
      const edge = await startEdge({ secret, flags: ["--redis-url", `redis://127.0.0.1:${port}`, "--nsqd", nsqd.found[1], ...flags] });
      secret = edge.secret;
      running.push(edge);
      return edge;
    },
    /** Redis is there, and answers nothing. */
    freeze: () => redis.child.kill("SIGSTOP"),
    thaw: () => redis.child.kill("SIGCONT"),
  };
}
