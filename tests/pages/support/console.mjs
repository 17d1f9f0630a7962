// What the console's tests share: one browser, and one page at a time, of which nothing may complain.

import assert from "node:assert/strict";
import { after, afterEach, before } from "node:test";
import { findings, launch, open } from "./world.mjs";

/** Where the console keeps its token in the tab. */
export const KEY = "keepstep-admin-token";

let chromium;
/** The page of the test that runs; null: it has opened none. */
export let page = null;

/** Called once by a test file: the browser is there for its tests, and each test's page is closed and asked for complaints. */
export function sit() {
  before(async () => { chromium = await launch(); });
  after(() => chromium?.close());
  afterEach(async () => {
    if (!page) return;
    const wrong = page.wrong();
    await page.context().close();
    page = null;
    assert.deepEqual(wrong, [], "no error in the browser’s console");
  });
}

/** Opens an address, signed in nowhere. */
export async function arrive(url, options = {}) {
  page = await open(chromium, url, options);
}

/** Opens a place of the console, signed in. */
export async function visit(world, place = "", options = {}) {
  const signedIn = (opened) => opened.addInitScript(([key, value]) => { if (location.protocol === "http:") sessionStorage.setItem(key, value); }, [KEY, world.admin]);
  await arrive(`${world.url}/admin${place}`, { ...options, before: signedIn });
  await page.waitForSelector(".view h1");
}

export const rows = () => page.locator(".view tbody tr");
export const texts = (locator) => locator.allInnerTexts().then((all) => all.map((text) => text.trim()));
export const placeNow = () => decodeURIComponent(new URL(page.url()).hash);

/** axe-core finds nothing on what is shown now. */
export async function settled() {
  assert.deepEqual(await findings(page), [], "axe-core finds nothing");
}
