// The demo's states, told as one story: from the first open to the receipt.

import { open } from "../support/browser.mjs";
import { PATIENCE } from "../support/camera.mjs";
import { Demo, holdPages, until } from "../support/demo.mjs";
import { start } from "../support/server.mjs";

export const demo = {
  name: "demo",
  async open(browser) {
    const server = await start();
    const visit = async () => {
      // Motion is on: the bar that fills is drawn step by step.
      const { page } = await open(browser, server.url, { reducedMotion: "no-preference", before: (opened) => opened.addInitScript(holdPages) });
      return new Demo(page, PATIENCE);
    };
    return { visit, log: server.log, end: server.stop };
  },
  chains: [[
    {
      name: "open",
      async reach(it) {
        await it.opened();
        await until("the phone's cursor to be at the end", async () => (await it.strip("phone")).cursor === "11", PATIENCE);
      },
    },
    { name: "about", reach: (it) => it.page.locator("#help").click(), stands: (it) => it.page.getByRole("dialog", { name: "What you see" }).waitFor() },
    {
      name: "code", tab: "Web 1",
      reach: (it) => it.page.keyboard.press("Escape"),
      stands: (it) => it.web1.getByRole("button", { name: "Scan with the phone" }).waitFor(),
    },
    {
      name: "approve", tab: "Alice",
      reach: (it) => it.web1.getByRole("button", { name: "Scan with the phone" }).click(),
      stands: (it) => it.phone.getByRole("button", { name: "Approve" }).waitFor(),
    },
    {
      name: "booting", tab: "Web 1",
      async reach(it) {
        await it.page.evaluate(() => globalThis.hold(true));
        await it.phone.getByRole("button", { name: "Approve" }).click();
      },
      stands: (it) => it.web1.getByText("Borrowing the past from the phone: 11 of").waitFor(),
    },
    {
      name: "linked", tab: "Web 1",
      async reach(it) {
        await it.page.evaluate(() => globalThis.hold(false));
        await it.state(it.web1, "online");
        await it.web1.locator("progress").waitFor({ state: "detached" });
        await it.write(it.web1, "I'm on the big screen now");
        await it.page.getByRole("button", { name: "Let Bob say something" }).click();
        await it.says(it.web1, "Are you there?");
        await agree(it, 13);
        await it.page.getByText("Lent 11 messages").waitFor({ state: "detached" });
      },
    },
    {
      name: "bob", tab: "Bob",
      async reach(it) {
        await it.openBob();
        await it.page.getByRole("button", { name: "Send a picture" }).and(it.page.locator("button")).click();
        for (const pane of [it.phone, it.web1]) await pane.locator(".bubble__text", { hasText: "Look at this" }).waitFor();
        await agree(it, 14);
      },
    },
    {
      name: "badge",
      async reach(it) {
        await it.page.getByRole("button", { name: "Fold" }).click();
        await it.badge.click();
        await it.page.getByRole("table", { name: "Lake trip" }).waitFor();
      },
    },
    {
      name: "devices", tab: "Alice",
      async reach(it) {
        await it.badge.click();
        await it.phone.getByRole("button", { name: "Linked devices" }).click();
        await it.phone.getByRole("button", { name: "Remove Web 1" }).waitFor();
      },
    },
    {
      name: "airplane", tab: "Alice",
      async reach(it) {
        await it.phone.getByRole("button", { name: "Close" }).click();
        await it.lesson("airplane").click();
        await it.write(it.phone, "Written above the clouds");
        await it.says(it.phone, "Written above the clouds");
      },
      stands: (it) => it.state(it.phone, "airplane mode"),
    },
    {
      name: "refused", tab: "Web 1",
      async reach(it) {
        await it.lesson("airplane").click();
        await it.state(it.phone, "online");
        await it.lesson("lock").click();
      },
      stands: (it) => it.state(it.web1, "waits for the phone"),
    },
    {
      name: "slow", tab: "Web 1",
      async reach(it) {
        await it.lesson("lock").click();
        await it.state(it.web1, "online");
        await it.lesson("slow").click();
      },
      stands: (it) => it.page.locator("[data-station=web1] .number--busy", { hasText: /[4-9]|1\d/ }).waitFor({ state: "attached" }),
    },
    {
      name: "ended", tab: "Web 1",
      async reach(it) {
        await it.lesson("slow").click();
        await it.lesson("end").click();
        await it.web1.getByRole("button", { name: "See the receipt" }).waitFor();
      },
    },
    {
      name: "receipt",
      async reach(it) {
        await it.web1.getByRole("button", { name: "See the receipt" }).click();
        await it.page.getByRole("dialog").getByText("nothing left").waitFor();
      },
    },
  ], [
    {
      name: "guest",
      async reach(it) {
        await it.opened();
        await it.page.getByRole("button", { name: "Invite another browser" }).click();
        // In a browser of their own; Bob's phone stays in the first one.
        const invitation = await it.page.locator("#invitation").inputValue();
        const { page } = await open(it.page.context().browser(), invitation);
        Object.assign(it, new Demo(page, PATIENCE));
        await it.says(it.web1, "bring your charger");
        await it.web1.locator("progress").waitFor({ state: "detached" });
      },
    },
  ], [
    {
      name: "lost", tab: "Alice",
      async reach(it) {
        await it.opened();
        // The server's log has nothing, either.
        await it.page.route("**/v1/chats/*/messages?*", (route) => route.fulfill({ json: { items: [], more: false } }));
        const session = await it.page.context().newCDPSession(it.page);
        await session.send("Storage.clearDataForOrigin", { origin: new URL(it.page.url()).origin, storageTypes: "indexeddb" });
      },
      stands: (it) => it.phone.getByText("This phone's storage was cleared.").waitFor(),
    },
  ], [
    {
      name: "elsewhere", tab: "Alice",
      async reach(it) {
        await it.opened();
        const other = await it.page.context().newPage();
        await other.goto(it.page.url());
        await other.locator("#phone").getByRole("button", { name: "Use it here" }).click();
        await other.locator("#phone .state", { hasText: "online" }).waitFor();
        await it.page.bringToFront();
      },
      stands: (it) => it.phone.getByText("This phone is open elsewhere").waitFor(),
    },
  ]],
};

/** Every device has this one, and has said so. */
async function agree(it, seq) {
  await it.badge.filter({ hasText: `agree at #${seq}` }).waitFor();
}
