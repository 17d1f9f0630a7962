// The console's states, over a Redis and two nsqd of its own, with people who talk.

import { randomUUID } from "node:crypto";

import { PATIENCE } from "../support/camera.mjs";
import { World, open, until } from "../support/world.mjs";

const NAMES = ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy"];
const BROWSERS = ["Firefox on Linux", "Chrome on Windows", "Safari on Mac"];
const PEOPLE = Array.from({ length: 40 }, (_, n) => (n < 10 ? NAMES[n] : `${NAMES[n % 10]}.${Math.floor(n / 10)}`));

export const admin = {
  name: "admin",
  async open(browser) {
    const worlds = [];
    let talk;
    const end = async () => {
      clearInterval(talk);
      for (const world of worlds) await world.end();
    };
    try {
      // The server would remove the orphans by itself, and sooner than they are taken.
      const world = await World.start({ stack: true, settings: { KEEPSTEP_RECONCILE: "1h" } });
      worlds.push(world);
      const bare = await World.start();
      worlds.push(bare);
      const { online, groups } = await fill(world);
      await hold(world, browser, online);
      talk = setInterval(() => world.say("carol", groups[0]).catch(() => {}), 700);
      return {
        visit: async (turn) => new Console(await open(browser, `${world.url}/admin`), world, bare, turn),
        log: () => worlds.map(({ server }) => server.log()).join("\n"),
        rest: () => { for (const { daemon } of world.nsqd) daemon.signal("SIGCONT"); },
        end,
      };
    } catch (error) {
      await end();
      throw error;
    }
  },
  chains: [
    [{ name: "sign-in", reach: (it) => it.page.getByLabel("Admin token").waitFor() }],
    [{
      name: "empty",
      async reach(it) {
        await it.at("#/users", it.bare);
        await it.heading("No users yet");
      },
    }],
    [{ name: "users", reach: (it) => it.list("#/users", "Users") }],
    [{ name: "devices", reach: (it) => it.list("#/devices", "Devices") }],
    [
      { name: "user", reach: (it) => it.list("#/users/erin.1", "Devices of erin.1") },
      {
        name: "kick",
        async reach(it) {
          await it.press("Close all sockets…");
          await it.dialog.getByText("4410").waitFor();
        },
      },
    ],
    [{
      name: "chats",
      async reach(it) {
        await it.list("#/users/alice", "Devices of alice");
        await it.page.getByRole("link", { name: "alice’s phone" }).click();
        await it.table("Queues of this device");
      },
    }],
    [{
      name: "no-match",
      async reach(it) {
        await it.at("#/devices?search=nobody");
        await it.heading("No device matches");
      },
    }],
    [
      {
        name: "end",
        async reach(it) {
          await it.userOf("frank");
          await it.press(/^End .*phone/);
          await it.dialog.getByRole("button", { name: "End this device" }).waitFor();
        },
      },
      {
        name: "ending",
        async reach(it) {
          // Fast as it is, it would be over before it is taken.
          await it.holdTerminations();
          await it.press("End this device");
        },
        stands: (it) => it.dialog.getByText(/^[1-9] of [2-9]$/).first().waitFor(),
      },
      {
        name: "receipt",
        async reach(it) {
          await it.page.unrouteAll({ behavior: "wait" });
          await it.heading("Receipt");
        },
      },
    ],
    [{ name: "overview", reach: (it) => it.overview() }],
    [
      {
        name: "orphans",
        async reach(it) {
          await orphans(it.world);
          await it.list("#/orphans", "Orphans");
        },
      },
      {
        name: "sweep",
        async reach(it) {
          await it.press("Sweep…");
          await it.dialog.getByRole("button", { name: /^Delete/ }).waitFor();
        },
      },
      {
        name: "swept",
        async reach(it) {
          await it.dialog.getByRole("button", { name: /^Delete/ }).click();
          await it.heading("Swept");
        },
      },
    ],
    [
      // One nsqd is away.
      {
        name: "end-away",
        async reach(it) {
          await it.userOf("grace");
          it.world.nsqd[1].daemon.signal("SIGSTOP");
          // Before that, what the server saw a moment ago still counts.
          await it.page.getByText("1 server can’t be reached").waitFor();
          await it.press(/^End (Firefox|Chrome|Safari)/);
          await it.dialog.getByText("can’t be reached.").waitFor();
        },
      },
      {
        name: "ending-away",
        async reach(it) {
          await it.press("End this device");
          await it.dialog.getByText("as soon as it is back").waitFor();
        },
      },
      {
        name: "overview-away",
        async reach(it) {
          await it.overview();
          await it.page.getByText("Trouble").waitFor();
        },
      },
    ],
    [{ name: "audit", reach: (it) => it.list("#/audit", "Audit") }],
    [{
      name: "error",
      async reach(it) {
        await it.list("#/users", "Users");
        await it.page.route("**/admin/v1/users*", (route) => route.abort());
        await it.page.getByText("can’t be reached").waitFor();
      },
    }],
    [{
      name: "silent",
      async reach(it) {
        await it.overview();
        await it.page.route("**/admin/v1/overview*", () => {}); // it never answers
      },
      stands: (it) => it.page.getByText("The server doesn’t answer just now.").waitFor(),
    }],
  ],
};

