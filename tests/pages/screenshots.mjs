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
await camera.clear(PAGES);
const browser = await launch();
// Without the browser nothing can be waited for any more: what is left is missed, and the servers are ended as ever.
const late = setTimeout(() => {
  console.error(`ended after ${AT_MOST} minutes, at ${[...camera.doing.values()].join(" and ")}`);
  browser.close();
}, AT_MOST * 60_000);

try {
  // Both at once: much of it is waiting.
  await Promise.all(PAGES.map((page) => camera.take(page, browser)));
} finally {
  await browser.close();
  clearTimeout(late);
}
for (const words of camera.missed) console.error(`not reached: ${words}`);
console.log(`${camera.taken} pictures are in ${camera.folder}`);
process.exitCode = camera.missed.length ? 1 : 0;
