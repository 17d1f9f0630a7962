// A real server for the tests: its process, and tokens for its users.
import { spawn } from "node:child_process";
import { createHmac, randomBytes } from "node:crypto";

/** Servers don't outlive the tests, however those end. */
const children = new Set();
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));
for (const [signal, code] of [["SIGTERM", 143], ["SIGINT", 130]]) process.once(signal, () => process.exit(code));

/** Starts a server of its own on free ports. `flags` such as `--heartbeat 1s`. */
export async function startServer(...flags) {
  const bin = process.env.KEEPSTEP_BIN;
  if (!bin) {
    throw new Error("KEEPSTEP_BIN isn't set: these tests need a server. In the repository's root `cargo build`, then "
      + "`KEEPSTEP_BIN=$PWD/target/debug/keepstep npm --prefix web/sdk test`.");
  }
  const secret = randomBytes(32).toString("hex");
  const quiet = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("KEEPSTEP_")));
  const args = ["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--log-format", "json", ...flags];
  const child = spawn(bin, args, { env: { ...quiet, KEEPSTEP_JWT_SECRET: secret }, stdio: ["ignore", "ignore", "pipe"] });
  children.add(child);
  child.on("exit", () => children.delete(child));
  let log = "";
  const url = await new Promise((resolve, reject) => {
    child.on("error", (error) => reject(new Error(`KEEPSTEP_BIN=${bin} can't be started: ${error.message}`)));
    child.on("exit", (code) => reject(new Error(`the server ended with ${code}:\n${log}`)));
    child.stderr.on("data", (data) => {
      log = (log + data).slice(-20_000);
      const found = /serving on (http:\/\/[0-9.:]+)/.exec(log);
      if (found) resolve(found[1]);
    });
  });
  return {
    url,
    port: Number(new URL(url).port),
    log: () => log,
    userToken: (user, ttl = 3_600, more = {}) => jwt({ sub: user, exp: Math.floor(Date.now() / 1000) + ttl, ...more }, secret),
    /** An admin's call. */
    async admin(method, path) {
      const token = jwt({ sub: "root", admin: true, exp: Math.floor(Date.now() / 1000) + 60 }, secret);
      const answer = await fetch(url + path, { method, headers: { authorization: `Bearer ${token}` } });
      if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
      return answer.json();
    },
    /** Asks it to stop in order. */
    drain: () => child.kill("SIGTERM"),
    stop: () => new Promise((resolve) => {
      if (child.exitCode !== null || child.signalCode !== null) return resolve();
      child.once("exit", resolve);
      child.kill("SIGKILL");
    }),
  };
}

function jwt(claims, secret) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const body = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${body}.${createHmac("sha256", secret).update(body).digest("base64url")}`;
}
