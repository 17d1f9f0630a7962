// Pictures of the pages: each state is reached once, and taken in every look. What can't be reached is told, and the rest
// goes on.
//
// A page has `name`; `open(browser)`, which starts what it stands on: `{visit(turn), rest(), log(), end()}`, `visit` being a
// fresh browser page with its helper, `{page, ...}`, handed to its states, and `rest` what follows each chain; and `chains`,
// lists of states, one reached from the other. A chain that breaks is told once more from its beginning (`turn` 2), since a
// machine may be too slow for a passing state. A state has `name`; `reach(it)`; `stands(it)`, if the state is a passing one: whether it still stands, looked at before each
// picture; `tab`: the device to be shown where there is room for one only.

import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";

export { PATIENCE } from "./until.mjs";

/** So often a chain is told before it counts as broken. */
const TURNS = 2;

const SIZES = { desktop: { width: 1440, height: 900 }, phone: { width: 390, height: 844 } };
export const LOOKS = Object.entries(SIZES).flatMap(([size, viewport]) => ["light", "dark"].map((colorScheme) => ({ name: `${size}-${colorScheme}`, narrow: size === "phone", viewport, colorScheme })));

export class Camera {
  /** Pictures taken. */
  taken = 0;
  /** Sentences: what couldn't be reached, and why. */
  missed = [];
  /** By page: what is waited for just now. */
  doing = new Map();
  #begun = Date.now();

  /** `wanted`: names of pages (demo), of states (open) or of both (demo-open); none: all. */
  constructor(folder, wanted) {
    Object.assign(this, { folder, wanted });
  }

  wants(page, state) {
    return this.wanted.length === 0 || [page.name, state.name, `${page.name}-${state.name}`].some((name) => this.wanted.includes(name));
  }

  say(words) {
    console.log(`${String(Math.round((Date.now() - this.#begun) / 1000)).padStart(4)} s  ${words}`);
  }

  /** Takes what is wanted of a page. */
  async take(page, browser) {
    const chains = page.chains.map((chain) => chain.slice(0, chain.findLastIndex((state) => this.wants(page, state)) + 1)).filter((chain) => chain.length);
    if (!chains.length) return;
    this.doing.set(page, `${page.name}'s server`);
    await mkdir(this.folder, { recursive: true });
    let set;
    try {
      set = await page.open(browser, this);
    } catch (error) {
      return this.#miss(page.name, error);
    }
    let whole = true;
    try {
      for (const chain of chains) whole = (await this.#tell(page, chain, set, 1) || await this.#tell(page, chain, set, TURNS)) && whole;
      if (!whole) await writeFile(join(this.folder, `${page.name}-server.log`), set.log());
    } finally {
      this.doing.delete(page);
      await set.end();
    }
  }

  /** True: every state was reached. */
  async #tell(page, chain, set, turn) {
    let it;
    let broken = null;
    for (const [index, state] of chain.entries()) {
      const name = `${page.name}-${state.name}`;
      this.doing.set(page, name);
      try {
        it ??= await set.visit(turn);
        await state.reach(it);
        if (this.wants(page, state)) for (const look of LOOKS) await this.#picture(it, name, state, look);
        // The next state is reached as on a desk.
        await dress(it.page, LOOKS[0]);
      } catch (error) {
        broken = { error, name, index };
        break;
      }
    }
    if (broken) await this.#broke(it, page, chain, broken, turn);
    await it?.page.context().close();
    await set.rest?.();
    return !broken;
  }

  async #broke(it, page, chain, { error, name, index }, turn) {
    const path = join(this.folder, `${name}-not-reached.png`);
    await it?.page.screenshot({ path, timeout: 10_000 }).then(() => this.say(`where it stood: ${path}`), () => {});
    if (turn < TURNS) return this.say(`not reached, once more from the beginning: ${name}: ${reason(error)}`);
    this.#miss(name, error);
    for (const later of chain.slice(index + 1)) this.#miss(`${page.name}-${later.name}`, new Error(`it comes after ${name}`));
  }

  async #picture(it, name, state, look) {
    await dress(it.page, look);
    if (look.narrow && state.tab) {
      const tab = it.page.locator("#tabs").getByRole("button", { name: state.tab });
      if (await tab.getAttribute("aria-current") === null) await tab.click();
    }
    await state.stands?.(it);
    await settled(it.page);
    const path = join(this.folder, `${name}-${look.name}.png`);
    await it.page.screenshot({ path, animations: "disabled" });
    this.taken += 1;
    this.say(path);
  }

  #miss(name, error) {
    this.missed.push(`${name}: ${reason(error)}`);
    this.say(`not reached: ${this.missed.at(-1)}`);
  }

  /** Forgets what an earlier run has left of these pages. */
  async clear(pages) {
    if (this.wanted.length) return;
    for (const { name, chains } of pages) {
      const states = chains.flat().flatMap((state) => [...LOOKS.map((look) => `${state.name}-${look.name}.png`), `${state.name}-not-reached.png`]);
      for (const rest of [...states, "server.log"]) await rm(join(this.folder, `${name}-${rest}`), { force: true });
    }
  }
}

// Playwright's first lines say what was waited for; what follows are tries.
function reason(error) {
  return stripVTControlCharacters(String(error.message)).split("\n").map((line) => line.trim()).filter(Boolean).slice(0, 3).join(" ");
}

async function dress(page, { viewport, colorScheme }) {
  await page.setViewportSize(viewport);
  await page.emulateMedia({ colorScheme });
}

// What draws itself anew at another width has done so: lists do it a frame later, and measure once more.
function settled(page) {
  return page.evaluate(() => new Promise((resolve) => {
    let frames = 6;
    const next = () => (frames-- ? requestAnimationFrame(next) : resolve());
    next();
  }));
}
