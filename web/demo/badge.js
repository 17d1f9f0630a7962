// The badge: whether all devices of the user hold the same. What each one holds is read from its own storage, not from
// what the server or the SDK believes.

import { draw, h } from "/shared/dom.js";
import { compare, digest, fold } from "./agreement.js";
import { icon } from "./message.js";
import { count, person } from "./words.js";

/** Quiet for so long before it is looked at. */
const QUIET = 150;
/** So long a device may be behind and still only be on its way. */
const PATIENCE = 1500;
/** The newest messages of a chat, looked at each time; all of them when somebody opens the details. */
const NEWEST = 400;

export class Badge {
  #timer = null;
  #busy = false;
  #again = false;
  #since = null;
  #result = null;
  #said = "";

  constructor(root, status, stations) {
    Object.assign(this, { root, status, stations });
    for (const station of stations) {
      station.on("heard", () => this.soon());
      station.on("change", () => this.soon());
    }
    this.#draw();
  }

  soon(pause = QUIET) {
    this.#timer ??= setTimeout(async () => {
      this.#timer = null;
      if (this.#busy) { this.#again = true; return; }
      this.#busy = true;
      try {
        await this.#look();
      } catch {
        // A storage was closed, or emptied, meanwhile: its device says so, and is looked at again.
      } finally {
        this.#busy = false;
        if (this.#again) { this.#again = false; this.soon(); }
      }
    }, pause);
  }

  /** Everything that every device holds, from the first message on. */
  async #look() {
    const here = this.stations.filter((station) => station.alive && !station.elsewhere && station.storage && station.device);
    const [phone] = here;
    if (!phone) { this.#result = null; return this.#draw(); }
    const limit = this.root.querySelector("details")?.open ? Infinity : NEWEST;
    const chats = [];
    for (const chat of phone.conversations()) {
      const holdings = await Promise.all(here.map(async (station) => ({
        device: station.name,
        held: (await all(station.storage, chat.id, limit)).map((message) => ({ seq: message.seq, digest: digest(message) })),
        // Where one begins that holds nothing (yet): it may have been given nothing from before.
        from: (station.client?.chat(chat.id)?.low ?? 1) - 1,
      })));
      const head = Math.max(...here.map((station) => station.client?.chat(chat.id)?.head ?? 0));
      const compared = compare(holdings, head);
      // A phone that has lost what it had agrees with nobody, though nothing else is known to differ.
      if (phone.client?.chat(chat.id)?.lost) compared.differ.unshift({ device: phone.name, how: "lost", seq: phone.client.chat(chat.id).low - 1 });
      chats.push({ id: chat.id, title: phone.title(chat, person), holdings, ...compared });
    }
    const differ = chats.flatMap((chat) => chat.differ.map((one) => ({ ...one, title: chat.title, head: chat.seq })));
    // The one that moved last, as the phone knows.
    const moved = phone.client?.chats().find(({ id }) => chats.some((chat) => chat.id === id));
    const newest = chats.find(({ id }) => id === moved?.id) ?? chats[0] ?? { seq: 0 };
    const worst = differ.find(({ how }) => how !== "behind") ?? differ[0] ?? null;
    this.#since = worst?.how === "behind" ? this.#since ?? Date.now() : null;
    const booting = here.some((station) => station.status.state === "booting");
    const waits = this.#since !== null && Date.now() - this.#since < PATIENCE;
    if (waits) this.soon(PATIENCE / 3);
    this.#result = { devices: here.length, seq: newest.seq, worst, soft: booting || waits, chats };
    this.#draw();
  }

  #sentence() {
    const { devices, seq, worst, soft } = this.#result;
    if (!worst) return devices === 1 ? `One device, at #${seq}` : `${devices === 2 ? "Both" : `All ${devices}`} devices agree at #${seq}`;
    if (worst.how === "behind") return soft ? `${worst.device} is catching up to #${worst.head}` : `${worst.device} is at #${worst.seq} of #${worst.head} (${worst.title})`;
    if (worst.how === "lost") return `${worst.device} lost its past (${worst.title})`;
    if (worst.how === "hole") return `${worst.device} misses #${worst.seq} (${worst.title})`;
    return `${worst.device} differs at #${worst.seq} (${worst.title})`;
  }

  #draw() {
    const result = this.#result;
    if (!result) {
      const away = this.stations.some((station) => station.elsewhere);
      return draw(this.root, h("span", { class: "badge" }, icon("wait"), away ? "The phone is open elsewhere" : "Devices are starting"));
    }
    const text = this.#sentence();
    const tone = !result.worst ? "good" : result.soft ? "soft" : result.worst.how === "behind" ? "warning" : "danger";
    const kind = { good: "badge--good", soft: "", warning: "badge--warning", danger: "badge--danger" }[tone];
    draw(this.root, h("details", { class: "agree", ontoggle: () => this.soon(0) },
      h("summary", { class: `badge agree__badge ${kind}`, "data-agree": tone }, icon(tone === "good" ? "sent" : tone === "soft" ? "clock" : "alert"), text),
      h("div", { class: "agree__more card" },
        h("p", { class: "small" }, "Read from each device's own storage, message by message: number, sender, time and content. A web window may begin later than the phone; from there on it must hold the same."),
        result.chats.map((chat) => h("table", { class: "agree__table" },
          h("caption", null, chat.title),
          h("tbody", null, chat.holdings.map(({ device, held }) => h("tr", null,
            h("th", { scope: "row" }, device),
            h("td", null, held.length ? `#${held[0].seq} to #${held.at(-1).seq}` : "nothing yet"),
            h("td", { class: "agree__count" }, count(held.length, "message")),
            h("td", { class: "mono" }, fold(common(held, chat.holdings)).slice(0, 8))))))))));
    // Said once when it turns, not at each message.
    const turn = tone === "soft" ? this.#said : tone === "good" ? "All devices agree again." : text;
    if (turn !== this.#said) {
      this.status.textContent = this.#said || tone !== "good" ? turn : "";
      this.#said = turn;
    }
  }
}

// What is compared: from where every device has it.
function common(held, holdings) {
  const from = Math.max(...holdings.map((one) => one.held[0]?.seq ?? 0));
  return held.filter(({ seq }) => seq >= from);
}

async function all(storage, chat, limit) {
  const pages = [];
  let [before, left] = [Number.MAX_SAFE_INTEGER, limit];
  while (left > 0) {
    const page = await storage.messages(chat, { before, limit: Math.min(left, NEWEST) });
    if (page.length === 0) break;
    pages.unshift(page);
    before = page[0].seq;
    left -= page.length;
    if (page.length < NEWEST) break;
  }
  return pages.flat();
}
