// The examples of README.md, as they stand, one after the other, against a real server.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, mkdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { startServer } from "./support/server.mjs";

const sdk = fileURLToPath(new URL("..", import.meta.url));

test("the examples of the README run as they stand, and say what they should", async (t) => {
  const server = await startServer();
  t.after(() => server.stop());
  const readme = await readFile(join(sdk, "README.md"), "utf8");
  const examples = [...readme.matchAll(/```js\n([^]*?)```/g)].map(([, code]) => code);
  assert.ok(examples.length >= 6, `${examples.length} examples`);
  // Imports may stand once in a module, the server is on another port, and the user token comes from outside. Each example
  // is a block of its own; but the phone and the web session of the first ones live on in the others.
  const names = new Set();
  const body = examples.map((code) => {
    const lines = code.replace(/^import \{(.*)\} from "keepstep";\n/gm, (_, list) => {
      list.split(",").forEach((name) => names.add(name.trim()));
      return "";
    });
    const kept = lines.replaceAll("http://127.0.0.1:8080", server.url).replace(/^const (phone|web) =/m, "$1 =");
    assert.notEqual(kept.trim(), "");
    return `{\n${kept}\n}`;
  });
  const program = [
    `import { ${[...names].join(", ")} } from "keepstep";`,
    "const { ALICE } = process.env;",
    "let phone, web;",
    ...body,
    "await web.close();",
    "await phone.close();",
  ].join("\n");

  const folder = await mkdtemp(join(tmpdir(), "keepstep-readme-"));
  t.after(() => rm(folder, { recursive: true }));
  await mkdir(join(folder, "node_modules"));
  await symlink(sdk, join(folder, "node_modules", "keepstep"));
  await writeFile(join(folder, "readme.mjs"), program);
  const env = { ...process.env, ALICE: server.userToken("alice") };
  const args = ["--experimental-websocket", "--no-warnings", "readme.mjs"];
  const { stdout, stderr } = await promisify(execFile)(process.execPath, args, { cwd: folder, env, timeout: 30_000 });
  assert.equal(stderr, "");
  for (const line of [
    /^#1 alice: lunch\?$/m,
    /^the server has it as #1$/m,
    /^online - Connected\.$/m,
    /^1 of 1$/m,
    /^clock: \S+ at one$/m,
    /^tick: \S+ #4$/m,
    /^not_found false$/m,
    /^terminated - /m,
    /^1 queues removed, 0 left$/m,
  ]) assert.match(stdout, line);
  assert.doesNotMatch(stdout, /cross:/);
});
