// Processes that tests start: none outlives them, however they end.
import { spawn } from "node:child_process";

/** For a program to say that it is ready. */
const READY = 30_000;
const children = new Set();
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));
for (const [signal, code] of [["SIGTERM", 143], ["SIGINT", 130]]) process.once(signal, () => process.exit(code));

/** Starts a program and waits until it says `ready`, on either output: `found` is the match. `name` is what it is called in errors. */
export async function started(name, bin, args, { env = process.env, ready }) {
  const child = spawn(bin, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  children.add(child);
  child.on("exit", () => children.delete(child));
  let log = "";
  const found = await new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`${name} didn't say ${ready} within ${READY} ms:\n${log}`)), READY).unref();
    child.on("error", (error) => reject(new Error(`${name} can't be started: ${error.message}`)));
    child.on("exit", (code) => reject(new Error(`${name} ended with ${code}:\n${log}`)));
    for (const output of [child.stdout, child.stderr]) {
      output.on("data", (data) => {
        log = (log + data).slice(-20_000);
        const match = ready.exec(log);
        if (match) resolve(match);
      });
    }
  });
  return {
    child,
    found,
    log: () => log,
    stop: () => new Promise((resolve) => {
      if (child.exitCode !== null || child.signalCode !== null) return resolve();
      child.once("exit", resolve);
      child.kill("SIGKILL");
    }),
  };
}
