// What people read: states, times, names. No codes.

const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const exact = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hour12: false });
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export const clock = (at) => time.format(at);
export const clockExact = (at) => exact.format(at);
export const dayOf = (at) => (sameDay(at, Date.now()) ? "Today" : day.format(at));
const sameDay = (one, other) => new Date(one).toDateString() === new Date(other).toDateString();
export const moment = (at) => full.format(at);

const MADE_UP = /^(alice|bob)-[2-9a-z]{8}$/;
/** Whether the playground made this user up. */
export const madeUp = (user) => MADE_UP.test(user);

/** `alice-7f3k92qm` is Alice; a name that wasn't made up here stays as it is. */
export function person(user) {
  const made = MADE_UP.exec(user ?? "");
  return made ? made[1][0].toUpperCase() + made[1].slice(1) : user ?? "somebody";
}

export function ago(at, now = Date.now()) {
  if (!at) return "not seen yet";
  const seconds = Math.max(0, Math.round((now - at) / 1000));
  if (seconds < 10) return "last seen just now";
  if (seconds < 60) return `last seen ${seconds} s ago`;
  if (seconds < 3600) return `last seen ${Math.round(seconds / 60)} min ago`;
  if (seconds < 86400) return `last seen ${Math.round(seconds / 3600)} h ago`;
  return `last seen ${moment(at)}`;
}

export const left = (until, now = Date.now()) => {
  const seconds = Math.max(0, Math.ceil((until - now) / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
};

export const count = (n, one, many = `${one}s`) => `${n.toLocaleString()} ${n === 1 ? one : many}`;

/** The short word beside a device's name, and which colour goes with it. */
export function stateWord(station) {
  if (!station.client) return station.kind === "web" ? { word: "not linked", tone: "" } : { word: "starting", tone: "" };
  switch (station.status.state) {
    case "online": return { word: "online", tone: "good" };
    case "idle":
    case "connecting": return { word: "connecting", tone: "" };
    case "booting": return { word: "borrowing its past", tone: "good" };
    case "checking": return { word: "checking the line", tone: "" };
    case "closed": return station.airplane ? { word: "airplane mode", tone: "warning" } : { word: "disconnected", tone: "" };
    case "offline": return { word: "connection lost", tone: "warning" };
    case "main_offline": return { word: "waits for the phone", tone: "warning" };
    case "terminated": return { word: "ended", tone: "danger" };
    case "replaced": return { word: "opened elsewhere", tone: "warning" };
    case "kicked": return { word: "closed by an admin", tone: "warning" };
    case "unauthorized": return ["main_exists", "limit_reached"].includes(station.status.error?.code) ? { word: "not let in", tone: "warning" } : { word: "not known any more", tone: "danger" };
    default: return { word: "stopped", tone: "danger" };
  }
}

/** The sentence inside the pane while it isn't simply online; null: nothing to say. */
export function sentence(station) {
  const { state, retryIn, lastSeen, text, error } = station.status;
  const phone = `${person(station.user)}'s phone`;
  const again = retryIn ? ` It tries again in ${Math.max(1, Math.round(retryIn / 1000))} s.` : "";
  switch (state) {
    case "closed":
      return station.airplane ? "Airplane mode. What you write here waits in the outbox." : "Disconnected.";
    case "offline":
      return `The connection is lost.${again}`;
    case "main_offline":
      return `${phone} is offline. The web window waits for it${lastSeen ? ` (${ago(lastSeen)})` : ""}.`;
    case "replaced":
      return station.kind === "phone" ? "This phone is open elsewhere, in another tab or browser." : "This window is open elsewhere.";
    case "kicked":
      return "An admin closed this connection. The device is still linked.";
    case "unauthorized":
      if (error?.code === "main_exists") return "You have a phone already: another browser, or this one before its storage was cleared. This one can take its place; the other one is ended then.";
      if (error?.code === "limit_reached") return text;
      return "The server doesn't know this device any more.";
    case "failed":
      return text;
    default:
      return null;
  }
}
