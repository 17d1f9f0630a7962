// Takes pictures of every state of both pages. See scripts/pages.

import { parseArgs } from "node:util";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { admin } from "./pictures/admin.mjs";
import { demo } from "./pictures/demo.mjs";
import { launch } from "./support/browser.mjs";
import { Camera } from "./support/camera.mjs";

const PAGES = [demo, admin];
/** Minutes after which it ends in any case, and says where it stood. */
const AT_MOST = 15;

const { values, positionals } = parseArgs({ options: { out: { type: "string" } }, allowPositionals: true });
const known = [...PAGES.map(({ name }) => name), ...PAGES.flatMap(({ name, chains }) => chains.flat().flatMap((state) => [state.name, `${name}-${state.name}`]))];
const unknown = positionals.filter((name) => !known.includes(name));
if (unknown.length) {
  console.error(`there is no state ${unknown.join(", ")}. There are:`);
  for (const { name, chains } of PAGES) console.error(`  ${name}: ${chains.flat().map((state) => state.name).join(", ")}`);
  process.exit(2);
}

const camera = new Camera(values.out ? resolve(values.out) : fileURLToPath(new URL("screenshots", import.meta.url)), positionals);
const late = setTimeout(() => {
  console.error(`ended after ${AT_MOST} minutes, at ${camera.doing}`);
  process.exit(1);
}, AT_MOST * 60_000);

await camera.clear(PAGES);
const browser = await launch();
try {
  for (const page of PAGES) await camera.take(page, browser);
} finally {
  await browser.close();
  clearTimeout(late);
}
for (const words of camera.missed) console.error(`not reached: ${words}`);
console.log(`${camera.taken} pictures are in ${camera.folder}`);
process.exitCode = camera.missed.length ? 1 : 0;
