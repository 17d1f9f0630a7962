// See scripts/pages.

import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import { launch, open } from "./support/browser.mjs";
import { Demo } from "./support/demo.mjs";
import { start } from "./support/server.mjs";

const folder = fileURLToPath(new URL("screenshots/", import.meta.url));
const SIZES = { desk: { width: 1440, height: 900 }, phone: { width: 390, height: 844 } };
const wanted = process.argv.slice(2);

const [server, browser] = await Promise.all([start(), launch()]);
await mkdir(folder, { recursive: true });
try {
  for (const [size, viewport] of Object.entries(SIZES)) {
    for (const colorScheme of ["light", "dark"]) await tell(size, viewport, colorScheme);
  }
} finally {
  await browser.close();
  await server.stop();
}
console.log(`the pictures are in ${folder}`);

async function tell(size, viewport, colorScheme) {
  // Motion is on: a bar that fills is to be seen.
  const { page, context } = await open(browser, server.url, { viewport, colorScheme, reducedMotion: "no-preference", hasTouch: size === "phone" });
  const it = new Demo(page);
  const narrow = size === "phone";
  const show = async (name) => { if (narrow) await page.locator("#tabs").getByRole("button", { name }).click(); };
  const picture = async (name) => {
    if (wanted.length && !wanted.includes(name)) return;
    await page.waitForTimeout(200);
    await page.screenshot({ path: `${folder}demo-${name}-${size}-${colorScheme}.png`, animations: "disabled" });
  };
  if (narrow) {
    await it.says(it.phone, "See you! And bring your charger, please");
    await picture("open");
    await show("Web 1");
  } else {
    await it.opened();
    await picture("open");
  }
  await it.web1.getByRole("button", { name: "Scan with the phone" }).waitFor();
  if (narrow) await picture("code");
  await it.web1.getByRole("button", { name: "Scan with the phone" }).click();
  await it.phone.getByRole("button", { name: "Approve" }).waitFor();
  await picture("approve");
  await it.phone.getByRole("button", { name: "Approve" }).click();
  await show("Web 1");
  await it.web1.locator("progress").waitFor();
  await page.waitForTimeout(250);
  await picture("booting");
  await it.state(it.web1, "online");
  await page.waitForTimeout(2500);
  await page.evaluate(() => document.activeElement?.blur());
  await it.write(it.web1, "I'm on the big screen now");
  await show("Bob");
  if (!narrow) await page.getByRole("button", { name: "Let Bob say something" }).click();
  else await page.getByRole("button", { name: "Let Bob say something" }).click();
  await show("Web 1");
  await page.waitForTimeout(2500);
  await picture("linked");
  await it.lesson("airplane").click();
  await show("Alice");
  await it.write(it.phone, "Written above the clouds");
  await page.waitForTimeout(300);
  await picture("airplane");
  await it.lesson("airplane").click();
  await it.state(it.phone, "online");
  await show("Web 1");
  await it.lesson("lock").click();
  await it.state(it.web1, "waits for the phone");
  await picture("refused");
  await it.lesson("lock").click();
  await it.state(it.web1, "online");
  await it.lesson("end").click();
  await it.web1.getByRole("button", { name: "See the receipt" }).waitFor();
  await picture("ended");
  await it.web1.getByRole("button", { name: "See the receipt" }).click();
  await page.getByRole("dialog").waitFor();
  await picture("receipt");
  await context.close();
}
