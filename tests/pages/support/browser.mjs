// A real Chromium with a fresh profile. KEEPSTEP_CHROMIUM names it; without it the one in the PATH.

import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

import { chromium } from "playwright-core";

import { PATIENCE } from "./until.mjs";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

function executable() {
  const named = process.env.KEEPSTEP_CHROMIUM;
  const candidates = named ? [named] : (process.env.PATH ?? "").split(delimiter).flatMap((folder) => NAMES.map((name) => join(folder, name)));
  const found = candidates.find((file) => {
    try { accessSync(file, constants.X_OK); return true; } catch { return false; }
  });
  if (!found) throw new Error(named ? `KEEPSTEP_CHROMIUM is ${named}, which can't be run` : "no Chromium in the PATH: install it (Debian: apt-get install chromium), or set KEEPSTEP_CHROMIUM to one");
  return found;
}

export const launch = () => chromium.launch({
  executablePath: executable(),
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

/** The pages that are open: `{page, complaints, test}`. */
export const opened = new Set();

/**
 * A page of its own, without anything another page left. What it complains about is collected in `complaints`. `test`: the name of
 * the test that it is of, where several run at once.
 */
export async function open(browser, url, { test, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, reducedMotion: "reduce", locale: "en-GB", ...options });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => { if (message.type() === "error" || message.type() === "warning") complaints.push(`${message.text()} (${message.location().url})`); });
  page.on("pageerror", (error) => complaints.push(String(error.stack ?? error)));
  page.on("request", (request) => { if (new URL(request.url()).origin !== new URL(url).origin && !request.url().startsWith("data:")) complaints.push(`asked elsewhere: ${request.url()}`); });
  const one = { page, complaints, test };
  opened.add(one);
  context.once("close", () => opened.delete(one));
  await options.before?.(page);
  await page.goto(url);
  return { context, page, complaints };
}
