// The real server on free ports, and its end. KEEPSTEP_BIN names the binary; without it the one that cargo built last.

import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { PATIENCE } from "./until.mjs";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const built = ["release", "debug"].map((profile) => `${root}target/${profile}/keepstep`);

const SECRET = "a secret of tests alone, 32 bytes or more";
const SIGNED = { KEEPSTEP_JWT_SECRET: SECRET };

/** The servers that run: each has `log()`. */
export const running = new Set();

function binary() {
  const named = process.env.KEEPSTEP_BIN;
  if (named && !existsSync(named)) throw new Error(`KEEPSTEP_BIN is ${named}, and there is no such file: build it (cargo build) or name another`);
  const found = named ?? built.find(existsSync);
  if (!found) throw new Error("there is no server to test: run `cargo build`, or set KEEPSTEP_BIN to a keepstep binary");
  return found;
}

/**
 * Starts a server with its playground; `env` is added. With KEEPSTEP_REDIS_URL and KEEPSTEP_NSQD it stands on these, with a
 * second edge beside it; else it is embedded. Its pages come from `web/` of this repository, so that nothing has
 * to be built after a change of a page. `{url, admin, stop()}`.
 */
export async function start(env = {}) {
  const { KEEPSTEP_REDIS_URL, KEEPSTEP_NSQD, KEEPSTEP_NSQLOOKUPD } = process.env;
  if (!KEEPSTEP_REDIS_URL) return run({ KEEPSTEP_PLAYGROUND: "true", ...SIGNED, ...env });
  // On a real stack the second edge is a server of its own.
  const stack = { KEEPSTEP_REDIS_URL, KEEPSTEP_NSQD, KEEPSTEP_NSQLOOKUPD: KEEPSTEP_NSQLOOKUPD ?? "", KEEPSTEP_JWT_SECRET: SECRET };
  const second = await run({ ...stack, KEEPSTEP_ALLOWED_ORIGINS: "*" });
  const first = await run({ ...stack, KEEPSTEP_PLAYGROUND: "true", KEEPSTEP_PLAYGROUND_EDGES: second.url, ...env }).catch(async (error) => {
    await second.stop(); // else it would keep the tests from ending
    throw error;
  });
  return { ...first, stop: async () => { await first.stop(); await second.stop(); } };
}


/** A user's token, good for an hour. */
export const token = (user) => sign({ sub: user });

function sign(claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ exp: Math.floor(Date.now() / 1000) + 3600, ...claims })}`;
  return `${text}.${createHmac("sha256", SECRET).update(text).digest("base64url")}`;
}

async function run(env) {
  const server = spawn(binary(), ["serve"], {
    env: {
      PATH: process.env.PATH, KEEPSTEP_LISTEN: "127.0.0.1:0", KEEPSTEP_OPS_LISTEN: "127.0.0.1:0", KEEPSTEP_LOG: "info",
      KEEPSTEP_LOG_FORMAT: "json", KEEPSTEP_WEB: `${root}web`, ...env,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let log = "";
  const ended = new Promise((resolve) => server.once("exit", resolve));
  const url = await new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      server.kill("SIGKILL");
      reject(new Error(`the server didn't say where it listens within ${PATIENCE / 1000} s: ${log}`));
    }, PATIENCE);
    ended.then(() => clearTimeout(timer));
    server.once("error", reject);
    server.once("exit", (code) => reject(new Error(`the server ended with ${code}: ${log}`)));
    server.stdout.resume();
    server.stderr.setEncoding("utf8").on("data", (text) => {
      log += text;
      const found = /serving on (http:\/\/[\d.:]+)/.exec(log);
      if (found) { clearTimeout(timer); resolve(found[1]); }
    });
  });
  const one = {
    url,
    log: () => log,
    admin: () => sign({ sub: "root", admin: true }),
    async stop() {
      running.delete(one);
      server.kill("SIGTERM");
      const late = setTimeout(() => server.kill("SIGKILL"), 15_000);
      await ended;
      clearTimeout(late);
    },
  };
  running.add(one);
  return one;
}
