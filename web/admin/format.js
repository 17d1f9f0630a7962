// Numbers and times as people read them.

const whole = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });
const oneDigit = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 1 });

/** 12345 → "12,345"; nothing → "–". */
export function number(value) {
  return typeof value === "number" && Number.isFinite(value) ? whole.format(value) : "–";
}

/** A rate or a latency: small ones with a digit, large ones without. */
export function fine(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return "–";
  return Math.abs(value) < 100 ? oneDigit.format(value) : whole.format(value);
}

/** "1 queue", "47 queues". */
export function count(value, one, many = `${one}s`) {
  return `${number(value)} ${value === 1 ? one : many}`;
}

/** A span in its one unit that matters: 950 ms, 4 s, 12 min, 5 h, 3 d. */
export function span(ms) {
  if (typeof ms !== "number" || !Number.isFinite(ms)) return "–";
  const abs = Math.max(0, ms);
  if (abs < 1000) return `${Math.round(abs)} ms`;
  if (abs < 60e3) return `${Math.floor(abs / 1000)} s`;
  if (abs < 3600e3) return `${Math.floor(abs / 60e3)} min`;
  if (abs < 48 * 3600e3) return `${Math.floor(abs / 3600e3)} h`;
  return `${whole.format(Math.floor(abs / 86400e3))} d`;
}

/** How long ago, or until when. */
export function relative(at) {
  const ago = now() - at;
  if (Math.abs(ago) < 1000) return "now";
  return ago > 0 ? `${span(ago)} ago` : `in ${span(-ago)}`;
}

const exactly = new Intl.DateTimeFormat("en-GB", {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short",
});

/** The moment itself, in the reader's time zone. */
export function exact(at) {
  return exactly.format(new Date(at));
}

let ahead = 0;

/** The server's clock, as far as its answers tell: what it dates is measured by its own clock, not by the reader's. */
export function now() {
  return Date.now() + ahead;
}

/** Takes over the server's time from an answer's Date; that is in whole seconds, so small differences are none. */
export function setClock(serverDate) {
  const difference = Date.parse(serverDate) + 500 - Date.now();
  if (Number.isFinite(difference)) ahead = Math.abs(difference) > 2500 ? difference : 0;
}

/** A UUID by its first eight digits; anything else as it is. */
export function short(id) {
  return /^[0-9a-f]{8}-[0-9a-f-]{27}$/i.test(id) ? id.slice(0, 8) : id;
}

/** "a", "a and b", "a, b and c". */
export function list(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

/** Bytes in the unit that matters. */
export function bytes(value) {
  if (typeof value !== "number") return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const step = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, value)) / 10));
  return `${fine(value / 1024 ** step)} ${units[step]}`;
}
