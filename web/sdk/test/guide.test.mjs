// docs/sdk.md, typed as it stands: its files, its commands, and what they should say. Only the server is on another port.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { appendFile, cp, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { ending } from "../lib/errors.js";
import { startServer } from "./support/server.mjs";
import { eventually } from "./support/world.mjs";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const closeCodes = (await readFile(join(root, "docs/protocol.md"), "utf8")).split("## Close codes")[1].split("\n## ")[0];
const page = await readFile(join(root, "docs/sdk.md"), "utf8");
/** What stands in fences, in the order of the page: `{language, text}`. */
const blocks = [...page.matchAll(/^```(\w*)\n([^]*?)^```$/gm)].map(([, language, text]) => ({ language, text }));
const of = (language) => blocks.filter((block) => block.language === language).map(({ text }) => text);

/** A command of the guide in a terminal of its own, left running. */
function terminal(t, cwd, env, command) {
  const child = spawn("bash", ["-c", `exec ${command}`], { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  for (const output of [child.stdout, child.stderr]) output.on("data", (data) => { said += data; });
  const over = new Promise((resolve) => child.once("exit", (code, signal) => resolve({ code, signal })));
  t.after(() => {
    child.kill("SIGKILL");
    return over;
  });
  return {
    child,
    over,
    said: () => said,
    /** Waits for each of these lines; `…` stands for anything. */
    async says(lines) {
      for (const line of lines) {
        const pattern = new RegExp(`^${line.split("…").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join(".+")}$`, "m");
        const missing = () => new Error(`"${line}" isn't in:\n${said}`);
        await eventually(`"${line}"`, () => pattern.test(said)).catch(() => { throw missing(); });
      }
    },
  };
}

test("the guide leads from nothing to a phone and a web session, as it stands", async (t) => {
  const server = await startServer();
  t.after(() => server.stop());
  const folder = await mkdtemp(join(tmpdir(), "keepstep-guide-"));
  t.after(() => rm(folder, { recursive: true }));
  // As in the repository; a copy, because packing puts files there.
  for (const path of ["LICENSE-MIT", "LICENSE-APACHE", "web/sdk"]) {
    const filter = (from) => basename(from) !== "node_modules";
    await cp(join(root, path), join(folder, path), { recursive: true, filter });
  }
  const env = {
    ...process.env, TOKEN: server.userToken("alice"), BOB: server.userToken("bob"),
    npm_config_offline: "true", npm_config_audit: "false", npm_config_fund: "false", NODE_NO_WARNINGS: "1",
  };
  delete env.NODE_TEST_CONTEXT; // the guide's own tests are told on their own
  const shell = (command, cwd) => promisify(execFile)("bash", ["-ec", command], { cwd, env, timeout: 60_000 });

  const [install, contract, ...programs] = of("sh");
  await shell(install, folder);
  const app = join(folder, "my-chat");
  assert.match(await readFile(join(app, "node_modules/keepstep/package.json"), "utf8"), /"name": "keepstep"/);

  // Each example says in its first line which file it is, or goes on with.
  const names = new Set();
  for (const code of of("js")) {
    const [, name, more] = /^\/\/ (\w+(?:\.\w+)*\.mjs)(, continued)?\n/.exec(code) ?? assert.fail(`which file is this?\n${code}`);
    assert.equal(names.has(name), more !== undefined, `${name}: begun once, then continued`);
    names.add(name);
    await appendFile(join(app, name), `${code.replaceAll("http://127.0.0.1:8080", server.url)}\n`);
  }
  assert.deepEqual([...names].sort(), ["bob.mjs", "phone.mjs", "storage.mjs", "storage.test.mjs", "store.mjs", "web.mjs"]);

  const { stdout } = await shell(contract, app);
  assert.match(stdout, /^# pass 7$/m);
  assert.match(stdout, /^# fail 0$/m);

  assert.equal(programs.length, 3, "bob, the phone, the web session");
  const [bobs, phones, webs] = programs.map((command) => command.trim());
  const outputs = of("").map((text) => text.trim().split("\n"));
  assert.equal(outputs.length, 3, "what the phone says, what the web session says, what the phone says then");
  await terminal(t, app, env, bobs).says(["bob listens"]);
  const phone = terminal(t, app, env, phones);
  await phone.says(outputs[0]);
  const web = terminal(t, app, env, webs);
  await web.says(outputs[1]);
  await phone.says(outputs[2]);
  await phone.says(["clock: hello Bob", "tick: #1", "drawn: 1 chats"]);
  assert.doesNotMatch(phone.said() + web.said(), /cross:|Error/);

  // Ctrl-C ends it, and nothing is left that keeps it running. Then it is the same phone, and nothing comes twice.
  phone.child.kill("SIGINT");
  assert.deepEqual(await phone.over, { code: 0, signal: null });
  const again = terminal(t, app, env, phones);
  await again.says(["[online] Connected.", "bob: online"]);
  assert.doesNotMatch(again.said(), /^#/m);
  assert.doesNotMatch(web.said(), /terminated/);
});

test("every fence of the guide is run, and its table of ends is what the client does", () => {
  assert.deepEqual(new Set(blocks.map(({ language }) => language)), new Set(["sh", "js", ""]));
  assert.equal(blocks.length * 2, page.split("\n").filter((line) => line.startsWith("```")).length);
  const rows = new Map([...page.matchAll(/^\| `(\w+)` \| ([^|]*) \| ([^|]+) \|/gm)].flatMap(([, state, codes, does]) =>
    [...codes.matchAll(/\d{4}/g)].map(([code]) => [Number(code), { state, stops: /^stops/.test(does) }])));
  const protocol = new Set([...closeCodes.matchAll(/^\| (4[34]\d\d) \|/gm)].map(([, code]) => Number(code)));
  assert.ok(protocol.size >= 13, `${protocol.size} codes`);
  for (const code of [...protocol, 1006]) {
    const { state, error } = ending(code, "");
    assert.deepEqual(rows.get(code), { state, stops: error !== null }, `${code}`);
  }
});
