// What a failed test leaves for people to look at: a picture of each page that was open, what the pages complained about,
// and the servers' logs. For their own sake, test files import this; KEEPSTEP_TEST_ARTIFACTS names the folder, and without
// it nothing is kept. The pages of a failed test are closed in any case.

import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach } from "node:test";

import { opened } from "./browser.mjs";
import { running } from "./server.mjs";

const folder = process.env.KEEPSTEP_TEST_ARTIFACTS;
const DEADLINE = 10_000;

afterEach(async (test) => {
  if (test.passed !== false) return;
  const pages = [...opened].filter((one) => one.test === undefined || one.test === test.name);
  if (folder) {
    const name = test.name.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-").slice(0, 60);
    await mkdir(folder, { recursive: true });
    for (const [index, { page, complaints }] of pages.entries()) {
      // A page that hangs or has crashed has no picture; the error that counts is the test's.
      await page.screenshot({ path: join(folder, `${name}-${index + 1}.png`), timeout: DEADLINE }).catch(() => {});
      if (complaints.length) await writeFile(join(folder, `${name}-${index + 1}-console.txt`), `${complaints.join("\n")}\n`);
    }
    for (const [index, server] of [...running].entries()) await writeFile(join(folder, `${name}-server-${index + 1}.txt`), server.log());
    console.log(`kept in ${folder}: ${name}-*`);
  }
  for (const { page } of pages) await page.context().close();
});