/** The console as people use it. */
class Console {
  constructor(page, world, bare, turn) {
    Object.assign(this, { page, world, bare, turn });
    page.setDefaultTimeout(PATIENCE);
    this.dialog = page.getByRole("dialog");
  }

  /** Signed in, at a place. */
  async at(place, world = this.world) {
    await this.page.addInitScript((token) => sessionStorage.setItem("keepstep-admin-token", token), world.admin);
    await this.page.goto("about:blank");
    await this.page.goto(`${world.url}/admin${place}`);
    await this.page.locator(".view h1").waitFor();
  }

  async list(place, name) {
    await this.at(place);
    await this.table(name);
  }

  /** One of the people of this name, another one in the second turn: what is ended stays so. */
  userOf(name) { return this.list(`#/users/${name}.${this.turn}`, `Devices of ${name}.${this.turn}`); }

  async overview() {
    await this.at("#/");
    await this.page.locator("svg.spark[role=img]").first().waitFor();
  }

  table(name) { return this.page.getByRole("table", { name }).locator("tbody tr").first().waitFor(); }

  heading(name) { return this.page.getByRole("heading", { name }).waitFor(); }

  press(name) { return this.page.getByRole("button", { name }).first().click(); }

  /** What the server says of terminations that are done is said as of ones that are half way. */
  holdTerminations() {
    return this.page.route("**/v1/terminations/*", async (route) => {
      const response = await route.fetch();
      const termination = await response.json();
      const channels = termination.receipt?.channels ?? [];
      const half = channels.slice(0, Math.ceil(channels.length / 2));
      await route.fulfill({ response, json: { ...termination, state: "accepted", channels_deleted: half.length, receipt: { ...termination.receipt, channels: half } } });
    });
  }
}

async function fill(world) {
  const online = [];
  await world.each(PEOPLE, async (user) => {
    const n = PEOPLE.indexOf(user);
    const phone = await world.device(user, "main", `${user.split(".")[0]}’s phone`);
    const web = await world.device(user, "sub", BROWSERS[n % 3]);
    if (n % 4 === 0) await world.device(user, "sub", BROWSERS[(n + 1) % 3]);
    if (n % 3) online.push([phone, n % 2 ? web : null]);
  });
  const groups = await Promise.all(["Book club", "Lunch"].map((name, n) => world.publicGroup(NAMES[n], name)));
  await world.each(PEOPLE.slice(2), (user) => world.join(user, groups[0]));
  await world.each(PEOPLE.slice(10, 18), (user) => world.join(user, groups[1]));
  // Some have much to catch up with, others little.
  await world.each(PEOPLE.slice(20, 32), async (other) => world.say("alice", await world.direct("alice", other), 1 + (PEOPLE.indexOf(other) % 5) * 3));
  for (const user of ["erin.1", "frank.1", "frank.2", "grace.1", "grace.2"]) {
    for (const other of PEOPLE.slice(30, 36)) await world.say(other, await world.direct(user, other), 2);
  }
  await world.say("alice", groups[0], 7);
  await world.say("bob", groups[1], 20);
  return { online, groups };
}

/** Holds the sockets of devices, acknowledges what comes, as apps do. Web windows come after their phone. */
async function hold(world, browser, online) {
  const page = await open(browser, `${world.url}/admin`);
  await page.evaluate(async ([pairs, patience]) => {
    const connect = ({ name, token, kind }) => new Promise((resolve, reject) => {
      setTimeout(() => reject(new Error(`${name} had no welcome within ${patience} ms`)), patience);
      const socket = new WebSocket(`${location.origin.replace("http", "ws")}/v1/socket`, ["keepstep.v1", `bearer.${token}`]);
      socket.onclose = ({ code }) => reject(new Error(`${name} was closed with ${code}`));
      socket.onmessage = ({ data }) => {
        const { type, chat, seq } = JSON.parse(data);
        if (type === "welcome") { if (kind === "sub") socket.send("{\"type\":\"ready\"}"); resolve(); }
        if (type === "message") socket.send(JSON.stringify({ type: "ack", chat, seq }));
      };
    });
    await Promise.all(pairs.map(async ([phone, web]) => { await connect(phone); if (web) await connect(web); }));
  }, [online, PATIENCE]);
}

async function orphans(world) {
  const { items } = await world.call("GET", "/admin/v1/devices?user=alice&search=phone");
  const queues = (await world.call("GET", `/admin/v1/devices/${items[0].device}/channels`)).items;
  for (let n = 0; n < 12; n += 1) {
    const { node, topic } = n % 4 ? queues[n] : { ...queues[n], topic: `c.${randomUUID().replaceAll("-", "")}` };
    for (const what of ["topic", "channel"]) {
      await fetch(`http://${node}/${what}/create?topic=${topic}&channel=d.${randomUUID().replaceAll("-", "")}`, { method: "POST" });
    }
  }
  await until("12 orphans to be seen", async () => (await world.call("GET", "/admin/v1/channels/orphans")).total >= 12, PATIENCE);
}
