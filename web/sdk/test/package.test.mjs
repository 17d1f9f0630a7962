import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import * as sdk from "../keepstep.js";

const run = promisify(execFile);
const root = fileURLToPath(new URL("..", import.meta.url));

test("npm pack: holds the modules, their types, the README and the licences, and works where it is installed", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "keepstep-pack-"));
  t.after(() => rm(folder, { recursive: true }));
  const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", folder], { cwd: root });
  const told = JSON.parse(stdout.slice(stdout.search(/^[[{]/m)));
  const [{ filename, files }] = Object.values(told);
  const modules = (await readdir(join(root, "lib"))).map((name) => `lib/${name}`);
  const expected = ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "keepstep.d.ts", "keepstep.js", "package.json", ...modules].sort();
  assert.deepEqual(files.map(({ path }) => path).sort(), expected);

  await writeFile(join(folder, "package.json"), '{"type":"module","private":true}');
  await run("npm", ["install", "--offline", "--no-audit", "--no-fund", join(folder, filename)], { cwd: folder });
  const program = 'import * as sdk from "keepstep"; console.log(Object.keys(sdk).sort().join());';
  const { stdout: names } = await run(process.execPath, ["--input-type=module", "-e", program], { cwd: folder });
  assert.equal(names.trim(), "Keepstep,KeepstepError,indexedDB,memory,tabStorage");

  // The declarations are found by whoever installs it, and hold for a program that uses all of it.
  await writeFile(join(folder, "app.ts"), await readFile(join(root, "test/support/app.ts"), "utf8"));
  const tsc = join(root, "node_modules/.bin/tsc");
  const flags = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--moduleResolution", "nodenext", "--lib", "es2022,dom", "--skipLibCheck", "false", "app.ts"];
  await run(tsc, flags, { cwd: folder }).catch((error) => assert.fail(error.stdout));
});

test("the codes of errors that the declarations name are made somewhere, and all that are made are named there or in docs/protocol.md", async () => {
  const types = await readFile(join(root, "keepstep.d.ts"), "utf8");
  const sources = await Promise.all(["keepstep.js", ...(await readdir(join(root, "lib"))).map((name) => `lib/${name}`)].map((name) => readFile(join(root, name), "utf8")));
  const source = sources.join("\n");
  const comment = /one of the client's own:([^]*?)\*\//.exec(types)[1];
  const named = [...comment.matchAll(/`(\w+)`/g)].map(([, code]) => code);
  assert.ok(named.length >= 10, `${named.length} codes`);
  assert.deepEqual(named.filter((code) => !source.includes(`"${code}"`)), []);
  const page = await readFile(join(root, "../../docs/protocol.md"), "utf8");
  const servers = [...page.split("## Error codes")[1].matchAll(/^\| `(\w+)`/gm)].map(([, code]) => code);
  const made = [...source.matchAll(/new KeepstepError\("(\w+)"/g)].map(([, code]) => code);
  assert.deepEqual(made.filter((code) => !named.includes(code) && !servers.includes(code)), []);
});

test("the declarations name all that is there, and nothing else", async () => {
  const types = await readFile(join(root, "keepstep.d.ts"), "utf8");
  const body = /export class Keepstep \{([^]*?)\n\}/.exec(types)[1];
  const declared = [...body.matchAll(/^ {2}(static |readonly )?(\w+)(?:<.*?>)?[(:]/gm)].map(([, how = "", name]) => `${how.replace("readonly ", "")}${name}`);
  const own = (what, how) => Object.getOwnPropertyNames(what).filter((name) => !["length", "name", "prototype"].includes(name)).map((name) => how + name);
  const there = [...own(sdk.Keepstep.prototype, ""), ...own(sdk.Keepstep, "static ")];
  assert.deepEqual([...new Set(declared)].sort(), there.sort());
  const exported = [...types.matchAll(/^export (?:class|function) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(exported.sort(), Object.keys(sdk).sort());
});
