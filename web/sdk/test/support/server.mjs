// A real server for the tests: its process, and tokens for its users.
import { createHmac, randomBytes } from "node:crypto";
import { started } from "./process.mjs";

/** Starts a server of its own on free ports. `flags` such as `--heartbeat 1s`. */
export const startServer = (...flags) => startEdge({ flags });

/** The same as one of several edges, which share a secret. */
export async function startEdge({ flags = [], secret = randomBytes(32).toString("hex") } = {}) {
  const bin = process.env.KEEPSTEP_BIN;
  if (!bin) {
    throw new Error("KEEPSTEP_BIN isn't set: these tests need a server. In the repository's root `cargo build`, then "
      + "`KEEPSTEP_BIN=$PWD/target/debug/keepstep npm --prefix web/sdk test`.");
  }
  const quiet = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("KEEPSTEP_")));
  const args = ["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--log-format", "json", ...flags];
  const { child, log, stop, found: [, url, ops] } = await started(`KEEPSTEP_BIN=${bin}`, bin, args, {
    env: { ...quiet, KEEPSTEP_JWT_SECRET: secret },
    ready: /serving on (http:\/\/[0-9.:]+), health and metrics on (http:\/\/[0-9.:]+)/,
  });
  return {
    url,
    port: Number(new URL(url).port),
    secret,
    log,
    userToken: (user, ttl = 3_600, more = {}) => jwt({ sub: user, exp: Math.floor(Date.now() / 1000) + ttl, ...more }, secret),
    /** An admin's call. */
    async admin(method, path) {
      const token = jwt({ sub: "root", admin: true, exp: Math.floor(Date.now() / 1000) + 60 }, secret);
      const answer = await fetch(url + path, { method, headers: { authorization: `Bearer ${token}` } });
      if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
      return answer.json();
    },
    /** What a counter stands at, such as `keepstep_closes_total{code="slow_consumer"}`. */
    async metric(name) {
      const lines = (await (await fetch(`${ops}/metrics`)).text()).split("\n");
      return Number(lines.find((line) => line.startsWith(`${name} `))?.slice(name.length));
    },
    /** Asks it to stop in order. */
    drain: () => child.kill("SIGTERM"),
    stop,
  };
}

function jwt(claims, secret) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const body = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${body}.${createHmac("sha256", secret).update(body).digest("base64url")}`;
}
