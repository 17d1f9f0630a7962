// The demo page as people use it: by what stands on it.

import { PATIENCE } from "./until.mjs";

export { until } from "./until.mjs";

export class Demo {
  /** `patience`: milliseconds that a wait in this page takes at most. */
  constructor(page, patience = PATIENCE) {
    this.page = page;
    this.phone = page.locator("#phone");
    this.web1 = page.locator("#web1");
    this.web2 = page.locator("#web2");
    this.bob = page.locator("#bob-place");
    this.badge = page.locator("#agree summary");
    page.setDefaultTimeout(patience);
  }

  /** Both phones have talked, and the first web window shows its code. */
  async opened() {
    await this.web1.getByRole("button", { name: "Scan with the phone" }).waitFor();
    await this.says(this.phone, "See you! And bring your charger, please");
  }

  /** Links a web window by its code. `history`: the choice on the phone. */
  async link(web, history = "Everything") {
    const show = web.getByRole("button", { name: /Show a code|Link it again|New code/ });
    if (await show.count()) await show.click();
    await web.getByRole("button", { name: "Scan with the phone" }).click();
    await this.phone.getByLabel(history).check();
    await this.phone.getByRole("button", { name: "Approve" }).click();
    await this.state(web, "online");
  }

  /** From now on, each state that a pane says, one after the other: what passes is seen, too, however slow the machine is. */
  async states(pane) {
    const said = await pane.evaluateHandle((root) => {
      const all = [];
      const look = () => {
        const word = root.querySelector(".state").textContent;
        if (all.at(-1) !== word) all.push(word);
      };
      new MutationObserver(look).observe(root, { subtree: true, childList: true, characterData: true });
      look();
      return all;
    });
    return () => said.jsonValue();
  }

  async state(pane, word) { await pane.locator(".state", { hasText: word }).waitFor(); }

  /** A message stands in a pane. */
  async says(pane, text) { await pane.locator(".bubble", { hasText: text }).last().waitFor(); }

  async write(pane, text) {
    const field = pane.locator("input[name=text]");
    await field.fill(text);
    await field.press("Enter");
  }

  async openBob() {
    const open = this.page.getByRole("button", { name: "Open" });
    if (await open.isVisible()) await open.click();
    await this.bob.locator("input[name=text]").waitFor();
  }

  /** The unread badge of a chat in a pane; "" if there is none. */
  unread(pane, chat = "Bob") {
    return pane.locator(".chats__tab", { hasText: chat }).evaluate((tab) => tab.querySelector("[data-unread]")?.dataset.unread ?? "");
  }

  tick(pane, text) { return pane.locator(".row--own", { hasText: text }).last().locator(".tick").getAttribute("title"); }

  lesson(name) { return this.page.locator(`[data-lesson=${name}]`); }

  /** Ends a lesson, unless it has ended by itself meanwhile. */
  async endLesson(name) {
    const button = this.lesson(name);
    if (await button.getAttribute("aria-pressed") === "true") await button.click();
  }

  said() { return this.page.locator(".lessons__said").textContent(); }

  /** A row of the strip: its cells by column. */
  async strip(station) {
    const cells = await this.page.locator(`[data-station=${station}] > *`).allTextContents();
    const [device, topic, channel, edge, depth, inFlight, cursor, read] = cells.map((cell) => cell.trim());
    return { device, topic, channel, edge, depth, inFlight, cursor, read };
  }
}

/**
 * For `addInitScript`: while `hold(true)`, pages of history are kept from the window that asked, but for that of the chat with
 * Bob: so it stays where it is in borrowing its past.
 */
export function holdPages() {
  let held = null;
  globalThis.hold = (on) => {
    const waiting = held ?? [];
    held = on ? [] : null;
    for (const pass of waiting) pass();
  };
  const Native = globalThis.WebSocket;
  globalThis.WebSocket = class extends Native {
    constructor(...args) {
      super(...args);
      this.addEventListener("message", (event) => {
        if (!held || event.passed) return;
        const frame = JSON.parse(event.data);
        const messages = frame.type === "reply" && frame.ok?.messages;
        if (!messages || messages.some(({ content }) => String(content).startsWith("Morning!"))) return;
        event.stopImmediatePropagation();
        held.push(() => this.dispatchEvent(Object.assign(new MessageEvent("message", { data: event.data }), { passed: true })));
      });
    }
  };
}

/** For `addInitScript`: from `linger(true)` until `linger(false)` the server doesn't hear that a phone hangs up. */
export function lingering() {
  let held = null;
  globalThis.linger = (on) => {
    const waiting = held ?? [];
    held = on ? [] : null;
    for (const close of waiting) close();
  };
  const Native = globalThis.WebSocket;
  globalThis.WebSocket = class extends Native {
    #main = false;
    constructor(...args) {
      super(...args);
      this.addEventListener("message", ({ data }) => {
        const frame = JSON.parse(data);
        if (frame.type === "welcome") this.#main = frame.kind === "main";
      });
    }
    close(...args) {
      if (held && this.#main) held.push(() => super.close(...args));
      else super.close(...args);
    }
  };
}
